"""docs/alerts.yml and docs/grafana.json: valid, complete, and about metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess
from itertools import pairwise

import pytest
from docs.pages import ROOT, section, tables

ALERTS = ROOT / "docs" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "grafana.json"


JOB = 'instance="a:8000", job="aggregator"'


def panels():
    """Return what the dashboard shows; what is in a row stands behind it."""
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions():
    """Return those of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def alerts():
    """Return the expression of each alert, by its name."""
    return dict(re.findall(r"- alert: (\w+)\n +expr: (.*)\n", ALERTS.read_text()))


def metrics(text):
    return set(re.findall(r"\b((?:aggregator|process)_\w+)", text))


@pytest.fixture
def fires(needs, tmp_path):
    """
    Return a function that has Prometheus' tool evaluate the rules on made-up values.

    Args: the alert, its labels but for instance and job, or `None` where it must not fire; the
    series and their values, each minute; after how long.
    """

    def fires(alert, labels, series, at="20m"):
        text = ALERTS.read_text()
        rule = text[text.index(f"- alert: {alert}\n") :]
        severity = re.search(r"severity: (\w+)", rule)[1]
        summary = re.search(r'summary: "(.*)"', rule)[1]
        everything = {"instance": "a:8000", "job": "aggregator", **(labels or {})}
        for name, value in everything.items():
            summary = summary.replace(f"{{{{ $labels.{name} }}}}", value)
        expected = {
            "exp_labels": {**everything, "severity": severity},
            "exp_annotations": {"summary": summary},
        }
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series],
            "alert_rule_test": [
                {
                    "eval_time": at,
                    "alertname": alert,
                    "exp_alerts": [] if labels is None else [expected],
                }
            ],
        }
        path = tmp_path / "test.yml"
        path.write_text(json.dumps({"rule_files": [str(ALERTS)], "tests": [test]}))
        done = subprocess.run(
            [needs("promtool"), "test", "rules", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return fires


def test_alerts_are_valid(needs):
    """By Prometheus' own tool."""
    done = subprocess.run(
        [needs("promtool"), "check", "rules", ALERTS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_expressions_of_the_dashboard_are_valid(needs, tmp_path):
    """The same tool takes them as rules."""
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(expressions())]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        [needs("promtool"), "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_are_those_of_the_page():
    """docs/operations.md and the file have the same expressions."""
    found = [t for t in tables(section("operations", "## Health")) if "expression" in t[0]]
    said = [row["expression"].strip("`").replace("\\|", "|") for rows in found for row in rows]
    assert [rule.replace('up{job="aggregator"}', "up") for rule in alerts().values()] == said


def test_they_are_about_what_there_is(demo):
    """Each metric is one that the daemon serves, or will when something has happened."""
    types = re.findall(r"^# TYPE (\w+) (\w+)", demo.get("/metrics"), re.MULTILINE)
    served = {
        name + suffix
        for name, kind in types
        for suffix in (("_bucket", "_count", "_sum") if kind == "histogram" else ("",))
    }
    named = metrics(ALERTS.read_text()) | metrics(" ".join(expressions()))
    assert named <= served


def test_what_is_recorded_is_used_and_what_is_used_is_recorded():
    """A name with colons is made by a rule, and none is made for nothing."""
    text = ALERTS.read_text() + section("operations", "## Health")
    recorded = re.findall(r"- record: (\S+)", text)
    used = re.findall(r"(?<!record: )\b(aggregator:[\w:]+)", text)
    assert set(recorded) == set(used)


def test_dashboard():
    """Each panel has a title, a place of its own and something to show; none is drawn twice."""
    found = panels()
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found}
    assert len(places) == len({panel["id"] for panel in found}) == len(found)
    assert all(panel["title"] for panel in found)
    assert all(bool(panel.get("targets")) is (panel["type"] != "row") for panel in found)


def test_dashboard_has_a_row_for_each_question():
    """The questions come in the order in which they are asked, each with something below it."""
    found = panels()
    rows = [panel["title"] for panel in found if panel["type"] == "row"]
    assert rows == [
        "Are prices fresh?",
        "Where do the milliseconds go?",
        "Who is slow?",
        "What do venues allow?",
        "How is the process?",
    ]
    assert [panel["gridPos"]["y"] for panel in found] == sorted(p["gridPos"]["y"] for p in found)
    kinds = [panel["type"] for panel in found]
    assert kinds[0] == "row" != kinds[-1]
    assert ("row", "row") not in pairwise(kinds)


def test_every_metric_of_feeds_and_clients_is_shown(demo):
    """The histograms, the budgets and the lag of the loop among them."""
    shown = metrics(" ".join(expressions()))
    wanted = re.findall(
        r"^# TYPE (aggregator_(?:feed_(?:delay|sent)|budget|flush_duration|loop_lag)\S*) (\w+)",
        demo.get("/metrics"),
        re.MULTILINE,
    )
    assert len(wanted) == 8
    for name, kind in wanted:
        assert name + "_bucket" * (kind == "histogram") in shown


def series(name, **labels):
    """Return a series of the daemon's."""
    more = "".join(f', {label}="{value}"' for label, value in labels.items())
    return f"{name}{{{JOB}{more}}}"


def buckets(name, counts, **labels):
    """Return a histogram's series, each growing by so much a minute."""
    return [
        (series(f"{name}_bucket", le=bound, **labels), f"0+{count}x30")
        for bound, count in counts.items()
    ]


def test_the_daemon_is_gone(fires):
    """For two minutes; a restart is no reason to wake anybody."""
    up = series("up")
    fires("AggregatorDown", {}, [(up, "1x9 0x20")], at="12m")
    fires("AggregatorDown", None, [(up, "1x9 0x20")], at="11m")
    fires("AggregatorDown", None, [(up, "1x9 0 1x20")])


def test_a_feed_does_not_work(fires):
    """For five minutes, down and stale; not if only its state has another name."""
    for state, labels in (("down", True), ("stale", True), ("late", False), ("limited", False)):
        values = [(series("aggregator_feed_state", feed="x", state=state), "1x20")]
        fires("AggregatorFeedDown", {"feed": "x", "state": state} if labels else None, values)
    values = [(series("aggregator_feed_state", feed="x", state="down"), "1 1 0 1 1 0 1 1 0")]
    fires("AggregatorFeedDown", None, values, at="8m")


def test_a_venue_changed_its_format(fires):
    """At once, and it is over when it is over."""
    name = series("aggregator_feed_errors_total", feed="x", kind="payload")
    labels = {"feed": "x", "kind": "payload"}
    fires("AggregatorPayloadErrors", labels, [(name, "0x5 3x20")], at="7m")
    fires("AggregatorPayloadErrors", None, [(name, "0x5 3x20")])
    other = series("aggregator_feed_errors_total", feed="x", kind="timeout")
    fires("AggregatorPayloadErrors", None, [(other, "0x5 3x20")], at="7m")


def test_clients_get_prices_late(fires):
    """When two of a hundred fan-outs are late; not when one of two hundred is."""
    bounds = "aggregator_feed_sent_seconds"
    late = buckets(bounds, {"0.005": 980, "0.05": 980, "0.1": 1000, "+Inf": 1000}, feed="x")
    fine = buckets(bounds, {"0.005": 995, "0.05": 995, "0.1": 1000, "+Inf": 1000}, feed="y")
    fires("AggregatorSendsLate", {"feed": "x"}, late + fine)
    fires("AggregatorSendsLate", None, fine)


def test_data_of_a_venue_come_late(fires):
    """When half of them do; CoinGecko's are always minutes old."""
    bounds = "aggregator_feed_delay_seconds"
    counts = {"1.0": 40, "5.0": 40, "15.0": 100, "+Inf": 100}
    fires("AggregatorDataLate", {"feed": "x"}, buckets(bounds, counts, feed="x"))
    fires("AggregatorDataLate", None, buckets(bounds, counts, feed="coingecko_top"))
    fires("AggregatorDataLate", None, buckets(bounds, {**counts, "1.0": 60, "5.0": 60}, feed="x"))


@pytest.mark.parametrize(("ahead", "labels"), [(70, {"feed": "x"}), (20, None)])
def test_our_clock_is_behind(fires, ahead, labels):
    """When most messages come from the future, and not when some do."""
    values = [
        (series("aggregator_feed_clock_ahead_total", feed="x"), f"0+{ahead}x30"),
        (series("aggregator_feed_delay_seconds_count", feed="x"), "0+100x30"),
    ]
    fires("AggregatorClockBehind", labels, values)


def test_the_loop_is_blocked(fires):
    """Again and again; one long look at something is in the dashboard, and wakes nobody."""
    name = series("aggregator_loop_lag_max_seconds")
    fires("AggregatorLoopBlocked", {}, [(name, "0.3x20")])
    fires("AggregatorLoopBlocked", None, [(name, "0.3x3 0.01x20")], at="6m")
    fires("AggregatorLoopBlocked", None, [(name, "0.15x20")])


def test_a_venue_wants_no_request(fires):
    """Longer than the minute that it usually is, or all of the budget is used up."""
    where = {"exchange": "v", "host": "h"}
    name = series("aggregator_budget_blocked_seconds", **where)
    fires("AggregatorVenueBlocks", where, [(name, "600-60x9")], at="9m")
    fires("AggregatorVenueBlocks", None, [(name, "70 10 0x20")])
    limits = [
        (series("aggregator_budget_limit", **where, window=window), f"{limit}x20")
        for window, limit in (("minute", 1000), ("month", 1))
    ]
    left = series("aggregator_budget_left", **where)
    fires("AggregatorBudgetUsedUp", where, [*limits, (left, "20x20")])
    fires("AggregatorBudgetUsedUp", None, [*limits, (left, "60x20")])
    fires("AggregatorBudgetUsedUp", None, [*limits, (left, "20x14 500x6")])


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_the_page_leads_to_them(name):
    """docs/operations.md says that they are there."""
    assert f"({name})" in section("operations", "## Health")
