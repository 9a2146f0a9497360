"""The page for Prometheus: whole, readable, and named as is the custom."""

import asyncio
import re
from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aggregator import __version__, config, sources
from aggregator.app import Daemon
from aggregator.ingest.counters import FeedCounters
from aggregator.model import Gap, PriceUpdate, State


@pytest.fixture
async def daemon(monkeypatch):
    """All parts, wired, with nothing running."""
    monkeypatch.setattr(sources, "PLACES", ())
    daemon = Daemon(config.load(environ={}))
    yield daemon
    daemon.fanout.stop()


@pytest.fixture
def page(daemon):
    """Return a function that reads the page: values by name and labels, and the families."""

    def page():
        text = daemon.server._metrics().decode()
        families = {f.name: f for f in text_string_to_metric_families(text)}
        samples = [s for family in families.values() for s in family.samples]
        values = {(s.name, *sorted(s.labels.values())): s.value for s in samples}
        assert len(values) == len(samples), "a sample is there twice"
        lines = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        assert len(lines) == len(set(lines)), "a family is there twice"
        return values, families

    return page


async def test_it_can_be_parsed_and_is_named_as_is_the_custom(page):
    """Counters end in _total, units are base units, every family has its line of help."""
    _, families = page()
    ours = {name: f for name, f in families.items() if name.startswith("aggregator_")}
    assert len(ours) > 20
    for name, family in ours.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
        assert family.documentation.endswith(".")
        assert not name.endswith(("_us", "_ms", "_total", "_count"))
        for sample in family.samples:
            assert sample.name.endswith("_total") is (family.type == "counter")
    assert {"process_resident_memory_bytes", "python_gc_collections"} <= set(families)


async def test_it_says_what_has_happened(daemon, page):
    """The counters of the parts, under their labels."""
    before, _ = page()
    assert before["aggregator_build_info", __version__] == 1
    assert before["aggregator_messages_total", "bitcoinprice"] == 0
    channel = daemon.hub.channels["bitcoinprice"]
    now_us = daemon.hub.now_us()
    daemon.hub.publish(channel, PriceUpdate("BTC/USDT", "1.50", b"{}"), now_us)
    daemon.hub.publish(channel, PriceUpdate("BTC/USDT", "", b"{}"), now_us)
    daemon.hub.publish(channel, Gap(instrument="BTC/USDT", data={}), now_us)
    status = daemon.ingest.statuses["bitcoinprice"]
    status.counters.error('odd "kind"\n')
    status.counters.skip("budget")
    status.counters.ignore("x")
    status.counters.escalate("reconnect")
    status.unknown_instrument("A/B", "no such thing")
    status.down("no answer")
    daemon.sessions.counters.rejected["origin"] += 3
    daemon.sessions.counters.closed[4008] += 1
    values, _ = page()
    assert values["aggregator_messages_total", "bitcoinprice"] == 2
    assert values["aggregator_unpriced_total", "bitcoinprice"] == 1
    assert values["aggregator_upstream_gaps_total", "bitcoinprice"] == 1
    assert values["aggregator_feed_errors_total", "bitcoinprice", 'odd "kind"\n'] == 1
    assert values["aggregator_feed_skipped_polls_total", "bitcoinprice", "budget"] == 1
    assert values["aggregator_feed_unhandled_total", "bitcoinprice", "x"] == 1
    assert values["aggregator_feed_escalations_total", "bitcoinprice", "reconnect"] == 1
    assert values["aggregator_feed_instruments", "bitcoinprice", "unknown_instrument"] == 1
    assert values["aggregator_feed_instruments", "bitcoinprice", "connecting"] == 1
    assert values["aggregator_connections_rejected_total", "origin"] == 3
    assert values["aggregator_connections_closed_total", "4008"] == 1
    assert values["aggregator_feed_age_seconds", "bitcoinprice"] >= 0
    assert ("aggregator_feed_age_seconds", "ethprice") not in values


async def test_everything_that_is_counted_is_on_the_page(daemon, page):
    """A counter that nobody can read is none."""
    number = 100_000

    def mark(counters, *names):
        nonlocal number
        for name in names:
            number += 1
            if isinstance(getattr(counters, name), dict):
                getattr(counters, name)["some"] = number
            else:
                setattr(counters, name, number)

    mark(daemon.sessions.counters, *(f.name for f in fields(daemon.sessions.counters)))
    names = set(FeedCounters.__slots__) - {"drift", "last_error"}
    mark(daemon.ingest.statuses["ethprice"].counters, *sorted(names))
    number += 1
    daemon.ingest.statuses["ethprice"].counters.drift.counts["unknown", "x"] = number
    mark(daemon.ingest, "scheduler_events")
    values, _ = page()
    assert set(range(100_001, number + 1)) <= set(values.values())


async def test_each_feed_is_in_exactly_one_state(daemon, page):
    """As the gauge of states says it."""
    daemon.ingest.statuses["ethprice"].down("no answer")
    _, families = page()
    in_state = {}
    for sample in families["aggregator_feed_state"].samples:
        if sample.value:
            in_state.setdefault(sample.labels["feed"], []).append(sample.labels["state"])
    assert set(in_state) == set(daemon.ingest.statuses)
    assert in_state.pop("ethprice") == [State.DOWN]
    assert all(states == [State.CONNECTING] for states in in_state.values())


async def test_whether_connections_are_taken_over(daemon, page):
    """An operator sees when clients are served by the fallback."""
    assert page()[0]["aggregator_handoff",] == 1
    daemon.server.takes_over = False
    assert page()[0]["aggregator_handoff",] == 0


async def test_reading_it_does_not_need_a_loop_turn(daemon, page):
    """It is plain reading: two pages of an idle daemon agree but for the process's own."""
    await asyncio.sleep(0)
    one, two = page()[0], page()[0]
    ours = [key for key in one if key[0].startswith("aggregator_")]
    assert all(one[key] == two[key] for key in ours)
