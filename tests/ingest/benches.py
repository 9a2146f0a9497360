"""Runners with everything around them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from ingest.doubles import QuoteOptions, Quotes, Setup, Stream, stream_options

from aggregator.connector import Budget as Limits
from aggregator.ingest.budget import Budget
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.poller import Poller
from aggregator.ingest.streamer import Streamer


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
