"""What is known of an account: each thing is told once, and nothing goes back."""

from __future__ import annotations

import random
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest import account_ledger
from aggregator.ingest.account_ledger import Ledger
from aggregator.ingest.account_value import valued
from aggregator.model import BalanceUpdate, Fill, Heartbeat, OrderUpdate, PortfolioUpdate


def order(status="NEW", filled="0", at=1, **more):
    fields = {"order_id": "o1", "symbol": "BTC/USDT", "side": "BUY", "type": "LIMIT"}
    fields |= {"quantity": "1.0", "price": "100", "account": "main", "exchange": "okx"} | more
    return OrderUpdate(status=status, filled_quantity=filled, updated_us=at, **fields)


def fill(trade_id="1", quantity="0.1", at=1, **more):
    fields = {"order_id": "o1", "symbol": "BTC/USDT", "side": "BUY", "price": "100"} | more
    return Fill(
        account="main", exchange="okx", trade_id=trade_id, quantity=quantity, traded_us=at, **fields
    )


def balance(available="1", frozen="0", at=1, asset="BTC"):
    return BalanceUpdate(
        account="main",
        exchange="okx",
        asset=asset,
        available=available,
        frozen=frozen,
        updated_us=at,
    )


@pytest.fixture
def told():
    return []


@pytest.fixture
def ledger(told):
    return Ledger(told.append, since_us=0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (order(), order()),
        (order(), order(filled="0.0", price="100.00", at=2)),
        (order("PARTIALLY_FILLED", "0.2"), order("PARTIALLY_FILLED", "0.1", at=9)),
        (order("FILLED", "1.0"), order("PARTIALLY_FILLED", "0.9", at=9)),
        (order("CANCELED", "0"), order("NEW", "0", at=9)),
        (order("CANCELED", "0.5"), order("CANCELED", "0.50", at=9)),
        (order(price="101", at=5), order(price="100", at=4)),
    ],
)
def test_a_state_that_is_old_or_the_same(ledger, told, old, new):
    """It is not told, whatever its time says."""
    assert ledger.take(old)
    assert not ledger.take(new)
    assert told == [old]
    assert ledger.repeated == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (order(), order("PARTIALLY_FILLED", "0.1", at=1)),
        (order("PARTIALLY_FILLED", "0.1", at=5), order("PARTIALLY_FILLED", "0.2", at=4)),
        (order("PARTIALLY_FILLED", "0.1"), order("CANCELED", "0.1")),
        (order(at=4), order(price="101", at=4)),
        (order("CANCELED", "0.5"), order("FILLED", "1.0")),
    ],
)
def test_a_state_that_is_news(ledger, told, old, new):
    """It is told."""
    assert ledger.take(old)
    assert ledger.take(new)
    assert told == [old, new]


@given(st.randoms(use_true_random=False), st.integers(1, 6))
def test_whatever_comes_in_whatever_order(rng: random.Random, parts):
    """However states come, doubled and out of order, what is told goes forward to the last."""
    states = [order()]
    states += [order("PARTIALLY_FILLED", f"0.{n}", at=1 + n) for n in range(1, parts)]
    states.append(rng.choice([order("FILLED", "1.0", at=9), order("CANCELED", "0.9", at=9)]))
    mixed = states * 2
    rng.shuffle(mixed)
    told = []
    ledger = Ledger(told.append, since_us=0)
    for state in mixed:
        ledger.take(state)
    filled = [Decimal(each.filled_quantity) for each in told]
    assert filled == sorted(filled)
    assert told[-1] == states[-1]
    assert len({msgspec.json.encode(each) for each in told}) == len(told)


def test_fills_once(ledger, told):
    """By instrument, order and number: at some venues numbers are those of an instrument."""
    same = [fill(), fill(symbol="ETH/USDT"), fill(order_id="o2"), fill("2")]
    assert [ledger.take(each) for each in same * 2] == [True] * 4 + [False] * 4
    assert told == same
    assert ledger.accounted(("BTC/USDT", "o1")) == Decimal("0.2")


def test_orders_of_one_number(ledger, told):
    """Two instruments may have orders of the same number."""
    assert ledger.take(order("FILLED", "1.0"))
    assert ledger.take(order(symbol="ETH/USDT"))
    assert [each.symbol for each in ledger.open_orders()] == ["ETH/USDT"]


