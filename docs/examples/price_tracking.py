"""
Follow prices: each change, what is lost, and how the connection is doing.

    python price_tracking.py bitcoinprice ethprice --seconds 30
"""

from __future__ import annotations

import argparse
import sys
from decimal import Decimal

from aggregator.client import ClientError, State, SyncClient
from aggregator.messages import Gap, PriceUpdate


class Tracker:
    """Prints a line for each price, with the change since the last one."""

    def __init__(self, client: SyncClient, most: int | None) -> None:
        self.client = client
        self.left = most
        self.last: dict[tuple[str, str], Decimal] = {}

    def price(self, message: PriceUpdate) -> None:
        """Print a price; after the last one that is wanted, end `wait`."""
        key = message.channel, message.instrument
        change = message.price - self.last.get(key, message.price)
        self.last[key] = message.price
        time = message.timestamp.strftime("%H:%M:%S.%f")[:-3]
        print(f"{time}  {message.channel:16} {message.instrument:10} {message.price} ({change:+})")
        if self.left is not None:
            self.left -= 1
            if self.left <= 0:
                self.client.close()


def gap(message: Gap) -> None:
    """Say what is lost: nothing is, in silence."""
    print(f"lost: {message.channel} {message.from_seq} to {message.to_seq} ({message.reason})")


def state(new: State) -> None:
    """Say how the connection is doing."""
    print(f"{new.name} {new.reason}".strip())


def main() -> None:
    """Follow the channels of the command line."""
    parser = argparse.ArgumentParser(description="Follow prices.")
    parser.add_argument("channels", nargs="*", default=["bitcoinprice", "ethprice"])
    parser.add_argument("--url", default="ws://127.0.0.1:8000/ws")
    parser.add_argument("--messages", type=int, help="end after so many")
    parser.add_argument("--seconds", type=float, help="end after so long")
    given = parser.parse_args()
    with SyncClient(given.url) as client:
        client.on_price = Tracker(client, given.messages).price
        client.on_gap = gap
        client.on_state = state
        client.subscribe(*given.channels)
        client.wait(timeout=given.seconds)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
    except ClientError as e:
        sys.exit(str(e))
