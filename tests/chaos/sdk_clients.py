"""The Python client as it is used: several programs, some slow, some that end and go on later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from chaos.clients import SLOW_S, Actor, cut
from chaos.ledger import Wrong
from gateway.wsclient import PATIENCE_S

from aggregator import client as sdk
from aggregator.messages import Gap, OrderbookUpdate

SDK = sdk.Options(
    first_wait_s=0.05,
    max_wait_s=0.3,
    start_timeout_s=PATIENCE_S,
    breaker_failures=10**6,
    ping_after_s=4.0,
    pong_timeout_s=8.0,
    # Its daemon's clock may be another.
    max_ahead_s=2 * 86_400.0,
)


class Python(Actor):
    """
    The Python client: it must hand out every number once, or a gap.

    Args:
        name: for people.
        url: of the daemon.
        channels: what it subscribes to; whole channels.
        chance: how long it waits for what.
        slow: whether it takes messages with pauses.

    """

    def __init__(
        self, name: str, url: str, channels: list[str], chance: Random, *, slow: bool = False
    ) -> None:
        super().__init__(name)
        self._url = url
        self._channels = channels
        self._chance = chance
        self._slow = slow
        self.client: sdk.Client | None = None
        self.books: dict[tuple[str, str], sdk.Book] = {}
        self.numbers: dict[tuple[str, str], int | None] = {}
        self._seen: dict[str, set[int]] = {name: set() for name in channels}
        self._newest: dict[tuple[str, str], int] = {}
        self._declared: dict[str, set[int]] = {name: set() for name in channels}
        self._folded: dict[str, int] = dict.fromkeys(channels, 0)
        self.messages = self.folded = 0
        self.reasons: Counter[str] = Counter()
        self._leave = False

    def kill(self) -> None:
        connection = self.client._connection if self.client is not None else None
        if connection is not None:
            cut(connection._ws.get_extra_info("socket"))

    def leave(self) -> None:
        """Have the program end, and another one go on where it was."""
        self._leave = True

    async def run(self) -> None:
        """Follow, again and again, until cancelled."""
        since: dict[str, sdk.Position] = {}
        while True:
            async with sdk.Client(self._url, SDK) as self.client:
                subscription = self.client.subscribe(*self._channels, since=since)
                await self._follow(self.client, subscription)
                since = self.client.positions()
                self._forget_what_comes_again(since)
                counters = self.client.counters
                if counters.invalid or counters.unknown:
                    raise Wrong(f"{self.name}: {counters}")

    async def _follow(self, client: sdk.Client, messages: AsyncIterator[Any]) -> None:
        client.on_invalid = self._invalid
        async for message in messages:
            await self.flowing.wait()
            self._take(message)
            if self._leave:
                self._leave = False
                return
            if self._slow and not self.calm and self._chance.random() < 0.02:
                await asyncio.sleep(self._chance.uniform(0, SLOW_S))

    def _invalid(self, invalid: Any) -> None:
        raise Wrong(f"{self.name}: {invalid}")

    def _take(self, message: Any) -> None:
        channel = message.channel
        self.messages += 1
        self.folded += getattr(message, "conflated", 0)
        if isinstance(message, OrderbookUpdate):
            key = channel, message.instrument
            self.books.setdefault(key, sdk.Book(*key))
            self.numbers[key] = message.data.sequence
        for book in self.books.values():
            book.update(message)
        if isinstance(message, Gap) and message.reason != "upstream":
            self._gap(channel, message)
        elif getattr(message, "age_us", None) is None:
            self._number(channel, message)

    def _gap(self, channel: str, gap: Gap) -> None:
        self.reasons[gap.reason] += 1
        if gap.reason == "client" and not gap.data["cause"].startswith("cut off"):
            raise Wrong(f"{self.name}: nothing stands for what is missing: {gap}")
        if gap.reason == "history" and "another run" in gap.data["cause"]:
            self._forget(channel)
        if gap.from_seq is not None:
            self._declared[channel] |= set(range(gap.from_seq, gap.to_seq + 1))

    def _number(self, channel: str, message: Any) -> None:
        seq, key = message.seq, (channel, message.instrument)
        if seq in self._seen[channel] or seq <= self._newest.get(key, 0):
            raise Wrong(f"{self.name}: {seq} twice, or out of order: {message}")
        self._seen[channel].add(seq)
        self._newest[key] = seq
        self._folded[channel] += getattr(message, "conflated", 0)

    def _forget_what_comes_again(self, since: dict[str, sdk.Position]) -> None:
        """Expect again what was taken behind a message that was not."""
        for channel in self._channels:
            if channel not in since:
                self._forget(channel)
                continue
            last = since[channel].seq
            self._seen[channel] = {n for n in self._seen[channel] if n <= last}
            for key in [key for key in self._newest if key[0] == channel]:
                self._newest[key] = min(self._newest[key], last)

    def _forget(self, channel: str) -> None:
        self._seen[channel].clear()
        self._declared[channel].clear()
        self._folded[channel] = 0
        for key in [key for key in self._newest if key[0] == channel]:
            del self._newest[key]

    def behind(self, targets: dict[str, tuple[str, int]]) -> dict[str, object]:
        positions = self.client.positions() if self.client is not None else {}
        found: dict[str, object] = {}
        for name in self._channels:
            epoch, seq = targets[name]
            at = positions.get(name)
            if at is None or at.epoch != epoch or at.seq < seq:
                found[name] = at, seq
            elif missing := self.missing(name):
                found[name] = f"{missing} missing"
        return found

    def missing(self, channel: str) -> int:
        """Return how many numbers are missing, and nothing stands for them."""
        seen = self._seen[channel]
        if not seen:
            return 0
        known = seen | {n for n in self._declared[channel] if min(seen) < n < max(seen)}
        return max(0, max(seen) - min(seen) + 1 - len(known) - self._folded[channel])

    def book(self, channel: str, instrument: str) -> tuple[int | None, object]:
        key = channel, instrument
        book = self.books.get(key)
        if book is None or not book.known:
            return None, None
        return self.numbers[key], book

    def __str__(self) -> str:
        return f"{self.name}: {self.messages} messages, {self.folded} folded, {dict(self.reasons)}"
