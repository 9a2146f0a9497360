"""A client that keeps order books as docs/protocol.md says, for benchmarks/soak.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp
import orjson
from venues import Sides

Key = tuple[str, str]
"""Channel and instrument."""


class Failed(Exception):  # noqa: N818 - it ends the run
    """Something is not as docs/protocol.md says."""


@dataclass(slots=True)
class Book:
    """The book of one instrument."""

    number: int = 0
    bids: dict[Decimal, list[str]] = field(default_factory=dict)
    asks: dict[Decimal, list[str]] = field(default_factory=dict)

    def change(self, data: dict[str, Any]) -> None:
        """Set the size at each price, or remove it."""
        for side, levels in (("bids", self.bids), ("asks", self.asks)):
            for price, size in data[side]:
                if Decimal(size):
                    levels[Decimal(price)] = [price, size]
                else:
                    levels.pop(Decimal(price), None)
        self.number = data["sequence"]

    def sides(self) -> Sides:
        """Return all levels, the best first."""
        bids, asks = sorted(self.bids, reverse=True), sorted(self.asks)
        return [self.bids[price] for price in bids], [self.asks[price] for price in asks]


class Bookkeeper:
    """
    Keeps the books of several channels.

    Attributes:
        books: those that are known.
        updates: how many were published since it subscribed.
        gaps: how often a book was lost, by channel.
        conflated: how many messages a newer one stood for, since this client was slow.

    """

    def __init__(self) -> None:
        self.books: dict[Key, Book] = {}
        self.updates: Counter[Key] = Counter()
        self.gaps: Counter[str] = Counter()
        self.conflated = 0
        self._missing = 0
        self._positions: dict[str, int] = {}

    async def read(self, session: aiohttp.ClientSession, port: int, channels: list[str]) -> None:
        """Subscribe, and read until cancelled."""
        async with session.ws_connect(f"ws://127.0.0.1:{port}/ws") as ws:
            await ws.send_json({"type": "subscribe", "channels": channels})
            async for message in ws:
                self.take(orjson.loads(message.data))
        raise Failed(f"the daemon has closed the connection: {ws.close_code}")

    def take(self, message: dict[str, Any]) -> None:
        """Take a message."""
        match message["type"]:
            case "subscribed":
                positions = message["positions"].items()
                self._positions = {channel: at["seq"] for channel, at in positions}
            case "orderbook_update":
                self._count(message)
                self._update(message)
            case "gap" if message["reason"] == "upstream":
                self._count(message)
                self._forget(message["channel"], message["instrument"])
            case _:
                raise Failed(f"unexpected: {message}")

    def _count(self, message: dict[str, Any]) -> None:
        """Note which numbers are missing, and which of those are accounted for."""
        channel, seq = message["channel"], message["seq"]
        if "age_us" in message:
            return  # of the first snapshot: from before
        last, self._positions[channel] = self._positions[channel], seq
        if seq <= last:
            raise Failed(f"{channel}: {seq} after {last}")
        self._missing += seq - last - 1
        self.conflated += message.get("conflated", 0)

    def _update(self, message: dict[str, Any]) -> None:
        key = message["channel"], message["instrument"]
        if message["action"] == "snapshot":
            self.books[key] = Book()
        elif key not in self.books:
            raise Failed(f"a change of nothing: {message}")
        self.books[key].change(message["data"])
        if "age_us" not in message:
            self.updates[key] += 1 + message.get("conflated", 0)

    def _forget(self, channel: str, instrument: str | None) -> None:
        self.gaps[channel] += 1
        for key in [k for k in self.books if k[0] == channel and instrument in {None, k[1]}]:
            del self.books[key]

    def check(self) -> None:
        """Fail if messages were lost without a word."""
        if self._missing != self.conflated:
            raise Failed(f"{self._missing} missing, {self.conflated} of them conflated")
