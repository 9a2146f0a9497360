"""Fills that no frame told of: the next comparison finds them all, whatever was told since."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest
from ingest.account_benches import EVERY, PATIENCE_S, running
from ingest.test_accounts import AccountBench, Venue, passes
from ingest.test_accounts_ledger import fill, order

from aggregator.ingest import account_runner
from aggregator.simulator import accounts, matching
from connectors.any_exchange import account as ccxt_account

CHANNELS = {"okx": "orders", "binance": "executionReport"}
LATER_MS = 40_000
SOCKETS = {"okx": "/ws/v5/private", "binance": "/ws-api"}


@pytest.fixture
def later(monkeypatch):
    """Return a function that has the venues' clock go forward."""
    ahead = 0

    def later(milliseconds):
        nonlocal ahead
        ahead += milliseconds

    monkeypatch.setattr(matching, "now_ms", lambda: accounts.now_ms() + ahead)
    return later


@pytest.fixture
def doubt(monkeypatch):
    """Return a function that has an account compared, and waits until that was done."""
    # All runners of a test are known by what makes them.
    runners = []
    made = account_runner.AccountRunner.__init__

    def init(self, *arguments, **options):
        made(self, *arguments, **options)
        runners.append(self)

    monkeypatch.setattr(account_runner.AccountRunner, "__init__", init)
    monkeypatch.setattr(account_runner, "DOUBT_S", 0.0)
    monkeypatch.setattr(ccxt_account, "SETTLE_S", 0.1)
    monkeypatch.setattr(ccxt_account, "SURE_S", 0.0)

    async def doubt(bench):
        before = bench.status.counters.reconciliations
        runners[-1]._doubt.set()
        await compared(bench, before + 1)

    return doubt


async def compared(bench, count):
    async with asyncio.timeout(PATIENCE_S):
        while bench.status.counters.reconciliations < count:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.005)


@asynccontextmanager
async def steady(kind, **options):
    """Run an account that is not compared of its own accord any more."""
    async with running(kind, reconcile_s=1000, **options) as bench:
        await bench.live()
        # One by ccxt is compared twice at the beginning.
        await compared(bench, 2 if kind.startswith("ccxt") else 1)
        await bench.settled()
        yield bench


@pytest.mark.parametrize("kind", EVERY)
async def test_frames_of_one_order_are_lost(kind, later, doubt):
    """Balances come, and fills of later orders, before and after a comparison: none is missing."""
    async with steady(kind) as bench:
        faults, venue = bench.simulator.faults, bench.venue
        lost = faults.add(venue=venue, kind="drop", fraction=1, channel=CHANNELS[venue])
        silent = bench.place(size="0.5")
        await bench.client.until(lambda: not list(bench._balances_differ()))
        faults.remove(lost.id)
        later(LATER_MS)
        heard = bench.place(size="0.25")
        await bench.client.until(lambda: str(heard.id) in bench.client.orders)
        assert str(silent.id) not in bench.client.orders
        await doubt(bench)
        await bench.settled()
        assert bench.client.orders[str(silent.id)]["status"] == "FILLED"
        before = len(bench.client.messages)
        await doubt(bench)
        assert [m for m in bench.client.messages[before:] if m["type"][:4] != "port"] == []
        assert bench.status.counters.unaccounted == 0


@asynccontextmanager
async def apart(bench):
    """Cut the account off from its venue's socket for a while."""
    fault = bench.simulator.faults.add(venue=bench.venue, kind="refuse", path=SOCKETS[bench.venue])
    for connection in list(bench.simulator._sockets._open):
        connection.abort()
    await bench.reached("down")
    yield
    bench.simulator.faults.remove(fault.id)
    await bench.live()


@pytest.mark.parametrize("kind", EVERY)
async def test_more_fills_than_a_page_has(kind, doubt):
    """Of one order, of many, and of several instruments that are asked for one by one."""
    options = {"max_backoff_s": 0.05}
    async with steady(kind, **options) as bench:
        big = bench.place("sell", "1", price="90000")
        other = bench.place("sell", "1", price="9000", instrument="ETH/USDT")
        await bench.settled()
        async with apart(bench):
            for _ in range(520):
                bench.fill(big, "0.001")
            for number in range(60):
                bench.place(("buy", "sell")[number % 2], "0.001")
            for _ in range(130):
                bench.fill(other, "0.001")
        await bench.settled()
        assert bench.status.counters.unaccounted == 0


