"""
Pings to every session, and who did not answer.

No timer for each: as the interval is the same for all, those that are due next stand first.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")


AT_ONCE = 250
"""Looked after before everything else has its turn: thousands may be due in the same moment."""


class Pinged(Protocol):
    """A session, as seen from here."""

    @property
    def lagging(self) -> bool:
        """Whether it is behind, so that a ping would have to wait behind what it did not read."""

    @property
    def behind(self) -> bool:
        """Whether it has been slow since its last pong: a ping may take long to reach it."""

    @property
    def progress(self) -> int:
        """What grows whenever it reads something."""

    def ping(self) -> None:
        """Send a ping."""


class Asked(NamedTuple):
    """When to look whether a session has answered, what it had read, and since when no more."""

    look_at: float
    progress: int
    since: float


class Heartbeats:
    """
    Pings each session `interval_s` after its last sign of life.

    A pong is due within `timeout_s`. Where a session is behind, a ping has to wait in the buffers
    of both kernels; there it is enough that it reads on. A kernel tells of that only in steps, of
    64 KB say, so it may seem to stand still for `stalled_s`.

    Args:
        interval_s: from a sign of life to the next ping.
        timeout_s: for the pong.
        stalled_s: for who is behind to read anything at all.
        dead: told of a session that did not answer; it is forgotten here.
        now: a monotonic clock, in seconds.

    """

    def __init__(
        self,
        interval_s: float,
        timeout_s: float,
        stalled_s: float,
        *,
        dead: Callable[[Pinged], None],
        now: Callable[[], float],
    ) -> None:
        self.reconfigure(interval_s, timeout_s, stalled_s)
        self._dead = dead
        self._now = now
        # Both are in the order of time, which insertion keeps.
        self._due: dict[Pinged, float] = {}
        self._asked: dict[Pinged, Asked] = {}

    def reconfigure(self, interval_s: float, timeout_s: float, stalled_s: float) -> None:
        """Go over to other times; what is due keeps its own."""
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._stalled_s = stalled_s

    def add(self, session: Pinged) -> None:
        """Watch a session from now on."""
        self._due[session] = self._now() + self._interval_s

    def remove(self, session: Pinged) -> None:
        """Watch it no more."""
        self._due.pop(session, None)
        self._asked.pop(session, None)

    def pong(self, session: Pinged) -> bool:
        """Take a pong as a sign of life; an unsolicited one changes nothing, and is `False`."""
        if self._asked.pop(session, None) is None:
            return False
        self.add(session)
        return True

    def tick(self) -> bool:
        """
        Ping who is due, and give up on who did not answer, some `AT_ONCE` of each.

        Returns:
            Whether there are more, for the next call.

        """
        now = self._now()
        # Collected first: to look for the first one again after each removal passes all that
        # were removed before.
        asked = _until(self._asked.items(), lambda each: each[1].look_at > now)
        for session, last in asked:
            # Ending one may have ended another.
            if self._asked.pop(session, None) is None:
                continue
            since = now if session.progress != last.progress else last.since
            if session.behind and now - since < self._stalled_s:
                self._ask(session, since)
            else:
                self._dead(session)
        due = _until(self._due.items(), lambda each: each[1] > now)
        for session, _ in due:
            if self._due.pop(session, None) is not None:
                self._ask(session, now)
        return AT_ONCE in {len(asked), len(due)}

    def _ask(self, session: Pinged, since: float) -> None:
        self._asked[session] = Asked(self._now() + self._timeout_s, session.progress, since)
        if not session.lagging:
            session.ping()


def _until(items: Iterable[T], later: Callable[[T], bool]) -> list[T]:
    """Return those that come before the first one whose time is later."""
    first = itertools.islice(items, AT_ONCE)
    return list(itertools.takewhile(lambda each: not later(each), first))
