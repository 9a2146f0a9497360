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

    async def get(
        self, request: Request, read: Callable[[Request, bytes], Iterable[Output]]
    ) -> tuple[list[Output], int]:
        """
        Fetch a good answer (HTTP 200) that can be read. May be cancelled at any time.

        `read` translates it, as a connector does; one that it can't read is asked for again.

        Returns:
            What the answer means, and when it was received, in microseconds since the epoch.

        Raises:
            UpstreamError: there is none after all attempts; the text says why.
            ExchangeError, Exception: what `read` raises besides.

        """
        backoff = Backoff(self._options.max_backoff_s, uniform=self._uniform)
        async with self._places:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._turn(request)
                    answer = await self._answer(request)
                    outputs = translate(functools.partial(read, request, answer.body))
                except (UpstreamError, PayloadError) as e:
                    self._failed(e)
                    if attempt == ATTEMPTS or isinstance(e, RefusedError):
                        raise UpstreamError(str(e)) from None
                else:
                    self.problem = ""
                    return outputs, answer.received_us
                await self._sleep(backoff.next())
        raise AssertionError

    async def _turn(self, request: Request) -> None:
        """Wait until the budget lets this request go."""
        waited_s = 0.0
        while (wait_s := self.budget.try_take(request.weight, evenly=True)) > 0:
            waited_s += wait_s
            if waited_s > PATIENCE_S:
                if self.budget.blocked_s > 0:
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
