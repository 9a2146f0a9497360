"""What is counted of a feed: plain numbers, read when the metrics are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from aggregator.connector import Output
from aggregator.histogram import ARRIVAL_S, Histogram

from .drift import Drift
from .fetched import is_backfilled

MAX_NAMES = 50
"""Names that come from a venue are counted apart up to this many, the rest as `other`."""
OTHER = "other"
EVERY = 128
"""One of so many frames has its delay measured, since that costs a tenth of a message's way;"""
AT_LEAST_S = 0.1
"""and the first one after so long, so that a feed with few of them is measured too."""


class LastError(NamedTuple):
    """The newest failure: its kind, what it says (not cleaned of keys), and when, monotonic."""

    kind: str
    text: str
    at: float


class FeedCounters:
    """
    The counters of one feed; they only grow.

    `received` counts frames or answers, `events` published messages, `errors` failures by kind
    (payload, exchange, timeout, connection, rate_limited, http, unexpected), `skipped` polls by
    reason (budget, cached, blocked, backoff, slow), `unhandled` what the connector has no use
    for, by name, `ignored` what it knows and leaves out, by name, `backfilled` trades that were
    missed and fetched, `rotations` connections that a second one replaced, by reason,
    `escalations` steps taken against silent instruments, by step. `drift` has what the venue sends
    otherwise than documented, `last_error` the newest failure, `delays` how long data take from the
    venue, as far as it is measured: `measure_at` is when it is due, on the monotonic clock.
    """

    __slots__ = (
        "backfilled",
        "delays",
        "drift",
        "errors",
        "escalations",
        "events",
        "ignored",
        "last_error",
        "measure_at",
        "polls",
        "received",
        "reconnects",
        "rotations",
        "skipped",
        "unhandled",
    )

    def __init__(self, drift: Drift | None = None) -> None:
        self.received = 0
        self.events = 0
        self.polls = 0
        self.reconnects = 0
        self.backfilled = 0
        self.errors: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self.unhandled: dict[str, int] = {}
        self.ignored: dict[str, int] = {}
        self.rotations: dict[str, int] = {}
        self.escalations: dict[str, int] = {}
        self.last_error: LastError | None = None
        self.drift = drift or Drift("", "", {}, set())
        self.delays = Histogram(ARRIVAL_S)
        self.measure_at = float("-inf")

    def measure(self, outputs: Iterable[Output], received_us: int, now: float) -> None:
        """
        Measure the delay of what one frame or answer brought: that of the newest of it.

        What has no time, or was fetched after a loss, says nothing. `received_us` is when it came,
        in microseconds since the epoch, `now` the same on the monotonic clock.
        """
        self.measure_at = now + AT_LEAST_S
        newest_us = max(
            (
                time_us
                for output in outputs
                if (time_us := getattr(output, "exchange_us", None)) is not None
                and not is_backfilled(output)
            ),
            default=None,
        )
        if newest_us is not None:
            self.delays.observe((received_us - newest_us) / 1e6)

    def error(self, kind: str, text: str = "") -> None:
        """Count a failure, and remember what it says."""
        self.errors[kind] = self.errors.get(kind, 0) + 1
        self.last_error = LastError(kind, text, time.monotonic())

    def skip(self, reason: str) -> None:
        """Count a poll that was left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def rotate(self, reason: str) -> None:
        """Count a connection that a second one replaced."""
        self.rotations[reason] = self.rotations.get(reason, 0) + 1

    def escalate(self, step: str) -> None:
        """Count a step taken against silent instruments."""
        self.escalations[step] = self.escalations.get(step, 0) + 1

    def ignore(self, name: str) -> None:
        """Count something that the connector has no use for."""
        self.drift.found("event", _count(self.unhandled, name))

    def leave_out(self, name: str) -> None:
        """Count something that the connector knows and leaves out."""
        _count(self.ignored, name)


def _count(counts: dict[str, int], name: str) -> str:
    """Count a name, which a connector may have from the venue; return as what it is counted."""
    if name not in counts and len(counts) >= MAX_NAMES:
        name = OTHER
    counts[name] = counts.get(name, 0) + 1
    return name
