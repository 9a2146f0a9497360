"""Running daemons for the examples: what they answer is held against the pages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.simulator import Simulator, serve

PATIENCE_S = 30
REHEARSAL = """
[server]
port = 0
[budgets.binance]
per_minute = 0
[feeds.binance_prices]
connector = "binance.prices"
base_url = "http://127.0.0.1:{port}/binance"
instruments = ["BTC/USDT", "NOPE/USDT"]
interval_s = 0.2
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:{port}/okx/ws/v5/public"]
stale_after_s = 0.5
max_backoff_s = 0.5
[feeds.binance_orderbook]
connector = "binance.orderbook"
base_url = "http://localhost:{port}/binance"
instruments = ["BTC/USDT"]
depth = 500
interval_s = 0.02
"""
STRICT = """
[server]
port = 0
ops_token = "secret"
max_connections_per_address = 2
max_buffered_bytes = 1024
slow_after_s = 1
heartbeat_s = 1
pong_timeout_s = 1
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:{port}/okx/ws/v5/public"]
"""


class Daemon:
    """A process, what it logs, and where it is."""

    def __init__(self, *arguments: str, cwd: Path) -> None:
        ours = ("AGGREGATOR_", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "JOURNAL_STREAM")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "aggregator", *arguments],
            cwd=cwd,
            env={k: v for k, v in os.environ.items() if not k.startswith(ours)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.seen: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.logged(r"listening on ws://127\.0\.0\.1:(\d+)")[1])

    def _read(self) -> None:
        for line in self.process.stderr:
            self.seen.append(line)
            self._lines.put(line)
        self._lines.put(None)

    def logged(self, pattern: str) -> re.Match[str]:
        """Wait for the next line that matches."""
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"it ended without {pattern}")

    def ws(self, path: str = "/ws") -> str:
        return f"ws://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> str:
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        self.process.stderr.close()
        return code


class Venues:
    """A simulator in a thread, and its faults."""

    def __init__(self) -> None:
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None]
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        limits = {"binance_weight_limit": 10**9, "ticks_per_s": 20}
        self._task = asyncio.create_task(serve("127.0.0.1", 0, on_ready=self._is_ready, **limits))
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _is_ready(self, simulator: Simulator) -> None:
        self.port = simulator.port
        self._ready.set()

    def fault(self, **wanted: object) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/faults", json.dumps(wanted).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert answer.status == 201

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE_S)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[Daemon]:
    """Run the daemon as `aggregator demo` does, until all of its feeds are live."""
    daemon = Daemon("demo", "--port", "0", cwd=tmp_path_factory.mktemp("demo"))
    live: set[str] = set()
    while len(live) < 8:
        live.add(daemon.logged(r"feed (\w+) live")[1])
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture(scope="module")
def venues() -> Iterator[Venues]:
    """Run simulated venues without limits of their own."""
    venues = Venues()
    yield venues
    venues.stop()


@pytest.fixture(scope="module")
def start_daemon(venues, tmp_path_factory):
    """Return a function that runs a daemon with a configuration; it ends with the tests."""
    running: list[Daemon] = []

    def start_daemon(config: str) -> Daemon:
        folder = tmp_path_factory.mktemp("daemon")
        (folder / "aggregator.toml").write_text(config.format(port=venues.port))
        running.append(Daemon("run", "--config", "aggregator.toml", cwd=folder))
        return running[-1]

    yield start_daemon
    for daemon in running:
        if daemon.process.poll() is None:
            assert daemon.stop() == 0


@pytest.fixture(scope="module")
def rehearsal(start_daemon) -> Daemon:
    """Run a daemon whose venues can be broken."""
    return start_daemon(REHEARSAL)


@pytest.fixture(scope="module")
def strict(start_daemon) -> Daemon:
    """Run a daemon with small limits."""
    return start_daemon(STRICT)
