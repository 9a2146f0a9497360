"""The tables: all that the code has is in them, and nothing that it has not."""

from __future__ import annotations

import re
from typing import get_args

import click
import pytest
from docs.pages import PAGES, ROOT, code, names, section, table, text_of
from pydantic import SecretStr

from aggregator import app, cli, cli_common, config, registry, sections
from aggregator.gateway import answers, protocol
from aggregator.ingest.counters import FeedCounters
from aggregator.ingest.streamer import Reason
from aggregator.model import State
from aggregator.simulator.faults import KINDS, VENUES

OURS = [f.cls for f in registry.everything() if f.distribution.startswith("exchange-")]


def source(folder):
    """Return the text of a package's modules."""
    paths = sorted((ROOT / "aggregator" / folder).rglob("*.py"))
    return "\n".join(path.read_text("utf-8") for path in paths)


def default(model, key):
    """Return an option's default as the tables write it."""
    value = model.model_fields[key].default
    if isinstance(value, bool):
        return f"`{value}`".lower()
    if isinstance(value, str):
        return f'`"{value}"`'
    return "none" if value is None else f"`{value}`".replace("'", '"')


def test_options_of_the_server():
    """The table has every option of `[server]`, in order, with its default."""
    rows = table(section("operations", "### `[server]`"), "key")
    assert names(rows) == list(config.Server.model_fields)
    for row in rows:
        [key] = code(row["key"])
        assert row["default"] == default(config.Server, key)


def test_options_of_budgets():
    """The table has every option of `[budgets]`."""
    rows = table(section("operations", "### `[budgets.<exchange>]`"), "key")
    assert names(rows) == list(config.BudgetLimits.model_fields)


def test_options_of_feeds():
    """The table has every option of every connector of the project, and the common defaults."""
    rows = table(section("operations", "### `[feeds.<name>]`"), "key")
    options = {key for cls in OURS for key in cls.options_type.model_fields}
    assert set(names(rows)) == options | {"connector"}
    for row in rows:
        [key] = code(row["key"])
        having = [cls for cls in OURS if key in cls.options_type.model_fields]
        if row["default"].startswith("`"):
            assert {default(cls.options_type, key) for cls in having} == {row["default"]}


@pytest.mark.parametrize("page", ["protocol", "operations"])
def test_limits(page):
    """Each limit has its option, with its default."""
    rows = [r for r in table(section(page, "## Limits"), "limit") if "none" not in r["config key"]]
    for row in rows:
        table_, key = code(row["config key"])[0].split(".")
        assert table_ == "server"
        assert default(config.Server, key) == f"`{row['default']}`"
    limits = {
        k for k in config.Server.model_fields if k.startswith(("max_", "slow", "pong", "stalled"))
    }
    assert {code(r["config key"])[0].partition(".")[2] for r in rows} == limits | {"command_burst"}


@pytest.mark.parametrize("page", PAGES)
def test_options_and_variables_in_text(page):
    """Each `server.x`, and each `AGGREGATOR_...` variable on a page is one that there is."""
    text = text_of(page)
    for key in re.findall(r"`server\.([a-z_]+)`", text):
        assert key in config.Server.model_fields
    for variable in re.findall(r"AGGREGATOR_([A-Z_]+)", text):
        assert variable.partition("__")[0].lower() in config.Settings.model_fields


def test_metrics(demo):
    """The table has every metric of the page that is really served, and its labels."""
    page = demo.get("/metrics")
    rows = table(section("operations", "### Metrics"), "metric")
    assert set(names(rows)) == set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    for row in rows:
        for labels in re.findall(rf"^{code(row['metric'])[0]}{{(.*)}}", page, re.MULTILINE):
            assert re.findall(r"(\w+)=", labels) == code(row["labels"])


def test_states_of_the_metric(demo):
    """A series for each state that a feed can be in; what instruments are has its own metric."""
    page = demo.get("/metrics")
    states = re.findall(
        r'^aggregator_feed_state{feed="bitcoinprice",state="(\w+)"}', page, re.MULTILINE
    )
    assert sorted(states) == sorted(set(State) - {State.UNKNOWN_INSTRUMENT})
    assert 'aggregator_feed_unknown_instruments{feed="bitcoinprice"} 0.0\n' in page
    for state in re.findall(r'state=~?"([^"]*)"', section("operations", "## Health")):
        assert set(state.replace("\\|", "|").split("|")) <= set(states)


