"""Clients served by aiohttp's own WebSocket; that all else works as ever, the other files say."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any
from unittest import mock

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import make_mocked_request
from gateway.leftovers import earlier, living  # noqa: F401 - a fixture
from gateway.wsclient import (
    ACCEPT,
    CLOSE,
    KEY,
    PING,
    PONG,
    TEXT,
    Client,
    Gone,
    Raw,
    eventually,
    frame,
    handshake,
)

from aggregator.gateway import delivery, fallback, handoff
from aggregator.gateway import session as session_module
from aggregator.gateway.frames import ProtocolError
from aggregator.gateway.session import Session
from aggregator.gateway.sessions import RECEIVE_BYTES


@pytest.fixture
def way(request) -> str:
    """Let the daemons of this file use the fallback."""
    return getattr(request, "param", "fallback")


# Whether it is needed.


@pytest.mark.parametrize("name", handoff.INTERNALS)
def test_each_thing_that_is_relied_on_is_looked_for(monkeypatch, name):
    """One that is gone, or is no longer what it was, is named; nothing is raised."""
    present = {n: getattr(web.RequestHandler, n) for n in handoff.INTERNALS}
    for changed in ({}, {name: None}):
        left = {n: thing for n, thing in present.items() if n != name}
        monkeypatch.setattr(web, "RequestHandler", type("RequestHandler", (), left | changed))
        assert handoff.missing() == [name]


def test_nothing_that_is_relied_on_is_there(monkeypatch):
    """Also of an aiohttp and an asyncio quite different all that is missing is named."""
    monkeypatch.delattr(web, "RequestHandler")
    monkeypatch.delattr(web.BaseRequest, "protocol")
    monkeypatch.delattr(asyncio.BaseTransport, "set_protocol")
    assert handoff.missing() == [*handoff.INTERNALS, "protocol", "set_protocol"]


@pytest.fixture
async def changed(monkeypatch, caplog, serve):
    """Return a daemon that was started with an aiohttp whose handler has no `_message_tail`."""
    others = {n: getattr(web.RequestHandler, n) for n in handoff.INTERNALS if n != "_message_tail"}
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(web, "RequestHandler", type("RequestHandler", (), others))
        return await serve(max_buffered_bytes=1_000_000)


@pytest.mark.parametrize("way", ["handoff"], indirect=True)
async def test_changed_aiohttp(changed, caplog):
    """It is said once, with the version, what is missing and what it costs; clients are served."""
    [said] = [r.getMessage() for r in caplog.get_records("setup")]
    for part in (aiohttp.__version__, "_message_tail", "14 KB"):
        assert part in said
    changed.publish("1.50")
    async with (
        await changed.connect(receive_buffer=4096) as client,
        await changed.connect("/ws/ticker") as short,
    ):
        assert not changed.server.takes_over
        answer = await client.ask({"type": "subscribe", "channels": ["prices", "nothing"], "id": 1})
        assert (answer["type"], answer["channels"], answer["id"]) == ("subscribed", ["prices"], 1)
        assert (await client.receive())["code"] == "unknown_channel"
        assert (await client.receive())["seq"] == 1
        await short.ask({"action": "subscribe", "symbol": "BTC/USDT"})
        assert (await short.receive())["seq"] == 1
        await client.write(frame(b"x", PING))
        assert await client.receive_frame() == (PONG, b"x")
        # Behind, and up with the others again.
        while not changed.sessions.lagging:
            changed.publish(2, data=b'"%b"' % (b"x" * 30_000))
            await short.receive()
        changed.publish(3)
        changed.publish(4)
        *_, last = await client.until(seq=changed.channel.seq)
        assert last["conflated"]
        await eventually(lambda: not changed.sessions.lagging)
        changed.publish(5)
        assert (await client.receive())["price"] == 5
        changed.sessions.broadcast("hello")
        assert (await client.receive())["message"] == "hello"
        async with asyncio.TaskGroup() as group:
            group.create_task(changed.sessions.stop(10))
            assert (await client.closed())[0] == 1001
            with pytest.raises(Gone, match="1001"):
                await short.until(type="never")
            short.reset()
    assert changed.counters.closed == {1001: 2}
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def keeps_the_tail(patch: pytest.MonkeyPatch) -> None:
    """All is there, but what came right behind the handshake is kept elsewhere."""
    real = handoff.take_over

    def take_over(request: web.BaseRequest, *rest: Any) -> Any:
        request.protocol._message_tail = b""
        return real(request, *rest)

    patch.setattr(handoff, "take_over", take_over)


def closes(patch: pytest.MonkeyPatch) -> None:
    """All is there, but at the end of its part aiohttp closes the connection."""
    real = web.RequestHandler.connection_lost

    def connection_lost(self: web.RequestHandler, exc: BaseException | None) -> None:
        if exc is None and not self.transport:
            transports.pop().abort()
        real(self, exc)

    made, transports = web.RequestHandler.connection_made, []

    def connection_made(self: web.RequestHandler, transport: asyncio.BaseTransport) -> None:
        transports.append(transport)
        made(self, transport)

    patch.setattr(web.RequestHandler, "connection_made", connection_made)
    patch.setattr(web.RequestHandler, "connection_lost", connection_lost)


def fails(patch: pytest.MonkeyPatch) -> None:
    """All is there, but it does not like what is done to it."""

    def connection_lost(self: web.RequestHandler, exc: BaseException | None) -> None:
        raise TypeError("another aiohttp")

    patch.setattr(web.RequestHandler, "connection_lost", connection_lost)


@pytest.mark.parametrize("way", ["handoff"], indirect=True)
@pytest.mark.parametrize("change", [keeps_the_tail, closes, fails])
async def test_aiohttp_behaves_differently(monkeypatch, caplog, serve, change):
    """A change that no name tells is found at the start, by trying; clients are served."""
    monkeypatch.setattr(handoff, "REHEARSAL_S", 0.2)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        change(patch)
        daemon = await serve()
    assert not daemon.server.takes_over
    assert [r for r in caplog.records if "14 KB" in r.getMessage()]
    async with await daemon.connect() as client:
        assert (await client.ask({"type": "ping"}))["type"] == "pong"


@pytest.mark.parametrize("way", ["handoff"], indirect=True)
async def test_known_aiohttp(daemon, caplog):
    """Nothing is said, and nobody is served by the fallback."""
    assert not caplog.get_records("setup")
    async with await daemon.connect():
        (session,) = daemon.sessions
        assert not isinstance(session.transport, fallback.Link)


def test_handshake_by_what_is_promised():
    """It can be checked without anything of aiohttp's insides."""
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    handler = mock.Mock(spec=["ssl_context", "peername", "sockname"])
    request = make_mocked_request("GET", "/ws", headers, protocol=handler)
    assert handoff.accept_key(request, promised_only=True) == ACCEPT
    with pytest.raises(AttributeError, match="_upgraded"):
        handoff.accept_key(request)


