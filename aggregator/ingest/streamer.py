"""Runs a streamed feed: connects, and connects again, for as long as the daemon lives."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable

import aiohttp
from yarl import URL

from aggregator.channel import Channel
from aggregator.config import Feed
from aggregator.connector import StreamConnector
from aggregator.errors import ConnectorError
from aggregator.hub import Hub
from aggregator.options import StreamOptions

from .backoff import Backoff, Uniform
from .connection import CLOSE_TIMEOUT_S, MAX_FRAME_BYTES, Connection, WebSocket
from .dial import DialLimiter
from .failure import (
    LeavingError,
    NothingKnownError,
    RateLimitedError,
    RefusedError,
    StaleError,
    UpstreamError,
    from_network,
    kind_of,
    place,
    printable,
    refusal,
)
from .freshness import FeedStatus

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
"""From the name's resolution to the end of the WebSocket's handshake."""


class Streamer:
    """
    One streamed feed.

    A connector instance lives as long as one connection. Of what it may return, `Fetch` is not
    offered here: it is counted as unhandled.

    Args:
        feed: the configured feed, with a `StreamConnector`.
        channel: where its messages are published.
        hub: publishes them.
        session: what to connect with; its owner closes it.
        status: the feed's state.
        dial: spreads out the attempts to connect of all feeds.
        clock: a monotonic clock, in seconds.
        sleep: waits between two attempts.
        uniform: the back-off's random numbers.

    """

    def __init__(  # noqa: PLR0917 - the parts that every runner has
        self,
        feed: Feed,
        channel: Channel,
        hub: Hub,
        session: aiohttp.ClientSession,
        status: FeedStatus,
        dial: DialLimiter,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        if feed.cls is None or not issubclass(feed.cls, StreamConnector):
            raise TypeError(f"{feed.connector} is no connector for streaming")
        if not isinstance(feed.options, StreamOptions):
            raise TypeError(f"the options of {feed.name} are none for streaming")
        self.name = feed.name
        self.options = feed.options
        self.status = status
        self._cls = feed.cls
        self._channel = channel
        self._hub = hub
        self._session = session
        self._dial = dial
        self._clock = clock
        self._sleep = sleep
        self._backoff = Backoff(feed.options.max_backoff_s, uniform=uniform)
        self._url = 0
        self._had_data = False

    async def run(self) -> None:
        """Keep one connection until cancelled; then it is closed within a second."""
        while True:
            wait_s = await self._once()
            # On Python 3.11 a TaskGroup forgets that it was cancelled if a task of it failed too.
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError
            self.status.counters.reconnects += 1
            await self._sleep(wait_s)

    async def _once(self) -> float:
        """Hold one connection to its end; return how many seconds to wait before the next."""
        self._had_data = False
        failure: BaseException = UpstreamError("connection lost")
        try:
            await self._connect()
        # The one broad except of this runner: a bug in one connector must not stop the others.
        except* Exception as group:  # noqa: BLE001
            failure = _innermost(group)
        if self._had_data:
            self._backoff.reset()
        else:
            self._url = (self._url + 1) % len(self.options.urls)
        return self._judge(failure)

    async def _connect(self) -> None:
        url = self.options.urls[self._url]
        connector = self._cls(self.options)
        log.debug("feed %s: connecting to %s", self.name, place(url))
        await self._dial.turn(URL(url).host or "")
        self.status.connecting("connecting")
        ws = await self._open(url)
        # The venue lets us in: what it refused before limits the feed no more.
        self.status.unlimited()
        connection = Connection(
            ws,
            connector,
            channel=self._channel,
            hub=self._hub,
            status=self.status,
            clock=self._clock,
        )
        try:
            await connection.run()
        finally:
            self._had_data = connection.had_data

    async def _open(self, url: str) -> WebSocket:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await self._session.ws_connect(
                    url,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                    # A pong should be seen here, and sent from the one place that sends.
                    autoping=False,
                    autoclose=False,
                    heartbeat=None,
                    compress=0,
                    max_msg_size=MAX_FRAME_BYTES,
                    decode_text=False,
                )
        except aiohttp.WSServerHandshakeError as e:
            known = refusal(self._channel.exchange, e.status, e.headers or {})
            text = f"HTTP {e.status} instead of a WebSocket"
            raise known or UpstreamError(text, "http") from None
        except (aiohttp.ClientError, OSError) as e:  # TimeoutError is one of OSError
            raise from_network(e, CONNECT_TIMEOUT_S) from None

    def _judge(self, failure: BaseException) -> float:
        """Turn the end of a connection into the feed's state and a wait in seconds."""
        status = self.status
        if isinstance(failure, LeavingError) and self._had_data:
            status.connecting(str(failure))
            return 0.0
        status.counters.error(kind_of(failure))
        if isinstance(failure, RateLimitedError):
            wait_s = max(failure.retry_after_s, self._backoff.next())
            until_us = self._hub.now_us() + round(wait_s * 1e6)
            status.limited(str(failure), 0.0, "blocked", until_us)
            return wait_s
        if isinstance(failure, StaleError):
            status.stale(str(failure))
        elif isinstance(failure, UpstreamError | ConnectorError):
            status.down(str(failure), failure)
        elif status.down(f"unexpected error: {printable(type(failure).__name__)}", failure):
            log.error("feed %s: unexpected error", self.name, exc_info=failure)
        if isinstance(failure, RefusedError | NothingKnownError):
            return self._backoff.longest()
        return self._backoff.next()


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
