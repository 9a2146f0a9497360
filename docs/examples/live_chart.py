"""
A chart of prices in the terminal, as they come.

    python live_chart.py bitcoinprice --seconds 60

At most ten values a second are asked for: no eye sees more, and the daemon leaves out the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections import deque
from decimal import Decimal

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from aggregator.client import Client, ClientError, Options
from aggregator.messages import PriceUpdate

BLOCKS = " ▁▂▃▄▅▆▇█"
HEIGHT = 8
REDRAWS_PER_S = 8


def chart(prices: deque[Decimal], title: str) -> Panel:
    """Return the prices as columns of blocks, the newest on the right."""
    if not prices:
        return Panel("waiting for a price", title=title)
    low, high = min(prices), max(prices)
    steps = len(BLOCKS) - 1
    filled = [
        1 + int((price - low) / (high - low) * (HEIGHT * steps - 1)) if high > low else steps
        for price in prices
    ]
    rows = [
        "".join(BLOCKS[max(0, min(steps, value - row * steps))] for value in filled)
        for row in reversed(range(HEIGHT))
    ]
    last, change = prices[-1], prices[-1] - prices[0]
    text = Text("\n".join(rows), style="green" if change >= 0 else "red", no_wrap=True)
    return Panel(text, title=f"{title}  {last} ({change:+})", subtitle=f"{low} to {high}")


async def draw(url: str, channel: str, most: int | None) -> None:
    """Keep the chart up to date."""
    console = Console()
    prices: deque[Decimal] = deque(maxlen=max(10, console.width - 4))
    title = channel
    count = 0
    options = Options(policy="conflate")
    with Live(chart(prices, title), console=console, refresh_per_second=REDRAWS_PER_S) as live:
        async with Client(url, options) as client:
            async for message in client.subscribe(channel, max_hz=10, raw=False):
                if isinstance(message, PriceUpdate):
                    title = f"{message.channel} {message.instrument}"
                    prices.append(message.price)
                    live.update(chart(prices, title))
                    count += 1
                    if most is not None and count >= most:
                        return


async def main() -> None:
    """Draw the channel of the command line."""
    parser = argparse.ArgumentParser(description="A chart of prices in the terminal.")
    parser.add_argument("channel", nargs="?", default="bitcoinprice")
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--messages", type=int, help="end after so many")
    parser.add_argument("--seconds", type=float, help="end after so long")
    given = parser.parse_args()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(given.seconds):
            await draw(given.url, given.channel, given.messages)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except ClientError as e:
        sys.exit(str(e))
