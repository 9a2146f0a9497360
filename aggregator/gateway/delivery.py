"""
What one client is sent.

It comes from one of two places (see `aggregator.hub`): from the client's audiences while it keeps
up, from an outbox of its own while it does not. All changes between the two go through
`_to_outbox` and `_drain`, so that the order *acknowledgement, snapshot, every later message*
always holds. What it wants at a limited rate comes from paced audiences all the while, through
`deliver`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from aggregator import wire
from aggregator.audience import Audience, Key, Wants
from aggregator.channel import Message
from aggregator.paced import PacedAudience
from aggregator.shape import SHAPES, Shape

from .outbox import Outbox
from .peer import Peer
from .resume import Missed
from .subscriptions import ALL, Plan, Terms, latest

if TYPE_CHECKING:
    from .sessions import Sessions

NOTHING: Wants = frozenset()
"""What everybody wants at first: one object for all, since an idle session should cost little."""
NOTHING_MISSED: Mapping[str, Missed] = {}
REDUCED = Terms(raw=False)
"""Every message, without the venue's own payload."""
CHUNK = 65_536
"""Bytes that are handed to the transport at once from an outbox."""
CHUNKS_AT_ONCE = 2
"""So many in one turn of the loop."""
CLOSE_TIMEOUT_S = 2.0
"""How long a client may take to answer a close, and to read what is before it."""


