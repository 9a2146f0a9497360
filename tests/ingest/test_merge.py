"""One sequence out of two connections, whichever is ahead."""

from __future__ import annotations

import functools
import json
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import wire
from aggregator.channel import Message
from aggregator.connector import Seen
from aggregator.hub import Hub
from aggregator.ingest import merge as merge_module
from aggregator.ingest.merge import OVERLAP_S, SKEW_S, WAIT_S, Merge
from aggregator.model import BookUpdate, Candle, Event, Gap, PriceUpdate, TradeExecuted

NOW_US = 1_765_211_445_000_000
FAR = 1e9
LAG = 6


class Ladder:
    """A book of single levels, as a connector keeps one for each connection."""

    def __init__(self) -> None:
        self.bids: dict[str, str] = {}

    def apply(self, changes: dict[str, str], *, whole: bool = False) -> None:
        if whole:
            self.bids.clear()
        self.bids.update(changes)
        self.bids = {price: size for price, size in self.bids.items() if size != "0"}

    def top(self):
        return sorted(self.bids.items()), []


class World:
    """A channel, what is published there, and connections that bring something."""

    def __init__(self) -> None:
        self.hub = Hub(epoch="test")
        self.channel = self.hub.add_channel("c", "venue", ["X/Y", "Z/Y"])
        self.hub.register(self, frozenset({"c"}))
        self.messages: list[dict] = []
        self.merge = Merge(self.hub, self.channel)
        self.first = self.merge.inlet()
        self.merge.lead(self.first)
        self.first.open(0.0, NOW_US)

    size = 1

    def offer(self, message: Message) -> None:
        self.messages.append(json.loads(wire.payload_of(message.frame), parse_float=str))

    def second(self, opened: float = 99.0):
        inlet = self.merge.inlet()
        inlet.open(opened, NOW_US)
        return inlet

    @staticmethod
    def bring(inlet, *events: Event, us: int = NOW_US) -> None:
        for event in events:
            inlet.take(event, us)

    @property
    def ids(self) -> list[str]:
        return [m["data"].get("id") or m["type"] for m in self.messages]

    @property
    def prices_and_ids(self) -> list[str]:
        return [str(m.get("price", m["data"].get("id"))) for m in self.messages]

    @property
    def prices(self) -> list[str]:
        return [str(m["price"]) for m in self.messages]

    @property
    def books(self) -> list[tuple[str, int, dict]]:
        kept = [m for m in self.messages if m["type"] == "orderbook_update"]
        return [(m["action"], m["data"]["sequence"], dict(m["data"]["bids"])) for m in kept]


@pytest.fixture
def world() -> World:
    return World()


def trade(number: int | str, instrument: str = "X/Y") -> TradeExecuted:
    return TradeExecuted(
        instrument=instrument, id=str(number), side="buy", price="1", quantity="1", cost="1"
    )


def price(text: object, us: int | None, instrument: str = "X/Y") -> PriceUpdate:
    return PriceUpdate(instrument, str(text), b'{"p":"%b"}' % str(text).encode(), us)


def update(book: Ladder, sequence: int, changes: dict[str, str], *, whole=False) -> BookUpdate:
    book.apply(changes, whole=whole)
    return BookUpdate(
        instrument="X/Y",
        bids=list(changes.items()),
        asks=[],
        whole=whole,
        sequence=sequence,
        book=book,
    )


# One connection.


def test_one_connection_is_not_touched(world):
    """What one connection brings is published as it comes, also again, and costs nothing more."""
    events = [price(1, 5), price(2, 5), price(1, 5), price(3, None), price(3, None), price(2, 4)]
    world.bring(world.first, *events)
    assert world.prices == ["1", "2", "1", "3", "3", "2"]
    assert world.first.take is world.merge._publish
    assert world.first.unpublished == 0


def test_after_a_reconnect_time_does_not_go_back(world):
    """A new connection that is behind, or repeats the last, says nothing until it has news."""
    world.bring(world.first, price(1, 10), trade(7, "Z/Y"))
    again = world.second()
    world.merge.lead(again)
    world.bring(again, price(0, 9), price(1, 10), price(2, 11), price(2, 11), price(1, 10))
    world.bring(again, trade(6, "Z/Y"), trade(7, "Z/Y"), trade(8, "Z/Y"))
    assert world.prices_and_ids == ["1", "7", "2", "2", "1", "8"]
    assert again.unpublished == 4
    assert again.take is world.merge._publish


