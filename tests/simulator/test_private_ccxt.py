"""ccxt against the simulated venues: what its classes send is taken, what they read is there."""

import asyncio
from decimal import Decimal

import ccxt.pro
import pytest
from ccxt.base.errors import BaseError, InsufficientFunds, OrderNotFound

from aggregator.simulator.keys import named


def _okx(simulator, key):
    ws = simulator.okx_private_url.removesuffix("/private")
    urls = {"api": {"rest": simulator.okx_rest_url, "ws": ws}}
    keys = {"apiKey": key.api_key, "secret": key.secret, "password": key.passphrase}
    return ccxt.pro.okx(keys | {"urls": urls, "enableRateLimit": False})


def _binance(simulator, key):
    options = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"}
    keys = {"apiKey": key.api_key, "secret": key.secret, "enableRateLimit": False}
    exchange = ccxt.pro.binance(keys | {"options": options})
    base = simulator.binance_url
    rest = {"public": f"{base}/api/v3", "private": f"{base}/api/v3", "sapi": f"{base}/sapi/v1"}
    exchange.urls["api"] |= rest
    exchange.urls["api"]["ws"]["ws-api"]["spot"] = simulator.binance_ws_api_url
    return exchange


CLASSES = {"okx": _okx, "binance": _binance}


@pytest.fixture
async def connect(simulator):
    opened = []

    def run(venue, name="main"):
        opened.append(CLASSES[venue](simulator, named(venue, name)))
        return opened[-1]

    yield run
    for exchange in opened:
        await exchange.close()


@pytest.fixture(params=[("okx", "main"), ("binance", "main"), ("binance", "ed25519")])
async def exchange(request, connect):
    """Each venue, and each kind of key."""
    exchange = connect(*request.param)
    await exchange.load_markets()
    return exchange


async def test_an_order_watched_until_it_is_filled(simulator, exchange):
    """`watch_orders`, `watch_my_trades` and `watch_balance` tell of an order placed by ccxt."""
    async with asyncio.timeout(20):
        subscribed = asyncio.create_task(simulator.wait_for_command(exchange.id, "subscribe"))
        watched = {
            name: asyncio.create_task(getattr(exchange, name)())
            for name in ("watch_orders", "watch_my_trades", "watch_balance")
        }
        await subscribed
        if exchange.id == "okx":
            # A snapshot at once, then each subscription has been taken.
            assert (await watched["watch_balance"])["BTC"]["free"] == 2
            watched["watch_balance"] = asyncio.create_task(exchange.watch_balance())
        made = await exchange.create_order("BTC/USDT", "limit", "sell", 0.1, 70000)
        seen = await watched["watch_orders"]
        assert [(order["id"], order["status"]) for order in seen] == [(made["id"], "open")]
        balance = (await watched["watch_balance"])["BTC"]
        assert (balance["free"], balance["used"], balance["total"]) == (1.9, 0.1, 2)
        account = simulator.engine.accounts.of(exchange.id, "main")
        order = account.open[int(made["id"])]
        more = asyncio.create_task(exchange.watch_orders())
        await asyncio.sleep(0)
        simulator.engine.fill(account, order, Decimal("0.04"))
        simulator.engine.fill(account, order)
        trade = (await watched["watch_my_trades"])[0]
        assert (trade["order"], trade["amount"], trade["price"], trade["takerOrMaker"]) == (
            made["id"], 0.04, 70000, "maker",
        )  # fmt: skip
        last = (await more)[-1]
        while last["status"] != "closed":
            last = (await exchange.watch_orders())[-1]
        assert (last["id"], last["filled"], last["average"]) == (made["id"], 0.1, 70000)


async def test_orders_over_rest(simulator, exchange):
    """Place, fetch, cancel, fetch again: orders, trades and balances as the simulator has them."""
    async with asyncio.timeout(20):
        account = simulator.engine.accounts.of(exchange.id, "main")
        assert (await exchange.fetch_balance())["USDT"]["free"] == 100000
        made = await exchange.create_order("BTC/USDT", "limit", "sell", 0.1, 70000)
        simulator.engine.fill(account, account.open[int(made["id"])], Decimal("0.04"))
        waiting = await exchange.fetch_open_orders("BTC/USDT")
        assert [(o["id"], o["filled"], o["remaining"]) for o in waiting] == [
            (made["id"], 0.04, 0.06)
        ]
        await exchange.cancel_order(made["id"], "BTC/USDT")
        assert (await exchange.fetch_order(made["id"], "BTC/USDT"))["status"] == "canceled"
        bought = await exchange.create_order("BTC/USDT", "market", "buy", 0.02)
        closed = await exchange.fetch_closed_orders("BTC/USDT")
        assert (bought["id"], "closed", 0.02) in [
            (o["id"], o["status"], o["filled"]) for o in closed
        ]
        trades = await exchange.fetch_my_trades("BTC/USDT")
        truth = [fill.describe() for fill in account.fills]
        assert [(t["id"], t["order"], t["amount"]) for t in trades] == [
            (f["id"], f["order_id"], float(f["size"])) for f in truth
        ]
        have = (await exchange.fetch_balance())["BTC"]
        assert have["total"] == float(account.balance("BTC").total)


async def test_what_is_refused(exchange):
    """Refusals have the codes that ccxt knows."""
    async with asyncio.timeout(20):
        with pytest.raises(InsufficientFunds):
            await exchange.create_order("BTC/USDT", "limit", "buy", 100, 67000)
        with pytest.raises(OrderNotFound):
            await exchange.cancel_order("12345", "BTC/USDT")


@pytest.mark.parametrize(("venue", "code"), [("okx", "50120"), ("binance", "-2015")])
async def test_a_key_that_may_only_read(connect, venue, code):
    """It reads everything; an order is refused with the code, which ccxt has no one class for."""
    async with asyncio.timeout(20):
        exchange = connect(venue, "viewer")
        assert (await exchange.fetch_balance())["BTC"]["free"] == 2
        assert await exchange.fetch_open_orders("BTC/USDT") == []
        with pytest.raises(BaseError, match=code):
            await exchange.create_order("BTC/USDT", "limit", "buy", 1, 60000)
