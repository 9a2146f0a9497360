"""Binance's order books: whatever is lost or late, clients hold the venue's book or none."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregator import wire
from aggregator.connector import Fetch, Ignored, Request, translate
from aggregator.errors import PayloadError
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Gap
from connectors.binance import depth as depth_module
from connectors.binance.depth import Depth, DepthOptions

SIZES = ("0", "0.000", "1", "2.50", "3")


class Venue:
    """A book that changes at random, its diffs, and its state after each of its numbers."""

    def __init__(self, seed, levels=40):
        self.rng = random.Random(seed)
        self.price = 1000
        self.levels = levels
        self.sequence = 100
        self.sides = {
            "b": {self.price - 1 - n: "1" for n in range(levels)},
            "a": {self.price + 1 + n: "1" for n in range(levels)},
        }
        self.states = {}
        self.keep()

    def keep(self):
        self.states[self.sequence] = {side: dict(levels) for side, levels in self.sides.items()}

    def diff(self):
        """Change some levels, now and then the price too, and return the event."""
        rng, first = self.rng, self.sequence + 1
        changes = {"b": {}, "a": {}}
        for _ in range(rng.randint(1, 4)):
            side = rng.choice("ab")
            ticks = self.price + rng.randint(1, 12) * (1 if side == "a" else -1)
            self.change(changes, side, ticks, rng.choice(SIZES))
        self.price += rng.choice((0, 0, 0, 0, -1, 1, 2, -2))
        for side, beyond in (("b", self.price.__le__), ("a", self.price.__ge__)):
            for ticks in [t for t in self.sides[side] if beyond(t)]:
                self.change(changes, side, ticks, "0")
        self.keep()
        event = {"e": "depthUpdate", "E": self.sequence, "s": "XY", "U": first, "u": self.sequence}
        return event | {s: [[text(t), size] for t, size in c.items()] for s, c in changes.items()}

    def change(self, changes, side, ticks, size):
        self.sequence += 1
        changes[side][ticks] = size
        if float(size):
            self.sides[side][ticks] = size
        else:
            self.sides[side].pop(ticks, None)

    def snapshot(self, limit, behind=0):
        """Return the answer of `depth`, as it is now or some states before."""
        sequence = sorted(self.states)[-1 - min(behind, len(self.states) - 1)]
        bids, asks = top(self.states[sequence], limit)
        return {"lastUpdateId": sequence, "bids": bids, "asks": asks}


def text(ticks):
    return f"{Decimal(ticks) / 10:.2f}"


def top(state, depth):
    bids = sorted(state["b"].items(), reverse=True)[:depth]
    asks = sorted(state["a"].items())[:depth]
    return [[[text(ticks), size] for ticks, size in side] for side in (bids, asks)]


class Client:
    """A connector, what it asks for, and a client that does what the protocol says."""

    def __init__(self, venue, **options):
        self.venue = venue
        # Not checked: no real snapshot has as few levels as are handy here.
        self.connector = Depth(DepthOptions.model_construct(instruments=["X/Y"], **options))
        self.depth = self.connector.options.depth
        self.requests = []
        self.delays = []
        self.ignored = []
        self.gaps = []
        self.updates = []
        self.bids = self.asks = None
        list(self.connector.on_open())
        self.frame({"result": None, "id": 1})

    def frame(self, message):
        self._take(translate(lambda: self.connector.on_frame(json.dumps(message).encode())))

    def wait(self, seconds):
        for _ in range(round(seconds / self.connector.tick_s)):
            self._take(translate(self.connector.on_tick))

    def live(self, count=1):
        for _ in range(count):
            self.frame(self.venue.diff())

    def lose(self, count=1):
        for _ in range(count):
            self.venue.diff()

    def fetch(self, behind=0, *, fails=False):
        request = self.requests.pop(0)
        if fails:
            self._take(translate(lambda: self.connector.on_no_response(request, "HTTP 503")))
            return
        body = json.dumps(self.venue.snapshot(int(request.params["limit"]), behind)).encode()
        self._take(translate(lambda: self.connector.on_response(request, body)))

    def fetch_all(self):
        for _ in range(50):
            if self.requests:
                self.fetch()
        assert not self.requests

    def _take(self, outputs):
        for output in outputs:
            if isinstance(output, Fetch):
                self.requests.append(output.request)
                self.delays.append(output.delay_s)
            elif isinstance(output, Ignored):
                self.ignored.append(output.name)
            elif isinstance(output, Gap):
                self.gaps.append(output.data)
                self.bids = self.asks = None
            elif isinstance(output, BookUpdate):
                self._apply(output)

    def _apply(self, update):
        self.updates.append(update)
        assert update.whole or self.bids is not None
        if update.whole:
            self.bids, self.asks = {}, {}
        for side, levels in ((self.bids, update.bids), (self.asks, update.asks)):
            for level in levels:
                side.pop(level.price, None)
                if float(level.size):
                    side[level.price] = level.size
        self.check(update)

    def check(self, update):
        """Hold the client's book against the venue's at this number, as far as it is known."""
        bids = sorted(self.bids.items(), key=lambda level: -Decimal(level[0]))
        asks = sorted(self.asks.items(), key=lambda level: Decimal(level[0]))
        held = [[list(level) for level in side] for side in (bids, asks)]
        told = [[[level.price, level.size] for level in side] for side in update.book.top()]
        assert held == told
        assert held == top(self.venue.states[update.sequence], self.depth)

    @property
    def wholes(self):
        return sum(update.whole for update in self.updates)


@pytest.mark.parametrize(
    ("options", "stream", "limit", "weight"),
    [
        ({}, "xy@depth@100ms", "1000", 50),
        ({"interval_ms": 1000}, "xy@depth", "1000", 50),
        ({"limit": 100}, "xy@depth@100ms", "100", 5),
        ({"depth": 200, "limit": 100}, "xy@depth@100ms", "400", 25),
        ({"depth": 1000, "limit": 5000}, "xy@depth@100ms", "5000", 250),
    ],
)
def test_what_is_asked_for(options, stream, limit, weight):
    """The stream of the interval, and a snapshot with the weight that the venue documents."""
    connector = Depth(DepthOptions(instruments=["X/Y"], **options))
    send, names = connector.on_open()
    assert json.loads(send.frame)["params"] == [stream]
    assert names.request.key == "names"
    ack = translate(lambda: connector.on_frame(b'{"result":null,"id":1}'))
    request = ack[1].request
    assert request.path == "/api/v3/depth"
    assert (request.params, request.weight) == ({"symbol": "XY", "limit": limit}, weight)


@pytest.mark.parametrize(
    "options", [{"interval_ms": 250}, {"depth": 0}, {"depth": 1001}, {"limit": 99}, {"limit": 5001}]
)
def test_bad_options_are_refused(options):
    """What the venue does not have is an error of the configuration."""
    with pytest.raises(ValidationError):
        DepthOptions(instruments=["X/Y"], **options)


def test_snapshot_before_changes():
    """A snapshot that is there before the first change is told at once, without a time."""
    client = Client(Venue(1), depth=5)
    client.fetch()
    assert client.updates[0].whole
    assert client.updates[0].exchange_us is None
    client.live(20)
    assert [update.whole for update in client.updates] == [True] + [False] * 20
    assert client.updates[-1].exchange_us == client.venue.sequence * 1000
    assert client.requests == []


def test_changes_before_the_snapshot_wait():
    """What comes while the snapshot is on its way is applied to it, as far as it is newer."""
    client = Client(Venue(2), depth=5)
    client.live(6)
    assert client.updates == []
    client.fetch(behind=3)
    [update] = client.updates
    assert (update.whole, update.sequence) == (True, client.venue.sequence)
    client.live(3)
    assert client.gaps == []


def test_a_snapshot_older_than_the_stream_is_fetched_again():
    """Where changes between the snapshot and the stream are missing, another one is fetched."""
    client = Client(Venue(3), depth=5)
    client.lose(5)
    client.live(2)
    client.fetch(behind=4)
    assert client.updates == []
    assert len(client.requests) == 1
    client.fetch()
    assert client.wholes == 1


def test_snapshots_that_stay_old_are_asked_for_more_and_more_rarely():
    """A REST interface that is behind costs some requests a minute at most, and no book."""
    client = Client(Venue(4), depth=5)
    client.lose(40)
    client.live(1)
    waited = 0.0
    while waited < 600:
        client.wait(client.delays[-1])
        waited += client.delays[-1]
        client.fetch(behind=30)
        client.live(1)
        assert len(client.requests) == 1
    assert client.delays[:6] == [0, 0, 0.25, 0.5, 1.0, 2.0]
    assert max(client.delays) == 60
    assert len(client.delays) < 22
    assert set(client.ignored) == {"snapshot that is older than the stream"}
    assert client.updates == []
    client.live(3)
    client.fetch()
    assert client.wholes == 1
    assert client.updates[-1].sequence == client.venue.sequence


def test_books_that_are_lost_again_and_again():
    """On a line that loses much, an instrument asks for a book once a minute at last."""
    client = Client(Venue(4), depth=5)
    client.fetch()
    waited = 0.0
    while waited < 600:
        client.live(2)
        client.lose()
        client.live(1)
        client.wait(client.delays[-1])
        waited += client.delays[-1]
        client.fetch()
    assert len(client.delays) < 22
    assert len(client.gaps) == client.wholes - 1
    # What holds for long is made good at once again.
    client.wait(200)
    client.lose()
    client.live(1)
    assert client.delays[-1] == 0


@pytest.mark.parametrize(("limit", "weight"), [(100, 5), (1000, 50), (5000, 250)])
def test_all_of_a_connection_take_a_share(limit, weight):
    """However many books are lost, what they ask for is a third of the venue's minute at most."""
    names = [f"C{n}/USDT" for n in range(900)]
    connector = Depth(DepthOptions(instruments=names, limit=limit))
    list(connector.on_open())
    first = list(connector._acknowledged())
    assert len(first) == 900
    at = []
    event = {"e": "depthUpdate", "E": 1, "U": 1, "u": 2, "b": [], "a": []}
    for name in names:
        body = json.dumps({"lastUpdateId": 9, "bids": [["1", "1"]], "asks": [["2", "1"]]}).encode()
        request = next(f.request for f in first if f.request.key == name.replace("/", ""))
        list(connector.on_response(request, body))
        lost = event | {"s": request.key, "U": 20, "u": 21}
        for output in connector.on_frame(json.dumps(lost).encode()):
            if isinstance(output, Fetch):
                assert output.request.weight == weight
                at.append(output.delay_s)
    assert len(at) == 900
    most = max(sum(start <= t < start + 60 for t in at) for start in at)
    assert most * weight <= 6000 / 3 + weight


