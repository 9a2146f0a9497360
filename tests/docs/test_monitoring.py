"""docs/alerts.yml and docs/grafana.json: valid, complete, and about metrics that exist."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from docs.pages import ROOT, section, tables

ALERTS = ROOT / "docs" / "alerts.yml"
DASHBOARD = ROOT / "docs" / "grafana.json"


def expressions():
    """Return those of the dashboard."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


def metrics(text):
    return set(re.findall(r"\b((?:aggregator|process)_\w+)", text))


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
    [rows] = [t for t in tables(section("operations", "## Health")) if "expression" in t[0]]
    said = [row["expression"].strip("`").replace("\\|", "|") for row in rows]
    rules = re.findall(r"^ +expr: (.*)$", ALERTS.read_text(), re.MULTILINE)
    assert [rule.replace('up{job="aggregator"}', "up") for rule in rules] == said


def test_they_are_about_what_there_is(demo):
    """Each metric is one that the daemon serves."""
    served = metrics(demo.get("/metrics"))
    named = metrics(ALERTS.read_text()) | metrics(" ".join(expressions()))
    assert named <= served


def test_dashboard():
    """Each panel has a title, a place of its own and something to show; none is drawn twice."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] and panel["targets"] for panel in panels)


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_the_page_leads_to_them(name):
    """docs/operations.md says that they are there."""
    assert f"({name})" in section("operations", "## Health")
