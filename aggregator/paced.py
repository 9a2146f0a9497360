"""
Sessions that want the same, but less often: the latest value of each instrument at their rate.

The first value after a quiet time goes out at once, then after each interval what has changed
since, in the order of the sequence: with the next fan-out, in laps like all else. A session that
is slow stays here: what is delivered to it is kept by its outbox.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from .audience import Key, Session
from .channel import Message, Slot

MAX_KEPT = 1000
"""Messages that can't be replaced, such as trades: so many do not wait for the interval's end."""


class Timer(Protocol):
    """A call that is planned."""

    def cancel(self) -> None:
        """Let it not happen."""


Later = Callable[[float, Callable[[], None]], Timer | None]
"""Calls a function after so many seconds."""


class PacedAudience:
    """
    Sessions with the same set of subscriptions and the same `max_hz`; a `channel.Listener`.

    Args:
        key: what they have in common.
        mark_dirty: told when there is something to flush.
        later: calls at the end of an interval.

    """

    __slots__ = (
        "_due",
        "_interval_s",
        "_kept",
        "_later",
        "_mark_dirty",
        "_number",
        "_pending",
        "_timer",
        "_waiting",
        "key",
        "lap",
        "sessions",
        "skipped",
    )

    def __init__(self, key: Key, mark_dirty: Callable[[PacedAudience], None], later: Later) -> None:
        assert key.max_hz is not None  # noqa: S101 - `Hub.join_paced` gives one
        self.key = key
        # The last one of the hub's in which it had its turn.
        self.lap = 0
        # Up to whole milliseconds, in which uvloop counts: so never more often than asked for.
        self._interval_s = math.ceil(1000 / key.max_hz) / 1000
        self._mark_dirty = mark_dirty
        self._later = later
        # Each with the number of what it was offered last when it joined.
        self.sessions: dict[Session, int] = {}
        self._number = 0
        # What waits, in the order of offering. Keys: the slot of what can be replaced, its number
        # for the rest.
        self._pending: dict[Slot | int, tuple[int, Message]] = {}
        self._kept = 0
        # Whether an interval runs, and whether the next flush is ours.
        self._waiting = False
        self._due = False
        self._timer: Timer | None = None
        self.skipped = 0

    @property
    def size(self) -> int:
        """How many sessions it is."""
        return len(self.sessions)

    def offer(self, message: Message) -> None:
        """Keep a message, in place of an older one of the same instrument."""
        self._number += 1
        slot = message.slot
        if slot is None:
            self._pending[self._number] = (self._number, message)
            self._kept += 1
        else:
            # Taken out and put in again: at the end, so that sequence numbers never go back.
            if self._pending.pop(slot, None) is not None:
                self.skipped += len(self.sessions)
            self._pending[slot] = (self._number, message)
        if not self._waiting:
            self._waiting = True
            # Not right now: what belongs together, such as one poll, goes out together.
            self._timer = self._later(0, self._over)
        elif self._kept >= MAX_KEPT:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._due:
            self._due = True
            self._mark_dirty(self)

    def _over(self) -> None:
        """End an interval: begin another with what has come, if anything has."""
        self._waiting = bool(self._pending and self.sessions)
        if self._waiting:
            self._timer = self._later(self._interval_s, self._over)
            self._flush_soon()

    def add(self, session: Session) -> None:
        """Let a session have everything that is offered from now on."""
        self.sessions[session] = self._number

    def remove(self, session: Session) -> list[Message]:
        """Let a session go; return what was kept for it."""
        since = self.sessions.pop(session)
        return [message.settled() for number, message in self._pending.values() if number > since]

    def end(self) -> None:
        """Plan nothing further."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def flush(self) -> tuple[int, int, int]:
        """Deliver what has been kept; the sessions count for themselves, hence the zeros."""
        self._due = False
        pending, self._pending, self._kept = self._pending, {}, 0
        if not (pending and self.sessions):
            return 0, 0, 0
        numbers = [number for number, _ in pending.values()]
        messages = [message.settled() for _, message in pending.values()]
        frames = [message.shaped(self.key.shape) for message in messages]
        data = b"".join(frames)
        for session, since in list(self.sessions.items()):
            if since < numbers[0]:
                session.deliver(messages, data)
            elif since < numbers[-1]:
                start = sum(number <= since for number in numbers)
                session.deliver(messages[start:], b"".join(frames[start:]))
        return 0, 0, 0
