"""Accounts by ccxt: what its structures mean, and what comes of it at the simulated venues."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from decimal import Decimal

import pytest
from ingest.account_benches import USER, running
from ingest.test_accounts_at_venues import act

from aggregator import registry
from aggregator.connector import UNREADABLE
from aggregator.ingest import account_runner
from connectors.any_exchange import account as ccxt_account
from connectors.any_exchange.account_shapes import account_of, fill_of, order_of
from connectors.any_exchange.digits import Number

NOW_US = 1_795_161_360_598_000
ORDER = {
    "id": "1",
    "clientOrderId": "mine",
    "symbol": "BTC/USD",
    "side": "sell",
    "type": "limit",
    "status": "open",
    "amount": Number("1.50"),
    "filled": Number("0.50"),
    "price": Number("42000.10"),
    "average": Number("42000.20"),
    "timestamp": 1_765_211_445_123,
    "lastTradeTimestamp": 1_765_211_445_456,
}
TRADE = {
    "id": "t1",
    "order": "1",
    "symbol": "BTC/USD",
    "side": "buy",
    "price": Number("42000.10"),
    "amount": Number("0.10"),
    "fee": {"cost": Number("0.0010"), "currency": "BTC"},
    "takerOrMaker": "maker",
    "timestamp": 1_765_211_445_123,
}


def test_an_order():
    """With the exchange's own digits, and the newest of its times."""
    order = order_of("main", "kraken", ORDER, NOW_US)
    assert (order.exchange, order.status, order.side) == ("kraken", "PARTIALLY_FILLED", "SELL")
    assert (order.quantity, order.filled_quantity) == ("1.50", "0.50")
    assert (order.price, order.avg_price, order.client_order_id) == ("42000.10", "42000.20", "mine")
    assert order.updated_us == 1_765_211_445_456_000


@pytest.mark.parametrize(
    ("status", "filled", "told"),
    [
        ("open", 0, "NEW"),
        ("open", None, "NEW"),
        ("closed", 1.5, "FILLED"),
        ("canceled", 0.5, "CANCELED"),
        ("expired", 0, "EXPIRED"),
        ("rejected", 0, "REJECTED"),
    ],
)
def test_states(status, filled, told):
    """Each of ccxt's has its name."""
    row = ORDER | {"status": status, "filled": filled and Number(str(filled))}
    assert order_of("main", "kraken", row, NOW_US).status == told


def test_what_an_exchange_does_not_tell():
    """A time is ours then; an amount of the quote is no quantity; a price of nought is none."""
    nothing = dict.fromkeys(("timestamp", "lastTradeTimestamp", "amount", "average"))
    order = order_of("main", "kraken", ORDER | nothing | {"price": Number("0.00")}, NOW_US)
    assert (order.updated_us, order.quantity) == (NOW_US, "0.50")
    assert (order.price, order.avg_price) == (None, None)
    bare = {"fee": None, "takerOrMaker": None, "timestamp": None}
    fill = fill_of("main", "kraken", TRADE | bare, NOW_US)
    assert (fill.fee, fill.fee_asset, fill.role, fill.traded_us) == (None, None, None, NOW_US)


@pytest.mark.parametrize(
    ("info", "cost", "fee"),
    [({}, "0.0010", "0.0010"), ({"fillFee": "-1"}, "-1.0", "1.0"), ({"fillFee": "1"}, "1", "-1")],
)
def test_a_fill(info, cost, fee):
    """A fee that is paid counts above zero, also of OKX's pushes, whose sign ccxt leaves."""
    row = TRADE | {"info": info, "fee": {"cost": Number(cost), "currency": "BTC"}}
    fill = fill_of("main", "kraken", row, NOW_US)
    assert (fill.price, fill.quantity, fill.fee, fill.role) == ("42000.10", "0.10", fee, "MAKER")


@pytest.mark.parametrize(
    "fields", [{"status": None}, {"side": "hold"}, {"amount": "NaN"}, {"price": "1e9"}]
)
def test_rows_of_another_shape(fields):
    """They are unreadable."""
    with pytest.raises(UNREADABLE):
        order_of("main", "kraken", ORDER | fields, NOW_US)
    with pytest.raises(UNREADABLE):
        fill_of("main", "kraken", TRADE | {"price": None} | fields, NOW_US)


