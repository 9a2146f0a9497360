"""What happens to messages that are not taken as fast as they come."""

import asyncio
import json
from decimal import Decimal

import msgspec
import pytest
from client.daemons import PATIENCE_S, price, reached

from aggregator.client.buffer import KINDS, Text
from aggregator.client.counters import Counters
from aggregator.messages import AnyMessage, Gap, OrderbookUpdate, TestMessage

decode = msgspec.json.Decoder(AnyMessage).decode


def message(seq, instrument="BTC/USDT", channel="btc", **fields):
    return decode(json.dumps(price(seq, instrument, channel, **fields)))


def trade(seq):
    data = {"id": "1", "side": "buy", "price": "1", "quantity": "1", "cost": "1"}
    raw = price(seq) | {"type": "trade_executed", "data": data}
    del raw["price"]
    return decode(json.dumps(raw))


def book(seq, action, bids, asks=(), **fields):
    raw = price(seq, **fields) | {"type": "orderbook_update", "action": action}
    del raw["price"]
    return decode(json.dumps(raw | {"data": {"bids": bids, "asks": list(asks), "sequence": seq}}))


def status(seq, state, feed="btc"):
    data = {"feed": feed, "instrument": None, "state": state, "since_us": 1, "reason": "why"}
    raw = {"type": "system_status", "channel": "system", "seq": seq, "data": data}
    return decode(json.dumps(raw | {"timestamp": "2026-11-20T07:48:07Z"}))


@pytest.fixture
def make():
    """Return a function that makes a buffer."""

    def make(policy, limit):
        return KINDS[policy](limit, Counters())

    return make


def rest(buffer):
    return [buffer.pop() for _ in range(len(buffer))]


def test_block_is_full_until_half_is_taken(make):
    """So that reading does not start and stop with each message."""
    buffer = make("block", 4)
    states = []
    for seq in range(4):
        states.append(buffer.full)
        buffer.put(message(seq))
    assert states == [False] * 4
    assert buffer.full
    buffer.pop()
    assert buffer.full
    buffer.pop()
    assert not buffer.full


def test_drop_oldest_says_what_is_lost(make):
    """One gap a channel, before what is left of it."""
    buffer = make("drop_oldest", 2)
    for seq in (1, 2):
        buffer.put(message(seq))
        buffer.put(message(seq + 7, channel="eth"))
    buffer.put(message(3))
    buffer.put(message(4))
    assert not buffer.full
    first, second, *left = rest(buffer)
    assert {(g.channel, g.reason, g.from_seq, g.to_seq) for g in (first, second)} == {
        ("btc", "buffer", 1, 2),
        ("eth", "buffer", 8, 9),
    }
    assert first.data["messages"] == 2
    assert [(m.channel, m.seq) for m in left] == [("btc", 3), ("btc", 4)]


def test_a_lost_gap_is_part_of_the_gap(make):
    """What it told of is lost all the same."""
    buffer = make("drop_oldest", 1)
    gap = {"channel": "btc", "reason": "history", "timestamp": message(1).timestamp}
    buffer.put(Gap(**gap, from_seq=3, to_seq=7))
    buffer.put(message(8))
    buffer.put(message(9))
    gap, last = rest(buffer)
    assert (gap.from_seq, gap.to_seq, last.seq) == (3, 8, 9)


def test_text_can_be_dropped(make):
    """The gap knows its numbers."""
    buffer = make("drop_oldest", 1)
    buffer.put(Text(b"{}", message(1)))
    buffer.put(Text(b"?", None))
    buffer.put(Text(b"{}", message(2)))
    gap, last = rest(buffer)
    assert (gap.from_seq, gap.to_seq) == (1, 1)
    assert last.message.seq == 2


def test_conflate_keeps_the_newest_of_each(make):
    """It says how many it stands for; numbers never go back."""
    buffer = make("conflate", 2)
    for seq, instrument in enumerate(["BTC/USDT", "ETH/USDT", "BTC/USDT", "BTC/USDT"], 1):
        buffer.put(message(seq, instrument, conflated=5 if seq == 3 else 0))
    buffer.put(status(1, "late"))
    buffer.put(status(2, "stale"))
    found = rest(buffer)
    assert [(m.seq, m.conflated) for m in found] == [(2, 0), (4, 7), (2, 1)]
    assert found[2].data.state == "stale"


