"""What an account has: balances, orders, fills; every amount exact.

Amounts are `Decimal` and are computed under `EXACT`, which raises where something would be
rounded: a balance that is off by the last digit would be a fault of ours in a client's report.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import (
    ROUND_DOWN,
    ROUND_UP,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
)
from random import Random
from typing import Any

from aggregator.simulator.keys import KEYS, Key
from aggregator.simulator.market import Instrument

EXACT = Context(prec=100, traps=[DivisionByZero, Inexact, InvalidOperation])
# Where rounding is the venue's own rule, and for averages.
ROUNDED = Context(prec=100, traps=[DivisionByZero, InvalidOperation])
ZERO = Decimal(0)

_ORDERS_KEPT = 1_000
_FILLS_KEPT = 5_000
_FUNDS = {
    "main": {"BTC": "2", "ETH": "20", "SOL": "100", "USDT": "100000", "USDC": "5000"},
    "second": {"BTC": "0.5", "USDT": "10000"},
}
_UIDS = {("okx", "main"): 446556018584, ("okx", "second"): 446556018585}
_UIDS |= {("binance", "main"): 354937868, ("binance", "second"): 354937869}


def now_ms() -> int:
    """Return the wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


def text(amount: Decimal) -> str:
    """Return an amount as OKX writes it: no exponent, no trailing zeros."""
    digits = f"{amount:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def down(amount: Decimal, unit: Decimal | None) -> Decimal:
    """Return `amount` cut to the venue's smallest unit; None = it has none."""
    return amount if unit is None else amount.quantize(unit, ROUND_DOWN, context=ROUNDED)


def up(amount: Decimal, unit: Decimal | None) -> Decimal:
    """Return `amount` rounded up to the venue's smallest unit."""
    return amount if unit is None else amount.quantize(unit, ROUND_UP, context=ROUNDED)


