"""The processes of benchmarks/fanout.py, each on a core of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SERVER_CORE, LOAD_CORE = 0, 1
PATIENCE_S = 90.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Failed(Exception):  # noqa: N818 - it ends the run
    """Something was lost, or does not work at all."""


class Child:
    """A server, or the clients: lines of JSON from it, commands to it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.pid = process.pid
        """Of the process that is measured; of a broker ours is only the publisher."""
        self._process = process

    def tell(self, command: str) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode() + b"\n")
        except OSError:
            raise Failed(f"{self.name} has ended") from None

    def answer(self) -> dict[str, Any]:
        """Return the next thing that it says."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE_S)[0]:
            raise Failed(f"{self.name} says nothing")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} has ended")
        content: dict[str, Any] = json.loads(line)
        return content

    def ask(self, command: str) -> dict[str, Any]:
        """Send a command and return the answer."""
        self.tell(command)
        return self.answer()

    def freeze(self) -> None:
        """Stop it where it is, with all that it has open."""
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it at once; a broker is ended, and waited for, by its publisher."""
        if self.pid != self._process.pid and self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(2)
        self._process.kill()
        self._process.wait()

    def cpu_s(self) -> float:
        """Return the CPU time that it has used."""
        stats = (Path(f"/proc/{pid}/stat").read_text() for pid in {self.pid, self._process.pid})
        fields = (stat.rpartition(")")[2].split() for stat in stats)
        return sum(int(field[11]) + int(field[12]) for field in fields) / TICKS_PER_S

    def memory(self, field: str = "VmRSS") -> int:
        """Return the bytes that it holds."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise Failed(f"{self.name} has ended")


class Others:
    """What processes that are not ours take of the two cores."""

    def __init__(self, *own: Child) -> None:
        self._own = own
        self._start_s = time.monotonic()
        self._before_s = self._taken_s()

    def _taken_s(self) -> float:
        """Return what the cores have worked for others."""
        busy = 0.0
        for line in Path("/proc/stat").read_text().splitlines():
            name, *fields = line.split()
            if name in {f"cpu{SERVER_CORE}", f"cpu{LOAD_CORE}"}:
                user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
                busy += (user + nice + system + irq + softirq + steal) / TICKS_PER_S
        return busy - sum(each.cpu_s() for each in self._own) - time.process_time()

    def percent(self) -> float:
        """Return how much of one core that was, on the average."""
        wall_s = time.monotonic() - self._start_s
        return max(0.0, 100 * (self._taken_s() - self._before_s) / wall_s)


@contextlib.contextmanager
def child(
    name: str, command: Sequence[str], core: int, environ: dict[str, str] | None = None
) -> Iterator[Child]:
    """Run a process on one core until the block ends."""
    before = os.sched_getaffinity(0)
    # Inherited, so that also what it starts before we could pin it is there.
    os.sched_setaffinity(0, {core})
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=os.environ | (environ or {}),
        )
    finally:
        os.sched_setaffinity(0, before)
    with process:
        one = Child(name, process)
        try:
            yield one
        finally:
            one.kill()