async def test_nothing_but_what_is_promised(daemon, monkeypatch):
    """No slot of aiohttp's handler is touched, from the handshake to the end."""
    touched = set()

    class Watched:
        """A slot that notes who reads it."""

        def __init__(self, name: str) -> None:
            self._name = name
            self._slot = getattr(web.RequestHandler, name)

        def __get__(self, handler, kind):
            if sys._getframe(1).f_globals["__name__"].startswith("aggregator."):
                touched.add(self._name)
            return self._slot.__get__(handler, kind)

        def __set__(self, handler, value):
            self._slot.__set__(handler, value)

    for kind in (web.RequestHandler, *web.RequestHandler.__bases__):
        for name in kind.__slots__:
            monkeypatch.setattr(kind, name, Watched(name))
    async with await daemon.connect() as client:
        await client.subscribe("prices")
        daemon.publish(1)
        assert (await client.receive())["seq"] == 1
        assert not touched
        daemon.server.takes_over = True  # which shows that it would be seen
        async with await daemon.connect() as other:
            await other.pinged()
        assert touched == {"_message_tail", "_upgraded", "transport"}
        touched.clear()
        await client.write(frame(b"", CLOSE))
        await client.ended()
    await eventually(lambda: not len(daemon.sessions))
    assert not touched


# What aiohttp must not do by itself.


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"x", 3), 1002),
        (frame(b"\x03\xee", CLOSE), 1002),
        (frame(b"\x13\x88", CLOSE), 1002),
        (frame(b"x" * 70_000), 1009),
        (frame(b"\xff"), 1007),
        (frame(b"x", 2), 1003),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_one_close_frame(daemon, data, code):
    """After a fault the session closes, with its code; aiohttp sends nothing of its own."""
    async with await daemon.connect() as client:
        await client.write(data)
        assert (await client.closed())[0] == code
        assert not client.buffer
    await eventually(lambda: not len(daemon.sessions))
    assert daemon.counters.closed == {code: 1}


