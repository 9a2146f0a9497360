"""What is counted of a feed: plain numbers, read when the metrics are asked for."""

from __future__ import annotations

MAX_NAMES = 50
"""Names that come from a venue are counted apart up to this many, the rest as `other`."""
OTHER = "other"


class FeedCounters:
    """
    The counters of one feed; they only grow.

    `received` counts frames or answers, `events` published messages, `errors` failures by kind
    (payload, exchange, timeout, connection, rate_limited, http, unexpected), `skipped` polls by
    reason (budget, cached, blocked, backoff, slow), `unhandled` what the connector has no use
    for, by name.
    """

    __slots__ = ("errors", "events", "polls", "received", "reconnects", "skipped", "unhandled")

    def __init__(self) -> None:
        self.received = 0
        self.events = 0
        self.polls = 0
        self.reconnects = 0
        self.errors: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self.unhandled: dict[str, int] = {}

    def error(self, kind: str) -> None:
        """Count a failure."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def skip(self, reason: str) -> None:
        """Count a poll that was left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def ignore(self, name: str) -> None:
        """Count something that the connector has no use for."""
        if name not in self.unhandled and len(self.unhandled) >= MAX_NAMES:
            name = OTHER
        self.unhandled[name] = self.unhandled.get(name, 0) + 1