def test_conflate_keeps_what_nothing_replaces(make):
    """Trades, up to the limit; then the oldest of them become a gap."""
    buffer = make("conflate", 2)
    for seq in range(1, 5):
        buffer.put(trade(seq))
    buffer.put(message(5))
    gap, *left = rest(buffer)
    assert (gap.reason, gap.from_seq, gap.to_seq) == ("buffer", 1, 2)
    assert [m.seq for m in left] == [3, 4, 5]
    buffer.put(trade(6))
    assert [m.seq for m in rest(buffer)] == [6]


def test_a_conflated_book_is_exact(make):
    """Changes are put together; behind a snapshot they become part of it."""
    buffer = make("conflate", 10)
    buffer.put(book(1, "delta", [["9", "1"], ["8", "2"]], [["10", "1"]]))
    buffer.put(book(2, "delta", [["9.0", "0"]], [["11", "3"]]))
    [change] = rest(buffer)
    assert isinstance(change, OrderbookUpdate)
    assert (change.action, change.seq, change.conflated) == ("delta", 2, 1)
    assert {(b.price, b.size) for b in change.data.bids} == {(Decimal(9), 0), (Decimal(8), 2)}
    assert [(a.price, a.size) for a in change.data.asks] == [(10, 1), (11, 3)]
    buffer.put(book(3, "snapshot", [["9", "1"], ["8", "2"]], [["10", "1"]]))
    buffer.put(book(4, "delta", [["9", "0"], ["8.5", "7"]], [["9.9", "1"]]))
    [whole] = rest(buffer)
    assert (whole.action, whole.seq, whole.data.sequence) == ("snapshot", 4, 4)
    assert [(b.price, b.size) for b in whole.data.bids] == [(Decimal("8.5"), 7), (8, 2)]
    assert [str(a.price) for a in whole.data.asks] == ["9.9", "10"]
    buffer.put(book(5, "delta", [["9", "0"]]))
    buffer.put(book(6, "snapshot", [["7", "1"]]))
    [whole] = rest(buffer)
    assert [str(b.price) for b in whole.data.bids] == ["7"]


async def test_block_stops_reading_and_loses_nothing(daemon, open_client):
    """The daemon sees a slow client, until messages are taken again."""
    client = await open_client(buffer=10)
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    [buffer] = [s.own for s in client.readers.subscriptions] if client else []
    first = asyncio.create_task(anext(messages))
    total = 400
    sending = asyncio.create_task(send(daemon, total))
    found = [(await first).seq]
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(buffer) <= 10
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < total:
            found.append((await anext(messages)).seq)
    await sending
    assert found == list(range(1, total + 1))


async def send(daemon, number):
    for _ in range(number):
        await daemon.publish()


async def test_drop_oldest_goes_on_reading(daemon, open_client):
    """The newest are there, and before them the gap."""
    client = await open_client(policy="drop_oldest", buffer=5)
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    assert await publish_and_take(daemon, messages) == 1
    for _ in range(20):
        await daemon.publish()
    await reached(lambda: client.counters.messages >= 21)
    gap = await anext(messages)
    assert (gap.reason, gap.from_seq, gap.to_seq) == ("buffer", 2, 16)
    assert [(await anext(messages)).seq for _ in range(5)] == list(range(17, 22))
    assert (client.counters.dropped, client.counters.gaps) == (15, 1)


async def publish_and_take(daemon, messages):
    await daemon.publish()
    return (await anext(messages)).seq


async def test_each_subscription_has_its_policy(daemon, open_client):
    """What one drops the other conflates."""
    client = await open_client()
    one = aiter(client.subscribe("btc", policy="conflate"))
    other = aiter(client.subscribe("eth", policy="drop_oldest", buffer=1))
    both = [asyncio.create_task(anext(each)) for each in (one, other)]
    await daemon.until(lambda: sum(map(len, daemon.wants.values())) == 2)
    for channel in ("btc", "eth"):
        await daemon.publish(channel)
    await asyncio.gather(*both)
    for channel in ("btc", "eth"):
        for _ in range(3):
            await daemon.publish(channel)
    await reached(lambda: client.counters.messages >= 8)
    newest = await anext(one)
    assert (newest.seq, newest.conflated) == (4, 2)
    assert (await anext(other)).reason == "buffer"
    assert client.counters.folded == 2


def test_what_has_no_key_can_be_dropped_without_a_gap(make):
    """An operator's words are of no channel."""
    buffer = make("drop_oldest", 1)
    words = TestMessage(message="x", timestamp=message(1).timestamp)
    buffer.put(words)
    buffer.put(words)
    assert rest(buffer) == [words]
