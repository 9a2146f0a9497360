"""
Watch an order book: its best levels, the spread, and which side weighs more.

    python order_book_monitor.py binance_orderbook BTC/USDT --seconds 30

Works with channels of order books (`okx.books` and so on), whose changes it puts together, and with
`binance_orderbook`, where each message has the whole book in its `data`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from decimal import Decimal

from aggregator.client import Book, Client, ClientError
from aggregator.messages import Level, PriceUpdate

BPS = 10_000


def levels(rows: list[list[str]]) -> list[Level]:
    """Return the levels of the venue's own payload."""
    return [Level(Decimal(price), Decimal(size)) for price, size, *_ in rows]


def shown(bids: list[Level], asks: list[Level], depth: int) -> str:
    """Return the book in a line."""
    if not bids or not asks:
        return "one side is empty"
    bid, ask = bids[0].price, asks[0].price
    spread = (ask - bid) / ((ask + bid) / 2) * BPS
    bought = sum((level.size for level in bids[:depth]), Decimal())
    sold = sum((level.size for level in asks[:depth]), Decimal())
    weight = (bought - sold) / (bought + sold) if bought + sold else Decimal()
    return (
        f"{bids[0].size:>12} @ {bid} | {ask} @ {asks[0].size:<12}  spread {spread:.2f} bps, "
        f"imbalance of {depth} levels {weight:+.2f}"
    )


async def monitor(url: str, channel: str, instrument: str, depth: int, most: int | None) -> None:
    """Print the book whenever it changes."""
    book = Book(channel, instrument)
    left = most
    async with Client(url) as client:
        async for message in client.subscribe(f"{channel}:{instrument}"):
            if isinstance(message, PriceUpdate):
                data = message.data
                print(shown(levels(data["bids"]), levels(data["asks"]), depth))
            elif not book.update(message):
                continue
            elif book.known:
                print(shown(book.bids, book.asks, depth))
            else:
                print("the book is not known: the venue lost something")
            if left is not None:
                left -= 1
                if left <= 0:
                    return


async def main() -> None:
    """Monitor the book of the command line."""
    parser = argparse.ArgumentParser(description="Watch an order book.")
    parser.add_argument("channel", nargs="?", default="binance_orderbook")
    parser.add_argument("instrument", nargs="?", default="BTC/USDT")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--depth", type=int, default=10, help="levels for the imbalance")
    parser.add_argument("--messages", type=int, help="end after so many")
    parser.add_argument("--seconds", type=float, help="end after so long")
    given = parser.parse_args()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(given.seconds):
            await monitor(given.url, given.channel, given.instrument, given.depth, given.messages)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except ClientError as e:
        sys.exit(str(e))