def test_balances():
    """Only where both are known: of some events ccxt tells the change in place of the amount."""
    balance = {"free": {"BTC": Number("1.0"), "ETH": Number("5")}, "used": {"BTC": Number("0.50")}}
    assert account_of(balance, "BTC") == ("1.0", "0.50")
    assert account_of(balance, "ETH") is None


def test_nothing_of_ccxt_is_imported_before_it_runs():
    """Neither to look at a configuration with it, nor for accounts of other kinds."""
    given = {"user": USER, "api_key": "k", "api_secret": "s", "exchange": "kraken"}
    program = (
        "import sys; from aggregator import registry\n"
        f"registry.load_account('ccxt.account').options_type(**{given})\n"
        "[registry.load_account(name) for name in registry.names(registry.ACCOUNTS)]\n"
        "assert 'ccxt' not in sys.modules and 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


@pytest.mark.parametrize("options", [{"exchange": "krakn"}, {"ccxt_options": {"apiKey": "x"}}])
def test_options(options):
    """The exchange is one of ccxt's, and keys are where keys belong."""
    given = {"user": 1, "api_key": "k", "api_secret": "s", "exchange": "kraken"}
    cls = registry.load_account("ccxt.account")
    with pytest.raises(ValueError, match=r"kraken|no key|need no key"):
        cls.options_type(**given | options)


@pytest.fixture
def hasty(monkeypatch):
    """Have nobody wait for what takes no time at a simulator."""
    monkeypatch.setattr(ccxt_account, "SETTLE_S", 0.1)
    monkeypatch.setattr(ccxt_account, "SILENT_S", 0.2)
    monkeypatch.setattr(ccxt_account, "SURE_S", 0.2)
    monkeypatch.setattr(ccxt_account, "AGAIN_S", 0.02)
    monkeypatch.setattr(account_runner, "DOUBT_S", 0.05)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["ccxt-okx", "ccxt-binance"])
async def test_kills_in_the_middle(kind, hasty):
    """However a connection ends amid fills, the client's view becomes the truth again."""
    rng, orders = random.Random(11), []
    async with running(kind, max_backoff_s=0.05) as bench:
        await bench.live()
        for _ in range(10):
            for _ in range(rng.randint(1, 4)):
                act(bench, rng, orders)
            for connection in list(bench.simulator._sockets._open):
                getattr(connection, rng.choice(["cut", "abort"]))()
            for _ in range(rng.randint(1, 4)):
                act(bench, rng, orders)
                await asyncio.sleep(rng.random() * 0.01)
            await bench.settled()
        assert bench.status.counters.recovered > 10
        assert bench.status.counters.unaccounted == 0


@pytest.mark.parametrize("kind", ["ccxt-okx", "ccxt-binance"])
async def test_what_can_not_be_streamed(kind, hasty):
    """It is asked for again and again."""
    nothing = dict.fromkeys(("watchOrders", "watchMyTrades", "watchBalance"), False)
    options = {"interval_s": 0.05, "ccxt_options": {"has": nothing}}
    async with running(kind, **options) as bench:
        bench.status.counters.reconciliations = 0
        await bench.live()
        order = bench.place("sell", price="90000")
        bench.fill(order, "0.04")
        await bench.settled()
        bench.engine.deposit(bench.truth, "ETH", Decimal("1.5"))
        await bench.settled()


async def test_a_wrong_key(hasty):
    """It is told apart from all else."""
    async with running("ccxt-okx", api_key="unknown-key") as bench:
        await bench.reached("refused")
        assert bench.status.counters.errors == {"login": 1}


async def test_an_exchange_that_lacks_something(hasty):
    """It can't be used, and says why."""
    async with running("ccxt-okx", ccxt_options={"has": {"fetchMyTrades": False}}) as bench:
        await bench.reached("down")
        assert "ccxt has no fetchMyTrades of okx" in bench.status.reason