@pytest.mark.parametrize("page", ["protocol", "operations", "README", "connectors"])
def test_metrics_in_text(page, demo):
    """A metric that is mentioned anywhere exists."""
    for name in re.findall(r"`?(aggregator_[a-z_]+)", text_of(page)):
        assert f"# TYPE {name} " in demo.get("/metrics")


def test_labels():
    """The kinds, reasons and so on that a label can have are all named, and no others."""
    rows = {code(r["metric"])[0]: r for r in table(section("operations", "### Metrics"), "metric")}
    ingest, gateway = source("ingest"), source("gateway")
    skipped = rows["aggregator_feed_skipped_polls_total"]["counts"]
    assert set(code(skipped)) == set(re.findall(r'\bskip\("(\w+)"\)', ingest))
    rejected = rows["aggregator_connections_rejected_total"]["counts"]
    reasons = set(re.findall(r'rejected\["(\w+)"\]', gateway))
    assert set(code(rejected)) - {"POST /ws/test"} == reasons
    rotations = rows["aggregator_feed_rotations_total"]["counts"]
    assert tuple(code(rotations)) == get_args(Reason)
    kinds = code(rows["aggregator_feed_errors_total"]["counts"])
    said = re.search(r"failures by kind\s+\(([^)]*)\)", FeedCounters.__doc__)
    assert kinds == re.findall(r"\w+", said[1])
    assert all(f'"{kind}"' in ingest for kind in kinds)


def test_commands():
    """The table has every command of the command line."""
    rows = table(section("operations", "## Commands"), "command")
    shown = [name.removeprefix("aggregator ") for name in names(rows)]
    assert sorted(shown) == sorted(cli.main.list_commands(click.Context(cli.main)))


def test_exit_codes():
    """The exit codes are those that the code has."""
    rows = table(section("operations", "## Commands"), "exit code")
    ours = {cli.EXIT_CONFIG, cli.EXIT_UNAVAILABLE, app.EXIT_UNAVAILABLE, cli_common.EXIT_UNWRITTEN}
    assert {int(row["exit code"]) for row in rows} == ours | {0, 1, 2, 130}


def test_flags_in_text():
    """Each flag on the pages is one of some command."""
    groups = [c for c in cli.main.commands.values() if isinstance(c, click.Group)]
    commands = [*cli.main.commands.values(), *(c for g in groups for c in g.commands.values())]
    flags = {o for c in commands for p in c.params for o in p.opts}
    text = "\n".join(text_of(page) for page in PAGES)
    for command in re.findall(r"^\S*aggregator [^\n`]*", text, re.MULTILINE):
        assert set(re.findall(r"(?<= )--[a-z-]+", command)) <= flags | {"--help"}
    assert set(re.findall(r"`(--[a-z-]+)`", text)) <= flags | {"--help"}


def test_refusals():
    """The table has every code of a refusal."""
    rows = table(section("protocol", "## Refusals"), "code")
    assert names(rows) == [code.value for code in protocol.Code]


def test_close_codes():
    """The table has every code that the daemon closes with."""
    gateway = source("gateway")
    used = set(re.findall(r"Error\((\d{4}),", gateway))
    used |= {str(getattr(protocol.Close, n)) for n in re.findall(r"\bClose\.([A-Z_]+)", gateway)}
    rows = table(section("protocol", "## The end of a connection"), "close code")
    assert {row["close code"] for row in rows} == used


def test_http_codes():
    """The codes of HTTP's errors are all named."""
    used = set(re.findall(r'_error\(\s*\w+,\s*"(\w+)"', source("gateway")))
    used |= set(re.findall(r'return [45]\d\d, "(\w+)", ', source("gateway")))
    used |= {*answers.CODES.values(), "bad_request"}
    listed = section("protocol", "## HTTP").partition("\n\n### ")[0]
    text = " ".join(listed.split()).partition("with these codes:")[2]
    assert set(code(text)) == used