async def test_pings_are_answered_once(daemon):
    """By the session, the last of those that came together; aiohttp does not answer as well."""
    async with await daemon.connect() as client:
        await client.write(b"".join(frame(b"%d" % i, PING) for i in range(9)))
        await client.write(frame(b'{"type":"ping"}'))
        frames = [await client.receive_frame()]
        while frames[-1][0] != TEXT:
            frames.append(await client.receive_frame())
        assert frames[-2] == (PONG, b"8")
        assert len({payload for _, payload in frames}) == len(frames)


async def test_nothing_is_negotiated(daemon):
    """Neither compression nor a subprotocol, whatever is offered."""
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate", "Sec-WebSocket-Protocol": "chat"}
    async with await Client.open(daemon.port) as client:
        await client.write(handshake(**{k.replace("-", "_"): v for k, v in offer.items()}))
        status, headers = await client.head()
        assert status == 101
        assert not {name.lower() for name in offer} & set(headers)
        await client.pinged()


async def test_messages_of_the_largest_size(daemon):
    """A message may have exactly as many bytes as is configured, whatever aiohttp makes of it."""
    size = daemon.config.max_frame_bytes
    async with await daemon.connect() as client:
        assert (await client.ask(b"x" * size))["code"] == "bad_json"
        await client.write(frame(b"x" * (size + 1)))
        assert (await client.closed())[0] == 1009


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (aiohttp.WSMessage(WSMsgType.TEXT, b"12345", None), 1009),
        (aiohttp.WSMessage(WSMsgType.ERROR, aiohttp.WebSocketError(1002, "x"), None), 1002),
        (aiohttp.WSMessage(WSMsgType.ERROR, RuntimeError("x"), None), 1011),
    ],
)
def test_what_aiohttp_may_say(message, code):
    """Messages before a fault are passed on; also a fault of aiohttp itself ends the session."""
    good = aiohttp.WSMessage(WSMsgType.TEXT, b"1234", None)
    messages = fallback._checked([good, message, good], 4)
    assert next(messages) == (TEXT, b"1234")
    with pytest.raises(ProtocolError) as caught:
        next(messages)
    assert caught.value.code == code


# Coming and going.


async def test_nothing_is_left(daemon):
    """However clients come and go, no task, handler or session of theirs stays."""
    tasks = len(asyncio.all_tasks())

    async def visit(i: int) -> None:
        async with await daemon.connect() as client:
            await client.subscribe("prices", "others")
            if i % 4 == 0:
                client.reset()
            elif i % 4 == 1:
                await client.write(frame(b"\x03\xe8", CLOSE))
                assert await client.receive_frame() == (CLOSE, b"\x03\xe8")
                await client.ended()
            elif i % 4 == 2:
                await client.write(frame(b"x", 2))
                assert (await client.closed())[0] == 1003
            else:  # while it is made to wait
                await client.write(frame(b"", PONG) * 2000)
                client.reset()

    async with asyncio.TaskGroup() as group:
        for i in range(80):
            group.create_task(visit(i))
    assert daemon.counters.accepted == 80
    await eventually(lambda: not len(daemon.sessions))
    await eventually(lambda: len(asyncio.all_tasks()) == tasks)
    await eventually(lambda: not daemon.server._runner.server.connections)
    for timer in tuple(daemon.sessions._timers):
        timer.cancel()
    daemon.sessions._timers.clear()
    await eventually(lambda: living(fallback.Link) == 0)
    assert living(Session) == 0


@pytest.mark.parametrize("by_client", [False, True])
async def test_close_that_is_not_read(daemon, monkeypatch, by_client):
    """Who is behind and reads nothing more is cut off after the time for it, with its handler."""
    for module in (delivery, session_module):
        monkeypatch.setattr(module, "CLOSE_TIMEOUT_S", 0.05)
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        while not daemon.sessions.lagging:
            daemon.publish(1, data=b'"%b"' % (b"x" * 30_000))
            await asyncio.sleep(0)
        (session,) = daemon.sessions
        if by_client:
            await slow.write(frame(b"\x03\xe8", CLOSE))
        else:
            session.close(4008, "slow consumer")
        await eventually(lambda: not daemon.server._runner.server.connections)
        await eventually(lambda: not len(daemon.sessions))


