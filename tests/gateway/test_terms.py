"""Clients that want less, and what slow ones lose: over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway.wsclient import Client, eventually

from aggregator.model import Heartbeat

PAD = b'"%b"' % (b"x" * 30_000)


async def subscribe(client: Client, *channels: str, **terms: object) -> dict[str, object]:
    return await client.ask({"type": "subscribe", "channels": channels, **terms})


async def test_latest_at_a_rate(daemon):
    """The first at once, then the latest; every value that is last is sent, and none twice."""
    async with await daemon.connect() as client, await daemon.connect() as whole:
        answer = await subscribe(client, "prices", max_hz=20)
        assert answer["max_hz"] == 20
        await whole.subscribe("prices")
        loop = asyncio.get_running_loop()
        start = loop.time()
        for i in range(1, 301):
            daemon.publish(i, ["BTC/USDT", "ETH/USDT"][i % 2])
            # The other client paces the publishing: in all it takes some intervals.
            await whole.receive()
            await asyncio.sleep(0.001)
        messages = await client.until(seq=300)
        seconds = loop.time() - start
        seqs = [message["seq"] for message in messages]
        assert seqs == sorted(set(seqs))
        assert seqs[0] == 1
        assert 300 in seqs
        assert 299 in seqs
        assert len(seqs) <= 2 * (20 * seconds + 2)
        assert not any("conflated" in message for message in messages)
        assert daemon.hub.skipped == 300 - len(seqs)


async def test_other_commands_do_not_set_the_pace(daemon):
    """What is subscribed to besides makes the latest come neither sooner nor again."""
    async with await daemon.connect() as client:
        await subscribe(client, "prices", max_hz=0.001)
        daemon.publish(1)
        assert (await client.receive())["seq"] == 1
        for _ in range(5):
            daemon.publish(2)
            await subscribe(client, "others")
        await client.pinged()
        # Subscribing again does, since it sends the snapshot.
        await subscribe(client, "prices", max_hz=0.001)
        assert (await client.receive())["age_us"] >= 0
        await client.pinged()


async def test_without_payload(daemon):
    """All but `data`, in the snapshot, live, and with a rate; another subscription keeps it."""
    daemon.publish(1)
    async with await daemon.connect() as client:
        answer = await subscribe(client, "prices", raw=False)
        assert answer["raw"] is False
        messages = [await client.receive()]
        daemon.publish(2)
        messages.append(await client.receive())
        await subscribe(client, "prices", raw=False, max_hz=1000)
        messages.append(await client.receive())
        daemon.publish(3)
        messages.append(await client.receive())
        assert [(m["seq"], m["price"]) for m in messages] == [(1, 1), (2, 2), (2, 2), (3, 3)]
        assert not any("data" in message for message in messages)
        await subscribe(client, "prices:BTC/USDT")
        assert "data" in await client.receive()
        daemon.publish(4)
        assert "data" in await client.receive()


async def test_everybody_hears_a_broadcast_once(daemon):
    """Whatever a client asked for, in however many parts, it gets a test message once."""
    async with await daemon.connect() as client:
        await subscribe(client, "prices", raw=False)
        await subscribe(client, "others", max_hz=5)
        await subscribe(client, "all")
        await subscribe(client, "heartbeat", max_hz=9, raw=False)
        assert daemon.sessions.broadcast("hello") == 1
        assert (await client.receive())["message"] == "hello"
        await client.pinged()


async def test_unsubscribe_while_a_value_waits(daemon):
    """Nothing of it follows the acknowledgement; what stays is still delivered."""
    async with await daemon.connect() as client:
        await subscribe(client, "prices", "others", max_hz=0.01)
        daemon.publish(1)
        daemon.publish(1, channel=daemon.other)
        await client.receive()
        await client.receive()
        daemon.publish(2)
        daemon.publish(2, channel=daemon.other)
        await client.send({"type": "unsubscribe", "channels": ["prices"]})
        message = await client.receive()
        assert (message["channel"], message["seq"]) == ("others", 2)
        assert (await client.receive())["type"] == "unsubscribed"
        await client.pinged()


async def test_terms_are_those_of_the_last_command(daemon):
    """To subscribe again replaces them; without any, it is every message again."""
    async with await daemon.connect() as client:
        await subscribe(client, "prices", max_hz=0.001, raw=False)
        answer = await subscribe(client, "prices")
        assert "max_hz" not in answer
        assert "raw" not in answer
        for i in range(1, 10):
            daemon.publish(i)
            message = await client.receive()
            assert (message["seq"], "data" in message) == (i, True)
        assert not len(daemon.hub.paced)


@pytest.mark.parametrize(
    "terms",
    [
        {"max_hz": 0},
        {"max_hz": -1},
        {"max_hz": 1001},
        {"max_hz": "2"},
        {"max_hz": True},
        {"raw": 0},
        {"raw": "no"},
        {"raw": None},
    ],
)
async def test_nonsense(daemon, terms):
    """It is refused as a whole, by the name of the field."""
    async with await daemon.connect() as client:
        answer = await subscribe(client, "prices", **terms)
        assert (answer["type"], answer["code"]) == ("error", "bad_command")
        assert answer["message"].startswith(f"{next(iter(terms))}: ")
        assert not daemon.channel.listeners


async def test_slow_client_at_a_rate(daemon):
    """What it does not read is folded, and said; when it reads on, the last value comes."""
    async with await daemon.connect(receive_buffer=4096) as slow:
        await subscribe(slow, "prices", max_hz=1000)
        count = 0
        while not daemon.sessions.lagging:
            count += 1
            daemon.publish(count, data=PAD)
            await asyncio.sleep(0.002)
        for _ in range(20):
            count += 1
            daemon.publish(count, data=PAD)
            await asyncio.sleep(0.002)
        messages = await slow.until(seq=count)
        seqs = [message["seq"] for message in messages]
        assert seqs == sorted(set(seqs))
        folded = sum(message.get("conflated", 0) for message in messages)
        assert folded > 0
        assert len(seqs) + folded + daemon.hub.skipped == count
        await eventually(lambda: not daemon.sessions.lagging)


async def test_gap(serve):
    """Numbered messages that would have to wait beyond the bound are one `gap`; none is silent."""
    daemon = await serve(max_buffered_bytes=200_000, slow_after_s=1000)
    async with await daemon.connect(receive_buffer=4096) as slow:
        await slow.subscribe("heartbeat", "prices:BTC/USDT")
        while not daemon.sessions.lagging:
            daemon.publish(1, data=PAD)
            daemon.hub.flush()
        for _ in range(2000):
            daemon.hub.publish(daemon.hub.heartbeat, Heartbeat(), daemon.hub.now_us())
        (session,) = daemon.sessions.lagging
        assert session.held - session.unsent < 100_000
        daemon.sessions.close_slow()
        assert not daemon.counters.closed
        gaps, beats = [], []
        while not gaps:
            message = json.loads(await slow.receive_text())
            if message["type"] == "gap":
                gaps.append(message)
            elif message["type"] == "heartbeat":
                beats.append(message["seq"])
        (gap,) = gaps
        assert (gap["channel"], gap["instrument"], gap["reason"]) == (
            "heartbeat",
            None,
            "slow_consumer",
        )
        assert [*beats, *range(gap["from_seq"], gap["to_seq"] + 1)] == list(range(1, 2001))
        await eventually(lambda: not daemon.sessions.lagging)
        assert (daemon.counters.gaps, daemon.counters.lost) == (1, 2000 - len(beats))
        daemon.hub.publish(daemon.hub.heartbeat, Heartbeat(), daemon.hub.now_us())
        assert (await slow.receive())["seq"] == 2001
