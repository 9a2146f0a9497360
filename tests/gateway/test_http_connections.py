"""Connections that are no WebSocket: how many, and how long whatever they do or leave undone."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from gateway.wsclient import Raw, eventually, handshake

from aggregator.gateway import http_connections, operators
from aggregator.gateway import server as server_module

BOTH_WAYS = pytest.mark.parametrize("way", ["handoff", "fallback"], indirect=True)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
ORDER = (
    b"POST /ws/test HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 100\r\n\r\n"
)


@BOTH_WAYS
async def test_bound_of_all(serve):
    """What is over is closed at once and counted; clients take no place once they are such."""
    daemon = await serve(max_http_connections=2)
    async with await Raw.open(daemon.port) as one, await Raw.open(daemon.port):
        await eventually(lambda: daemon.server.http_connections == 2)
        async with await Raw.open(daemon.port) as third:
            await third.ended()
        assert daemon.counters.rejected == {"max_http_connections": 1}
        await one.write(handshake())
        assert (await one.head())[0] == 101
        assert daemon.server.http_connections == 1
        async with await daemon.connect() as client, await daemon.connect() as another:
            await client.pinged()
            await another.pinged()
            assert daemon.server.http_connections == 1
        assert daemon.counters.rejected == {"max_http_connections": 1}
    await eventually(lambda: not daemon.server.http_connections)
    assert not daemon.server._connections._per_address


@BOTH_WAYS
async def test_bound_of_an_address(serve):
    """It is as many as it may have clients, which are counted by themselves."""
    daemon = await serve(max_connections_per_address=2)
    async with await daemon.connect() as first, await daemon.connect() as second:
        async with await Raw.open(daemon.port) as one, await Raw.open(daemon.port):
            await eventually(lambda: daemon.server.http_connections == 2)
            async with await Raw.open(daemon.port) as third:
                await third.ended()
            await one.write(HEALTH)
            assert (await one.response())[0] == 200
        await eventually(lambda: not daemon.server.http_connections)
        async with await Raw.open(daemon.port) as another:
            await another.write(handshake())
            assert (await another.response())[0] == 429
        await first.pinged()
        await second.pinged()
    assert daemon.counters.rejected == {
        "max_http_connections_per_address": 1,
        "max_connections_per_address": 1,
    }


async def test_proxies_have_the_bound_of_all_alone(serve):
    """Their connections are those of many clients."""
    daemon = await serve(
        max_connections_per_address=1, max_http_connections=5, trusted_proxies=["127.0.0.0/8"]
    )
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(5):
            await stack.enter_async_context(await Raw.open(daemon.port))
        await eventually(lambda: daemon.server.http_connections == 5)
        async with await Raw.open(daemon.port) as sixth:
            await sixth.ended()
    assert daemon.counters.rejected == {"max_http_connections": 1}


@pytest.fixture
def impatient(monkeypatch):
    """Make all the times short that a slow one may take."""
    monkeypatch.setattr(server_module, "KEEP_ALIVE_S", 0.3)
    monkeypatch.setattr(server_module, "LINGER_S", 0.3)
    monkeypatch.setattr(operators, "BODY_TIMEOUT_S", 0.3)
    monkeypatch.setattr(http_connections, "UNREAD_S", 1.0)


async def drip(raw, data):
    """Send byte after byte, as long as the other side takes them."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            await raw.write(bytes([byte]))
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("before", "slowly"),
    [
        (b"", b""),
        (b"GET /healthz HT", b""),
        (b"GET /healthz HTTP/1.1\r\nX-A: ", b"a" * 4000),
        (HEALTH + b"GET ", b"/" * 4000),
        (ORDER, b""),
        (ORDER, b"{" * 99),
        (ORDER.replace(b"localhost", b"elsewhere"), b"{" * 99),
        (HEALTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n"), b""),
        (ORDER.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 999),
        (handshake(Content_Length="9"), b""),
    ],
    ids=[
        "nothing",
        "half a head",
        "a head in drops",
        "a second head in drops",
        "no body",
        "a body in drops",
        "a refused body in drops",
        "a body of no use",
        "chunks in drops",
        "a handshake with a body",
    ],
)
async def test_slow_requests(serve, impatient, before, slowly):
    """Whatever comes too slowly, or not at all, is closed before long; others notice nothing."""
    daemon = await serve()
    async with await Raw.open(daemon.port) as raw, await daemon.connect() as client:
        await raw.write(before)
        dripping = asyncio.create_task(drip(raw, slowly))
        await raw.ended()
        await eventually(lambda: not daemon.server.http_connections)
        dripping.cancel()
        await client.pinged()


async def test_answers_that_nobody_reads(serve, impatient):
    """Who asks for much and reads nothing is cut off, though the connection is never idle."""
    daemon = await serve()
    script = b"GET /client.js HTTP/1.1\r\nHost: x\r\n\r\n"
    async with await Raw.open(daemon.port, 4096) as raw:

        async def ask() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    await raw.write(script)

        async with asyncio.timeout(20):
            await ask()
        await eventually(lambda: not daemon.server.http_connections)
        await raw.ended()


async def much() -> bytes:
    """Return a page that takes its time."""
    return b"x" * 8_000_000


async def test_answers_that_are_read_slowly(serve, impatient, monkeypatch):
    """Who reads a long answer in time gets all of it."""
    monkeypatch.setattr(http_connections, "UNREAD_S", 30.0)
    daemon = await serve()
    daemon.server._metrics = much
    async with await Raw.open(daemon.port, 4096) as raw:
        await raw.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, body = await raw.response()
    assert (status, len(body)) == (200, 8_000_000)
