"""
One WebSocket connection to a venue, from its opening to the reason for its end.

Three tasks: one receives, one sends, one watches the clock. All sends come from the second, and
none is ever cancelled with the socket kept: in aiohttp 3.14 that would kill other senders.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import WSMsgType

from aggregator.channel import Channel
from aggregator.connector import (
    UNREADABLE,
    Acknowledged,
    KnownInstruments,
    Leaving,
    Output,
    Send,
    StreamConnector,
    Unhandled,
    UnknownInstrument,
    unreadable,
)
from aggregator.errors import PayloadError
from aggregator.hub import Hub
from aggregator.model import Event, PriceUpdate

from .failure import LeavingError, NothingKnownError, StaleError, UpstreamError, printable
from .freshness import FeedStatus

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 16 * 1024 * 1024
MAX_WAITING = 10_000
"""Frames that wait to be sent; a venue that takes none is given up."""
SEND_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
LONGEST_WATCH_S = 1.0
SHORTEST_WATCH_S = 0.005
UNREADABLE_FRAME = (PayloadError, *UNREADABLE)

WebSocket = aiohttp.ClientWebSocketResponse[bool]
Frame = tuple[WSMsgType, bytes]


class Connection:
    """
    A connection that is open.

    Args:
        ws: an open WebSocket, with `autoping=False, autoclose=False, decode_text=False`.
        connector: a fresh one.
        channel: where its messages are published.
        hub: publishes them.
        status: the feed's state.
        clock: a monotonic clock, in seconds.

    """

    def __init__(
        self,
        ws: WebSocket,
        connector: StreamConnector,
        *,
        channel: Channel,
        hub: Hub,
        status: FeedStatus,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ws = ws
        self._connector = connector
        self._options = connector.options
        self._channel = channel
        self._hub = hub
        self._status = status
        self._clock = clock
        self._opened = self._last_frame = clock()
        self._last_data: float | None = None
        self._pinged: float | None = None
        self._sending: float | None = None
        self._waiting: deque[Frame] = deque()
        self._to_send = asyncio.Event()
        self._unacknowledged: dict[str, float] = {}
        self._unknown: set[str] = set()

    @property
    def had_data(self) -> bool:
        """Whether real data came."""
        return self._last_data is not None

    async def run(self) -> None:
        """
        Subscribe and receive until something ends it. Cancelled, it closes the connection.

        Raises:
            ExceptionGroup: with the reason: `UpstreamError`, `ExchangeError`, or a bug.

        """
        name = self._channel.name
        try:
            async with asyncio.TaskGroup() as tasks:
                for send in self._connector.on_open():
                    self._act(send)
                tasks.create_task(self._send(), name=f"stream {name} send")
                tasks.create_task(self._watch(), name=f"stream {name} watch")
                await self._receive()
        finally:
            await self._close()

    # Receiving.

    async def _receive(self) -> None:
        receive, on_frame = self._ws.receive, self._connector.on_frame
        pong = self._connector.pong
        counters = self._status.counters
        while True:
            message = await receive()
            received_us = time.time_ns() // 1000
            self._last_frame = now = self._clock()
            frame = message.data
            if message.type is not WSMsgType.TEXT:
                self._not_text(message.type, message.data, message.extra)
            elif frame != pong:
                counters.received += 1
                try:
                    # aiohttp leaves this check to us, and hands out what came without a copy.
                    if not frame.isascii():
                        frame.decode()
                    outputs = on_frame(frame)
                    if not isinstance(outputs, list):
                        outputs = list(outputs)
                except UNREADABLE_FRAME as e:
                    self._unreadable(e)
                else:
                    self._perform(outputs, received_us, now)

    def _perform(self, outputs: list[Output], received_us: int, now: float) -> None:
        channel, publish = self._channel, self._hub.publish
        before = channel.seq
        for output in outputs:
            if isinstance(output, Event):
                publish(channel, output, received_us)
            else:
                self._act(output)
        if channel.seq != before:
            status = self._status
            status.counters.events += channel.seq - before
            self._last_data = now
            status.data(now)
            if status.unknown:
                status.known_again(o.instrument for o in outputs if isinstance(o, PriceUpdate))

    def _unreadable(self, error: Exception) -> None:
        if not isinstance(error, PayloadError):
            error = unreadable(error)
        self._status.counters.error("payload")
        log.debug("feed %s: unreadable frame: %s", self._channel.name, printable(str(error)))

    def _not_text(self, kind: WSMsgType, data: Any, extra: str | None) -> None:
        match kind:
            case WSMsgType.PING:
                self._enqueue((WSMsgType.PONG, bytes(data)))
            case WSMsgType.PONG:
                pass
            case WSMsgType.BINARY:
                self._status.counters.received += 1
                self._unreadable(PayloadError("a binary frame"))
            case WSMsgType.CLOSE:
                text = f"closed by the venue: {data} {extra or ''}"
                raise UpstreamError(printable(text))
            case WSMsgType.ERROR:
                text = f"the WebSocket protocol was violated: {data}"
                raise UpstreamError(printable(text))
            case _:
                raise UpstreamError("connection lost")

    def _act(self, output: Output) -> None:
        match output:
            case Send(frame, key):
                if key:
                    self._unacknowledged[key] = self._clock() + self._options.ack_timeout_s
                self._enqueue((WSMsgType.TEXT, frame.encode()))
            case Acknowledged(key):
                self._unacknowledged.pop(key, None)
            case UnknownInstrument(instrument, reason):
                self._status.unknown_instrument(instrument, reason)
                self._unknown.add(instrument)
                if self._unknown.issuperset(self._options.instruments):
                    raise NothingKnownError("the venue knows none of the instruments", "exchange")
            case KnownInstruments(instruments):
                self._status.listed(instruments)
            case Leaving(reason):
                raise LeavingError(printable(f"the venue is going to close: {reason}"))
            case Unhandled(name):
                self._status.counters.ignore(printable(name, 60))
            case _:
                # `Fetch` is for polled feeds.
                self._status.counters.ignore(type(output).__name__)

    # Sending.

    def _enqueue(self, frame: Frame) -> None:
        if len(self._waiting) >= MAX_WAITING:
            raise UpstreamError(f"{MAX_WAITING:,} frames wait to be sent")
        self._waiting.append(frame)
        self._to_send.set()

    async def _send(self) -> None:
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            while self._waiting:
                kind, frame = self._waiting.popleft()
                self._sending = self._clock()
                try:
                    await self._ws.send_frame(frame, kind)
                except (aiohttp.ClientError, OSError):
                    raise UpstreamError("connection lost while sending") from None
                self._sending = None

    # Watching.

    async def _watch(self) -> None:
        while True:
            due = self._check(self._clock())
            wait_s = due - self._clock()
            await asyncio.sleep(min(max(wait_s, SHORTEST_WATCH_S), LONGEST_WATCH_S))

    def _check(self, now: float) -> float:
        """Ping if it is time to, give up if it is time to, and return when to look again."""
        options = self._options
        if self._sending is not None and now - self._sending > SEND_TIMEOUT_S:
            raise UpstreamError(f"the venue takes no frame for {SEND_TIMEOUT_S:g} s", "timeout")
        acknowledge_by = min(self._unacknowledged.values(), default=now + LONGEST_WATCH_S)
        if now >= acknowledge_by:
            key = min(self._unacknowledged, key=lambda k: self._unacknowledged[k])
            text = f"no acknowledgement of {printable(key, 40)} within {options.ack_timeout_s:g} s"
            raise UpstreamError(text, "timeout")
        newest = self._opened if self._last_data is None else self._last_data
        stale_at = newest + options.stale_after_s
        if now >= stale_at:
            raise StaleError(f"no data for {now - newest:.0f} s", "timeout")
        return min(acknowledge_by, stale_at, self._keepalive(now))

    def _keepalive(self, now: float) -> float:
        if self._pinged is not None and self._last_frame > self._pinged:
            self._pinged = None
        if self._pinged is None:
            ping_at = self._last_frame + self._options.ping_after_s
            if now < ping_at:
                return ping_at
            text = self._connector.ping
            if text is None:
                self._enqueue((WSMsgType.PING, b""))
            else:
                self._enqueue((WSMsgType.TEXT, text.encode()))
            self._pinged = now
        pong_by = self._pinged + self._options.pong_timeout_s
        if now >= pong_by:
            raise UpstreamError(f"no pong within {self._options.pong_timeout_s:g} s", "timeout")
        return pong_by

    # Closing.

    async def _close(self) -> None:
        """Say goodbye if the venue still listens, and cut the connection if it does not."""
        # The only way to the transport: aiohttp closes politely or, where that fails, not at all.
        connection = self._ws._conn  # noqa: SLF001
        transport = None if connection is None else connection.transport
        try:
            # A send that was cut off leaves half a frame: nothing sensible can follow it.
            if self._sending is None:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await self._ws.close()
                transport = None
        except TimeoutError:
            pass
        finally:
            if transport is not None:
                transport.abort()
            if connection is not None:
                connection.close()
