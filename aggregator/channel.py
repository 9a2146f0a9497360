"""A channel and what it holds: its sequence, its instruments, and the last value of each."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol

import msgspec

from . import market, wire
from .history import History
from .model import Top
from .shape import WHOLE, Shape

SNAPSHOT_US = 50_000
"""For so long a message of a snapshot is used again: then it was shaped once for all of a storm."""


class Message(msgspec.Struct, gc=False, eq=False):
    """
    A finished message and where it belongs.

    Histories keep many thousands of them, so the garbage collector does not look at them: a slot
    and a history have to let go of theirs (`forget`, `clear`) when they are of no more use.
    """

    frame: bytes
    """Its bytes."""
    channel: Channel | None = None
    """Where it was published; `None` for what has no number, such as an answer."""
    slot: Slot | None = None
    """Whose value it is, so that a newer one may take its place; `None` for a message that has to
    be kept in order."""
    seq: int = 0
    """Its number on the channel."""
    us: int = 0
    """When it was received, in microseconds since the epoch."""
    whole: bool = True
    """It is a value by itself; else a change, which says nothing without what was before."""
    place: Slot | None = None
    """Of a message without `slot`: the instrument that it is about; `None` for all of them."""
    state: Message | None = None
    """Of a change: what it leads to, kept where its slot has forgotten that."""
    forms: dict[Shape, bytes] | None = None
    """The frame in the shapes that were asked for."""

    def settled(self) -> Message:
        """Return the state after a change: what was before it may never have been sent."""
        if self.whole or self.slot is None:
            return self
        return self.state or self.slot.state() or self

    def shaped(self, shape: Shape) -> bytes:
        """Return the frame in a shape, made once however many want it."""
        if shape is WHOLE:
            return self.frame
        if self.forms is None:
            self.forms = {}
        frame = self.forms.get(shape)
        if frame is None:
            frame = self.forms[shape] = shape.apply(self.frame)
        return frame


class Listener(Protocol):
    """Who takes messages as they are published: an audience, or one session's outbox."""

    @property
    def size(self) -> int:
        """How many sessions it stands for."""

    def offer(self, message: Message) -> None:
        """Take a message without waiting."""


class Slot:
    """The place of one instrument on one channel: its last value and who wants just it."""

    __slots__ = (
        "_snapshot",
        "_state",
        "anywhere",
        "book",
        "channel",
        "encode",
        "instrument",
        "last",
        "listeners",
        "lost",
        "market",
        "stale",
    )

    def __init__(self, channel: Channel, instrument: str, anywhere: set[Listener]) -> None:
        self.channel = channel
        self.instrument = instrument
        self.encode = wire.PriceEncoder(channel.name, channel.exchange, instrument).encode
        # For books and trades; most instruments have none.
        self.market: market.MarketEncoder | None = None
        self.last: Message | None = None
        # Of an order book, what the last message is a change of.
        self.book: Top | None = None
        # The gap that its last order book ended with.
        self.lost: Message | None = None
        # The last value that was found to be stale: any other one is fresh.
        self.stale: Message | None = None
        self._state: Message | None = None
        # As sent to newcomers, when it was made, and what it says of its freshness.
        self._snapshot: tuple[Message, int, bool] | None = None
        self.listeners: set[Listener] = set()
        self.anywhere = anywhere

    def prepare(self) -> market.MarketEncoder:
        """Make the encoder for books and trades, with the first of them."""
        channel = self.channel
        self.market = market.MarketEncoder(channel.name, channel.exchange, self.instrument)
        return self.market

    def state(self) -> Message | None:
        """Return the last value; of a book all of it, as it is now."""
        last = self.last
        if last is None or last.whole or self.book is None:
            return last
        if self._state is None or self._state.seq != last.seq:
            payload = market.whole_book(wire.payload_of(last.frame), *self.book.top())
            self._state = Message(wire.frame(payload), self.channel, self, last.seq, last.us)
        return self._state

    def snapshot(self, now_us: int) -> Message | None:
        """
        Return what a newcomer gets: the state, on channels of prices with its age and freshness.

        The same message for all who come within `SNAPSHOT_US`, as long as nothing has changed.
        """
        last = self.last
        if last is None or not self.channel.exchange:
            return last
        stale = self.channel.stale or self.stale is last
        if self._snapshot is not None:
            message, made_us, said = self._snapshot
            recent = 0 <= now_us - made_us < SNAPSHOT_US
            if recent and message.seq == last.seq and said is stale:
                return message
        state = self.state() or last
        frame = wire.with_age(state.frame, max(0, now_us - last.us), stale=stale)
        message = Message(frame, self.channel, last.slot, last.seq, last.us)
        self._snapshot = (message, now_us, stale)
        return message

    def forget(self) -> None:
        """Forget the last value; of an order book, keep the gap that it ended with."""
        last, gap = self.last, self.channel.last_gap
        if last is not None:
            last.state = self.state()
            ended = gap is not None and gap.seq > last.seq and gap.place in {None, self}
            if self.book is not None and ended:
                self.lost = gap
        self.last = self.book = self.stale = self._state = self._snapshot = None


