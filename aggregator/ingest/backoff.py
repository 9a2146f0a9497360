"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from collections.abc import Callable

FLOOR_S = 0.1
"""The shortest wait, so that a connection that fails at once is not tried in a busy loop."""

Uniform = Callable[[float, float], float]


class Backoff:
    """
    Capped exponential back-off with full jitter; there is no end to the attempts.

    Args:
        cap_s: no wait is longer than this.
        base_s: the longest first wait; it doubles with each attempt.
        uniform: returns a random number between its arguments.

    """

    __slots__ = ("_base_s", "_cap_s", "_longest_s", "_uniform")

    def __init__(
        self, cap_s: float, base_s: float = 1.0, uniform: Uniform = random.uniform
    ) -> None:
        self._cap_s = cap_s
        self._base_s = min(base_s, cap_s)
        self._longest_s = self._base_s
        self._uniform = uniform

    def next(self) -> float:
        """Return how many seconds to wait now; the next wait may be twice as long."""
        longest_s = self._longest_s
        self._longest_s = min(2 * longest_s, self._cap_s)
        return self._uniform(min(FLOOR_S, longest_s), longest_s)

    def longest(self) -> float:
        """Return a wait near the cap, in seconds, for where an early attempt is pointless."""
        self._longest_s = self._cap_s
        # Some jitter is left, or the feeds of one venue would all come back at once.
        return self._uniform(0.75 * self._cap_s, self._cap_s)

    def reset(self) -> None:
        """Begin anew. Real data are the only reason: a pong or an acknowledgement proves little."""
        self._longest_s = self._base_s
