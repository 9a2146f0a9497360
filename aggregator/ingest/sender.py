"""
What a connection sends to its venue: one task sends all frames, none faster than the venue takes.

No send is ever cancelled with the socket kept: in aiohttp 3.14 that would kill other senders.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

import aiohttp
from aiohttp import WSMsgType

from aggregator.connector import StreamConnector

from .failure import UpstreamError, printable

MAX_WAITING = 10_000
"""Frames that wait to be sent; a venue that takes none is given up."""
SEND_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 1.0
WINDOW_S = 1.05
"""A second, and a little for the way there."""

WebSocket = aiohttp.ClientWebSocketResponse[bool]


class Sender:
    """
    The sending side of a WebSocket.

    Args:
        ws: where to send.
        per_s: how many frames a second the venue takes, pings and pongs included; `None`: any.
        clock: a monotonic clock, in seconds.

    """

    def __init__(
        self, ws: WebSocket, per_s: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._ws = ws
        self._clock = clock
        self._sent: deque[float] | None = deque(maxlen=per_s) if per_s else None
        self._waiting: deque[tuple[WSMsgType, bytes]] = deque()
        self._filled = asyncio.Event()
        self._since: float | None = None

    def add(self, kind: WSMsgType, frame: bytes) -> None:
        """
        Send a frame after those that already wait.

        Raises:
            UpstreamError: too many wait.

        """
        if len(self._waiting) >= MAX_WAITING:
            raise UpstreamError(f"{MAX_WAITING:,} frames wait to be sent")
        self._waiting.append((kind, frame))
        self._filled.set()

    def check(self, now: float) -> None:
        """
        Give up a venue that takes nothing.

        Raises:
            UpstreamError: a frame has been on its way for `SEND_TIMEOUT_S`.

        """
        if self._since is not None and now - self._since > SEND_TIMEOUT_S:
            raise UpstreamError(f"the venue takes no frame for {SEND_TIMEOUT_S:g} s", "timeout")

    async def run(self) -> None:
        """
        Send until cancelled.

        Raises:
            UpstreamError: the connection is lost.

        """
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._waiting:
                await self._turn()
                kind, frame = self._waiting.popleft()
                self._since = self._clock()
                try:
                    await self._ws.send_frame(frame, kind)
                except (aiohttp.ClientError, OSError):
                    raise UpstreamError("connection lost while sending") from None
                self._since = None

    async def _turn(self) -> None:
        """Wait until one more frame is in order."""
        sent = self._sent
        if sent is None:
            return
        if len(sent) == sent.maxlen and (wait_s := sent[0] + WINDOW_S - self._clock()) > 0:
            await asyncio.sleep(wait_s)
        sent.append(self._clock())

    async def close(self) -> None:
        """Say goodbye if the venue still listens, and cut the connection if it does not."""
        # The only way to the transport: aiohttp closes politely or, where that fails, not at all.
        connection = self._ws._conn  # noqa: SLF001
        transport = None if connection is None else connection.transport
        try:
            # A send that was cut off leaves half a frame: nothing sensible can follow it.
            if self._since is None:
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


class Receipts:
    """
    The acknowledgements that are to come.

    Args:
        timeout_s: how long each may take, in seconds.

    Attributes:
        due: until when, by key.
        last: when the last one came.

    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.due: dict[str, float] = {}
        self.last: float | None = None

    def expect(self, key: str, now: float) -> None:
        """Wait for one, from now on."""
        self.due[key] = now + self._timeout_s

    def take(self, key: str, now: float) -> None:
        """Take note that one came."""
        self.due.pop(key, None)
        self.last = now

    def check(self, now: float) -> float:
        """
        Return when to look again.

        Raises:
            UpstreamError: one has not come in time.

        """
        key, due = min(self.due.items(), key=lambda item: item[1], default=("", math.inf))
        if now >= due:
            text = f"no acknowledgement of {printable(key, 40)} within {self._timeout_s:g} s"
            raise UpstreamError(text, "timeout")
        return due


class Pings:
    """
    Asks a venue that is silent for a sign of life.

    Args:
        sender: sends the pings.
        connector: says what they are, and its options after how much silence, in seconds.

    """

    def __init__(self, sender: Sender, connector: StreamConnector) -> None:
        self._sender = sender
        self._ping = connector.ping
        self._options = connector.options
        self._pinged: float | None = None

    def check(self, now: float, last_frame: float) -> float:
        """
        Ping if it is time to; return when to look again.

        `last_frame` is when anything was received; all are times of the sender's clock.

        Raises:
            UpstreamError: a ping has had no answer in time.

        """
        if self._pinged is not None and last_frame > self._pinged:
            self._pinged = None
        if self._pinged is None:
            ping_at = last_frame + self._options.ping_after_s
            if now < ping_at:
                return ping_at
            if self._ping is None:
                self._sender.add(WSMsgType.PING, b"")
            else:
                self._sender.add(WSMsgType.TEXT, self._ping.encode())
            self._pinged = now
        pong_by = self._pinged + self._options.pong_timeout_s
        if now >= pong_by:
            raise UpstreamError(f"no pong within {self._options.pong_timeout_s:g} s", "timeout")
        return pong_by
