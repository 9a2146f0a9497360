"""A channel and what it holds: its sequence, its instruments, and the last value of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from . import wire


class Listener(Protocol):
    """Who takes messages as they are published: an audience, or one session's outbox."""

    @property
    def size(self) -> int:
        """How many sessions it stands for."""

    def offer(self, frame: bytes, slot: Slot | None) -> None:
        """Take a frame without waiting; `slot` is `None` where no newer frame replaces it."""


class Slot:
    """The place of one instrument on one channel: its last value and who wants just it."""

    __slots__ = ("anywhere", "channel", "encode", "frame", "instrument", "listeners", "seq", "us")

    def __init__(self, channel: Channel, instrument: str, anywhere: set[Listener]) -> None:
        self.channel = channel
        self.instrument = instrument
        self.encode = wire.PriceEncoder(channel.name, channel.exchange, instrument).encode
        self.frame: bytes | None = None
        self.seq = 0
        self.us = 0
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
        if slot is not None and slot.frame is not None:
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
            slot.frame = None
            if not slot.listeners:
                del self.slots[instrument]

    def snapshot(self) -> list[Slot]:
        """Return the slots that have a last value, oldest message first."""
        return sorted((s for s in self.slots.values() if s.frame is not None), key=_seq)


def _seq(slot: Slot) -> int:
    return slot.seq
