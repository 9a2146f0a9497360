"""
`GET /metrics`: what every part has counted, read when it is asked for.

The parts count in plain numbers of their own; on the way of a message there is no metrics library.
No label names a client. Names: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from aggregator import __version__
from aggregator.gateway.fanout import Fanout
from aggregator.gateway.server import Server
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.ingest.accounts import Accounts
from aggregator.ingest.feeds import Ingest
from aggregator.model import State

from .account_metrics import families

Values = Mapping[tuple[str, ...], float]


class Metrics(Collector):
    """
    Collects from all parts.

    Args:
        hub: channels and deliveries.
        sessions: the clients.
        fanout: the flushes.
        ingest: the feeds.
        server: the HTTP side.
        accounts: the users' accounts at venues, if there may be any.

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
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return the page in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family."""
        yield _gauge("build_info", "The version that runs.", {(__version__,): 1.0}, "version")
        yield from self._of_channels()
        yield from self._of_feeds()
        if self._accounts is not None:
            yield from families(self._accounts.statuses)
        yield from self._of_sessions()
        yield from self._of_what_sessions_did()

    def _of_channels(self) -> Iterator[Metric]:
        channels = self._hub.channels
        yield _counter(
            "messages",
            "Messages published, by channel.",
            {(name,): c.seq for name, c in channels.items()},
            "channel",
        )
        yield _counter(
            "unpriced",
            "Price updates left out because the venue gave no price.",
            {(name,): c.unpriced for name, c in channels.items() if c.exchange},
            "channel",
        )
        yield _counter(
            "upstream_gaps",
            "Gaps in what the venue sent: order books that broke, trades that are lost.",
            {(name,): c.gaps for name, c in channels.items() if c.exchange},
            "channel",
        )

        yield _gauge(
            "history_messages",
            "Messages kept for clients that come back.",
            {(name,): len(c.history) for name, c in channels.items()},
            "channel",
        )

    def _of_feeds(self) -> Iterator[Metric]:
        statuses = self._ingest.statuses
        counts: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
            ("feed_received", "Frames or answers from the venue.", lambda c: c.received),
            ("feed_events", "Messages made of them.", lambda c: c.events),
            ("feed_polls", "Polls begun.", lambda c: c.polls),
            ("feed_reconnects", "Connections begun again.", lambda c: c.reconnects),
            ("feed_backfilled", "Trades missed, and fetched.", lambda c: c.backfilled),
        )
        for name, text, read in counts:
            values: Values = {(feed,): read(s.counters) for feed, s in statuses.items()}
            yield _counter(name, text, values, "feed")
        apart: tuple[tuple[str, str, str, Callable[[Any], Mapping[str, int]]], ...] = (
            ("feed_errors", "What went wrong, by kind.", "kind", lambda c: c.errors),
            ("feed_skipped_polls", "Polls left out, by reason.", "reason", lambda c: c.skipped),
            ("feed_unhandled", "What the connector has no use for.", "name", lambda c: c.unhandled),
            ("feed_ignored", "What it knows and leaves out.", "name", lambda c: c.ignored),
            ("feed_rotations", "Connections replaced, by reason.", "reason", lambda c: c.rotations),
            ("feed_escalations", "Steps against silences.", "step", lambda c: c.escalations),
        )
        for name, text, label, table in apart:
            kinds: Values = {
                (feed, key): value
                for feed, s in statuses.items()
                for key, value in table(s.counters).items()
            }
            yield _counter(name, text, kinds, "feed", label)
        drift: Values = {
            (feed, *finding): count
            for feed, s in statuses.items()
            for finding, count in s.counters.drift.counts.items()
        }
        text = "What the venue sends otherwise than it documents."
        yield _counter("feed_drift", text, drift, "feed", "kind", "where")
        events: Values = {(name,): n for name, n in self._ingest.scheduler_events.items()}
        yield _counter("scheduler_events", "Polls missed, doubled or failed.", events, "event")
        yield from self._of_states()

    def _of_states(self) -> Iterator[Metric]:
        states: Values = {
            (feed, state.value): float(s.state is state)
            for feed, s in self._ingest.statuses.items()
            for state in State
            if state is not State.UNKNOWN_INSTRUMENT  # of instruments, not of feeds
        }
        yield _gauge("feed_state", "1 for the state that the feed is in.", states, "feed", "state")
        unknown: Values = {(feed,): len(s.unknown) for feed, s in self._ingest.statuses.items()}
        text = "Instruments that the venue does not know, or no longer lists."
        yield _gauge("feed_unknown_instruments", text, unknown, "feed")
        counts: Values = {
            (feed, state.value): count
            for feed, each in self._ingest.instruments.items()
            for state, count in each.counts().items()
        }
        yield _gauge("feed_instruments", "Instruments by state.", counts, "feed", "state")
        now_us = self._hub.now_us()
        ages: Values = {
            (name,): (now_us - max(slot.us for slot in slots)) / 1e6
            for name, channel in self._hub.channels.items()
            if channel.exchange and (slots := channel.values())
        }
        yield _gauge("feed_age_seconds", "Since the last message of the feed.", ages, "feed")

    def _of_sessions(self) -> Iterator[Metric]:
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
            yield _gauge(name, text, {(): float(value)})

    def _of_what_sessions_did(self) -> Iterator[Metric]:
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
            ("flushes", "Fan-outs.", self._fanout.flushes),
            ("flush_seconds", "Time spent in fan-outs.", self._fanout.seconds),
        )
        for name, text, count in counts:
            yield _counter(name, text, {(): count})
        yield from self._of_what_sessions_did_by_kind()

    def _of_what_sessions_did_by_kind(self) -> Iterator[Metric]:
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
            yield _counter(name, text, {(str(k),): v for k, v in table.items()}, label)


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    family = CounterMetricFamily(f"aggregator_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    family = GaugeMetricFamily(f"aggregator_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
