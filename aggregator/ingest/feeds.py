"""All feeds of the daemon: their channels, their states, and the tasks that run them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import aiohttp

from aggregator import __version__
from aggregator.channel import Channel
from aggregator.config import Config, Feed
from aggregator.connector import PollConnector
from aggregator.driver import DriverConnector
from aggregator.hub import Hub
from aggregator.options import FetchOptions, PollOptions, StreamOptions

from .budget import Budgets
from .dial import DialLimiter
from .drift import Drift, Finding
from .driver import Driver
from .escalation import Escalation, Stream
from .fetch import NO_TIMEOUT
from .fetcher import Fetcher
from .freshness import FeedStatus
from .instruments import Instruments
from .poll import CONCURRENCY
from .poller import Poller
from .pulse import Pulse, look_s
from .schedule import Schedule
from .streamer import Streamer
from .why import Why

log = logging.getLogger(__name__)

USER_AGENT = f"exchange-aggregator/{__version__}"
DNS_CACHE_S = 60
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

    def __init__(self, hub: Hub, config: Config) -> None:
        self._hub = hub
        self._config = config
        self._schedule = Schedule()
        self.budgets = Budgets()
        self.dial = DialLimiter()
        options = [feed.options for feed in config.feeds if feed.options is not None]
        self._pulse = Pulse(look_s(each.stale_after_s for each in options))
        self.statuses: dict[str, FeedStatus] = {}
        self.instruments: dict[str, Instruments] = {}
        said: set[tuple[str, Finding]] = set()
        self._channels: dict[str, Channel] = {}
        self._runners: dict[str, Streamer | Poller | Driver] = {}
        for feed in config.feeds:
            self._add(feed)
            self._watch_drift(feed, said)
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

    def reload(self, config: Config) -> list[str]:
        """
        Go over to what another configuration says of streamed feeds.

        Returns:
            What else is different there, and needs a restart.

        """
        before = {feed.name: feed for feed in self._config.feeds}
        after = {feed.name: feed for feed in config.feeds}
        left = [f"feeds.{name}" for name in sorted(before.keys() ^ after.keys())]
        for name in before.keys() & after.keys():
            old, new = before[name], after[name]
            if (old.connector, old.options) == (new.connector, new.options):
                continue
            runner = self._runners.get(name)
            same = old.connector == new.connector
            if same and isinstance(runner, Streamer) and isinstance(new.options, StreamOptions):
                runner.reconfigure(new.options)
            else:
                left.append(f"feeds.{name}")
        kept = {name: after[name] for name in after if f"feeds.{name}" not in left}
        feeds = tuple(kept.get(feed.name, feed) for feed in self._config.feeds)
        self._config = replace(self._config, feeds=feeds)
        return left

    async def run(self) -> None:
        """Run every feed until cancelled; then connections are closed and polls ended."""
        feeds = [feed for feed in self._config.feeds if feed.name in self._channels]
        async with self._session(len(feeds)) as session, asyncio.TaskGroup() as tasks:
            for feed in feeds:
                self._start(feed, session, self.dial, tasks)
            for budget in self.budgets:
                budget.warn()
            tasks.create_task(self._pulse.run(), name="feeds pulse")
            await self._schedule.run()

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
            secrets=self._config.secrets(),
        )
        instruments_ = self.instruments[feed.name] = Instruments(
            status,
            channel,
            self._hub,
            look_s=self._pulse.look_s,
            silence_s=getattr(feed.cls, "silence_s", None),
        )
        self._pulse.add(instruments_)
        if feed.cls is None or problem:
            status.down(problem)
        else:
            self._channels[feed.name] = channel

    def _watch_drift(self, feed: Feed, said: set[tuple[str, Finding]]) -> None:
        documented = feed.cls.documented if feed.cls is not None else {}
        drift = Drift(feed.name, feed.connector, documented, said)
        self.statuses[feed.name].counters.drift = drift

    def _start(
        self,
        feed: Feed,
        session: aiohttp.ClientSession,
        dial: DialLimiter,
        tasks: asyncio.TaskGroup,
    ) -> None:
        channel, status = self._channels[feed.name], self.statuses[feed.name]
        try:
            if feed.cls is not None and issubclass(feed.cls, PollConnector):
                poller = self._runners[feed.name] = self._poller(feed, channel, session, status)
                self._schedule.add(poller)
                return
            if feed.cls is not None and issubclass(feed.cls, DriverConnector):
                driver = Driver(feed, channel, self._hub, status, dial)
                self._runners[feed.name] = driver
                self._escalate(status, driver)
                tasks.create_task(driver.run(), name=f"driver {feed.name}")
                return
            fetcher = self._fetcher(feed, session, status)
            streamer = Streamer(feed, channel, self._hub, session, status, dial, fetcher=fetcher)
        except Exception as e:  # somebody else's code, before there is a runner around it
            log.exception("feed %s can't be started", feed.name)
            status.down(f"unexpected error: {type(e).__name__}")
            return
        self._escalate(status, streamer)
        self._runners[feed.name] = streamer
        tasks.create_task(streamer.run(), name=f"stream {feed.name}")

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
        limits = self._config.budget(feed)
        budget = self.budgets.get(feed.cls.exchange, feed.options.base_url, limits)
        poller = Poller(feed, channel, self._hub, session, status, budget)
        poller.declare_plan()
        return poller

    def _fetcher(
        self, feed: Feed, session: aiohttp.ClientSession, status: FeedStatus
    ) -> Fetcher | None:
        if feed.cls is None or not isinstance(feed.options, FetchOptions):
            return None
        limits = self._config.budget(feed)
        return Fetcher(
            feed.name,
            feed.cls.exchange,
            options=feed.options,
            session=session,
            budget=self.budgets.get(feed.cls.exchange, feed.options.base_url, limits),
            counters=status.counters,
        )

    @staticmethod
    def _session(feeds: int) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            # WebSockets count as well: no feed may ever wait for another one's connection.
            connector=aiohttp.TCPConnector(
                limit=max(1, feeds) * (CONCURRENCY + 1), ttl_dns_cache=DNS_CACHE_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            timeout=NO_TIMEOUT,
            trust_env=False,
            auto_decompress=True,
        )
