"""
What waits to be sent to one session that does not read as fast as messages come.

Messages that a newer one replaces (prices, states) keep one place per channel and instrument: the
newest, marked with the number of those it stands for. Their frames are shared with the hub's last
values, so they cost a reference, however far the client is behind. All others keep their order
and count as `held` bytes. Those of them that have a number are kept up to a bound; then all that
wait of their channel, and what follows until there is room, become one `gap`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aggregator import wire
from aggregator.channel import Channel, Message, Slot
from aggregator.shape import Shape

from .resume import Missed


@dataclass(slots=True)
class Gap:
    """What is lost of a channel, both numbers included."""

    channel: Channel
    from_seq: int
    to_seq: int


Entry = tuple[Message, int] | Message | Gap | Missed
"""What waits; a message with the number of those that it stands for, or by itself."""


class Outbox:
    """
    The bounded queue of one session; a `hub.Listener`.

    Args:
        limit: bytes that messages to be kept in order may have.
        shape: how the session gets a message.
        now_iso: the wall clock as text.

    """

    __slots__ = (
        "_entries",
        "_limit",
        "_now_iso",
        "_number",
        "_rootless",
        "_shape",
        "folded",
        "gaps",
        "held",
        "lost",
        "taken",
    )

    def __init__(
        self, limit: int, shape: Callable[[Message], Shape], now_iso: Callable[[], str]
    ) -> None:
        self._limit = limit
        self._shape = shape
        self._now_iso = now_iso
        # Keys: the slot of what can be replaced, a running number for what keeps its order, the
        # channel for its gap. Values of slots have the number of those they stand for.
        self._entries: OrderedDict[Slot | int | Channel, Entry] = OrderedDict()
        self._number = 0
        # Whose snapshot was replaced before it was sent.
        self._rootless: set[Slot] = set()
        self.held = 0
        self.folded = 0
        self.lost = 0
        self.gaps = 0
        self.taken = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """How many sessions it stands for."""
        return 1

    def offer(self, message: Message) -> None:
        """Take a message without waiting."""
        slot = message.slot
        if slot is None:
            self._keep(message)
            return
        # Taken out and put in again: at the end, so that sequence numbers never go back.
        older = self._entries.pop(slot, None)
        count = 0
        if isinstance(older, tuple):
            # The same number again is a snapshot of what waits already: nothing is lost by it.
            newer = older[0].seq != message.seq
            if newer and older[1] < 0:
                # The snapshot that this may be a change of will not be sent.
                self._rootless.add(slot)
            count = older[1] + newer
            self.folded += newer and older[1] >= 0
        self._entries[slot] = (message, count)

    def show(self, message: Message) -> None:
        """Take a last value, of a snapshot: by it nothing is lost, and it is not bounded."""
        slot = message.slot
        if slot is None:
            self._append(message)
            return
        older = self._entries.pop(slot, None)
        # Not counted, unless it takes the place of one that was owed: hence the -1.
        self._entries[slot] = (message, older[1] if isinstance(older, tuple) else -1)

    def replay(self, missed: Missed | list[Message]) -> None:
        """Take what the client has missed: it comes as it was, in its order, unbounded."""
        for each in missed if isinstance(missed, list) else [missed]:
            self._number += 1
            self._entries[self._number] = each if isinstance(each, Missed) else (each, 0)

    def seal(self) -> None:
        """Let gaps end here: what is lost from now on is another one, in its own place."""
        for channel in [key for key in self._entries if isinstance(key, Channel)]:
            self._number += 1
            # Where it stands; a dictionary keeps the place of a key, not of a value.
            self._entries = OrderedDict(
                (self._number if key is channel else key, entry)
                for key, entry in self._entries.items()
            )

    def _keep(self, message: Message) -> None:
        """Keep a message in its order, or let it become part of a gap."""
        channel = message.channel
        size = len(message.frame)
        if channel is not None:
            gap = self._entries.get(channel)
            if gap is None and self.held + size > self._limit:
                gap = self._entries[channel] = self._give_up(channel, message.seq)
            if isinstance(gap, Gap):
                gap.to_seq = message.seq
                self.lost += 1
                return
        self._append(message)

    def _append(self, message: Message) -> None:
        self._number += 1
        self._entries[self._number] = message
        self.held += len(message.frame)

    def _give_up(self, channel: Channel, seq: int) -> Gap:
        """Drop what waits of a channel; return the gap that stands for it."""
        gone = {
            key: entry
            for key, entry in self._entries.items()
            if isinstance(entry, Message) and entry.channel is channel
        }
        for key, entry in gone.items():
            del self._entries[key]
            self.held -= len(entry.frame)
        self.lost += len(gone)
        self.gaps += 1
        first = next((entry.seq for entry in gone.values()), seq)
        return Gap(channel, first, seq)

    def forget(self, unwanted: Callable[[Slot], bool]) -> None:
        """Drop what is replaceable and not wanted any more."""
        for key in [key for key in self._entries if isinstance(key, Slot) and unwanted(key)]:
            del self._entries[key]

    def take(self, limit: int) -> bytes:
        """
        Remove and return the oldest frames: at least `limit` bytes of them, or all there are.

        Empty when nothing waits.
        """
        parts: list[bytes] = []
        size = 0
        while self._entries and size < limit:
            # Not the first of an iterator: that passes all that were taken before, each time.
            key, entry = self._entries.popitem(last=False)
            frame = self._frame(entry, limit - size)
            if isinstance(entry, Missed) and len(entry):
                self._entries[key] = entry
                self._entries.move_to_end(key, last=False)
            parts.append(frame)
            size += len(frame)
        return b"".join(parts)

    def _frame(self, entry: Entry, limit: int) -> bytes:
        if isinstance(entry, Missed):
            messages, lost = entry.next(limit)
            gap = b"" if lost is None else self._gap(entry.channel, lost)
            self.taken += len(messages)
            return gap + b"".join(each.shaped(self._shape(each)) for each in messages)
        if isinstance(entry, Gap):
            return self._gap(entry.channel, (entry.from_seq, entry.to_seq))
        self.taken += 1
        message, count = (entry, 0) if isinstance(entry, Message) else entry
        if count > 0 or message.slot in self._rootless:
            # What it may be a change of was never sent: the state stands for all of them.
            message = message.settled()
        if message.slot is not None:
            self._rootless.discard(message.slot)
        shape = self._shape(message)
        if count > 0:
            return shape.apply(wire.with_conflated(message.frame, count))
        if isinstance(entry, Message):
            self.held -= len(message.frame)
        return message.shaped(shape)

    def _gap(self, channel: Channel, seqs: tuple[int, int]) -> bytes:
        return wire.frame(wire.gap(channel.name, seqs, "slow_consumer", self._now_iso()))
