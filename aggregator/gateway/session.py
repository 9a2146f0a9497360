"""
One client: what it sends. What it is answered is in `commands`, what it is sent in `delivery`.

A session is the transport's protocol itself; nothing here waits, and it has no task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aggregator import wire

from . import protocol
from .commands import Commands
from .delivery import CLOSE_TIMEOUT_S
from .frames import CLOSE, PING, PONG, TEXT, ProtocolError, Reader
from .protocol import Close, Code

if TYPE_CHECKING:
    from .sessions import Sessions

READ_PAUSE_S = 0.1
"""For this long nothing is read from a client that sends faster than it may."""
HEAVY_BYTES = 4096
HEAVY_WANTS = 100
"""A command counts once more for each so many bytes of it, and subscriptions of its session."""
FRAMES_AT_ONCE = 256
"""More frames than this in one read, pings say, are answered with such a pause."""


class Session(Commands, asyncio.BufferedProtocol):
    """
    A client that is connected.

    Args:
        sessions: what all of them share: hub, limits, counters.
        address: the peer's address, for the limit per address.
        short: whether the short form of `/ws/ticker` is spoken.
        deflate_bits: of the window that is agreed on for compression; 0 for none.

    """

    __slots__ = ("_deaf", "_reader")

    def __init__(
        self, sessions: Sessions, address: str, *, short: bool = False, deflate_bits: int = 0
    ) -> None:
        super().__init__(sessions, address, deflate_bits, short=short)
        self._reader: Reader | None = None
        self._deaf = False

    # From the transport.

    def start(self, transport: asyncio.Transport, early: bytes) -> None:
        """Begin, on a transport whose handshake is done; `early` is what came right behind it."""
        self.begin(transport)
        if early:
            self._receive(early)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return where to put what is received: it is used up before anybody else receives."""
        del sizehint
        return self._all.receive_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was received."""
        self._receive(bytes(memoryview(self._all.receive_buffer)[:nbytes]))

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        del exc
        self._closing = True
        self._reader = None
        self.detach()
        self._all.forget(self)

    # What the others ask.

    def ping(self) -> None:
        """Send a ping; `Heartbeats` watches for the pong."""
        if not self._closing:  # nothing may follow a close
            self.write(wire.frame(b"", PING))

    # Frames in.

    def _receive(self, data: bytes) -> None:
        limit = self._all.config.max_frame_bytes
        reader = self._reader or Reader(limit, inflate=self.deflate_bits > 0)
        self.take(reader.feed(data))
        if reader.frames > FRAMES_AT_ONCE:
            self._all.pause_reading(self.transport, READ_PAUSE_S)
        reader.frames = 0
        self._reader = None if self._deaf or reader.idle else reader

    def take(self, messages: Iterable[tuple[int, bytes]]) -> None:
        """Take whole messages that came together, as opcode and payload; it may end in a fault."""
        if self._deaf:
            return
        try:
            self._read(messages)
        except ProtocolError as e:
            self._fail(e)

    def _read(self, messages: Iterable[tuple[int, bytes]]) -> None:
        ping: bytes | None = None
        count = dropped = 0
        for opcode, payload in messages:
            count += 1
            if ping is not None and opcode in {CLOSE, TEXT}:
                # In the order of the client's frames, and before anything of ours ends it.
                self.send(wire.frame(ping, PONG))
                ping = None
            if opcode == CLOSE:
                self._answer_close(payload)
                return
            if self._closing:
                continue  # nothing but the client's close matters any more
            if opcode == PING:
                ping = payload
            elif opcode == PONG:
                self._slowed &= not self._all.heartbeats.pong(self)
            elif opcode == TEXT:
                dropped = self._text(payload, dropped)
            else:
                raise ProtocolError(Close.UNSUPPORTED, "messages are text")
        if count > FRAMES_AT_ONCE:
            self._all.pause_reading(self.transport, READ_PAUSE_S)
        more = [wire.frame(protocol.dropped(dropped - 1))] if dropped > 1 else []
        # Of several pings that came at once the last is answered: RFC 6455, 5.5.3.
        for answer in more if ping is None else [*more, wire.frame(ping, PONG)]:
            self.send(answer)

    def _answer_close(self, payload: bytes) -> None:
        if not self._closing:
            self._closing = True
            self.detach()
            self.write(wire.frame(payload[:2], CLOSE))
        self.transport.close()
        self._all.abort_later(self, CLOSE_TIMEOUT_S)

    def _fail(self, e: ProtocolError) -> None:
        """Close after a fault in the protocol: nothing that follows can be understood."""
        self._all.counters.protocol_errors += 1
        self.close(e.code, e.reason)
        self._deaf = True
        self._reader = None
        # Only this side is shut: closing both with bytes unread would be a reset, which may
        # overtake the close frame.
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()

    # Commands.

    def _text(self, text: bytes, dropped: int) -> int:
        """Do a command, if it may be done; return how many of this read may not."""
        if dropped or not self._allowed(self._weight(text)):
            return self._drop(text, dropped)
        self.command(text)
        return 0

    def _drop(self, text: bytes, before: int) -> int:
        """
        Refuse a command that came too soon; `before` are those of the same read.

        The first is answered by itself, the others together: to answer each would cost more than
        what it refuses, and keep everybody waiting.
        """
        self._all.counters.refused[Code.RATE_LIMITED] += 1
        if not before:
            self.send(wire.frame(protocol.rate_limited(text).payload))
        return before + 1

    def _weight(self, text: bytes) -> int:
        """Return for how many a command counts: what it costs grows with all that it names."""
        return 1 + len(text) // HEAVY_BYTES + len(self._wants) // HEAVY_WANTS

    def _allowed(self, weight: int) -> bool:
        """
        Count a command against the rate; when it is spent, let the client wait.

        Each command spends `weight / max_commands_per_s` seconds, and `command_burst` of the
        lightest may be spent ahead: a token bucket in one number (the virtual scheduling of ITU-T
        I.371). One that weighs more than the burst is let through when nothing is spent.
        """
        config = self._all.config
        now = self._all.now()
        unit = 1 / config.max_commands_per_s
        spent_until = max(self.spent_until, now)
        if spent_until - now + min(weight, config.command_burst) * unit > (
            config.command_burst * unit + 1e-9
        ):
            self._all.pause_reading(self.transport, READ_PAUSE_S)
            return False
        self.spent_until = spent_until
        self.spend(weight)
        return True
