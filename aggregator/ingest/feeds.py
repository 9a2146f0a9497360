"""All feeds of the daemon: their channels, their states, and the tasks that run them."""

# More lines than others have: to start a feed, to change it and to take it away is one thing.

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

import aiohttp

from aggregator.channel import Channel
from aggregator.config import Config, Feed
from aggregator.connector import PollConnector
from aggregator.driver import DriverConnector
from aggregator.hub import Hub
from aggregator.options import FetchOptions, PollOptions, StreamOptions

from .budget import Budget, Budgets
from .dial import DialLimiter
from .drift import Drift, Finding
from .driver import Driver
from .escalation import Escalation, Stream
from .fetch import new_session
from .fetcher import Fetcher
from .freshness import FeedStatus
from .instruments import Instruments
from .learned import FeedRhythms, Learned, rhythms_of
from .poller import Poller
from .pulse import Pulse, look_s
from .schedule import Schedule
from .streamer import Streamer
from .why import Why

log = logging.getLogger(__name__)

Dismiss = Callable[[str], Awaitable[None]]

STALE_AFTER_S = 30.0
"""For a feed whose own options can't be read, and which never has data."""


class Ingest:
    """
    The side of the exchanges.

    Creates the channels of all feeds in the hub. A feed whose connector is broken has a channel
    too, and is down.

    Attributes:
        statuses: the state of each feed, by its name.
        instruments: how the instruments of each feed are doing, by its name.
        budgets: what the venues allow.
        dial: spreads out the attempts to connect.
        why: explains the feeds' channels.

    """

    def __init__(self, hub: Hub, config: Config, learned: Learned | None = None) -> None:
        self._hub = hub
        self._config = config
        self._learned = learned or Learned(None)
        self._secrets = config.secrets()
        self._schedule = Schedule()
        self.budgets = Budgets()
        self.dial = DialLimiter()
        self._pulse = Pulse(_look_s(config))
        self.statuses: dict[str, FeedStatus] = {}
        self.instruments: dict[str, Instruments] = {}
        self._drift_said: set[tuple[str, Finding]] = set()
        self._channels: dict[str, Channel] = {}
        self._runners: dict[str, Streamer | Poller | Driver] = {}
        # While it runs.
        self._session: aiohttp.ClientSession | None = None
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        for feed in config.feeds:
            self._add(feed)
        self.why = Why(
            hub, self.statuses, self.instruments, self._runners, self._schedule.next_poll_s
        )

    @property
    def scheduler_events(self) -> dict[str, int]:
        """What the scheduler did besides polling, counted by name."""
        return self._schedule.events

    def rotate(self, feed: str) -> str:
        """
        Have the connection of a feed replaced by a second one, since an operator wants it.

        Returns:
            Why that can't be done; nothing if it is on its way.

        Raises:
            LookupError: there is no such feed.

        """
        if feed not in self.statuses:
            raise LookupError(feed)
        streamer = self._runners.get(feed)
        if not isinstance(streamer, Streamer):
            return f"{feed} has no connection that could be replaced"
        if not streamer.rotate("operator"):
            return f"{feed} is not connected; it is about to connect anyway"
        return ""

    @property
    def feeds(self) -> tuple[Feed, ...]:
        """Those that are configured now."""
        return self._config.feeds

    async def reload(self, config: Config, dismiss: Dismiss) -> None:
        """
        Go over to another configuration; feeds that are the same in it notice nothing.

        Args:
            config: the other one.
            dismiss: ends all subscriptions to a channel, before it goes.

        """
        before = {feed.name: feed for feed in self._config.feeds}
        after = {feed.name: feed for feed in config.feeds}
        self._config, self._secrets = config, config.secrets()
        self._pulse.look_s = min(self._pulse.look_s, _look_s(config))
        for name in [name for name in before if name not in after]:
            await self._remove(name, dismiss)
            log.info("feed %s: removed", name)
        for name, feed in after.items():
            old = before.get(name)
            if old is None:
                self._add(feed)
                self._start(feed)
                log.info("feed %s: added", name)
            elif (old.connector, old.options, old.problem) != (
                feed.connector,
                feed.options,
                feed.problem,
            ):
                await self._change(old, feed, dismiss)
                log.info("feed %s: changed", name)
        self._limit()

    async def run(self) -> None:
        """Run every feed until cancelled; then connections are closed and polls ended."""
        # No limit: no feed may ever wait for another one's connection, and each has its own.
        async with new_session() as self._session, asyncio.TaskGroup() as self._group:
            for feed in self._config.feeds:
                self._start(feed)
            for budget in self.budgets:
                budget.warn()
            self._group.create_task(self._pulse.run(), name="feeds pulse")
            self._group.create_task(self._learned.keep(self._rhythms), name="feeds learned")
            await self._schedule.run()

    def _rhythms(self) -> Iterator[FeedRhythms]:
        now = self._hub.now_us() / 1e6
        for feed in self._config.feeds:
            if (status := self.statuses.get(feed.name)) is not None:
                instruments = self.instruments[feed.name]
                yield rhythms_of(feed.connector, status, instruments, now)

    async def _change(self, old: Feed, feed: Feed, dismiss: Dismiss) -> None:
        """Go over to other options of a feed; with another connector it is another feed."""
        runner, cls, options = self._runners.get(feed.name), feed.cls, feed.options
        same = old.connector == feed.connector and not feed.problem
        if runner is None or cls is None or options is None or not same:
            await self._remove(feed.name, dismiss)
            self._add(feed)
            self._start(feed)
            return
        status = self.statuses[feed.name]
        status.hide(self._secrets)
        status.changed(options.stale_after_s)
        if isinstance(options, PollOptions):
            status.paced(options.interval_s)
        self.instruments[feed.name].changed()
        if isinstance(runner, Streamer) and isinstance(options, StreamOptions):
            if runner.fetcher is not None and isinstance(options, FetchOptions):
                runner.fetcher.reconfigure(options, self._budget(feed, options.base_url))
            self._escalate(status, runner)
            runner.reconfigure(options)
            return
        await self._stop(feed.name)
        listed = cls.instruments_of(options)
        if listed is not None:
            status.listed(listed)
        self._start(feed)

    async def _remove(self, name: str, dismiss: Dismiss) -> None:
        await self._stop(name)
        self._channels.pop(name, None)
        self.statuses.pop(name).removed("it is no longer configured")
        self._pulse.remove(self.instruments.pop(name))
        self._hub.channels[name].closed = True
        await dismiss(name)
        self._hub.remove_channel(name)

    async def _stop(self, name: str) -> None:
        """Let nothing of a feed run any more."""
        runner = self._runners.pop(name, None)
        if isinstance(runner, Poller):
            await self._schedule.remove(runner)
            runner.budget.unplan(name)
        if task := self._tasks.pop(name, None):
            task.cancel()
            await asyncio.wait((task,))

    def _limit(self) -> None:
        """Hold the venues' hosts to the limits that are configured now."""
        done: set[Budget] = set()
        for feed in self._config.feeds:
            runner = self._runners.get(feed.name)
            asks = runner.fetcher if isinstance(runner, Streamer) else runner
            budget = getattr(asks, "budget", None)
            if isinstance(budget, Budget) and budget not in done:
                # As at the start, the first one says.
                done.add(budget)
                budget.change(self._config.budget(feed))
                budget.warn()
        self.budgets.retire(done)

    def _add(self, feed: Feed) -> None:
        exchange, problem = "", feed.problem
        instruments: frozenset[str] | None = None
        options = feed.options
        if feed.cls is not None and options is not None:
            exchange = feed.cls.exchange_of(options)
            try:
                instruments = feed.cls.instruments_of(options)
            except Exception as e:  # somebody else's code, before there is a runner around it
                log.exception("feed %s: its instruments can't be told", feed.name)
                problem = f"unexpected error: {type(e).__name__}"
        channel = self._hub.add_channel(feed.name, exchange, instruments)
        status = self.statuses[feed.name] = FeedStatus(
            channel,
            self._hub,
            stale_after_s=options.stale_after_s if options else STALE_AFTER_S,
            interval_s=options.interval_s if isinstance(options, PollOptions) else 0.0,
            look_s=self._pulse.look_s,
            secrets=self._secrets,
        )
        instruments_ = self.instruments[feed.name] = Instruments(
            status,
            channel,
            self._hub,
            look_s=self._pulse.look_s,
            silence_s=getattr(feed.cls, "silence_s", None),
        )
        self._learned.recall(feed.connector, status, instruments_)
        self._pulse.add(instruments_)
        documented = feed.cls.documented if feed.cls is not None else {}
        status.counters.drift = Drift(feed.name, feed.connector, documented, self._drift_said)
        if feed.cls is None or problem:
            status.down(problem)
        else:
            self._channels[feed.name] = channel

    def _start(self, feed: Feed) -> None:
        """Run a feed, if everything runs and it can be."""
        session, group = self._session, self._group
        if session is None or group is None or feed.name not in self._channels:
            return
        channel, status = self._channels[feed.name], self.statuses[feed.name]
        try:
            if feed.cls is not None and issubclass(feed.cls, PollConnector):
                poller = self._runners[feed.name] = self._poller(feed, channel, session, status)
                self._schedule.add(poller)
                return
            if feed.cls is not None and issubclass(feed.cls, DriverConnector):
                driver = Driver(feed, channel, self._hub, status, self.dial)
                self._runners[feed.name] = driver
                self._escalate(status, driver)
                task = group.create_task(driver.run(), name=f"driver {feed.name}")
                self._tasks[feed.name] = task
                return
            fetcher = self._fetcher(feed, session, status)
            parts = (feed, channel, self._hub, session, status, self.dial)
            streamer = Streamer(*parts, fetcher=fetcher)
        except Exception as e:  # somebody else's code, before there is a runner around it
            log.exception("feed %s can't be started", feed.name)
            status.down(f"unexpected error: {type(e).__name__}")
            return
        self._escalate(status, streamer)
        self._runners[feed.name] = streamer
        self._tasks[feed.name] = group.create_task(streamer.run(), name=f"stream {feed.name}")

    def _escalate(self, status: FeedStatus, stream: Stream) -> None:
        self.instruments[status.name].escalation = Escalation(
            status.name, stream, status.counters, status.stale_after_s
        )

    def _poller(
        self,
        feed: Feed,
        channel: Channel,
        session: aiohttp.ClientSession,
        status: FeedStatus,
    ) -> Poller:
        if feed.cls is None or not isinstance(feed.options, PollOptions):
            raise TypeError(f"the options of {feed.name} are none for polling")
        budget = self._budget(feed, feed.options.base_url)
        poller = Poller(feed, channel, self._hub, session, status, budget)
        poller.declare_plan()
        return poller

    def _fetcher(
        self, feed: Feed, session: aiohttp.ClientSession, status: FeedStatus
    ) -> Fetcher | None:
        if feed.cls is None or not isinstance(feed.options, FetchOptions):
            return None
        return Fetcher(
            feed.name,
            feed.cls.exchange,
            options=feed.options,
            session=session,
            budget=self._budget(feed, feed.options.base_url),
            counters=status.counters,
        )

    def _budget(self, feed: Feed, url: str) -> Budget:
        exchange = "" if feed.cls is None else feed.cls.exchange
        return self.budgets.get(exchange, url, self._config.budget(feed))


def _look_s(config: Config) -> float:
    options = [feed.options for feed in config.feeds if feed.options is not None]
    return look_s(each.stale_after_s for each in options)