def test_a_change_that_can_not_be_read_does_not_spoil_a_snapshot():
    """It does not wait for the snapshot with others, which could never be used."""
    client = Client(Venue(3), depth=5)
    client.live(2)
    with pytest.raises(PayloadError, match="X/Y"):
        client.frame(client.venue.diff() | {"b": [["free", "1"]]})
    client.live(1)
    client.fetch()
    assert client.wholes == 1
    assert client.updates[-1].sequence == client.venue.sequence


NAMES = {
    "symbols": [
        {"symbol": "XY", "status": "TRADING", "baseAsset": "X", "quoteAsset": "Y"},
        {"symbol": "OLDY", "status": "BREAK", "baseAsset": "OLD", "quoteAsset": "Y"},
    ]
}


@pytest.mark.parametrize("order", ["names first", "acknowledged first", "snapshot first"])
def test_what_is_not_traded_has_no_book(order):
    """Whatever comes first: no snapshot of it is told, until a change proves that it is traded."""
    connector = Depth(DepthOptions(instruments=["X/Y", "OLD/Y"]))
    names = next(o for o in connector.on_open() if isinstance(o, Fetch)).request
    ack = b'{"result":null,"id":1}'
    snapshot = b'{"lastUpdateId":3,"bids":[["1","1"]],"asks":[["2","1"]]}'

    def told(outputs):
        return [o for o in outputs if isinstance(o, BookUpdate) and o.instrument == "OLD/Y"]

    def asked(outputs):
        return [o.request.key for o in outputs if isinstance(o, Fetch)]

    body = json.dumps(NAMES).encode()
    if order == "names first":
        assert [o.instrument for o in connector.on_response(names, body)] == ["OLD/Y"]
        assert asked(connector.on_frame(ack)) == ["XY"]
    else:
        assert asked(connector.on_frame(ack)) == ["XY", "OLDY"]
        request = Request("/api/v3/depth", key="OLDY")
        first = list(connector.on_response(request, snapshot)) if "snap" in order else []
        assert len(told(first)) == (order == "snapshot first")
        list(connector.on_response(names, body))
        late = list(connector.on_response(request, snapshot))
        assert late == [Ignored("snapshot that came too late")]
    event = b'{"e":"depthUpdate","E":1,"s":"OLDY","U":4,"u":5,"b":[["1","2"]],"a":[]}'
    [fetch] = connector.on_frame(event)
    assert fetch.request.key == "OLDY"
    assert len(told(connector.on_response(fetch.request, snapshot))) == 1


