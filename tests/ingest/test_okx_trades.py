"""OKX' trades at the simulator, over real sockets: nothing missing, nothing twice, in order."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from itertools import pairwise

import pytest
from ingest.benches import running

from aggregator.simulator import Simulator
from aggregator.simulator.digits import short

PAIRS = ["BTC/USDT", "ETH/USDT"]
SECTION = {
    "connector": "okx.trades",
    "instruments": PAIRS,
    "max_backoff_s": 0.2,
    "timeout_s": 2.0,
}
HISTORY = "/api/v5/market/history-trades"


@pytest.fixture
async def simulator():
    """Start a simulator that walks only when told to."""
    async with Simulator(seed=7, ticks_per_s=0, okx_requests_per_hour=100_000) as simulator:
        yield simulator


def market(simulator, pair):
    return simulator.market.by_symbol[pair.replace("/", "")]


def told(ear, pair="BTC/USDT"):
    """Return the trades of an instrument, each with whether it was fetched, and the gaps."""
    messages = [m for m in ear.messages if m["instrument"] == pair]
    trades = [m for m in messages if m["type"] == "trade_executed"]
    gaps = [m["data"] for m in messages if m["type"] == "gap"]
    return [(int(m["data"]["id"]), m.get("backfilled", False)) for m in trades], gaps


async def subscribed(simulator):
    """Wait until a new connection has its subscriptions."""
    await simulator.wait_for_connection("okx")
    await simulator.wait_for_command("okx", '"trades","instId":"ETH-USDT"')


async def until_told(ear, simulator, pair="BTC/USDT"):
    """Wait until the newest trade is there."""
    newest = market(simulator, pair).trade_id
    await ear.until(lambda: newest in [number for number, _ in told(ear, pair)[0]])


def cut(simulator):
    """End the connections as a network does, without a word; the push that does it is lost."""
    simulator.faults.add(venue="okx", kind="truncate", count=1)
    simulator.tick()


async def test_trades_that_were_missed_are_fetched(simulator):
    """After a cut nothing is missing and nothing comes twice; what was fetched is marked."""
    async with running(simulator, {"t": SECTION}) as (_, system, ears):
        await subscribed(simulator)
        simulator.tick(10)
        await until_told(ears["t"], simulator)
        before = market(simulator, "BTC/USDT").trade_id
        cut(simulator)
        # More than two pages.
        simulator.tick(300)
        missed = market(simulator, "BTC/USDT").trade_id
        await subscribed(simulator)
        # Without any new trade: what was missed is known all the same.
        await until_told(ears["t"], simulator)
        simulator.tick(10)
        await until_told(ears["t"], simulator)
        trades, gaps = told(ears["t"])
    numbers = [number for number, _ in trades]
    assert numbers == list(range(numbers[0], market(simulator, "BTC/USDT").trade_id + 1))
    fetched = [number for number, backfilled in trades if backfilled]
    assert fetched == list(range(before + 1, missed + 1))
    assert gaps == []
    assert "down" in system.states


async def test_every_digit(simulator):
    """A trade is told as the venue has it, by the channel as over REST."""
    async with running(simulator, {"t": SECTION}) as (_, _, ears):
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        cut(simulator)
        simulator.tick(5)
        await subscribed(simulator)
        await until_told(ears["t"], simulator)
        messages = [m for m in ears["t"].messages if m["instrument"] == "BTC/USDT"]
    one = market(simulator, "BTC/USDT")
    kept = {trade.trade_id: trade for trade in one.recent}
    assert {m.get("backfilled", False) for m in messages} == {True, False}
    for message in messages:
        trade, data = kept[int(message["data"]["id"])], message["data"]
        assert data["side"] == ("sell" if trade.buyer_is_maker else "buy")
        assert data["price"] == short(trade.ticks + one.okx_offset, one.decimals)
        assert data["quantity"] == short(trade.lots, one.lot_decimals)
        assert Decimal(data["cost"]) == Decimal(data["price"]) * Decimal(data["quantity"])
        assert message["exchange_us"] == trade.ms * 1000


async def test_live_trades_wait_for_the_missing_ones(simulator):
    """What comes while older ones are fetched comes after them."""
    async with running(simulator, {"t": SECTION}) as (_, _, ears):
        await subscribed(simulator)
        simulator.tick(3)
        await until_told(ears["t"], simulator)
        simulator.faults.add(venue="okx", kind="delay", seconds=0.3, path=HISTORY, count=2)
        cut(simulator)
        simulator.tick(5)
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        trades, gaps = told(ears["t"])
    numbers = [number for number, _ in trades]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    backfilled = [backfilled for _, backfilled in trades]
    # Live, then what was missed, then live again.
    assert sum(one != other for one, other in pairwise(backfilled)) == 2
    assert gaps == []


async def test_a_loss_longer_than_the_venue_remembers():
    """What REST does not have any more is told as a gap, with the ids on both sides."""
    async with Simulator(seed=7, ticks_per_s=0, trades_kept=20) as simulator:
        async with running(simulator, {"t": SECTION}) as (_, _, ears):
            await subscribed(simulator)
            simulator.tick(5)
            await until_told(ears["t"], simulator)
            last = market(simulator, "BTC/USDT").trade_id
            cut(simulator)
            simulator.tick(100)
            await subscribed(simulator)
            await until_told(ears["t"], simulator)
            trades, gaps = told(ears["t"])
        newest = market(simulator, "BTC/USDT").trade_id
    assert gaps == [
        {
            "cause": "the venue does not give them any more",
            "after": last,
            "before": newest - 19,
        }
    ]
    assert [n for n, backfilled in trades if backfilled] == list(range(newest - 19, newest + 1))


async def test_no_more_than_max_backfill(simulator):
    """Of a longer loss the newest are fetched; a gap says which are not."""
    section = SECTION | {"max_backfill": 30}
    async with running(simulator, {"t": section}) as (_, _, ears):
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        last = market(simulator, "BTC/USDT").trade_id
        cut(simulator)
        simulator.tick(200)
        await subscribed(simulator)
        await until_told(ears["t"], simulator)
        trades, [gap] = told(ears["t"])
    newest = market(simulator, "BTC/USDT").trade_id
    assert gap == {"cause": "max_backfill is 30", "after": last, "before": newest - 29}
    assert [n for n, backfilled in trades if backfilled] == list(range(newest - 29, newest + 1))


async def test_without_backfill(simulator):
    """With a `max_backfill` of 0 nothing is fetched; a gap says what is missing."""
    section = SECTION | {"max_backfill": 0}
    async with running(simulator, {"t": section}) as (_, _, ears):
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        last = market(simulator, "BTC/USDT").trade_id
        cut(simulator)
        simulator.tick(5)
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        trades, [gap] = told(ears["t"])
        assert not [r for r in simulator.requests if r.path_qs.startswith(HISTORY)]
    assert (gap["cause"], gap["after"]) == ("max_backfill is 0", last)
    assert gap["before"] in [number for number, _ in trades]
    assert not any(backfilled for _, backfilled in trades)


async def test_where_rest_does_not_answer(simulator):
    """A gap says what can't be had, and the live trades go on."""
    simulator.faults.add(venue="okx", kind="status", status=503, path=HISTORY)
    async with running(simulator, {"t": SECTION}) as (ingest, _, ears):
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        last = market(simulator, "BTC/USDT").trade_id
        cut(simulator)
        simulator.tick(5)
        await subscribed(simulator)
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        trades, [gap] = told(ears["t"])
        assert ingest.statuses["t"].counters.errors["http"] >= 4
    assert gap["after"] == last
    assert gap["before"] in [number for number, _ in trades]
    assert "503" in gap["cause"]


