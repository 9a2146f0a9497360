"""How late the event loop is: what blocks it makes every message wait, and all clients with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aggregator.histogram import LAG_S, Histogram

INTERVAL_S = 0.01
"""From look to look: what blocks the loop is seen but for this much of it. So where it was never
seen to be later than that, it was never blocked for twice as long."""
PERIOD_S = 30.0
"""The longest is that of this period and the one before it, so that it is seen by all who ask at
least so often, and nobody takes it away from the others."""


class LoopLag:
    """
    A timer that measures by how much it is late.

    Args:
        loop: whose lag it measures.
        clock: a monotonic clock, in seconds; finer than the loop's own, which counts milliseconds.

    Attributes:
        seen: by how much the loop was late, each time.

    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._loop = loop
        self._clock = clock
        self.seen = Histogram(LAG_S)
        self._longest = self._before = 0.0
        self._until = clock() + PERIOD_S
        self._plan(clock())

    @property
    def longest(self) -> float:
        """By how many seconds it was late at most, in the last 30 s or up to 60."""
        return max(self._longest, self._before)

    def stop(self) -> None:
        """Measure nothing further."""
        self._timer.cancel()

    def _plan(self, now: float) -> None:
        self._due = now + INTERVAL_S
        self._timer = self._loop.call_later(INTERVAL_S, self._look)

    def _look(self) -> None:
        now = self._clock()
        # The loop's own clock may be up to a millisecond ahead.
        late = max(0.0, now - self._due)
        self.seen.observe(late)
        if now >= self._until:
            self._before, self._longest = self._longest, 0.0
            self._until = now + PERIOD_S
        self._longest = max(self._longest, late)
        self._plan(now)