class Slow:
    """A client that reads nothing: what it will be sent is looked up at the end."""

    size = 1

    def __init__(self):
        self.messages = []

    def offer(self, message):
        self.messages.append(message)


def test_a_book_that_lacks_levels_is_told_to_nobody():
    """Who is slow gets the state after the last change that was told, then the gap."""
    hub = Hub()
    channel = hub.add_channel("books", "binance", ["X/Y"])
    slow = Slow()
    channel.listeners.add(slow)
    connector = Depth(DepthOptions(instruments=["X/Y"], depth=50, limit=100))
    list(connector.on_open())
    [_, fetch] = connector.on_frame(b'{"result":null,"id":1}')
    body = {"lastUpdateId": 10, "bids": [], "asks": [[f"{201 + n}", "1"] for n in range(100)]}
    body["bids"] = [[f"{200 - n}", "1"] for n in range(100)]
    event = {"e": "depthUpdate", "E": 1, "s": "XY", "a": []}
    gone = [[f"{200 - n}", "0"] for n in range(60)]
    outputs = [
        *connector.on_response(fetch.request, json.dumps(body).encode()),
        *connector.on_frame(json.dumps(event | {"U": 11, "u": 11, "b": [["200", "2"]]}).encode()),
        *connector.on_frame(json.dumps(event | {"U": 12, "u": 72, "b": gone}).encode()),
    ]
    for output in outputs:
        if isinstance(output, BookUpdate | Gap):
            hub.publish(channel, output, 1)
    *_, last, gap = [json.loads(wire.payload_of(m.settled().frame)) for m in slow.messages]
    assert (last["action"], last["data"]["sequence"]) == ("snapshot", 11)
    assert last["data"]["bids"] == [["200", "2"], *[[f"{200 - n}", "1"] for n in range(1, 50)]]
    assert gap["data"]["cause"] == depth_module.TOO_FEW
    assert hub.snapshot(["books"]) == []


