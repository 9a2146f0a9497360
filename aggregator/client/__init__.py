"""
The client of the daemon for Python: `Client` for asyncio, `SyncClient` for everything else.

    async with Client("ws://127.0.0.1:8000/ws") as client:
        async for message in client.subscribe("bitcoinprice"):
            print(message)

It needs nothing of the daemon. docs/client.md says what it can do.
"""

from __future__ import annotations

from aggregator.messages import Position

from .asynchronous import Client
from .book import Book
from .buffer import Text
from .callbacks import Invalid, State
from .dataframe import to_dataframe
from .errors import (
    ClientError,
    ClosedError,
    RefusedError,
    SubscriptionError,
    UnreachableError,
)
from .options import Options
from .subscription import Subscription
from .synchronous import SyncClient, SyncSubscription

__all__ = [
    "Book",
    "Client",
    "ClientError",
    "ClosedError",
    "Invalid",
    "Options",
    "Position",
    "RefusedError",
    "State",
    "Subscription",
    "SubscriptionError",
    "SyncClient",
    "SyncSubscription",
    "Text",
    "UnreachableError",
    "to_dataframe",
]
