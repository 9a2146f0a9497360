"""All feeds of the daemon: their channels, their states, and the tasks that run them."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from aggregator import __version__
from aggregator.channel import Channel
from aggregator.config import Config, Feed
from aggregator.connector import PollConnector
from aggregator.hub import Hub
from aggregator.options import PollOptions

from .budget import Budgets
from .dial import DialLimiter
from .fetch import NO_TIMEOUT
from .freshness import FeedStatus
from .poll import CONCURRENCY
from .poller import Poller
from .schedule import Schedule
from .streamer import Streamer

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
        budgets: what the venues allow.

    """

    def __init__(self, hub: Hub, config: Config) -> None:
        self._hub = hub
        self._config = config
        self._schedule = Schedule()
        self.budgets = Budgets()
        self.statuses: dict[str, FeedStatus] = {}
        self._channels: dict[str, Channel] = {}
        for feed in config.feeds:
            self._add(feed)

    @property
    def scheduler_events(self) -> dict[str, int]:
        """What the scheduler did besides polling, counted by name."""
        return self._schedule.events

    async def run(self) -> None:
        """Run every feed until cancelled; then connections are closed and polls ended."""
        feeds = [feed for feed in self._config.feeds if feed.name in self._channels]
        async with self._session(len(feeds)) as session, asyncio.TaskGroup() as tasks:
            dial = DialLimiter()
            for feed in feeds:
                self._start(feed, session, dial, tasks)
            for budget in self.budgets:
                budget.warn()
            await self._schedule.run()

    def _add(self, feed: Feed) -> None:
        exchange, problem = "", feed.problem
        instruments: frozenset[str] | None = None
        options = feed.options
        if feed.cls is not None and options is not None:
            exchange = feed.cls.exchange
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
            secrets=self._config.secrets(),
        )
        if feed.cls is None or problem:
            status.down(problem)
        else:
            self._channels[feed.name] = channel

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
                self._schedule.add(self._poller(feed, channel, session, status))
                return
            streamer = Streamer(feed, channel, self._hub, session, status, dial)
        except Exception as e:  # somebody else's code, before there is a runner around it
            log.exception("feed %s can't be started", feed.name)
            status.down(f"unexpected error: {type(e).__name__}")
            return
        tasks.create_task(streamer.run(), name=f"stream {feed.name}")

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
