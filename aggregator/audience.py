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

    __slots__ = ("_mark_dirty", "batch", "sessions", "wants")

    def __init__(self, wants: Wants, mark_dirty: Callable[[Audience], None]) -> None:
        self.wants = wants
        self._mark_dirty = mark_dirty
        self.sessions: dict[Session, None] = {}
        self.batch: list[bytes] = []

    @property
    def size(self) -> int:
        """How many sessions it is."""
        return len(self.sessions)

    def offer(self, frame: bytes, slot: Slot | None) -> None:
        """Add a frame to the batch."""
        del slot
        if not self.batch:
            self._mark_dirty(self)
        self.batch.append(frame)

    def flush(self) -> int:
        """Write the batch to every session; return how many messages that were in all."""
        batch, self.batch = self.batch, []
        if not batch:
            return 0
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        # A session that gets too much leaves the audience while it is being written to.
        sessions = tuple(self.sessions)
        for session in sessions:
            session.write(data)
        return len(batch) * len(sessions)
