"""
What is done about an instrument that is silent while others of its feed are not.

One step at a time, each given time to work:

    resubscribe      the instruments alone, where the connector can and they are few
    reconnect        a new connection in the place of the present one
    next_url         the same at the next address, where there is one
    (rest)           then all over again, after a pause that doubles

An instrument may be silent because the venue halted it. So the pause between two rounds doubles, up
to a day, and so does the time between two that go beyond subscriptions. For others than before that
time begins anew, but is kept, or many that go silent one after the other would keep the feed
connecting.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from .counters import FeedCounters
from .roster import brief, listing

log = logging.getLogger(__name__)

RESUBSCRIBED_AT_ONCE = 10
"""With more silent instruments it is the connection; and venues count subscriptions."""
FIRST_PAUSE_S = 60.0
"""Between two rounds."""
FIRST_RECONNECT_PAUSE_S = 600.0
"""Between two rounds with a new connection."""
LONGEST_PAUSE_S = 86_400.0
USUAL_AGES = 3.0
"""So many usual ages, besides `stale_after_s`, a step has to work: it may take the next trade."""

Step = Literal["resubscribe", "reconnect", "next_url"]
STEPS: tuple[Step, ...] = ("resubscribe", "reconnect", "next_url")


class Stream(Protocol):
    """What a streamed feed can do about its connection."""

    @property
    def addresses(self) -> int:
        """How many there are to connect to."""

    @property
    def rotating(self) -> bool:
        """Whether the connection is being replaced."""

    def resubscribe(self, instruments: Iterable[str]) -> bool:
        """Subscribe to these instruments again; return whether that can be done."""

    def rotate(self, reason: Literal["stale"], *, next_url: bool = False) -> bool:
        """Have the connection replaced; return whether there is one."""


class Escalation:
    """
    The steps of one feed.

    Args:
        name: the feed's name.
        stream: takes the steps.
        counters: count them.
        stale_after_s: how long a step has to work, at least.

    """

    __slots__ = (
        "_counters",
        "_covered",
        "_due",
        "_name",
        "_next",
        "_pause_s",
        "_reconnect_pause_s",
        "_reconnected",
        "_stale_after_s",
        "_stream",
        "_tried",
    )

    def __init__(
        self, name: str, stream: Stream, counters: FeedCounters, stale_after_s: float
    ) -> None:
        self._name = name
        self._stream = stream
        self._counters = counters
        self._stale_after_s = stale_after_s
        # For whom the first and the second step of the present round were taken.
        self._tried: set[str] = set()
        self._covered: set[str] = set()
        self._reconnected = -math.inf
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._tried.clear()
        self._covered.clear()
        self._next = 0
        self._due = -math.inf
        self._pause_s = FIRST_PAUSE_S
        self._reconnect_pause_s = FIRST_RECONNECT_PAUSE_S / 2  # doubled by the first

    def look(self, now: float, silent: Mapping[str, float]) -> None:
        """
        Take the next step, if it is time to.

        `now` is a monotonic clock in seconds; it may stand still while the feed as a whole has no
        data. `silent` has the usual age of each instrument that is stale, in seconds.
        """
        if not silent:
            self._begin_anew()
            return
        if self._next == 0 and not silent.keys() <= self._tried:
            self._due = now  # one more became silent while the others rest
        if self._stream.rotating:
            self._due = max(self._due, now + self._stale_after_s)
        if now < self._due:
            return
        wait_s = self._stale_after_s + USUAL_AGES * min(silent.values())
        while self._next < len(STEPS):
            step = STEPS[self._next]
            if step == "reconnect" and not self._may_reconnect(now, silent):
                break
            self._next += 1
            self._tried.update(silent)
            if self._take(step, silent):
                if step == "reconnect":
                    self._reconnected = now
                    self._covered.update(silent)
                    self._reconnect_pause_s = min(2 * self._reconnect_pause_s, LONGEST_PAUSE_S)
                self._due = now + wait_s
                return
        self._rest(now, silent)

    def _may_reconnect(self, now: float, silent: Mapping[str, float]) -> bool:
        same = silent.keys() <= self._covered
        pause_s = self._reconnect_pause_s if same else FIRST_RECONNECT_PAUSE_S
        return now >= self._reconnected + pause_s

    def _take(self, step: Step, silent: Mapping[str, float]) -> bool:
        """Take a step; return whether it can be taken."""
        if step == "resubscribe":
            few = len(silent) <= RESUBSCRIBED_AT_ONCE
            done = few and self._stream.resubscribe(sorted(silent))
        elif step == "reconnect":
            done = self._stream.rotate("stale")
        else:
            done = self._stream.addresses > 1 and self._stream.rotate("stale", next_url=True)
        if done:
            self._counters.escalate(step)
            log.info("feed %s: %s silent: %s", self._name, listing(silent), step.replace("_", " "))
        return done

    def _rest(self, now: float, silent: Iterable[str]) -> None:
        log.info(
            "feed %s: %s still silent: the next attempt is in %s",
            self._name,
            listing(silent),
            brief(self._pause_s),
        )
        self._next = 0
        self._due = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