class Channel:
    """
    One named stream of messages, numbered without holes.

    Args:
        name: as clients subscribe to it.
        exchange: the venue; empty for the daemon's own.
        epoch: names the run of the daemon.
        instruments: those it is known to have; `None` where the venue has yet to say.
        history: how many messages are kept for clients that come back.
        key: what it is found by, where others have the same name.
        open_to_all: every name may be an instrument of it, at any time.
        seq: the number of the last message of one of this name that has gone.

    """

    __slots__ = (
        "begun",
        "closed",
        "epoch",
        "exchange",
        "gaps",
        "history",
        "instruments",
        "key",
        "last_gap",
        "listeners",
        "name",
        "open_to_all",
        "seq",
        "slots",
        "stale",
        "unpriced",
    )

    def __init__(
        self,
        name: str,
        exchange: str,
        epoch: str,
        instruments: Iterable[str] | None,
        *,
        history: int = 0,
        key: str = "",
        open_to_all: bool = False,
        seq: int = 0,
    ) -> None:
        self.name = name
        self.key = key or name
        self.open_to_all = open_to_all
        self.exchange = exchange
        self.epoch = epoch
        self.seq = self.begun = seq
        # Set when it is about to go: nobody can subscribe to it any more.
        self.closed = False
        self.slots: dict[str, Slot] = {}
        self.listeners: set[Listener] = set()
        # None: the venue tells which there are; until it has, every name may be one.
        self.instruments = None if instruments is None else set(instruments)
        self.history = History[Message](history)
        self.unpriced = 0
        # How often messages of the venue were lost for good.
        self.gaps = 0
        self.last_gap: Message | None = None
        # Set by who watches the feed: all values are.
        self.stale = False

    def has(self, instrument: str) -> bool:
        """Whether the channel has, or may yet have, this instrument."""
        slot = self.slots.get(instrument)
        if slot is not None and slot.last is not None:
            return True
        if self.instruments is None:
            return self.seq == self.begun and not self.open_to_all and instrument != ""
        return instrument in self.instruments

    def may_have(self, instrument: str) -> bool:
        """Whether a subscription to just this instrument of it is one."""
        return self.has(instrument) or (self.open_to_all and instrument != "")

    def withdraw(self, instrument: str) -> None:
        """Forget an instrument and its last value, which would look like a present one."""
        if self.instruments is not None:
            self.instruments.discard(instrument)
        slot = self.slots.get(instrument)
        if slot is not None:
            slot.forget()
            if not slot.listeners:
                del self.slots[instrument]

    def values(self) -> list[Message]:
        """Return the last message of each instrument, as it was published, the oldest first."""
        found = (slot.last for slot in self.slots.values())
        return sorted((last for last in found if last is not None), key=attrgetter("seq"))
