"""
Which instruments a feed has, as far as the venue tells, and how the feed says anything at all.

What a venue says is passed on as one line without its keys.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from aggregator.channel import Channel
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Candle, PriceUpdate, State, SystemStatus, TradeExecuted

from .failure import printable

log = logging.getLogger(__name__)

DATA = (PriceUpdate, BookUpdate, TradeExecuted, Candle)
MAX_LISTED = 5
"""Instruments named in a line of the log."""

Detail = dict[str, int | float | str | None]


def listing(instruments: Iterable[str]) -> str:
    """Return the names for a line of the log: the first few, and how many more there are."""
    names = sorted(instruments)
    more = f" and {len(names) - MAX_LISTED:,} more" * (len(names) > MAX_LISTED)
    return ", ".join(map(printable, names[:MAX_LISTED])) + more


def brief(seconds: float) -> str:
    """Return a duration for people, e.g. `0.05 s`, `1.5 s` or `31 s`."""
    digits = ".1g" if seconds < 1 else ".1f" if seconds < 10 else ".0f"
    return f"{seconds:{digits}} s"


def ages(age_s: float | None, usual_s: float | None) -> Detail:
    """Return the `detail` of a silence: how old the newest data are, and how old usually."""
    return {
        "age_us": None if age_s is None else round(age_s * 1e6),
        "usual_us": None if usual_s is None else round(usual_s * 1e6),
    }


class Roster:
    """
    The instruments of one feed.

    Args:
        channel: the feed's channel; instruments that the venue does not know leave it.
        hub: where changes are published.
        secrets: keys of the venue, which must not be told to anybody.

    Attributes:
        unknown: the instruments that the venue does not know, with what it says about each.

    """

    __slots__ = ("_channel", "_hub", "_secrets", "unknown")

    def __init__(self, channel: Channel, hub: Hub, secrets: Iterable[str] = ()) -> None:
        self._channel = channel
        self._hub = hub
        self._secrets = tuple(secrets)
        self.unknown: dict[str, str] = {}

    @property
    def name(self) -> str:
        """The feed's name."""
        return self._channel.name

    def unknown_instrument(self, instrument: str, reason: str) -> None:
        """Say that the venue does not know this instrument."""
        self._channel.withdraw(instrument)
        if instrument in self.unknown:
            return
        self.unknown[instrument] = reason = self.clean(reason)
        log.warning("feed %s: unknown instrument %s: %s", self.name, printable(instrument), reason)
        self.say(State.UNKNOWN_INSTRUMENT, self._hub.now_us(), reason, instrument)

    def known(self, instrument: str) -> None:
        """Say that the venue knows this instrument, if it did not before."""
        if self.unknown.pop(instrument, None) is None:
            return
        if self._channel.instruments is not None:
            self._channel.instruments.add(instrument)
        log.info("feed %s: the venue knows %s again", self.name, printable(instrument))
        self.say(State.LIVE, self._hub.now_us(), "known again", instrument)

    def known_again(self, instruments: Iterable[str]) -> None:
        """Say of those of `instruments` that were unknown that they are known."""
        for instrument in self.unknown.keys() & set(instruments):
            self.known(instrument)

    def heard_of(self, outputs: Iterable[object]) -> None:
        """Take data of an instrument as a sign that the venue knows it; a gap is none."""
        self.known_again(each.instrument for each in outputs if isinstance(each, DATA))

    def listed(self, instruments: frozenset[str]) -> None:
        """Take the venue's word for which instruments there are."""
        before = self._channel.instruments or set()
        self._channel.instruments = set(instruments)
        for gone in sorted(before - instruments):
            self._channel.withdraw(gone)
            log.info("feed %s: %s is no longer listed", self.name, printable(gone))
            self.say(State.UNKNOWN_INSTRUMENT, self._hub.now_us(), "no longer listed", gone)
            self._unsay(gone)
        self.known_again(instruments)

    def removed(self, reason: str) -> None:
        """Say, as the last thing, that there is no such feed any more."""
        self.say(State.DOWN, self._hub.now_us(), reason, None)
        ours = [s for s in self._hub.system.slots if s.partition(":")[0] == self.name]
        for place in ours:
            self._hub.system.withdraw(place)

    def hide(self, secrets: Iterable[str]) -> None:
        """Tell nobody these keys, instead of those before."""
        self._secrets = tuple(secrets)

    def clean(self, text: str) -> str:
        """Return what may be said of a venue's words: one line, and no key that it repeats."""
        for secret in self._secrets:
            text = text.replace(secret, "********")
            # A text that was cut may end with the beginning of one.
            cut = next((n for n in range(len(secret) - 1, 3, -1) if text.endswith(secret[:n])), 0)
            text = text[: len(text) - cut]
        return printable(text)

    def say(
        self,
        state: State,
        since_us: int,
        reason: str,
        instrument: str | None,
        detail: Detail | None = None,
    ) -> None:
        """
        Publish a state of the feed, or of one instrument, on `system`.

        That an instrument is live is news for who heard that it was not; who comes later takes
        it for granted.
        """
        event = SystemStatus(
            feed=self.name,
            state=state,
            since_us=since_us,
            reason=reason,
            instrument=instrument,
            detail=detail,
        )
        self._hub.publish(self._hub.system, event, since_us)
        if instrument is not None and state is State.LIVE:
            self._unsay(instrument)

    def _unsay(self, instrument: str) -> None:
        """Leave an instrument out of the snapshot of `system`."""
        self._hub.system.withdraw(f"{self.name}:{instrument}")