def test_after_a_reconnect_the_book_is_what_there_is(world):
    """A venue may number a book anew; the first whole one is taken whatever its sequence."""
    world.bring(world.first, update(Ladder(), 50, {"1": "1"}, whole=True))
    again, book = world.second(), Ladder()
    world.merge.lead(again)
    world.bring(again, update(book, 3, {"2": "1"}, whole=True), update(book, 4, {"3": "1"}))
    assert world.books == [
        ("snapshot", 50, {"1": "1"}),
        ("snapshot", 3, {"2": "1"}),
        ("delta", 4, {"3": "1"}),
    ]


def test_what_the_connection_before_still_says_is_nothing(world):
    """A connection that does not lead any more publishes nothing, and has no data."""
    world.merge.lead(world.second())
    world.bring(world.first, trade(1))
    assert world.messages == []
    assert not world.first.leads
    assert world.first.unpublished == 0


def test_seen(world):
    """The newest trade of each instrument, with its time, as the venue has it; nothing else."""
    assert world.merge.seen() == {}
    world.bring(world.first, trade("007"), trade(9, "Z/Y"), trade("008"), price(1, 1, "A/Y"))
    world.bring(world.first, update(Ladder(), 50, {"1": "1"}, whole=True))
    assert world.merge.seen() == {"Z/Y": Seen("9", None)}
    world.bring(world.first, trade("008"))
    assert world.merge.seen() == {"X/Y": Seen("008", None), "Z/Y": Seen("9", None)}


def test_a_gap_is_no_data(world):
    """That something is lost says nothing of whether a connection brings anything."""
    second = world.second()
    world.bring(second, Gap(instrument="X/Y", data={}))
    assert second.unpublished == 0
    assert len(second.held) == 1


# The switch.


def test_the_second_is_ahead(world):
    """What only the second has brought goes out at the switch, in order, and nothing twice."""
    world.bring(world.first, trade(1), trade(2))
    second = world.second()
    world.bring(second, trade(2), trade(3), trade(4))
    world.bring(world.first, trade(3))
    assert world.ids == ["1", "2", "3"]
    world.merge.lead(second)
    world.bring(second, trade(5))
    assert world.ids == ["1", "2", "3", "4", "5"]


def test_the_second_is_behind(world):
    """What the first has published already is left out until the second brings something newer."""
    world.bring(world.first, *map(trade, range(1, 6)))
    second = world.second()
    world.bring(second, trade(2), trade(3))
    world.merge.lead(second)
    world.bring(second, *map(trade, range(4, 8)))
    assert world.ids == ["1", "2", "3", "4", "5", "6", "7"]


def test_what_was_backfilled_is_counted(world):
    """Of what was held back, the missed trades that are published count, and no others."""
    second = world.second()
    missed = [msgspec.structs.replace(trade(n), backfilled=True) for n in (2, 3, 4)]
    world.bring(world.first, trade(1), trade(2))
    world.bring(second, *missed, trade(5))
    assert world.merge.lead(second) == 2
    assert world.ids == ["1", "2", "3", "4", "5"]


def test_several_instruments_keep_their_order(world):
    """Each instrument is judged for itself; what goes out keeps the order in which it came."""
    world.bring(world.first, trade(1), trade(1, "Z/Y"))
    second = world.second()
    held = [trade(1, "Z/Y"), trade(2, "Z/Y"), trade(2), trade(3, "Z/Y"), trade(3)]
    world.bring(second, *held)
    world.bring(world.first, trade(2))
    world.merge.lead(second)
    assert [(m["instrument"], m["data"]["id"]) for m in world.messages[3:]] == [
        ("Z/Y", "2"),
        ("Z/Y", "3"),
        ("X/Y", "3"),
    ]


