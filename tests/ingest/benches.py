"""Runners with everything around them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from ingest.doubles import Ear, QuoteOptions, Quotes, Setup, Stream, stream_options

from aggregator.config import Config, Feed, Server
from aggregator.connector import Budget as Limits
from aggregator.hub import Hub
from aggregator.ingest.budget import Budget
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.feeds import Ingest
from aggregator.ingest.poller import Poller
from aggregator.ingest.streamer import Streamer
from aggregator.registry import load


class PollBench(Setup):
    """A poller at a real server, on a clock that only the test moves."""

    def __init__(self, venue, session, cls=Quotes, limits=None, **options) -> None:
        super().__init__(cls, QuoteOptions(base_url=venue.url, **options))
        self.budget = Budget("fake", "host", limits or Limits(), self.clock)
        self.poller = Poller(
            self.feed,
            self.channel,
            self.hub,
            session,
            self.status,
            self.budget,
            clock=self.clock,
            uniform=lambda low, high: high,
        )
        self.counters = self.status.counters

    async def tick(self, after=10.0):
        self.clock.advance(after)
        await self.poller.tick()


class StreamBench(Setup):
    """A streamer at a real server. Its sleeps are noted, and end when the test lets them."""

    def __init__(self, session, *urls, cls=Stream, patient=False, **options) -> None:
        super().__init__(cls, stream_options(*urls, **options), clock=time.monotonic)
        self.sleeps: list[float] = []
        self.patient = patient
        self.slept = asyncio.Event()
        self.streamer = Streamer(
            self.feed,
            self.channel,
            self.hub,
            session,
            self.status,
            DialLimiter(),
            sleep=self._sleep,
            uniform=lambda low, high: high,
        )
        self.counters = self.status.counters

    async def _sleep(self, seconds):
        self.sleeps.append(seconds)
        self.slept.set()
        if not self.patient:
            await asyncio.Event().wait()

    @asynccontextmanager
    async def running(self):
        before = asyncio.all_tasks()
        task = asyncio.create_task(self.streamer.run(), name="streamer")
        try:
            yield task
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        left = {t for t in asyncio.all_tasks() - before if t.get_name().startswith("stream")}
        assert left == set()

    async def to_the_end(self):
        """Run until the first connection has ended."""
        async with self.running(), asyncio.timeout(10):
            await self.slept.wait()


def addresses(simulator, exchange):
    """Return where a venue is, by the option that says so."""
    return {
        "binance": {
            "base_url": simulator.binance_url,
            "urls": [f"{simulator.binance_ws_url}/ws"],
        },
        "coingecko": {"base_url": simulator.coingecko_url},
        "okx": {"base_url": simulator.okx_rest_url, "urls": [simulator.okx_url]},
    }[exchange]


@asynccontextmanager
async def running(simulator, sections, **more):
    """Run feeds at simulated venues: the whole side of the exchanges."""
    hub = Hub()
    feeds = []
    for name, section in sections.items():
        given = {**section, **more}
        cls = load(given.pop("connector"))
        for key, address in addresses(simulator, cls.exchange).items():
            if key in cls.options_type.model_fields:
                given.setdefault(key, address)
        feeds.append(Feed(name, section["connector"], cls, cls.options_type(**given)))
    system = Ear(hub, hub.system)
    ingest = Ingest(hub, Config("test", Server(), tuple(feeds)))
    ears = {feed.name: Ear(hub, hub.channels[feed.name]) for feed in feeds}
    task = asyncio.create_task(ingest.run())
    try:
        yield ingest, system, ears
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
