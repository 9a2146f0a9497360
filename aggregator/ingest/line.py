"""One connection of a streamed feed, from the turn to dial to its end."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
import traceback
from collections.abc import Callable
from typing import Protocol

import aiohttp
from yarl import URL

from aggregator.channel import Channel
from aggregator.connector import StreamConnector
from aggregator.errors import ConnectorError

from .backoff import Backoff, Uniform
from .connection import Connection
from .dial import DialLimiter, connect
from .failure import (
    NothingKnownError,
    RateLimitedError,
    RefusedError,
    UpstreamError,
    place,
    printable,
)
from .fetcher import Fetcher
from .freshness import FeedStatus
from .merge import Merge

log = logging.getLogger(__name__)

YOUNGEST = 0.9
"""A connection is to be replaced at this share of `max_age_s` at the earliest: not all at once."""


class Watcher(Protocol):
    """Whom a line tells what happens to it."""

    def changed(self) -> None:
        """Take note that it is open, or has ended."""

    def leaving(self) -> None:
        """Take note that the venue said that it will close it."""


class Line:
    """
    An attempt to be connected, and what comes of it.

    Args:
        url: where to connect.
        connector: makes the connector that the connection has for itself.
        channel: where its messages are published.
        merge: publishes them.
        session: what to connect with; its owner closes it.
        status: the feed's state.
        dial: spreads out the attempts to connect of all feeds.
        fetcher: makes the requests that connectors ask for, if the feed has an address for them.
        watcher: is told what happens.
        clock: a monotonic clock, in seconds.
        uniform: a random number for its longest age.

    Attributes:
        inlet: where its events go.
        connection: as soon as it is open.
        until: when it is to be replaced for its age.
        failure: why it ended.
        ended: whether it has.

    """

    def __init__(
        self,
        url: str,
        connector: Callable[[], StreamConnector],
        *,
        channel: Channel,
        merge: Merge,
        session: aiohttp.ClientSession,
        status: FeedStatus,
        dial: DialLimiter,
        fetcher: Fetcher | None,
        watcher: Watcher,
        clock: Callable[[], float] = time.monotonic,
        uniform: Uniform = random.uniform,
    ) -> None:
        self.inlet = merge.inlet()
        self.connection: Connection | None = None
        self.until = math.inf
        self.failure: BaseException = UpstreamError("connection lost")
        self.ended = False
        self.url = url
        self._connector = connector
        self._channel = channel
        self._merge = merge
        self._session = session
        self._status = status
        self._dial = dial
        self._fetcher = fetcher
        self._watcher = watcher
        self._clock = clock
        self._uniform = uniform
        self._task: asyncio.Task[None] | None = None

    @property
    def had_data(self) -> bool:
        """Whether real data came."""
        return self.connection is not None and self.connection.had_data

    def alone_since(self, when: float, other: Line) -> bool:
        """Return whether this one has had data since then, and the other one never had any."""
        newest = self.connection.last_data if self.connection is not None else None
        return not other.had_data and newest is not None and newest > when

    @property
    def fetched(self) -> set[str]:
        """The instruments whose newest data were fetched, while it does not lead."""
        errands = self.connection.errands if self.connection is not None else None
        return errands.fetched if errands is not None else set()

    @property
    def leaving(self) -> bool:
        """Whether the venue has said that it will close it."""
        return self.connection is not None and self.connection.leaving

    @property
    def unknown(self) -> set[str]:
        """The instruments that the venue does not know."""
        return self.connection.unknown if self.connection is not None else set()

    @property
    def is_bug(self) -> bool:
        """Whether it ended by what is no failure of the venue's or of the way there."""
        return not isinstance(self.failure, UpstreamError | ConnectorError)

    @property
    def problem(self) -> str:
        """Why it ended, for people."""
        if self.is_bug:
            return f"unexpected error: {printable(type(self.failure).__name__)}"
        return str(self.failure)

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Connect, and stay connected until something ends it."""
        self._task = tasks.create_task(self._run(), name=f"stream {self._channel.name}")

    def stop(self) -> None:
        """Close the connection, which takes a second at most, without waiting for that."""
        if self._task is not None:
            self._task.cancel()

    def lead(self) -> None:
        """Publish what comes, and first what was held back and is news."""
        counters, before = self._status.counters, self._channel.seq
        fetched = self._status.fetched
        lasts = fetched.lasts(self.fetched)
        try:
            counters.backfilled += self._merge.lead(self.inlet)
            if fetched.note(lasts):
                self._status.begun()
            if self.connection is not None:
                self.connection.lead()
        # What a connector's bug has made of an event shows only when it is published.
        except Exception as e:  # noqa: BLE001
            self.failure = e
            self.stop()
        counters.events += self._channel.seq - before

    async def _run(self) -> None:
        try:
            await self._hold()
        # The one broad except of streams: a bug in one connector must not stop the others.
        except* Exception as group:  # noqa: BLE001
            self.failure = _innermost(group)
            _let_go(group)
        finally:
            self.ended = True
            self._watcher.changed()

    async def _hold(self) -> None:
        log.debug("feed %s: connecting to %s", self._channel.name, place(self.url))
        connector = self._connector()
        turn = await self._dial.turn(URL(self.url).host or "")
        if self.inlet.leads:
            self._status.connecting("connecting")
        try:
            ws = await connect(self._session, self.url, self._channel.exchange)
        finally:
            turn.made()
        # The venue lets us in: what it refused before limits the feed no more.
        self._status.unlimited()
        connector.resume(self._merge.seen())
        self.connection = Connection(
            ws,
            connector,
            channel=self._channel,
            inlet=self.inlet,
            status=self._status,
            fetcher=self._fetcher,
            on_leaving=self._watcher.leaving,
            clock=self._clock,
        )
        now, longest_s = self._clock(), connector.options.max_age_s
        self.until = now + self._uniform(YOUNGEST * longest_s, longest_s)
        self.inlet.open(now, time.time_ns() // 1000)
        self._watcher.changed()
        await self.connection.run()


def pause(failure: BaseException, backoff: Backoff) -> float:
    """Return how many seconds to wait after an attempt that failed."""
    if isinstance(failure, RefusedError | NothingKnownError):
        return backoff.longest()
    wait_s = backoff.next()
    return max(failure.retry_after_s, wait_s) if isinstance(failure, RateLimitedError) else wait_s


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _let_go(error: BaseException | None) -> None:
    """
    Forget the variables of the frames that an error came through, which can still be shown.

    They hold on to the connection and its books, in a circle that only the collector finds: until
    then each reconnect would take the memory of those books once more.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            _let_go(each)
        error = error.__context__
