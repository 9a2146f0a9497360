"""
Pings to every session, and who did not answer.

No timer for each: as the interval is the same for all, those that are due next stand first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Pinged(Protocol):
    """A session, as seen from here."""

    @property
    def lagging(self) -> bool:
        """Whether it is behind, so that a ping would have to wait behind what it did not read."""

    @property
    def progress(self) -> tuple[int, int]:
        """What grows whenever it reads something while it lags."""

    def ping(self) -> None:
        """Send a ping."""


class Heartbeats:
    """
    Pings each session `interval_s` after its last sign of life.

    A session that lags is not pinged: that it reads on, however slowly, is its sign of life.

    Args:
        interval_s: from a sign of life to the next ping.
        timeout_s: for the pong.
        dead: told of a session that did not answer; it is forgotten here.
        now: a monotonic clock, in seconds.

    """

    def __init__(
        self,
        interval_s: float,
        timeout_s: float,
        dead: Callable[[Pinged], None],
        now: Callable[[], float],
    ) -> None:
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._dead = dead
        self._now = now
        # Both are in the order of time, which insertion keeps.
        self._due: dict[Pinged, float] = {}
        self._asked: dict[Pinged, tuple[float, tuple[int, int] | None]] = {}

    def add(self, session: Pinged) -> None:
        """Watch a session from now on."""
        self._due[session] = self._now() + self._interval_s

    def remove(self, session: Pinged) -> None:
        """Watch it no more."""
        self._due.pop(session, None)
        self._asked.pop(session, None)

    def pong(self, session: Pinged) -> None:
        """Take a pong as a sign of life; an unsolicited one changes nothing."""
        if self._asked.pop(session, None) is not None:
            self.add(session)

    def tick(self) -> None:
        """Ping who is due, and give up on who did not answer."""
        now = self._now()
        while self._asked:
            session, (deadline, before) = next(iter(self._asked.items()))
            if deadline > now:
                break
            del self._asked[session]
            if before is not None and (not session.lagging or session.progress > before):
                self.add(session)
            else:
                self._dead(session)
        while self._due:
            session, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[session]
            lagging = session.lagging
            self._asked[session] = (now + self._timeout_s, session.progress if lagging else None)
            if not lagging:
                session.ping()
