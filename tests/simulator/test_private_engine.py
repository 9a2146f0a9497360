import random
from decimal import Decimal

import pytest

from aggregator.simulator import Simulator
from aggregator.simulator.accounts import text
from aggregator.simulator.wanted import Refused, Wanted

D = Decimal


@pytest.fixture(params=["okx", "binance"])
def venue(request):
    return request.param


def started(**options):
    """Return a simulator that is not served: its engine needs no socket."""
    return Simulator(ticks_per_s=0, **options)


def step(simulator, steps=1):
    for _ in range(steps):
        simulator.market.step()
        simulator.engine.advance()


def order(simulator, venue, side, name="BTC/USDT", **given):
    account = simulator.engine.accounts.of(venue, "main")
    one = simulator.engine.instrument(venue, name)
    given = {
        name: D(v) if name in ("price", "size", "quote_size") else v for name, v in given.items()
    }
    if "price" not in given:
        given["type"] = "market"
    return account, simulator.engine.place(account, Wanted(instrument=one, side=side, **given))


def funds(account):
    return {c: (text(b.available), text(b.frozen)) for c, b in account.balances.items()}


def test_a_resting_order_freezes_and_gives_back(venue):
    """A limit order holds price times size, a cancellation gives all of it back."""
    simulator = started()
    account, bought = order(simulator, venue, "buy", price="60000.01", size="0.12345")
    assert funds(account)["USDT"] == ("92592.9987655", "7407.0012345")
    assert bought.state == "live"
    simulator.engine.cancel(account, bought)
    assert funds(account)["USDT"] == ("100000", "0")
    assert (bought.state, list(account.open), list(account.recent)) == ("canceled", [], [bought])


def test_fills_by_hand_are_exact(venue):
    """A part is paid at the order's price, the fee is of what is received, to the last digit."""
    simulator = started()
    account, sold = order(simulator, venue, "sell", price="70000.01", size="0.1")
    fill = simulator.engine.fill(account, sold, D("0.03333"))
    rate = D("0.0008") if venue == "okx" else D("0.001")
    value = D("70000.01") * D("0.03333")
    fee = value * rate if venue == "okx" else (value * rate).quantize(D("1e-8"), "ROUND_DOWN")
    assert (fill.value, fill.fee, fill.fee_currency, fill.maker) == (value, fee, "USDT", True)
    assert account.balance("USDT").available == D(100000) + value - fee
    assert funds(account)["BTC"] == ("1.9", "0.06667")
    assert (sold.state, sold.filled, sold.average()) == (
        "partially_filled",
        D("0.03333"),
        D("70000.01"),
    )
    simulator.engine.fill(account, sold)
    assert (sold.state, funds(account)["BTC"]) == ("filled", ("1.9", "0"))


def test_a_market_order_takes_levels_of_the_book(venue):
    """It is filled at once, from the best price on, the book's sizes at the book's prices."""
    simulator = started()
    one = simulator.engine.instrument(venue, "BTC/USDT")
    book = simulator._books[venue == "okx"].of(one)
    best = [(D(t).scaleb(-2), D(n).scaleb(-5)) for t, n in book.best_asks(2)]
    account, bought = order(simulator, venue, "buy", size="1")
    fills = list(account.fills)
    assert [(fill.price, fill.size) for fill in fills[:2]] == best
    assert 2 < len(fills) <= 5
    assert sum(fill.size for fill in fills) == 1
    assert bought.state == "filled"
    spent = sum(fill.value for fill in fills)
    assert account.balance("USDT").available == D(100000) - spent
    assert account.balance("BTC").total == D(3) - sum(fill.fee for fill in fills)


def test_a_market_order_by_the_quote_currency(venue):
    """As many lots as the money is enough for are bought; the rest of the money comes back."""
    simulator = started()
    account, bought = order(simulator, venue, "buy", quote_size="1000")
    assert bought.state == "filled"
    assert D(999) < bought.value <= D(1000)
    assert account.balance("USDT").available == D(100000) - bought.value
    assert account.balance("USDT").frozen == 0


def test_the_price_fills_what_it_reaches_in_parts(venue):
    """A resting order is filled at its own price, in several steps of the market, never beyond."""
    simulator = started()
    account, sold = order(simulator, venue, "sell", price="67100", size="0.5")
    steps = 0
    while sold.working and steps < 3000:
        before = sold.filled
        step(simulator)
        steps += 1
        one = sold.instrument
        bid = D(one.bid + (one.okx_offset if venue == "okx" else 0)).scaleb(-2)
        assert (sold.filled > before) == (one.moved and bid >= 67100)
    assert sold.state == "filled"
    assert len(account.fills) >= 2
    assert {fill.price for fill in account.fills} == {D(67100)}
    assert all(fill.maker for fill in account.fills)