def test_names_that_are_no_numbers(world):
    """Trades without numbers follow the one that was published last."""
    world.bring(world.first, trade("f0"), trade("a1"))
    second = world.second()
    world.bring(second, *map(trade, ("f0", "a1", "c3", "b2")))
    world.merge.lead(second)
    assert world.ids == ["f0", "a1", "c3", "b2"]


def test_prices_of_one_time(world):
    """Of prices with one time those that follow the published one are news."""
    world.bring(world.first, price(1, 5), price(2, 5))
    second = world.second()
    world.bring(second, price(1, 5), price(2, 5), price(3, 5), price(4, 6))
    world.merge.lead(second)
    assert world.prices == ["1", "2", "3", "4"]


def test_prices_of_one_time_when_the_second_is_behind(world):
    """Of one that is behind they are left out until the published one has come by."""
    world.bring(world.first, *(price(n, 5) for n in (1, 2, 3)))
    second = world.second()
    world.bring(second, price(1, 5))
    world.merge.lead(second)
    world.bring(second, *(price(n, 5) for n in (2, 3, 4)))
    assert world.prices == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("before", "held", "after"),
    [
        (["1", "2"], ["1", "2", "3", "4"], ["3", "4"]),
        (["1", "2"], ["2"], []),
        (["1", "9"], ["1", "2", "3"], ["3"]),
        ([], ["1", "2"], ["1", "2"]),
    ],
)
def test_prices_without_a_time(world, before, held, after):
    """What follows the published one; else the newest alone, for the rest may be older."""
    world.bring(world.first, *(price(text, None) for text in before))
    second = world.second()
    world.bring(second, *(price(text, None) for text in held))
    world.merge.lead(second)
    assert world.prices == [*before, *after]


def test_a_candle_that_goes_on(world):
    """The same candle is told again as it changes; an older one is not."""

    def candle(start_us, close):
        more = {"open": "1", "high": "1", "low": "1", "close": close}
        return Candle(instrument="X/Y", interval="1m", start_us=start_us, **more)

    world.bring(world.first, candle(60, "1"), candle(120, "1"))
    second = world.second()
    world.bring(second, candle(60, "9"), candle(120, "1"), candle(120, "2"))
    world.merge.lead(second)
    assert [m["data"]["close"] for m in world.messages] == ["1", "1", "2"]


def test_what_has_no_price_is_no_data(world):
    """It is not held back, and does not make a connection one that has data."""
    second = world.second()
    world.bring(second, price("", 5), price("x", 6))
    assert (second.held, second.first, second.unpublished) == ([], {}, 0)


# Order books.


def test_a_book_is_handed_over_whole(world):
    """The second's book is told once as it is, then its changes; a newcomer gets its state."""
    old, new = Ladder(), Ladder()
    world.bring(world.first, update(old, 10, {"1": "1"}, whole=True), update(old, 11, {"2": "1"}))
    second = world.second()
    world.bring(second, update(new, 11, {"1": "1", "2": "1"}, whole=True))
    world.bring(second, update(new, 12, {"3": "1"}), update(new, 13, {"1": "0"}))
    world.merge.lead(second)
    world.bring(second, update(new, 14, {"4": "1"}))
    assert world.books[2:] == [
        ("snapshot", 13, {"2": "1", "3": "1"}),
        ("delta", 14, {"4": "1"}),
    ]
    (whole,) = world.hub.snapshot(["c"])
    assert dict(json.loads(wire.payload_of(whole.frame))["data"]["bids"]) == new.bids


@pytest.mark.parametrize("reached", [10, 11])
def test_a_book_that_is_behind_waits(world, reached):
    """Until its sequence is beyond what was published; then it is told whole."""
    old, new = Ladder(), Ladder()
    world.bring(world.first, update(old, 10, {"1": "1"}, whole=True), update(old, 11, {"2": "1"}))
    second = world.second()
    world.bring(second, update(new, 9, {"9": "1"}, whole=True))
    world.merge.lead(second)
    for sequence in range(10, reached + 1):
        world.bring(second, update(new, sequence, {str(sequence): "1"}))
    assert len(world.books) == 2
    for sequence in range(reached + 1, 13):
        world.bring(second, update(new, sequence, {str(sequence): "1"}))
    assert world.books[2:] == [("snapshot", 12, {"10": "1", "11": "1", "12": "1", "9": "1"})]


