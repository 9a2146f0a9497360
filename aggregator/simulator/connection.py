"""One accepted WebSocket: batched writes, faults of data messages, slow consumers.

Frames are written to the transport by hand, many in one write: a send per message would
be the limit of the whole simulator. aiohttp does the handshake and reads.
"""

import asyncio
import struct
from collections import deque
from typing import Any

from aiohttp import web

from aggregator.simulator.faults import Fault, Faults

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_MAX_DELAYED = 20_000
# A closed connection has this long to read what is left before it is cut.
_LINGER_S = 0.5


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a finished, unmasked WebSocket frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


class Connection:
    """A client's socket at one venue; `state` is the venue's own (subscriptions, counters)."""

    def __init__(
        self,
        venue: str,
        path: str,
        request: web.Request,
        faults: Faults,
        *,
        max_buffered_bytes: int,
        overflow: tuple[int, str],
    ) -> None:
        if request.transport is None:
            raise ConnectionResetError("the client left during the handshake")
        self.venue = venue
        self.state: Any = None
        self.path = path
        self.closing = False
        self.halted_by: Fault | None = None
        self._transport = request.transport
        self._faults = faults
        self._batch: list[bytes] = []
        self._delayed: deque[tuple[float, bytes]] = deque()
        self._timers: set[asyncio.TimerHandle] = set()
        self._loop = asyncio.get_running_loop()
        self._max_buffered_bytes = max_buffered_bytes
        self._overflow = overflow
        self.pushed_at = self._loop.time()

    def push(self, payload: bytes, ready: bytes, channel: str, instrument: str) -> None:
        """Queue one data message (`ready` = its frame) for the next flush."""
        if self.closing or self.halted_by is not None:
            return
        if self._delayed or self._faults.touch(self.venue):
            self._push_through_faults(payload, ready, channel, instrument)
        else:
            self._batch.append(ready)

    def flush(self) -> None:
        """Write what is queued at once; a consumer that is too slow is dropped."""
        if not self._batch:
            return
        data = b"".join(self._batch)
        self._batch.clear()
        if self.closing or self._transport.is_closing() or self.halted_by is not None:
            return
        self._transport.write(data)
        self.pushed_at = self._loop.time()
        if self._transport.get_write_buffer_size() > self._max_buffered_bytes:
            self.close(*self._overflow)

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        """Send an answer (no data message: no fault but halfopen applies), after what is queued."""
        if self.closing or self.halted_by is not None:
            return
        self._batch.append(frame(payload, opcode))
        self.flush()

    def pong(self, payload: bytes, opcode: int = PONG) -> None:
        """Answer a ping, unless the fault nopong forbids it."""
        if self._faults.take("nopong", self.venue) is None:
            self.send(payload, opcode)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, then end the connection within half a second whatever comes."""
        if self.closing or self.halted_by is not None:
            return
        # Not by `flush`: that one may be what found the consumer too slow.
        self._batch.append(frame(struct.pack("!H", code) + reason.encode(), CLOSE))
        data = b"".join(self._batch)
        self._batch.clear()
        self.closing = True
        if not self._transport.is_closing():
            self._transport.write(data)
        self.later(_LINGER_S, self.abort)

    def cut(self, part: bytes = b"") -> None:
        """Write `part` and close the TCP connection without a close frame."""
        self.flush()
        self.closing = True
        if not self._transport.is_closing():
            self._transport.write(part)
            self._transport.close()

    def abort(self) -> None:
        """Drop the TCP connection now, with whatever is still unsent."""
        self.closing = True
        self._transport.abort()

    def halt(self, fault: Fault) -> None:
        """Half-open from now on: nothing is read or written until `abort`."""
        self.flush()
        self.halted_by = fault
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def later(self, seconds: float, callback: Any, *arguments: Any) -> None:
        """Call back after `seconds` unless the connection has ended by then."""

        def run() -> None:
            self._timers.discard(handle)
            callback(*arguments)

        handle = self._loop.call_later(seconds, run)
        self._timers.add(handle)

    def ended(self) -> None:
        """Let go of timers and of unsent data: the socket is gone."""
        self.closing = True
        for handle in self._timers:
            handle.cancel()
        self._timers.clear()
        self._delayed.clear()
        self._batch.clear()
        if not self._transport.is_closing():
            self._transport.close()

    def _push_through_faults(
        self, payload: bytes, ready: bytes, channel: str, instrument: str
    ) -> None:
        faults, venue = self._faults, self.venue
        instruments = frozenset((instrument,))

        def hit(kind: str) -> Fault | None:
            return faults.take(kind, venue, instruments=instruments, channel=channel)

        if hit("mute") or hit("drop"):
            return
        if fault := hit("garbage"):
            ready = frame(fault.parameters.get("text", "<garbage>").encode())
        elif hit("bom"):
            ready = frame(b"\xef\xbb\xbf" + payload)
        if hit("truncate"):
            self.cut(ready[: len(ready) // 2])
            return
        if hit("duplicate"):
            ready += ready
        fault = hit("delay")
        if fault or self._delayed:
            self._delay(ready, fault.parameters.get("seconds", 1.0) if fault else 0.0)
        else:
            self._batch.append(ready)

    def _delay(self, ready: bytes, seconds: float) -> None:
        # Never before an earlier one: a delay must not tear a sequence apart.
        due = self._loop.time() + seconds
        if self._delayed:
            due = max(due, self._delayed[-1][0])
        else:
            self.later(seconds, self._release)
        self._delayed.append((due, ready))
        if len(self._delayed) > _MAX_DELAYED:
            self.close(*self._overflow)

    def _release(self) -> None:
        now = self._loop.time()
        while self._delayed and self._delayed[0][0] <= now:
            self._batch.append(self._delayed.popleft()[1])
        self.flush()
        if self._delayed:
            self.later(self._delayed[0][0] - now, self._release)
