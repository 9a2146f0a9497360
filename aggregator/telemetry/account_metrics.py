"""What `GET /metrics` says of users' accounts; no label names a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from aggregator.ingest.account_status import AccountState, AccountStatus

COUNTS: tuple[tuple[str, str, Callable[[Any], float]], ...] = (
    ("received", "Frames from the venue.", lambda c: c.received),
    ("reconnects", "Connections begun again.", lambda c: c.reconnects),
    ("reconciliations", "Comparisons with the venue's own state.", lambda c: c.reconciliations),
    ("recovered", "Events that were missed, and found by a comparison.", lambda c: c.recovered),
    ("unaccounted", "Orders with fills that the venue does not tell.", lambda c: c.unaccounted),
)
TABLES: tuple[tuple[str, str, str, Callable[[Any], Mapping[str, int]]], ...] = (
    ("events", "Messages made of them, by type.", "type", lambda c: c.told),
    ("errors", "What went wrong, by kind.", "kind", lambda c: c.errors),
    ("unhandled", "What the connector has no use for.", "name", lambda c: c.unhandled),
)


def families(statuses: Mapping[str, AccountStatus]) -> Iterator[Metric]:
    """Yield every metric family of the accounts."""
    states = GaugeMetricFamily(
        "aggregator_account_state",
        "1 for the state that the account is in.",
        labels=("account", "state"),
    )
    for name, status in statuses.items():
        for state in AccountState:
            states.add_metric((name, state.value), float(status.state is state))
    yield states
    for metric, text, read in COUNTS:
        family = CounterMetricFamily(f"aggregator_account_{metric}", text, labels=("account",))
        for name, status in statuses.items():
            family.add_metric((name,), read(status.counters))
        yield family
    for metric, text, label, table in TABLES:
        family = CounterMetricFamily(
            f"aggregator_account_{metric}", text, labels=("account", label)
        )
        for name, status in statuses.items():
            for key, count in table(status.counters).items():
                family.add_metric((name, key), count)
        yield family
