"""
How each instrument is doing: looked at about once a second, beside the way of the messages.

A look compares the last message of each instrument with that of the look before; what was found
unusual (`rhythm`) is `late`, then `stale`, and `live` with the next message. Each change is one
message on `system`. A polled feed gets all its instruments with each poll: there one is late or
stale when the feed would be. What a venue promises holds whatever was learned. What had no data
yet has no rhythm: it is `connecting`, which is told to who asks, and stale after `NEVER_S`.

Time is counted only while data of the feed are coming, and no longer from look to look than is
usual: so an outage of the whole feed, which has a state of its own, and a daemon that was
suspended are nobody's silence.
"""

# A few lines more than others have: all that an instrument is judged by is in one place.

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator

from aggregator.channel import Channel, Message, Slot
from aggregator.hub import Hub
from aggregator.model import State

from .escalation import Escalation
from .freshness import INTERVALS_UNTIL_LATE, FeedStatus
from .instrument import Instrument, Row, row
from .rhythm import LONGEST_SILENCES, LOOK_S, Rhythm, Sums
from .roster import Detail, ages, brief, listing

log = logging.getLogger(__name__)

SLICE = 250
"""Instruments looked at before others get their turn: well below a millisecond."""
STATES = (State.CONNECTING, State.LIVE, State.LATE, State.STALE, State.UNKNOWN_INSTRUMENT)
"""What an instrument can be."""
LATE_UNTIL_STALE = 2.0
"""What is late so many times as long is stale."""
RARE_S = 600.0
"""What had no data yet is taken for one that has some at random once in so long."""
NEVER_S = 15 * RARE_S
"""Without any for so long, while its feed had some, it is stale: by chance one in three million."""


