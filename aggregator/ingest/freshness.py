"""
How each feed is doing: its state, its counters, and the only place that tells the clients.

A feed goes `connecting` -> `live`, and from there:

    live <-> limited      the budget, the source's own cache or the venue slows the polls down
    live, limited -> stale -> live, limited      data stopped coming, and came again
    any -> down -> live, limited                 an attempt failed, and data came again

`stale` and `down` end with data alone: a connection that is open, acknowledged and answers pings
proves nothing. Each change is one message on `system` and one line in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Literal

from aggregator.channel import Channel
from aggregator.hub import Hub
from aggregator.model import State, SystemStatus

from .counters import FeedCounters
from .failure import kind_of, printable

log = logging.getLogger(__name__)

INTERVALS_UNTIL_STALE = 2.5
"""A polled feed is stale when so many polls brought nothing, if that is longer."""
MAX_LISTED = 5
"""Instruments named in a line of the log."""

Cause = Literal["budget", "cached", "blocked", "slow"]
Detail = dict[str, int | float | str | None]
FINAL = frozenset({State.STALE, State.DOWN})
LEVELS = {
    State.CONNECTING: logging.DEBUG,
    State.LIMITED: logging.WARNING,
    State.STALE: logging.WARNING,
    State.DOWN: logging.WARNING,
}


class FeedStatus:
    """
    The state of one feed and of its instruments.

    Args:
        channel: the feed's channel; instruments that the venue does not know leave it.
        hub: where changes are published.
        stale_after_s: without data for this long the feed is stale.
        interval_s: time from poll to poll; 0 for a streamed feed.
        secrets: keys of the venue, which must not be told to anybody.
        clock: a monotonic clock, in seconds.

    """

    __slots__ = (
        "_cause",
        "_channel",
        "_clock",
        "_down_by",
        "_hub",
        "_interval_s",
        "_secrets",
        "_stale_after_s",
        "_started",
        "_steady",
        "_steady_detail",
        "_steady_reason",
        "_was_live",
        "counters",
        "effective_interval_s",
        "last_data",
        "reason",
        "since_us",
        "state",
        "unknown",
    )

    def __init__(
        self,
        channel: Channel,
        hub: Hub,
        *,
        stale_after_s: float,
        interval_s: float = 0.0,
        secrets: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._secrets = tuple(secrets)
        self._hub = hub
        self._stale_after_s = stale_after_s
        self._interval_s = interval_s
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
        self.unknown: dict[str, str] = {}
        self.state = State.CONNECTING
        self.reason = ""
        self.since_us = 0
        self._change(State.CONNECTING, "starting")

    @property
    def name(self) -> str:
        """The feed's name."""
        return self._channel.name

    @property
    def cause(self) -> Cause | None:
        """What limits the feed, if anything."""
        return self._cause

    @property
    def stale_limit_s(self) -> float:
        """The age of the newest data, in seconds, at which the feed is stale."""
        return max(self._stale_after_s, INTERVALS_UNTIL_STALE * self.effective_interval_s)

    @property
    def ready(self) -> bool:
        """Whether the feed is live, or limited with fresh data."""
        if self.state is State.LIMITED:
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
            self.reason = self._clean(reason)
        return news

    def stale(self, reason: str) -> None:
        """Say that data stopped coming."""
        if self.state not in FINAL:
            self._change(State.STALE, reason)

    def check(self, now: float) -> None:
        """Call the feed stale if its data are too old."""
        if self.state not in FINAL and self._age(now) > self.stale_limit_s:
            cause = f"; {self.reason}" if self.state is State.LIMITED else ""
            self.stale(f"no data for {self._age(now):.0f} s{cause}")

    def limited(
        self,
        reason: str,
        effective_interval_s: float,
        cause: Cause,
        until_us: int | None = None,
    ) -> None:
        """
        Say that data come less often than configured, about every `effective_interval_s` seconds.

        A feed that is stale stays so until data come, and one that is down unless the venue itself
        blocks it: that is news.
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
        if self.state in FINAL and not (self.state is State.DOWN and cause == "blocked"):
            return
        if news:
            self._change(State.LIMITED, reason, self._steady_detail)

    def unlimited(self) -> None:
        """Say that nothing limits the feed any more; it is live with the next data."""
        self._steady, self._steady_reason, self._cause = State.LIVE, "data are coming", None
        self._steady_detail = None
        self.effective_interval_s = self._interval_s

    def unknown_instrument(self, instrument: str, reason: str) -> None:
        """Say that the venue does not know this instrument."""
        self._channel.withdraw(instrument)
        if instrument in self.unknown:
            return
        self.unknown[instrument] = reason = self._clean(reason)
        log.warning("feed %s: unknown instrument %s: %s", self.name, printable(instrument), reason)
        self._publish(State.UNKNOWN_INSTRUMENT, self._hub.now_us(), reason, instrument)

    def known(self, instrument: str) -> None:
        """Say that the venue knows this instrument, if it did not before."""
        if self.unknown.pop(instrument, None) is None:
            return
        if self._channel.instruments is not None:
            self._channel.instruments.add(instrument)
        log.info("feed %s: the venue knows %s again", self.name, printable(instrument))
        self._publish(State.LIVE, self._hub.now_us(), "known again", instrument)

    def known_again(self, instruments: Iterable[str]) -> None:
        """Say of those of `instruments` that were unknown that they are known."""
        for instrument in self.unknown.keys() & set(instruments):
            self.known(instrument)

    def listed(self, instruments: frozenset[str]) -> None:
        """Take the venue's word for which instruments there are."""
        before = self._channel.instruments or set()
        self._channel.instruments = set(instruments)
        for gone in sorted(before - instruments):
            self._channel.withdraw(gone)
            log.info("feed %s: %s is no longer listed", self.name, printable(gone))
            now_us = self._hub.now_us()
            self._publish(State.UNKNOWN_INSTRUMENT, now_us, "no longer listed", gone)
            # News for who had it; who comes later need not know what there once was.
            self._hub.system.withdraw(f"{self.name}:{gone}")
        self.known_again(instruments)

    def _age(self, now: float) -> float:
        return now - (self._started if self.last_data is None else self.last_data)

    def _change(self, state: State, reason: str, detail: Detail | None = None) -> None:
        before_us = self.since_us
        reason = self._clean(reason)
        self.state, self.reason, self.since_us = state, reason, self._hub.now_us()
        self._publish(state, self.since_us, reason, None, detail)
        if state is State.LIVE:
            self._log_live(before_us)
        else:
            # That a source refreshes slowly asks nothing of anybody.
            expected = state is State.LIMITED and self._cause == "cached"
            level = logging.INFO if expected else LEVELS[state]
            log.log(level, "feed %s %s: %s", self.name, state.value, reason)

    def _log_live(self, before_us: int) -> None:
        if self._was_live:
            seconds = (self.since_us - before_us) / 1e6
            log.info("feed %s live again after %.1f s", self.name, seconds)
            return
        self._was_live = True
        instruments = sorted(self._channel.instruments or self._channel.slots)
        listed = ", ".join(map(printable, instruments[:MAX_LISTED]))
        more = f" and {len(instruments) - MAX_LISTED:,} more" * (len(instruments) > MAX_LISTED)
        log.info("feed %s live (%s, %s%s)", self.name, self._channel.exchange, listed, more)

    def _clean(self, text: str) -> str:
        """Return what may be said of a venue's words: one line, and no key that it repeats."""
        for secret in self._secrets:
            text = text.replace(secret, "********")
            # A text that was cut may end with the beginning of one.
            cut = next((n for n in range(len(secret) - 1, 3, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - cut]
        return printable(text)

    def _publish(
        self,
        state: State,
        since_us: int,
        reason: str,
        instrument: str | None,
        detail: Detail | None = None,
    ) -> None:
        event = SystemStatus(
            feed=self.name,
            state=state,
            since_us=since_us,
            reason=reason,
            instrument=instrument,
            detail=detail,
        )
        self._hub.publish(self._hub.system, event, since_us)
