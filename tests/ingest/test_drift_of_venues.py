"""The canary on feeds that run: silent while all is as documented, and heard when it is not."""

from __future__ import annotations

import pytest
from ingest.benches import running

from aggregator.config import STANDARD_FEEDS
from aggregator.simulator import Simulator, binance_shapes, coingecko_shapes, okx_shapes

FEEDS = STANDARD_FEEDS | {
    f"{venue}_{kind}": {"connector": f"{venue}.{kind}", "instruments": ["BTC/USDT"]}
    for venue, kind in [
        ("okx", "books"),
        ("okx", "bbo"),
        ("okx", "trades"),
        ("binance", "ticker"),
        ("binance", "trades"),
        ("binance", "depth"),
    ]
}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


async def test_silent(simulator):
    """What the simulator sends is what the venues document, at every connector."""
    async with running(simulator, FEEDS) as (ingest, _, ears):
        for ear in ears.values():
            await ear.until(lambda ear=ear: ear.messages)
        findings = {n: dict(s.counters.drift.counts) for n, s in ingest.statuses.items()}
        assert {n: f for n, f in findings.items() if f} == {}


@pytest.mark.parametrize(
    ("connector", "shape", "where"),
    [
        ("okx.ticker", (okx_shapes, "ticker"), "tickers.surprise"),
        ("binance.24hr", (binance_shapes, "day"), "ticker/24hr.surprise"),
        ("coingecko.top", (coingecko_shapes, "market_row"), "coins/markets.surprise"),
    ],
)
async def test_new_field(simulator, caplog, connector, shape, where):
    """It is counted, said once, and prices go on."""
    simulated = getattr(*shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*shape, lambda *a, **b: simulated(*a, **b) | {"surprise": 1})
        await meets(simulator, connector, where)
    said = [r.getMessage() for r in caplog.records if where in r.getMessage()]
    assert len(said) == 1


async def meets(simulator, connector, where):
    """Run two feeds of a connector until each has met the finding, and has prices."""
    feeds = {
        name: {"connector": connector}
        | ({} if connector == "coingecko.top" else {"instruments": ["BTC/USDT"]})
        for name in ("one", "two")
    }
    async with running(simulator, feeds) as (ingest, _, ears):
        for ear in ears.values():
            await ear.until(lambda ear=ear: ear.messages)
        for status in ingest.statuses.values():
            assert status.counters.drift.counts["unknown", where] > 0
