"""
Why a channel is as it is: everything that is known of where its messages come from, in one answer.

`verdict` is for people; all else are the facts behind it. Ages are in seconds. Asked about one
instrument, what is said of messages, losses and order books is about that instrument alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from aggregator.channel import Channel, Message, Slot
from aggregator.hub import Hub
from aggregator.model import State

from .driver import Driver
from .facts import Facts, age_s, book_facts, gap_facts, last_facts, newest_gap, read, source_facts
from .freshness import FeedStatus
from .instruments import Instruments
from .poller import Poller
from .roster import brief
from .streamer import Streamer

MUCH_LAG_S = 5.0
"""Between the venue's time and the receipt; more is said."""
RECENT_S = 60.0
"""A payload that could not be read within this time is said of a feed that is live."""
MAX_ROWS = 20
"""Instruments that are told of with a channel; there may be thousands."""
MAX_NAMED = 3
"""Those that are named in a verdict."""


class Why:
    """
    Explains channels.

    Args:
        hub: where the channels are.
        statuses: the state of each feed.
        instruments: how the instruments of each feed are doing.
        runners: who runs each feed; one that can't be run has none.
        next_poll_s: tells when a feed is polled next.
        clock: a monotonic clock, in seconds.

    """

    def __init__(  # noqa: PLR0917 - what is asked
        self,
        hub: Hub,
        statuses: Mapping[str, FeedStatus],
        instruments: Mapping[str, Instruments],
        runners: Mapping[str, Streamer | Poller | Driver],
        next_poll_s: Callable[[str], float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hub = hub
        self._statuses = statuses
        self._instruments = instruments
        self._runners = runners
        self._next_poll_s = next_poll_s
        self._clock = clock

    def explain(self, want: str) -> Facts:
        """
        Explain a channel, or an instrument of it, written as in a subscription.

        Raises:
            LookupError: there is no such channel, or it has no such instrument.

        """
        name, _, instrument = want.partition(":")
        if not self._hub.find(want) or name not in self._hub.channels:
            raise LookupError(want)
        channel = self._hub.channels[name]
        facts: Facts = {
            "channel": name,
            "instrument": instrument or None,
            "exchange": channel.exchange or None,
            "epoch": channel.epoch,
            "seq": channel.seq,
            "subscribers": self._hub.subscribers(channel),
            **self._messages(channel, instrument),
        }
        status = self._statuses.get(name)
        if status is None:
            return {"verdict": f"{name} comes from the daemon itself"} | facts
        facts["feed"] = self._feed(status)
        if instrument:
            facts["instrument_state"] = self._state(channel, instrument, facts["book"])
        else:
            facts["instruments"] = self._not_live(channel)
        runner = self._runners.get(name)
        facts["source"] = source = None if runner is None else source_facts(runner, self._clock())
        if source is not None and source["kind"] == "poll":
            source["next_poll_s"] = self._next_poll_s(name)
        return {"verdict": _verdict(want, facts)} | facts

    def _messages(self, channel: Channel, instrument: str) -> Facts:
        """Return what was published last; of an instrument that had nothing yet: nothing."""
        now_us = self._hub.now_us()
        slots = channel.slots
        found = [slots[instrument]] if instrument in slots else []
        places = found if instrument else slots.values()
        newest = max((s.last for s in places if s.last), key=lambda m: m.seq, default=None)
        gap = newest_gap(channel, found[0] if found else None)
        if instrument and not found:
            gap = None
        facts: Facts = {
            "last_message": None if newest is None else last_facts(newest, now_us),
            "last_gap": None if gap is None else gap_facts(gap, now_us),
        }
        if instrument:
            facts["book"] = book_facts(found[0], gap, now_us) if found else None
        return facts

    def _feed(self, status: FeedStatus) -> Facts:
        counters, now = status.counters, self._clock()
        error = counters.last_error
        return {
            "state": status.state,
            "since_s": max(0.0, (self._hub.now_us() - status.since_us) / 1e6),
            "reason": status.reason,
            "last_data_age_s": None if status.last_data is None else now - status.last_data,
            "last_error": error
            and {
                "kind": error.kind,
                "text": status.clean(error.text),
                "age_s": now - error.at,
            },
            "errors": counters.errors,
            "backfilled": counters.backfilled,
            "ignored": counters.ignored,
            "reconnects": counters.reconnects,
            "rotations": counters.rotations,
            "escalations": counters.escalations,
            "skipped_polls": counters.skipped,
            "drift": [
                {"kind": kind, "where": where, "count": count}
                for (kind, where), count in counters.drift.counts.items()
            ],
            "unknown_instruments": status.unknown,
        }

    def _state(self, channel: Channel, instrument: str, book: Facts | None) -> Facts:
        rows = self._instruments[channel.name].not_live()
        for row in rows:
            if row["instrument"] == instrument:
                return row
        state: Facts = {"instrument": instrument, "state": State.LIVE}
        slot = channel.slots.get(instrument)
        if book is not None and book["state"] == "lost":
            state |= {"state": State.CONNECTING, "reason": _lost(book["age_s"], book["cause"])}
        elif slot is None or slot.last is None:
            state |= {"state": State.CONNECTING, "reason": "no data yet"}
        return state

    def _not_live(self, channel: Channel) -> Facts:
        """Return which instruments of a feed are not as they should be, and why."""
        now_us = self._hub.now_us()
        rows = {row["instrument"]: row for row in self._instruments[channel.name].not_live()}
        for name, slot in channel.slots.items():
            lost = _lost_book(slot)
            known = rows.get(name, {}).get("state") != State.UNKNOWN_INSTRUMENT
            if lost is not None and known:
                reason = _lost(age_s(lost, now_us), read(lost)["data"]["cause"])
                row: Facts = {"instrument": name, "state": State.CONNECTING, "age_s": None}
                rows[name] = row | rows.get(name, {}) | {"reason": reason}
        return {"not_live_count": len(rows), "not_live": list(rows.values())[:MAX_ROWS]}


def _lost_book(slot: Slot) -> Message | None:
    """Return the loss that ended an order book, while there is no other."""
    return slot.lost if slot.last is None else None


def _lost(seconds: float, cause: str) -> str:
    return f"its order book was lost {brief(seconds)} ago: {cause}"


def _verdict(want: str, facts: Facts) -> str:
    """Return one line that says how it is, and why."""
    feed, last = facts["feed"], facts["last_message"]
    state, error = feed["state"], feed["last_error"]
    alone = facts.get("instrument_state", {"state": State.LIVE})
    instrument = facts["instrument"]
    if state in {State.LIVE, State.LIMITED} and alone["state"] != State.LIVE:
        text = f"{want} is {alone['state']}: {alone['reason']}"
        if (book := facts["book"]) and book["state"] == "lost" and book["cause"] not in text:
            text += f"; {_lost(book['age_s'], book['cause'])}"
        text += f"; the feed's others are {state}"
        # What can't be read of an order book is said with the instrument.
        named = error is not None and instrument in error["text"]
        return text + _last_error(error) * named
    text = f"{want} is {state} for {brief(feed['since_s'])}: {feed['reason']}"
    source = facts["source"] or {}
    quiet = state in {State.STALE, State.LATE} and source.get("last_frame_age_s") is not None
    if quiet and source["last_frame_age_s"] < feed["since_s"]:
        text += "; the connection is open and answers, but brings no data"
    if last is not None and (last["lag_s"] or 0) > MUCH_LAG_S and state == State.LIVE:
        text += f"; what arrives is {brief(last['lag_s'])} old by the venue's own time"
    failing = state in {State.STALE, State.DOWN}
    if error and (failing or _is_fresh(error)) and error["text"] not in text:
        text += _last_error(error)
    if state in {State.LIVE, State.LIMITED}:
        text += _others(facts.get("instruments", {}))
    return text


def _is_fresh(error: Facts) -> bool:
    """Whether something can't be read just now; of all else the state of the feed tells."""
    return bool(error["kind"] == "payload" and error["age_s"] < RECENT_S)


def _last_error(error: Facts | None) -> str:
    return f"; last error {brief(error['age_s'])} ago: {error['text']}" if error else ""


def _others(instruments: Facts) -> str:
    """Return what to add about instruments that are not live, though their feed is."""
    rows = instruments.get("not_live", [])
    if not rows:
        return ""
    named = ", ".join(f"{r['instrument']} ({r['state']}: {r['reason']})" for r in rows[:MAX_NAMED])
    more = instruments["not_live_count"] - MAX_NAMED
    return f"; not live: {named}" + (f" and {more:,} more" if more > 0 else "")
