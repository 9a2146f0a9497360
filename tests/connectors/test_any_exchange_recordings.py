"""What ccxt hears of real traffic: every message, and every digit of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ingest.ccxt_feeds import Bench

from aggregator.api import BookUpdate, Candle, PriceUpdate, TradeExecuted, Unhandled
from connectors.any_exchange.exchange import closed

pytest.importorskip("ccxt.pro", reason="ccxt is not installed: pip install '.[ccxt]'")
ROOT = Path(__file__).parents[3] / "shared" / "recordings"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recordings at {ROOT}")

NUMBER = re.compile(r'(?<=[:,\["\s])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?=[",\]\s}])')


def frames(name):
    """Return the texts that arrived on a recorded connection."""
    lines = (json.loads(line) for line in (ROOT / name).read_text().splitlines())
    return [line["raw"] for line in lines if line["dir"] == "in"]


@pytest.fixture
async def outputs_of():
    """Return a function that gives what a feed makes of a recorded connection."""
    benches = []

    def outputs_of(kind, exchange, name, subscription=None, **options):
        benches.append(Bench(kind, exchange, **options))
        benches[-1].line.subscriptions[subscription] = True
        found = benches[-1].hears(*frames(name))
        return [output for output in found if not isinstance(output, Unhandled)]

    outputs_of.benches = benches
    yield outputs_of
    for bench in benches:
        await closed(bench.ccxt)


def texts(output):
    """Return every number that an output has, but what is computed."""
    match output:
        case PriceUpdate():
            named = (output.price, output.bid, output.ask, output.volume_24h, output.change_24h_pct)
            return [text for text in named if text is not None]
        case TradeExecuted():
            return [output.price, output.quantity]
        case BookUpdate():
            levels = (*output.bids, *output.asks)
            return [text for level in levels for text in (level.price, level.size)]
        case Candle():
            return [output.open, output.high, output.low, output.close, output.volume]


async def test_every_trade_of_binance(outputs_of):
    """All 1,381 of a capture, in order, digit by digit."""
    name = "binance/hft-2024-08-08-btcusdt.ndjson"
    said = [json.loads(text) for text in frames(name)]
    said = [m["data"] for m in said if m.get("data", {}).get("e") == "trade"]
    outputs = outputs_of("trades", "binance", name)
    assert len(outputs) == len(said) == 1381
    assert [(o.id, o.price, o.quantity, o.side, o.exchange_us) for o in outputs] == [
        (str(m["t"]), m["p"], m["q"], "sell" if m["m"] else "buy", m["T"] * 1000) for m in said
    ]


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("kraken/fixture-nt-v2-frames.ndjson", "ticker", 1),
        ("kraken/fixture-nt-v2-frames.ndjson", "trades", 2),
        ("kraken/fixture-nt-v2-frames.ndjson", "book", 2),
        ("kraken/fixture-nt-v2-frames.ndjson", "ohlcv", 1),
        ("coinbase/fixture-nt-advanced-trade-frames.ndjson", "ticker", 1),
        ("coinbase/fixture-nt-advanced-trade-frames.ndjson", "trades", 2),
        ("coinbase/fixture-nt-advanced-trade-frames.ndjson", "book", 2),
    ],
)
async def test_digits(outputs_of, name, kind, count):
    """Of JSON numbers and of texts, each that comes out is one that came in."""
    exchange = name.partition("/")[0]
    outputs = outputs_of(kind, exchange, name)
    assert len(outputs) == count
    numbers = {match[0] for text in frames(name) for match in NUMBER.finditer(text)}
    for output in outputs:
        assert texts(output)
        assert set(texts(output)) <= numbers


async def test_a_book_of_okx(outputs_of):
    """
    Its levels were all sent, and it has the number of the last update.

    The capture has a real gap before its last message: that is not told; who watches hears of it.
    """
    name = "okx/l2p-2026-07-11-btcusdt-books.ndjson"
    said = [json.loads(text) for text in frames(name)]
    rows = [m["data"][0] for m in said if "data" in m]
    levels = {tuple(level[:2]) for row in rows for side in ("bids", "asks") for level in row[side]}
    outputs = outputs_of("book", "okx", name, "books:BTC/USDT", depth=400)
    assert [o.sequence for o in outputs] == [row["seqId"] for row in rows[:2]]
    assert rows[2]["prevSeqId"] != rows[1]["seqId"]
    [error] = outputs_of.benches[0].line.rejections.values()
    assert type(error).__name__ == "InvalidNonce"
    for output in outputs:
        assert {(level.price, level.size) for level in (*output.bids, *output.asks)} <= levels
        assert output.flag is None
