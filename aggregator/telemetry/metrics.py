"""
`GET /metrics`: what every part has counted, read when it is asked for.

The parts count in plain numbers of their own; on the way of a message there is no metrics library.
No label names a client. Names: https://prometheus.io/docs/practices/naming/
"""

# More lines than others have: it is a list of what there is.

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from aggregator import __version__
from aggregator.gateway.fanout import Fanout
from aggregator.gateway.server import Server
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.ingest.accounts import Accounts
from aggregator.ingest.feeds import Ingest
from aggregator.model import State

from . import logs
from .account_metrics import families
from .lag import LoopLag
from .page import Family, Row, Rows, by_key, by_owner, counter, gauge, histogram, slices

COUNTS: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
    ("feed_received", "Frames or answers from the venue.", lambda c: c.received),
    ("feed_events", "Messages made of them.", lambda c: c.events),
    ("feed_polls", "Polls begun.", lambda c: c.polls),
    ("feed_reconnects", "Connections begun again.", lambda c: c.reconnects),
    ("feed_backfilled", "Trades missed, and fetched.", lambda c: c.backfilled),
    (
        "feed_clock_ahead",
        "Delays below 0: the venue's clock is ahead of ours.",
        lambda c: c.delays.negative,
    ),
)
TABLES: tuple[tuple[str, str, str, Callable[[Any], Mapping[str, int]]], ...] = (
    ("feed_errors", "What went wrong, by kind.", "kind", lambda c: c.errors),
    ("feed_skipped_polls", "Polls left out, by reason.", "reason", lambda c: c.skipped),
    ("feed_unhandled", "What the connector has no use for.", "name", lambda c: c.unhandled),
    ("feed_ignored", "What it knows and leaves out.", "name", lambda c: c.ignored),
    ("feed_rotations", "Connections replaced, by reason.", "reason", lambda c: c.rotations),
    ("feed_escalations", "Steps against silences.", "step", lambda c: c.escalations),
)


