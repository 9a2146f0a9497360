"""
Compare an instrument on all exchanges: where to buy, where to sell, and the spread in basis points.

    python comparison.py BTC/USDT --seconds 30

A price that is older than `--max-age` seconds is not compared: an exchange that has gone silent
would look like an opportunity.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from decimal import Decimal

from aggregator.client import Client, ClientError, Invalid, Options
from aggregator.messages import Gap, PriceUpdate, SystemStatus

BPS = 10_000
SILENT = {"stale", "down"}


class Comparison:
    """The newest price of each channel that has the instrument."""

    def __init__(self) -> None:
        self.newest: dict[str, PriceUpdate] = {}

    def forget(self, channel: str) -> None:
        """Compare a channel no more, until it has a new price."""
        self.newest.pop(channel, None)

    def __str__(self) -> str:
        """Return the best bid and ask, and how far they are apart."""
        bids = [(m.bid or m.price, m.exchange, m.channel) for m in self.newest.values()]
        asks = [(m.ask or m.price, m.exchange, m.channel) for m in self.newest.values()]
        if not bids:
            return "no price"
        bid, sell_at, _ = max(bids)
        ask, buy_at, _ = min(asks)
        spread: Decimal = (bid - ask) / ((bid + ask) / 2) * BPS
        each = ", ".join(f"{m.channel} {m.price}" for m in self.newest.values())
        return f"buy {ask} at {buy_at}, sell {bid} at {sell_at}: {spread:+.2f} bps  ({each})"


async def compare(url: str, instrument: str, max_age_s: float, most: int | None) -> None:
    """Print the comparison with each new price."""
    comparison, left = Comparison(), most

    def too_old(invalid: Invalid) -> None:
        if isinstance(invalid.message, PriceUpdate):
            comparison.forget(invalid.message.channel)

    async with Client(url, Options(max_age_s=max_age_s)) as client:
        client.on_invalid = too_old
        async for message in client.subscribe(f"*:{instrument}", "system"):
            match message:
                case PriceUpdate():
                    comparison.newest[message.channel] = message
                    print(comparison)
                    left = None if left is None else left - 1
                case SystemStatus(data=status) if status.state in SILENT:
                    comparison.forget(status.feed)
                case Gap():
                    comparison.forget(message.channel)
            if left == 0:
                return


async def main() -> None:
    """Compare the instrument of the command line."""
    parser = argparse.ArgumentParser(description="Compare an instrument on all exchanges.")
    parser.add_argument("instrument", nargs="?", default="BTC/USDT")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--max-age", type=float, default=60.0, help="of a price, in seconds")
    parser.add_argument("--messages", type=int, help="end after so many")
    parser.add_argument("--seconds", type=float, help="end after so long")
    given = parser.parse_args()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(given.seconds):
            await compare(given.url, given.instrument, given.max_age, given.messages)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except ClientError as e:
        sys.exit(str(e))
