"""What a venue changed is noticed, counted, and said once."""

from __future__ import annotations

import logging

import pytest

from aggregator.connector import Connector
from aggregator.documented import Row
from aggregator.ingest.drift import FIRST, LARGEST, MAX_NAMES, ONE_IN, ZERO_AFTER, Drift

DOCUMENTED = {"ticker": Row("last:number vol:number0 id:text?")}


@pytest.fixture
def drift() -> Drift:
    return Drift("quotes", "fake.ticker", DOCUMENTED, set())


def looks(drift: Drift, payloads: int) -> int:
    return sum(drift.due() for _ in range(payloads))


def test_the_first_and_one_in_a_thousand(drift):
    """All at the beginning, then few; after a reconnect all again for a while."""
    assert looks(drift, FIRST) == FIRST
    assert looks(drift, 10 * (ONE_IN + 1)) == 20
    drift.again()
    assert looks(drift, FIRST + ONE_IN) == FIRST + 1


def test_counted_each_time_and_said_once(drift, caplog):
    """The log has a finding once for a connector, whichever feed meets it; the counter all."""
    said: set = set()
    feeds = [Drift(name, "fake.ticker", DOCUMENTED, said) for name in ("one", "two")]
    with caplog.at_level(logging.WARNING):
        for feed in feeds:
            feed.rows([("ticker", {"last": "1", "vol": "0", "n\new": 2})] * 3)
    assert [feed.counts for feed in feeds] == [{("unknown", "ticker.n ew"): 3}] * 2
    (record,) = caplog.records
    assert record.getMessage() == (
        "feed one: fake.ticker sends a field that is not documented: ticker.n ew"
    )


def test_other_connectors_are_told_for_themselves(caplog):
    """The same change at another connector is news."""
    said: set = set()
    for connector in ("a.ticker", "b.ticker"):
        Drift("x", connector, DOCUMENTED, said).found("event", "hello")
    assert len(caplog.records) == 2


def test_zero_all_the_time(drift):
    """Only after many rows, only if never anything else, and not where zero is ordinary."""
    drift.rows([("ticker", {"last": "0.0", "vol": "0"})] * (ZERO_AFTER - 1))
    assert not drift.counts
    drift.rows([("ticker", {"last": "", "vol": "0"})] * ZERO_AFTER)
    assert drift.counts == {("zero", "ticker.last"): 1}


def test_something_once_is_not_zero(drift):
    """A price that was there is not suspected again."""
    drift.rows([("ticker", {"last": "5", "vol": "0"})])
    drift.rows([("ticker", {"last": "0", "vol": "0"})] * (2 * ZERO_AFTER))
    assert not drift.counts


def test_rows_that_are_none(drift):
    """A row that is no object, or that nobody documented, is no finding of this."""
    drift.rows([("ticker", [1, 2]), ("ticker", None), ("other", {"a": 1})])
    assert not drift.counts


def test_names_are_bounded(drift):
    """However many new fields a venue invents, they are told apart up to a bound."""
    drift.rows([("ticker", {"last": "1", "vol": "1", f"f{n}": n}) for n in range(10 * MAX_NAMES)])
    assert len(drift.counts) == MAX_NAMES + 1
    assert drift.counts["unknown", "other"] == 9 * MAX_NAMES


class Talker(Connector):
    """Finds its rows where they always were."""

    def rows(self, payload):
        return [("ticker", row) for row in payload["data"]]


@pytest.mark.parametrize(
    ("payload", "findings"),
    [
        (b'{"data":[{"last":"1","vol":"2","odd":1}]}', [("unknown", "ticker.odd")]),
        (b'{"data":[{"last":"1","vol":"2"}]}', []),
        (b'{"rows":[]}', [("retyped", "payload")]),
        (b"[]", [("retyped", "payload")]),
        (b"pong", []),
        (b"\xff", []),
        (b'{"rows":"%b"}' % (b"x" * LARGEST), []),
    ],
)
def test_look(drift, payload, findings):
    """Another shape is a finding; what is no JSON is not, nor is what is too large to look at."""
    drift.look(Talker(), payload)
    assert list(drift.counts) == findings