async def test_close_behind_what_is_not_read_yet(daemon, caplog):
    """Who is behind and closes still gets what was sent, and the answer to its close."""
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        while not daemon.sessions.lagging:
            daemon.publish(1, data=b'"%b"' % (b"x" * 30_000))
            daemon.hub.flush()
        await slow.write(frame(b"\x03\xe8", CLOSE))
        await eventually(lambda: not daemon.sessions.lagging)
        assert len(daemon.sessions) == 1
        with pytest.raises(Gone, match="1000"):
            await slow.until(type="never")
        await slow.ended()
        assert not slow.buffer
    await eventually(lambda: not len(daemon.sessions))
    assert not caplog.records


async def test_no_reset_behind_a_fault(daemon, monkeypatch):
    """Who goes on sending after its fault is read from, since a reset may overtake the close."""
    together, asked = fallback._together, []

    async def counted(response):
        asked.append(response)
        return await together(response)

    monkeypatch.setattr(fallback, "_together", counted)
    async with await daemon.connect() as client:
        await client.write(frame(b"x", 3))
        assert (await client.receive_frame())[0] == CLOSE
        for _ in range(20):
            await client.write(frame(b"x" * 60_000))
            await asyncio.sleep(0)
    # aiohttp says the fault whenever it is asked: to ask again and again would keep the loop busy.
    assert len(asked) == 1


async def test_client_that_goes_in_its_handshake(daemon, monkeypatch, caplog):
    """It is no fault of ours, and neither a client nor an error of HTTP that is counted."""
    serve, served = fallback.serve, []

    async def late(request, *args, **options):
        if served:  # of the second one aiohttp knows already
            await eventually(lambda: request.transport is None)
        served.append(request)
        return await serve(request, *args, **options)

    refusal = daemon.sessions.refusal

    def gone(address):
        for handler in daemon.server._runner.server.connections:
            handler.transport.abort()
        return refusal(address)

    monkeypatch.setattr(fallback, "serve", late)
    monkeypatch.setattr(daemon.sessions, "refusal", gone)
    for count in (1, 2):
        async with await Raw.open(daemon.port) as raw:
            await raw.write(handshake())
            await raw.ended()
        await eventually(lambda: len(served) == count)  # noqa: B023 - it is awaited
    await eventually(lambda: not daemon.server._runner.server.connections)
    assert not daemon.counters.accepted
    assert not daemon.counters.http_errors
    assert not caplog.records


async def test_connections_that_are_no_websocket(daemon):
    """Only those are counted as such, though aiohttp keeps them all."""
    async with await daemon.connect(), await daemon.connect(), await Raw.open(daemon.port):
        await eventually(lambda: len(daemon.server._runner.server.connections) == 3)
        assert daemon.server.http_connections == 1


async def test_limit_holds_for_who_waited(serve, monkeypatch):
    """Whose handshake is put off, since it has not read earlier answers, may come too late."""
    daemon = await serve(max_connections=1)
    waiting, go = asyncio.Event(), asyncio.Event()
    prepare = web.WebSocketResponse.prepare

    async def late(response, request):
        if not waiting.is_set():
            waiting.set()
            await go.wait()
        return await prepare(response, request)

    monkeypatch.setattr(web.WebSocketResponse, "prepare", late)
    async with await Raw.open(daemon.port) as first:
        await first.write(handshake())
        await waiting.wait()
        async with await daemon.connect() as second:
            go.set()
            await first.ended()
            await second.pinged()
            assert daemon.counters.rejected == {"max_connections": 1}
            assert daemon.counters.accepted == 1


async def test_fault_of_our_own(daemon, caplog, monkeypatch):
    """A bug in the session is logged and ends that client alone, at once though it is behind."""
    command = Session.command

    def broken(session, text):
        return 1 // 0 if text == b"now" else command(session, text)

    monkeypatch.setattr(Session, "command", broken)
    async with await daemon.connect(receive_buffer=4096) as slow, await daemon.connect() as other:
        await slow.subscribe("prices")
        while not daemon.sessions.lagging:
            daemon.publish(1, data=b'"%b"' % (b"x" * 30_000))
            daemon.hub.flush()
        await slow.send(b"now")
        await eventually(lambda: len(daemon.sessions) == 1)
        await eventually(lambda: len(daemon.server._runner.server.connections) == 1)
        await other.pinged()
    assert "ZeroDivisionError" in caplog.text


