"""Attempts to connect, spread out so that no venue sees too many of them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import aiohttp

from .failure import UpstreamError, from_network, refusal
from .sender import CLOSE_TIMEOUT_S, WebSocket

CONNECT_TIMEOUT_S = 10.0
"""From the name's resolution to the end of the WebSocket's handshake."""
MAX_FRAME_BYTES = 16 * 1024 * 1024
LIMITS = ((3, 1.05), (300, 301.0))
"""
Attempts to connect to one host, and within how many seconds: what OKX allows to an address in a
second, and Binance in five minutes; and a little for the way there.
"""

Limits = tuple[tuple[int, float], ...]


class Turn:
    """An attempt to connect, and when it counts as made: `at`, on the limiter's clock."""

    __slots__ = ("_clock", "at")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.at = clock()

    def made(self) -> None:
        """Take note that the venue has seen it by now; a name server may have taken its time."""
        self.at = self._clock()


class DialLimiter:
    """
    Shared by all streamed feeds; each attempt waits for its turn.

    Args:
        clock: a monotonic clock, in seconds.
        sleep: waits for a turn.
        limits: attempts to connect to one host, and within how many seconds.

    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        limits: Limits = LIMITS,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._limits = limits
        self._turns: dict[str, deque[Turn]] = {}

    async def turn(self, host: str) -> Turn:
        """Wait until an attempt at this host is in order. A cancelled turn counts as taken."""
        most = max(attempts for attempts, _ in self._limits)
        turns = self._turns.setdefault(host, deque(maxlen=most))
        before = [(turns[-n], seconds) for n, seconds in self._limits if len(turns) >= n]
        mine = Turn(self._clock)
        # Taken before the wait, so that two who ask at once get different turns.
        turns.append(mine)
        while True:
            mine.at = max([now := self._clock(), *(turn.at + s for turn, s in before)])
            if mine.at <= now:
                return mine
            await self._sleep(mine.at - now)


async def connect(session: aiohttp.ClientSession, url: str, venue: str) -> WebSocket:
    """
    Open a WebSocket, as `Connection` wants it.

    Raises:
        UpstreamError: it can't be opened; the text says why.

    """
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await session.ws_connect(
                url,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                # A pong should be seen by the connection, and sent from the one place that sends.
                autoping=False,
                autoclose=False,
                heartbeat=None,
                compress=0,
                max_msg_size=MAX_FRAME_BYTES,
                decode_text=False,
            )
    except aiohttp.WSServerHandshakeError as e:
        known = refusal(venue, e.status, e.headers or {})
        raise known or UpstreamError(f"HTTP {e.status} instead of a WebSocket", "http") from None
    except (aiohttp.ClientError, OSError) as e:  # TimeoutError is one of OSError
        raise from_network(e, CONNECT_TIMEOUT_S) from None
