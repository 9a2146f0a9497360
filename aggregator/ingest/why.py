"""
Why a channel is as it is: everything that is known of where its messages come from, in one answer.

`verdict` is for people; all else are the facts behind it. Ages are in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from aggregator import wire
from aggregator.channel import Channel, Message
from aggregator.hub import Hub
from aggregator.model import State

from .budget import Budget
from .connection import Connection
from .driver import Driver
from .failure import place
from .freshness import FeedStatus
from .instruments import Instruments
from .poller import Poller
from .roster import brief
from .streamer import Streamer

MUCH_LAG_S = 5.0
"""Between the venue's time and the receipt; more is said."""
Facts = dict[str, Any]


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
            "last_message": self._last(channel, instrument),
            "last_gap": self._gap(channel),
        }
        status = self._statuses.get(name)
        if status is None:
            return {"verdict": f"{name} comes from the daemon itself"} | facts
        facts["feed"] = self._feed(status)
        if instrument:
            rows = self._instruments[name].not_live()
            live = {"instrument": instrument, "state": State.LIVE}
            facts["instrument_state"] = next(
                (row for row in rows if row["instrument"] == instrument), live
            )
        runner = self._runners.get(name)
        facts["source"] = source = None if runner is None else source_facts(runner, self._clock())
        if source is not None and source["kind"] == "poll":
            source["next_poll_s"] = self._next_poll_s(name)
        return {"verdict": _verdict(want, facts)} | facts

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

    def _last(self, channel: Channel, instrument: str) -> Facts | None:
        slot = channel.slots.get(instrument) if instrument else None
        known = (slot.last,) if slot else (each.last for each in channel.slots.values())
        newest = max((m for m in known if m), key=lambda m: m.seq, default=None)
        if newest is None:
            return None
        message = orjson.loads(wire.payload_of(newest.frame))
        given = message.get("exchange_us")
        return {
            "seq": newest.seq,
            "age_s": self._age_s(newest),
            "lag_s": None if given is None else (newest.us - given) / 1e6,
            "book": None if newest.slot is None or newest.slot.book is None else message["data"],
        }

    def _gap(self, channel: Channel) -> Facts | None:
        gap = channel.last_gap
        if gap is None:
            return None
        message = orjson.loads(wire.payload_of(gap.frame))
        return {
            "seq": gap.seq,
            "age_s": self._age_s(gap),
            "instrument": message["instrument"],
            "data": message["data"],
        }

    def _age_s(self, message: Message) -> float:
        return max(0.0, (self._hub.now_us() - message.us) / 1e6)


def _verdict(want: str, facts: Facts) -> str:
    """Return one line that says how it is, and why."""
    feed, last = facts["feed"], facts["last_message"]
    state, reason = feed["state"], feed["reason"]
    alone = facts.get("instrument_state", {})
    if state in {State.LIVE, State.LIMITED} and alone.get("state", State.LIVE) != State.LIVE:
        return f"{want} is {alone['state']}: {alone['reason']}; the feed's others are {state}"
    text = f"{want} is {state} for {brief(feed['since_s'])}: {reason}"
    source = facts["source"] or {}
    quiet = state in {State.STALE, State.LATE} and source.get("last_frame_age_s") is not None
    if quiet and source["last_frame_age_s"] < feed["since_s"]:
        text += "; the connection is open and answers, but brings no data"
    if last is not None and (last["lag_s"] or 0) > MUCH_LAG_S and state == State.LIVE:
        text += f"; what arrives is {brief(last['lag_s'])} old by the venue's own time"
    error = feed["last_error"]
    if error and state in {State.STALE, State.DOWN} and error["text"] not in text:
        text += f"; last error {brief(error['age_s'])} ago: {error['text']}"
    return text


def source_facts(runner: Streamer | Poller | Driver, now: float) -> Facts:
    """Return what there is to say of where a feed's data come from, at this monotonic time."""
    if isinstance(runner, Streamer):
        line = runner.line
        budget = runner.fetcher.budget if runner.fetcher is not None else None
        facts = {"kind": "stream", "connected": False, "rotating": runner.rotating}
        if line is not None:
            facts |= {"url": place(line.url)} | _connection_facts(line.connection, now)
        return facts | {"budget": _budget_facts(budget)}
    if isinstance(runner, Poller):
        wait_s = max(0.0, runner.not_before - now)
        facts = {"kind": "poll", "interval_s": runner.interval_s, "backing_off_s": wait_s}
        return facts | {"budget": _budget_facts(runner.budget)}
    return {"kind": "driver"}


def _connection_facts(connection: Connection | None, now: float) -> Facts:
    if connection is None:
        return {}
    ages = {
        "age_s": connection.opened,
        "last_frame_age_s": connection.last_frame,
        "last_data_age_s": connection.last_data,
        "last_acknowledgement_age_s": connection.receipts.last,
    }
    return {
        "connected": True,
        **{name: None if at is None else now - at for name, at in ages.items()},
        "unacknowledged": sorted(connection.receipts.due),
        "leaving": connection.leaving,
    }


def _budget_facts(budget: Budget | None) -> Facts | None:
    if budget is None:
        return None
    blocked_s = budget.blocked_s
    return {
        "host": budget.host,
        "per_minute": budget.limits.per_minute,
        "left": budget.left,
        "blocked_s": blocked_s,
        "block_reason": budget.block_reason if blocked_s else None,
    }
