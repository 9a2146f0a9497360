"""What `GET /metrics` says of users' accounts; no label names a user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aggregator.ingest.account_status import AccountState, AccountStatus

from .page import Family, Row, by_key, by_owner, counter, gauge

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


def families(statuses: Mapping[str, AccountStatus]) -> Iterator[Family]:
    """Yield every metric of the accounts."""
    accounts = [(name, status.counters) for name, status in statuses.items()]
    states: Iterator[Row] = (
        ((name, state.value), float(status.state is state))
        for name, status in statuses.items()
        for state in AccountState
    )
    text = "1 for the state that the account is in."
    yield gauge("account_state", text, states, "account", "state")
    for name, text, read in COUNTS:
        yield counter(f"account_{name}", text, by_owner(accounts, read), "account")
    for name, text, label, read_table in TABLES:
        yield counter(f"account_{name}", text, by_key(accounts, read_table), "account", label)
