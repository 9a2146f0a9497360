"""Order books: what is in them, and that clients hold exactly the best of it."""

from __future__ import annotations

import json
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aggregator.book import Book, Conflated
from aggregator.connector import UNREADABLE
from aggregator.decimals import crossing
from aggregator.model import Level

# The same price in several spellings, and prices that are one and the same as floats.
PRICES = (
    *("1", "1.0", "1.00", "1e0", "2", "2.5", "2.50", "3", "4.25", "5", "60000.1", "0.00000001"),
    *("0.12345678901234567", "0.12345678901234568", "9007199254740993", "9007199254740992"),
)
SIZES = ("0", "0.000", "0e5", "1", "1.50", "0.00000001", "73")
CHANGES = st.lists(st.builds(Level, st.sampled_from(PRICES), st.sampled_from(SIZES)), max_size=8)
DEPTHS = st.none() | st.integers(1, 6)


class Side(dict):
    """Levels by price: who applies changes the simple way."""

    def make(self, changes: list[Level]) -> Side:
        for level in changes:
            # An equal price has the newest spelling.
            self.pop(Decimal(level.price), None)
            if Decimal(level.size):
                self[Decimal(level.price)] = level
        return self

    def best(self, depth: int | None, *, bids: bool) -> list[Level]:
        return [self[price] for price in sorted(self, reverse=bids)[:depth]]


class Client:
    """Holds a book by what it is told."""

    def __init__(self, depth: int | None, bids: list[Level], asks: list[Level]) -> None:
        self.depth = depth
        self.bids, self.asks = Side().make(bids), Side().make(asks)

    def make(self, bids: list[Level], asks: list[Level]) -> None:
        for side, changes in ((self.bids, bids), (self.asks, asks)):
            gone = [level for level in changes if not Decimal(level.size)]
            # Of the venue's own changes some may be about nothing.
            assert self.depth is None or all(Decimal(level.price) in side for level in gone)
            side.make(changes)

    def top(self) -> tuple[list[Level], list[Level]]:
        return self.bids.best(None, bids=True), self.asks.best(None, bids=False)


def levels(*pairs: tuple[str, str]) -> list[Level]:
    return [Level(price, size) for price, size in pairs]


def distinct(changes: list[Level]) -> list[Level]:
    """Return the changes without those that another one follows at the same price."""
    last = {Decimal(level.price): level for level in changes}
    return list(last.values())


@settings(max_examples=400, deadline=None)
@example(1, ([], []), [(levels(("1", "1"), ("2", "1"), ("1", "0")), [])])
@given(DEPTHS, st.tuples(CHANGES, CHANGES), st.lists(st.tuples(CHANGES, CHANGES), max_size=12))
def test_clients_hold_exactly_the_best_levels(depth, start, updates):
    """Whatever changes come: first snapshot and changes told make the best `depth` levels."""
    bids, asks = (Side().make(distinct(side)) for side in start)
    book = Book(*map(distinct, start), depth=depth)
    client = Client(depth, *book.top())
    for n, update in enumerate(updates):
        told = book.apply(*update, n)
        client.make(*told)
        for changes, side in zip(update, told, strict=True):
            # Nothing is told twice that the venue does not say twice.
            assert len(distinct(changes)) < len(changes) or len(distinct(side)) == len(side)
        bids.make(update[0])
        asks.make(update[1])
        expected = bids.best(depth, bids=True), asks.best(depth, bids=False)
        assert book.top() == expected
        assert client.top() == expected
        assert book.sequence == n


@settings(max_examples=200, deadline=None)
@given(
    DEPTHS,
    st.tuples(CHANGES, CHANGES),
    st.lists(st.tuples(CHANGES, CHANGES, st.booleans()), max_size=12),
)
def test_clients_that_are_told_together(depth, start, updates):
    """A state and what is told of many changes at once make the best levels at that time."""
    bids, asks = (Side().make(distinct(side)) for side in start)
    book = Book(*map(distinct, start))
    told = Conflated(book, depth)
    client = Client(depth, *told.top())
    for *update, tell in updates:
        before = told.top()
        book.apply(*update)
        bids.make(update[0])
        asks.make(update[1])
        # Newcomers get what the others hold.
        assert told.top() == client.top() == before
        if tell:
            client.make(*told.catch_up())
            expected = bids.best(depth, bids=True), asks.best(depth, bids=False)
            assert told.top() == client.top() == expected


