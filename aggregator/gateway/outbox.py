"""
What waits to be sent to one session that does not read as fast as messages come.

Messages that a newer one replaces (prices, states) keep one place per channel and instrument: the
newest, marked with the number of those it stands for. Their frames are shared with the hub's last
values, so they cost a reference, however far the client is behind. All others keep their order
and count as `held` bytes, which the session bounds.
"""

from __future__ import annotations

from aggregator import wire
from aggregator.channel import Slot


class Outbox:
    """The bounded queue of one session; a `hub.Listener`."""

    __slots__ = ("_entries", "_number", "folded", "held", "taken")

    def __init__(self) -> None:
        # Keys: the slot of what can be replaced, a running number for the rest.
        self._entries: dict[Slot | int, tuple[bytes, int]] = {}
        self._number = 0
        self.held = 0
        self.folded = 0
        self.taken = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """How many sessions it stands for."""
        return 1

    def offer(self, frame: bytes, slot: Slot | None) -> None:
        """Take a frame without waiting."""
        if slot is None:
            self._number += 1
            self._entries[self._number] = (frame, 0)
            self.held += len(frame)
            return
        # Taken out and put in again: at the end, so that sequence numbers never go back.
        older = self._entries.pop(slot, None)
        count = 0
        if older is not None:
            # The same frame again is a snapshot asked for twice: nothing is lost by it.
            count = older[1] + (older[0] is not frame)
            self.folded += older[0] is not frame
        self._entries[slot] = (frame, count)

    def forget(self, keep: set[Slot]) -> None:
        """Drop what was replaceable and is not wanted any more."""
        gone = [key for key in self._entries if isinstance(key, Slot) and key not in keep]
        for key in gone:
            del self._entries[key]

    def take(self, limit: int) -> bytes:
        """
        Remove and return the oldest frames: at least `limit` bytes of them, or all there are.

        Empty when nothing waits.
        """
        parts: list[bytes] = []
        size = 0
        entries = self._entries
        while entries and size < limit:
            key = next(iter(entries))
            frame, count = entries.pop(key)
            if not isinstance(key, Slot):
                self.held -= len(frame)
            elif count:
                frame = wire.with_conflated(frame, count)
            parts.append(frame)
            size += len(frame)
        self.taken += len(parts)
        return b"".join(parts)
