"""A small order book per venue and instrument, with update ids.

Several streams read one book at different paces. Each has its own `Changes`: what altered
since it last took them, so that taking and applying them always leads to the book as it is.
"""

import random
from collections.abc import Callable

from aggregator.simulator.market import Instrument

_REACH = 60
_SLACK = 50


class Changes:
    """Levels (ticks to lots, 0 removes) altered between update `first` and update `last`."""

    __slots__ = ("asks", "bids", "first", "last")

    def __init__(self, first: int) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.first = first
        self.last = first - 1

    def __bool__(self) -> bool:
        return self.last >= self.first


class Book:
    """The book of one instrument at one venue; it follows the instrument's bid and ask."""

    def __init__(
        self, instrument: Instrument, *, offset: int, levels: int, rng: random.Random
    ) -> None:
        self.instrument = instrument
        self._offset = offset
        self._levels = levels
        self._rng = rng
        self._watched: dict[str, Changes] = {}
        self.last_id = rng.randint(10_000_000, 90_000_000)
        best_bid, best_ask = instrument.bid + offset, instrument.ask + offset
        if not instrument.trading:
            self.bids: dict[int, int] = {}
            self.asks: dict[int, int] = {}
            return
        gap = instrument.gap
        self.asks = {best_ask + n * gap: self._lots() for n in range(levels)}
        self.bids = {
            best_bid - n * gap: self._lots() for n in range(levels) if best_bid - n * gap > 0
        }
        self.bids[best_bid] = instrument.bid_lots
        self.asks[best_ask] = instrument.ask_lots

    def advance(self) -> None:
        """Move to the instrument's present bid and ask; the best levels equal them after."""
        instrument = self.instrument
        if not instrument.moved:
            return
        bid, ask = instrument.bid + self._offset, instrument.ask + self._offset
        for ticks in [ticks for ticks in self.asks if ticks < ask]:
            self._set_ask(ticks, 0)
        for ticks in [ticks for ticks in self.bids if ticks > bid]:
            self._set_bid(ticks, 0)
        self._set_bid(bid, instrument.bid_lots)
        self._set_ask(ask, instrument.ask_lots)
        rng, reach = self._rng, _REACH * instrument.gap
        for _ in range(rng.randint(0, 3)):
            if (ticks := bid - rng.randint(1, reach)) > 0:
                self._set_bid(ticks, 0 if rng.random() < 0.3 else self._lots())
        for _ in range(rng.randint(0, 3)):
            ticks = ask + rng.randint(1, reach)
            self._set_ask(ticks, 0 if rng.random() < 0.3 else self._lots())
        self._keep_size()

    def watch(self, name: str) -> None:
        """Begin to gather changes for the reader `name`, from now on."""
        self._watched[name] = Changes(self.last_id + 1)

    def forget(self, name: str) -> None:
        """Gather no more changes for `name`."""
        self._watched.pop(name, None)

    def take(self, name: str) -> Changes:
        """Return what changed since `name` last took; `name` must be watching."""
        taken = self._watched[name]
        self._watched[name] = Changes(self.last_id + 1)
        return taken

    def best_bids(self, limit: int) -> list[tuple[int, int]]:
        """Up to `limit` bids as (ticks, lots), the best first."""
        return sorted(self.bids.items(), reverse=True)[:limit]

    def best_asks(self, limit: int) -> list[tuple[int, int]]:
        """Up to `limit` asks as (ticks, lots), the best first."""
        return sorted(self.asks.items())[:limit]

    def _lots(self) -> int:
        # As large as the instrument's own best sizes, so that books look alike throughout.
        return 1 + int(self.instrument.last_lots * 4 * self._rng.random())

    def _set_bid(self, ticks: int, lots: int) -> None:
        if self._alter(self.bids, ticks, lots):
            for changes in self._watched.values():
                changes.bids[ticks] = lots
                changes.last = self.last_id

    def _set_ask(self, ticks: int, lots: int) -> None:
        if self._alter(self.asks, ticks, lots):
            for changes in self._watched.values():
                changes.asks[ticks] = lots
                changes.last = self.last_id

    def _alter(self, side: dict[int, int], ticks: int, lots: int) -> bool:
        if side.get(ticks, 0) == lots:
            return False
        if lots:
            side[ticks] = lots
        else:
            del side[ticks]
        self.last_id += 1
        return True

    def _keep_size(self) -> None:
        """Cut and extend the far ends: the walk eats one side and leaves the other long."""
        gap = self.instrument.gap
        if len(self.bids) > self._levels + _SLACK:
            for ticks in sorted(self.bids)[: len(self.bids) - self._levels]:
                self._set_bid(ticks, 0)
        if len(self.asks) > self._levels + _SLACK:
            for ticks in sorted(self.asks)[self._levels :]:
                self._set_ask(ticks, 0)
        if len(self.bids) < self._levels - _SLACK:
            far = min(self.bids)
            for ticks in range(far - gap, max(0, far - gap * (_SLACK + 1)), -gap):
                self._set_bid(ticks, self._lots())
        if len(self.asks) < self._levels - _SLACK:
            far = max(self.asks)
            for ticks in range(far + gap, far + gap * (_SLACK + 1), gap):
                self._set_ask(ticks, self._lots())


class View:
    """The best `limit` levels of a book, and what has to be changed to go on holding just those."""

    def __init__(self, book: Book, limit: int) -> None:
        self.book = book
        self._limit = limit
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self.sequence = book.last_id
        """The number of the update that it is from; what is deeper may have changed since."""
        self.take()

    def take(self) -> Changes:
        """Return what changed since the last call: also what came in or went out in consequence."""
        book = self.book
        changes = Changes(self.sequence + 1)
        held = self._bids, self._asks
        self._bids, self._asks = best = (
            dict(book.best_bids(self._limit)),
            dict(book.best_asks(self._limit)),
        )
        for old, new, changed in zip(held, best, (changes.bids, changes.asks), strict=True):
            changed.update(dict.fromkeys(old.keys() - new.keys(), 0))
            changed.update({t: lots for t, lots in new.items() if old.get(t) != lots})
        if changes.bids or changes.asks:
            changes.last = self.sequence = book.last_id
        return changes


class Books:
    """The books of one venue; one is made when somebody first asks for it."""

    def __init__(
        self, seed: int, venue: str, levels: int, offset: Callable[[Instrument], int]
    ) -> None:
        self._seed = seed
        self._venue = venue
        self._levels = levels
        self._offset = offset
        self._books: dict[str, Book] = {}

    def of(self, instrument: Instrument) -> Book:
        """Return the book of `instrument` as it is now."""
        book = self._books.get(instrument.symbol)
        if book is None:
            # Not for secrets: the same seed must give the same book.
            rng = random.Random(f"{self._seed}/{self._venue}/{instrument.symbol}")  # noqa: S311
            offset = self._offset(instrument)
            book = Book(instrument, offset=offset, levels=self._levels, rng=rng)
            self._books[instrument.symbol] = book
        return book

    def advance(self) -> None:
        """Follow the market's last step."""
        for book in self._books.values():
            book.advance()
