"""Runs a feed whose connector does its own I/O: starts it, and starts it again, without end."""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable

import aiohttp

from aggregator.channel import Channel
from aggregator.config import Feed
from aggregator.connector import (
    UNREADABLE,
    Ignored,
    KnownInstruments,
    Leaving,
    Output,
    Unhandled,
    UnknownInstrument,
)
from aggregator.driver import DriverConnector, lacks
from aggregator.errors import ConnectorError, PayloadError, ThrottledError, UnusableError
from aggregator.hub import Hub
from aggregator.model import Event

from .backoff import Backoff, Uniform
from .counters import EVERY
from .dial import DialLimiter
from .failure import (
    LeavingError,
    NothingKnownError,
    StaleError,
    UpstreamError,
    kind_of,
    printable,
    retry_after_s,
)
from .fetched import is_backfilled
from .freshness import INTERVALS_UNTIL_STALE, FeedStatus

log = logging.getLogger(__name__)

LONGEST_WATCH_S = 1.0
SHORTEST_WATCH_S = 0.005


class Driver:
    """
    One feed with a `DriverConnector`; the connector lives as long as the feed.

    Args:
        feed: the configured feed.
        channel: where its messages are published.
        hub: publishes them.
        status: the feed's state.
        dial: spreads out the attempts of all feeds.
        clock: a monotonic clock, in seconds.
        sleep: waits between two attempts.
        uniform: the back-off's random numbers.

    Attributes:
        addresses: 1; where to connect is the connector's own affair.
        rotating: whether it is about to begin anew.

    """

    addresses = 1

    def __init__(
        self,
        feed: Feed,
        channel: Channel,
        hub: Hub,
        status: FeedStatus,
        dial: DialLimiter,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        if feed.cls is None or not issubclass(feed.cls, DriverConnector) or feed.options is None:
            raise TypeError(f"{feed.connector} is no connector that does its own I/O")
        self.name = feed.name
        self.status = status
        self._connector = feed.cls(feed.options)
        self._listed = feed.cls.instruments_of(feed.options)
        self._channel = channel
        self._hub = hub
        self._dial = dial
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(feed.options.max_backoff_s, uniform=uniform)
        self._begun = clock()
        self._had_data = False
        # Since the last data: what could not be read, and what was wrong with it.
        self._unreadable = 0
        self._problem = ""
        # When the next attempt begins, while none goes on.
        self._next_at: float | None = None
        self._imported = False
        self.rotating = False

    def resubscribe(self, instruments: Iterable[str]) -> bool:
        """Say that single instruments can't be subscribed to again from outside."""
        del instruments
        return False

    def rotate(self, reason: str, *, next_url: bool = False) -> bool:
        """Have the driver begin anew, as an instrument is silent; return whether it is running."""
        del reason, next_url
        self.rotating = self._had_data
        return self.rotating

    def facts(self, now: float) -> dict[str, object]:
        """Return what is known of where the data come from, at this monotonic time."""
        running = self._next_at is None
        try:
            said = dict(self._connector.facts())
        except Exception as e:  # somebody else's code; the rest is of use all the same
            log.debug("feed %s: no facts", self.name, exc_info=True)
            said = {"facts_error": type(e).__name__}
        return {
            "attempt_age_s": now - self._begun if running else None,
            "attempt_had_data": self._had_data,
            "next_attempt_s": None if self._next_at is None else max(0.0, self._next_at - now),
            "unreadable_since_data": self._unreadable,
            "interval_s": self._connector.interval_s or None,
            "rotating": self.rotating,
            **said,
        }

    async def run(self) -> None:
        """Keep the driver going until cancelled; then it is closed within a second."""
        while True:
            wait_s = await self._once()
            # On Python 3.11 a TaskGroup forgets that it was cancelled if a task of it failed too.
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError
            self.status.counters.reconnects += 1
            self._next_at = self._clock() + wait_s
            await self._sleep(wait_s)
            self._next_at = None

    async def _import(self) -> None:
        """Import what the driver stands around, beside the loop: it may take seconds."""
        cls = type(self._connector)
        if problem := lacks(cls):
            raise UnusableError(problem)
        await asyncio.to_thread(importlib.import_module, cls.library)
        # ccxt brings another one for the whole process, with twice the memory for a connection.
        aiohttp.set_zlib_backend(zlib)
        self._imported = True

    async def _once(self) -> float:
        """Hold one attempt to its end; return how many seconds to wait before the next."""
        self._had_data = self.rotating = False
        self._unreadable = 0
        failure: BaseException = UpstreamError("connection lost")
        try:
            await self._attempt()
        # The one broad except of this runner: a bug in one connector must not stop the others.
        except* Exception as group:  # noqa: BLE001
            failure = _innermost(group)
        if self._had_data:
            self._backoff.reset()
        return self._judge(failure)

    async def _attempt(self) -> None:
        if not self._imported:
            await self._import()
        await self._dial.turn(self._channel.exchange)
        self.status.connecting("connecting")
        self._begun = self._clock()
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(self._watch(), name=f"driver {self.name} watch")
            try:
                await self._connector.run(self._take)
            finally:
                watch.cancel()

    # What arrives.

    def _take(self, outputs: Iterable[Output]) -> None:
        """Publish what one frame or answer means: all of it or nothing."""
        received_us = time.time_ns() // 1000
        counters = self.status.counters
        counters.received += 1
        try:
            outputs = list(outputs)
        except (PayloadError, *UNREADABLE) as e:
            counters.error("payload", str(e))
            self._unreadable += 1
            self._problem = str(e)
            log.debug("feed %s: unreadable: %s", self.name, printable(str(e)))
            return
        channel = self._channel
        before, gaps = channel.seq, channel.gaps
        now = self._clock()
        if now >= counters.measure_at or not counters.received % EVERY:
            counters.measure(outputs, received_us, now)
        try:
            for output in outputs:
                if isinstance(output, Event):
                    self._hub.publish(channel, output, received_us)
                else:
                    self._act(output)
        finally:
            published = channel.seq - before
            counters.events += published
            unchanged = not outputs and self._connector.interval_s > 0
            # That something is lost is no data.
            if published > channel.gaps - gaps or unchanged:
                self._fresh([output for output in outputs if isinstance(output, Event)])

    def _fresh(self, events: list[Event]) -> None:
        status = self.status
        self._unreadable = 0
        if not self._had_data:
            self._had_data = True
            # The venue lets us in: what it refused before limits the feed no more.
            status.unlimited()
            status.paced(0.0 if self._connector.sparse else self._connector.interval_s)
        status.data(self._clock())
        status.counters.backfilled += sum(map(is_backfilled, events))
        if status.unknown:
            status.heard_of(events)

    def _act(self, output: Output) -> None:
        status = self.status
        match output:
            case UnknownInstrument(instrument, reason):
                status.unknown_instrument(instrument, reason)
                if self._listed and self._listed <= status.unknown.keys():
                    raise NothingKnownError("the venue knows none of the instruments", "exchange")
            case KnownInstruments(instruments):
                status.listed(instruments)
            case Leaving(reason):
                raise LeavingError(printable(reason))
            case Ignored(name):
                status.counters.leave_out(printable(name, 60))
            case Unhandled(name):
                status.counters.ignore(printable(name, 60))
            case _:
                # What only other runners can do.
                status.counters.ignore(type(output).__name__)

    # Watching.

    async def _watch(self) -> None:
        """End an attempt that hangs: a library may go on waiting on a connection that is dead."""
        status = self.status
        while True:
            if self.rotating:
                raise LeavingError("connecting anew, as an instrument is silent")
            now = self._clock()
            newest = max(self._begun, status.last_data or self._begun)
            polls_s = INTERVALS_UNTIL_STALE * self._connector.interval_s
            stale_at = newest + max(status.stale_limit_s, polls_s)
            if now >= stale_at:
                count, problem = self._unreadable, printable(self._problem, 100)
                because = f"; {count:,} messages can't be read: {problem}" if count else ""
                raise StaleError(f"no data for {now - newest:.0f} s{because}", "timeout")
            await asyncio.sleep(min(max(stale_at - now, SHORTEST_WATCH_S), LONGEST_WATCH_S))

    def _judge(self, failure: BaseException) -> float:
        """Turn the end of an attempt into the feed's state and a wait in seconds."""
        status = self.status
        if isinstance(failure, LeavingError) and self._had_data:
            status.connecting(str(failure))
            return 0.0
        status.counters.error(kind_of(failure), str(failure))
        if isinstance(failure, ThrottledError):
            told_s = failure.retry_after_s
            wait_s = max(retry_after_s({}) if told_s is None else told_s, self._backoff.next())
            until_us = self._hub.now_us() + round(wait_s * 1e6)
            status.limited(str(failure), 0.0, "blocked", until_us)
            return wait_s
        if isinstance(failure, StaleError):
            status.stale(str(failure))
        elif isinstance(failure, UpstreamError | ConnectorError):
            status.down(str(failure), failure)
        elif status.down(f"unexpected error: {printable(type(failure).__name__)}", failure):
            log.error("feed %s: unexpected error", self.name, exc_info=failure)
        if isinstance(failure, UnusableError | NothingKnownError):
            return self._backoff.longest()
        return self._backoff.next()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
