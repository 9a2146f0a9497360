"""Candles, made of the trades of the walk; a series begins when somebody first asks for it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aggregator.simulator.market import Instrument, Trade

_KEPT = 500
_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS
INTERVALS_MS = {
    "1s": 1000,
    **{f"{n}m": n * _MINUTE_MS for n in (1, 3, 5, 15, 30)},
    **{f"{n}h": n * _HOUR_MS for n in (1, 2, 4, 6, 8, 12)},
    "1d": 24 * _HOUR_MS,
}
"""By Binance's names."""
OKX_BARS_MS = {n if n[-1] in "sm" else n.upper(): ms for n, ms in INTERVALS_MS.items()}
"""By OKX's: minutes alone are in lower case."""


class Candle:
    """What happened from `start_ms` on, for one interval; prices in ticks, sizes in lots."""

    __slots__ = (
        "bought",
        "bought_turnover",
        "close",
        "first_id",
        "high",
        "last_id",
        "low",
        "open",
        "start_ms",
        "turnover",
        "volume",
    )

    def __init__(self, start_ms: int, trade: Trade) -> None:
        self.start_ms = start_ms
        self.open = self.high = self.low = trade.ticks
        self.first_id = trade.trade_id
        self.volume = self.turnover = self.bought = self.bought_turnover = 0
        self.add(trade)

    def add(self, trade: Trade) -> None:
        """Take a trade into it."""
        self.high, self.low = max(self.high, trade.ticks), min(self.low, trade.ticks)
        self.close, self.last_id = trade.ticks, trade.trade_id
        turnover = trade.ticks * trade.lots
        self.volume += trade.lots
        self.turnover += turnover
        if not trade.buyer_is_maker:
            self.bought += trade.lots
            self.bought_turnover += turnover


class Candles:
    """All series, by symbol and interval in milliseconds; the newest candle is the last."""

    def __init__(self) -> None:
        self._series: dict[str, dict[int, deque[Candle]]] = {}

    def of(self, instrument: Instrument, interval_ms: int) -> deque[Candle]:
        """Return the candles of an instrument, as far back as its trades are known."""
        series = self._series.setdefault(instrument.symbol, {})
        if interval_ms not in series:
            series[interval_ms] = deque(maxlen=_KEPT)
            for trade in instrument.recent:
                _add(series[interval_ms], interval_ms, trade)
        return series[interval_ms]

    def add(self, symbol: str, trade: Trade) -> None:
        """Take a trade into the series that there are."""
        for interval_ms, candles in self._series.get(symbol, {}).items():
            _add(candles, interval_ms, trade)


def _add(candles: deque[Candle], interval_ms: int, trade: Trade) -> None:
    start_ms = trade.ms - trade.ms % interval_ms
    # Never back: the wall clock may be.
    if candles and start_ms <= candles[-1].start_ms:
        candles[-1].add(trade)
    else:
        candles.append(Candle(start_ms, trade))
