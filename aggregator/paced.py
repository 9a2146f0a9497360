"""
Sessions that want the same, but less often: the latest value of each instrument at their rate.

The first value after a quiet time goes out at once, then at each tick what has changed since, in
the order of the sequence. A session that is slow stays here: what is delivered to it is kept by
its outbox.
"""

from __future__ import annotations

from collections.abc import Callable

from .audience import Key, Session
from .channel import Message, Slot

Later = Callable[[float, Callable[[], None]], object]
"""Calls a function after so many seconds."""


class PacedAudience:
    """
    Sessions with the same set of subscriptions and the same `max_hz`; a `channel.Listener`.

    Args:
        key: what they have in common.
        later: calls the next tick.

    """

    __slots__ = (
        "_interval_s",
        "_later",
        "_number",
        "_pending",
        "_ticking",
        "key",
        "sessions",
        "skipped",
    )

    def __init__(self, key: Key, later: Later) -> None:
        assert key.max_hz is not None  # noqa: S101 - `Hub.join_paced` gives one
        self.key = key
        self._interval_s = 1 / key.max_hz
        self._later = later
        # Each with the number of what it was offered last when it joined.
        self.sessions: dict[Session, int] = {}
        self._number = 0
        # What waits for the tick, in the order of offering. Keys: the slot of what can be
        # replaced, its number for the rest.
        self._pending: dict[Slot | int, tuple[int, Message]] = {}
        self._ticking = False
        self.skipped = 0

    @property
    def size(self) -> int:
        """How many sessions it is."""
        return len(self.sessions)

    def offer(self, message: Message) -> None:
        """Keep a message for the tick, in place of an older one of the same instrument."""
        self._number += 1
        slot = message.slot
        if slot is None:
            self._pending[self._number] = (self._number, message)
        else:
            # Taken out and put in again: at the end, so that sequence numbers never go back.
            if self._pending.pop(slot, None) is not None:
                self.skipped += len(self.sessions)
            self._pending[slot] = (self._number, message)
        if not self._ticking:
            self._ticking = True
            # Not right now: what belongs together, such as one poll, goes out together.
            self._later(0, self.tick)

    def add(self, session: Session) -> None:
        """Let a session have everything that is offered from now on."""
        self.sessions[session] = self._number

    def remove(self, session: Session) -> list[Message]:
        """Let a session go; return what was kept for it."""
        since = self.sessions.pop(session)
        return [_whole(message) for number, message in self._pending.values() if number > since]

    def tick(self) -> None:
        """Deliver what has been kept; plan the next tick, unless there was nothing."""
        pending, self._pending = self._pending, {}
        self._ticking = bool(pending and self.sessions)
        if not self._ticking:
            return
        self._later(self._interval_s, self.tick)
        numbers = [number for number, _ in pending.values()]
        messages = [_whole(message) for _, message in pending.values()]
        frames = [message.shaped(self.key.shape) for message in messages]
        data = b"".join(frames)
        for session, since in list(self.sessions.items()):
            if since < numbers[0]:
                session.deliver(messages, data)
            elif since < numbers[-1]:
                start = sum(number <= since for number in numbers)
                session.deliver(messages[start:], b"".join(frames[start:]))


def _whole(message: Message) -> Message:
    """Return the state after a change: what was before it may never have been sent."""
    if message.whole or message.slot is None:
        return message
    return message.slot.snapshot() or message
