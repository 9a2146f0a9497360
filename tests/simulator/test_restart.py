"""A simulator that is started again: what it says is news to who knew the one before."""

from decimal import Decimal

import pytest
from ingest.account_benches import EVERY, running_at

from aggregator.simulator import Simulator
from aggregator.simulator.wanted import Wanted


@pytest.mark.parametrize("venue", ["okx", "binance"])
def test_numbers_are_higher_after_each_start(venue, monkeypatch):
    """Of orders and of fills, a millisecond later already."""
    numbers = []
    for now_ms in (10**12, 10**12 + 3):
        monkeypatch.setattr("aggregator.simulator.private.now_ms", lambda now=now_ms: now)
        engine = Simulator(ticks_per_s=0).engine
        account = engine.accounts.of(venue, "main")
        btc = engine.instrument(venue, "BTC/USDT")
        one = Wanted(instrument=btc, side="sell", type="market", size=Decimal("0.00001"))
        numbers.append((engine.place(account, one).id, account.fills[0].id))
    assert [later - first for first, later in zip(*numbers, strict=True)] == [3, 3]


@pytest.mark.parametrize("kind", EVERY)
async def test_a_daemon_that_goes_on(kind):
    """Orders and fills of the second simulator are told, though it has counted from the start."""
    options = {"ticks_per_s": 0, "binance_weight_limit": 10**9}
    async with Simulator(**options) as first, running_at(first, kind, max_backoff_s=0.05) as bench:
        await bench.live()
        bench.fill(bench.place("sell", price="90000"), "0.04")
        await bench.settled()
        told = set(bench.client.fills)
        await first.__aexit__(None, None, None)
        async with Simulator(port=first.port, **options) as second:
            bench.engine = second.engine
            bench.truth = second.engine.accounts.of(bench.venue, "main")
            bench.fill(bench.place("sell", price="90000"), "0.04")
            await bench.client.until(lambda: len(bench.client.fills) == 2)
            [fill] = bench.client.fills.keys() - told
            assert fill == str(bench.truth.fills[0].id)
