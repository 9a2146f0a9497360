"""
Order books of any exchange: each message has all of the best levels.

https://docs.ccxt.com/#/README?id=order-book-structure
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal

from aggregator.api import BookUpdate, Level, Output, Unhandled

from .digits import decimal_text, microseconds
from .feed import CcxtFeed
from .options import BookOptions


class Book(CcxtFeed):
    """Order books of any exchange that ccxt knows."""

    options_type = BookOptions
    options: BookOptions
    what = "order books"
    watching = ("watchOrderBookForSymbols", "watchOrderBook")
    fetching = ("fetchOrderBook",)

    def translate(self, heard: Any) -> Iterator[Output]:
        """Translate the state of one book."""
        if not isinstance(heard, dict) or "bids" not in heard:
            return
        if heard["symbol"] in self.symbols:
            yield from self._update(heard["symbol"], heard)
        else:
            yield Unhandled("order book of another instrument")

    async def fetch(self, symbol: str) -> None:
        """Fetch one book."""
        # Without a limit: which ones there are differs from exchange to exchange.
        book = await self.fetched(self.ccxt.fetch_order_book, symbol)
        self.tell(self._update(symbol, book))

    def _update(self, symbol: str, book: Any) -> Iterator[Output]:
        bids, asks = (self._levels(book[side]) for side in ("bids", "asks"))
        if not bids and not asks:
            # More likely an answer of another shape than a market without a single order.
            yield Unhandled("order book without a level")
            return
        yield BookUpdate(
            instrument=symbol,
            bids=bids,
            asks=asks,
            whole=True,
            sequence=book.get("nonce"),
            exchange_us=microseconds(book.get("timestamp")),
            flag=_flag(bids, asks),
        )

    def _levels(self, side: Any) -> list[Level]:
        best = side[: self.options.depth]
        return [Level(decimal_text(level[0]) or "", decimal_text(level[1]) or "") for level in best]


def _flag(bids: list[Level], asks: list[Level]) -> Literal["crossed", "locked"] | None:
    if not bids or not asks:
        return None
    bid, ask = Decimal(bids[0].price), Decimal(asks[0].price)
    return "crossed" if bid > ask else "locked" if bid == ask else None
