"""
The HTTP requests that a streamed connector asks for (`Fetch`), made beside its connection.

They go through the same budget, deadline and errors as those of polled feeds. A poll that fails is
tried again by the next; here there is none, so a request has several attempts of its own.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

import aiohttp

from aggregator.connector import Output, Request, excerpt, translate
from aggregator.errors import PayloadError
from aggregator.options import FetchOptions

from . import fetch
from .backoff import Backoff, Uniform
from .budget import Budget
from .counters import FeedCounters
from .failure import RateLimitedError, RefusedError, UpstreamError, kind_of
from .fetch import Answer
from .roster import brief

log = logging.getLogger(__name__)

CONCURRENCY = 8
"""Requests of one feed that are under way at the same time."""
MAX_FETCHES = 5000
"""Requests of one connection that are under way or wait."""
ATTEMPTS = 4
PATIENCE_S = 90.0
"""A request that the budget, or a venue that wants none, holds up for longer has failed."""


class Fetcher:
    """
    Makes requests for one streamed feed.

    Args:
        name: the feed's name.
        venue: the name of its exchange.
        options: where to ask, and how long an answer may take.
        session: what to fetch with; its owner closes it.
        budget: what the venue's host allows, shared with other feeds.
        counters: counts answers and errors.
        sleep: waits between two attempts.
        uniform: the back-off's random numbers.

    Attributes:
        problem: why the last request failed; empty after a good answer.

    """

    def __init__(
        self,
        name: str,
        venue: str,
        *,
        options: FetchOptions,
        session: aiohttp.ClientSession,
        budget: Budget,
        counters: FeedCounters,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        self.problem = ""
        self._name = name
        self._venue = venue
        self._options = options
        self._session = session
        self.budget = budget
        self._counters = counters
        self._sleep = sleep
        self._uniform = uniform
        self._places = asyncio.Semaphore(CONCURRENCY)
        # Those that wait for their turn, with how long they may go without an answer.
        self._waiting: dict[asyncio.Timeout, float] = {}

    def reconfigure(self, options: FetchOptions, budget: Budget) -> None:
        """Go over to other options, with the next request."""
        self._options, self.budget = options, budget

    async def get(
        self,
        request: Request,
        read: Callable[[Request, bytes], Iterable[Output]],
        within_s: float | None = None,
    ) -> tuple[list[Output], int]:
        """
        Fetch a good answer (HTTP 200) that can be read. May be cancelled at any time.

        `read` translates it, as a connector does; one that it can't read is asked for again. With
        `within_s` it is given up after so many seconds: counted from its turn, and before that as
        long as no other request of the feed is answered either. So a queue that moves costs
        nobody's time, and an address that hangs keeps nobody waiting.

        Returns:
            What the answer means, and when it was received, in microseconds since the epoch.

        Raises:
            UpstreamError: there is none after all attempts; the text says why.
            ExchangeError, Exception: what `read` raises besides.

        """
        try:
            async with asyncio.timeout(within_s) as limit:
                if within_s is not None:
                    self._waiting[limit] = within_s
                try:
                    return await self._get(request, read, limit, within_s)
                finally:
                    self._waiting.pop(limit, None)
        except TimeoutError:
            because = f"; {self.problem}" if self.problem else ""
            text = f"no answer within {brief(within_s or 0.0)}{because}"
            self._counters.error("timeout", text)
            raise UpstreamError(text, "timeout") from None

    async def _get(
        self,
        request: Request,
        read: Callable[[Request, bytes], Iterable[Output]],
        limit: asyncio.Timeout,
        within_s: float | None,
    ) -> tuple[list[Output], int]:
        backoff = Backoff(self._options.max_backoff_s, uniform=self._uniform)
        async with self._places:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._turn(request, within_s)
                    if self._waiting.pop(limit, None) is not None:
                        _prolong(limit, within_s)
                    answer = await self._answer(request)
                    outputs = translate(functools.partial(read, request, answer.body))
                except (UpstreamError, PayloadError) as e:
                    self._failed(e)
                    if attempt == ATTEMPTS or isinstance(e, RefusedError):
                        raise UpstreamError(str(e)) from None
                else:
                    self.problem = ""
                    for other, seconds in self._waiting.items():
                        _prolong(other, seconds)
                    return outputs, answer.received_us
                await self._sleep(backoff.next())
        raise AssertionError

    async def _turn(self, request: Request, within_s: float | None) -> None:
        """Wait until the budget lets this request go."""
        waited_s = 0.0
        while (wait_s := self.budget.try_take(request.weight, evenly=True)) > 0:
            waited_s += wait_s
            blocked = self.budget.blocked_s > 0
            # How long a block lasts is known: there is no use in waiting to the end of patience.
            if waited_s > (within_s if blocked and within_s else PATIENCE_S):
                if blocked:
                    raise RefusedError(self.budget.block_reason, "rate_limited")
                text = f"the request budget of {self.budget.host} is used up"
                raise RefusedError(text, "timeout")
            await self._sleep(wait_s)

    async def _answer(self, request: Request) -> Answer:
        headers: list[Mapping[str, str]] = []
        try:
            answer = await fetch.get(
                self._session,
                self._options.base_url,
                request,
                venue=self._venue,
                timeout_s=self._options.timeout_s,
                observe=headers.append,
            )
        finally:
            self.budget.answered(request.weight, headers[0] if headers else {})
        self._counters.received += 1
        if answer.status != 200:
            # What a connector asks for again would be refused again.
            text = f"HTTP {answer.status}: {excerpt(answer.body)}"
            raise RefusedError(text, "exchange")
        return answer

    def _failed(self, error: UpstreamError | PayloadError) -> None:
        self._counters.error(kind_of(error), str(error))
        if isinstance(error, RateLimitedError):
            self.budget.block(error.retry_after_s, str(error))
        if str(error) != self.problem:
            self.problem = str(error)
            log.warning("feed %s: a request failed: %s", self._name, self.problem)


def _prolong(limit: asyncio.Timeout, seconds: float | None) -> None:
    """Count a time limit from now, unless it is over."""
    now = asyncio.get_running_loop().time()
    # Not for every answer while thousands wait: each time costs a timer.
    if seconds and not limit.expired() and (limit.when() or 0.0) < now + 0.75 * seconds:
        limit.reschedule(now + seconds)
