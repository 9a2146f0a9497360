"""The beat at which feeds and instruments are looked at, to find those that are silent."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable

from .instruments import Instruments
from .rhythm import LOOK_S

LOOKS_UNTIL_STALE = 30
"""Looks are so many times as frequent as `stale_after_s`, but not rarer than `LOOK_S`."""
SHORTEST_LOOK_S = 0.01


def look_s(stale_after_s: Iterable[float]) -> float:
    """Return the time between two looks, in seconds, for feeds with these `stale_after_s`."""
    shortest_s = min(stale_after_s, default=math.inf)
    return min(LOOK_S, max(SHORTEST_LOOK_S, shortest_s / LOOKS_UNTIL_STALE))


class Pulse:
    """
    Looks at all feeds.

    Args:
        look_s: time between two looks, in seconds.
        clock: a monotonic clock, in seconds.

    """

    def __init__(self, look_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.look_s = look_s
        self._clock = clock
        self._feeds: list[Instruments] = []

    def add(self, feed: Instruments) -> None:
        """Add a feed."""
        self._feeds.append(feed)

    def remove(self, feed: Instruments) -> None:
        """Look at a feed no more."""
        self._feeds.remove(feed)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self.look_s)
            for feed in tuple(self._feeds):
                for _ in feed.look(self._clock()):
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
