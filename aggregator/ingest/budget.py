"""
What a venue allows to one address, shared by the feeds that ask it.

A token bucket by weight, on the monotonic clock: a minute's worth may go at once. The month is
paced evenly, or a few restarts could use it up.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping

from yarl import URL

from aggregator.connector import Budget as Limits

log = logging.getLogger(__name__)

MINUTE_S = 60.0
MONTH_S = 30 * 86_400.0
NEARLY = 1e-9
"""What floating-point sums may be off."""


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
        now = clock()
        per_minute, per_month = limits.per_minute, limits.per_month
        self._minute = Bucket(per_minute, per_minute / MINUTE_S, now) if per_minute else None
        paced = max(10, per_month // 300)
        self._month = Bucket(paced, per_month / MONTH_S, now) if per_month else None

    @property
    def blocked_s(self) -> float:
        """For how many seconds nothing may be sent to the host at all; 0 if it may."""
        return max(0.0, self._blocked_until - self._clock())

    @property
    def left(self) -> float | None:
        """The weight that may go at once, `None` without a limit; below 0 while some is owed."""
        buckets = [bucket for bucket in (self._minute, self._month) if bucket]
        now = self._clock()
        for bucket in buckets:
            bucket.wait_s(0, now)
        return min((bucket.tokens for bucket in buckets), default=None)

    def try_take(self, weight: float) -> float:
        """
        Take so much, if it may go now.

        Returns:
            0.0 if it is taken, else the seconds until it would fit.

        """
        now = self._clock()
        buckets = [bucket for bucket in (self._minute, self._month) if bucket]
        waits = [bucket.wait_s(weight, now) for bucket in buckets]
        wait_s = max(self._blocked_until - now, *waits, 0.0)
        if wait_s <= 0:
            for bucket in buckets:
                bucket.tokens -= weight
            return 0.0
        return wait_s

    def observe(self, headers: Mapping[str, str]) -> None:
        """Take note of what the venue says is used; others at this address may use it as well."""
        if not self._used_header or self._minute is None:
            return
        for name, value in headers.items():
            used = value.strip()
            if name.lower() == self._used_header and used.isascii() and used.isdecimal():
                self._minute.wait_s(0, self._clock())
                left = self._minute.capacity - int(used[:9])
                self._minute.tokens = min(self._minute.tokens, left)

    def block(self, seconds: float, reason: str) -> None:
        """Let nothing go for so long; a longer block already there stays."""
        until = self._clock() + seconds
        if until > self._blocked_until:
            self._blocked_until = until
            self.block_reason = reason

    def plan(self, feed: str, per_minute: float, interval_s: float) -> None:
        """Declare that a feed polls every `interval_s` seconds, and the weight of a minute."""
        self._plans[feed] = (per_minute, interval_s)

    def warnings(self) -> list[str]:
        """Return what of the declared plans does not fit, with the numbers."""
        wanted = sum(per_minute for per_minute, _ in self._plans.values())
        return [
            f"{self.exchange} at {self.host}: the feeds want {want:,.0f} weight a {unit}, "
            f"the limit is {limit:,}; effective intervals will be about {self._times(want / limit)}"
            for want, limit, unit in (
                (wanted, self.limits.per_minute, "minute"),
                (wanted * MONTH_S / MINUTE_S, self.limits.per_month, "month"),
            )
            if limit and want > limit * (1 + NEARLY)
        ]

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


class Budgets:
    """The budgets of all venues and hosts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._budgets: dict[tuple[str, str], Budget] = {}

    def __iter__(self) -> Iterator[Budget]:
        return iter(self._budgets.values())

    def get(self, exchange: str, url: str, limits: Limits) -> Budget:
        """Return the budget of the host of `url`; the first who asks says its limits."""
        parsed = URL(url)
        port = "" if parsed.explicit_port is None else f":{parsed.explicit_port}"
        key = (exchange, f"{parsed.host or url}{port}")
        budget = self._budgets.get(key)
        if budget is None:
            budget = self._budgets[key] = Budget(*key, limits, self._clock)
        return budget

    def warnings(self) -> list[str]:
        """Return what of the declared plans does not fit, for all hosts."""
        return [text for budget in self for text in budget.warnings()]
