"""What is said of an instrument is about that instrument, and nothing is made up."""

from __future__ import annotations

import pytest
from ingest.benches import running

from aggregator.book import Book
from aggregator.hub import Hub
from aggregator.ingest.why import Why
from aggregator.model import BookUpdate, Gap, Level, PriceUpdate, TradeExecuted
from aggregator.simulator import Simulator
from aggregator.simulator import okx_shapes as simulator_shapes

BAD = "DOGE-USDT"


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


class Bench:
    """A channel without a feed, and what is said of it."""

    def __init__(self, history=100):
        self.hub = Hub(history=history)
        self.channel = self.hub.add_channel("x", "okx", ["BTC/USDT", "ETH/USDT"])
        self.why = Why(self.hub, {}, {}, {}, lambda _name: None)

    def publish(self, *events):
        for event in events:
            self.hub.publish(self.channel, event, self.hub.now_us())

    def of(self, instrument):
        return self.why.explain(f"x:{instrument}")


def levels(*prices):
    return [Level(price, "1") for price in prices]


def whole(instrument, sequence):
    book = Book(levels("10", "9", "8"), levels("11", "12"), depth=2, sequence=sequence)
    bids, asks = book.top()
    return book, BookUpdate(
        instrument=instrument, bids=bids, asks=asks, whole=True, sequence=sequence, book=book
    )


def gap(instrument, cause="missing"):
    return Gap(instrument=instrument, data={"cause": cause, "after": 1, "before": 3})


def test_nothing_is_said_of_what_never_came():
    """No message, no loss and no book of another instrument is shown as this one's."""
    bench = Bench()
    bench.publish(PriceUpdate("BTC/USDT", "1", b"{}"), gap("BTC/USDT"))
    facts = bench.of("ETH/USDT")
    assert (facts["last_message"], facts["last_gap"], facts["book"]) == (None, None, None)
    assert bench.of("BTC/USDT")["last_message"]["seq"] == 1
    assert bench.of("BTC/USDT")["last_gap"]["instrument"] == "BTC/USDT"
    assert bench.why.explain("x")["last_gap"]["seq"] == 2


def test_a_book_that_is_known():
    """The book itself, as clients hold it after the last message; not what changed in it last."""
    bench = Bench()
    book, update = whole("BTC/USDT", 5)
    bench.publish(update)
    sides = book.apply([Level("10", "0")], [], 6)
    bench.publish(
        BookUpdate(instrument="BTC/USDT", bids=sides[0], asks=sides[1], sequence=6, book=book)
    )
    assert bench.of("BTC/USDT")["book"] == {
        "state": "known",
        "sequence": 6,
        "bids": 2,
        "asks": 2,
        "best_bid": ["9", "1"],
        "best_ask": ["11", "1"],
        "flag": None,
    }
    assert bench.of("ETH/USDT")["book"] is None


def test_a_book_that_stands_for_itself():
    """One without a state behind it, as of best prices alone; odd prices are said to be odd."""
    bench = Bench()
    bench.publish(
        BookUpdate(
            instrument="BTC/USDT", bids=levels("12"), asks=levels("11"), whole=True, sequence=3
        )
    )
    book = bench.of("BTC/USDT")["book"]
    assert (book["sequence"], book["best_bid"], book["flag"]) == (3, ["12", "1"], "crossed")
    bench.publish(gap("BTC/USDT"))
    assert bench.of("BTC/USDT")["book"]["state"] == "lost"


@pytest.mark.parametrize("history", [0, 100])
def test_a_book_that_is_lost(history):
    """Since when, why, and between which numbers; what happens to another one does not hide it."""
    bench = Bench(history)
    bench.publish(whole("BTC/USDT", 5)[1], whole("ETH/USDT", 5)[1])
    bench.publish(gap("BTC/USDT", "first"), gap("ETH/USDT", "second"))
    for instrument, cause in (("BTC/USDT", "first"), ("ETH/USDT", "second")):
        book = bench.of(instrument)["book"]
        assert 0 <= book.pop("age_s") < 5
        assert book == {"state": "lost", "cause": cause, "after": 1, "before": 3}
        assert bench.of(instrument)["last_message"] is None
        assert bench.of(instrument)["last_gap"]["data"]["cause"] == cause
    bench.publish(whole("BTC/USDT", 9)[1])
    assert bench.of("BTC/USDT")["book"]["state"] == "known"
    assert bench.of("BTC/USDT")["last_gap"]["data"]["cause"] == "first"
    assert bench.of("ETH/USDT")["book"]["state"] == "lost"


