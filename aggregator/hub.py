"""
The middle: channels, sequences, last values, and who wants what. It does no I/O.

Every message is encoded once, to a finished WebSocket frame. The sessions with the same set of
subscriptions form audiences; a message is appended to the batch of each audience that wants it,
and `flush` joins a batch once and hands it to each session of the audience. An audience is of
bounded size: between two of them the venues have their turn, and what they send meanwhile still
goes out with the next one.

A session that cannot keep up leaves its audiences for an outbox of its own (`gateway.outbox`). Hub
and gateway agree on this: at each moment a session either is in the audiences that together have
what it wants, no two of them the same message, or has exactly one outbox; those are registered
here as a `Listener` under the session's subscriptions. What it wants at a limited rate it gets
from a `PacedAudience` all the while, in the same laps.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable

from . import market, private, wire
from .audience import Audience, Key, Session, Wants
from .channel import Channel, Listener, Message, Slot
from .directory import Directory
from .groups import Groups
from .laps import Laps
from .market import Envelope
from .model import BookUpdate, Candle, Event, Gap, PriceUpdate, SystemStatus, TradeExecuted
from .paced import Later, PacedAudience, Timer
from .shape import WHOLE, Shape

SYSTEM = "system"
HEARTBEAT = "heartbeat"
REPLACEABLE = (Candle, SystemStatus)
"""Besides prices and books: for who is slow, the newest stands for the older ones."""


class Hub(Directory):
    """
    Knows every channel and every listener.

    Args:
        wake: called when something waits to be flushed, at the first message after a flush.
        later: calls a function after so many seconds.
        clock_ns: the wall clock, in nanoseconds since the epoch.
        epoch: names this run of the daemon; new at each start, so that a sequence number
            together with it is never used twice.
        history: how many messages of each channel are kept for clients that come back.

    """

    def __init__(
        self,
        wake: Callable[[], None] = lambda: None,
        later: Later = lambda _seconds, _call: None,
        clock_ns: Callable[[], int] = time.time_ns,
        epoch: str | None = None,
        history: int = 0,
    ) -> None:
        super().__init__(epoch or secrets.token_hex(4), clock_ns, history)
        self.wake = wake
        self.later = later
        self._laps = laps = Laps(self._awake)
        self.audiences = Groups(lambda key: Audience(key, laps.add), self.enter, self.withdraw)
        self.paced = Groups(
            lambda key: PacedAudience(key, laps.add, self._call_later),
            self.enter,
            self.withdraw,
        )
        # What is measured on its way: the first message after each flush, once it is published.
        self._woken = False
        self._first: tuple[Channel, int] | None = None
        self._skipped = self.deliveries = self.sent_bytes = 0
        self.failed_writes = 0
        self.private_messages = 0
        self._outboxes: set[Listener] = set()
        self.system = self.add_channel(SYSTEM, "", ())
        self.heartbeat = self.add_channel(HEARTBEAT, "", ())

    # Publishing.

    def now_iso(self) -> str:
        """Return the wall clock as ISO 8601, UTC, with milliseconds."""
        return wire.iso(self.now_us())

    def publish(self, channel: Channel, event: Event, received_us: int) -> None:
        """
        Give a message its number, encode it, keep it and offer it to all who want it.

        A price update without a price is not sent; `channel.unpriced` counts it. `received_us` is
        when it arrived from the venue, in microseconds since the epoch.
        """
        # By `is`: `isinstance` costs three times as much wherever the answer is no.
        if type(event) is PriceUpdate:
            slot = channel.slots.get(event.instrument) or self.slot(channel, event.instrument)
            frame = slot.encode(event, channel.seq + 1, received_us, self._clock_ns() // 1000)
            if frame is None:
                channel.unpriced += 1
                return
            channel.seq = seq = channel.seq + 1
            slot.last = message = Message(frame, channel, slot, seq, received_us)
            channel.history.append(message)
            listeners = channel.listeners
            if slot.listeners or slot.anywhere:
                # The union, since nobody gets a message twice who wants it for two reasons.
                listeners = listeners | slot.listeners | slot.anywhere
            for listener in listeners:
                listener.offer(message)
        elif type(event) is BookUpdate or type(event) is TradeExecuted:
            self._publish_market(channel, event, received_us)
        else:
            self._publish(channel, event, received_us)
        if self._woken:
            self._woken, self._first = False, (channel, received_us)

    def _publish_market(
        self, channel: Channel, event: BookUpdate | TradeExecuted, received_us: int
    ) -> None:
        """Publish a change of an order book or a trade: there are nearly as many as prices."""
        slot = channel.slots.get(event.instrument) or self.slot(channel, event.instrument)
        encoder = slot.market or slot.prepare()
        seq = channel.seq + 1
        now_us = self._clock_ns() // 1000
        if type(event) is BookUpdate:
            frame = encoder.orderbook_update(event, seq, received_us, now_us)
            message = Message(frame, channel, slot, seq, received_us, event.whole)
            slot.book = event.book
        else:
            # It has an instrument, but no newer one takes its place.
            trade = encoder.trade_executed(event, seq, received_us, now_us)
            if trade is None:
                channel.unpriced += 1
                return
            message = Message(trade, channel, None, seq, received_us, place=slot)
        channel.seq = seq
        channel.history.append(message)
        slot.last = message
        listeners = channel.listeners
        if slot.listeners or slot.anywhere:
            listeners = listeners | slot.listeners | slot.anywhere
        for listener in listeners:
            listener.offer(message)

    def _publish(self, channel: Channel, event: Event, received_us: int) -> None:
        """Publish what is rare."""
        encode = market.ENCODERS.get(type(event))
        if encode is None:
            raise TypeError(f"{type(event).__name__} can't be published")
        seq = channel.seq + 1
        envelope = Envelope(channel.name, channel.exchange, seq, received_us, self.now_us())
        frame = wire.frame(encode(event, envelope))
        channel.seq = seq
        slot = self._place(channel, event)
        value = slot if isinstance(event, REPLACEABLE) else None
        message = Message(frame, channel, value, seq, received_us, place=slot)
        channel.history.append(message)
        listeners = channel.listeners
        if isinstance(event, Gap):
            channel.gaps += 1
            channel.last_gap = message
            for lost in [slot] if slot else channel.slots.values():
                listeners = listeners | lost.listeners | lost.anywhere
                if lost.book is not None:
                    lost.forget()
        elif slot is not None:
            listeners = listeners | slot.listeners | slot.anywhere
            slot.last = message
        for listener in listeners:
            listener.offer(message)

    def publish_private(self, user_id: int, event: Event, received_us: int) -> Channel:
        """
        Publish an event to a user, on a channel that nobody else can have, and return that.

        Raises:
            TypeError: it is no event of a user.

        """
        name = private.CHANNELS.get(type(event))
        if name is None:
            raise TypeError(f"{type(event).__name__} is not of one user")
        channel = self.own(name, user_id)
        seq = channel.seq + 1
        frame = wire.frame(private.encode(event, seq, received_us, self.now_us()))
        channel.seq = seq
        key = private.place(event)
        slot = (channel.slots.get(key) or self.slot(channel, key)) if key else None
        message = Message(frame, channel, None, seq, received_us, place=slot)
        channel.history.append(message)
        if slot is not None:
            slot.last = message
            if private.is_over(event):
                slot.last = None
                del channel.slots[key]
        self.private_messages += 1
        for listener in channel.listeners:
            listener.offer(message)
        return channel

    def _place(self, channel: Channel, event: Event) -> Slot | None:
        """Return the slot of which an event is the last value, or that it is about."""
        if isinstance(event, SystemStatus):
            name = event.feed if event.instrument is None else f"{event.feed}:{event.instrument}"
        else:
            # An old heartbeat says nothing: it is not kept as a last value.
            name = getattr(event, "instrument", None) or ""
        return (channel.slots.get(name) or self.slot(channel, name)) if name else None

    def broadcast(self, payload: bytes) -> int:
        """Send a message to every session, whatever it subscribed to; return how many they are."""
        message = Message(wire.frame(payload))
        # Each session that does not lag is in one of these, if only with no subscription.
        audiences = (audience for audience in self.audiences if audience.key.shape.raw)
        listeners = (*audiences, *self._outboxes)
        for listener in listeners:
            listener.offer(message)
        return sum(listener.size for listener in listeners)

    # Flushing.

    def flush(self, limit: int = sys.maxsize) -> bool:
        """
        Go on with a lap: write to each audience what it waits for, to about `limit` sessions.

        What is published during a lap to an audience that has had its turn waits for the next
        one; any other audience comes next, once.

        Returns:
            Whether the lap goes on, with another call, after others had their turn.

        """
        for audience in self._laps.turns(limit):
            delivered, failed, size = audience.flush()
            self.sent_bytes += size
            self.deliveries += delivered
            self.failed_writes += failed
        return self._laps.under_way

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""
        return self._laps.waiting

    def take_first(self) -> tuple[Channel, int] | None:
        """Return the channel of the first message that waits, and when it was received, once."""
        first, self._first, self._woken = self._first, None, False
        return first

    @property
    def skipped(self) -> int:
        """How many messages were not sent since a session asked for less of them."""
        return self._skipped + sum(audience.skipped for audience in self.paced)

    # Listening.

    def join(self, session: Session, wants: Wants, shape: Shape = WHOLE) -> Audience:
        """Put a session into an audience of those who want the same, and every message of it."""
        return self.audiences.join(session, Key(wants, shape, None))

    def join_paced(self, session: Session, key: Key) -> PacedAudience:
        """Put a session into an audience of those who want the same at the same rate."""
        return self.paced.join(session, key)

    def leave(self, session: Session, audience: Audience) -> bytes:
        """Take a session out of an audience; return the frames that it should still get."""
        rest, count = audience.remove(session)
        self.deliveries += count
        self.audiences.left(audience)
        return rest

    def leave_paced(self, session: Session, audience: PacedAudience) -> list[Message]:
        """Take a session out of a paced audience; return what it should still get."""
        rest = audience.remove(session)
        if not audience.size:
            self._skipped += audience.skipped
            audience.end()
        self.paced.left(audience)
        return rest

    def register(self, outbox: Listener, wants: Wants) -> None:
        """Offer to an outbox, from now on, what its session wants."""
        self._outboxes.add(outbox)
        self.enter(outbox, wants)

    def unregister(self, outbox: Listener, wants: Wants) -> None:
        """Stop offering to an outbox; `wants` are those it was registered with."""
        self._outboxes.discard(outbox)
        self.withdraw(outbox, wants)

    def _awake(self) -> None:
        self._woken = True
        self.wake()

    def _call_later(self, seconds: float, call: Callable[[], None]) -> Timer | None:
        return self.later(seconds, call)
