"""Order books, trades, candles and gaps: what is sent, what a newcomer gets, what is kept."""

from __future__ import annotations

import json

import pytest

from aggregator import wire
from aggregator.audience import Key
from aggregator.channel import Message
from aggregator.gateway.outbox import Outbox
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Candle, Gap, Level, TradeExecuted
from aggregator.paced import PacedAudience
from aggregator.shape import WHOLE

NOW_NS = 1_765_211_445_123_456_789
ENVELOPE = {
    "channel": "c",
    "connector_id": "c",
    "exchange": "venue",
    "instrument": "X/Y",
    "received_us": 1000,
    "published_us": NOW_NS // 1000,
}


AGED = {"age_us": NOW_NS // 1000 - 1000, "stale": False}
"""What a message has besides as part of a snapshot."""


class Ear:
    """Keeps what it is offered."""

    size = 1

    def __init__(self) -> None:
        self.got: list[Message] = []

    def offer(self, message: Message) -> None:
        self.got.append(message)

    @property
    def messages(self) -> list[dict[str, object]]:
        return [json.loads(wire.payload_of(message.frame)) for message in self.got]


class Book:
    """A book of one level each side."""

    def __init__(self) -> None:
        self.bids: list[Level] = [Level("1.50", "2")]
        self.asks: list[Level] = [Level("1.60", "3")]

    def top(self) -> tuple[list[Level], list[Level]]:
        return self.bids, self.asks


class World:
    def __init__(self) -> None:
        self.hub = Hub(clock_ns=lambda: NOW_NS, epoch="e")
        self.channel = self.hub.add_channel("c", "venue", ["X/Y", "Z/Y"])
        self.ear, self.narrow = Ear(), Ear()
        self.hub.register(self.ear, frozenset({"c"}))
        self.hub.register(self.narrow, frozenset({"*:Z/Y"}))
        self.book = Book()

    def publish(self, event) -> None:
        self.hub.publish(self.channel, event, 1000)

    def update(self, size: str, *, whole: bool = False, instrument: str = "X/Y") -> None:
        self.book.bids = [Level("1.50", size)]
        asks = self.book.asks if whole else []
        event = BookUpdate(
            instrument=instrument,
            bids=self.book.bids,
            asks=asks,
            whole=whole,
            sequence=int(size),
            exchange_us=1_000_000,
            book=self.book,
        )
        self.publish(event)

    def snapshot(self, *wants: str) -> list[dict[str, object]]:
        found = self.hub.snapshot(wants or ["c"])
        return [json.loads(wire.payload_of(message.frame)) for message in found]


@pytest.fixture
def world() -> World:
    return World()


def test_orderbook_update(world):
    """The envelope, the venue's digits as text, its sequence, and what kind of update it is."""
    world.update("7", whole=True)
    world.publish(BookUpdate(instrument="X/Y", bids=[], asks=[Level("1.4", "0")], flag="crossed"))
    assert world.ear.messages == [
        {
            "type": "orderbook_update",
            "action": "snapshot",
            "data": {"bids": [["1.50", "7"]], "asks": [["1.60", "3"]], "sequence": 7},
            "timestamp": "1970-01-01T00:00:01.000Z",
            "seq": 1,
            "exchange_us": 1_000_000,
            **ENVELOPE,
        },
        {
            "type": "orderbook_update",
            "action": "delta",
            "data": {"bids": [], "asks": [["1.4", "0"]], "sequence": None, "flag": "crossed"},
            "timestamp": "1970-01-01T00:00:00.001Z",
            "seq": 2,
            "exchange_us": None,
            **ENVELOPE,
        },
    ]
    assert world.narrow.got == []


def test_newcomer_gets_the_whole_book(world):
    """A snapshot of the state after the last delta, with its number; made once for all."""
    world.update("1", whole=True)
    assert world.snapshot()[0] == world.ear.messages[0] | AGED
    world.update("2")
    world.update("3")
    (whole,) = world.snapshot("c:X/Y")
    assert (whole["action"], whole["seq"], whole["data"]["sequence"]) == ("snapshot", 3, 3)
    assert whole["data"]["bids"] == [["1.50", "3"]]
    assert whole["data"]["asks"] == [["1.60", "3"]]
    assert world.hub.snapshot(["c"])[0] is world.hub.snapshot(["*:X/Y"])[0]
    world.update("4")
    assert world.snapshot()[0]["seq"] == 4


def test_gap_takes_the_book_away(world):
    """After it nobody gets the old book; the next whole one is a book again."""
    world.update("1", whole=True)
    world.update("1", whole=True, instrument="Z/Y")
    world.publish(Gap(instrument="X/Y", data={"after": 1, "before": 9}))
    assert [m["instrument"] for m in world.snapshot()] == ["Z/Y"]
    gap = world.ear.messages[-1]
    assert gap == {
        "type": "gap",
        "channel": "c",
        "instrument": "X/Y",
        "from_seq": None,
        "to_seq": None,
        "reason": "upstream",
        "timestamp": "1970-01-01T00:00:00.001Z",
        "data": {"after": 1, "before": 9},
        "seq": 3,
    }
    assert [m["type"] for m in world.narrow.messages] == ["orderbook_update"]
    world.publish(Gap(instrument=None, data={}))
    assert world.snapshot() == []
    assert world.narrow.messages[-1]["type"] == "gap"
    world.update("5", whole=True)
    assert [m["seq"] for m in world.snapshot()] == [5]


def test_slow_client_gets_the_state_for_the_deltas(world):
    """One delta that waits is sent as it is; several become the state as it is when it is sent."""
    box = Outbox(10_000, lambda _: WHOLE, lambda: "now")
    world.hub.register(box, frozenset({"c"}))
    world.update("1", whole=True)
    assert json.loads(wire.payload_of(box.take(1)))["action"] == "snapshot"
    world.update("2")
    assert json.loads(wire.payload_of(box.take(1)))["action"] == "delta"
    for size in "345":
        world.update(size)
    folded = json.loads(wire.payload_of(box.take(1)))
    assert (folded["action"], folded["seq"], folded["conflated"]) == ("snapshot", 5, 2)
    assert folded["data"]["bids"] == [["1.50", "5"]]
    assert "age_us" not in folded


def test_gap_behind_changes_that_wait(world):
    """The state that they led to is sent before the gap, though nobody knows that book any more."""
    box = Outbox(10_000, lambda _: WHOLE, lambda: "now")
    world.hub.register(box, frozenset({"c"}))
    for size in "123":
        world.update(size, whole=size == "1")
    world.publish(Gap(instrument="X/Y", data={}))
    state, gap = (json.loads(wire.payload_of(box.take(1))) for _ in range(2))
    assert (state["action"], state["seq"], state["conflated"]) == ("snapshot", 3, 2)
    assert state["data"]["bids"] == [["1.50", "3"]]
    assert gap["type"] == "gap"
    world.update("5", whole=True)
    assert json.loads(wire.payload_of(box.take(1)))["seq"] == 5


def test_gap_behind_changes_that_are_paced(world):
    """So it is for who wants them less often."""
    key = Key(frozenset({"c"}), WHOLE, 1.0)
    audience = PacedAudience(key, lambda _audience: None, lambda _seconds, _call: None)
    world.hub.enter(audience, frozenset({"c"}))
    session = Ear()
    session.deliver = lambda messages, _data: session.got.extend(messages)
    audience.add(session)
    for size in "12":
        world.update(size, whole=size == "1")
    world.publish(Gap(instrument="X/Y", data={}))
    audience.flush()
    assert [(m["type"], m.get("action")) for m in session.messages] == [
        ("orderbook_update", "snapshot"),
        ("gap", None),
    ]
    assert session.messages[0]["data"]["bids"] == [["1.50", "2"]]


def test_trade(world):
    """The taker's side, exact digits, in order; the last one is what a newcomer gets."""
    for number in range(3):
        world.publish(
            TradeExecuted(
                instrument="X/Y",
                id=f"t{number}",
                side="sell",
                price="1.50",
                quantity="0.10",
                cost="0.1500",
                backfilled=number == 1,
            )
        )
    first, second, third = world.ear.messages
    assert first == {
        "type": "trade_executed",
        "data": {
            "id": "t0",
            "side": "sell",
            "price": "1.50",
            "quantity": "0.10",
            "cost": "0.1500",
        },
        "timestamp": "1970-01-01T00:00:00.001Z",
        "seq": 1,
        "exchange_us": None,
        **ENVELOPE,
    }
    assert second["backfilled"] is True
    assert all(message.slot is None for message in world.ear.got)
    assert world.snapshot() == [third | AGED]


def test_cost(world):
    """Left out, it is price times quantity, exactly; where one is no number nothing is sent."""

    def trade(price, quantity):
        return TradeExecuted(instrument="X/Y", id="1", side="buy", price=price, quantity=quantity)

    for bad in ("", "x", "1e999"):
        world.publish(trade("1.50", bad))
        world.publish(trade(bad, "1.50"))
    world.publish(trade("67012.50000000", "0.00012000"))
    [message] = world.ear.messages
    assert (message["seq"], message["data"]["cost"]) == (1, "8.0415")
    assert world.channel.unpriced == 6


def test_candle(world):
    """Its time is that of its beginning; a newer one takes its place."""
    event = Candle(
        instrument="X/Y", interval="1m", start_us=60_000_000, open="1", high="3", low="1", close="2"
    )
    world.publish(event)
    (message,) = world.ear.messages
    assert message["timestamp"] == "1970-01-01T00:01:00.000Z"
    assert message["data"] == {
        "interval": "1m",
        "start_us": 60_000_000,
        "open": "1",
        "high": "3",
        "low": "1",
        "close": "2",
        "volume": None,
        "closed": False,
    }
    assert world.ear.got[0].slot is not None
