"""OKX' order books: what is told of them, and what happens when an update is missing."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from aggregator.connector import Acknowledged, Send, translate
from aggregator.errors import PayloadError
from aggregator.model import BookUpdate, Gap, Level

TS = 1765211445123


def levels(*pairs):
    return [[price, size, "0", "1"] for price, size in pairs]


def book(previous, number, bids=(), asks=(), *, action="update", inst_id="BTC-USDT"):
    row = {"asks": levels(*asks), "bids": levels(*bids), "ts": str(TS)}
    row |= {"prevSeqId": previous, "seqId": number}
    arg = {"channel": "books", "instId": inst_id}
    return {"arg": arg, "action": action, "data": [row]}


def snapshot(number=10, inst_id="BTC-USDT"):
    bids, asks = [("99", "1"), ("98", "2")], [("101", "1"), ("102", "2")]
    return book(-1, number, bids, asks, action="snapshot", inst_id=inst_id)


def event(name, inst_id="BTC-USDT"):
    return {"event": name, "arg": {"channel": "books", "instId": inst_id}}


def frame(connector, message):
    return translate(lambda: connector.on_frame(json.dumps(message).encode()))


def ops(outputs):
    """Return what is sent, as (operation, instruments)."""
    requests = [json.loads(output.frame) for output in outputs if isinstance(output, Send)]
    return [(r["op"], [arg["instId"] for arg in r["args"]]) for r in requests]


AGAIN = [("unsubscribe", ["BTC-USDT"]), ("subscribe", ["BTC-USDT"])]


@pytest.fixture
def two(build):
    connector = build("okx.books", instruments=["BTC/USDT", "ETH/USDT"])
    list(connector.on_open())
    for inst_id in ("BTC-USDT", "ETH-USDT"):
        frame(connector, event("subscribe", inst_id))
    return connector


def test_a_book_from_its_snapshot_on(two):
    """The whole, then each change with the venue's number, time and digits."""
    [whole] = frame(two, snapshot())
    assert (whole.whole, whole.sequence, whole.exchange_us) == (True, 10, TS * 1000)
    assert whole.bids == [Level("99", "1"), Level("98", "2")]
    [change] = frame(two, book(10, 15, bids=[("99.50", "1.0")], asks=[("101", "0")]))
    assert not change.whole
    assert (change.bids, change.asks) == ([Level("99.50", "1.0")], [Level("101", "0")])
    assert change.book.top() == (
        [Level("99.50", "1.0"), Level("99", "1"), Level("98", "2")],
        [Level("102", "2")],
    )


def test_the_chain(two):
    """Numbers may repeat and fall; an update without a change is told as well."""
    frame(two, snapshot())
    for previous, number in ((10, 15), (15, 15), (15, 3), (3, 5)):
        [update] = frame(two, book(previous, number))
        assert (update.sequence, update.bids, update.asks) == (number, [], [])


def test_a_break(two):
    """A missing update: a gap, that instrument's subscription anew, and silence till the whole."""
    frame(two, snapshot())
    frame(two, snapshot(inst_id="ETH-USDT"))
    gap, *sends = frame(two, book(12, 15))
    data = {"cause": "the update follows 12, not 10", "after": 10, "before": 15}
    assert gap == Gap(instrument="BTC/USDT", data=data)
    assert ops(sends) == AGAIN
    # What was under way counts for nothing.
    assert frame(two, book(15, 16)) == []
    assert frame(two, event("unsubscribe")) == []
    assert frame(two, book(16, 17)) == []
    assert frame(two, event("subscribe")) == [Acknowledged(sends[1].key)]
    [whole] = frame(two, snapshot(20))
    assert whole.whole
    [other] = frame(two, book(10, 11, inst_id="ETH-USDT"))
    assert other.instrument == "ETH/USDT"


def test_a_snapshot_that_is_lost(two):
    """Updates of a subscription without its snapshot: it is made anew, once for each time."""
    assert ops(frame(two, book(5, 6))) == AGAIN
    assert frame(two, book(6, 7)) == []
    frame(two, event("unsubscribe"))
    frame(two, event("subscribe"))
    assert ops(frame(two, book(7, 8))) == AGAIN


