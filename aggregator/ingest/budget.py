"""
What a venue allows to one address, shared by the feeds that ask it.

By weight, on the monotonic clock. Of the minute, everything that went in the last 60 s counts, so
that no minute, wherever the venue begins to count it, has more than its limit. The month is paced
evenly by a token bucket, or a few restarts could use it up.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping

from yarl import URL

from aggregator.connector import Budget as Limits

log = logging.getLogger(__name__)

MINUTE_S = 60.0
SKEW_S = 1.0
"""By how much two requests may come closer together on their way."""
MONTH_S = 30 * 86_400.0
NEARLY = 1e-9
"""What floating-point sums may be off."""


class Window:
    """What went in the last minute, and what others at this address used of it."""

    __slots__ = ("_log", "_others", "_others_until", "_sum", "in_flight", "limit")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.in_flight = 0.0
        self._log: deque[tuple[float, float]] = deque()
        self._sum = 0.0
        self._others = 0.0
        self._others_until = float("-inf")

    def left(self, now: float) -> float:
        """Return the weight that may go at once; below 0 while some is owed."""
        while self._log and self._log[0][0] <= now:
            self._sum -= self._log.popleft()[1]
        if self._others_until <= now:
            self._others = 0.0
        return self.limit - self._sum - self._others

    def wait_s(self, weight: float, now: float) -> float:
        """
        Return in how many seconds so much may be taken; 0 is now.

        More than the limit may be taken when nothing else counts.
        """
        missing = min(weight, self.limit) - self.left(now)
        if missing <= NEARLY:
            return 0.0
        ends = sorted([*self._log, (self._others_until, self._others)])
        for until, freed in ends:
            missing -= freed
            if missing <= NEARLY:
                return until - now
        return ends[-1][0] - now

    def take(self, weight: float, now: float) -> None:
        """Count so much for a minute from now; it is in flight until it is answered."""
        self._log.append((now + MINUTE_S + SKEW_S, weight))
        self._sum += weight
        self.in_flight += weight

    def observe(self, used: float, now: float) -> None:
        """Take the venue's count of the minute: what is not ours is others'."""
        self.left(now)
        self._others = max(0.0, used - (self._sum - self.in_flight))
        self._others_until = now + MINUTE_S


class Bucket:
    """Tokens that flow in evenly up to a capacity."""

    __slots__ = ("_at", "_per_s", "capacity", "tokens")

    def __init__(self, capacity: float, per_s: float, now: float) -> None:
        self.capacity = capacity
        self.tokens = capacity
        self._per_s = per_s
        self._at = now

    def wait_s(self, weight: float, now: float) -> float:
        """
        Return in how many seconds so much may be taken; 0 is now.

        More than the capacity may be taken from a full bucket, which then owes the rest.
        """
        self.tokens = min(self.capacity, self.tokens + (now - self._at) * self._per_s)
        self._at = now
        missing = min(weight, self.capacity) - self.tokens
        return missing / self._per_s if missing > NEARLY else 0.0


class Budget:
    """
    The requests that one host of a venue allows.

    Args:
        exchange: the venue's name.
        host: what its requests are sent to.
        limits: what is allowed; without any, everything is.
        clock: a monotonic clock, in seconds.

    """

    def __init__(
        self,
        exchange: str,
        host: str,
        limits: Limits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.exchange = exchange
        self.host = host
        self.limits = limits
        self.block_reason = ""
        self._clock = clock
        self._used_header = limits.used_header.lower()
        self._blocked_until = float("-inf")
        self._plans: dict[str, tuple[float, float]] = {}
        self._said: list[str] = []
        self._minute: Window | None = None
        self._month: Bucket | None = None
        self._second: Bucket | None = None
        self._set(limits)

    def change(self, limits: Limits) -> None:
        """Go over to other limits; what went in the last minute still counts."""
        if limits != self.limits:
            self._set(limits)

    def _set(self, limits: Limits) -> None:
        now, minute = self._clock(), self._minute
        per_minute, per_month = limits.per_minute, limits.per_month
        self._minute = (minute or Window(per_minute)) if per_minute else None
        if self._minute is not None:
            self._minute.limit = per_minute
        if self._month is None or per_month != self.limits.per_month:
            paced = max(10, per_month // 300)
            self._month = Bucket(paced, per_month / MONTH_S, now) if per_month else None
        self._second = Bucket(1, limits.per_second, now) if limits.per_second else None
        self.limits = limits

    @property
    def blocked_s(self) -> float:
        """For how many seconds nothing may be sent to the host at all; 0 if it may."""
        return max(0.0, self._blocked_until - self._clock())

    @property
    def left(self) -> float | None:
        """The weight that may go at once, `None` without a limit; below 0 while some is owed."""
        now = self._clock()
        left = [self._minute.left(now)] if self._minute else []
        if self._month:
            self._month.wait_s(0, now)
            left.append(self._month.tokens)
        return min(left, default=None)

    def try_take(self, weight: float, *, evenly: bool = False) -> float:
        """
        Take so much, if it may go now; `answered` follows.

        `evenly`: it may also wait for its turn within a second.

        Returns:
            0.0 if it is taken, else the seconds until it would fit.

        """
        now = self._clock()
        second = self._second if evenly else None
        limits = (self._minute, self._month, second)
        waits = [limit.wait_s(weight, now) for limit in limits if limit]
        wait_s = max(self._blocked_until - now, *waits, 0.0)
        if wait_s > 0:
            return wait_s
        if self._minute:
            self._minute.take(weight, now)
        if self._month:
            self._month.tokens -= weight
        if second:
            second.tokens -= weight
        return 0.0

    def answered(self, weight: float, headers: Mapping[str, str]) -> None:
        """
        Take note that a request of this weight has its answer, or will have none.

        `headers` of the answer, if there is one, may say what is used; others at this address may
        use it as well.
        """
        if self._minute is None:
            return
        self._minute.in_flight -= weight
        for name, value in headers.items():
            used = value.strip()
            if name.lower() == self._used_header and used.isascii() and used.isdecimal():
                self._minute.observe(int(used[:9]), self._clock())

    def block(self, seconds: float, reason: str) -> None:
        """Let nothing go for so long; a longer block already there stays."""
        until = self._clock() + seconds
        if until > self._blocked_until:
            self._blocked_until = until
            self.block_reason = reason

    def plan(self, feed: str, per_minute: float, interval_s: float) -> None:
        """Declare that a feed polls every `interval_s` seconds, and the weight of a minute."""
        self._plans[feed] = (per_minute, interval_s)

    def unplan(self, feed: str) -> None:
        """Take back what a feed has declared, if it has."""
        self._plans.pop(feed, None)

    @property
    def overload(self) -> float:
        """How many times what is allowed the declared plans want; 1 if they fit."""
        return max([1.0, *(want / limit for want, limit, _ in self._wants() if limit)])

    def warnings(self) -> list[str]:
        """Return what of the declared plans does not fit, with the numbers."""
        return [
            f"{self.exchange} at {self.host}: the feeds want {_up(want):,} weight {unit}, "
            f"the limit is {limit:,}; effective intervals will be about {self._times(want / limit)}"
            for want, limit, unit in self._wants()
            if limit and want > limit * (1 + NEARLY)
        ]

    def _wants(self) -> tuple[tuple[float, int, str], ...]:
        wanted = sum(per_minute for per_minute, _ in self._plans.values())
        return (
            (wanted, self.limits.per_minute, "a minute"),
            (wanted * MONTH_S / MINUTE_S, self.limits.per_month, "in 30 days"),
        )

    def warn(self) -> None:
        """Log the warnings, once for each change of theirs."""
        warnings = self.warnings()
        for text in warnings:
            if text not in self._said:
                log.warning("%s", text)
        self._said = warnings

    def _times(self, factor: float) -> str:
        intervals = sorted({round(interval_s * factor) for _, interval_s in self._plans.values()})
        if len(intervals) == 1:
            return f"{intervals[0]:,} s"
        return f"{intervals[0]:,} to {intervals[-1]:,} s"


def _up(want: float) -> int:
    """Return a weight as it is told: rounded up, so that it never looks like the limit."""
    return math.ceil(want * (1 - NEARLY))


class Budgets:
    """
    The budgets of all venues and hosts that are asked.

    One that is retired is not among them, but what it knows is kept: a feed may come back to it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budgets: dict[tuple[str, str], Budget] = {}
        self._retired: dict[tuple[str, str], Budget] = {}

    def __iter__(self) -> Iterator[Budget]:
        return iter(self._budgets.values())

    def get(self, exchange: str, url: str, limits: Limits) -> Budget:
        """Return the budget of the host of `url`; the first who asks says its limits."""
        parsed = URL(url)
        port = "" if parsed.explicit_port is None else f":{parsed.explicit_port}"
        key = (exchange, f"{parsed.host or url}{port}")
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._retired.pop(key, None) or Budget(*key, limits, self._clock)
            self._budgets[key] = budget
        return budget

    def retire(self, used: Container[Budget]) -> None:
        """Put aside those that are not among the used ones."""
        for key in [key for key, budget in self._budgets.items() if budget not in used]:
            self._retired[key] = self._budgets.pop(key)

    def warnings(self) -> list[str]:
        """Return what of the declared plans does not fit, for all hosts."""
        return [text for budget in self for text in budget.warnings()]
