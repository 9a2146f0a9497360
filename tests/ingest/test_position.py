"""What is newer than what was published, as read from the message itself."""

from __future__ import annotations

import pytest

from aggregator.channel import Message
from aggregator.hub import Hub
from aggregator.ingest.position import Relation, position, published, relation
from aggregator.model import (
    BookUpdate,
    Candle,
    Event,
    Gap,
    PriceUpdate,
    State,
    SystemStatus,
    TradeExecuted,
)

OLDER, SAME, ALIKE = Relation.OLDER, Relation.SAME, Relation.ALIKE
UNTOLD, NEWER = Relation.UNTOLD, Relation.NEWER


def price(text: str = "1.50", us: int | None = 5, data: bytes = b"{}", **more) -> PriceUpdate:
    return PriceUpdate("X/Y", text, data, us, **more)


def trade(name: str, us: int | None = 5, **more) -> TradeExecuted:
    fields = {"side": "buy", "price": "1", "quantity": "1", "cost": "1", **more}
    return TradeExecuted(instrument="X/Y", id=name, exchange_us=us, **fields)


def book(sequence: int | None, us: int | None = 5) -> BookUpdate:
    return BookUpdate(
        instrument="X/Y", bids=[("1", "2")], asks=[], whole=True, sequence=sequence, exchange_us=us
    )


def candle(start_us: int, close: str = "1", **more) -> Candle:
    fields = {"interval": "1m", "open": "1", "high": "1", "low": "1", **more}
    return Candle(instrument="X/Y", start_us=start_us, close=close, **fields)


def last(event: Event) -> Message:
    """Publish an event, and return what a channel keeps of it."""
    hub = Hub()
    channel = hub.add_channel("c", "venue")
    hub.publish(channel, event, 1000)
    return channel.slots["X/Y"].last


@pytest.mark.parametrize(
    "event",
    [
        price(),
        price(us=None),
        price("1e-8", bid="1.0", ask="2", volume_24h="3", change_24h_pct="-1.5"),
        price(bid="", ask="+1", volume_24h=None),
        price(data=b'{"last":"1.50","x":[1,2.0,"\\u00e9"]}'),
        trade("12"),
        trade("0012"),
        trade("a-b", None),
        trade("9" * 5000),
        book(7),
        candle(60, volume="2", closed=True),
    ],
    ids=str,
)
def test_what_was_published_is_recognised(event):
    """An event has the position of its own message; so it is the same again."""
    assert published(last(event)) == position(event)
    assert relation(position(event), published(last(event))) is SAME


@pytest.mark.parametrize(
    ("event", "before", "expected"),
    [
        (price(us=6), price(us=5), NEWER),
        (price(us=4), price(us=5), OLDER),
        (price("2"), price("1"), ALIKE),
        (price(data=b"[1]"), price(data=b"[2]"), ALIKE),
        (price(bid="1"), price(bid="2"), ALIKE),
        (price("2", us=None), price("1"), UNTOLD),
        (price("2"), price("1", us=None), UNTOLD),
        (price("1", us=None), price("1", us=None), SAME),
        (price("1", us=None), price("1"), SAME),
        (trade("10"), trade("9"), NEWER),
        (trade("9"), trade("10"), OLDER),
        (trade("9", backfilled=True), trade("9", price="2"), SAME),
        (trade("b"), trade("a"), NEWER),
        (trade("5"), trade("a"), NEWER),
        (book(8), book(7), NEWER),
        (book(7), book(7), SAME),
        (book(6), book(7), OLDER),
        (book(None), book(7), NEWER),
        (book(None), book(None), NEWER),
        (candle(120), candle(60), NEWER),
        (candle(60, "2"), candle(60, "1"), NEWER),
        (candle(60), candle(120), OLDER),
        (trade("1"), price(), NEWER),
    ],
    ids=str,
)
def test_what_is_newer(event, before, expected):
    """By time, id, sequence or beginning; where these are equal by content; else it is not told."""
    assert relation(position(event), published(last(before))) is expected


@pytest.mark.parametrize("event", [trade, book])
def test_a_venue_that_begins_to_count_anew(event):
    """A lower number that is later by more than a second is newer; without both times it is not."""
    before = published(last(event("7" if event is trade else 7, 5_000_000)))
    low = "3" if event is trade else 3
    assert relation(position(event(low, 6_000_000)), before) is OLDER
    assert relation(position(event(low, 6_000_001)), before) is NEWER
    assert relation(position(event(low, None)), before) is OLDER


def test_without_a_position():
    """A gap has none, and is news; so is whatever comes first of an instrument."""
    gap = position(Gap(instrument="X/Y", data={}))
    assert gap is None
    assert relation(gap, position(trade("1"))) is NEWER
    assert relation(position(trade("1")), None) is NEWER
    assert published(status()) is None


def status() -> Message:
    hub = Hub()
    event = SystemStatus(feed="f", state=State.LIVE, since_us=1, reason="r")
    hub.publish(hub.system, event, 1)
    return hub.system.slots["f"].last


def test_only_trades_have_ids():
    """As the venue writes them, since a connector asks the venue for what follows one."""
    assert published(last(trade("0012"))).id == "0012"
    assert published(last(price())).id is None