def test_a_second_snapshot_replaces_the_book(two):
    """A snapshot without a request is the book from then on."""
    frame(two, snapshot())
    [whole] = frame(two, snapshot(30))
    assert whole.whole
    assert isinstance(frame(two, book(30, 31))[0], BookUpdate)


def test_a_size_that_can_not_be_read(two):
    """The update is lost, so the next one is a break."""
    frame(two, snapshot())
    with pytest.raises(PayloadError):
        frame(two, book(10, 11, bids=[("99", "free")]))
    assert isinstance(frame(two, book(11, 12))[0], Gap)


def test_crossed_and_locked(two):
    """As in an auction: said with each update while it lasts."""
    frame(two, snapshot())
    flags = []
    for n, bids in enumerate(([("101", "1")], [], [("103", "1")], [("103", "0"), ("101", "0")])):
        [update] = frame(two, book(10 + n, 11 + n, bids))
        flags.append(update.flag)
    assert flags == ["locked", "locked", "crossed", None]


def test_gathered_changes(build):
    """With `interval_ms` a snapshot goes out at once, changes with the next tick, as one."""
    connector = build("okx.books", instruments=["BTC/USDT"], interval_ms=250, depth=2)
    assert connector.tick_s == 0.25
    [whole] = frame(connector, snapshot())
    before = whole.book.top()
    assert (whole.bids, whole.asks) == before
    assert frame(connector, book(10, 11, bids=[("99", "5"), ("97", "1")])) == []
    assert frame(connector, book(11, 12, bids=[("99", "7"), ("98", "0")])) == []
    # Newcomers get what the others have.
    assert whole.book.top() == before
    [update] = connector.on_tick()
    assert (update.sequence, update.asks, update.whole) == (12, [], False)
    assert sorted((one.price, one.size) for one in update.bids) == [
        ("97", "1"),
        ("98", "0"),
        ("99", "7"),
    ]
    assert update.book.top()[0] == [Level("99", "7"), Level("97", "1")]
    assert list(connector.on_tick()) == []
    # Nothing that clients hold has changed, but the book is known to be right by then.
    frame(connector, book(12, 13, bids=[("90", "1")]))
    [update] = connector.on_tick()
    assert (update.sequence, update.bids, update.asks) == (13, [], [])


def test_gathered_changes_and_a_break(build):
    """What was gathered before a break is told no more."""
    connector = build("okx.books", instruments=["BTC/USDT"], interval_ms=250)
    frame(connector, snapshot())
    frame(connector, book(10, 11, bids=[("99", "5")]))
    assert isinstance(frame(connector, book(20, 21))[0], Gap)
    assert list(connector.on_tick()) == []


def test_without_an_interval_there_is_no_tick(two):
    """Updates are told as they come."""
    assert two.tick_s is None
    frame(two, snapshot())
    frame(two, book(10, 11, bids=[("99", "5")]))
    assert list(two.on_tick()) == []


def test_the_options(two):
    """Depth and interval are bounded; the venue repeats a book at least every 60 s."""
    assert (two.options.depth, two.options.interval_ms) == (50, 0)
    assert 60 < two.silence_s < 90
    for options in ({"depth": 0}, {"depth": 401}, {"interval_ms": -1}, {"interval_ms": 60_001}):
        with pytest.raises(ValidationError):
            type(two).options_type(instruments=["BTC/USDT"], **options)


def test_resubscribing(two):
    """One instrument is left and subscribed to again while others go on, but not twice at once."""
    assert ops(two.resubscribe("BTC/USDT")) == AGAIN
    assert list(two.resubscribe("BTC/USDT")) == []
    assert list(two.resubscribe("NO/SUCH")) == []
    frame(two, event("unsubscribe"))
    refused = {"event": "error", "code": "60018", "id": "r0", "msg": "no such thing"}
    unknown, answered = frame(two, refused)
    assert (unknown.instrument, answered) == ("BTC/USDT", Acknowledged("r0"))
