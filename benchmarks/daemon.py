"""Starts the real daemon as a process of its own, for the benchmarks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon that has said READY."""

    pid: int
    port: int
    ready_s: float

    def rss_mb(self) -> float:
        """Return its resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise AssertionError("the daemon has gone")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def cpu_s(self) -> float:
        """Return the CPU time it has used, user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def daemon(
    config: str, *, core: int | None = None, log: IO[bytes] | None = None
) -> Iterator[Running]:
    """Run the daemon with this TOML, pinned to `core` if given, until the block ends."""
    with tempfile.TemporaryDirectory() as folder, free_port() as port:
        path = Path(folder, "aggregator.toml")
        path.write_text(f"[server]\nport = {port}\nmax_connections_per_address = 100000\n{config}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(f"{folder}/notify")
            notify.settimeout(20)
            command = [sys.executable, "-m", "aggregator", "run", "--config", str(path)]
            command += ["--log-level", "warning"]
            start = time.monotonic()
            with subprocess.Popen(
                command, env=os.environ | {"NOTIFY_SOCKET": f"{folder}/notify"}, stderr=log
            ) as child:
                try:
                    if core is not None:
                        os.sched_setaffinity(child.pid, {core})
                    while b"READY=1" not in notify.recv(4096):
                        pass
                    yield Running(child.pid, port, time.monotonic() - start)
                finally:
                    child.terminate()


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Yield a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    yield port
