"""What the venues count: Binance's weights, calls a minute, messages a second."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the meter says to one request; status 200, 429 or 418."""

    status: int
    used: int
    retry_after_s: int = 0
    banned_until_ms: int = 0


class WeightMeter:
    """Binance's REQUEST_WEIGHT of one address: a budget per clock minute, then 429, then 418."""

    def __init__(
        self, limit: int, *, ban_after: int, ban_s: float, wall: Callable[[], float]
    ) -> None:
        self._limit = limit
        self._ban_after = ban_after
        self._ban_s = ban_s
        self._wall = wall
        self._minute = -1
        self._used = 0
        self._refused = 0
        self._banned_until = 0.0

    def charge(self, weight: int) -> Verdict:
        """Count `weight` and say whether the request may pass."""
        now = self._wall()
        if now < self._banned_until:
            return self._banned(now)
        if int(now // 60) != self._minute:
            self._minute, self._used, self._refused = int(now // 60), 0, 0
        self._used += weight
        if self._used <= self._limit:
            return Verdict(200, self._used)
        self._refused += 1
        if self._refused > self._ban_after:
            self._banned_until = now + self._ban_s
            return self._banned(now)
        return Verdict(429, self._used, max(1, math.ceil(60 - now % 60)))

    def _banned(self, now: float) -> Verdict:
        wait = max(1, math.ceil(self._banned_until - now))
        return Verdict(418, self._used, wait, int(self._banned_until * 1000))


class Window:
    """At most `limit` events in any `seconds`; the memory of it is bounded by the limit."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._limit = limit
        self._seconds = seconds
        self._times: deque[float] = deque()

    def admit(self, now: float) -> bool:
        """Count one event at `now`; false when it is one too many."""
        times = self._times
        while times and times[0] <= now - self._seconds:
            times.popleft()
        if len(times) >= self._limit:
            return False
        times.append(now)
        return True

    def wait_s(self, now: float) -> float:
        """Seconds until the next event would be admitted."""
        if len(self._times) < self._limit:
            return 0.0
        return max(0.0, self._times[0] + self._seconds - now)