def test_a_book_that_is_lost_while_it_waits(world):
    """The second's own gap is told nobody; what it brings after it counts."""
    second, new = world.second(), Ladder()
    world.bring(world.first, update(Ladder(), 10, {"1": "1"}, whole=True))
    world.bring(second, update(new, 12, {"2": "1"}, whole=True))
    assert world.merge.verdict(second, 100.0) == ""
    world.bring(second, Gap(instrument="X/Y", data={}))
    assert world.merge.verdict(second, 100.0) is None
    world.bring(second, update(new, 20, {"3": "1"}, whole=True))
    assert world.merge.verdict(second, 100.0) == ""
    world.merge.lead(second)
    assert world.books[1:] == [("snapshot", 20, {"3": "1"})]
    assert "gap" not in [m["type"] for m in world.messages]


def test_a_book_that_is_lost_at_the_switch(world):
    """That is said; the next whole one is taken whatever its sequence is then."""
    second, new = world.second(), Ladder()
    world.bring(world.first, update(Ladder(), 10, {"1": "1"}, whole=True))
    world.bring(second, update(new, 12, {"2": "1"}, whole=True), Gap(instrument="X/Y", data={}))
    world.merge.lead(second)
    assert [m["type"] for m in world.messages] == ["orderbook_update", "gap"]
    world.bring(second, update(new, 5, {"3": "1"}, whole=True))
    assert world.books[1:] == [("snapshot", 5, {"3": "1"})]


def test_whole_books_without_a_state(world):
    """Where each update is whole, each that is newer goes out as it came."""

    def best(sequence):
        return BookUpdate(
            instrument="X/Y", bids=[(str(sequence), "1")], asks=[], whole=True, sequence=sequence
        )

    world.bring(world.first, best(1), best(2))
    second = world.second()
    world.bring(second, *map(best, (2, 3, 4)))
    world.merge.lead(second)
    assert [sequence for _, sequence, _ in world.books] == [1, 2, 3, 4]


# What is held back is bounded.


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(merge_module, "MAX_HELD", 10)


def test_what_was_published_meanwhile_makes_room(world, small):
    """As long as both bring the same, nothing is lost however long it takes."""
    second = world.second()
    for number in range(200):
        world.bring(second, trade(number))
        world.bring(world.first, trade(number - 3))
    assert len(second.held) <= 10
    world.merge.lead(second)
    assert world.ids == [str(number) for number in range(-3, 200)]


def test_too_many_trades_are_a_gap(world, small):
    """Those beyond the bound are lost, and a gap says between which."""
    world.bring(world.first, trade(1))
    second = world.second()
    world.bring(second, *map(trade, range(1, 31)), trade(1, "Z/Y"))
    assert len(second.held) <= 10
    world.merge.lead(second)
    assert world.ids[:2] == ["1", "gap"]
    gap, first = world.messages[1:3]
    cause = "more came than could be held back"
    assert gap["data"] == {"cause": cause, "after": 1, "before": int(first["data"]["id"])}
    assert world.ids[-2:] == ["30", "1"]
    numbers = [int(text) for text in world.ids[2:-1]]
    assert numbers == list(range(numbers[0], 31))


def test_no_gap_where_the_first_had_them(world, small):
    """What could not be held back is no loss where the first has published it."""
    second = world.second()
    world.bring(second, *map(trade, range(30)))
    world.bring(world.first, *map(trade, range(28)))
    world.merge.lead(second)
    assert world.ids == [str(number) for number in range(30)]


def test_of_prices_and_books_the_newest_is_kept(world, small):
    """They stand for the older ones; no instrument is left out."""
    second, book = world.second(), Ladder()
    world.bring(second, update(book, 0, {"0": "1"}, whole=True))
    names = [f"{letter}/Y" for letter in "ABCDEFGHIJKLMNOP"]
    for n in range(1, 5):
        for name in names:
            world.bring(second, price(n, n, name))
        world.bring(second, update(book, n, {str(n): "1"}))
    world.merge.lead(second)
    last = {m["instrument"]: m["price"] for m in world.messages if m["type"] == "price_update"}
    assert set(last) >= set(names)
    assert {str(value) for value in last.values()} == {"4"}
    assert world.books == [("snapshot", 4, book.bids)]


