"""How long something takes, counted in buckets: plain numbers, read when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

ARRIVAL_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 15.0, 60.0)
"""From a venue's time to ours. Most venues count in milliseconds; from another continent it takes
some 50 to 200 ms, in a burst a second; what a venue caches is older."""
SENDING_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
"""From receipt to the last write: one client takes 0.1 ms, a thousand some 5 ms."""
LAG_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""By how much the loop is late."""


class Histogram:
    """
    Durations, counted by buckets.

    Args:
        bounds: the upper bounds of the buckets in seconds, ascending; each belongs to its bucket.

    Attributes:
        seconds: the sum of all.
        negative: how many were below 0, as when two clocks differ. They count as 0.

    """

    __slots__ = ("bounds", "counts", "negative", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        # One more than bounds: what is beyond the last.
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0
        self.negative = 0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        if seconds < 0.0:
            self.negative += 1
            seconds = 0.0
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    def upto(self) -> Iterator[int]:
        """Yield how many were at most each bound, and at last how many there were."""
        total = 0
        for count in self.counts:
            total += count
            yield total
