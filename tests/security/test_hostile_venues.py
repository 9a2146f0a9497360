"""Venues that are hostile, or in other hands: docs/security.md."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from security.test_attacks import GROWTH_BYTES, resident_bytes

GOOD_ROW = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "last": "42150.5",
    "lastSz": "1",
    "askPx": "42150.6",
    "askSz": "1",
    "bidPx": "42150.4",
    "bidSz": "1",
    "open24h": "1",
    "high24h": "1",
    "low24h": "1",
    "volCcy24h": "1",
    "vol24h": "1",
    "ts": "1789000000000",
    "sodUtc0": "1",
    "sodUtc8": "1",
}
ARG = {"channel": "tickers", "instId": "BTC-USDT"}
CONFIG = """
[server]
port = 0
[feeds.streamed]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:{port}/ws"]
max_backoff_s = 0.1
[feeds.polled]
connector = "binance.prices"
base_url = "http://127.0.0.1:{port}"
interval_s = 0.2
timeout_s = 2
max_backoff_s = 0.2
"""


def ticker(**changes: object) -> str:
    return json.dumps({"arg": ARG, "data": [GOOD_ROW | changes]})


def planted(text: str) -> str:
    """Return a ticker with this in place of the price, as it stands."""
    return ticker(last="@").replace('"@"', text)


FRAMES: dict[str, str | bytes] = {
    "deep": "[" * 5_000_000,
    "deeper": '{"arg":' * 1_000_000,
    "larger than is taken": " " * (17 * 2**20),
    "a number of a million digits": planted('"' + "9" * 1_000_000 + '"'),
    "an integer of a million digits": planted("9" * 1_000_000),
    "an exponent": planted('"1e1000000000"'),
    "a negative exponent": planted('"1e-1000000000"'),
    "no number": planted('"NaN"'),
    "infinite": planted('"Infinity"'),
    "other digits": planted('"\u0664\u0662"'),
    "a name that is a megabyte": ticker(instId="X" * 1_000_000),
    "a name with line ends": ticker(instId="X\r\ntime=2000-01-01T00:00:00Z level=error"),
    "words for the log": json.dumps(
        {"event": "error", "code": "60012", "msg": "x\ntime=2000 level=error\x1b[31m" * 1000}
    ),
    "no text": b"\xff" * 1000,
    "the same key again and again": '{"arg":1' + ',"arg":1' * 500_000 + "}",
    "surrogates": planted('"\\ud800"'),
}
BODIES: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {}


def body(function):
    """Have it answered to whoever polls."""
    BODIES[function.__name__] = function
    return function


@body
async def a_bomb(request: web.Request) -> web.StreamResponse:
    data = gzip.compress(bytes(300 * 2**20), 1)
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    return web.Response(body=data, headers=headers)


@body
async def without_end(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"[" * 1_000_000)


@body
async def a_byte_at_a_time(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b"[")
        await asyncio.sleep(0.5)


@body
async def from_here_to_there(request: web.Request) -> web.StreamResponse:
    raise web.HTTPFound(location=str(request.url))


@body
async def to_the_machine_itself(request: web.Request) -> web.StreamResponse:
    raise web.HTTPTemporaryRedirect(location="file:///etc/passwd")


@body
async def deep(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"[" * 5_000_000, content_type="application/json")


@body
async def headers_without_end(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 200_000)
    await asyncio.sleep(1)
    raise web.HTTPOk


class Venue:
    """Answers with what it is told to, and well otherwise."""

    def __init__(self) -> None:
        self.frame: str | bytes | None = None
        self.body: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.said = asyncio.Event()
        self.closing = False

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        """Send the frame to each connection once, then one good ticker after the other."""
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.receive()
        await ws.send_json({"event": "subscribe", "arg": ARG, "connId": "x"})
        told = False
        while not ws.closed and not self.closing:
            if self.frame is not None and not told:
                told = True
                send = ws.send_bytes if isinstance(self.frame, bytes) else ws.send_str
                with contextlib.suppress(ConnectionError):
                    await send(self.frame)
                self.said.set()
            with contextlib.suppress(ConnectionError):
                await ws.send_str(ticker())
            await asyncio.sleep(0.02)
        return ws

    async def poll(self, request: web.Request) -> web.StreamResponse:
        if self.body is not None:
            self.said.set()
            return await self.body(request)
        names = json.loads(request.query["symbols"])
        numbers = dict.fromkeys(("bidPrice", "askPrice", "volume", "priceChangePercent"), "1")
        rows = [
            {"symbol": name, "lastPrice": "42150.50", "closeTime": 1} | numbers for name in names
        ]
        return web.json_response(rows)


@pytest.fixture
async def venue():
    venue = Venue()
    app = web.Application()
    app.router.add_get("/ws", venue.socket)
    app.router.add_get("/api/v3/ticker/24hr", venue.poll)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    venue.port = runner.addresses[0][1]
    yield venue
    venue.closing = True
    await runner.cleanup()


@pytest.fixture
async def daemon(venue, start, tmp_path):
    (tmp_path / "a.toml").write_text(CONFIG.format(port=venue.port))
    process = await start("run", "--config", "a.toml")
    await process.logged(r"feed (streamed|polled) live", times=2)
    yield process
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


async def goes_on(daemon, client, channel: str, before: int) -> None:
    """Whatever came, good data are told again; nothing was taken in, or said to the log."""
    await client.until(lambda m: m["type"] == "price_update" and m["channel"] == channel)
    messages = [await client.receive() for _ in range(20)]
    prices = [m["price"] for m in messages if m["type"] == "price_update"]
    assert {float(price) for price in prices} == {42150.5}
    assert resident_bytes(daemon.pid) - before < 2 * GROWTH_BYTES
    assert all(line.startswith("time=20") and len(line) < 5_000 for line in daemon.lines)
    assert not daemon.lines_with("Traceback|level=(error|critical)|time=2000|\x1b")


@pytest.mark.parametrize("name", FRAMES)
async def test_frame(daemon, venue, connect, name):
    """It is counted and passed over, or the connection begins again; the next price is told."""
    client = await connect(await daemon.url())
    await client.send(type="subscribe", channels=["streamed", "polled"])
    before = resident_bytes(daemon.pid)
    venue.frame = FRAMES[name]
    async with asyncio.timeout(30):
        await venue.said.wait()
    await goes_on(daemon, client, "streamed", before)


@pytest.mark.parametrize("name", BODIES)
async def test_body(daemon, venue, connect, name):
    """An answer is given up at its bounds of size and time; the other feed misses nothing."""
    client = await connect(await daemon.url())
    await client.send(type="subscribe", channels=["streamed", "polled"])
    before = resident_bytes(daemon.pid)
    venue.body = BODIES[name]
    await daemon.logged("feed polled (down|late|stale)")
    venue.body = None
    await goes_on(daemon, client, "polled", before)
    assert not daemon.lines_with("feed streamed (down|late|stale)")
