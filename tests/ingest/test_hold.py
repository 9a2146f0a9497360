"""Trades that wait for missed ones, where REST hangs or refuses: not for long."""

from __future__ import annotations

import pytest
from ingest.benches import running

from aggregator.model import State
from aggregator.simulator import Simulator

PAIRS = ["BTC/USDT", "ETH/USDT"]
VENUES = {"okx.trades": "okx", "binance.trades": "binance"}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


def told(ear):
    """Return the trades of the first instrument, and the gaps with where they stand among them."""
    messages = [m for m in ear.messages if m["instrument"] == PAIRS[0]]
    trades = [int(m["data"]["id"]) for m in messages if m["type"] == "trade_executed"]
    gaps = [m["data"] for m in messages if m["type"] == "gap"]
    return trades, gaps


async def miss(simulator, venue, ear, **fault):
    """Have trades missed by a hiccup of the connection, while REST has this fault."""
    await ear.until(lambda: len(told(ear)[0]) > 3)
    simulator.faults.add(venue=venue, path="/api", **fault)
    if venue == "okx":
        simulator.faults.add(venue=venue, path="/okx/api", **fault)
    else:
        simulator.faults.add(venue=venue, path="/binance/api", **fault)
    simulator.faults.add(venue=venue, kind="drop", fraction=1, count=4)


@pytest.mark.parametrize("connector", VENUES)
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ({"kind": "delay", "seconds": 60.0}, "no answer within 0.5 s"),
        ({"kind": "status", "status": 429, "retry_after": 60}, "HTTP 429"),
    ],
    ids=["hangs", "refuses"],
)
async def test_rest_that_does_not_answer(simulator, connector, fault, cause):
    """What is missing becomes a gap in time; the connection, which is healthy, is never cut."""
    section = {"connector": connector, "instruments": PAIRS, "stale_after_s": 1.5}
    async with running(simulator, {"t": section}) as (ingest, system, ears):
        ear, status = ears["t"], ingest.statuses["t"]
        await miss(simulator, VENUES[connector], ear, **fault)
        await ear.until(lambda: told(ear)[1])
        seq = len(told(ear)[0])
        # Longer than `stale_after_s`: nothing is held up any more.
        await ear.until(lambda: len(told(ear)[0]) > seq + 40)
        trades, [gap, *_] = told(ear)
        assert status.counters.reconnects == 0
        assert cause in ingest.statuses["t"].counters.last_error.text
        assert status.state is State.LIVE
    assert gap["after"] in trades
    assert gap["before"] == trades[trades.index(gap["after"]) + 1]
    assert [each for each in system.states if each != "unknown_instrument"] == [
        "connecting",
        "live",
    ]


@pytest.mark.parametrize("connector", VENUES)
async def test_what_was_backfilled_is_counted(simulator, connector):
    """Each trade that is told as backfilled counts once; others don't."""
    section = {"connector": connector, "instruments": PAIRS, "timeout_s": 2.0}
    async with running(simulator, {"t": section}) as (ingest, _, ears):
        ear, counters = ears["t"], ingest.statuses["t"].counters
        await ear.until(lambda: len(told(ear)[0]) > 3)
        assert counters.backfilled == 0
        simulator.faults.add(venue=VENUES[connector], kind="drop", fraction=1, count=4)
        await ear.until(lambda: [m for m in ear.messages if m.get("backfilled")])
        seq = ear.channel.seq
        await ear.until(lambda: ear.channel.seq > seq + 10)
        assert counters.backfilled == sum(m.get("backfilled", False) for m in ear.messages)