def test_balances_when_they_change(ledger, told):
    """With the exact change of the total; digits alone are no change."""
    assert ledger.take(balance("1.10", "0"))
    assert not ledger.take(balance("1.1", "0.00", at=2))
    assert not ledger.take(balance("9", "0", at=0))
    assert ledger.take(balance("0.9", "0.2", at=3))
    assert ledger.take(balance("0.8", "0", at=3))
    assert [(each.change and Decimal(each.change)) for each in told] == [None, 0, Decimal("-0.3")]
    assert not ledger.take(balance("0", "0", asset="ETH"))


def test_long_amounts_are_exact(ledger, told):
    """No digit of a sum is rounded."""
    ledger.take(balance("123456789012345678901234567890.123456789012345678", "0"))
    ledger.take(balance("123456789012345678901234567890.123456789012345679", "0"))
    assert told[-1].change == "0.000000000000000001"


def test_the_portfolio_when_it_changes(ledger, told):
    """Its time alone is no change."""
    first = PortfolioUpdate(
        account="main",
        exchange="okx",
        total_asset="1",
        cash_balance="1",
        positions=[],
        updated_us=1,
    )
    assert ledger.take(first)
    assert not ledger.take(msgspec.structs.replace(first, updated_us=2))
    assert ledger.take(msgspec.structs.replace(first, total_asset="2"))


def test_what_is_of_no_account(ledger):
    """It is a fault of the program."""
    with pytest.raises(TypeError):
        ledger.take(Heartbeat())


def test_orders_that_are_over_are_forgotten_one_day(ledger, told, monkeypatch):
    """The oldest first; those that are open never."""
    monkeypatch.setattr(account_ledger, "MAX_OVER", 10)
    ledger.take(order(order_id="open"))
    for number in range(30):
        ledger.take(order(order_id=str(number)))
        ledger.take(order("FILLED", "1.0", order_id=str(number)))
    assert len(ledger._orders) <= 11
    assert [each.order_id for each in ledger.open_orders()] == ["open"]
    assert ledger.order(("BTC/USDT", "29")).status == "FILLED"


def test_fills_that_are_forgotten_are_not_told_again(ledger, told, monkeypatch):
    """What is as old as one that was forgotten counts as told."""
    monkeypatch.setattr(account_ledger, "MAX_FILLS", 10)
    fills = [fill(str(number), at=100 + number) for number in range(30)]
    for each in fills * 2:
        ledger.take(each)
    assert told == fills
    assert len(ledger._fills) == 10


def test_which_fills_are_asked_for(ledger):
    """Those since the last comparison: that one is known says nothing of those before it."""
    asked = frozenset({"BTC/USDT"}), frozenset({"BTC"})
    assert ledger.since(*asked).us == 0
    ledger.take(fill("7", at=100_000_000))
    since = ledger.since(*asked)
    assert (since.us, since.last, since.symbols, since.assets) == (0, {}, *asked)
    newest = ledger.newest()
    ledger.take(fill("9", at=101_000_000))
    assert newest == {"BTC/USDT": "7"}
    ledger.reconciled(200_000_000, newest)
    since = ledger.since(*asked)
    assert (since.us, since.last) == (140_000_000, {"BTC/USDT": "7"})
    ledger.reconciled(100_000_000, newest)
    assert ledger.since(*asked).us == 140_000_000


def test_what_an_account_is_worth():
    """Exact products and sums; what has no price has no value, and what is nought no line."""
    held = [balance("1.5", "0.5"), balance("0", asset="ETH"), balance("7", asset="XYZ")]
    held.append(balance("10.10", "0.05", asset="USDT"))
    portfolio = valued(held, {"BTC": "42000.10"}, "USDT", 5)
    assert (portfolio.total_asset, portfolio.cash_balance) == ("84010.35", "10.15")
    rows = [(each.symbol, each.quantity, each.value) for each in portfolio.positions]
    assert rows == [("BTC", "2.0", "84000.2"), ("XYZ", "7", None)]
    assert valued([], {}, "USDT", 5) is None
