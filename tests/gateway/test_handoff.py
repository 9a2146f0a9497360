"""The hand-over from aiohttp: what is relied on, and that aiohttp keeps nothing."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from gateway.leftovers import earlier, living  # noqa: F401 - a fixture
from gateway.wsclient import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    Raw,
    eventually,
    frame,
    handshake,
)

from aggregator.gateway import handoff
from aggregator.gateway.session import Session


async def test_internals_are_as_known():
    """What `handoff` uses of aiohttp beyond what aiohttp promises: else there is the fallback."""
    assert not handoff.missing()
    assert not await handoff.rehearse()


@pytest.mark.parametrize("ending", [b"\r\n\r\n", b"\r\n\r\n\x89"])
async def test_early_data(daemon, ending):
    """What comes right behind the handshake, in the same packet, is understood as frames."""
    more = frame(b"", PING)[1:] if ending[-1] == 0x89 else b""
    request = handshake().removesuffix(b"\r\n\r\n") + ending
    async with await Client.open(daemon.port) as client:
        await client.write(request)
        await client.write(more + frame(b'{"type":"ping","id":1}'))
        assert (await client.head())[0] == 101
        opcodes = {(await client.receive_frame())[0] for _ in range(1 + bool(more))}
        assert opcodes == ({TEXT, PONG} if more else {TEXT})


async def test_frames_in_fragments_behind_the_handshake(daemon):
    """A message in fragments, a ping between them, cut anywhere, some of it early."""
    command = json.dumps({"type": "subscribe", "channels": ["prices"], "id": "x"}).encode()
    data = (
        frame(command[:9], TEXT, fin=False)
        + frame(b"p", PING)
        + frame(command[9:], CONTINUATION)
        + frame(b'{"type":"ping"}')
    )
    whole = handshake() + data
    start = len(handshake())
    for cut in range(start - 3, len(whole), 7):
        async with await Client.open(daemon.port) as client:
            await client.write(whole[:cut])
            await asyncio.sleep(0)
            await client.write(whole[cut:])
            assert (await client.head())[0] == 101
            messages, pongs = [], 0
            while len(messages) < 2 or not pongs:
                opcode, payload = await client.receive_frame()
                if opcode == PONG:
                    pongs += 1
                else:
                    messages.append(json.loads(payload)["type"])
            assert messages == ["subscribed", "pong"]


async def test_much_early_data(daemon):
    """The session reads on where aiohttp has stopped, since much came behind the handshake."""
    ping = frame(b'{"type":"ping","id":%d}' % 1)
    filler = frame(b"x" * 100, PONG) * 5000
    async with await Client.open(daemon.port) as client:
        async with asyncio.TaskGroup() as group:
            group.create_task(client.write(handshake() + filler + ping))
            assert (await client.head())[0] == 101
        assert (await client.receive())["id"] == 1


async def test_handshake_on_a_connection_that_stopped_reading(daemon, monkeypatch):
    """If aiohttp has paused the transport's reading, it goes on with the session."""
    take_over = handoff.take_over

    def paused(request, protocol, *answers):
        request.protocol._pause_reading_for_buffer()
        return take_over(request, protocol, *answers)

    monkeypatch.setattr(handoff, "take_over", paused)
    async with await daemon.connect() as client:
        await client.pinged()


async def test_handshake_behind_unread_answers(daemon, monkeypatch):
    """A client that has not read earlier answers is behind from the start: its queue is bounded."""
    take_over = handoff.take_over
    size = 8_000_000

    def behind(request, protocol, *answers):
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
        request.protocol.transport.write(answer + bytes(size))
        assert request.protocol.writing_paused
        return take_over(request, protocol, *answers)

    monkeypatch.setattr(handoff, "take_over", behind)
    async with await Client.open(daemon.port, 4096) as client:
        await client.write(handshake() + frame(b'{"type":"ping"}'))
        await eventually(lambda: len(daemon.sessions))
        (session,) = daemon.sessions._everybody
        assert session.unsent > handoff.HIGH_WATER_BYTES
        assert session.lagging
        daemon.sessions.broadcast("x")
        assert session.held > session.unsent
        assert (await client.response())[0] == 200
        assert (await client.head())[0] == 101
        assert (await client.receive())["type"] == "pong"
        assert (await client.receive())["type"] == "test_message"
        await eventually(lambda: not session.lagging)


async def test_aiohttp_keeps_nothing(daemon):
    """Its handler, request and task of a connection are gone after the hand-over."""
    tasks = len(asyncio.all_tasks())
    clients = [await daemon.connect() for _ in range(5)]
    try:
        await eventually(lambda: len(asyncio.all_tasks()) == tasks)
        await eventually(lambda: not daemon.server._runner.server.connections)
        await eventually(lambda: living(RequestHandler) == 0)
        assert living(web.Request) == 0
        assert living(Session) == 5
        for client in clients:
            await client.pinged()
    finally:
        for client in clients:
            client.sock.close()
    await eventually(lambda: not len(daemon.sessions))


async def test_socket_options(daemon):
    """The kernel's buffer is small, so that a stalled client is noticed early; no delay."""
    async with await daemon.connect():
        (session,) = daemon.sessions._everybody
        sock = session.transport.get_extra_info("socket")
        sent = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert sent <= 2 * handoff.SEND_BUFFER_BYTES
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_thousand_come_and_go(serve):
    """However they come and go, nothing of them stays: not here, not in the hub, not in aiohttp."""
    daemon = await serve(flush_window_s=0)
    wants = ["prices", "prices:BTC/USDT", "*:ETH/USDT", "all:NEW/COIN", "*:NEW/COIN"]

    async def visit(i: int) -> None:
        async with await daemon.connect() as client:
            await client.subscribe(wants[i % 5], wants[i % 3])
            daemon.publish(i)
            if i % 3 == 0:
                client.reset()
            elif i % 3 == 1:
                await client.write(frame(b"\x03\xe8", CLOSE))
                while (await client.receive_frame())[0] != CLOSE:
                    pass
                await client.ended()

    for start in range(0, 1000, 50):
        async with asyncio.TaskGroup() as group:
            for i in range(start, start + 50):
                group.create_task(visit(i))
    sessions, hub = daemon.sessions, daemon.hub
    await eventually(lambda: not len(sessions))
    assert sessions.counters.accepted == 1000
    assert not sessions._per_address
    assert not sessions.lagging
    assert not sessions.heartbeats._due
    assert not sessions.heartbeats._asked
    assert not len(hub.audiences)
    assert not hub._outboxes
    assert not any(c.listeners for c in hub.channels.values())
    assert set(hub._anywhere) == {"BTC/USDT"}
    assert set(daemon.channel.slots) == {"BTC/USDT"}
    assert not daemon.open_ended.slots
    for timer in tuple(sessions._timers):
        timer.cancel()
    sessions._timers.clear()
    await asyncio.sleep(0)
    assert living(RequestHandler) == 0
    await eventually(lambda: living(Session) == 0)


async def test_gone_before_the_hand_over(daemon):
    """A transport that is closing is not taken over."""
    caught = []

    async def look(request, short):
        request.protocol.transport.abort()
        with pytest.raises(ConnectionResetError):
            handoff.take_over(request, Session(daemon.sessions, ""), "")
        caught.append(request)
        return handoff.HandedOver()

    daemon.server._connect = look
    async with await Raw.open(daemon.port) as raw:
        await raw.write(handshake())
        await raw.ended()
    assert caught
