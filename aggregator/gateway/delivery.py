"""
What one client is sent.

It comes from one of two places (see `aggregator.hub`): from the client's audience while it keeps
up, from an outbox of its own while it does not. All changes between the two go through `_switch`
and `_drain`, so that the order *acknowledgement, snapshot, every later message* always holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from aggregator import wire
from aggregator.audience import Audience, Wants

from .outbox import Outbox

if TYPE_CHECKING:
    from .sessions import Sessions

NOTHING: Wants = frozenset()
"""What everybody wants at first: one object for all, since an idle session should cost little."""
CHUNK = 65_536
"""Bytes that are handed to the transport at once from an outbox."""
CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to answer a close, and to read what is before it."""


class Delivery:
    """The sending side of a session."""

    __slots__ = (
        "_all",
        "_audience",
        "_closing",
        "_outbox",
        "_paused",
        "_resumed",
        "_transport",
        "_wants",
        "over_since",
    )

    def __init__(self, sessions: Sessions) -> None:
        self._all = sessions
        self._transport: asyncio.Transport
        self._wants = NOTHING
        self._audience: Audience | None = None
        self._outbox: Outbox | None = None
        self._paused = False
        self._resumed = 0
        self._closing = False
        self.over_since: float | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Join the audience of those who want nothing yet."""
        self._transport = transport
        self._audience = self._all.hub.join(self, self._wants)
        if self._paused:
            self._switch(self._wants)

    def write(self, data: bytes) -> None:
        """Pass whole frames to the client; a `hub.Session`."""
        try:
            self._transport.write(data)
        except RuntimeError:
            # uvloop raises where asyncio is silent: the transport is closing. One client that
            # leaves must not end the fan-out to the others.
            self._all.counters.writes_after_close += 1

    @property
    def lagging(self) -> bool:
        """Whether the client is behind."""
        return self._outbox is not None

    @property
    def unsent(self) -> int:
        """Bytes in the transport that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    @property
    def progress(self) -> tuple[int, int]:
        """What grows whenever a lagging client reads: less is unsent, or it was filled up again."""
        return self._resumed, -self.unsent

    @property
    def held(self) -> int:
        """Bytes that wait for this client alone."""
        return self.unsent + (self._outbox.held if self._outbox is not None else 0)

    def pause_writing(self) -> None:
        """Go on with an outbox: the client does not read fast enough."""
        self._paused = True
        if self._audience is not None and not self._closing:
            self._switch(self._wants)

    def resume_writing(self) -> None:
        """Send what has waited."""
        self._paused = False
        self._resumed += 1
        self._drain()

    def send(self, frame: bytes) -> None:
        """Send between the messages; to a client that reads nothing, behind what waits."""
        if self._outbox is None:
            self.write(frame)
        else:
            self._outbox.offer(frame, None)

    def close(self, code: int, reason: str) -> None:
        """Close properly; a client that does not answer is cut off after `CLOSE_TIMEOUT_S`."""
        if self._closing:
            return
        self._closing = True
        self.detach()
        self._all.counters.closed[code] += 1
        self.write(wire.frame(code.to_bytes(2) + reason.encode()[:123], wire.CLOSE))
        self._all.abort_later(self._transport, CLOSE_TIMEOUT_S)

    def abort(self) -> None:
        """Cut the connection."""
        self._transport.abort()

    def answer(self, wants: Wants, replies: list[bytes], snapshot: Iterable[str]) -> None:
        """Answer, then send the last values of `snapshot`, then what is published from now on."""
        hub = self._all.hub
        outbox = self._switch(wants)
        for payload in replies:
            outbox.offer(wire.frame(payload), None)
        for slot in hub.snapshot(snapshot):
            if slot.frame is not None:
                outbox.offer(slot.frame, slot)
        self._drain()

    def _switch(self, wants: Wants) -> Outbox:
        """Go over to an outbox for these subscriptions, if there is none yet."""
        hub = self._all.hub
        if self._outbox is None:
            if self._audience is not None:
                audience, self._audience = self._audience, None
                if rest := hub.leave(self, audience):
                    self.write(rest)
            self._outbox = Outbox()
            self._all.lagging[self] = None
        else:
            hub.unregister(self._outbox, self._wants)
            if wants < self._wants:
                self._outbox.forget(set(hub.snapshot(wants)))
        self._wants = wants
        hub.register(self._outbox, wants)
        return self._outbox

    def _drain(self) -> None:
        """Send from the outbox as much as the client takes; when it is empty, join the others."""
        outbox = self._outbox
        if outbox is None or self._closing:
            return
        while outbox and not self._paused:
            self.write(outbox.take(CHUNK))
        if not outbox and not self._paused:
            self._leave_outbox(outbox)
            self._audience = self._all.hub.join(self, self._wants)
            # The same set for all of an audience.
            self._wants = self._audience.wants

    def _leave_outbox(self, outbox: Outbox) -> None:
        self._all.hub.unregister(outbox, self._wants)
        self._all.counters.folded += outbox.folded
        self._all.hub.deliveries += outbox.taken
        self._all.lagging.pop(self, None)
        self._outbox = None
        self.over_since = None

    def detach(self) -> None:
        """Take no more messages."""
        if self._audience is not None:
            audience, self._audience = self._audience, None
            self._all.hub.leave(self, audience)
        if self._outbox is not None:
            self._leave_outbox(self._outbox)
