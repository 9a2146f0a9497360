"""
OKX: order books.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel

`books` has 400 levels of each side: a snapshot, then at most every 100 ms what has changed, and
something at least every 60 s. `bbo-tbt` has the best level of each side, at most every 10 ms. Of a
level `[price, size, "0", number of orders]` the first two count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from aggregator import api
from connectors.okx.public import (
    TICK_S,
    Arg,
    Milliseconds,
    Public,
    PublicOptions,
    beginning,
    microseconds,
)

LEVELS = 400
"""So many of each side `books` has."""


class BookOptions(PublicOptions):
    """What the section of an `okx.books` feed may contain."""

    depth: Annotated[int, api.Field(ge=1, le=LEVELS)] = 50
    """Levels of each side that clients hold, 1 to 400."""
    interval_ms: Annotated[int, api.Field(ge=0, le=60_000)] = 0
    """Changes of so many milliseconds become one message; 0: as the venue sends them."""


class Best(msgspec.Struct, gc=False):
    """A row of `bbo-tbt`."""

    asks: list[api.Level]
    bids: list[api.Level]
    ts: Milliseconds = ""
    seqId: int | None = None


class Row(msgspec.Struct, gc=False):
    """A row of `books`: without its numbers nobody could know whether one is missing."""

    asks: list[api.Level]
    bids: list[api.Level]
    seqId: int
    prevSeqId: int
    ts: Milliseconds = ""


class BestFrame(msgspec.Struct, gc=False):
    """A frame of `bbo-tbt`."""

    arg: Arg = msgspec.field(default_factory=Arg)
    data: list[Best] | None = None


class BookFrame(msgspec.Struct, gc=False):
    """A frame of `books`."""

    arg: Arg = msgspec.field(default_factory=Arg)
    action: str = ""
    data: list[Row] | None = None


BBO, BOOKS = beginning("bbo-tbt"), beginning("books")
decode_best = msgspec.json.Decoder(BestFrame).decode
decode_book = msgspec.json.Decoder(BookFrame).decode


class Bbo(Public):
    """The best bid and ask: each message has both, and stands for itself."""

    channel = "bbo-tbt"

    def on_frame(self, frame: bytes) -> Iterable[api.Output]:
        """Translate one frame."""
        message = decode_best(frame) if frame.startswith(BBO) else None
        if message is None or not message.data:
            other = self.other(frame)
            if other is not None:
                return other
            message = decode_best(frame)
        instrument = self.instruments.get(message.arg.instId)
        if instrument is None:
            return [api.Unhandled("book of another instrument")]
        return [_best(instrument, row) for row in message.data or ()]


def _best(instrument: str, row: Best) -> api.BookUpdate:
    book = api.Book(row.bids, row.asks)
    return api.BookUpdate(
        instrument=instrument,
        bids=row.bids,
        asks=row.asks,
        whole=True,
        sequence=row.seqId,
        exchange_us=microseconds(row.ts),
        flag=book.flag,
    )


class Kept:
    """A book that is told of, its last row, and what is told next where changes are gathered."""

    __slots__ = ("book", "exchange_us", "gathered", "row", "shown", "told")

    def __init__(self, row: Row, instrument: str, depth: int, *, gathers: bool) -> None:
        held = depth if depth < LEVELS else None
        depth_told = None if gathers else held
        self.book = api.Book(
            row.bids, row.asks, depth=depth_told, sequence=row.seqId, name=instrument
        )
        self.row = row
        self.told = api.Conflated(self.book, held) if gathers else None
        self.shown: api.Book | api.Conflated = self.told or self.book
        self.exchange_us = microseconds(row.ts)
        self.gathered = False

    def update(self, instrument: str, sides: api.Sides, *, whole: bool = False) -> api.BookUpdate:
        """Return what clients are told."""
        book = self.book
        return api.BookUpdate(
            instrument=instrument,
            bids=sides[0],
            asks=sides[1],
            whole=whole,
            sequence=book.sequence,
            exchange_us=self.exchange_us,
            book=self.shown,
            flag=book.flag,
        )


class Books(Public):
    """
    The best `depth` levels: the whole, then each change.

    After a missing update the book is dropped, and its channel subscribed to anew: at once, or if
    that was of no use lately, after a pause.
    """

    channel = "books"
    options_type = BookOptions
    options: BookOptions
    silence_s = 75.0

    def __init__(self, options: BookOptions) -> None:
        super().__init__(options)
        interval_s = options.interval_ms / 1000
        self._gathers = interval_s > 0
        # What is gathered is told with every so manieth tick.
        self._ticks_told = max(1, math.ceil(interval_s / TICK_S))
        self._ticks = 0
        if self._gathers:
            self.tick_s = interval_s / self._ticks_told
        self._books: dict[str, Kept] = {}

    def on_frame(self, frame: bytes) -> Iterable[api.Output]:
        """Translate one frame."""
        message = decode_book(frame) if frame.startswith(BOOKS) else None
        if message is None or not message.data:
            other = self.other(frame)
            if other is not None:
                return other
            message = decode_book(frame)
        instrument = self.instruments.get(message.arg.instId)
        if instrument is None:
            return [api.Unhandled("book of another instrument")]
        rows = message.data or ()
        take = self._begin if message.action == "snapshot" else self._change
        if len(rows) == 1:
            return take(instrument, rows[0])
        for row in rows:
            # All of them before one is taken: that can't be read by itself either.
            api.Book(row.bids, row.asks, name=instrument)
            microseconds(row.ts)
        return [output for row in rows for output in take(instrument, row)]

    def on_tick(self) -> Iterator[api.Output]:
        """Tell what was gathered since the last time."""
        yield from super().on_tick()
        self._ticks += 1
        if self._ticks % self._ticks_told:
            return
        for instrument, kept in self._books.items():
            if kept.gathered and kept.told is not None:
                kept.gathered = False
                yield kept.update(instrument, kept.told.catch_up())

    def _begin(self, instrument: str, row: Row) -> list[api.Output]:
        kept = Kept(row, instrument, self.options.depth, gathers=self._gathers)
        self._books[instrument] = kept
        self.recovered(instrument)
        return [kept.update(instrument, kept.shown.top(), whole=True)]

    def _change(self, instrument: str, row: Row) -> Iterable[api.Output]:
        kept = self._books.get(instrument)
        if kept is None:
            # It is of no use without the snapshot, which is yet to come; or else was lost.
            return self.resubscribe(instrument)
        book = kept.book
        if row.prevSeqId != book.sequence and (
            lost := api.chained(book.sequence, row.prevSeqId, row.seqId)
        ):
            if row == kept.row:
                return [api.Ignored("update that came twice")]
            del self._books[instrument]
            return [api.Gap(instrument=instrument, data=lost.data()), *self.resubscribe(instrument)]
        # Whatever can't be read comes first: a book must not be ahead of what was told.
        exchange_us = int(row.ts) * 1000 if row.ts else None
        sides = book.apply(row.bids, row.asks, row.seqId)
        kept.row, kept.exchange_us = row, exchange_us
        if kept.told is None:
            return [
                api.BookUpdate(
                    instrument=instrument,
                    bids=sides[0],
                    asks=sides[1],
                    sequence=row.seqId,
                    exchange_us=exchange_us,
                    book=book,
                    flag=book.flag,
                )
            ]
        kept.gathered = True
        return []
