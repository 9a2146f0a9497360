"""
Tickers of any exchange.

https://docs.ccxt.com/#/README?id=ticker-structure
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from aggregator.api import Output, PayloadError, PriceUpdate, Unhandled

from .digits import decimal_text, json_bytes, microseconds
from .feed import TOGETHER, CcxtFeed, batches


class Ticker(CcxtFeed):
    """Tickers of any exchange that ccxt knows."""

    what = "tickers"
    watching = ("watchTickers", "watchTicker")
    fetching = ("fetchTicker", "fetchTickers")
    hears = "tickers"

    def translate(self, heard: Any) -> Iterator[Output]:
        """Translate one ticker."""
        if heard["symbol"] in self.symbols:
            yield _price(heard)
        else:
            yield Unhandled("ticker of another instrument")

    async def poll(self) -> None:
        """Fetch all at once where that is possible."""
        if not self.has("fetchTickers") or (len(self.symbols) == 1 and self.has("fetchTicker")):
            await super().poll()
            return
        named = None if self.options.instruments == "all" else list(self.symbols)
        found = await self.fetched(self.ccxt.fetch_tickers, named)
        if not found:
            raise PayloadError("no tickers in the answer")
        wanted = (ticker for ticker in found.values() if ticker["symbol"] in self.symbols)
        for part in batches(wanted, TOGETHER):
            self.tell(map(_price, part))
            # Streams have their turn between two parts of a large answer.
            await asyncio.sleep(0)

    async def fetch(self, symbol: str) -> None:
        """Fetch one ticker."""
        ticker = await self.fetched(self.ccxt.fetch_ticker, symbol)
        if not ticker["info"]:
            raise PayloadError("no tickers in the answer")
        self.tell([_price(ticker)])


def _price(ticker: Any) -> PriceUpdate:
    return PriceUpdate(
        ticker["symbol"],
        decimal_text(ticker["last"]) or "",
        json_bytes(ticker["info"]),
        exchange_us=microseconds(ticker["timestamp"]),
        bid=decimal_text(ticker["bid"]),
        ask=decimal_text(ticker["ask"]),
        volume_24h=decimal_text(ticker["baseVolume"]),
        change_24h_pct=decimal_text(ticker["percentage"]),
    )