class Instruments:
    """
    Looks at one feed and its instruments.

    Args:
        status: the feed's state.
        channel: the feed's channel.
        hub: tells the time of the wall clock.
        look_s: time between two looks, in seconds.
        silence_s: how long at most the venue promises to be silent about an instrument.

    Attributes:
        escalation: does something about instruments that are stale; `None`: nothing can be done.
        watched: what is known of each instrument.
        recalled: what was learned before the start of those that have yet to be watched.

    """

    def __init__(
        self,
        status: FeedStatus,
        channel: Channel,
        hub: Hub,
        *,
        look_s: float = LOOK_S,
        silence_s: float | None = None,
    ) -> None:
        self._status = status
        self._channel = channel
        self._hub = hub
        self._look_s = look_s
        self._silence_s = silence_s
        self.escalation: Escalation | None = None
        self.watched: dict[str, Instrument] = {}
        self.recalled: dict[str, Sums] = {}
        self._stale: dict[str, Instrument] = {}
        self._looked: float | None = None
        self._time = 0.0
        # The same, and when the feed is stale: a silence of it is learned to its end.
        self._feed_time = 0.0
        self._resumed: float | None = None
        self._data: float | None = None
        self._data_at = 0.0
        self._changes: dict[State, list[str]] = {}

    def changed(self) -> None:
        """Take over what has changed of the feed's options."""
        for each in self.watched.values():
            each.floor_s = self._status.floor_s

    def look(self, now: float) -> Iterator[None]:
        """
        Look at everything, in slices: others should have their turn after each.

        `now` is a monotonic clock in seconds.
        """
        status = self._status
        elapsed = 0.0 if self._looked is None else min(now - self._looked, 2 * self._look_s)
        self._looked = now
        if status.flowing or status.state is State.LATE:
            self._time += elapsed
            self._feed_time += elapsed
        elif status.state is State.STALE and status.pinged:
            self._feed_time += elapsed
        self._look_at_feed(now)
        if not status.flowing:
            # Its own state says it all. Afterwards each instrument has its time again.
            self._resumed = None
            return
        if self._resumed is None:
            self._resumed = self._time
        self._take_in()
        names = list(self.watched)
        withheld, status.withheld = status.withheld, set()
        for start in range(0, len(names), SLICE):
            if start:
                yield
            self._look_at(names[start : start + SLICE], withheld)
        self._log()
        if self.escalation is not None and not status.polled:
            stale = self._stale.items()
            silent = {n: self._usual_s(e) or (0.0 if e.last else RARE_S) for n, e in stale}
            self.escalation.look(self._time, silent)

    def _look_at_feed(self, now: float) -> None:
        status = self._status
        if status.last_data != self._data:
            if self._data is not None:
                self._learn(status.rhythm, self._feed_time - self._data_at)
            self._data, self._data_at = status.last_data, self._feed_time
        elif self._data is None:
            return
        elif status.late_limit_s < self._feed_time - self._data_at < status.stale_limit_s:
            status.late(now)

    def _learn(self, rhythm: Rhythm, interval_s: float) -> None:
        if interval_s <= 1.5 * self._look_s:
            rhythm.beats += 1
            return
        if rhythm.known and interval_s + 2 * self._look_s > self._status.stale_limit_s:
            # A failure, it seems: many of them must not make their like usual.
            interval_s = min(interval_s, rhythm.limit_s / LONGEST_SILENCES)
        rhythm.add(interval_s)

    def _take_in(self) -> None:
        """Begin to watch what is new, also what never had any data."""
        channel, watched = self._channel, self.watched
        new = {name for name in channel.slots.keys() - watched.keys() if channel.slots[name].last}
        for name in new | (channel.instruments or set()) - watched.keys():
            each = watched[name] = Instrument(self._status.floor_s, self._look_s, self._time)
            if sums := self.recalled.pop(name, None):
                each.recall(sums)
            if slot := channel.slots.get(name):
                each.last = self._status.fetched.heard(name, slot.last)

    def _look_at(self, names: list[str], withheld: set[str]) -> None:
        now, soon_s = self._time, 1.5 * self._look_s
        polled = self._status.polled
        patience_s = self._status.late_limit_s if polled else self._status.floor_s
        watched, slots, heard = self.watched, self._channel.slots, self._status.fetched.heard
        for name in names:
            each, slot = watched[name], slots.get(name)
            last = slot.last if slot is not None else None
            if last is None and not self._channel.has(name):
                # It was withdrawn, and has a state of its own.
                del watched[name]
                self._stale.pop(name, None)
                continue
            if last is not each.last:
                last = heard(name, last)
            if last is None or (last is each.last and name not in withheld):
                # First the cheap question: most are silent for a second or two all the time.
                if now - each.at > patience_s and now > each.due:
                    self._judge(name, each, slot)
            else:
                if each.state is State.CONNECTING:
                    each.state = State.LIVE
                elif each.state is not State.LIVE:
                    self._back(name, each, last)
                interval_s = now - each.at
                if interval_s <= soon_s:
                    each.beats += 1
                else:
                    each.due = now
                    if each.last is not None and not polled:
                        each.add(interval_s)
                each.last, each.at = last, now

    def _judge(self, name: str, each: Instrument, slot: Slot | None) -> None:
        """Say that an instrument is late or stale, if it is."""
        has_rhythm = each.known or self._status.polled or self._silence_s is not None
        if each.last is None and not has_rhythm:
            self._judge_new(name, each, slot)
            return
        since = max(each.at, self._resumed or 0.0)
        silent_s = self._time - since
        late_s, stale_s = self._limits(each)
        if silent_s <= self._feed_time - self._data_at + self._status.floor_s:
            # No longer than the feed as a whole, which has a state of its own.
            each.due = self._time
            return
        if silent_s <= late_s:
            each.due = since + late_s
            return
        state = State.STALE if silent_s > stale_s else State.LATE
        each.due = math.inf if state is State.STALE else since + stale_s
        if each.state is state:
            return
        last = slot.last if slot is not None else None
        age_s = None if last is None else max(0, self._hub.now_us() - last.us) / 1e6
        usual_s = self._usual_s(each)
        reason = f"no data for {brief(silent_s if age_s is None else age_s)}"
        reason += "" if usual_s is None else f", usual {brief(usual_s)}"
        if self._silence_s is not None and silent_s > self._silence_s:
            reason += f"; the venue promises some every {self._silence_s:g} s"
        if slot is not None and state is State.STALE:
            slot.stale = last
        self._change(name, each, state, reason, ages(age_s, usual_s))

    def _judge_new(self, name: str, each: Instrument, slot: Slot | None) -> None:
        """Judge an instrument that had no data yet: quietly, since it may be a rare one."""
        silent_s, stale_after_s = self._time - each.at, self._status.stale_after_s
        never_s = max(NEVER_S, self._status.stale_limit_s)
        each.reason = f"no data yet, for {brief(silent_s)}"
        if silent_s <= stale_after_s:
            each.due = each.at + stale_after_s
        elif silent_s <= never_s:
            each.due = each.at + never_s
            if each.state is State.LIVE:
                each.state = State.CONNECTING
                self._changes.setdefault(State.CONNECTING, []).append(name)
        else:
            each.due = math.inf
            if slot is not None:
                slot.stale = slot.last
            self._change(name, each, State.STALE, each.reason, ages(None, None))

    def _limits(self, each: Instrument) -> tuple[float, float]:
        """Return the longest silences, in seconds, that are not late and not stale."""
        status = self._status
        if status.polled:
            return status.late_limit_s, status.stale_limit_s
        late_s = max(each.limit_s, INTERVALS_UNTIL_LATE * status.effective_interval_s)
        stale_s = max(status.stale_limit_s, LATE_UNTIL_STALE * late_s)
        if self._silence_s is None:
            return late_s, stale_s
        bounds = self._silence_s + status.floor_s, self._silence_s + status.stale_after_s
        return min(late_s, bounds[0]), min(stale_s, bounds[1])

    def _usual_s(self, each: Instrument) -> float | None:
        return (self._status.rhythm if self._status.polled else each).usual_s

    def _back(self, name: str, each: Instrument, last: Message) -> None:
        self._stale.pop(name, None)
        # Where its data wait for others, the last value is still the same.
        self._channel.slots[name].stale = None
        silent_s = self._time - each.at
        if each.last is not None and last is not each.last:
            silent_s = max(0, last.us - each.last.us) / 1e6
        self._change(name, each, State.LIVE, f"data again after {brief(silent_s)}")

    def _change(
        self, name: str, each: Instrument, state: State, reason: str, detail: Detail | None = None
    ) -> None:
        each.state, each.reason = state, reason
        if state is State.STALE:
            self._stale[name] = each
        self._status.say(state, self._hub.now_us(), reason, name, detail)
        self._changes.setdefault(state, []).append(name)

    def _log(self) -> None:
        """Write one line for all that went into the same state."""
        for state, names in self._changes.items():
            level = logging.WARNING if state is State.STALE else logging.INFO
            first = self.watched[names[0]].reason
            reason = first if len(names) == 1 else f"{len(names):,} instruments"
            log.log(level, "feed %s: %s %s: %s", self._status.name, listing(names), state, reason)
        self._changes.clear()

    # What operators ask.

    def counts(self) -> Counter[State]:
        """Return how many instruments are in which state; `connecting`: there were no data yet."""
        unseen = len((self._channel.instruments or set()) - self.watched.keys())
        found = Counter(dict.fromkeys(STATES, 0))
        found.update(
            State.CONNECTING if each.last is None and each.state is State.LIVE else each.state
            for each in self.watched.values()
        )
        found.update(
            {State.CONNECTING: unseen, State.UNKNOWN_INSTRUMENT: len(self._status.unknown)}
        )
        return found

    def not_live(self) -> Iterator[Row]:
        """Yield each instrument that is not live, with its age in seconds."""
        now_us, slots = self._hub.now_us(), self._channel.slots
        for name, each in self.watched.items():
            if each.state is State.CONNECTING:
                reason = f"no data yet, for {brief(self._time - each.at)}"
                yield row(name, each.state, reason, None)
            elif each.state is not State.LIVE:
                last = slots[name].last if name in slots else None
                age_s = None if last is None else max(0, now_us - last.us) / 1e6
                yield row(name, each.state, each.reason, age_s)
        for name, reason in self._status.unknown.items():
            yield row(name, State.UNKNOWN_INSTRUMENT, reason, None)