def test_a_loss_of_the_whole_channel_is_everybodys():
    """It is shown for each instrument, and ends each book."""
    bench = Bench()
    bench.publish(whole("BTC/USDT", 5)[1], whole("ETH/USDT", 5)[1], gap(None))
    for instrument in ("BTC/USDT", "ETH/USDT"):
        assert bench.of(instrument)["last_gap"]["instrument"] is None
        assert bench.of(instrument)["book"]["state"] == "lost"


def test_losses_of_trades():
    """Trades that were lost are shown with their instrument, also after another one's."""
    bench = Bench()
    for name in ("BTC/USDT", "ETH/USDT"):
        trade = TradeExecuted(instrument=name, id="1", side="buy", price="1", quantity="1")
        bench.publish(trade, gap(name, name))
    for name in ("BTC/USDT", "ETH/USDT"):
        facts = bench.of(name)
        assert facts["last_gap"]["data"]["cause"] == name
        assert facts["book"] is None
        assert facts["last_message"]["type"] == "trade_executed"


async def test_an_instrument_that_never_had_data(simulator):
    """It is connecting, whatever its feed is."""
    simulator.faults.add(venue="okx", kind="mute", instrument="ETH-USDT")
    section = {"connector": "okx.ticker", "instruments": ["BTC/USDT", "ETH/USDT"]}
    async with running(simulator, {"x": section}) as (ingest, _, ears):
        await ears["x"].until(lambda: ears["x"].messages)
        facts = ingest.why.explain("x:ETH/USDT")
        assert facts["instrument_state"]["state"] == "connecting"
        assert facts["last_message"] is None
        assert facts["verdict"].startswith("x:ETH/USDT is connecting: no data yet")
        assert ingest.why.explain("x:BTC/USDT")["instrument_state"]["state"] == "live"


async def test_a_lost_book_is_named(simulator):
    """Of the feed's instruments the one whose book is gone, with the reason, while others live."""
    section = {"connector": "okx.books", "instruments": ["BTC/USDT", "ETH/USDT"]}
    async with running(simulator, {"x": section}) as (ingest, _, ears):
        ear = ears["x"]
        names = set(section["instruments"])
        await ear.until(lambda: {m["instrument"] for m in ear.messages} == names)
        simulator.faults.add(venue="okx", kind="drop", instrument="BTC-USDT", fraction=0.9)
        await ear.until(lambda: any(m["type"] == "gap" for m in ear.messages))
        simulator.faults.add(venue="okx", kind="mute", instrument="BTC-USDT")
        # What is on its way may still be a book; with the next pause nothing comes any more.
        await ear.until(lambda: ingest.why.explain("x:BTC/USDT")["book"]["state"] == "lost")
        facts = ingest.why.explain("x:BTC/USDT")
        assert facts["instrument_state"]["state"] == "connecting"
        assert "its order book was lost" in facts["verdict"]
        assert facts["verdict"].endswith("the feed's others are live")
        verdict = ingest.why.explain("x")["verdict"]
        assert "not live: BTC/USDT (connecting: its order book was lost" in verdict
        assert ingest.why.explain("x:ETH/USDT")["book"]["state"] == "known"
        assert ingest.why.explain("x:ETH/USDT")["last_gap"] is None


async def test_a_book_that_can_not_be_read_is_named(simulator, monkeypatch):
    """The venue's nonsense about one instrument is said with its name, and leaves others alone."""
    real = simulator_shapes.snapshot

    def snapshot(book, limit):
        row = real(book, limit)
        return row | ({"bids": [("NaN", "1", "0", "1")]} if book.instrument.okx_id == BAD else {})

    monkeypatch.setattr(simulator_shapes, "snapshot", snapshot)
    section = {"connector": "okx.books", "instruments": ["BTC/USDT", "DOGE/USDT"]}
    async with running(simulator, {"x": section}) as (ingest, system, ears):
        await ears["x"].until(lambda: len(ears["x"].messages) > 30)
        facts = ingest.why.explain("x:DOGE/USDT")
        assert facts["verdict"].startswith("x:DOGE/USDT is connecting: no data yet")
        assert "DOGE/USDT: a price is no number" in facts["verdict"]
        assert "DOGE/USDT: a price is no number" in ingest.why.explain("x")["verdict"]
        assert ingest.why.explain("x")["feed"]["reconnects"] == 0
        assert "down" not in system.states
        subscribed = [c for c in simulator.commands if c.venue == "okx"]
        assert len(subscribed) <= 8
