"""Each example of docs/examples in Python, run as it is against a daemon and simulated venues."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs/examples"
PATIENCE_S = 30
CONFIG = """
[server]
port = 0
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
[feeds.binance_prices]
connector = "binance.prices"
instruments = ["BTC/USDT"]
interval_s = 0.2
[feeds.binance_orderbook]
connector = "binance.orderbook"
instruments = ["BTC/USDT"]
interval_s = 0.2
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT"]
[budgets.binance]
per_minute = 0
"""
PRICE = r"\d+(?:\.\d+)?"
EXPECTED = {
    "price_tracking": (["bitcoinprice"], rf"bitcoinprice +BTC/USDT +{PRICE} \([+-]"),
    "order_book_monitor": ([], rf"@ {PRICE} \| {PRICE} @ .*spread {PRICE} bps, imbalance of 10"),
    "live_chart": (["bitcoinprice"], rf"bitcoinprice BTC/USDT +{PRICE} \([+-]"),
    "comparison": ([], rf"buy {PRICE} at (okx|binance), sell {PRICE} at .*: [+-]{PRICE} bps"),
}


@pytest.fixture
async def url(start, tmp_path):
    """Return the address of a daemon that has prices of two exchanges."""
    (tmp_path / "aggregator.toml").write_text(CONFIG)
    daemon = await start("demo", "--config", "aggregator.toml")
    url = await daemon.url()
    await daemon.logged(r"feed \w+ live", times=4)
    return url


@pytest.fixture
def example():
    """Return a function that runs an example to its end, and returns what it prints."""

    async def example(name: str, *arguments: object) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(EXAMPLES / f"{name}.py"),
            *map(str, arguments),
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, err = await process.communicate()
        except TimeoutError:
            process.kill()
            out, err = await process.communicate()
            raise AssertionError(out.decode() + err.decode()) from None
        assert (process.returncode, err) == (0, b"")
        return out.decode()

    return example


def test_every_example_is_run():
    """There is none that nobody tries."""
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
async def test_it_shows_what_it_should_and_ends(url, example, name):
    """After so many messages, without an error."""
    arguments, expected = EXPECTED[name]
    out = await example(name, *arguments, "--url", url, "--messages", 5)
    assert re.search(expected, out), out


@pytest.mark.parametrize("name", EXPECTED)
async def test_it_ends_after_its_time(url, example, name):
    """Whether or not there are messages."""
    arguments = ["nothing/HERE"] if name == "comparison" else EXPECTED[name][0]
    await example(name, *arguments, "--url", url, "--seconds", 0.3)


async def test_a_book_is_put_together(url, example):
    """Of its snapshot and the changes: the spread of what is shown is never negative."""
    out = await example("order_book_monitor", "okx_books", "--url", url, "--messages", 20)
    lines = re.findall(rf"@ ({PRICE}) \| ({PRICE}) @ .*spread (-?{PRICE}) bps", out)
    assert len(lines) == 20
    assert all(float(bid) < float(ask) and float(spread) > 0 for bid, ask, spread in lines)


async def test_a_comparison_names_both_exchanges(url, example):
    """With all channels that have the instrument."""
    out = await example("comparison", "--url", url, "--messages", 20)
    last = out.splitlines()[-1]
    for channel in ("bitcoinprice", "binance_prices", "binance_orderbook"):
        assert re.search(rf"{channel} {PRICE}", last), out
