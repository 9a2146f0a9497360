"""Sessions that want the same: what one message costs for thousands of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from .channel import Message
from .shape import WHOLE, Shape

Wants = frozenset[str]
"""A set of subscriptions."""


class Key(NamedTuple):
    """What the sessions of an audience have in common."""

    wants: Wants
    shape: Shape
    max_hz: float | None
    """How often each value is sent at most; `None` for every message."""


class Transport(Protocol):
    """Where a client's bytes go."""

    def write(self, data: bytes) -> None:
        """Take whole frames. Never waits."""


class Session(Protocol):
    """Who is written to."""

    @property
    def transport(self) -> Transport:
        """Where its bytes go."""

    def deliver(self, messages: list[Message], data: bytes) -> None:
        """Send these messages, whose frames are `data`, or keep them while the client is slow."""


class Audience:
    """
    Sessions with the same set of subscriptions that get every message; a `channel.Listener`.

    Args:
        key: what they have in common; without `max_hz`.
        mark_dirty: told when the first frame of a batch waits to be flushed.

    """

    __slots__ = ("_late", "_mark_dirty", "_shape", "batch", "key", "lap", "sessions")

    def __init__(self, key: Key, mark_dirty: Callable[[Audience], None]) -> None:
        self.key = key
        # The last one in which it had its turn.
        self.lap = 0
        self._shape = key.shape
        self._mark_dirty = mark_dirty
        # With the transports, since to ask each session to write costs a seventh of the fan-out.
        self.sessions: dict[Session, Transport] = {}
        self.batch: list[bytes] = []
        # Who joined while a batch was being filled, and at which place of it.
        self._late: dict[Session, int] = {}

    @property
    def size(self) -> int:
        """How many sessions it is."""
        return len(self.sessions)

    def offer(self, message: Message) -> None:
        """Add a message to the batch."""
        if not self.batch:
            self._mark_dirty(self)
        shape = self._shape
        self.batch.append(message.frame if shape is WHOLE else message.shaped(shape))

    def add(self, session: Session) -> None:
        """Let a session have everything that is offered from now on."""
        if self.batch:
            self._late[session] = len(self.batch)
        self.sessions[session] = session.transport

    def remove(self, session: Session) -> tuple[bytes, int]:
        """
        Let a session go.

        Returns:
            The frames that were offered to it and not written yet, and how many they are.

        """
        del self.sessions[session]
        frames = self.batch[self._late.pop(session, 0) :]
        return b"".join(frames), len(frames)

    def flush(self) -> tuple[int, int, int]:
        """
        Write the batch to all sessions.

        Returns:
            How many messages that were in all, how many writes failed, and how many bytes went.

        """
        batch, self.batch = self.batch, []
        sessions = self.sessions
        if not sessions or not batch:
            return 0, 0, 0
        if len(sessions) > 1:
            # Who was first is last, next time.
            first = next(iter(sessions))
            sessions[first] = sessions.pop(first)
        # A copy: a session that gets too much leaves while it is being written to.
        transports = list(sessions.values())
        delivered = failed = size = 0
        if self._late:
            late, self._late = self._late, {}
            transports = [t for session, t in sessions.items() if session not in late]
            for transport, start in [(sessions[s], start) for s, start in late.items()]:
                rest = b"".join(batch[start:])
                some_failed = _write([transport], rest)
                delivered += (1 - some_failed) * (len(batch) - start)
                size += (1 - some_failed) * len(rest)
                failed += some_failed
        data = batch[0] if len(batch) == 1 else b"".join(batch)
        all_failed = _write(transports, data)
        written = len(transports) - all_failed
        return delivered + written * len(batch), failed + all_failed, size + written * len(data)


def _write(transports: list[Transport], data: bytes) -> int:
    failed = 0
    for transport in transports:
        try:
            transport.write(data)
        except RuntimeError:
            # uvloop raises where asyncio is silent: the transport is closing. One client that
            # leaves must not end the fan-out to the others.
            failed += 1
    return failed