def test_routes():
    """Every route has its place, and no place has no route."""
    routes = set(re.findall(r'add_(get|post)\(\s*"(\S+)"', source("gateway")))
    titles = re.findall(r"^### (GET|POST) (\S+)$", text_of("protocol"), re.MULTILINE)
    described = {(method.lower(), path) for method, path in titles}
    # A name in a path may be written with the pattern that it has to have.
    routes = {(method, re.sub(r":[^}]+}", "}", path)) for method, path in routes}
    assert described | {("get", "/ws"), ("get", "/ws/ticker")} == routes


@pytest.mark.parametrize("page", ["README", "protocol"])
def test_channels(page):
    """The table has the standard feeds and the daemon's own channels."""
    rows = table(section(page, "## Channels"), "channel") if page == "README" else None
    text = section(page, "## Channels").partition("\n### ")[0]
    rows = rows or table(text, "channel")
    assert set(names(rows)) == config.STANDARD_FEEDS.keys() | {"system", "heartbeat"}


def test_message_types():
    """Every type of message that the daemon sends has its place."""
    encoders = "".join((ROOT / f"aggregator/{m}.py").read_text() for m in ("wire", "market"))
    types = set(re.findall(r'"type": "(\w+)"', encoders))
    titles = set(re.findall(r"^### (\w+)$", section("protocol", "## Messages"), re.MULTILINE))
    assert titles == types


def test_states():
    """Both tables of states have them all."""
    of_protocol = table(section("protocol", "### system_status"), "`data.state`")
    of_operations = table(section("operations", "## States of a feed"), "state")
    states = {state.value for state in State}
    assert set(names(of_protocol)) == states
    assert {code(row["state"])[0] for row in of_operations} == states


def test_budgets():
    """The table has the limits of every venue."""
    rows = table(section("operations", "## Rate limits and budgets"), "exchange")
    assert set(names(rows)) == {cls.exchange for cls in OURS}
    for cls in OURS:
        [row] = [r for r in rows if code(r["exchange"]) == [cls.exchange]]
        assert row["per minute"] == str(cls.budget.per_minute or "none")
        secrets = {key: SecretStr("x") for key, _ in sections.secrets_of(cls)}
        with_key = cls.budget_for(cls.options_type.model_construct(**secrets))
        assert with_key.per_minute == cls.budget.per_minute
        month = str(cls.budget.per_month or "none")
        if with_key.per_month != cls.budget.per_month:
            month += f"; {with_key.per_month} with a key"
        assert row["per month"] == month


def test_credentials():
    """The table's names are those that the code fills."""
    named = set(names(table(section("operations", "### Credentials"), "credential")))
    secrets = {name for cls in OURS for _, name in sections.secrets_of(cls)}
    assert named - {"<exchange>_<field>", "<account>_<field>"} == secrets | {"ops_token"}
    unit = (ROOT / "systemd/aggregator.service").read_text()
    assert set(re.findall(r"LoadCredential=(\w+):", unit)) == secrets | {"ops_token"}


def test_faults():
    """The table has every fault of the simulator, with its parameters."""
    rows = table(section("operations", "## Rehearsals"), "kind")
    assert names(rows) == list(KINDS)
    for row in rows:
        [kind] = code(row["kind"])
        assert set(code(row["parameters"])) == KINDS[kind].keys()
    assert all(f"`{venue}`" in section("operations", "## Rehearsals") for venue in VENUES)


def test_what_does_not_exist_is_not_promised():
    """Commands, fields and messages of later versions are not in the contract yet."""
    assert not {"auth", "token"} & set(code(text_of("protocol")))


@pytest.mark.parametrize("page", PAGES)
def test_links(page):
    """Each link leads to a file of the project, and to a heading that is there."""
    path = PAGES[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        assert not re.match(r"\w+:", target), f"{target} leads out of the project"
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        if there.is_dir() or there.suffix == ".png":
            continue
        headings = re.findall(r"^#+ (.*)$", there.read_text("utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, target
