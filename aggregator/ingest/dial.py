"""Attempts to connect, spread out so that no venue sees too many of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

ATTEMPTS = 3
"""Attempts to connect to one host within `WINDOW_S`: what OKX allows to an address."""
WINDOW_S = 1.05
"""A second, and a little for the way there."""


class DialLimiter:
    """Shared by all streamed feeds; each attempt waits for its turn."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._turns: dict[str, deque[float]] = {}

    async def turn(self, host: str) -> None:
        """Wait until an attempt at this host is in order. A cancelled turn counts as taken."""
        turns = self._turns.setdefault(host, deque(maxlen=ATTEMPTS))
        now = self._clock()
        at = max(now, turns[0] + WINDOW_S) if len(turns) == ATTEMPTS else now
        # Taken before the wait, so that two who ask at once get different turns.
        turns.append(at)
        if at > now:
            await self._sleep(at - now)
