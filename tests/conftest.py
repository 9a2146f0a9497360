"""
What all tests share: when a test may be skipped, a clean environment, and whole processes.

Locally a test that lacks a program or the recordings is skipped with a reason. With `CI=true` it
fails instead: there everything is installed, so that nothing is left out unseen. The only tests
that may be left out there are those marked `live`, which run with `--live`.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import aiohttp
import aioresponses
import pytest
from aiohttp import web_app

ROOT = Path(__file__).parents[1]
PATIENCE_S = 30
"""After so long a test has failed; it is never waited for where all is well."""
OURS = {"CREDENTIALS_DIRECTORY", "JOURNAL_STREAM", "NOTIFY_SOCKET", "STATE_DIRECTORY", "WATCH_URL"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--live", action="store_true", help="run the tests against the real venues")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--live"):
        for item in items:
            if item.get_closest_marker("live"):
                item.add_marker(pytest.mark.skip(reason="talks to real venues: only with --live"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = yield
    if item.get_closest_marker("live") is None and not hasattr(report, "wasxfail"):
        _not_skipped_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    report = yield
    _not_skipped_in_ci(report)
    return report


def _not_skipped_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and os.environ.get("CI") == "true":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"with CI=true no test may be left out: {reason}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Take away what the environment might say to the daemon."""
    for name in list(os.environ):
        if name.startswith(("AGGREGATOR_", "WATCHDOG_")) or name in OURS:
            del os.environ[name]


@pytest.fixture(autouse=True)
def forget_applications():
    """Let go of the daemon: aiohttp would keep a thousand, with their loops, in a cache."""
    yield
    web_app._cached_build_middleware.cache_clear()


@pytest.fixture
def needs() -> Callable[[str], str]:
    """Return a function that gives the path of a program, or skips the test."""

    def needs(program: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed")
        return path

    return needs


@pytest.fixture
async def browser(needs):
    """Yield Chromium, without a window."""
    chromium = needs("chromium")
    reason = "playwright is not installed"
    playwright = pytest.importorskip("playwright.async_api", reason=reason)
    async with playwright.async_playwright() as started:
        browser = await started.chromium.launch(executable_path=chromium)
        yield browser
        await browser.close()


@pytest.fixture
def venue_rest():
    """
    Answer the requests of aiohttp's client: `venue_rest.get(url, body=...)`.

    aioresponses 0.7.9 does not yet give aiohttp 3.14 all that it wants to build an answer.
    """
    complete = functools.partial(aiohttp.ClientResponse, stream_writer=mock.Mock(output_size=0))
    with (
        mock.patch("aioresponses.core.ClientResponse", complete),
        aioresponses.aioresponses() as venue,
    ):
        yield venue


@pytest.fixture
def run_cli(tmp_path):
    """Return a function that runs `aggregator` to its end, in an empty folder."""

    def run_cli(*args: object, **kwargs) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **kwargs.pop("environ", {})}
        command = [sys.executable, "-m", "aggregator", *map(str, args)]
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            **{"cwd": tmp_path, "env": environ, **kwargs},
        )

    return run_cli


class Process:
    """A running `aggregator`, and what it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._more = asyncio.Condition()
        self._ended = False
        self._reader = asyncio.create_task(self._read(), name="log")

    @property
    def pid(self) -> int:
        return self.process.pid

    async def _read(self) -> None:
        async for line in self.process.stderr:
            async with self._more:
                self.lines.append(line.decode().rstrip("\n"))
                self._more.notify_all()
        async with self._more:
            self._ended = True
            self._more.notify_all()

    async def logged(self, pattern: str, times: int = 1) -> list[str]:
        """Wait until so many lines match, and return them."""
        async with asyncio.timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: len(self.lines_with(pattern)) >= times or self._ended)
        found = self.lines_with(pattern)
        assert len(found) >= times, "\n".join(self.lines)
        return found

    def lines_with(self, pattern: str) -> list[str]:
        """Return the lines so far that match."""
        return [line for line in self.lines if re.search(pattern, line)]

    async def url(self) -> str:
        """Wait until it listens; return the address of its WebSocket."""
        [line] = await self.logged("listening on")
        return re.search(r"wss?://[^\s\"]+", line)[0]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
            await self._reader
        return code


@pytest.fixture
async def start(tmp_path):
    """Return a function that starts `aggregator` with arguments; it is killed after the test."""
    started: list[Process] = []

    async def start(*args: object, environ: dict[str, str] | None = None) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "aggregator", *map(str, args)),
            cwd=tmp_path,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        started.append(Process(process))
        return started[-1]

    yield start
    for process in started:
        if process.process.returncode is None:
            process.signal(signal.SIGKILL)
        await process.ended()


class Client:
    """A client of the daemon."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, **command: object) -> None:
        await self.socket.send_json(command)

    async def receive(self) -> dict:
        """Return the next message, its decimal numbers as text."""
        async with asyncio.timeout(PATIENCE_S):
            received = await self.socket.receive()
        assert received.type is aiohttp.WSMsgType.TEXT, received
        return json.loads(received.data, parse_float=str)

    async def until(self, condition: Callable[[dict], bool]) -> dict:
        """Return the first message of which this holds."""
        while not condition(message := await self.receive()):
            pass
        return message

    async def close_code(self) -> int | None:
        """Wait until the daemon closes the connection; return the code."""
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self.socket:
                pass
        return self.socket.close_code


@pytest.fixture
async def connect():
    """Return a function that connects a client to the address of a daemon."""
    async with aiohttp.ClientSession() as session:

        async def connect(url: str) -> Client:
            return Client(await session.ws_connect(url, max_msg_size=0))

        yield connect


@pytest.fixture
def add_distribution(tmp_path):
    """Return a function that lays out an installed distribution; its folder is for PYTHONPATH."""

    def add_distribution(
        name: str, modules: dict[str, str], entry_points: dict[str, str], folder: str = "site"
    ) -> Path:
        site = tmp_path / folder
        metadata = site / f"{name.replace('-', '_')}-1.2.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        text = "\n".join(["[aggregator.connectors]", *lines, ""])
        (metadata / "entry_points.txt").write_text(text)
        for module, source in modules.items():
            (site / f"{module}.py").write_text(source)
        return site

    return add_distribution