def test_the_same_seed_fills_the_same(venue):
    """Seed and requests decide all fills; a held order waits for hands."""

    def run(seed):
        simulator = started(seed=seed)
        order(simulator, venue, "buy", size="0.5")
        account, _ = order(simulator, venue, "sell", price="67050", size="0.7")
        _, held = order(simulator, venue, "sell", price="60000", size="0.1", held=True)
        step(simulator, 300)
        assert held.filled == 0
        return [(f.price, f.size, f.maker) for f in account.fills]

    assert run(3) == run(3)
    assert run(3) != run(4)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({"type": "ioc", "price": "60000", "size": "1"}, "canceled"),
        ({"type": "fok", "price": "67100", "size": "3"}, "canceled"),
        ({"type": "fok", "price": "69000", "size": "0.0001"}, "filled"),
        ({"type": "post_only", "price": "60000", "size": "0.1"}, "live"),
    ],
)
def test_orders_that_do_not_wait(venue, given, state):
    """IOC and FOK end at once, post-only waits; nothing stays frozen of what has ended."""
    simulator = started()
    simulator.engine.accounts.of(venue, "main").balance("USDT").available = D(500000)
    account, bought = order(simulator, venue, "buy", **given)
    assert bought.state == state
    assert bool(account.balance("USDT").frozen) == (state == "live")


def test_post_only_that_would_take():
    """Binance refuses it, OKX takes it and cancels it."""
    simulator = started()
    given = {"type": "post_only", "price": "70000", "size": "0.1"}
    with pytest.raises(Refused, match="would take"):
        order(simulator, "binance", "buy", **given)
    account, bought = order(simulator, "okx", "buy", **given)
    assert (bought.state, bought.reason, list(account.fills)) == ("canceled", "post_only", [])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"price": "60000", "size": "100"}, "balance"),
        ({"price": "60000", "size": "0"}, "minimum"),
        ({"price": "60000", "size": "0.000001"}, "lot"),
        ({"price": "60000.001", "size": "0.1"}, "tick"),
        ({"price": "60000", "size": "0.1", "quote_size": "5"}, "size"),
        ({"price": "1e300", "size": "0.1"}, "size"),
        ({"price": "60000", "size": "1e15"}, "size"),
        ({"quote_size": "1e-19"}, "size"),
        ({"price": "60000", "size": "0.1", "type": "market"}, "price"),
        ({"price": "60000", "size": "0.1", "type": "stop"}, "type"),
        ({"size": "100"}, "balance"),
        ({"price": "60000", "size": "0.1", "name": "WAVES/USDT"}, "instrument"),
    ],
)
def test_what_is_refused(venue, given, reason):
    """A refused order changes nothing."""
    simulator = started()
    account = simulator.engine.accounts.of(venue, "main")
    before = funds(account)
    with pytest.raises(Refused) as refused:
        order(simulator, venue, "buy", **given)
    assert (refused.value.reason, funds(account), account.open) == (reason, before, {})


@pytest.mark.parametrize("name", ["BTC/USDT", "SOL/BTC", "ETH/USDC"])
def test_no_amount_is_made_or_lost(venue, name):
    """After any orders, fills and cancellations balances are the funds and the fills, exactly."""
    simulator = started()
    account = simulator.engine.accounts.of(venue, "main")
    start = {currency: b.total for currency, b in account.balances.items()}
    one = simulator.engine.instrument(venue, name)
    rng = random.Random(f"{venue}/{name}")
    for _ in range(150):
        size = D(rng.randint(1, 3000)).scaleb(-one.lot_decimals)
        side, kind = rng.choice(["buy", "sell"]), rng.choice(["limit", "market", "ioc"])
        ticks = one.last + rng.randint(-30, 30)
        price = None if kind == "market" else D(ticks).scaleb(-one.decimals)
        try:
            made = simulator.engine.place(
                account, Wanted(instrument=one, side=side, type=kind, size=size, price=price)
            )
        except Refused:
            continue
        if made.working and rng.random() < 0.3:
            simulator.engine.cancel(account, made)
        step(simulator)
        assert all(b.available >= 0 and b.frozen >= 0 for b in account.balances.values())
    for open_order in list(account.open.values()):
        simulator.engine.cancel(account, open_order)
    change = dict.fromkeys(account.balances, D(0))
    for fill in account.fills:
        sign = 1 if fill.side == "buy" else -1
        change[one.base] += sign * fill.size
        change[one.quote] -= sign * fill.value
        change[fill.fee_currency] -= fill.fee
    assert len(account.fills) > 50
    for currency, balance in account.balances.items():
        assert balance.frozen == 0
        assert balance.available == start.get(currency, D(0)) + change[currency]
