"""A channel and what it holds: its sequence, its instruments, and the last value of each."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Protocol

from . import wire
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

    """

    __slots__ = ("_shaped", "channel", "frame", "seq", "slot", "us")

    def __init__(
        self,
        frame: bytes,
        channel: Channel | None = None,
        slot: Slot | None = None,
        seq: int = 0,
        us: int = 0,
    ) -> None:
        self.frame = frame
        self.channel = channel
        self.slot = slot
        self.seq = seq
        self.us = us
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

    __slots__ = ("anywhere", "channel", "encode", "instrument", "last", "listeners")

    def __init__(self, channel: Channel, instrument: str, anywhere: set[Listener]) -> None:
        self.channel = channel
        self.instrument = instrument
        self.encode = wire.PriceEncoder(channel.name, channel.exchange, instrument).encode
        self.last: Message | None = None
        self.listeners: set[Listener] = set()
        self.anywhere = anywhere


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
            slot.last = None
            if not slot.listeners:
                del self.slots[instrument]

    def snapshot(self) -> list[Message]:
        """Return the last values, oldest message first."""
        found = (slot.last for slot in self.slots.values())
        return sorted((last for last in found if last is not None), key=attrgetter("seq"))
