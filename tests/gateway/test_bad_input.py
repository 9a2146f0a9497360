"""Everything a client can do wrong: the exact answer, a counter, and others undisturbed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from gateway.wsclient import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    Gone,
    eventually,
    frame,
)


@pytest.fixture
async def witness(daemon) -> AsyncIterator[Client]:
    """Another client, which must get every message whatever the first one does."""
    async with await daemon.connect() as client:
        await client.subscribe("prices")
        for i in range(3):
            daemon.publish(i)
            assert (await client.receive())["seq"] == daemon.channel.seq
        yield client
        for i in range(3):
            daemon.publish(i)
            assert (await client.receive())["seq"] == daemon.channel.seq
        await client.pinged()


REFUSED = [
    (b"hello", "bad_json"),
    (b"", "bad_json"),
    (b"[" * 60_000, "bad_json"),
    (b'{"type":' * 8_000, "bad_json"),
    (b'{"type":"ping","id":"\\ud800"}', "bad_json"),
    (b'{"type":"subscribe","channels":["\\udfff"]}', "bad_json"),
    (b"[]", "bad_command"),
    (b"null", "bad_command"),
    (b"7", "bad_command"),
    (b"{}", "bad_command"),
    (b'{"type":"nonsense"}', "bad_command"),
    (b'{"type":"ping","more":1}', "bad_command"),
    (b'{"type":"subscribe","channels":"prices"}', "bad_command"),
    (b'{"type":"subscribe","channels":[1]}', "bad_command"),
    (b'{"type":"subscribe","channels":[%b0]}' % (b"0," * 30_000), "bad_command"),
    (b'{"type":"ping","id":NaN}', "bad_command"),
    (b'{"type":"ping","id":%b}' % (b"9" * 400), "bad_command"),
    (b'{"type":"ping","id":true}', "bad_command"),
    (b'{"type":"ping","id":1.5}', "bad_command"),
    (b'{"type":"ping","id":9007199254740993}', "bad_command"),
    (b'{"type":"subscribe","channels":["nothing"]}', "unknown_channel"),
    (b'{"type":"subscribe","channels":["prices:NO/SUCH"]}', "unknown_channel"),
    (b'{"type":"subscribe","channels":["*"]}', "unknown_channel"),
    (
        json.dumps({"type": "subscribe", "channels": [f"c{i}" for i in range(7_000)]}).encode(),
        "too_many_subscriptions",
    ),
]


@pytest.mark.parametrize(("text", "code"), REFUSED, ids=lambda value: str(value[:40]))
async def test_refused_command(daemon, witness, text, code):
    """It gets one answer with its code, is counted, and the connection stays open."""
    async with await daemon.connect() as client:
        answer = await client.ask(text)
        assert (answer["type"], answer["code"]) == ("error", code)
        assert daemon.counters.refused[code] == 1
        await client.pinged()


CLOSED = [
    (frame(b"x", BINARY), 1003),
    (frame(b"", BINARY), 1003),
    (frame(b"x" * 65_537), 1009),
    (frame(b"", size=2**63), 1009),
    (frame(b"x" * 40_000, fin=False) + frame(b"x" * 40_000, CONTINUATION), 1009),
    (frame(b'{"type":"\xff"}'), 1007),
    (frame(b"\xed\xa0\x80"), 1007),
    (frame(b"x" * 126, PING), 1002),
    (frame(b"x", rsv=4), 1002),
    (frame(b"x", 3), 1002),
    (frame(b"x", CONTINUATION), 1002),
    (frame(b"\x03", CLOSE), 1002),
    (frame(b"\x03\xe8\xff", CLOSE), 1007),
    (b"\r\n" * 50, 1002),
]


@pytest.mark.parametrize(("data", "code"), CLOSED, ids=lambda value: str(value)[:40])
async def test_broken_frame(daemon, witness, data, code):
    """The connection is closed with the code of PROTOCOL.md and a reason, and it is counted."""
    async with await daemon.connect() as client:
        await client.write(data)
        closed, reason = await client.closed()
    assert closed == code
    assert reason
    assert daemon.counters.protocol_errors == 1
    assert daemon.counters.closed[code] == 1
    await eventually(lambda: len(daemon.sessions) == 1)


@pytest.mark.parametrize("way", ["handoff"], indirect=True)
async def test_frame_without_a_mask(daemon, witness):
    """RFC 6455, 5.1: it closes the connection. (aiohttp, on the fallback, takes it.)"""
    async with await daemon.connect() as client:
        await client.write(frame(b"x", mask=None))
        assert (await client.closed())[0] == 1002


async def test_close_frame_is_not_overtaken(daemon, witness):
    """A client that goes on sending after its fault still gets to see why it was closed."""
    async with await daemon.connect() as client:
        await client.write(frame(b"x" * 70_000))
        for _ in range(50):
            await client.write(frame(b"x" * 60_000))
        assert (await client.receive_frame())[1][:2] == (1009).to_bytes(2)
    await eventually(lambda: len(daemon.sessions) == 1)


async def test_nothing_is_done_after_a_fault(daemon, witness):
    """Commands behind the fault are not carried out; those before it are."""
    async with await daemon.connect() as client:
        ping = frame(b'{"type":"ping"}')
        await client.write(ping + frame(b"x", BINARY) + ping + frame(b"x", 3))
        assert (await client.receive())["type"] == "pong"
        assert (await client.closed())[0] == 1003
        assert daemon.counters.commands["ping"] == 1
        assert daemon.counters.protocol_errors == 1


async def test_fault_of_a_client_that_stays(daemon, witness, monkeypatch):
    """Who neither answers the close nor goes is cut off."""
    monkeypatch.setattr("aggregator.gateway.delivery.CLOSE_TIMEOUT_S", 0.05)
    async with await daemon.connect() as client:
        await client.write(frame(b"x", BINARY))
        await eventually(lambda: len(daemon.sessions) == 1)
        await client.ended()


@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x0f\xa0bye"])
async def test_closing_handshake_of_the_client(daemon, witness, payload):
    """Its close is answered with its code, the server ends the connection, no fault is counted."""
    async with await daemon.connect() as client:
        await client.subscribe("others")
        await client.write(frame(payload, CLOSE) + frame(b'{"type":"ping"}'))
        assert await client.receive_frame() == (CLOSE, payload[:2])
        await client.ended()
        assert not client.buffer
    assert daemon.counters.protocol_errors == 0
    assert daemon.counters.commands["ping"] <= 1
    await eventually(lambda: len(daemon.sessions) == 1)


@pytest.mark.parametrize("cut", [0, 1, 3, 7, 30])
async def test_abrupt_end(daemon, witness, cut):
    """A reset, or an end of the stream, in the middle of anything leaves nothing behind."""
    for reset in (True, False):
        async with await daemon.connect() as client:
            await client.subscribe("prices:BTC/USDT")
            await client.write(frame(b'{"type":"ping"}' * 5)[:cut])
            if reset:
                client.reset()
            else:
                client.sock.shutdown(1)
                await client.ended()
        await eventually(lambda: len(daemon.sessions) == 1)
    assert {a.key.wants for a in daemon.hub.audiences} == {frozenset({"prices"})}


async def test_commands_within_the_burst(serve):
    """As many as the burst allows are answered; the next is `rate_limited` and counted."""
    daemon = await serve(max_commands_per_s=0.001, command_burst=5)
    async with await daemon.connect() as client, await daemon.connect() as other:
        for _ in range(5):
            assert (await client.ask({"type": "ping"}))["type"] == "pong"
        assert (await client.ask({"type": "ping"}))["code"] == "rate_limited"
        assert daemon.counters.refused["rate_limited"] == 1
        assert daemon.counters.read_pauses == 1
        await other.pinged()


async def test_commands_are_earned_with_time(serve):
    """Who waits may go on; refused ones cost nothing more."""
    daemon = await serve(max_commands_per_s=1, command_burst=2)
    now = [100.0]
    daemon.sessions.now = lambda: now[0]
    async with await daemon.connect() as client:

        async def ping() -> str:
            answer = await client.ask({"type": "ping"})
            return str(answer.get("code", answer["type"]))

        assert [await ping() for _ in range(3)] == ["pong", "pong", "rate_limited"]
        now[0] += 1
        assert [await ping() for _ in range(2)] == ["pong", "rate_limited"]
        now[0] += 1000
        assert [await ping() for _ in range(3)] == ["pong", "pong", "rate_limited"]


async def test_commands_that_name_much_count_more(serve):
    """One more for each 4096 bytes, and for each 100 subscriptions that the session has."""
    daemon = await serve(max_commands_per_s=0.001, command_burst=11)
    daemon.channel.instruments |= {f"{n}/USDT" for n in range(300)}
    async with await daemon.connect() as client:

        async def ping(**more: str) -> str:
            answer = await client.ask({"type": "ping", **more})
            return str(answer.get("code", answer["type"]))

        names = [f"prices:{n}/USDT" for n in range(300)]
        assert len(json.dumps(names)) // 4096 == 1
        # 2, of 11.
        await client.ask({"type": "subscribe", "channels": names})
        # 4 each, of the 9 that are left.
        assert [await ping() for _ in range(3)] == ["pong", "pong", "rate_limited"]
    async with await daemon.connect() as client:
        # 2 of 11; then there is room for four.
        assert await ping(x="y" * 5000) == "bad_command"
        await client.ask({"type": "subscribe", "channels": names[:200]})
        assert [await ping() for _ in range(4)] == ["pong", "pong", "rate_limited", "rate_limited"]


async def test_command_that_counts_for_more_than_the_burst(serve):
    """It is let through when nothing is spent: else it never would be."""
    daemon = await serve(max_commands_per_s=1, command_burst=2)
    now = [100.0]
    daemon.sessions.now = lambda: now[0]
    async with await daemon.connect() as client:
        done, refused = "bad_command", "rate_limited"
        for now[0], expected in ((100, done), (104.9, refused), (105, done)):
            assert (await client.ask({"type": "x" * 20_000}))["code"] == expected


async def test_flood_of_commands(daemon, witness):
    """All are answered or refused, many by one refusal; the flooder is read from more slowly."""
    async with await daemon.connect() as client:
        count, told = 2000, 0
        answers = []
        async with asyncio.TaskGroup() as group:
            group.create_task(client.write(frame(b'{"type":"ping"}') * count))
            while told < count:
                answers.append(await client.receive())
                told += answers[-1].get("dropped", 1)
        assert told == count
        kinds = [answer.get("code", answer["type"]) for answer in answers]
        assert kinds[:60] == ["pong"] * 60
        assert set(kinds) == {"pong", "rate_limited"}
        assert len(answers) < count / 4
        assert daemon.counters.refused["rate_limited"] == count - kinds.count("pong")
        assert daemon.counters.read_pauses


async def test_flood_of_pings(daemon, witness):
    """The last of those that came together is answered, and the flooder is read more slowly."""
    async with await daemon.connect() as client:
        pings = b"".join(frame(b"%d" % i, PING) for i in range(5000))
        async with asyncio.TaskGroup() as group:
            group.create_task(client.write(pings))
            while True:
                opcode, payload = await client.receive_frame()
                assert opcode == PONG
                if payload == b"4999":
                    break
        assert daemon.counters.read_pauses
        await client.pinged()


async def test_flooder_that_goes(daemon, witness):
    """A pause in the reading does not outlive the connection."""
    async with await daemon.connect() as client:
        await client.write(frame(b"", PONG) * 2000)
        await eventually(lambda: daemon.counters.read_pauses)
        client.reset()
    await eventually(lambda: len(daemon.sessions) == 1)
    await eventually(lambda: not daemon.sessions._timers)


async def test_ten_thousand_empty_fragments(daemon, witness):
    """They cost no memory and end as one message."""
    async with await daemon.connect() as client:
        await client.write(frame(b"", fin=False) + frame(b"", CONTINUATION, fin=False) * 10_000)
        await client.write(frame(b'{"type":"ping"}', CONTINUATION))
        assert (await client.receive())["type"] == "pong"


async def test_limit_of_subscriptions(serve):
    """One too many is refused as a whole, with the id; what there was stays."""
    daemon = await serve(max_subscriptions=2)
    async with await daemon.connect() as client:
        await client.subscribe("prices", "others")
        command = {"type": "subscribe", "channels": ["system"], "id": 9}
        answer = await client.ask(command)
        assert (answer["code"], answer["id"]) == ("too_many_subscriptions", 9)
        await client.subscribe("prices", "others")
        await client.send({"type": "unsubscribe", "channels": ["others"]})
        await client.until(type="unsubscribed")
        await client.subscribe("system")
    async with await daemon.connect("/ws/ticker") as client:
        for symbol in ("BTC/USDT", "ETH/USDT"):
            answer = await client.ask({"action": "subscribe", "symbol": symbol})
            assert answer["status"] == "subscribed"
        answer = await client.ask({"action": "subscribe", "symbol": "NEW/COIN"})
        assert answer["code"] == "too_many_subscriptions"


async def test_answers_to_unknown_channels_are_bounded(serve):
    """A command of many unknown channels costs little: one refusal, however many they are."""
    daemon = await serve()
    names = [f"c{i}" for i in range(7_000)]
    async with await daemon.connect() as client:
        await client.send({"type": "subscribe", "channels": names})
        assert (await client.receive())["code"] == "too_many_subscriptions"
        await client.pinged()


async def test_message_is_gone_for_the_closed(daemon, witness):
    """A client that has been told to go gets no message behind the close."""
    async with await daemon.connect() as client:
        await client.subscribe("prices:ETH/USDT", "others")
        await client.write(frame(b"x", BINARY))
        await eventually(lambda: daemon.counters.protocol_errors)
        daemon.publish(7, channel=daemon.other)
        daemon.publish(7)
        await witness.receive()
        with pytest.raises(Gone):
            await client.receive()
        await client.ended()
        assert not client.buffer


async def test_opcode_text_only(daemon):
    """What the server sends are text frames, each one JSON object."""
    async with await daemon.connect() as client:
        await client.send({"type": "ping"})
        opcode, payload = await client.receive_frame()
        assert opcode == TEXT
        assert json.loads(payload)["type"] == "pong"