# Whether the second can lead.


def test_nothing_before_it_is_open(world):
    """A connection that is not open yet can't lead, however long it takes."""
    assert world.merge.verdict(world.merge.inlet(), FAR) is None


def test_both_are_open_for_a_while(world):
    """What the first is behind with may be of an instrument that nobody has seen yet."""
    second = world.second(100.0)
    world.bring(second, trade(1))
    assert world.merge.verdict(second, 100.0 + OVERLAP_S - 0.01) is None
    assert world.merge.verdict(second, 100.0 + OVERLAP_S) == ""


def test_every_recent_instrument_is_waited_for(world):
    """Those with data within a minute; not those that the venue does not know there."""
    world.bring(world.first, trade(1), trade(1, "Z/Y"), trade(1, "U/Y"))
    world.bring(world.first, trade(1, "OLD/Y"), us=NOW_US - merge_module.RECENT_US - 1)
    second = world.second()
    assert world.merge.verdict(second, 100.0, {"U/Y"}) is None
    world.bring(second, trade(1))
    assert world.merge.verdict(second, 101.0, {"U/Y"}) is None
    world.bring(second, trade(1, "Z/Y"))
    assert world.merge.verdict(second, 101.0, {"U/Y"}) == ""


def test_the_first_has_to_reach_where_the_second_begins(world):
    """What lies between the two would be missing; for some seconds it may come yet."""
    world.bring(world.first, trade(1))
    second = world.second()
    world.bring(second, trade(4))
    assert world.merge.verdict(second, 101.0) is None
    world.bring(world.first, trade(2), trade(3))
    assert world.merge.verdict(second, 102.0) is None
    world.bring(world.first, trade(4))
    assert world.merge.verdict(second, 103.0) == ""


def test_the_first_has_to_reach_it_also_within_one_time(world):
    """Of two prices with one time it is not known which was first: the later one may be missing."""
    world.bring(world.first, price(1, 5))
    second = world.second()
    world.bring(second, price(2, 5))
    assert world.merge.verdict(second, 101.0) is None
    world.bring(world.first, price(2, 5))
    assert world.merge.verdict(second, 101.0) == ""


def test_what_the_first_does_not_bring_in_time_is_not_waited_for(world):
    """A first connection that has lost an instrument does not hold up the second."""
    world.bring(world.first, trade(1))
    second = world.second()
    world.bring(second, trade(4))
    assert world.merge.verdict(second, 101.0) is None
    assert world.merge.verdict(second, 101.0 + SKEW_S) == ""


def test_a_second_that_is_mute(world):
    """It can't lead if in all the time it has not brought what the first has."""
    second = world.second()
    for name in ("X/Y", "Z/Y", "A/Y", "B/Y", "C/Y"):
        world.bring(world.first, trade(1, name), us=NOW_US + round(WAIT_S * 0.6e6))
    world.bring(second, trade(1))
    assert world.merge.verdict(second, 99.0 + WAIT_S - 0.1) is None
    expected = "no data of A/Y, B/Y, C/Y and 1 more for 20 s"
    assert world.merge.verdict(second, 99.0 + WAIT_S) == expected


def test_both_are_silent(world):
    """What trades rarely need not be waited for without end: there was nothing to miss."""
    world.bring(world.first, trade(1))
    second = world.second()
    assert world.merge.verdict(second, 99.0 + WAIT_S - 0.1) is None
    assert world.merge.verdict(second, 99.0 + WAIT_S) == ""


# Any skew, any number of rotations.


def venue_says(random: Random) -> list[Event]:
    """Return what a venue says: trades with rising ids, prices whose times do not go back."""
    events: list[Event] = []
    numbers, times = {"X/Y": 0, "Z/Y": 0}, {"A/Y": 0, "B/Y": 0}
    for n in range(random.randint(0, 60)):
        name = random.choice(["X/Y", "Z/Y", "A/Y", "B/Y"])
        if name in numbers:
            numbers[name] += random.randint(1, 3)
            events.append(trade(numbers[name], name))
        else:
            times[name] += random.randint(0, 2)
            events.append(price(n, times[name], name))
    return events


