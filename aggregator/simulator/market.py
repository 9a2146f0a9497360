"""The one market behind all venues: a seeded random walk of every instrument.

Prices are integers of ticks and sizes integers of lots, so that the text of a price is exact.
Every instrument has a generator of its own: its path depends on the seed and the number of
steps alone, not on which other instruments exist.
"""

import random
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from aggregator.simulator.candles import Candles
from aggregator.simulator.listing import BINANCE_ONLY, LISTED, Listing, extra_listings

# Of the extra ones, which are for load tests, there may be thousands.
_EXTRA_TRADES = 20
# One step in eight nothing happens to an instrument: real feeds are not regular either.
_QUIET = 0.125
_SIGMA = 0.00015
_FLOOR_TICKS = 600
_DECAY_EVERY = 64


@dataclass(frozen=True, slots=True)
class Trade:
    """One trade; `buyer_is_maker` is true where the taker sold, `ms` the wall clock."""

    trade_id: int
    ticks: int
    lots: int
    buyer_is_maker: bool
    step: int
    ms: int = field(compare=False)


class Instrument:
    """The state of one instrument after the last step; prices in ticks, sizes in lots."""

    __slots__ = (
        "_ceiling",
        "_floor",
        "_half_spread",
        "_rng",
        "_sigma",
        "_typical_lots",
        "ask",
        "ask_lots",
        "base",
        "bid",
        "bid_lots",
        "decimals",
        "first_trade_id",
        "gap",
        "high",
        "last",
        "last_lots",
        "lot_decimals",
        "low",
        "moved",
        "okx_offset",
        "on_okx",
        "open",
        "quote",
        "recent",
        "symbol",
        "trade_id",
        "trading",
        "turnover",
        "volume",
    )

    def __init__(self, listing: Listing, seed: int, trades_kept: int) -> None:
        self.base, self.quote = listing.base, listing.quote
        self.symbol = listing.base + listing.quote
        self.decimals, self.lot_decimals = listing.decimals, listing.lot_decimals
        self.on_okx, self.trading = listing.on_okx, listing.trading
        # Not for secrets: the same seed must give the same prices.
        self._rng = rng = random.Random(f"{seed}/{self.base}/{self.quote}")  # noqa: S311
        start = listing.ticks
        self.last = self.open = start
        self.high, self.low = start + start // 80, start - start // 80
        self._floor, self._ceiling = max(_FLOOR_TICKS, start // 4), start * 4
        self._sigma = max(0.8, start * _SIGMA)
        self._half_spread = max(1, start // 1_000_000)
        # Distance of neighbouring levels in a book: one step of the walk must not eat it whole.
        self.gap = max(1, int(self._sigma / 10))
        # A typical trade is worth some 300 of the quote currency.
        price = start / 10**listing.decimals
        self._typical_lots = max(1, int(300 / max(price, 1e-9) * 10**listing.lot_decimals))
        self.okx_offset = rng.randint(-2, 2) * max(1, start // 100_000)
        self.volume = self._typical_lots * rng.randint(200_000, 900_000)
        self.turnover = self.volume * start
        self.first_trade_id = rng.randint(1_000_000, 900_000_000)
        self.trade_id = self.first_trade_id + rng.randint(50_000, 900_000)
        self.last_lots = self._typical_lots
        self.recent: deque[Trade] = deque(maxlen=trades_kept)
        self.moved = False
        self._quote_around(start)
        if not listing.trading:
            self.bid = self.ask = self.bid_lots = self.ask_lots = 0

    def step(self, number: int, ms: int) -> bool:
        """Walk one step, at this time; true when price, sizes and volume changed."""
        rng = self._rng
        if not self.trading or (rng.random() < _QUIET and self.recent):
            self.moved = False
            return False
        self.moved = True
        ticks = self.last + round(rng.gauss(0.0, self._sigma))
        self.last = ticks = min(max(ticks, self._floor), self._ceiling)
        self._quote_around(ticks)
        lots = 1 + int(self._typical_lots * rng.expovariate(1.0))
        self.trade_id += 1
        self.last_lots = lots
        self.recent.append(Trade(self.trade_id, ticks, lots, rng.random() < 0.5, number, ms))
        self.high, self.low = max(self.high, ticks), min(self.low, ticks)
        self.volume += lots
        self.turnover += lots * ticks
        if number % _DECAY_EVERY == 0:
            self._forget()
        return True

    def _quote_around(self, ticks: int) -> None:
        # The last trade lies at one of the two sides, as it mostly does.
        rng = self._rng
        width = 2 * self._half_spread
        self.bid = ticks - (width if rng.random() < 0.5 else 0)
        self.ask = self.bid + width
        self.bid_lots = 1 + int(self._typical_lots * 4 * rng.random())
        self.ask_lots = 1 + int(self._typical_lots * 4 * rng.random())

    def _forget(self) -> None:
        """Let go of what is older than 24 hours: here, of a little of everything."""
        self.open += (self.last - self.open) // 50
        self.high = max(self.last, self.high - (self.high - self.last) // 50)
        self.low = min(self.last, self.low + (self.last - self.low) // 50)
        self.volume -= self.volume // 2_000
        self.turnover -= self.turnover // 2_000
        self.first_trade_id += (self.trade_id - self.first_trade_id) // 2_000

    @property
    def price(self) -> float:
        """The last price as a float, for venues that speak floats."""
        return self.last / float(10**self.decimals)

    @property
    def okx_id(self) -> str:
        """OKX's name, `BTC-USDT`."""
        return f"{self.base}-{self.quote}"


class Market:
    """
    All instruments, walked together; iterating gives them in listing order.

    `trades_kept` is how many trades of an instrument the venues can tell afterwards.
    """

    def __init__(self, seed: int, extra_instruments: int = 0, trades_kept: int = 1000) -> None:
        self.seed = seed
        self.steps = 0
        self.candles = Candles()
        extra = extra_listings(extra_instruments)
        instruments = [Instrument(listing, seed, trades_kept) for listing in LISTED]
        instruments += [Instrument(one, seed, min(trades_kept, _EXTRA_TRADES)) for one in extra]
        instruments += [Instrument(listing, seed, trades_kept) for listing in BINANCE_ONLY]
        self.by_symbol = {instrument.symbol: instrument for instrument in instruments}
        self.by_okx_id = {one.okx_id: one for one in self.by_symbol.values() if one.on_okx}
        # Priced for CoinGecko but listed nowhere; they walk with the rest.
        self._unlisted: list[Instrument] = []
        self.step()

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self.by_symbol.values())

    def add_unlisted(self, listing: Listing) -> Instrument:
        """Add an instrument that walks along but is on no exchange."""
        instrument = Instrument(listing, self.seed, 1)
        instrument.step(self.steps, _now_ms())
        self._unlisted.append(instrument)
        return instrument

    def step(self) -> None:
        """Walk every instrument once."""
        self.steps = number = self.steps + 1
        now_ms = _now_ms()
        for instrument in self.by_symbol.values():
            if instrument.step(number, now_ms):
                self.candles.add(instrument.symbol, instrument.recent[-1])
        for instrument in self._unlisted:
            instrument.step(number, now_ms)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
