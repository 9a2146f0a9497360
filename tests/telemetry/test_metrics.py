"""The page for Prometheus: whole, readable, and named as is the custom."""

import asyncio
import re
from dataclasses import fields

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aggregator import __version__, config, sources
from aggregator.app import Daemon
from aggregator.connector import Budget as Limits
from aggregator.histogram import SENDING_S, Histogram
from aggregator.ingest.counters import FeedCounters
from aggregator.ingest.freshness import FeedStatus
from aggregator.ingest.instruments import Instruments
from aggregator.model import Gap, PriceUpdate, State
from aggregator.telemetry.metrics import Metrics
from aggregator.telemetry.page import LINES


def of(daemon):
    """Return the metrics of a daemon."""
    parts = (daemon.hub, daemon.sessions, daemon.fanout, daemon.ingest)
    return Metrics(*parts, daemon.server, daemon.accounts)


@pytest.fixture
async def daemon(monkeypatch):
    """All parts, wired, with nothing running."""
    monkeypatch.setattr(sources, "PLACES", ())
    daemon = Daemon(config.load(environ={}))
    yield daemon
    daemon.fanout.stop()


@pytest.fixture
async def metrics(daemon):
    metrics = of(daemon)
    metrics.lag.stop()
    return metrics


@pytest.fixture
def page(metrics):
    """Return a function that reads the page: values by name and labels, and the families."""

    def page():
        text = b"".join(metrics.parts()).decode()
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
    names = set(FeedCounters.__slots__) - {"delays", "drift", "last_error", "measure_at"}
    mark(daemon.ingest.statuses["ethprice"].counters, *sorted(names))
    mark(daemon.ingest.statuses["ethprice"].counters.delays, "negative", "seconds")
    mark(daemon.hub, "sent_bytes", "deliveries", "failed_writes")
    mark(daemon.fanout, "flushes", "seconds")
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


async def test_histograms_are_as_prometheus_wants_them(daemon, page):
    """Buckets that contain those below; a sum and a count; no other labels."""
    delays = daemon.ingest.statuses["ethprice"].counters.delays
    for seconds in (0.0005, 0.03, 0.04, 90.0, -1.0):
        delays.observe(seconds)
    values, families = page()
    name = "aggregator_feed_delay_seconds"
    buckets = {
        bound: values[f"{name}_bucket", *sorted(("ethprice", bound))]
        for bound in ("0.001", "0.02", "0.05", "60.0", "+Inf")
    }
    assert list(buckets.values()) == [2, 2, 4, 4, 5]
    assert values[f"{name}_count", "ethprice"] == 5
    assert values[f"{name}_sum", "ethprice"] == pytest.approx(90.0705)
    assert values["aggregator_feed_clock_ahead_total", "ethprice"] == 1
    histograms = {n: f for n, f in families.items() if f.type == "histogram"}
    assert set(histograms) == {
        name,
        "aggregator_feed_sent_seconds",
        "aggregator_flush_duration_seconds",
        "aggregator_loop_lag_seconds",
    }
    labels = {label for f in histograms.values() for s in f.samples for label in s.labels}
    assert labels == {"feed", "le"}


async def test_what_was_sent_is_on_the_page_for_each_feed(daemon, page):
    """A feed that has gone is not."""
    sent = daemon.fanout.sent
    for name in ("ethprice", "gone"):
        sent[name] = Histogram(SENDING_S)
        sent[name].observe(0.003)
    values, _ = page()
    assert values["aggregator_feed_sent_seconds_count", "ethprice"] == 1
    assert values["aggregator_feed_sent_seconds_bucket", "0.005", "ethprice"] == 1
    assert values["aggregator_feed_sent_seconds_bucket", "0.002", "ethprice"] == 0
    assert ("aggregator_feed_sent_seconds_count", "gone") not in values