class Wire:
    """A connection: it brings what the venue says, from some point on, as far as it has got."""

    def __init__(self, inlet, said: list[Event], at: int) -> None:
        self.inlet, self.said, self.at = inlet, said, at
        # The venue sends the last price at once.
        last = {e.instrument: e for e in said[:at] if isinstance(e, PriceUpdate)}
        World.bring(inlet, *last.values())

    def bring(self, to: int) -> None:
        World.bring(self.inlet, *self.said[self.at : to])
        self.at = max(self.at, to)


class BookWire:
    """The same for a book: `steps` are its changes, `states` what it is after each."""

    def __init__(self, inlet, steps, states, at) -> None:
        self.inlet, self.steps, self.at, self.book = inlet, steps, at + 1, Ladder()
        World.bring(inlet, update(self.book, at, states[at], whole=True))

    def bring(self, to: int) -> None:
        for n in range(self.at, to):
            World.bring(self.inlet, update(self.book, n, self.steps[n]))
        self.at = max(self.at, to)


def rotate_at_random(random: Random, world: World, first, begin, end: int) -> int:
    """
    Let the venue speak to its end, and connections rotate; return how often they did.

    It says one thing in a `LAG`th of the overlap; a connection is behind by no more than `LAG`.
    """
    now = rotations = 0
    second = None
    while now < end:
        now = min(end, now + random.randint(0, 5))
        for each in filter(None, (first, second)):
            each.bring(max(0, now - random.randint(0, LAG)))
        if second is None and random.random() < 0.5:
            second = begin(world.second(now / LAG), now)
        elif second is not None and world.merge.verdict(second.inlet, now / LAG) == "":
            world.merge.lead(second.inlet)
            first, second = second, None
            rotations += 1
    first.bring(end)
    return rotations


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=True))
def test_any_skew_and_any_number_of_rotations(random):
    """What is published is what the venue said: none missing, none twice, all in order."""
    said, world = venue_says(random), World()
    first = Wire(world.first, said, 0)
    rotate_at_random(random, world, first, lambda i, now: Wire(i, said, now), len(said))
    for name in ("X/Y", "Z/Y", "A/Y", "B/Y"):
        sent = [e for e in said if e.instrument == name]
        told = zip(world.messages, world.prices_and_ids, strict=True)
        got = [text for message, text in told if message["instrument"] == name]
        assert got == [e.id if isinstance(e, TradeExecuted) else e.price for e in sent]


@settings(max_examples=500, deadline=None)
@given(st.randoms(use_true_random=True))
def test_any_skew_of_books(random):
    """Who applies what is published has, after each message, the venue's book at its sequence."""
    steps = [
        {random.choice("123456"): random.choice("0123") for _ in range(random.randint(1, 3))}
        for _ in range(random.randint(2, 50))
    ]
    states, venue, world = [], Ladder(), World()
    for step in steps:
        venue.apply(step)
        states.append(dict(venue.bids))

    def begin(inlet, now):
        # Another server of the venue's may be behind from the start.
        at = min(len(steps) - 1, max(0, now - random.randint(0, 4)))
        return BookWire(inlet, steps, states, at)

    rotate_at_random(random, world, BookWire(world.first, steps, states, 0), begin, len(steps))
    held, before = Ladder(), -1
    for action, sequence, bids in world.books:
        held.apply(bids, whole=action == "snapshot")
        assert held.bids == states[sequence]
        assert sequence > before
        before = sequence
    assert held.bids == states[-1]


def test_rotations_do_happen():
    """Or the two tests above would show nothing."""
    random, rotations = Random(7), 0
    for _ in range(100):
        said, world = venue_says(random), World()
        first = Wire(world.first, said, 0)
        begin = functools.partial(lambda said, i, now: Wire(i, said, now), said)
        rotations += rotate_at_random(random, world, first, begin, len(said))
    assert rotations > 100
