"""Accounts at simulated venues over real sockets: every kind of event; kills lose nothing."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest
from ingest.account_benches import EVERY, VENUES, running

from aggregator.ingest.account_io import AccountIo

QUICK = {"max_backoff_s": 0.05, "portfolio_s": 0.05}


@pytest.mark.parametrize("kind", EVERY)
async def test_every_kind_of_event(kind):
    """Orders, fills, balances and the portfolio are told as they truly are, digits and all."""
    async with running(kind, **QUICK) as bench:
        await bench.live()
        await bench.settled()
        bench.place(size="0.5")
        order = bench.place("sell", price="90000", client_id="mine1")
        bench.fill(order, "0.04")
        await bench.settled()
        told = bench.client.orders[str(order.id)]
        assert (told["status"], told["side"], told["client_order_id"]) == (
            "PARTIALLY_FILLED",
            "SELL",
            "mine1",
        )
        assert Decimal(told["price"]) == 90000
        bench.engine.cancel(bench.truth, order)
        bench.engine.deposit(bench.truth, "ETH", Decimal("1.5"))
        bench.engine.deposit(bench.truth, "SOL", -bench.truth.balance("SOL").available)
        await bench.settled()
        assert bench.client.orders[str(order.id)]["status"] == "CANCELED"
        whole = bench.place("sell", price="90001")
        bench.fill(whole)
        await bench.settled()
        assert bench.client.orders[str(whole.id)]["status"] == "FILLED"
        assert bench.status.counters.errors == {}
        await bench.client.until(lambda: bench.client.portfolio is not None)


@pytest.mark.parametrize("kind", VENUES)
async def test_a_fill_before_the_state_that_it_led_to(kind):
    """First the trade, then the order, then the balances."""
    async with running(kind) as bench:
        await bench.live()
        order = bench.place("sell", price="90000")
        await bench.settled()
        before = len(bench.client.messages)
        bench.fill(order)
        await bench.settled()
        kinds = [m["type"] for m in bench.client.messages[before:] if m["type"][:4] != "port"]
        assert kinds == ["trade", "order.update", "balance.update", "balance.update"]


def act(bench, rng, orders):
    """Have something happen at the venue."""
    what = rng.random()
    working = [order for order in orders if order.working]
    if what < 0.4 or not working:
        side, price = rng.choice([("buy", "50000"), ("sell", "90000")])
        orders.append(bench.place(side, f"0.00{rng.randint(10, 99)}", price))
    elif what < 0.75:
        order = rng.choice(working)
        lots = int(order.remaining * 100_000)
        bench.fill(order, str(Decimal(rng.randint(1, lots)) / 100_000))
    elif what < 0.85:
        bench.engine.cancel(bench.truth, rng.choice(working))
    elif what < 0.95:
        bench.place(
            rng.choice(["buy", "sell"]), "0.001", instrument=rng.choice(["BTC/USDT", "ETH/USDT"])
        )
    else:
        bench.engine.deposit(bench.truth, rng.choice(["SOL", "USDT"]), Decimal("1.25"))


@pytest.fixture
def slow_answers(monkeypatch):
    """Have answers be old when they arrive: things happen while the state is asked for."""
    rng, get = random.Random(3), AccountIo.get

    async def late(self, path, headers):
        answer = await get(self, path, headers)
        await asyncio.sleep(rng.random() * 0.006)
        return answer

    monkeypatch.setattr(AccountIo, "get", late)


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("slow_answers")
@pytest.mark.parametrize(("kind", "rounds"), [("okx", 200), ("binance", 200)])
async def test_kills_in_the_middle(kind, rounds):
    """
    However a connection ends amid fills, the client's view becomes the truth again.

    Nothing is told twice, nothing is missing, and nothing goes back.
    """
    rng, orders = random.Random(7), []
    async with running(kind, **QUICK) as bench:
        await bench.live()
        for _ in range(rounds):
            for _ in range(rng.randint(0, 6)):
                act(bench, rng, orders)
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.random() * 0.003)
            how = rng.choice(["cut", "abort", "close"])
            for connection in list(bench.simulator._sockets._open):
                connection.close(1001, "") if how == "close" else getattr(connection, how)()
            for _ in range(rng.randint(0, 6)):
                act(bench, rng, orders)
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.random() * 0.01)
            if rng.random() < 0.7:
                await bench.settled()
        await bench.settled()
        assert bench.status.counters.recovered > rounds / 2
        assert bench.status.counters.unaccounted == 0
        assert set(bench.status.counters.errors) <= {"connection"}
