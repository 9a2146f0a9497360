"""
When the hub is flushed: the pace of the fan-out.

The first message after a quiet moment goes out in the same turn of the loop. While messages keep
coming, the next fan-out waits for a window that counts from the END of the last one: counted from
its start the window would be over before a fan-out to many sessions is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aggregator.channel import Channel
from aggregator.histogram import SENDING_S, Histogram
from aggregator.hub import Hub

SESSIONS_AT_ONCE = 250
"""Written to before the venues' sockets have their turn: some 1 ms."""


class Fanout:
    """
    Flushes a hub.

    Args:
        hub: whose `wake` and `later` are set to this.
        window_s: from the end of one fan-out to the next.
        moved: called after each flush: the loop that moves messages is alive.

    Attributes:
        durations: of fan-outs, from their beginning to the last write.
        sent: by channel, from the receipt of a message to the last write of its fan-out. Measured
            of the first message that each fan-out waited for: none of it waited longer.

    """

    def __init__(self, hub: Hub, window_s: float, moved: Callable[[], None]) -> None:
        self._hub = hub
        self.window_s = window_s
        self._moved = moved
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() - window_s
        self._handle: asyncio.Handle | None = None
        self.flushes = 0
        self.seconds = 0.0
        self.durations = Histogram(SENDING_S)
        self.sent: dict[str, Histogram] = {}
        # Of the fan-out that goes on: when it began, and what is measured of it.
        self._begun: float | None = None
        self._first: tuple[Channel, int] | None = None
        hub.wake = self.wake
        hub.later = self._loop.call_later

    def wake(self) -> None:
        """Flush soon. Does nothing where that is already planned."""
        if self._handle is None:
            wait = self._end + self.window_s - self._loop.time()
            if wait <= 0:
                self._handle = self._loop.call_soon(self._flush)
            else:
                self._handle = self._loop.call_later(wait, self._flush)

    def stop(self) -> None:
        """Flush for the last time."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        while self._hub.waiting:
            self._hub.flush()

    def _flush(self, limit: int = SESSIONS_AT_ONCE) -> None:
        start = self._loop.time()
        if self._begun is None:
            self._begun, self._first = time.perf_counter(), self._hub.take_first()
        # Until it is over the handle stays: what is published meanwhile waits for the window.
        more = True
        try:
            more = self._hub.flush(limit)
        finally:
            self._handle = self._loop.call_soon(self._flush) if more else None
        self._end = self._loop.time()
        self.flushes += not more
        self.seconds += self._end - start
        self._moved()
        if not more:
            self._measure(self._begun)
            if self._hub.waiting:
                self.wake()

    def _measure(self, begun: float) -> None:
        self.durations.observe(time.perf_counter() - begun)
        self._begun = None
        # Those of the daemon itself and of users are no feed's.
        if self._first is not None and self._first[0].exchange:
            channel, received_us = self._first
            sent = self.sent.get(channel.name)
            if sent is None:
                sent = self.sent[channel.name] = Histogram(SENDING_S)
            sent.observe(max(0, self._hub.now_us() - received_us) / 1e6)