class Metrics:
    """
    Collects from all parts.

    Args:
        hub: channels and deliveries.
        sessions: the clients.
        fanout: the flushes.
        ingest: the feeds.
        server: the HTTP side.
        accounts: the users' accounts at venues, if there may be any.

    Attributes:
        lag: how late the loop is that this is made in; measured from now on.

    """

    def __init__(  # noqa: PLR0917 - what it collects from
        self,
        hub: Hub,
        sessions: Sessions,
        fanout: Fanout,
        ingest: Ingest,
        server: Server,
        accounts: Accounts | None = None,
    ) -> None:
        self._hub = hub
        self._sessions = sessions
        self._fanout = fanout
        self._ingest = ingest
        self._server = server
        self._accounts = accounts
        self.lag = LoopLag(asyncio.get_running_loop())
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        GCCollector(registry=self._process)

    async def page(self) -> bytes:
        """Return the page; others have their turn about each millisecond."""
        parts = []
        for part in self.parts():
            parts.append(part)
            await asyncio.sleep(0)
        return b"".join(parts)

    def parts(self) -> Iterator[bytes]:
        """Yield the page in the text format 0.0.4; in between others may have their turn."""
        yield from slices(self.families())
        yield generate_latest(self._process)

    def families(self) -> Iterator[Family]:
        """Yield every metric of ours."""
        yield gauge("build_info", "The version that runs.", [((__version__,), 1.0)], "version")
        yield from self._of_channels()
        yield from self._of_feeds()
        yield from self._of_states()
        yield from self._of_ways()
        yield from self._of_budgets()
        if self._accounts is not None:
            yield from families(self._accounts.statuses)
        yield from self._of_sessions()
        yield from self._of_what_sessions_did()
        text = "Lines of the log that are lost: not read, or there was no room."
        yield counter("log_lines_lost", text, [((), logs.lost())])

    def _of_channels(self) -> Iterator[Family]:
        channels = list(self._hub.channels.items())
        venues = [(name, channel) for name, channel in channels if channel.exchange]
        yield counter(
            "messages",
            "Messages published, by channel.",
            (((name,), c.seq) for name, c in channels),
            "channel",
        )
        yield counter(
            "unpriced",
            "Price updates left out because the venue gave no price.",
            (((name,), c.unpriced) for name, c in venues),
            "channel",
        )
        yield counter(
            "upstream_gaps",
            "Gaps in what the venue sent: order books that broke, trades that are lost.",
            (((name,), c.gaps) for name, c in venues),
            "channel",
        )
        yield gauge(
            "history_messages",
            "Messages kept for clients that come back.",
            (((name,), len(c.history)) for name, c in channels),
            "channel",
        )

    def _of_feeds(self) -> Iterator[Family]:
        feeds = [(name, status.counters) for name, status in self._ingest.statuses.items()]
        for name, text, read in COUNTS:
            yield counter(name, text, by_owner(feeds, read), "feed")
        for name, text, label, table in TABLES:
            yield counter(name, text, by_key(feeds, table), "feed", label)
        drift = by_key(feeds, lambda c: c.drift.counts)
        text = "What the venue sends otherwise than it documents."
        yield counter("feed_drift", text, drift, "feed", "kind", "where")
        events = [((name,), n) for name, n in self._ingest.scheduler_events.items()]
        yield counter("scheduler_events", "Polls missed, doubled or failed.", events, "event")

    def _of_states(self) -> Iterator[Family]:
        statuses = list(self._ingest.statuses.items())
        states: Rows = (
            ((feed, state.value), float(s.state is state))
            for feed, s in statuses
            for state in State
            if state is not State.UNKNOWN_INSTRUMENT  # of instruments, not of feeds
        )
        yield gauge("feed_state", "1 for the state that the feed is in.", states, "feed", "state")
        text = "Instruments that the venue does not know, or no longer lists."
        unknown: Rows = (((feed,), len(s.unknown)) for feed, s in statuses)
        yield gauge("feed_unknown_instruments", text, unknown, "feed")
        counts: Rows = (
            ((feed, state.value), count)
            for feed, each in list(self._ingest.instruments.items())
            for state, count in each.counts().items()
        )
        yield gauge("feed_instruments", "Instruments by state.", counts, "feed", "state")
        yield gauge("feed_age_seconds", "Since the last message of the feed.", self._ages(), "feed")

    def _ages(self) -> Iterator[Row]:
        for name, channel in list(self._hub.channels.items()):
            if not channel.exchange:
                continue
            times = (slot.last.us for slot in channel.slots.values() if slot.last is not None)
            newest_us = max(times, default=None)
            if newest_us is not None:
                yield (name,), max(0, self._hub.now_us() - newest_us) / 1e6

    def _of_ways(self) -> Iterator[Family]:
        """Yield where the milliseconds go."""
        feeds = [(name, status.counters) for name, status in self._ingest.statuses.items()]
        text = "From the venue's time of the newest data of a frame to its receipt; sampled."
        delays: Rows = (((feed,), c.delays) for feed, c in feeds)
        yield histogram("feed_delay_seconds", text, delays, "feed")
        text = "From receipt to the last write of the fan-out; of the first message of each."
        sent: Rows = (((n,), self._fanout.sent[n]) for n, _ in feeds if n in self._fanout.sent)
        yield histogram("feed_sent_seconds", text, sent, "feed")
        text = "From the beginning of a fan-out to its last write."
        yield histogram("flush_duration_seconds", text, [((), self._fanout.durations)])
        text = "By how much the event loop was late."
        yield histogram("loop_lag_seconds", text, [((), self.lag.seen)])
        text = "The longest of the last 30 to 60 s."
        yield gauge("loop_lag_max_seconds", text, [((), self.lag.longest)])

    def _of_budgets(self) -> Iterator[Family]:
        budgets = [((b.exchange, b.host), b) for b in self._ingest.budgets]
        limits: Rows = (
            ((*where, window), limit)
            for where, b in budgets
            for window, limit in (
                ("second", b.limits.per_second),
                ("minute", b.limits.per_minute),
                ("month", b.limits.per_month),
            )
            if limit
        )
        text = "Weight that a venue's host allows."
        yield gauge("budget_limit", text, limits, "exchange", "host", "window")
        now = [(where, b.left) for where, b in budgets]
        left: Rows = ((where, weight) for where, weight in now if weight is not None)
        text = "Weight that may go at once; below 0 while some is owed."
        yield gauge("budget_left", text, left, "exchange", "host")
        blocked: Rows = ((where, b.blocked_s) for where, b in budgets)
        text = "For how long the host wants no request."
        yield gauge("budget_blocked_seconds", text, blocked, "exchange", "host")

    def _of_sessions(self) -> Iterator[Family]:
        sessions = self._sessions
        gauges = (
            ("sessions", "Clients connected.", len(sessions)),
            ("sessions_lagging", "Clients that are behind.", len(sessions.lagging)),
            (
                "http_connections",
                "Connections that are no WebSocket (yet).",
                self._server.http_connections,
            ),
            (
                "handoff",
                "1 if connections are taken over from aiohttp, 0 on the fallback.",
                self._server.takes_over,
            ),
            (
                "audiences",
                "Groups of sessions that want the same.",
                len(self._hub.audiences) + len(self._hub.paced),
            ),
        )
        for name, text, value in gauges:
            yield gauge(name, text, [((), float(value))])

    def _of_what_sessions_did(self) -> Iterator[Family]:
        counters = self._sessions.counters
        counts = (
            ("connections_accepted", "Connections accepted.", counters.accepted),
            (
                "protocol_errors",
                "Connections closed for breaking RFC 6455.",
                counters.protocol_errors,
            ),
            ("read_pauses", "Times that a client was made to wait.", counters.read_pauses),
            (
                "writes_after_close",
                "Writes to a client that had gone.",
                self._hub.failed_writes,
            ),
            ("messages_conflated", "Messages replaced by a newer one.", counters.folded),
            ("messages_skipped", "Messages not sent, as max_hz asks.", self._hub.skipped),
            ("messages_lost", "Messages that a gap stands for.", counters.lost),
            ("gaps", "Gaps told to clients that were too slow.", counters.gaps),
            ("test_broadcasts", "Messages sent by POST /ws/test.", counters.broadcasts),
            ("tokens_accepted", "Tokens that were good.", self._sessions.access.accepted),
            ("deliveries", "Messages handed to clients.", self._hub.deliveries),
            ("sent_bytes", "Bytes written to clients.", self._hub.sent_bytes),
            ("flushes", "Fan-outs.", self._fanout.flushes),
            ("flush_seconds", "Time spent in fan-outs.", self._fanout.seconds),
        )
        for name, text, count in counts:
            yield counter(name, text, [((), count)])
        yield from self._of_what_sessions_did_by_kind()

    def _of_what_sessions_did_by_kind(self) -> Iterator[Family]:
        counters = self._sessions.counters
        resumed = {str(whole).lower(): n for whole, n in counters.resumed.items()}
        tables: tuple[tuple[str, str, str, Mapping[Any, int]], ...] = (
            ("connections_rejected", "Refused at the handshake.", "reason", counters.rejected),
            ("connections_closed", "Closed by the daemon, by code.", "code", counters.closed),
            ("commands", "Commands of clients.", "type", counters.commands),
            ("refusals", "Commands refused, by code.", "code", counters.refused),
            ("resumes", "Channels that clients came back to.", "recovered", resumed),
            (
                "tokens_rejected",
                "Tokens that were not good, by reason.",
                "reason",
                self._sessions.access.rejected,
            ),
            ("http_errors", "HTTP answers from 400 up, by status.", "status", counters.http_errors),
        )
        for name, text, label, table in tables:
            yield counter(name, text, [((str(k),), v) for k, v in table.items()], label)
