"""
Pings to every session, and who did not answer.

No timer for each: as the interval is the same for all, those that are due next stand first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol


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
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._stalled_s = stalled_s
        self._dead = dead
        self._now = now
        # Both are in the order of time, which insertion keeps.
        self._due: dict[Pinged, float] = {}
        self._asked: dict[Pinged, Asked] = {}

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

    def tick(self) -> None:
        """Ping who is due, and give up on who did not answer."""
        now = self._now()
        while self._asked:
            session, asked = next(iter(self._asked.items()))
            if asked.look_at > now:
                break
            del self._asked[session]
            since = now if session.progress != asked.progress else asked.since
            if session.behind and now - since < self._stalled_s:
                self._ask(session, since)
            else:
                self._dead(session)
        while self._due:
            session, due = next(iter(self._due.items()))
            if due > now:
                break
            del self._due[session]
            self._ask(session, now)

    def _ask(self, session: Pinged, since: float) -> None:
        self._asked[session] = Asked(self._now() + self._timeout_s, session.progress, since)
        if not session.lagging:
            session.ping()