# Flow.


async def test_a_write_raises_nothing_else(daemon):
    """To a transport that is closing or gone: nothing, or RuntimeError."""
    async with await daemon.connect():
        (session,) = daemon.sessions
        session.transport.abort()
        for condition in (lambda: True, lambda: not len(daemon.sessions)):
            await eventually(condition)
            session.transport.write_eof()
            for _ in range(3):
                try:
                    session.transport.write(b"x" * 1_000_000)
                except RuntimeError:
                    continue
        assert not session.lagging


async def test_little_is_written_ahead(daemon):
    """A stalled client is noticed as early as by our own protocol."""
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        (session,) = daemon.sessions
        while not session.lagging:
            daemon.publish(1, data=b'"%b"' % (b"x" * 30_000))
            daemon.hub.flush()
        assert 0 < session.unsent < 40_000
        # The kernel counts twice what it is told, and the client has a buffer as well.
        assert daemon.channel.seq * 30_000 < 4 * handoff.SEND_BUFFER_BYTES


async def test_paused_client_is_looked_at_less_and_less(daemon, monkeypatch):
    """A client that reads nothing costs a look each `LONGEST_LOOK_S`, and none when it is gone."""
    looks = []
    look = fallback.Link._look

    def counted(link):
        looks.append(link._look_s)
        look(link)

    monkeypatch.setattr(fallback.Link, "_look", counted)
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        (session,) = daemon.sessions
        while not session.lagging:
            daemon.publish(1, data=b'"%b"' % (b"x" * 30_000))
            await asyncio.sleep(0)
        await eventually(lambda: len(looks) > 8)
        assert looks[0] == 2 * fallback.SHORTEST_LOOK_S
        assert looks[-1] == fallback.LONGEST_LOOK_S
    await eventually(lambda: not len(daemon.sessions))
    assert session.transport._looking is None or session.transport._looking.cancelled()


async def test_pause_of_reading(daemon):
    """While it lasts no command is carried out; none is lost."""
    async with await daemon.connect() as client, await daemon.connect() as other:
        session = next(s for s in daemon.sessions if _peer(s) == client.sock.getsockname())
        session.transport.pause_reading()
        await client.send({"type": "subscribe", "channels": ["prices"]})
        for _ in range(20):
            await other.pinged()
        assert set(daemon.counters.commands) == {"ping"}
        session.transport.resume_reading()
        assert (await client.receive())["type"] == "subscribed"


def _peer(session):
    return session.transport.get_extra_info("peername")


async def test_resuming_a_client_that_goes(daemon):
    """What waits for a client is not written to a transport that is closing."""
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        (session,) = daemon.sessions
        while not session.lagging:
            daemon.publish(1, data=b'"%b"' % (b"x" * 30_000))
            daemon.hub.flush()
        daemon.publish(2)
        session.transport.abort()
        session.transport._look()
        assert session.lagging


async def test_client_that_goes_while_it_waits(daemon):
    """What it sent is not carried out for nobody."""
    async with await daemon.connect() as client:
        (session,) = daemon.sessions
        session.transport.pause_reading()
        await client.send({"type": "subscribe", "channels": ["prices"]})
        client.reset()
        await eventually(lambda: not len(daemon.sessions))
    assert not daemon.counters.commands


async def test_flood_does_not_keep_the_loop(daemon, monkeypatch):
    """What one client has sent ahead is worked through in parts: others have their turn between."""
    turns = 0
    taken = []
    take = Session.take

    def counted(session, messages):
        whole = list(messages)
        taken.append((turns, sum(6 + len(payload) for _, payload in whole)))
        take(session, whole)

    monkeypatch.setattr(Session, "take", counted)

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    async with await daemon.connect() as client:
        await client.write(frame(b"x" * 100, PONG) * 4_000 + frame(b'{"type":"ping"}'))
        assert (await client.receive())["type"] == "pong"
        counting.cancel()
    assert len(taken) > 20
    at, sizes = zip(*taken, strict=True)
    assert len(set(at)) == len(taken)
    assert max(sizes) < RECEIVE_BYTES + 200
