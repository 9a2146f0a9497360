"""OKX' order books: what is told of them, and what happens when an update is missing."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from aggregator.connector import Acknowledged, Ignored, Send, translate
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
    """Updates of a subscription without its snapshot: it is made anew, and again after a pause."""
    assert ops(frame(two, book(5, 6))) == AGAIN
    assert frame(two, book(6, 7)) == []
    frame(two, event("unsubscribe"))
    frame(two, event("subscribe"))
    assert frame(two, book(7, 8)) == []
    assert ops(two.on_tick()) == AGAIN
    assert list(two.on_tick()) == []


def test_a_book_that_comes_while_it_would_be_asked_for(two):
    """Nothing is left to be done then."""
    assert ops(frame(two, book(5, 6))) == AGAIN
    frame(two, event("subscribe"))
    assert frame(two, book(6, 7)) == []
    [whole] = frame(two, snapshot())
    assert whole.whole
    assert list(two.on_tick()) == []


class Lossy:
    """OKX with instruments whose books are of no use: each update needs another subscription."""

    def __init__(self, connector, ids):
        self.connector, self.ids = connector, ids
        self.requests = []
        self.snapshots = set()
        self.outputs = []
        self.errors = []
        self.now = 0.0
        self.number = 0
        self._take(connector.on_open())

    def _take(self, outputs):
        """Acknowledge what is sent."""
        for output in outputs:
            if not isinstance(output, Send):
                self.outputs.append(output)
                continue
            self.requests.append(self.now)
            request = json.loads(output.frame)
            for arg in request["args"]:
                self.say(event(request["op"], arg["instId"]))
                self.snapshots.add(arg["instId"])

    def say(self, message):
        try:
            self._take(frame(self.connector, message))
        except PayloadError as e:
            self.errors.append(str(e))

    def go_on(self, seconds, snapshot_of):
        """Each second each instrument has its snapshot, if one is due, and two updates."""
        for _ in range(seconds):
            for inst_id in self.ids:
                self.number += 10
                if inst_id in self.snapshots:
                    self.snapshots.discard(inst_id)
                    self.say(snapshot_of(inst_id, self.number))
                for n in (3, 6):
                    self.say(book(self.number + n - 1, self.number + n, inst_id=inst_id))
            self._take(translate(self.connector.on_tick))
            self.now += self.connector.tick_s

    def most_in_an_hour(self):
        sent = self.requests
        return max(sum(at <= t < at + 3600 for t in sent) for at in sent)


def test_one_bad_instrument_costs_little(build):
    """A book that never can be read is asked for more and more rarely, and named; others go on."""
    venue = Lossy(build("okx.books", instruments=["BTC/USDT", "DOGE/USDT"]), ["DOGE-USDT"])
    venue.say(snapshot(7))
    unreadable = book(-1, 1, [("NaN", "1")], action="snapshot", inst_id="DOGE-USDT")
    venue.go_on(60, lambda _id, _number: unreadable)
    first = len(venue.requests)
    venue.go_on(3540, lambda _id, _number: unreadable)
    assert 8 <= first <= 16
    assert len(venue.requests) <= 2 + 2 * (10 + 3600 / 300)
    assert {e.partition(": ")[2] for e in venue.errors} == {"DOGE/USDT: a price is no number"}
    assert isinstance(frame(venue.connector, book(7, 8))[0], BookUpdate)


@pytest.mark.parametrize("count", [1, 5, 150])
def test_a_lossy_line_stays_within_the_limit(build, count):
    """However many lose whatever comes, a connection sends less than 480 requests in an hour."""
    ids = [f"C{n}-USDT" for n in range(count)]
    instruments = [inst_id.replace("-", "/") for inst_id in ids]
    venue = Lossy(build("okx.books", instruments=instruments), ids)

    def whole(inst_id, number):
        return snapshot(number, inst_id)

    venue.go_on(30, whole)
    assert len({output.instrument for output in venue.outputs if isinstance(output, Gap)}) == count
    venue.go_on(7200 if count < 150 else 1200, whole)
    assert venue.most_in_an_hour() < 480
    # Nobody is given up.
    assert max(venue.requests) > venue.now - 600


def test_books_that_come_by_themselves_and_are_lost(two):
    """They put nothing off: what is lost when its turn comes is asked for."""
    sent = []
    for n in range(0, 400, 20):
        frame(two, snapshot(n))
        for output in [*frame(two, book(n + 5, n + 6)), *two.on_tick()]:
            if isinstance(output, Send):
                sent.append(n // 20)
                frame(two, event(json.loads(output.frame)["op"]))
    assert sent == [0, 0, 1, 1, 2, 2, 6, 6, 14, 14]


def test_a_book_that_holds_is_asked_for_at_once(two):
    """One loss in ten minutes, however often, is made good without a pause."""
    number = 10
    for _ in range(5):
        frame(two, snapshot(number))
        for _ in range(600):
            assert list(two.on_tick()) == []
        gap, *sends = frame(two, book(number + 1, number + 2))
        assert isinstance(gap, Gap)
        assert ops(sends) == AGAIN
        frame(two, event("unsubscribe"))
        frame(two, event("subscribe"))


def test_escalations_wait_for_their_turn(two):
    """Whoever wants it: an instrument that was subscribed to anew just now waits a while."""
    assert ops(two.resubscribe("ETH/USDT"))
    frame(two, event("subscribe", "ETH-USDT"))
    assert list(two.resubscribe("ETH/USDT")) == []
    assert list(two.resubscribe("ETH/USDT")) == []
    assert ops(two.on_tick()) == [("unsubscribe", ["ETH-USDT"]), ("subscribe", ["ETH-USDT"])]


def test_an_update_that_comes_twice(two):
    """The very same once more changes nothing; the same numbers with something else are a break."""
    frame(two, snapshot())
    for previous, number in ((10, 15), (15, 15), (15, 3), (3, 5)):
        update = book(previous, number, bids=[("99", str(number))])
        [told] = frame(two, update)
        [again] = frame(two, update)
        # What follows itself can't be told from a heartbeat, and does no harm.
        expected = told if previous == number else Ignored("update that came twice")
        assert again == expected
    assert isinstance(frame(two, book(3, 5, bids=[("99", "8")]))[0], Gap)


@pytest.mark.parametrize("depth", [1, 400])
@pytest.mark.parametrize(
    "bad", [{"asks": [["101", "free", "0", "1"]]}, {"ts": "now"}, {"bids": [["x", "1"]]}]
)
def test_an_update_that_can_not_be_read_leaves_no_trace(build, depth, bad):
    """Who comes before the next one gets the book as it was told, at the number that was told."""
    connector = build("okx.books", instruments=["BTC/USDT"], depth=depth)
    frame(connector, snapshot())
    [told] = frame(connector, book(10, 11, bids=[("99", "5")]))
    before = told.book.top()
    message = book(11, 12, bids=[("99", "0"), ("98", "0")], asks=[("101", "0")])
    message["data"][0] |= bad
    with pytest.raises(PayloadError):
        frame(connector, message)
    assert told.book.top() == before
    assert isinstance(frame(connector, book(12, 13))[0], Gap)
    assert told.book.top() == before


def test_rows_that_come_together(two):
    """All of a frame is taken, or nothing."""
    frame(two, snapshot())
    both = book(10, 11, bids=[("99", "5")])
    both["data"] += book(11, 12, bids=[("99", "6")])["data"]
    assert [update.sequence for update in frame(two, both)] == [11, 12]
    bad = book(12, 13, bids=[("99", "7")])
    bad["data"] += book(13, 14, bids=[("99", "free")])["data"]
    with pytest.raises(PayloadError, match="BTC/USDT"):
        frame(two, bad)
    [update] = frame(two, book(12, 13))
    assert update.book.top()[0][0] == Level("99", "6")


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


def test_without_an_interval_ticks_tell_nothing(two):
    """Updates are told as they come."""
    frame(two, snapshot())
    frame(two, book(10, 11, bids=[("99", "5")]))
    assert list(two.on_tick()) == []


def test_long_intervals(build):
    """However long changes are gathered, ticks come often enough for what has to wait."""
    connector = build("okx.books", instruments=["BTC/USDT"], interval_ms=2500)
    assert connector.tick_s == pytest.approx(2.5 / 3)
    frame(connector, snapshot())
    frame(connector, book(10, 11, bids=[("99", "5")]))
    told = [len(list(connector.on_tick())) for _ in range(6)]
    assert told == [0, 0, 1, 0, 0, 0]


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
