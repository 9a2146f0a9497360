"""
Binance: order books, from a snapshot over REST and the stream of its changes.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#diff-depth-stream
and "How to manage a local order book correctly" there

A change follows the last one if it begins no later than behind it (`U` <= last `u` + 1). What comes
while a snapshot is on its way waits for it. Of what lies deeper than the snapshot only the levels
that change are known; so before those are among the best ones, a new snapshot is fetched. Snapshots
that are older than the stream, or of no use for long, are fetched after pauses that grow; a third
of the weight that the venue allows is for all that are not the first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from msgspec import Struct, json

from aggregator import api
from connectors.binance.listing import BUDGET, NAMES, depth_request
from connectors.binance.stream import BinanceOptions, Milliseconds, Stream

SHARE = 1 / 3
"""Of the weight that the venue allows, for snapshots that are not the first of an instrument."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 60.0
"""Between two snapshots of an instrument, where the last was of no use."""
TICK_S = 0.25
"""How exactly that is known."""
TOO_FEW = "more of the best levels went than the snapshot was deep"
MAX_WAITING = 1000
"""Changes of an instrument that wait for a snapshot; of more, the last."""


class DepthOptions(BinanceOptions):
    """What the section of a `binance.depth` feed may contain."""

    depth: Annotated[int, api.Field(ge=1, le=1000)] = 50
    """Levels of each side that clients hold, 1 to 1000."""
    interval_ms: Literal[100, 1000] = 100
    """How often the venue sends what has changed, in milliseconds: 100 or 1000."""
    limit: Annotated[int, api.Field(ge=100, le=5000)] = 1000
    """Levels of a snapshot, 2 x `depth` at least; it weighs 5 for 100, 25, 50, 250 above 1000."""


class Diff(Struct, gc=False):
    """An event `depthUpdate`; zero removes a level."""

    s: str
    U: int
    u: int
    E: Milliseconds
    b: list[api.Level]
    a: list[api.Level]


class Snapshot(Struct):
    """The answer of `depth`."""

    lastUpdateId: int
    bids: list[api.Level]
    asks: list[api.Level]


class Market:
    """
    The book of one instrument, `None` until it is known.

    `waiting` has the changes that came since a snapshot was asked for, `None` when none is on its
    way. What is worth more than `floor` or less than `ceiling` is known. `unknown`: the venue does
    not trade it, as far as its names and its changes say.
    """

    __slots__ = ("book", "ceiling", "floor", "instrument", "symbol", "unknown", "waiting")

    def __init__(self, symbol: str, instrument: str) -> None:
        self.symbol = symbol
        self.instrument = instrument
        self.book: api.Book | None = None
        self.waiting: deque[Diff] | None = None
        self.unknown = False
        self.floor = 0.0
        self.ceiling = math.inf


decode_diff = json.Decoder(Diff).decode
decode_snapshot = json.Decoder(Snapshot).decode


