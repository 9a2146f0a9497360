"""Lines of the log that a thread writes: who logs never waits, and what is lost is said."""

from __future__ import annotations

import asyncio
import fcntl
import io
import logging
import os
import re
import signal
import socket
import sys

import aiohttp
import pytest

from aggregator.telemetry import logs
from aggregator.telemetry.background import Background

LITTLE = 4096
"""Bytes that the pipe holds."""
CHATTY = """
import logging
from aggregator import api

class Chatty(api.PollConnector):
    exchange = "chatty"
    options_type = api.PollOptions

    def requests(self):
        for number in range(20_000):
            logging.getLogger("chatty").debug("line %d %s", number, "x" * 50)
        return ()

    def on_response(self, request, body):
        return ()
"""


@pytest.fixture(autouse=True)
def as_before():
    """Leave the logging of the process as it was."""
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    root.handlers[:] = []
    yield
    root.level, root.handlers[:] = before


@pytest.fixture
def pipe():
    """Return both ends of a pipe that holds little; nobody reads it but the test."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, LITTLE)
    with os.fdopen(reading) as reader, os.fdopen(writing, "w") as writer:
        yield reader, writer


@pytest.fixture
def handler(pipe):
    """Return what writes into the pipe, with room for 100 lines; its thread is at a long one."""
    handler = Background(pipe[1], room=100)
    handler.handle(logging.makeLogRecord({"msg": "x" * 3 * LITTLE}))
    assert os.read(pipe[0].fileno(), 1) == b"x"
    yield handler
    pipe[0].close()
    handler.finish()


def say(handler, text, *args):
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text, args, None))


def test_nobody_waits_and_what_is_lost_is_said(pipe, handler):
    """What has room comes in its order; where lines are missing one says how many, once."""
    reader = pipe[0]
    for number in range(2000):
        say(handler, "%d", number)
    assert handler.lost == 1900
    assert reader.readline() == "x" * (3 * LITTLE - 1) + "\n"
    assert [int(reader.readline()) for _ in range(100)] == list(range(100))
    say(handler, "later")
    say(handler, "still later")
    lines = [reader.readline() for _ in range(3)]
    assert lines[0].endswith("could not be written: 1900\n")
    assert lines[1:] == ["later\n", "still later\n"]
    assert handler.lost == 1900


def test_a_line_says_what_was_so_when_it_was_logged(pipe, handler):
    """Not when it is written."""
    said = ["before"]
    say(handler, "%s", said)
    said[0] = "after"
    pipe[0].readline()
    assert pipe[0].readline() == "['before']\n"


class Full(io.StringIO):
    """A file that at times has no room."""

    def __init__(self, *failing):
        super().__init__()
        self.failing = failing
        self.writes = 0

    def write(self, text):
        self.writes += bool(text)
        if text and self.writes in self.failing:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_what_cannot_be_written_is_lost():
    """It is counted, and said once, as soon as something can be written."""
    # The first line; what would tell of it; the line after what does.
    stream = Full(1, 2, 4)
    handler = Background(stream)
    for number in range(5):
        say(handler, "line %d", number)
    assert handler.finish()
    first, second, *rest = stream.getvalue().splitlines()
    assert first.endswith("could not be written: 2")
    assert second.endswith("could not be written: 1")
    assert rest == ["line 3", "line 4"]
    assert handler.lost == 3


def test_as_it_was_set_up():
    """Form, level and secrets, also those learned later; at the end all is written."""
    stream = io.StringIO()
    logs.set_up("info", stream, {}, secrets=["FIRSTKEY"])
    direct = logging.getLogger().handlers[:]
    with logs.in_background():
        logging.getLogger("x").info("FIRSTKEY")
        logs.hide(["SECONDKEY"])
        logging.getLogger("x").warning("SECONDKEY\n%s", 5)
        logging.getLogger("x").debug("nothing")
        assert logs.lost() == 0
    first, second = stream.getvalue().splitlines()
    assert first.endswith('level=info logger=x msg="********"')
    assert second.endswith(r'level=warning logger=x msg="********\\x0a5"')
    assert logging.getLogger().handlers == direct


def test_the_end_does_not_wait_for_ever(pipe, monkeypatch):
    """Nor does whoever logs later; what was lost is counted."""
    monkeypatch.setattr(Background.finish, "__defaults__", (0.01,))
    logs.set_up("info", pipe[1], {})
    with logs.in_background():
        logging.getLogger("x").info("x" * 2 * LITTLE)
    for _ in range(20_000):
        logging.getLogger("x").info("later")
    assert logs.lost() > 0
    pipe[0].close()


async def test_a_daemon_whose_log_nobody_reads(tmp_path, add_distribution):
    """It listens, answers, counts what is lost, and ends by SIGTERM with 0."""
    points = {"chatty.feed": "chatty_feed:Chatty"}
    site = add_distribution("chatty-feed", {"chatty_feed": CHATTY}, points)
    config = tmp_path / "a.toml"
    async with aiohttp.ClientSession() as session:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config.write_text(
            f'[server]\nport = {port}\n[feeds.chatty]\nconnector = "chatty.feed"\n'
            'base_url = "http://127.0.0.1:9"\ninterval_s = 0.1\n'
        )
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "aggregator", "run", "--config", str(config)]
        process = await asyncio.create_subprocess_exec(
            *(*command, "--log-level", "debug"),
            stderr=writing,
            env={**os.environ, "PYTHONPATH": str(site)},
        )
        os.close(writing)
        try:
            async with asyncio.timeout(30):
                while not await _lost(session, port):  # noqa: ASYNC110 - it can't say it
                    await asyncio.sleep(0.05)
                async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                    assert answer.status == 200
                process.send_signal(signal.SIGTERM)
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            os.close(reading)


async def _lost(session, port) -> float:
    try:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            text = await answer.text()
    except aiohttp.ClientConnectionError:
        return 0.0
    return float(re.search(r"^aggregator_log_lines_lost_total (\S+)", text, re.MULTILINE)[1])