def test_what_is_not_seen_is_not_told():
    """A change behind the best levels is nobody's business, until it is among them."""
    book = Book(levels(("10", "1"), ("9", "1"), ("8", "1")), [], depth=2)
    assert book.apply(levels(("8", "5"), ("7", "1")), []) == ([], [])
    assert book.apply(levels(("10", "0")), []) == (levels(("10", "0"), ("8", "5")), [])
    assert book.apply(levels(("9.5", "2")), []) == (levels(("9.5", "2"), ("8", "0")), [])
    assert book.apply(levels(("9.7", "3"), ("9.5", "0")), []) == (
        levels(("9.7", "3"), ("9.5", "0")),
        [],
    )


def test_changes_pass_where_clients_hold_all():
    """Without a bound the venue's own changes are told, the very same."""
    book = Book(levels(("10", "1")), [])
    changes = levels(("10", "0.00"), ("3", "0"), ("9", "2"))
    bids, asks = book.apply(changes, [])
    assert bids is changes
    assert asks == []


@settings(deadline=None)
@given(st.sampled_from(PRICES), st.sampled_from(PRICES))
def test_crossed_and_locked(bid, ask):
    """Best prices are compared as numbers, to the last digit."""
    exact = Decimal(bid) - Decimal(ask)
    expected = "crossed" if exact > 0 else "locked" if exact == 0 else None
    assert crossing(bid, ask) == expected
    assert Book(levels((bid, "1")), levels((ask, "1"))).flag == expected
    assert Book(levels((bid, "1")), []).flag is None
    assert Book([], levels((ask, "1"))).flag is None


@pytest.mark.parametrize(
    "bad",
    [
        *(("x", "1"), ("", "1"), ("1", ""), ("1", "x"), ("1", "-1"), ("nan", "1"), ("1", "inf")),
        *(("1,2", "1"), ("1", "1,2"), ("null", "1"), ("inf", "1"), ("1", "nan"), ("1e999", "1")),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_a_bad_number_is_refused(bad, side):
    """An update or a snapshot that can't be read is refused; what follows is a break, by number."""
    book = Book(levels(("3", "1")), levels(("4", "1")), sequence=7)
    changes = [levels(("3", "9")), levels(("4", "9"))]
    changes[side] = levels(("3", "2"), bad)
    with pytest.raises(UNREADABLE):
        book.apply(*changes, 8)
    assert book.sequence == 7
    with pytest.raises(UNREADABLE):
        Book(*changes)


BAD = (Level("nan", "1"), Level("3", "free"), Level("3", "-1"), Level("0.12345678901234567", "x"))


@settings(max_examples=200, deadline=None)
@given(
    DEPTHS,
    st.tuples(CHANGES, CHANGES),
    st.lists(st.tuples(CHANGES, CHANGES, st.sampled_from(["made", "undone", "bad"])), max_size=8),
    st.sampled_from(BAD),
    st.integers(0, 1),
    st.integers(0, 8),
)
def test_an_update_is_made_whole_or_not_at_all(  # noqa: PLR0917 - what hypothesis draws
    depth, start, updates, bad, side, place
):
    """What can't be read, or is taken back, leaves no trace in the book, nor in what follows."""
    book = Book(*map(distinct, start), depth=depth, sequence=-1, undoable=True)
    plain = Book(*map(distinct, start), depth=depth, sequence=-1)
    for n, (*update, how) in enumerate(updates):
        if how == "made":
            assert book.apply(*update, n) == plain.apply(*update, n)
        elif how == "undone":
            book.apply(*update, n)
            book.undo()
        else:
            update[side] = [*update[side][:place], bad, *update[side][place:]]
            with pytest.raises(ValueError, match=r".+"):
                book.apply(*update, n)
        assert book.top() == plain.top()
        assert book.best(None) == plain.best(None)
        assert book.sequence == plain.sequence


def test_errors_have_the_name():
    """Who hears of what can't be read is told of which book."""
    with pytest.raises(ValueError, match=r"^X/Y: a price is no number"):
        Book(levels(("nan", "1")), [], name="X/Y")
    with pytest.raises(ValueError, match=r"^X/Y: could not convert"):
        Book([], [], name="X/Y").apply([], levels(("1", "free")))


def test_level_in_json():
    """A level is a pair in JSON, whatever else the venue has behind it."""
    level = msgspec.json.decode(b'["1.50","2","0","7"]', type=Level)
    assert level == Level("1.50", "2")
    assert json.loads(msgspec.json.encode(level)) == ["1.50", "2"]
