"""When to try again: exponential waits with full jitter, and a circuit breaker."""

from __future__ import annotations

import random
from typing import NamedTuple

from .options import Options


class Wait(NamedTuple):
    """How long until the next attempt, and whether the breaker has opened."""

    seconds: float
    is_open: bool


class Attempts:
    """
    Counts the failures in a row.

    The wait is anything up to a bound that doubles, so that thousands of clients that were cut off
    together do not come back together. After `breaker_failures` the breaker opens for
    `breaker_s` at least; then each single attempt that fails opens it again.
    """

    __slots__ = ("_options", "failures")

    def __init__(self, options: Options) -> None:
        self._options = options
        self.failures = 0

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open, or only lets one attempt through."""
        return self.failures >= self._options.breaker_failures

    def failed(self) -> Wait:
        """Count one, and return how long to wait."""
        options = self._options
        self.failures += 1
        if self.is_open:
            return Wait(options.breaker_s * random.uniform(1.0, 1.5), is_open=True)  # noqa: S311
        # Of a number so large that it would overflow only the bound is needed.
        most = options.first_wait_s * 2 ** min(self.failures - 1, 30)
        bound = min(options.max_wait_s, most)
        return Wait(random.uniform(0.0, bound), is_open=False)  # noqa: S311 - spreads clients

    def succeeded(self) -> None:
        """Begin anew: there were data."""
        self.failures = 0
