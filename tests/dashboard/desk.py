"""A whole daemon without feeds, whose prices the test publishes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aggregator.app import Daemon
from aggregator.config import Config, Server
from aggregator.model import BookUpdate, Candle, Gap, Level, PriceUpdate, State, SystemStatus

PATIENCE_S = 30


class Desk:
    """
    A daemon, and the channels that the test gives it.

    Attributes:
        url: of its page.

    """

    def __init__(self, port: int = 0, **server: object) -> None:
        self.daemon = Daemon(Config("a test", Server(port=port, **server), ()))
        self.hub = self.daemon.hub
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Desk]:
        stop = asyncio.Event()
        task = asyncio.create_task(self.daemon.run(stop), name="daemon")
        async with asyncio.timeout(PATIENCE_S):
            while not await self._answers():  # noqa: ASYNC110 - it does not say when
                await asyncio.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.daemon.server.port}"
        try:
            yield self
        finally:
            stop.set()
            await task

    async def _answers(self) -> bool:
        port = self.daemon.server.port
        if port == 0:
            return False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return False
        writer.close()
        return True

    def channel(self, name: str, exchange: str, instruments: list[str]) -> None:
        self.hub.add_channel(name, exchange, instruments)

    def price(self, channel: str, instrument: str, price: str, **fields: object) -> None:
        """Publish a price, given as the venue's text."""
        now_us = self.hub.now_us()
        update = PriceUpdate(instrument, price, b"{}", **{"exchange_us": now_us, **fields})
        self.hub.publish(self.hub.channels[channel], update, now_us)

    def candle(self, channel: str, instrument: str, start_us: int, *prices: str) -> None:
        """Publish a candle of a minute: open, high, low, close."""
        names = ("open", "high", "low", "close")
        given = dict(zip(names, prices, strict=True))
        update = Candle(instrument=instrument, interval="1m", start_us=start_us, **given)
        self.hub.publish(self.hub.channels[channel], update, self.hub.now_us())

    def state(self, feed: str, state: State, reason: str, ago_s: int = 0) -> None:
        """Publish how a feed is from now on, or has been for so long."""
        now_us = self.hub.now_us()
        since_us = now_us - ago_s * 1_000_000
        status = SystemStatus(feed=feed, state=state, since_us=since_us, reason=reason)
        self.hub.publish(self.hub.system, status, now_us)

    def gap(self, channel: str, instrument: str | None, cause: str) -> None:
        """Publish that something of a venue is lost."""
        lost = Gap(instrument=instrument, data={"cause": cause, "after": 1, "before": 5})
        self.hub.publish(self.hub.channels[channel], lost, self.hub.now_us())

    def book(self, channel: str, instrument: str, bids: list, asks: list, *, whole: bool):
        """Publish an order book, or a change of one."""
        sides = [[Level(*level) for level in side] for side in (bids, asks)]
        update = BookUpdate(instrument=instrument, bids=sides[0], asks=sides[1], whole=whole)
        self.hub.publish(self.hub.channels[channel], update, self.hub.now_us())