@pytest.mark.parametrize("kind", EVERY)
async def test_more_open_orders_than_a_page_has(kind, doubt):
    """All are known at the start, and after one of the oldest was cancelled unheard."""
    async with steady(kind, max_backoff_s=0.05) as bench:
        async with apart(bench):
            placed = [bench.place("sell", "0.001", price=str(90000 + n)) for n in range(131)]
        await bench.settled()
        async with apart(bench):
            for one in placed[:5]:
                bench.engine.cancel(bench.truth, one)
        await bench.settled()
        assert bench.status.counters.unhandled == {}


async def test_a_full_page_that_nothing_follows(doubt, monkeypatch, caplog):
    """Where there is no way to ask for the second page, that is counted, and said once."""
    monkeypatch.setattr("connectors.any_exchange.account_pages.AFTER", ())
    async with steady("ccxt-okx", max_backoff_s=0.05) as bench:
        for number in range(100):
            bench.place("sell", "0.001", price=str(90000 + number))
        await bench.settled()
        await doubt(bench)
        await doubt(bench)
        [(name, count)] = bench.status.counters.unhandled.items()
        assert count == 2
    said = [r for r in caplog.records if name in r.getMessage()]
    assert [r.levelno for r in said] == [logging.WARNING]


@pytest.mark.parametrize(
    "fault",
    [{"kind": "empty"}, {"kind": "html"}, {"kind": "garbage"}, {"kind": "garbage", "text": "{"}],
    ids=["empty", "html", "text", "half"],
)
@pytest.mark.parametrize("kind", EVERY)
async def test_an_answer_that_says_nothing(kind, fault, doubt):
    """It is no account with nothing in it: no balance is told, and the venue is asked again."""
    path = {"okx": "/api/v5/account/balance", "binance": "/api/v3/account"}
    async with steady(kind) as bench:
        before = len(bench.client.messages)
        bench.simulator.faults.add(venue=bench.venue, path=path[bench.venue], count=1, **fault)
        asked = asyncio.create_task(doubt(bench))
        async with asyncio.timeout(PATIENCE_S):
            while not bench.status.counters.errors:  # noqa: ASYNC110 - nobody is told of errors
                await asyncio.sleep(0.005)
        asked.cancel()
        await doubt(bench)
        assert [m for m in bench.client.messages[before:] if m["type"][:4] != "port"] == []
        assert set(bench.status.counters.errors) == {"payload"}


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limited"), (503, "http")])
async def test_what_a_status_means_to_ccxt(status, kind, doubt):
    """An answer that is no JSON because of its status means what the status says."""
    async with steady("ccxt-okx") as bench:
        fault = {"kind": "status", "status": status, "path": "/api/v5/account/balance"}
        bench.simulator.faults.add(venue="okx", body="<html>", count=1, **fault)
        asked = asyncio.create_task(doubt(bench))
        async with asyncio.timeout(PATIENCE_S):
            while not bench.status.counters.errors:  # noqa: ASYNC110 - nobody is told of errors
                await asyncio.sleep(0.005)
        asked.cancel()
        assert set(bench.status.counters.errors) == {kind}


async def test_a_fill_between_two_answers(caplog):
    """One that came after the answer about its order is counted for it, not missed later."""
    venue = Venue()
    now_us = venue.io.now_us()
    venue.orders = [order("PARTIALLY_FILLED", "0.3", at=now_us)]
    venue.found = [fill("1", "0.3", at=now_us - 5), fill("2", "0.2", at=now_us + 5)]
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        assert bench.runner.ledger.accounted(("BTC/USDT", "o1")) == Decimal("0.5")
        venue.orders = [order("PARTIALLY_FILLED", "0.5", at=now_us + 5)]
        bench.runner._doubt.set()
        await passes(lambda: bench.counters.reconciliations == 2)
    assert bench.counters.unaccounted == 0
    assert not [r for r in caplog.records if "missing" in r.getMessage()]


async def test_a_comparison_that_failed(caplog):
    """What it was to find is looked for by the next."""
    venue = Venue()
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        bench.runner._take([fill("7", at=venue.io.now_us())])
        marks = bench.runner.ledger.since(frozenset(), None)
        venue.failures = [OSError()]
        bench.runner._stirred.add("BTC")
        with pytest.raises(OSError):
            await bench.runner._reconcile()
        assert bench.runner.ledger.since(frozenset(), None) == marks
        assert bench.runner._stirred == {"BTC"}