class Delivery(Peer):
    """The sending side of a session."""

    __slots__ = (
        "_audiences",
        "_draining",
        "_outbox",
        "_paced",
        "_paused",
        "_plan",
        "_wants",
        "deflate_bits",
        "over_since",
    )

    def __init__(self, sessions: Sessions, deflate_bits: int) -> None:
        super().__init__(sessions)
        self.deflate_bits = deflate_bits
        self._wants = NOTHING
        # Only where some subscription has terms of its own.
        self._plan: Plan | None = None
        self._audiences: tuple[Audience, ...] = ()
        self._paced: tuple[PacedAudience, ...] = ()
        self._outbox: Outbox | None = None
        self._paused = False
        self._draining = False
        self.over_since: float | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Begin on a transport."""
        self.transport = transport
        if self._all.may_listen(self):
            self.listen()

    def listen(self) -> None:
        """Join the audience of those who want nothing yet, unless it has joined one."""
        if self._audiences or self._outbox is not None or self._closing:
            return
        if self._paused:
            self._to_outbox()
        else:
            self._join()

    @property
    def lagging(self) -> bool:
        """Whether the client is behind."""
        return self._outbox is not None

    @property
    def held(self) -> int:
        """Bytes that wait for this client alone."""
        return self.unsent + (self._outbox.held if self._outbox is not None else 0)

    def pause_writing(self) -> None:
        """Go on with an outbox: the client does not read fast enough."""
        self._paused = self._slowed = True
        if self._audiences and not self._closing:
            self._to_outbox()

    def resume_writing(self) -> None:
        """Send what has waited."""
        self._paused = False
        self._drain()

    def send(self, frame: bytes) -> None:
        """Send between the messages; to a client that reads nothing, behind what waits."""
        if self._outbox is None:
            self.write(SHAPES[True, self.deflate_bits].apply(frame))
        else:
            self._outbox.offer(Message(frame))

    def deliver(self, messages: list[Message], data: bytes) -> None:
        """Send these messages, whose frames are `data`, or keep them while the client is slow."""
        if self._outbox is None:
            self.write(data)
            self._all.hub.deliveries += len(messages)
        else:
            for message in messages:
                self._outbox.offer(message)

    def close(self, code: int, reason: str) -> None:
        """Close properly; a client that does not answer is cut off after `CLOSE_TIMEOUT_S`."""
        if self._closing:
            return
        self._closing = True
        self.detach()
        self._all.counters.closed[code] += 1
        self.write(wire.frame(code.to_bytes(2) + reason.encode()[:123], wire.CLOSE))
        self._all.abort_later(self, CLOSE_TIMEOUT_S)

    def terms(self) -> dict[str, Terms]:
        """Return the present subscriptions."""
        if self._plan is not None:
            return dict(self._plan.terms)
        return dict.fromkeys(self._wants, ALL)

    def answer(
        self,
        terms: dict[str, Terms],
        replies: Iterable[bytes],
        snapshot: Iterable[Message],
        missed: Mapping[str, Missed] = NOTHING_MISSED,
        asked: Wants = NOTHING,
    ) -> None:
        """
        Answer, then send what is published from now on.

        Args:
            terms: the subscriptions from now on.
            replies: the answers.
            snapshot: last values, that follow the answers.
            missed: before them, of channels by name, what the client has not had yet.
            asked: the subscriptions that these are of.

        """
        outbox = self._to_outbox()
        self._change(outbox, terms, asked)
        # What is lost up to here is told before the answer, and what follows behind it.
        outbox.seal()
        for payload in replies:
            outbox.offer(Message(wire.frame(payload)))
        for each in missed.values():
            paced = self._plan is not None and self._plan.of(each.channel).max_hz is not None
            # What waits of it comes again with the rest.
            outbox.forget(each.covers)
            outbox.replay(latest(each.all()) if paced else each)
        for message in snapshot:
            outbox.show(message)
        self._drain()

    def _change(self, outbox: Outbox, terms: dict[str, Terms], asked: Wants) -> None:
        """
        Go over to these subscriptions, while the outbox takes what is published.

        `asked` are those whose last values are about to be sent again.
        """
        hub = self._all.hub
        hub.unregister(outbox, self._unpaced())
        before = {audience.key: audience for audience in self._paced}
        self._plan = None
        keys: list[Key] = []
        if any(each != ALL for each in terms.values()):
            self._plan = Plan(terms, hub.channel)
            keys = [
                Key(some, SHAPES[each.raw, self.deflate_bits], each.max_hz)
                for each, some in self._plan.parts.items()
                if each.max_hz is not None
            ]
        # One that the command does not touch stays, and so does its pace.
        stays = {key for key in before if key in keys and asked.isdisjoint(key.wants)}
        for key, audience in before.items():
            for message in hub.leave_paced(self, audience) if key not in stays else ():
                outbox.offer(message)
        self._paced = tuple(
            before[key] if key in stays else hub.join_paced(self, key) for key in keys
        )
        wants = frozenset(terms)
        if not self._wants <= wants:
            outbox.forget(lambda slot: not hub.wanted(slot, wants))
        self._wants = wants
        hub.register(outbox, self._unpaced())

    def _unpaced(self) -> Wants:
        """Return the subscriptions to every message, whole or not."""
        if self._plan is None:
            return self._wants
        return self._plan.part(ALL) | self._plan.part(REDUCED)

    def _shape(self, message: Message) -> Shape:
        raw = True
        if self._plan is not None and message.channel is not None:
            raw = self._plan.of(message.channel).raw
        return SHAPES[raw, self.deflate_bits]

    def _join(self) -> None:
        """Join those who want the same."""
        hub = self._all.hub
        whole = SHAPES[True, self.deflate_bits]
        if self._plan is None:
            main = hub.join(self, self._wants, whole)
            self._audiences = (main,)
            # The same set for all of an audience.
            self._wants = main.key.wants
            return
        # Also where it is empty: what is sent to everybody comes by the first.
        self._audiences = (hub.join(self, self._plan.part(ALL), whole),)
        if reduced := self._plan.part(REDUCED):
            self._audiences += (hub.join(self, reduced, SHAPES[False, self.deflate_bits]),)

    def _to_outbox(self) -> Outbox:
        """Go over to an outbox, if there is none yet."""
        if self._outbox is not None:
            return self._outbox
        hub = self._all.hub
        audiences, self._audiences = self._audiences, ()
        for audience in audiences:
            if rest := hub.leave(self, audience):
                self.write(rest)
        limit = self._all.config.max_buffered_bytes // 2
        self._outbox = Outbox(limit, self._shape, hub.now_iso)
        self._all.lagging[self] = None
        hub.register(self._outbox, self._unpaced())
        return self._outbox

    def _drain(self) -> None:
        """Send from the outbox as much as the client takes; when it is empty, join the others."""
        outbox = self._outbox
        if outbox is None or self._closing:
            return
        room = CHUNKS_AT_ONCE
        while outbox and not self._paused and room:
            self.write(outbox.take(CHUNK))
            room -= 1
        if outbox and not self._paused and not self._draining:
            # Others have their turn, however fast this one reads.
            self._draining = True
            self._all.hub.later(0, self._drain_on)
        if not outbox and not self._paused:
            self._leave_outbox(outbox)
            self._join()

    def _drain_on(self) -> None:
        self._draining = False
        self._drain()

    def _leave_outbox(self, outbox: Outbox) -> None:
        hub, counters = self._all.hub, self._all.counters
        hub.unregister(outbox, self._unpaced())
        hub.deliveries += outbox.taken
        counters.folded += outbox.folded
        counters.lost += outbox.lost
        counters.gaps += outbox.gaps
        self._all.lagging.pop(self, None)
        self._outbox = None
        self.over_since = None

    def detach(self) -> None:
        """Take no more messages."""
        audiences, self._audiences = self._audiences, ()
        for audience in audiences:
            self._all.hub.leave(self, audience)
        paced, self._paced = self._paced, ()
        for each in paced:
            self._all.hub.leave_paced(self, each)
        if self._outbox is not None:
            self._leave_outbox(self._outbox)
