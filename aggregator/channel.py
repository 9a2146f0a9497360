"""A channel and what it holds: its sequence, its instruments, and the last value of each."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol

from . import market, wire
from .model import Top
from .shape import WHOLE, Shape


class Message:
    """
    A finished message and where it belongs.

    Args:
        frame: its bytes.
        channel: where it was published; `None` for what has no number, such as an answer.
        slot: whose value it is, so that a newer one may take its place; `None` for a message that
            has to be kept in order.
        seq: its number on the channel.
        us: when it was received, in microseconds since the epoch.
        whole: it is a value by itself; else a change, which says nothing without what was before.

    """

    __slots__ = ("_shaped", "channel", "frame", "seq", "slot", "us", "whole")

    def __init__(
        self,
        frame: bytes,
        channel: Channel | None = None,
        slot: Slot | None = None,
        seq: int = 0,
        us: int = 0,
        *,
        whole: bool = True,
    ) -> None:
        self.frame = frame
        self.channel = channel
        self.slot = slot
        self.seq = seq
        self.us = us
        self.whole = whole
        self._shaped: dict[Shape, bytes] | None = None

    def shaped(self, shape: Shape) -> bytes:
        """Return the frame in a shape, made once however many want it."""
        if shape is WHOLE:
            return self.frame
        if self._shaped is None:
            self._shaped = {}
        frame = self._shaped.get(shape)
        if frame is None:
            frame = self._shaped[shape] = shape.apply(self.frame)
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
        "anywhere",
        "book",
        "channel",
        "encode",
        "instrument",
        "last",
        "listeners",
    )

    def __init__(self, channel: Channel, instrument: str, anywhere: set[Listener]) -> None:
        self.channel = channel
        self.instrument = instrument
        self.encode = wire.PriceEncoder(channel.name, channel.exchange, instrument).encode
        self.last: Message | None = None
        # Of an order book, what the last message is a change of.
        self.book: Top | None = None
        self._snapshot: Message | None = None
        self.listeners: set[Listener] = set()
        self.anywhere = anywhere

    def snapshot(self) -> Message | None:
        """Return what a newcomer gets: the last value; of a book all of it, as it is now."""
        last = self.last
        if last is None or last.whole or self.book is None:
            return last
        if self._snapshot is None or self._snapshot.seq != last.seq:
            payload = market.whole_book(wire.payload_of(last.frame), *self.book.top())
            self._snapshot = Message(wire.frame(payload), self.channel, self, last.seq, last.us)
        return self._snapshot

    def forget(self) -> None:
        """Forget the last value."""
        self.last = self.book = self._snapshot = None


class Channel:
    """One named stream of messages, numbered without holes."""

    __slots__ = (
        "epoch",
        "exchange",
        "instruments",
        "listeners",
        "name",
        "seq",
        "slots",
        "unpriced",
    )

    def __init__(
        self, name: str, exchange: str, epoch: str, instruments: Iterable[str] | None
    ) -> None:
        self.name = name
        self.exchange = exchange
        self.epoch = epoch
        self.seq = 0
        self.slots: dict[str, Slot] = {}
        self.listeners: set[Listener] = set()
        # None: the venue tells which there are; until it has, every name may be one.
        self.instruments = None if instruments is None else set(instruments)
        self.unpriced = 0

    def has(self, instrument: str) -> bool:
        """Whether the channel has, or may yet have, this instrument."""
        slot = self.slots.get(instrument)
        if slot is not None and slot.last is not None:
            return True
        if self.instruments is None:
            return not self.seq and instrument != ""
        return instrument in self.instruments

    def withdraw(self, instrument: str) -> None:
        """Forget an instrument and its last value, which would look like a present one."""
        if self.instruments is not None:
            self.instruments.discard(instrument)
        slot = self.slots.get(instrument)
        if slot is not None:
            slot.forget()
            if not slot.listeners:
                del self.slots[instrument]

    def snapshot(self) -> list[Message]:
        """Return the last values, oldest message first."""
        found = (slot.snapshot() for slot in self.slots.values())
        return sorted((last for last in found if last is not None), key=attrgetter("seq"))