class Depth(Stream):
    """The best `depth` levels: the whole, then each change."""

    options_type = DepthOptions
    options: DepthOptions
    event = "depthUpdate"

    def __init__(self, options: DepthOptions) -> None:
        super().__init__(options)
        depth = options.depth
        self._limit = max(options.limit, 2 * depth)
        # Early enough that a new snapshot is there before its lack would be seen.
        self._thin = min(2 * depth, (depth + self._limit) // 2)
        self._markets = {s: Market(s, i) for s, i in self._by_symbol.items()}
        self.tick_s = TICK_S
        self._time = 0.0
        weight = depth_request("", self._limit).weight
        half = SHARE * BUDGET.per_minute / weight / 2
        self._retries = api.Retries(
            max(1, int(half)), half / 60, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S
        )

    def on_tick(self) -> Iterable[api.Output]:
        """Take note that time goes by."""
        self._time += TICK_S
        return ()

    def on_response(self, request: api.Request, body: bytes) -> Iterable[api.Output]:
        """Translate names or a snapshot."""
        market = self._markets.get(request.key)
        if request.key == NAMES or market is None:
            return super().on_response(request, body)
        return self._fetched(market, decode_snapshot(body))

    def on_no_response(self, request: api.Request, reason: str) -> Iterable[api.Output]:
        """Begin again with the next change."""
        market = self._markets.get(request.key)
        if market is not None:
            market.waiting = None
        return super().on_no_response(request, reason)

    def _stream(self, symbol: str) -> str:
        speed = "@100ms" if self.options.interval_ms == 100 else ""
        return f"{symbol.lower()}@depth{speed}"

    def _names(self, body: bytes) -> Iterable[api.Output]:
        outputs = list(super()._names(body))
        unknown = {o.instrument for o in outputs if isinstance(o, api.UnknownInstrument)}
        for market in self._markets.values():
            if market.instrument in unknown:
                # A snapshot is there even of what is not traded; a change would prove that it is.
                market.book = market.waiting = None
                market.unknown = True
        return outputs

    def _acknowledged(self) -> Iterator[api.Output]:
        for market in self._markets.values():
            if market.book is None and market.waiting is None and not market.unknown:
                yield self._ask(market)

    def _event(self, frame: bytes) -> Iterable[api.Output]:
        diff = decode_diff(frame)
        market = self._markets.get(diff.s)
        if market is None:
            return [api.Unhandled("book of another instrument")]
        market.unknown = False
        if market.waiting is not None:
            # One that can't be read is not kept: the hole shows, and the snapshot has to be newer.
            api.Book(diff.b, diff.a, name=market.instrument)
            market.waiting.append(diff)
        if market.book is not None:
            return self._changed(market, market.book, diff)
        return [] if market.waiting is not None else [self._ask_again(market, diff)]

    def _changed(self, market: Market, book: api.Book, diff: Diff) -> Iterable[api.Output]:
        last = book.sequence or 0
        news = api.spanned(last, diff.U, diff.u)
        if isinstance(news, api.Break):
            if market.waiting is not None:
                market.waiting = deque([diff], maxlen=MAX_WAITING)
            return self._broken(market, news, diff)
        if not news:
            return []
        bids, asks = book.apply(diff.b, diff.a, diff.u)
        update = _update(market, book, bids, asks, diff.E)
        if not _lacks(book, self._thin, market.floor, market.ceiling):
            return [update]
        if _lacks(book, self.options.depth, market.floor, market.ceiling):
            # Who is slow gets the book as it was told last, before the gap.
            book.undo()
            return self._broken(market, api.Break(TOO_FEW, last, None), diff)
        if market.waiting is not None:
            return [update]
        return [update, self._ask(market, diff, delay_s=self._retries.turn(self._time))]

    def _broken(self, market: Market, hole: api.Break, diff: Diff) -> Iterator[api.Output]:
        """Drop the book; a snapshot that is on its way already may do for the next one."""
        market.book = None
        yield api.Gap(instrument=market.instrument, data=hole.data())
        if market.waiting is None:
            yield self._ask_again(market, diff)

    def _ask(self, market: Market, *diffs: Diff, delay_s: float = 0.0) -> api.Fetch:
        """Fetch a snapshot; these changes, and those that come, wait for it."""
        market.waiting = deque(diffs, maxlen=MAX_WAITING)
        return self._fetch(market, delay_s)

    def _ask_again(self, market: Market, diff: Diff) -> api.Fetch:
        """Do so where the last one was lost, or did not come."""
        return self._ask(market, diff, delay_s=self._retries.again(market.symbol, self._time))

    def _fetch(self, market: Market, delay_s: float) -> api.Fetch:
        return api.Fetch(depth_request(market.symbol, self._limit), delay_s)

    def _fetched(self, market: Market, snapshot: Snapshot) -> Iterable[api.Output]:
        if market.waiting is None:
            return [api.Ignored("snapshot that came too late")]
        sequence = snapshot.lastUpdateId
        book = api.Book(
            snapshot.bids,
            snapshot.asks,
            depth=self.options.depth,
            sequence=sequence,
            name=market.instrument,
            undoable=True,
        )
        exchange_ms = None
        for diff in market.waiting:
            news = api.spanned(sequence, diff.U, diff.u)
            if isinstance(news, api.Break):
                return self._too_old(market)
            if news:
                book.apply(diff.b, diff.a, diff.u)
                sequence, exchange_ms = diff.u, diff.E
        bids, asks = snapshot.bids, snapshot.asks
        floor = float(bids[-1].price) if len(bids) >= self._limit else 0.0
        ceiling = float(asks[-1].price) if len(asks) >= self._limit else math.inf
        newest = market.book.sequence if market.book else None
        if sequence < (newest or 0) or _lacks(book, self.options.depth, floor, ceiling):
            return self._too_old(market)
        market.book, market.waiting = book, None
        market.floor, market.ceiling = floor, ceiling
        return [_update(market, book, *book.top(), exchange_ms, whole=True)]

    def _too_old(self, market: Market) -> Iterable[api.Output]:
        """Fetch another snapshot, in a while; the changes go on waiting."""
        again = self._fetch(market, self._retries.again(market.symbol, self._time))
        return [api.Ignored("snapshot that is older than the stream"), again]


def _lacks(book: api.Book, depth: int, floor: float, ceiling: float) -> bool:
    """Return whether of so many levels some are beyond these prices, where not all is known."""
    bid, ask = book.reach(depth)
    return bid < floor or ask > ceiling


def _update(
    market: Market,
    book: api.Book,
    bids: list[api.Level],
    asks: list[api.Level],
    exchange_ms: int | None,
    *,
    whole: bool = False,
) -> api.BookUpdate:
    return api.BookUpdate(
        instrument=market.instrument,
        bids=bids,
        asks=asks,
        whole=whole,
        sequence=book.sequence,
        exchange_us=None if exchange_ms is None else exchange_ms * 1000,
        book=book,
        flag=book.flag,
    )
