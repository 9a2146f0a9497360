"""Runs a polled feed: one tick after another, and what becomes of it when the venue fails."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Mapping

import aiohttp

from aggregator.channel import Channel
from aggregator.config import Feed
from aggregator.connector import PollConnector, Request
from aggregator.errors import AggregatorError
from aggregator.hub import Hub
from aggregator.options import PollOptions

from . import fetch
from .backoff import Backoff, Uniform
from .budget import MINUTE_S, Budget
from .failure import RateLimitedError, RefusedError
from .fetch import Answer
from .freshness import Cause, FeedStatus
from .poll import Memory, Poll

log = logging.getLogger(__name__)


class Poller:
    """
    One polled feed. `tick` is called every `interval_s` seconds; a tick may do nothing.

    Args:
        feed: the configured feed, with a `PollConnector`.
        channel: where its messages are published.
        hub: publishes them.
        session: what to fetch with; its owner closes it.
        status: the feed's state.
        budget: what the venue's host allows, shared with other feeds.
        clock: a monotonic clock, in seconds.
        uniform: the back-off's random numbers.

    """

    def __init__(  # noqa: PLR0917 - the parts that every runner has
        self,
        feed: Feed,
        channel: Channel,
        hub: Hub,
        session: aiohttp.ClientSession,
        status: FeedStatus,
        budget: Budget,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        if feed.cls is None or not issubclass(feed.cls, PollConnector):
            raise TypeError(f"{feed.connector} is no connector for polling")
        if not isinstance(feed.options, PollOptions):
            raise TypeError(f"the options of {feed.name} are none for polling")
        self.name = feed.name
        self.options = feed.options
        self.interval_s = feed.options.interval_s
        self.status = status
        self.connector = feed.cls(feed.options)
        self._channel = channel
        self._hub = hub
        self._session = session
        self.budget = budget
        self._clock = clock
        # The first wait is up to one interval: a shorter one would end before the next tick.
        self._backoff = Backoff(feed.options.max_backoff_s, self.interval_s, uniform)
        self.not_before = float("-inf")
        self._limited_until = float("-inf")
        self._memory = Memory()
        self._last_problem = ""

    def declare_plan(self) -> None:
        """Tell the budget what this feed is going to want. Never raises."""
        try:
            self._declare(list(self.connector.requests()))
        except Exception:
            # A bug in a connector: the first tick meets it as well, and says so.
            log.debug("feed %s: no plan", self.name, exc_info=True)

    def check(self) -> None:
        """Call the feed stale if its data are too old."""
        self.status.check(self._clock())

    async def tick(self) -> None:
        """
        Poll once, unless that is pointless just now.

        Never raises but when cancelled, which may happen at any time.
        """
        now = self._clock()
        self.check()
        counters = self.status.counters
        if now < self.not_before:
            counters.skip("backoff")
            return
        if self.budget.blocked_s > 0:
            counters.skip("blocked")
            self._blocked()
            return
        try:
            poll = Poll(
                self.connector,
                self._get,
                memory=self._memory,
                budget=self.budget,
                status=self.status,
                channel=self._channel,
                hub=self._hub,
                time_s=self.interval_s,
                clock=self._clock,
            )
            await poll.run()
            self._judge(poll)
        # The one broad except of this runner: a bug in one connector must not stop the others.
        except Exception as e:
            counters.error("unexpected", "a bug: the log has its traceback")
            self._wait(self._backoff.next())
            if self.status.down(f"unexpected error: {_innermost(e)}", e):
                log.exception("feed %s: unexpected error while polling", self.name)

    async def _get(self, request: Request) -> Answer:
        headers: list[Mapping[str, str]] = []
        try:
            return await fetch.get(
                self._session,
                self.options.base_url,
                request,
                venue=self.connector.exchange,
                timeout_s=self.options.timeout_s,
                observe=headers.append,
            )
        finally:
            self.budget.answered(request.weight, headers[0] if headers else {})

    def _declare(self, requests: list[Request]) -> None:
        weight = sum(r.weight / max(r.max_age_s, self.interval_s) for r in requests)
        self.budget.plan(self.name, weight * MINUTE_S, self.interval_s)

    def _judge(self, poll: Poll) -> None:
        """Turn what came of a poll into the feed's state."""
        if poll.fetched:
            self.status.counters.polls += 1
        if poll.complete:
            self._declare(poll.planned)
            self.budget.warn()
        if poll.failure:
            self._failed(poll.failure)
        elif poll.events:
            self._good(poll)
        elif poll.problem:
            self._failed(poll.problem)
        elif poll.short_s:
            self.status.counters.skip("budget")
            self._short(poll)
        elif poll.cached:
            self.status.counters.skip("cached")
        elif self._channel.instruments is not None and not self._channel.instruments:
            self._wait(self._backoff.longest())
            self.status.down("the venue knows none of the instruments")

    def _good(self, poll: Poll) -> None:
        self._backoff.reset()
        now = self._clock()
        lifetime_s = self._memory.lifetime_s
        cached = lifetime_s > self.interval_s
        if self.status.cause == "blocked" or (not cached and now >= self._limited_until):
            self.status.unlimited()
        self.status.data(now)
        self._mention(poll.problem)
        if poll.short_s or poll.late:
            self._short(poll)
        elif cached:
            reason = f"the source refreshes every {lifetime_s:g} s"
            self._limit(reason, self._on_grid(lifetime_s), "cached")

    def _mention(self, problem: AggregatorError | None) -> None:
        """Log the error of a single request, once for each that is new."""
        text = str(problem or "")
        if problem and text != self._last_problem:
            log.warning("feed %s: a request failed, others did not: %s", self.name, text)
        self._last_problem = text

    def _short(self, poll: Poll) -> None:
        """Say that budget or time do not reach for the whole plan in one interval."""
        if poll.fetched:
            polls = math.ceil(max(poll.ordinary, poll.fetched) / poll.fetched)
            effective_s = polls * self.interval_s
        else:
            last = self.status.last_data
            age_s = 0.0 if last is None else self._clock() - last
            effective_s = self._on_grid(age_s + poll.short_s)
        if poll.short_s:
            effective_s = max(effective_s, self._on_grid(self.interval_s * self.budget.overload))
        # Less now and then than always: the state must not change with each poll.
        self._limited_until = self._clock() + 2 * effective_s + self.interval_s
        if poll.short_s:
            text = f"the request budget of {self.budget.host} allows a poll every"
            self._limit(f"{text} {effective_s:g} s", effective_s, "budget")
        else:
            text = f"a poll of {poll.ordinary:,} requests takes about {effective_s:g} s"
            self._limit(text, effective_s, "slow")

    def _limit(self, reason: str, effective_s: float, cause: Cause) -> None:
        self.status.limited(reason, effective_s, cause)

    def _on_grid(self, seconds: float) -> float:
        return math.ceil(seconds / self.interval_s - 1e-6) * self.interval_s

    def _failed(self, error: AggregatorError) -> None:
        if isinstance(error, RateLimitedError):
            self.budget.block(error.retry_after_s, str(error))
            self._blocked()
            return
        refused = isinstance(error, RefusedError)
        self._wait(self._backoff.longest() if refused else self._backoff.next())
        self.status.down(str(error), error)

    def _blocked(self) -> None:
        until_us = self._hub.now_us() + round(self.budget.blocked_s * 1e6)
        reason = self.budget.block_reason
        self._limited_until = float("-inf")
        self.status.limited(reason, self.interval_s, "blocked", until_us)

    def _wait(self, seconds: float) -> None:
        self.not_before = self._clock() + seconds


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
