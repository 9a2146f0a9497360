"""
Runs a streamed feed: connects, and connects again, for as long as the daemon lives.

Where a connection is to be replaced while it still works, a second one is opened first (make
before break). Its data are held back (`merge`) until it can lead with nothing lost; then the first
is closed.
"""

# More lines than others have: when a connection is opened, replaced and given up is one thing.

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

import aiohttp

from aggregator.channel import Channel
from aggregator.config import Feed
from aggregator.connector import StreamConnector
from aggregator.hub import Hub
from aggregator.options import StreamOptions

from . import merge
from .backoff import Backoff, Uniform
from .dial import DialLimiter
from .failure import RateLimitedError, StaleError, UpstreamError, kind_of, printable
from .fetcher import Fetcher
from .freshness import FeedStatus
from .line import Line, pause

log = logging.getLogger(__name__)

CHECK_S = 0.02
"""How often it is looked whether a second connection can lead."""

Reason = Literal["age", "config", "notice", "operator", "stale"]
"""Why a connection is replaced."""


class Streamer:
    """
    One streamed feed.

    A connector instance lives as long as one connection.

    Args:
        feed: the configured feed, with a `StreamConnector`.
        channel: where its messages are published.
        hub: publishes them.
        session: what to connect with; its owner closes it.
        status: the feed's state.
        dial: spreads out the attempts to connect of all feeds.
        fetcher: makes the requests that connectors ask for, if the feed has an address for them.
        clock: a monotonic clock, in seconds.
        sleep: waits between two attempts.
        uniform: the random numbers of back-offs and ages.

    """

    def __init__(  # noqa: PLR0917 - the parts that every runner has, with lines for each
        self,
        feed: Feed,
        channel: Channel,
        hub: Hub,
        session: aiohttp.ClientSession,
        status: FeedStatus,
        dial: DialLimiter,
        *,
        fetcher: Fetcher | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        if feed.cls is None or not issubclass(feed.cls, StreamConnector):
            raise TypeError(f"{feed.connector} is no connector for streaming")
        if not isinstance(feed.options, StreamOptions):
            raise TypeError(f"the options of {feed.name} are none for streaming")
        self.name = feed.name
        self._cls = feed.cls
        self.options = feed.options
        # Instruments that a changed configuration leaves out, and those that it has.
        self._left_out: frozenset[str] = frozenset()
        self._listed: frozenset[str] | None = None
        self.status = status
        status.pinged = True
        self._hub, self.fetcher = hub, fetcher
        self._clock = clock
        self._sleep = sleep
        self._merge = merge.Merge(hub, channel)
        self._new_line = functools.partial(
            Line,
            connector=self._connector,
            channel=channel,
            merge=self._merge,
            session=session,
            status=status,
            dial=dial,
            fetcher=fetcher,
            watcher=self,
            clock=clock,
            uniform=uniform,
        )
        self._backoff = Backoff(feed.options.max_backoff_s, uniform=uniform)
        self._url = 0
        self._news = asyncio.Event()
        self.line: Line | None = None
        # Why the line is to be replaced, and when at the earliest.
        self._wanted: Reason | None = None
        self._not_before = -math.inf
        self._rotation_backoff = Backoff(feed.options.max_backoff_s, uniform=uniform)

    def rotate(self, reason: Reason, *, next_url: bool = False) -> bool:
        """
        Have the connection replaced by a second one; with `next_url`, one to the next address.

        Returns at once. Nothing is lost by it, and the state of the feed does not change. What
        fails is tried again, for as long as the present connection lives.

        Returns:
            Whether there is one; else the feed is about to connect anyway.

        """
        line = self.line
        if line is None or line.ended or line.connection is None:
            return False
        if next_url:
            self._next_url()
        self._wanted, self._not_before = reason, -math.inf
        self._news.set()
        return True

    def reconfigure(self, options: StreamOptions) -> None:
        """
        Go over to other options: a second connection has them, and replaces the first.

        Where there is no connection, the next one has them.
        """
        before = self._cls.instruments_of(self.options) or frozenset()
        self._listed = self._cls.instruments_of(options)
        self._left_out = before - (self._listed or before)
        self.options = options
        self._url = 0
        if not self.rotate("config"):
            self._relist()

    def _relist(self) -> None:
        """Take over which instruments there are, once nothing comes of the others any more."""
        if self._listed is not None:
            self.status.listed(self._listed)
            self._listed, self._left_out = None, frozenset()

    def _connector(self) -> StreamConnector:
        return self._cls(self.options)

    @property
    def addresses(self) -> int:
        """How many there are to connect to."""
        return len(self.options.urls)

    @property
    def rotating(self) -> bool:
        """Whether the connection is being replaced, or is to be."""
        return self._wanted is not None

    def resubscribe(self, instruments: Iterable[str]) -> bool:
        """Have silent instruments subscribed to again; return whether that can be done."""
        connection = self.line.connection if self.line is not None else None
        return connection is not None and connection.resubscribe(instruments)

    async def run(self) -> None:
        """Keep a connection until cancelled; then all there are are closed within a second."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                line = self._begin(tasks, leads=True)
                while (reason := await self._until_due(line)) is not None:
                    line = await self._rotate(tasks, line, reason)
                wait_s = self._judge(line)
                self.status.counters.reconnects += 1
                await self._sleep(wait_s)

    # What lines say.

    def changed(self) -> None:
        """Take note that a connection is open, or has ended."""
        self._news.set()

    def leaving(self) -> None:
        """Take note that the venue said that it will close the connection."""
        self.rotate("notice")

    # One connection.

    def _begin(self, tasks: asyncio.TaskGroup, *, leads: bool) -> Line:
        line = self._new_line(self.options.urls[self._url])
        if leads:
            line.lead()
        line.start(tasks)
        return line

    async def _until_due(self, line: Line) -> Reason | None:
        """Return why a connection is to be replaced, when it is time to; `None` at its end."""
        self.line = line
        while not line.ended:
            now = self._clock()
            if self._wanted is None and now >= line.until:
                self._wanted = "age"
            due = line.until if self._wanted is None else self._not_before
            if now >= due:
                return self._wanted
            await self._news_within(due - now)
        self.line = self._wanted = None
        return None

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._news.wait()
        self._news.clear()

    def _judge(self, line: Line) -> float:
        """Turn the end of a connection into the feed's state and a wait in seconds."""
        status, failure = self.status, line.failure
        if line.had_data:
            self._backoff.reset()
        else:
            self._next_url()
        if line.leaving:
            status.connecting(line.problem)
            return 0.0
        status.counters.error(kind_of(failure), line.problem)
        wait_s = pause(failure, self._backoff)
        if isinstance(failure, RateLimitedError):
            until_us = self._hub.now_us() + round(wait_s * 1e6)
            status.limited(line.problem, 0.0, "blocked", until_us)
        elif isinstance(failure, StaleError):
            status.stale(line.problem)
        elif status.down(line.problem, failure) and line.is_bug:
            log.error("feed %s: unexpected error", self.name, exc_info=failure)
        return wait_s

    def _next_url(self) -> None:
        self._url = (self._url + 1) % len(self.options.urls)

    # A second one.

    async def _rotate(self, tasks: asyncio.TaskGroup, first: Line, reason: Reason) -> Line:
        """Open a second connection; return the one that leads then."""
        second = self._begin(tasks, leads=False)
        while (problem := self._problem(first, second)) is None:
            await self._news_within(CHECK_S)
        if problem:
            self._give_up(second, problem)
            return first
        self._take_over(first, second, reason)
        return second

    def _problem(self, first: Line, second: Line) -> str | None:
        """Return why the second can't lead, nothing if it can; `None`: that has to be seen yet."""
        if second.ended:
            return second.problem
        if first.ended:
            return ""
        now = self._clock()
        verdict = self._merge.verdict(second.inlet, now, second.unknown | self._left_out)
        opened = second.inlet.opened
        if verdict == "" and opened is not None and first.alone_since(opened, second):
            # What it has fetched does not show that it will bring anything.
            return None if now < opened + merge.WAIT_S else f"no data for {merge.WAIT_S:g} s"
        return verdict

    def _take_over(self, first: Line, second: Line, reason: Reason) -> None:
        status = self.status
        second.lead()
        first.stop()
        self._relist()
        self._wanted, self._not_before = None, -math.inf
        broken = first.ended and not first.leaving
        if broken:
            status.counters.error(kind_of(first.failure), first.problem)
        if first.ended and not (second.had_data or second.fetched):
            # The second is too late. It goes on as the only one.
            status.counters.reconnects += 1
            status.connecting(first.problem)
            return
        now = self._clock()
        if second.had_data:
            self._rotation_backoff.reset()
            status.data(now)
        status.counters.rotate(reason)
        log.log(
            logging.WARNING if broken else logging.INFO,
            "feed %s: connection replaced (%s); both were open for %.1f s%s",
            self.name,
            reason,
            now - (second.inlet.opened or now),
            f", until the first failed: {printable(first.problem)}" if broken else "",
            exc_info=first.failure if broken and first.is_bug else None,
        )

    def _give_up(self, second: Line, problem: str) -> None:
        failure = second.failure if second.ended else UpstreamError(problem, "timeout")
        second.stop()
        self.status.counters.error(kind_of(failure), problem)
        self._next_url()
        wait_s = pause(failure, self._rotation_backoff)
        self._not_before = self._clock() + wait_s
        log.warning(
            "feed %s: no second connection: %s; the first stays, next attempt in %.1f s",
            self.name,
            printable(problem),
            wait_s,
            exc_info=failure if second.ended and second.is_bug else None,
        )