async def test_through_everything(simulator):
    """Through losses, repetitions, cuts and refusals: in order, each once, and all of them."""
    rng = random.Random(5)
    kinds = ["drop", "truncate", "duplicate", "close", "drop", "refuse", "status", "garbage"]
    more = {"drop": {"fraction": 0.4}, "duplicate": {}, "status": {"status": 503, "path": HISTORY}}
    async with running(simulator, {"t": SECTION}) as (_, _, ears):
        await subscribed(simulator)
        simulator.tick(3)
        await until_told(ears["t"], simulator)
        for number in range(24):
            kind = kinds[number % len(kinds)]
            fault = simulator.faults.add(venue="okx", kind=kind, **more.get(kind, {"count": 1}))
            for _ in range(rng.randint(1, 5)):
                simulator.tick(rng.randint(1, 6))
                await asyncio.sleep(0.02)
            simulator.faults.remove(fault.id)
        for pair in PAIRS:
            async with asyncio.timeout(20):
                while market(simulator, pair).trade_id not in [
                    n for n, _ in told(ears["t"], pair)[0]
                ]:
                    simulator.tick()
                    await asyncio.sleep(0.05)
        for pair in PAIRS:
            trades, gaps = told(ears["t"], pair)
            numbers = [number for number, _ in trades]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
            assert gaps == []
            assert any(backfilled for _, backfilled in trades)
