"""docs/connectors.md alone: its distribution is laid out, tested, configured and run."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from types import SimpleNamespace

import pytest
from aiohttp import web
from docs.pages import blocks, code, loads, names, section, table, text_of

import aggregator.api
from aggregator import registry
from aggregator.connector import (
    Connector,
    Notice,
    PollConnector,
    Request,
    StreamConnector,
    translate,
)
from aggregator.errors import ExchangeError
from aggregator.options import PollOptions, StreamOptions

FILES = ("pyproject.toml", "tinyex_prices.py", "tinyex_trades.py", "test_tinyex.py")
SECTIONS = [b for b in blocks("connectors", "toml") if "[feeds." in b.text]


@pytest.fixture
def distribution(add_distribution, tmp_path):
    """Return the folder in which the page's distribution is, as if it were installed."""
    text = text_of("connectors")
    files = {}
    for name in FILES:
        # The block behind the first place that names the file and ends in a colon.
        place = re.search(rf"`{re.escape(name)}`:\n\n```\w+\n", text)
        files[name] = text[place.end() : text.index("```\n", place.end())]
    project = tomllib.loads(files.pop("pyproject.toml"))
    shipped = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    modules = {n.removesuffix(".py"): t for n, t in files.items()}
    assert {f"{name}.py" for name in modules} - set(shipped) == {"test_tinyex.py"}
    entry_points = project["project"]["entry-points"]["aggregator.connectors"]
    return add_distribution(project["project"]["name"], modules, entry_points)


