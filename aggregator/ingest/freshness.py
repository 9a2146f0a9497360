"""
How each feed is doing: its state and its counters.

A feed goes `connecting` -> `live`, and from there:

    live <-> limited      the budget, the source's own cache or the venue slows the polls down
    live, limited -> late -> live, limited       data are later than usual, and came
    live, limited, late -> stale -> live, limited      data stopped coming, and came again
    any -> down -> live, limited                 an attempt failed, and data came again

`late`, `stale` and `down` end with data alone: a connection that is open, acknowledged and answers
pings proves nothing. What a stream fetches ends all but a silence. Each change is one message on
`system` and one line in the log. How the single instruments are doing is in `pulse`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal

from aggregator.channel import Channel
from aggregator.hub import Hub
from aggregator.model import State

from .counters import FeedCounters
from .failure import kind_of
from .fetched import Fetched
from .rhythm import LOOK_S, Rhythm
from .roster import Detail, Roster, ages, brief, listing

log = logging.getLogger(__name__)

INTERVALS_UNTIL_LATE = 2.0
INTERVALS_UNTIL_STALE = 2.5
"""A polled feed is late or stale when so many polls brought nothing, if that is longer."""
LATE_SHARE = 1 / 3
"""Of `stale_after_s`: nothing is late before."""

Cause = Literal["budget", "cached", "blocked", "slow"]
FINAL = frozenset({State.STALE, State.DOWN})
LEVELS = {State.CONNECTING: logging.DEBUG, State.LATE: logging.INFO}
"""Others than a warning."""


class FeedStatus(Roster):
    """
    The state of one feed, and which instruments it has.

    Args:
        channel: the feed's channel; instruments that the venue does not know leave it.
        hub: where changes are published.
        stale_after_s: without data for this long the feed is stale.
        interval_s: time from poll to poll; 0 for a streamed feed.
        look_s: how often `pulse` looks at it, in seconds.
        secrets: keys of the venue, which must not be told to anybody.
        clock: a monotonic clock, in seconds.

    Attributes:
        polled: whether data come by polls, each of which brings all instruments.
        pinged: whether the connection is known to live though no data come, since it is pinged.
        fetched: which of the last messages a stream has fetched.
        withheld: instruments whose data came, but wait for others; taken by who looks at them.

    """

    __slots__ = (
        "_cause",
        "_clock",
        "_down_by",
        "_interval_s",
        "_started",
        "_steady",
        "_steady_detail",
        "_steady_reason",
        "_was_live",
        "counters",
        "effective_interval_s",
        "fetched",
        "last_data",
        "pinged",
        "polled",
        "reason",
        "rhythm",
        "since_us",
        "stale_after_s",
        "state",
        "withheld",
    )

    def __init__(
        self,
        channel: Channel,
        hub: Hub,
        *,
        stale_after_s: float,
        interval_s: float = 0.0,
        look_s: float = LOOK_S,
        secrets: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(channel, hub, secrets)
        self.stale_after_s = stale_after_s
        self.rhythm = Rhythm(self.floor_s, look_s)
        self._interval_s = interval_s
        self.polled = interval_s > 0
        self.pinged = False
        self.fetched = Fetched(channel)
        self.withheld: set[str] = set()
        self._clock = clock
        self._started = clock()
        self._was_live = False
        self._down_by = ""
        # What the feed is while data come.
        self._steady = State.LIVE
        self._steady_reason = "data are coming"
        self._steady_detail: Detail | None = None
        self._cause: Cause | None = None
        self.counters = FeedCounters()
        self.effective_interval_s = interval_s
        self.last_data: float | None = None
        self.state = State.CONNECTING
        self.reason = ""
        self.since_us = 0
        self._change(State.CONNECTING, "starting")

    @property
    def cause(self) -> Cause | None:
        """What limits the feed, if anything."""
        return self._cause

    @property
    def flowing(self) -> bool:
        """Whether data are coming, as far as is known."""
        limited = self.state is State.LIMITED and self._cause != "blocked"
        return limited or self.state is State.LIVE

    @property
    def floor_s(self) -> float:
        """A silence, in seconds, up to which nothing is late."""
        return LATE_SHARE * self.stale_after_s

    @property
    def late_limit_s(self) -> float:
        """The age of the newest data, in seconds, at which the feed is late."""
        learned_s = self.floor_s if self.polled else self.rhythm.limit_s
        return max(learned_s, INTERVALS_UNTIL_LATE * self.effective_interval_s)

    @property
    def stale_limit_s(self) -> float:
        """The age of the newest data, in seconds, at which the feed, by its rhythm, is stale."""
        limit_s = max(self.stale_after_s, INTERVALS_UNTIL_STALE * self.effective_interval_s)
        if self.pinged:
            limit_s = max(limit_s, self.rhythm.slow_limit_s(limit_s))
        return limit_s

    @property
    def usual(self) -> str:
        """What to add to the words about a silence: what is usual, where that is known."""
        usual_s = self.rhythm.usual_s
        return "" if usual_s is None else f", usual {brief(usual_s)}"

    @property
    def ready(self) -> bool:
        """Whether the feed is live, or late or limited with fresh data."""
        if self.state in {State.LIMITED, State.LATE}:
            return self.last_data is not None and self._age(self._clock()) <= self.stale_limit_s
        return self.state is State.LIVE

    def connecting(self, reason: str) -> None:
        """Say that a connection is on its way; a feed that is down, stale or blocked stays so."""
        if self.state not in {*FINAL, State.CONNECTING} and self._cause != "blocked":
            self._change(State.CONNECTING, reason)

    def data(self, now: float) -> None:
        """Take note that data arrived. On the way of every message: as cheap as can be."""
        self.last_data = now
        if self.state is not self._steady:
            self._change(self._steady, self._steady_reason, self._steady_detail)

    def begun(self) -> None:
        """Take note of data that a stream has fetched, which end no silence."""
        if self.state not in {State.LATE, State.STALE, self._steady}:
            self._change(self._steady, self._steady_reason, self._steady_detail)

    def down(self, reason: str, error: BaseException | None = None) -> bool:
        """
        Say that the feed does not work.

        Said again only for another kind of error; in between the reason is kept up to date.

        Returns:
            Whether it was news.

        """
        kind = f"{type(error).__name__} {kind_of(error)}" if error else ""
        news = self.state is not State.DOWN or kind != self._down_by
        self._down_by = kind
        if news:
            self._change(State.DOWN, reason)
        else:
            self.reason = self.clean(reason)
        return news

    def late(self, now: float) -> None:
        """Say that data are later than usual."""
        if self.flowing:
            self._change(State.LATE, self._silence(now), self._ages(now))

    def stale(self, reason: str) -> None:
        """Say that data stopped coming."""
        if self.state not in FINAL:
            self._change(State.STALE, reason, self._ages(self._clock()))

    def check(self, now: float) -> None:
        """Call the feed stale if its data are too old."""
        if self.state not in FINAL and self._age(now) > self.stale_limit_s:
            self.stale(self._silence(now))

    def _silence(self, now: float) -> str:
        because = f"; {self._steady_reason}" if self._steady is State.LIMITED else ""
        return f"no data for {brief(self._age(now))}{self.usual}{because}"

    def _ages(self, now: float) -> Detail:
        return ages(None if self.last_data is None else self._age(now), self.rhythm.usual_s)

    def limited(
        self,
        reason: str,
        effective_interval_s: float,
        cause: Cause,
        until_us: int | None = None,
    ) -> None:
        """
        Say that data come less often than configured, about every `effective_interval_s` seconds.

        A feed that is stale stays so until data come, and one that is late or down unless the venue
        itself blocks it: that is news.
        """
        news = self.state is not State.LIMITED or cause != self._cause
        self._steady, self._steady_reason, self._cause = State.LIMITED, reason, cause
        self.effective_interval_s = effective_interval_s
        self._steady_detail = {
            # How long a block by the venue lasts, it says itself.
            "effective_interval_s": None if cause == "blocked" else round(effective_interval_s, 3),
            "cause": cause,
            "until_us": until_us,
        }
        blocked = cause == "blocked" and self.state is not State.STALE
        if self.state in {*FINAL, State.LATE} and not blocked:
            return
        if news:
            self._change(State.LIMITED, reason, self._steady_detail)

    def unlimited(self) -> None:
        """Say that nothing limits the feed any more; it is live with the next data."""
        self._steady, self._steady_reason, self._cause = State.LIVE, "data are coming", None
        self._steady_detail = None
        self.effective_interval_s = self._interval_s

    def changed(self, stale_after_s: float) -> None:
        """Go over to another time; see the constructor."""
        self.stale_after_s = stale_after_s
        self.rhythm.floor_s = self.floor_s

    def paced(self, interval_s: float) -> None:
        """Take the time from poll to poll, in seconds, where it turns out late; 0: no polls."""
        self._interval_s = self.effective_interval_s = interval_s
        self.polled = interval_s > 0

    def _age(self, now: float) -> float:
        return now - (self._started if self.last_data is None else self.last_data)

    def _change(self, state: State, reason: str, detail: Detail | None = None) -> None:
        before_us = self.since_us
        reason = self.clean(reason)
        self.state, self.reason, self.since_us = state, reason, self._hub.now_us()
        self._channel.stale = state in FINAL
        self.say(state, self.since_us, reason, None, detail)
        if state is State.LIVE:
            self._log_live(before_us)
        else:
            # That a source refreshes slowly asks nothing of anybody.
            expected = state is State.LIMITED and self._cause == "cached"
            level = logging.INFO if expected else LEVELS.get(state, logging.WARNING)
            log.log(level, "feed %s %s: %s", self.name, state.value, reason)

    def _log_live(self, before_us: int) -> None:
        if self._was_live:
            seconds = (self.since_us - before_us) / 1e6
            log.info("feed %s live again after %.1f s", self.name, seconds)
            return
        self._was_live = True
        listed = listing(self._channel.instruments or self._channel.slots)
        log.info("feed %s live (%s, %s)", self.name, self._channel.exchange, listed)
