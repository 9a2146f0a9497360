"""What connectors say a venue documents is what was recorded: a canary that cries only at news."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aggregator import registry
from aggregator.ingest.drift import Drift

ROOT = Path(__file__).parents[3] / "shared" / "recordings"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recordings at {ROOT}")

STREAMS = {
    "okx.ticker": ("okx", ("tickers", "trades", "books", "bbo-tbt")),
    "binance.ticker": ("binance", ("24hrTicker", "24hrMiniTicker", "trade", "depthUpdate")),
}
ANSWERS = {
    "binance.24hr": "binance/http/*ticker-24hr*",
    "binance.orderbook": "binance/http/depth-*",
    "coingecko.global": "coingecko/http/*global*",
    "coingecko.top": "coingecko/http/*coins-markets*",
    "coingecko.trending": "coingecko/http/search-trending*",
}
OTHERS = ("usdm", "fut", "analytics", "doc-coins-markets")
"""Of other markets, or with columns that were asked for besides."""


def connector(name: str):
    """Return a connector that need not be able to do anything but find its rows."""
    cls = next(f.cls for f in registry.everything() if f.name == name)
    return cls.__new__(cls)


def frames(venue: str) -> list[bytes]:
    paths = [p for p in ROOT.glob(f"{venue}/*.ndjson") if not any(o in p.name for o in OTHERS)]
    lines = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
    # `pu` is of futures, which are another market with other rules.
    return [
        line["raw"].encode()
        for line in lines
        if line.get("dir", "in") == "in" and '"pu":' not in line["raw"]
    ]


@pytest.mark.parametrize("name", STREAMS)
def test_streams(name):
    """Every recorded frame with data is as documented, and there are some of each kind."""
    venue, kinds = STREAMS[name]
    translator = connector(name)
    assert set(translator.documented) == set(kinds)
    for kind in kinds:
        drift = Drift("feed", name, translator.documented, set())
        mark = f'"channel":"{kind}"' if venue == "okx" else f'"e":"{kind}"'
        data = [f for f in frames(venue) if mark.encode() in f and b'"event"' not in f]
        assert data
        for frame in data:
            drift.look(translator, frame)
        assert not drift.counts


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name):
    """Every recorded answer is as documented."""
    translator = connector(name)
    drift = Drift("feed", name, translator.documented, set())
    paths = [p for p in ROOT.glob(ANSWERS[name]) if not any(o in p.name for o in OTHERS)]
    assert paths
    for path in paths:
        drift.look(translator, json.loads(path.read_text())["body"].encode())
    assert not drift.counts
