"""
A restart under load, with a socket that systemd would hold: is anybody refused, how long are they
away?

    .venv-bench/bin/python benchmarks/restart.py [--clients 1000] [--kill] [--rounds 3]

The daemon streams from simulated venues and gets its listening socket handed over, as from a socket
unit. All clients follow one channel. It gets SIGTERM (with --kill: SIGKILL), and as soon as it has
gone, the next one is started on the same socket. Each client that is cut off connects again after a
random time of up to a second and says how far it had come. Counted are connections that were
refused or answered by anything but 101, and the time until the last client is back: it has its
acknowledgement, and the gap that the end of a run is. The exit code is 1 if anybody was refused, or
away for more than 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import report
from visitors import PRICE, Visitor, number

PATIENCE_S = 60.0
WAIT_S = 1.0
AIM_S = 5.0
BACKLOG = 4096
CHANNEL = "ticker"
INSTRUMENTS = [f"{base}/USDT" for base in ("BTC", "ETH", "SOL", "XRP")]
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What systemd does: the socket is descriptor 3, and the process knows that it is meant."""


@dataclass
class Counts:
    """Of one restart."""

    back: int = 0
    told: int = 0
    refused: int = 0
    ended: Counter[int] = field(default_factory=Counter)
    """Connections by close code or HTTP status; 0 where there was neither."""
    last_s: float = 0.0

    def turned_away(self) -> int:
        """Return how many were refused, by the kernel or by the daemon."""
        return self.refused + sum(n for code, n in self.ended.items() if 400 <= code < 600)


class Follower:
    """A client that comes back."""

    def __init__(self, port: int, crowd: Crowd, dice: random.Random) -> None:
        self._port = port
        self._crowd = crowd
        self._dice = dice
        self._place: dict[str, Any] | None = None

    async def follow(self) -> None:
        """Be connected, again and again, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            ended: asyncio.Future[int] = loop.create_future()
            command: dict[str, Any] = {"type": "subscribe", "channels": [CHANNEL]}
            if self._place is not None:
                command["since"] = {CHANNEL: self._place}

            def gone(code: int, ended: asyncio.Future[int] = ended) -> None:
                if not ended.done():
                    ended.set_result(code)

            visitor = Visitor(command, self._said, gone)
            try:
                await loop.create_connection(lambda v=visitor: v, "127.0.0.1", self._port)
                code = await ended
                self._crowd.counts.ended[code] += 1
            except OSError:
                self._crowd.counts.refused += 1
            finally:
                visitor.leave()
            await asyncio.sleep(self._dice.uniform(0.0, WAIT_S))

    def _said(self, text: bytes) -> None:
        if text.startswith(PRICE):
            assert self._place is not None
            self._place["seq"] = max(self._place["seq"], number(text, b'"seq":'))
            return
        message = json.loads(text)
        if message["type"] == "gap":
            self._crowd.told()
            return
        self._place = dict(message["positions"][CHANNEL])
        self._crowd.came()


class Crowd:
    """All clients."""

    def __init__(self, port: int, size: int) -> None:
        dice = random.Random(size)
        self._followers = [Follower(port, self, dice) for _ in range(size)]
        self.counts = Counts()
        self._complete = asyncio.Event()

    async def come(self, group: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Let all connect; return their tasks."""
        tasks = [group.create_task(each.follow()) for each in self._followers]
        await self.complete()
        return tasks

    def begin(self) -> None:
        """Count anew."""
        self.counts = Counts()
        self._complete.clear()

    async def complete(self) -> None:
        """Wait until all are here."""
        async with asyncio.timeout(PATIENCE_S):
            await self._complete.wait()

    def came(self) -> None:
        """Note that one has its acknowledgement."""
        self.counts.back += 1
        self.counts.last_s = time.monotonic()
        if self.counts.back == len(self._followers):
            self._complete.set()

    def told(self) -> None:
        """Note that one was told what is lost."""
        self.counts.told += 1


def config(folder: Path, venues: dict[str, dict[str, Any]]) -> Path:
    """Write the daemon's configuration."""
    path = folder / "aggregator.toml"
    path.write_text(
        "[server]\nmax_connections_per_address = 100000\n"
        f'[feeds.{CHANNEL}]\nconnector = "okx.ticker"\n'
        f"instruments = {json.dumps(INSTRUMENTS)}\nurls = {json.dumps(venues['okx']['urls'])}\n"
    )
    return path


@contextlib.contextmanager
def simulator() -> Iterator[dict[str, dict[str, Any]]]:
    """Run the venues; yield the options that lead to them."""
    command = [sys.executable, "-m", "aggregator", "simulator", "--port", "0", "--for-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


async def started(listener: socket.socket, path: Path) -> asyncio.subprocess.Process:
    """Start the daemon on this socket."""
    fd = listener.fileno()
    command = [sys.executable, "-c", AS_SYSTEMD, str(fd), "-m", "aggregator", "run"]
    command += ["--config", str(path), "--log-level", "warning"]
    return await asyncio.create_subprocess_exec(*command, pass_fds=(fd,))


async def restart(given: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    """Restart it so many times; return the figures of each."""
    figures = []
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        process = await started(listener, path)
        try:
            crowd = Crowd(listener.getsockname()[1], given.clients)
            async with asyncio.TaskGroup() as group:
                tasks = await crowd.come(group)
                for _ in range(given.rounds):
                    crowd.begin()
                    start_s = time.monotonic()
                    process.send_signal(signal.SIGKILL if given.kill else signal.SIGTERM)
                    await process.wait()
                    gone_s = time.monotonic()
                    process = await started(listener, path)
                    await crowd.complete()
                    counts = crowd.counts
                    row = {"stopped_s": gone_s - start_s, "away_s": counts.last_s - start_s}
                    row |= {"back": counts.back, "told": counts.told, "ended": counts.ended}
                    figures.append(row | {"refused": counts.turned_away()})
                for task in tasks:
                    task.cancel()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
    return figures


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n\n")[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill", action="store_true", help="SIGKILL in place of SIGTERM")
    given = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, simulator() as venues:
        figures = asyncio.run(restart(given, config(Path(folder), venues)))
    rows = []
    for n, r in enumerate(figures, 1):
        times = [f"{r[name]:.2f}" for name in ("stopped_s", "away_s")]
        rows.append([n, r["back"], r["told"], r["refused"], dict(r["ended"]), *times])
    titles = ["round", "back", "told of the gap", "refused", "ended with"]
    titles += ["s to stop", "s until the last is back"]
    name = f"restart: {given.clients} clients, {'SIGKILL' if given.kill else 'SIGTERM'}"
    report.print_table(f"{name}, load before {load:.1f}", titles, rows)
    report.save("restart", clients=given.clients, kill=given.kill, rounds=figures, load=load)
    sys.exit(any(r["refused"] or r["away_s"] > AIM_S for r in figures))


if __name__ == "__main__":
    main()