@pytest.fixture
async def tinyex():
    """Yield the venue of the page: what it is asked, and where it is."""
    venue = SimpleNamespace(requests=[], frames=[], port=0)

    async def tickers(request):
        venue.requests.append(request)
        rows = [{"pair": "BTC-USD", "last": "42150.50", "bid": "42150.49", "time_ms": 10**12}]
        return web.json_response(rows)

    async def stream(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        venue.frames.append(await ws.receive_json())
        await ws.send_json({"ok": venue.frames[0]["id"]})
        await ws.send_str('{"pair":"BTC-USD","last":"42150.60","time_us":1765211445123000}')
        await ws.receive()
        return ws

    app = web.Application()
    app.add_routes([web.get("/v1/tickers", tickers), web.get("/v1", stream)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    venue.port = runner.addresses[0][1]
    yield venue
    await runner.cleanup()


async def test_the_distribution_runs(distribution, tinyex, start, connect, tmp_path):
    """Both connectors, configured as on the page, send prices to a client of the daemon."""
    [sections] = SECTIONS
    config = tmp_path / "aggregator.toml"
    config.write_text("[server]\nport = 0\n" + sections.text)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "tinyex_api_key").write_text("secret\n")
    environ = {
        "PYTHONPATH": str(distribution),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "AGGREGATOR_FEEDS__TINYEX_PRICES__BASE_URL": f"http://127.0.0.1:{tinyex.port}/v1",
        "AGGREGATOR_FEEDS__TINYEX_BTC__URLS": f'["ws://127.0.0.1:{tinyex.port}/v1"]',
    }
    daemon = await start("run", "--config", config, environ=environ)
    client = await connect(await daemon.url())
    await daemon.logged("feed tinyex_prices live")
    await client.send(type="subscribe", channels=["tinyex_prices", "tinyex_btc", "system"])
    seen = {}
    while len(seen) < 3:
        message = await client.receive()
        if message["type"] == "price_update":
            seen[message["channel"]] = message["price"], message["exchange_us"]
        elif message.get("data", {}).get("instrument") == "ETH/USD":
            seen["unknown"] = message["data"]["state"]
    assert seen == {
        "tinyex_prices": ("42150.50", 10**15),
        "tinyex_btc": ("42150.60", 1765211445123000),
        "unknown": "unknown_instrument",
    }
    assert tinyex.requests[0].headers["X-Api-Key"] == "secret"
    assert tinyex.requests[0].query["pairs"] == "BTC-USD,ETH-USD"
    assert tinyex.frames[0]["pairs"] == ["BTC-USD"]


def test_it_is_found(distribution, run_cli):
    """`aggregator connectors` lists both connectors, with their distribution."""
    listed = run_cli("connectors", environ={"PYTHONPATH": str(distribution)}).stdout
    assert re.search(r"tinyex\.prices +tinyex +polled +aggregator-tinyex 1\.2 ", listed)
    assert re.search(r"tinyex\.trades +tinyex +streamed +aggregator-tinyex 1\.2 ", listed)


def test_its_tests_pass(distribution):
    """The page's tests of the example pass as they are."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tinyex.py"]
    environ = {**os.environ, "PYTHONPATH": str(distribution)}
    result = subprocess.run(
        command, cwd=distribution, env=environ, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    assert "7 passed" in result.stdout


def test_the_samples_are_samples(distribution, monkeypatch):
    """The lines shown as samples are taken by the example's connector as the page says."""
    monkeypatch.syspath_prepend(str(distribution))
    import tinyex_prices  # noqa: PLC0415 - it is laid out by the fixture

    [block] = blocks("connectors", "json")
    header, good, bad = map(loads, block.text.splitlines())
    connector = tinyex_prices.Prices(tinyex_prices.Options(**header["options"]))
    body = json.dumps(good["body"]).encode()
    [update] = translate(lambda: connector.on_response(Request(**good["request"]), body))
    assert update.price == "42150.50"
    with pytest.raises(ExchangeError):
        connector.on_refusal(Request(**bad["request"]), bad["status"], bad["body"].encode())


def test_everything_that_may_be_imported_is_named():
    """Each name of the plugin API is on the page, and what is a base class is in the examples."""
    text = text_of("connectors")
    missing = {n for n in aggregator.api.__all__ if not re.search(rf"\b{n}\b", text)}
    assert missing <= {"Connector", "ConnectorError", "Event", "Instrument", "Options"}
    for block in blocks("connectors", "python"):
        ours = re.findall(r"^(?:from|import) (aggregator\S*|pydantic\S*)", block.text, re.MULTILINE)
        assert set(ours) == {"aggregator.api"}


def test_outputs_and_methods_are_those_that_there_are():
    """The tables of outputs and methods name what the runner takes and calls, all of it."""
    rows = table(section("connectors", "### Outputs"), "output")
    kinds = {name.partition("(")[0] for name in names(rows)}
    notices = {kind.__name__ for kind in Notice.__args__}
    events = {"PriceUpdate", "BookUpdate", "TradeExecuted", "Candle", "Gap"}
    assert kinds == notices | events | {"Send", "Fetch"}
    for row in rows:
        [signature] = code(row["output"])
        name, _, fields = signature.removesuffix(")").partition("(")
        declared = list(getattr(aggregator.api, name).__dataclass_fields__) if fields else []
        assert [f for f in fields.split(", ") if f] == declared
    declares = names(table(section("connectors", "### What a connector declares"), "name"))
    for name in (d.partition("(")[0] for d in declares):
        assert name in Connector.__annotations__ or hasattr(StreamConnector, name)
    methods = names(table(section("connectors", "### What the runner calls"), "method"))
    for method in (m.partition("(")[0] for m in methods):
        assert hasattr(PollConnector, method) or hasattr(StreamConnector, method)
    assert f"`Request({', '.join(Request.__dataclass_fields__)})`" in text_of("connectors")


def test_options_are_those_that_there_are():
    """The section on options names each option that every feed, polled or streamed, has."""
    text = section("connectors", "### Options")
    assert {*PollOptions.model_fields, *StreamOptions.model_fields} <= set(code(text))


def test_the_table_of_connectors_is_complete():
    """Every connector of the project is listed, with an endpoint that its venue's modules name."""
    rows = table(section("connectors", "## The connectors that there are"), "connector")
    ours = {f.name: f for f in registry.everything() if f.distribution.startswith("exchange-")}
    assert set(names(rows)) == ours.keys()
    for row in rows:
        name = ours[code(row["connector"])[0]].cls.__module__
        venue = ".".join(name.split(".")[:2])
        modules = [m for n, m in sys.modules.items() if n == venue or n.startswith(f"{venue}.")]
        assert code(row["endpoint"])[0] in "".join(map(inspect.getsource, modules))