def test_a_missing_change_is_a_gap_and_a_new_book():
    """A hole drops the book, says from where to where, and a snapshot is fetched."""
    client = Client(Venue(5), depth=5)
    client.fetch()
    client.live(3)
    last = client.venue.sequence
    client.lose(2)
    begins = client.venue.sequence + 1
    client.live(1)
    [gap] = client.gaps
    assert (gap["after"], gap["before"]) == (last, begins)
    assert f"begins with {begins}, not {last + 1}" in gap["cause"]
    client.live(2)
    client.fetch()
    client.live(2)
    assert len(client.gaps) == 1
    assert client.wholes == 2


def test_no_answer_begins_anew_with_the_next_change():
    """A snapshot that can't be had is asked for again when something changes."""
    client = Client(Venue(6), depth=5)
    client.fetch(fails=True)
    assert client.requests == []
    client.live(2)
    assert len(client.requests) == 1
    client.fetch()
    assert client.wholes == 1


def test_what_waits_is_bounded(monkeypatch):
    """Of too many changes that wait the last are kept; an older snapshot does not fit them."""
    monkeypatch.setattr(depth_module, "MAX_WAITING", 5)
    client = Client(Venue(7), depth=5)
    client.live(1)
    for _ in range(9):
        client.live(1)
    client.fetch(behind=8)
    assert client.updates == []
    client.fetch()
    assert client.wholes == 1


def test_before_unknown_levels_are_among_the_best_a_snapshot_is_fetched():
    """When the price moves to the end of the snapshot a new one is fetched, without a gap."""
    client = Client(Venue(8, levels=200), depth=3, limit=10)
    client.fetch()
    for _ in range(400):
        client.live(1)
        if client.requests:
            client.fetch()
    assert client.wholes > 3
    assert client.gaps == []


def test_a_book_does_not_go_back():
    """A snapshot that is older than the book is not taken for a newer one."""
    client = Client(Venue(8, levels=200), depth=3, limit=10)
    client.fetch()
    while not client.requests:
        client.live(1)
    before = client.updates[-1].sequence
    client.fetch(behind=3)
    assert client.updates[-1].sequence == before
    assert len(client.requests) == 1
    client.fetch()
    assert client.updates[-1].whole


def test_a_whole_book_needs_no_other_snapshot():
    """Where the snapshot had everything, nothing is fetched however few levels are left."""
    client = Client(Venue(9, levels=4), depth=3, limit=100)
    client.fetch()
    client.live(300)
    assert client.wholes == 1


def test_a_bad_change_is_not_applied():
    """A change that can't be read is not applied; the next one shows that it is missing."""
    client = Client(Venue(10), depth=5)
    client.fetch()
    event = client.venue.diff()
    with pytest.raises(PayloadError):
        client.frame(event | {"b": [["free", "1"]]})
    client.live(1)
    assert len(client.gaps) == 1
    client.fetch()
    assert client.wholes == 2


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["live", "live", "lose", "fetch", "fail", "behind", "again"]),
            st.integers(1, 6),
        ),
        max_size=50,
    ),
    seed=st.integers(0, 999),
    depth=st.sampled_from([1, 3, 20]),
)
def test_the_book_is_the_venues(steps, seed, depth):
    """Whatever is lost, late or fails: a client holds the venue's best levels, or no book."""
    client = Client(Venue(seed), depth=depth, limit=1)
    old = client.venue.diff()
    for step, count in steps:
        if step in {"live", "lose"}:
            getattr(client, step)(count)
        elif step == "again":
            client.frame(old)
        elif client.requests:
            client.fetch(behind=count * (step == "behind"), fails=step == "fail")
    client.live(1)
    client.fetch_all()
    client.live(1)
    client.fetch_all()
    assert client.updates
    assert client.updates[-1].sequence == client.venue.sequence
