"""Clients that come back: what they have missed, or that it is not kept any more."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import NamedTuple

from aggregator import wire
from aggregator.audience import Wants
from aggregator.channel import Channel, Message, Slot
from aggregator.directory import Directory

from .protocol import Position

FORGOTTEN = "older than what is kept"
RESTARTED = "another run of the daemon"
AHEAD = "no message has that number yet"


BATCH = 100
"""Messages that are looked at together."""


class Missed:
    """
    What a client has missed of a channel: read from the history as the client takes it.

    So it costs the same however much it is. What the history forgets before the client has read so
    far becomes a gap.

    Args:
        directory: knows which messages the subscriptions name.
        channel: of which.
        after: the last number that the client has had.
        wants: its subscriptions.

    """

    __slots__ = ("_after", "_channel", "_directory", "_upto", "_wants")

    def __init__(self, directory: Directory, channel: Channel, after: int, wants: Wants) -> None:
        self._directory = directory
        self._channel = channel
        self._after = after
        self._upto = channel.seq
        self._wants = wants

    def __len__(self) -> int:
        return self._upto - self._after

    @property
    def channel(self) -> Channel:
        """Of which."""
        return self._channel

    def next(self, size: int) -> tuple[list[Message], tuple[int, int] | None]:
        """
        Return the next messages, and before them the numbers of those that are lost, if any.

        Args:
            size: bytes that they have, about.

        """
        channel, lost = self._channel, None
        first = min(channel.history.first_seq or self._upto + 1, self._upto + 1)
        if first > self._after + 1:
            lost = (self._after + 1, first - 1)
            self._after = first - 1
        whole, found = channel.key in self._wants, []
        for message in channel.history.after(self._after, min(BATCH, len(self))):
            self._after = message.seq
            if whole or self._directory.concerns(message, self._wants):
                found.append(message)
                size -= len(message.frame)
                if size <= 0:
                    break
        return found, lost

    def covers(self, slot: Slot) -> bool:
        """Return whether messages of a place are among it."""
        return slot.channel is self._channel and self._directory.wanted(slot, self._wants)

    def all(self) -> list[Message]:
        """Return all of it."""
        found = []
        while len(self):
            found += self.next(sys.maxsize)[0]
        return found


class Resumed(NamedTuple):
    """What a client gets that says how far it has come."""

    recovered: dict[str, bool]
    """Of each channel that it told about: whether it gets everything that it has missed."""
    missed: dict[str, Missed]
    """That, of the recovered channels."""
    gaps: list[bytes]
    """The payload of a `gap` for each of the others."""


def resume(
    directory: Directory,
    channels: Mapping[str, Channel],
    since: Mapping[str, Position],
    wants: Wants,
) -> Resumed:
    """
    Find what a client has missed.

    Args:
        directory: has the histories.
        channels: those that the client subscribes to, by name.
        since: what it has had last of each; of other channels it means nothing.
        wants: the subscriptions.

    """
    resumed = Resumed({}, {}, [])
    for name, position in since.items():
        channel = channels.get(name)
        if channel is None:
            continue
        kept = position.seq == channel.seq or channel.history.reaches(position.seq)
        resumed.recovered[name] = whole = kept and position.epoch == channel.epoch
        if whole:
            resumed.missed[name] = Missed(directory, channel, position.seq, wants)
        else:
            resumed.gaps.append(gap(directory, channel, position, channel.seq))
    return resumed


def gap(directory: Directory, channel: Channel, since: Position, upto: int) -> bytes:
    """
    Return the payload of what says that messages are lost to a client, and why.

    Args:
        directory: knows the time.
        channel: of which.
        since: the last that the client has.
        upto: the last that is lost.

    """
    first, cause = since.seq + 1, FORGOTTEN
    if since.epoch != channel.epoch:
        first, cause = 1, RESTARTED
    elif since.seq > channel.seq:
        cause = AHEAD
    seqs = (first, upto) if first <= upto else (None, None)
    now = wire.iso(directory.now_us())
    return wire.gap(channel.name, seqs, "history", now, {"cause": cause})