async def test_how_late_the_loop_was_is_on_the_page(metrics, page):
    """The longest by itself, since a histogram has only bounds."""
    metrics.lag.seen.observe(0.03)
    metrics.lag._longest = 0.03
    values, _ = page()
    assert values["aggregator_loop_lag_max_seconds",] == 0.03
    assert values["aggregator_loop_lag_seconds_bucket", "0.05"] == 1
    assert values["aggregator_loop_lag_seconds_bucket", "0.02"] == 0


async def test_what_venues_allow_is_on_the_page(daemon, page):
    """Of each venue and host: the limits that there are, what is left of them, and blocks."""
    get = daemon.ingest.budgets.get
    limited = get("some", "http://some.example:81/x", Limits(per_minute=100, per_second=5))
    get("other", "http://other.example", Limits())
    limited.try_take(30)
    limited.block(600, "429")
    values, _ = page()
    some, other = ("some", "some.example:81"), ("other", "other.example")
    assert values["aggregator_budget_limit", *sorted((*some, "minute"))] == 100
    assert values["aggregator_budget_limit", *sorted((*some, "second"))] == 5
    assert ("aggregator_budget_limit", *sorted((*some, "month"))) not in values
    assert values["aggregator_budget_left", *sorted(some)] == 70
    assert 590 < values["aggregator_budget_blocked_seconds", *sorted(some)] <= 600
    assert ("aggregator_budget_left", *sorted(other)) not in values
    assert values["aggregator_budget_blocked_seconds", *sorted(other)] == 0


async def test_a_thousand_feeds_are_written_in_slices(daemon, metrics):
    """Others have their turn after each some hundred lines, and nothing is lost or twice by it."""
    hub, ingest = daemon.hub, daemon.ingest
    for name in (f"feed{n}" for n in range(1000)):
        channel = hub.add_channel(name, "venue", ["BTC/USDT"])
        status = ingest.statuses[name] = FeedStatus(channel, hub, stale_after_s=30.0)
        ingest.instruments[name] = Instruments(status, channel, hub)
        hub.publish(channel, PriceUpdate("BTC/USDT", "1.50", b"{}"), hub.now_us())
    for name, status in ingest.statuses.items():
        status.counters.error("timeout")
        daemon.fanout.sent[name] = Histogram(SENDING_S)
    turns = 0
    task = asyncio.create_task(metrics.page())
    while not task.done():
        turns += 1
        await asyncio.sleep(0)
    text = (await task).decode()
    lines = text.count("\n")
    assert lines > 40_000
    assert turns > lines / (LINES + 20)
    samples = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(set(samples)) == len(samples)
    for name in ("feed_received_total", "feed_errors_total", "feed_sent_seconds_count"):
        assert text.count(f"\naggregator_{name}{{") == len(ingest.statuses)
        assert text.count(f"\n# TYPE aggregator_{name.removesuffix('_count')} ") == 1
    whole = b"".join(metrics.parts()).decode()
    assert [line.rpartition(" ")[0] for line in whole.splitlines() if line[0] != "#"] == samples


async def test_feeds_may_come_and_go_while_it_is_written(daemon, metrics):
    """What is there at the end of a slice may have gone at the next."""
    for kind in range(3 * LINES):
        daemon.ingest.statuses["binance_prices"].counters.error(f"old{kind}")
    parts = []
    for part in metrics.parts():
        parts.append(part)
        for table in (daemon.ingest.statuses, daemon.ingest.instruments, daemon.hub.channels):
            if table:
                table.popitem()
        for status in daemon.ingest.statuses.values():
            status.counters.error(f"new{len(parts)}")
    text = b"".join(parts).decode()
    assert len(parts) > 2
    assert list(text_string_to_metric_families(text))


async def test_reading_it_does_not_need_a_loop_turn(daemon, page):
    """It is plain reading: two pages of an idle daemon agree but for the process's own."""
    await asyncio.sleep(0)
    one, two = page()[0], page()[0]
    ours = [key for key in one if key[0].startswith("aggregator_")]
    assert all(one[key] == two[key] for key in ours)
