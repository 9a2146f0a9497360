"""All sessions that want the same: what one message costs for thousands of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .channel import Slot

Wants = frozenset[str]
"""A set of subscriptions."""


class Session(Protocol):
    """Who is written to."""

    def write(self, data: bytes) -> None:
        """Pass whole frames to the client. Never raises and never waits."""


class Audience:
    """
    All sessions with the same set of subscriptions; a `channel.Listener`.

    Args:
        wants: the subscriptions.
        mark_dirty: told when the first frame of a batch waits to be flushed.

    """

    __slots__ = ("_count", "_data", "_due", "_late", "_mark_dirty", "batch", "sessions", "wants")

    def __init__(self, wants: Wants, mark_dirty: Callable[[Audience], None]) -> None:
        self.wants = wants
        self._mark_dirty = mark_dirty
        self.sessions: dict[Session, None] = {}
        self.batch: list[bytes] = []
        # Who joined while a batch was being filled, and at which place of it.
        self._late: dict[Session, int] = {}
        # A flush that is under way: who has yet to get which bytes, of how many messages.
        self._due: dict[Session, None] = {}
        self._data = b""
        self._count = 0

    @property
    def size(self) -> int:
        """How many sessions it is."""
        return len(self.sessions)

    @property
    def flushing(self) -> bool:
        """Whether a flush is under way, with some sessions written to and some not."""
        return bool(self._due)

    def offer(self, frame: bytes, slot: Slot | None) -> None:
        """Add a frame to the batch."""
        del slot
        if not self.batch:
            self._mark_dirty(self)
        self.batch.append(frame)

    def add(self, session: Session) -> None:
        """Let a session have everything that is offered from now on."""
        if self.batch:
            self._late[session] = len(self.batch)
        self.sessions[session] = None

    def remove(self, session: Session) -> tuple[bytes, int]:
        """
        Let a session go.

        Returns:
            The frames that were offered to it and not written yet, and how many they are.

        """
        del self.sessions[session]
        frames = self.batch[self._late.pop(session, 0) :]
        rest, count = b"".join(frames), len(frames)
        if session in self._due:
            del self._due[session]
            return self._data + rest, self._count + count
        return rest, count

    def flush(self, limit: int) -> tuple[int, int]:
        """
        Write the batch to the sessions, or what is left to write of the last one.

        At most `limit` sessions are written to, so that a large audience does not keep the loop
        from everything else; `flushing` tells whether some are left.

        Returns:
            How many sessions were written to, and how many messages that were in all.

        """
        written = delivered = 0
        if not self._due and self.batch:
            written, delivered = self._begin()
        due = self._due
        while due and written < limit:
            # Taken out first: a session that gets too much leaves while it is being written to.
            session, _ = due.popitem()
            session.write(self._data)
            written += 1
            delivered += self._count
        return written, delivered

    def _begin(self) -> tuple[int, int]:
        batch, self.batch = self.batch, []
        late, self._late = self._late, {}
        self._data, self._count = batch[0] if len(batch) == 1 else b"".join(batch), len(batch)
        # Written from the last to the first; who was last has been first, next time.
        if self.sessions:
            first = next(iter(self.sessions))
            self.sessions[first] = self.sessions.pop(first)
        self._due = (
            dict.fromkeys(s for s in self.sessions if s not in late)
            if late
            else (self.sessions.copy())
        )
        delivered = 0
        for session, start in late.items():
            session.write(b"".join(batch[start:]))
            delivered += len(batch) - start
        return len(late), delivered
