"""
Candles of any exchange.

https://docs.ccxt.com/#/README?id=ohlcv-structure

ccxt does not say whether a candle is complete: it is, as soon as there is one after it. After a
break of the stream what was missed is fetched first, since the last state that was heard of a
candle need not be its final one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aggregator.api import Candle, ConnectorError, Gap, Output, UnusableError

from .digits import decimal_text
from .feed import CcxtFeed
from .options import CandleOptions

Row = tuple[Any, ...]
"""Beginning in milliseconds, open, high, low, close, volume."""


class Candles(CcxtFeed):
    """Candles of any exchange that ccxt knows."""

    options_type = CandleOptions
    options: CandleOptions
    what = "candles"
    watching = ("watchOHLCVForSymbols", "watchOHLCV")
    fetching = ("fetchOHLCV",)

    def __init__(self, options: CandleOptions) -> None:
        super().__init__(options)
        self._newest: dict[str, Row] = {}
        # Of these something may have been missed; True: it is being fetched.
        self._behind: dict[str, bool] = {}

    def arguments(self, symbols: list[str], *, many: bool) -> tuple[Any, ...]:
        """Return what the calls of `watching` take for these instruments."""
        timeframe = self.options.timeframe
        return ([[s, timeframe] for s in symbols],) if many else (symbols[0], timeframe)

    def check(self) -> None:
        """Check the timeframe against the exchange's."""
        known = self.ccxt.timeframes
        if known and self.options.timeframe not in known:
            text = f"{self.options.exchange} has no timeframe {self.options.timeframe}"
            raise UnusableError(f"{text}; it has {', '.join(known)}")

    def begin(self) -> None:
        """Take note of what may have been missed since the stream before."""
        self._behind = dict.fromkeys(self._newest, False)

    def translate(self, heard: Any) -> Iterator[Output]:
        """Translate the newest candles of one instrument."""
        symbol = self._symbol_of(heard)
        if symbol is None:
            return
        if symbol in self._behind:
            if not self._behind[symbol]:
                self._behind[symbol] = True
                self.spawn(self._catch_up(symbol), f"candles {symbol}")
            return
        yield from self._rows(symbol, self._heard(symbol)[-2:])

    async def fetch(self, symbol: str) -> None:
        """Fetch the candles of one instrument since the last one known."""
        newest = self._newest.get(symbol)
        rows = await self._rows_of(symbol)
        self.tell(self._rows(symbol, rows if newest else rows[-2:]))

    async def _rows_of(self, symbol: str) -> list[Row]:
        newest = self._newest.get(symbol)
        since = newest[0] if newest else None
        rows = await self.fetched(self.ccxt.fetch_ohlcv, symbol, self.options.timeframe, since)
        return [tuple(row) for row in rows]

    async def _catch_up(self, symbol: str) -> None:
        rows: list[Row] = []
        if self.has("fetchOHLCV"):
            try:
                rows = await self._rows_of(symbol)
            except ConnectorError:
                # The stream works: what is missing is said, and it goes on.
                rows = []
        del self._behind[symbol]
        self.tell(self._caught_up(symbol, rows))

    def _caught_up(self, symbol: str, rows: list[Row]) -> Iterator[Output]:
        newest, heard = self._newest[symbol], self._heard(symbol)
        if not any(row[0] == newest[0] for row in rows) and heard[0][0] > newest[0]:
            # How that candle ended, and whether there were others, is not known.
            del self._newest[symbol]
            cause = "how a candle ended during a break is not known"
            ends = {"after": newest[0] * 1000, "before": heard[0][0] * 1000}
            yield Gap(instrument=symbol, data={"cause": cause, **ends})
        yield from self._rows(symbol, sorted({row[0]: row for row in (*rows, *heard)}.values()))

    def _rows(self, symbol: str, rows: Iterable[Row]) -> Iterator[Output]:
        newest, new = self._newest.get(symbol), False
        for row in rows:
            if newest and row[0] < newest[0]:
                continue
            if newest and row[0] > newest[0]:
                yield self._candle(symbol, newest, closed=True)
            newest, new = row, True
        if newest and new:
            self._newest[symbol] = newest
            yield self._candle(symbol, newest, closed=False)

    def _candle(self, symbol: str, row: Row, *, closed: bool) -> Candle:
        start, first, high, low, last, volume = (row[0], *map(decimal_text, row[1:6]))
        return Candle(
            instrument=symbol,
            interval=self.options.timeframe,
            start_us=int(start) * 1000,
            open=first or "",
            high=high or "",
            low=low or "",
            close=last or "",
            volume=volume,
            closed=closed,
        )

    def _symbol_of(self, heard: Any) -> str | None:
        return next((s for s in self.symbols if self._cache(s) is heard), None)

    def _cache(self, symbol: str) -> Any:
        return self.ccxt.ohlcvs.get(symbol, {}).get(self.options.timeframe)

    def _heard(self, symbol: str) -> list[Row]:
        # Copies: ccxt changes them in place.
        return [tuple(row) for row in self._cache(symbol)]