@dataclass(slots=True)
class Balance:
    """Of one currency: what may be used, what open orders hold, and since when it is so."""

    available: Decimal = ZERO
    frozen: Decimal = ZERO
    updated_ms: int = 0

    @property
    def total(self) -> Decimal:
        """Both together."""
        return EXACT.add(self.available, self.frozen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution; `fee` is positive, in `fee_currency`."""

    id: int
    order_id: int
    instrument: Instrument
    side: str
    price: Decimal
    size: Decimal
    value: Decimal
    fee: Decimal
    fee_currency: str
    maker: bool
    ms: int

    def describe(self) -> dict[str, Any]:
        """Return the fill as `GET /accounts/...` lists it."""
        return {
            "id": str(self.id),
            "order_id": str(self.order_id),
            "instrument": f"{self.instrument.base}/{self.instrument.quote}",
            "side": self.side,
            "price": text(self.price),
            "size": text(self.size),
            "value": text(self.value),
            "fee": text(self.fee),
            "fee_currency": self.fee_currency,
            "role": "maker" if self.maker else "taker",
            "ms": self.ms,
        }


@dataclass(slots=True, eq=False, kw_only=True)
class Order:
    """One order; `size` is of the base currency, None where `quote_size` was ordered instead."""

    id: int
    client_id: str
    instrument: Instrument
    side: str
    type: str
    price: Decimal | None
    size: Decimal | None
    quote_size: Decimal | None
    created_ms: int
    updated_ms: int
    rng: Random
    tag: str = ""
    # By hand alone: the market's price does not fill it.
    held: bool = False
    state: str = "live"
    # Why it ended: user, system, post_only, ioc, fok, liquidity, or what was wrong with it.
    reason: str = ""
    cancel_id: str = ""
    frozen: Decimal = ZERO
    filled: Decimal = ZERO
    value: Decimal = ZERO
    fee: Decimal = ZERO
    last: Fill | None = None

    @property
    def buys(self) -> bool:
        """Whether it is a buy."""
        return self.side == "buy"

    @property
    def working(self) -> bool:
        """Whether it can still be filled."""
        return self.state in ("live", "partially_filled")

    @property
    def pays(self) -> str:
        """The currency it holds while it works."""
        return self.instrument.quote if self.buys else self.instrument.base

    @property
    def gets(self) -> str:
        """The currency it brings, which the fee is taken from."""
        return self.instrument.base if self.buys else self.instrument.quote

    @property
    def remaining(self) -> Decimal:
        """What is left of `size`."""
        return ZERO if self.size is None else EXACT.subtract(self.size, self.filled)

    def average(self, unit: Decimal | None = None) -> Decimal:
        """Return the mean price of what was filled."""
        if not self.filled:
            return ZERO
        mean = ROUNDED.divide(self.value, self.filled)
        return down(mean, unit or Decimal("1e-12"))

    def describe(self) -> dict[str, Any]:
        """Return the order as `GET /accounts/...` lists it."""
        return {
            "id": str(self.id),
            "client_id": self.client_id,
            "instrument": f"{self.instrument.base}/{self.instrument.quote}",
            "side": self.side,
            "type": self.type,
            "price": None if self.price is None else text(self.price),
            "size": None if self.size is None else text(self.size),
            "quote_size": None if self.quote_size is None else text(self.quote_size),
            "filled": text(self.filled),
            "average": text(self.average()),
            "value": text(self.value),
            "fee": text(self.fee),
            "fee_currency": self.gets,
            "state": self.state,
            "reason": self.reason,
            "held": self.held,
            "created_ms": self.created_ms,
            "updated_ms": self.updated_ms,
        }


@dataclass(slots=True, eq=False)
class Account:
    """One account of one venue; orders are in `open` while they work, in `recent` after."""

    venue: str
    name: str
    uid: int
    balances: dict[str, Balance]
    updated_ms: int = 0
    open: dict[int, Order] = field(default_factory=dict)
    recent: deque[Order] = field(default_factory=lambda: deque(maxlen=_ORDERS_KEPT))
    fills: deque[Fill] = field(default_factory=lambda: deque(maxlen=_FILLS_KEPT))

    def balance(self, currency: str) -> Balance:
        """Return the balance of a currency, which it may have none of."""
        return self.balances.setdefault(currency, Balance())

    def orders(self) -> list[Order]:
        """Return all orders that are remembered, oldest first."""
        return sorted([*self.recent, *self.open.values()], key=lambda order: order.id)

    def find(self, order_id: int | None, client_id: str) -> Order | None:
        """Return the order of this number, or else the newest of this name."""
        if order_id is not None:
            known = [order for order in self.recent if order.id == order_id]
            return self.open.get(order_id) or (known[0] if known else None)
        named = [order for order in self.orders() if client_id and order.client_id == client_id]
        return named[-1] if named else None

    def describe(self) -> dict[str, Any]:
        """Return the true state, for `GET /accounts/...`."""
        return {
            "venue": self.venue,
            "name": self.name,
            "uid": str(self.uid),
            "open_orders": [order.describe() for order in self.open.values()],
            "recent_orders": [order.describe() for order in self.recent],
            "fills": [fill.describe() for fill in self.fills],
            "balances": {
                currency: {"available": text(one.available), "frozen": text(one.frozen)}
                for currency, one in sorted(self.balances.items())
            },
        }


class Accounts:
    """The built-in accounts of both venues, and whose key is whose."""

    def __init__(self) -> None:
        now = now_ms()
        self._accounts = {
            (venue, name): Account(venue, name, uid, _funds(name, now), now)
            for (venue, name), uid in _UIDS.items()
        }
        self._keys = {(key.venue, key.api_key): key for key in KEYS}

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def of(self, venue: str, name: str) -> Account | None:
        """Return the account of this name; None = there is none."""
        return self._accounts.get((venue, name))

    def key(self, venue: str, api_key: str) -> Key | None:
        """Return what is known of an API key."""
        return self._keys.get((venue, api_key))

    def revoke(self, key: Key) -> None:
        """Forget a key."""
        self._keys.pop((key.venue, key.api_key), None)

    def owner(self, key: Key) -> Account:
        """Return whose key it is."""
        return self._accounts[key.venue, key.account]


def _funds(name: str, ms: int) -> dict[str, Balance]:
    return {ccy: Balance(Decimal(have), ZERO, ms) for ccy, have in _FUNDS[name].items()}
