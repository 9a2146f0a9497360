"""Clients that do not read as fast as messages come: conflation, bounds, order, steady readers."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import Any

import pytest
from gateway.wsclient import CLOSE, Client, Gone, Raw, eventually

PAD = b'"%b"' % (b"x" * 30_000)


async def stall(daemon, channel, *instruments: str) -> int:
    """Publish until some session lags; return how many were published."""
    count = 0
    while not daemon.sessions.lagging:
        for instrument in instruments:
            daemon.publish(count, instrument, channel, PAD)
            count += 1
        daemon.hub.flush()
        await asyncio.sleep(0)
    return count


def conflated(messages: list[dict[str, Any]]) -> int:
    return sum(message.get("conflated", 0) for message in messages)


async def test_conflation(daemon):
    """Newest values with the number they stand for, numbers never back, nothing unaccounted."""
    names = ("BTC/USDT", "ETH/USDT")
    async with (
        await daemon.connect(receive_buffer=4096) as slow,
        await daemon.connect() as quick,
    ):
        await slow.subscribe("prices")
        await quick.subscribe("others")
        count = await stall(daemon, daemon.channel, *names)
        for i in range(500):
            for name in names:
                daemon.publish(f"{i}.50", name)
                count += 1
            if i % 100 == 0:
                daemon.publish(i, channel=daemon.other)
                await quick.receive()
        (session,) = daemon.sessions.lagging
        assert session.held < 1_000_000
        assert daemon.channel.seq == count
        messages = await slow.until(seq=count)
        assert [m["seq"] for m in messages] == sorted(m["seq"] for m in messages)
        assert len(messages) + conflated(messages) == count
        assert messages[-2]["conflated"] > 400
        assert [m["price"] for m in messages[-2:]] == [499.5, 499.5]
        await eventually(lambda: not daemon.sessions.lagging)
        assert daemon.counters.folded == conflated(messages)
        daemon.publish(7)
        message = await slow.receive()
        assert message["seq"] == count + 1
        assert "conflated" not in message


async def test_never_reading_client_costs_little(daemon):
    """However much is published, what waits is one frame per instrument: it is not even closed."""
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        await stall(daemon, daemon.channel, "BTC/USDT")
        (session,) = daemon.sessions.lagging
        held = session.held
        for i in range(20_000):
            daemon.publish(i)
        assert session.held == held
        assert len(session._outbox) == 1
        daemon.sessions.close_slow()
        assert not daemon.counters.closed


async def broadcast(daemon, times: int, size: int) -> None:
    body = json.dumps({"message": "x" * size}).encode()
    head = (
        "POST /ws/test HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    async with await Raw.open(daemon.port) as http:
        for _ in range(times):
            await http.write(head.encode() + body)
            assert (await http.response())[0] == 200


@pytest.mark.parametrize(
    ("limit", "slow_after_s"), [(200_000, 0.05), (20_000, 1000.0)], ids=["for a while", "at once"]
)
async def test_flood_of_what_cannot_be_conflated(serve, limit, slow_after_s):
    """Over `max_buffered_bytes` for `slow_after_s`, or twice over it, is 4008; others go on."""
    daemon = await serve(max_buffered_bytes=limit, slow_after_s=slow_after_s, pong_timeout_s=0.2)
    async with await daemon.connect(receive_buffer=4096) as slow, await daemon.connect() as quick:
        await slow.subscribe("prices:BTC/USDT")
        await quick.subscribe("others")
        await stall(daemon, daemon.channel, "BTC/USDT")

        async def read() -> int:
            count = 0
            while count < 10:
                count += (await quick.receive())["type"] == "test_message"
            return count

        reading = asyncio.create_task(read())
        await broadcast(daemon, 10, 30_000)
        assert await reading == 10
        await eventually(lambda: daemon.counters.closed[4008])
        code = 0
        while not code:
            opcode, payload = await slow.receive_frame()
            code = int.from_bytes(payload[:2]) if opcode == CLOSE else 0
        assert code == 4008
        assert payload[2:] == b"slow consumer"
        assert not daemon.hub._outboxes
        daemon.publish(1, channel=daemon.other)
        assert (await quick.receive())["seq"] == 1


async def test_a_while_over_the_limit_is_forgiven(daemon):
    """The time over the limit counts anew after a moment below it, from whatever clock reading."""
    config = daemon.config
    now = 0.0
    daemon.sessions.now = lambda: now
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        await stall(daemon, daemon.channel, "BTC/USDT")
        (session,) = daemon.sessions.lagging
        outbox = session._outbox
        for now, held in ((0.0, 1), (4.9, 0), (5.0, 1), (9.9, 1)):  # noqa: B007 - the lambda does
            outbox.held = held * (config.max_buffered_bytes + 1)
            daemon.sessions.close_slow()
            assert not session._closing
        now = 10.0
        daemon.sessions.close_slow()
        assert daemon.counters.closed == {4008: 1}


async def test_time_over_the_limit_from_a_clock_at_zero(daemon):
    """A monotonic clock may well start at zero."""
    now = 0.0
    daemon.sessions.now = lambda: now
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        await stall(daemon, daemon.channel, "BTC/USDT")
        (session,) = daemon.sessions.lagging
        session._outbox.held = daemon.config.max_buffered_bytes + 1
        for now in (0.0, 5.0):  # noqa: B007 - the lambda does
            daemon.sessions.close_slow()
        assert daemon.counters.closed == {4008: 1}


@pytest.mark.parametrize(("instruments", "size"), [(5_000, 600), (400, 50_000)])
async def test_large_snapshot_reaches_a_slow_but_steady_reader(serve, instruments, size):
    """Far larger than all buffers and limits, it comes whole, with no loss and no close."""
    daemon = await serve(heartbeat_s=0.2, pong_timeout_s=0.5, max_buffered_bytes=1_000_000)
    channel = daemon.hub.add_channel("big", "venue", [])
    pad = b'"%b"' % (b"x" * (size - 200))
    for i in range(instruments):
        daemon.publish(i, f"I{i}/X", channel, pad)
    async with await Client.connect(daemon.port, receive_buffer=65_536) as client:
        await client.send({"type": "subscribe", "channels": ["big"]})
        messages = []
        while len(messages) <= instruments:
            messages.append(await client.receive())
        assert messages[0]["type"] == "subscribed"
        assert [m["seq"] for m in messages[1:]] == list(range(1, instruments + 1))
        assert not conflated(messages)
        await client.pinged()
        assert not daemon.counters.closed


async def test_commands_while_lagging(daemon):
    """Acknowledgement, snapshot, later messages in this order, and nothing of what is dropped."""
    daemon.publish(1, channel=daemon.other)
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices", "heartbeat")
        await stall(daemon, daemon.channel, "BTC/USDT", "ETH/USDT")
        before = daemon.channel.seq
        (session,) = daemon.sessions.lagging

        async def command(kind: str, channels: list[str], id_: int) -> None:
            count = daemon.counters.commands.total()
            await slow.send({"type": kind, "channels": channels, "id": id_})
            await eventually(lambda: daemon.counters.commands.total() > count)
            assert session.lagging

        daemon.publish(2)
        await command("subscribe", ["others"], 1)
        daemon.publish(3, channel=daemon.other)
        await command("unsubscribe", ["prices"], 2)
        daemon.publish(4)
        daemon.publish(5, channel=daemon.other)
        await command("subscribe", ["prices:ETH/USDT"], 3)
        await command("unsubscribe", ["nothing"], 4)
        daemon.publish(6, "ETH/USDT")
        messages = await slow.until(seq=daemon.channel.seq)
        at = {m["id"]: i for i, m in enumerate(messages) if "id" in m}
        assert sorted(at, key=at.__getitem__) == [1, 2, 3, 4]
        for i, message in enumerate(messages):
            if message.get("channel") == "prices":
                # What was already in the transport, or what was subscribed anew.
                assert message["seq"] <= before or (i > at[3] and message["price"] == 6)
                assert not at[2] < i < at[3]
            elif message.get("channel") == "others":
                assert i > at[1]
        last = [m for m in messages if m.get("channel") == "others"][-1]
        assert (last["price"], last["conflated"]) == (5, 1)
        await eventually(lambda: not session.lagging)
        assert session._wants == {"others", "heartbeat", "prices:ETH/USDT"}


async def test_sequence_while_stalling_and_catching_up(daemon):
    """A client that stalls time and again: per channel numbers rise, and nothing is unaccounted."""
    async with await daemon.connect(receive_buffer=8192) as client:
        await client.subscribe("prices", "others", "all")
        published = {"prices": 0, "others": 0, "all": 0}
        channels = daemon.hub.channels
        received: dict[str, list[dict[str, Any]]] = defaultdict(list)

        async def read(until: dict[str, int]) -> None:
            while any((received[c] or [{"seq": 0}])[-1]["seq"] < n for c, n in until.items()):
                message = await client.receive()
                received[message["channel"]].append(message)

        for turn in range(4):
            for i in range(60):
                name = ("prices", "others", "all")[(i * 7 + turn) % 3]
                daemon.publish(i, f"I{i % 5}/X", channels[name], PAD)
                published[name] += 1
                daemon.hub.flush()
                await asyncio.sleep(0)
            await read(published)
        for name, messages in received.items():
            seqs = [m["seq"] for m in messages]
            assert seqs == sorted(set(seqs))
            assert len(messages) + conflated(messages) == published[name]
        await eventually(lambda: not daemon.sessions.lagging)
        assert daemon.counters.folded == sum(conflated(m) for m in received.values())
        assert daemon.counters.folded


async def test_lagging_client_that_goes(daemon):
    """Nothing of it stays, whether it resets or is closed."""
    for closed in (True, False):
        async with await daemon.connect(receive_buffer=4096) as slow:
            await slow.subscribe("prices")
            await stall(daemon, daemon.channel, "BTC/USDT")
            (session,) = daemon.sessions.lagging
            if closed:
                session.close(4008, "x")
                session.resume_writing()
                assert not session.lagging
            slow.reset()
        await eventually(lambda: not len(daemon.sessions))
        assert not daemon.sessions.lagging
        assert not daemon.hub._outboxes
        assert not len(daemon.hub.audiences)


async def test_stalled_client_is_given_up_on(serve):
    """One that lags and reads nothing is closed with 4010, and then cut off."""
    daemon = await serve(heartbeat_s=0.1, pong_timeout_s=0.2, stalled_after_s=0.3)
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("prices")
        await stall(daemon, daemon.channel, "BTC/USDT")
        await eventually(lambda: daemon.counters.closed[4010])
        with pytest.raises(Gone):
            await slow.until(type="never")
