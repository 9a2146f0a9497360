"""
What is known of an account, so that of all that a venue says only the news are told.

A venue says the same several times: on its stream, in answers, in frames that were on their way
while an answer was made. So an order never goes back, a fill is told once, and a balance only when
it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

import msgspec

from aggregator.account import Since
from aggregator.model import BalanceUpdate, Event, Fill, OrderUpdate, PortfolioUpdate

from .account_amounts import ZERO, add, subtract, text

MAX_OVER = 10_000
"""Orders that are over, and fills, that are remembered."""
MAX_FILLS = 20_000
CLOCKS_US = 60_000_000
"""By which the venue's clock may differ from ours; with less than that no venue lets us in."""

OrderKey = tuple[str, str]
FillKey = tuple[str, str, str]
Publish = Callable[[Event], None]


def order_key(event: OrderUpdate | Fill) -> OrderKey:
    """Return what an order is known by: at some venues ids are those of an instrument."""
    return event.symbol, event.order_id


def fill_key(fill: Fill) -> FillKey:
    """Return what a fill is known by: who trades with himself has two of one trade."""
    return fill.symbol, fill.order_id, fill.trade_id


class Known:
    """An order: its last state, and how much of it is filled by what was told or was before."""

    __slots__ = ("accounted", "order")

    def __init__(self) -> None:
        self.order: OrderUpdate | None = None
        self.accounted = ZERO

    @property
    def is_open(self) -> bool:
        """Whether it may still change."""
        return self.order is not None and self.order.status in OrderUpdate.OPEN


class Ledger:
    """
    The known state of one account.

    Args:
        publish: takes what is news.
        since_us: fills from here on are asked for, in microseconds since the epoch.

    Attributes:
        balances: the last balance of each asset.
        repeated: how often something was said that was known.

    """

    def __init__(self, publish: Publish, since_us: int) -> None:
        self._publish = publish
        self._orders: dict[OrderKey, Known] = {}
        self._fills: dict[FillKey, int] = {}
        self._last: dict[str, str] = {}
        # The same at the beginning of the last comparison: until there none is missing.
        self._compared: dict[str, str] = {}
        self._since_us = since_us
        # Of those that are older it is not remembered which were told.
        self._floor_us = 0
        self.balances: dict[str, BalanceUpdate] = {}
        self._portfolio: PortfolioUpdate | None = None
        self.repeated = 0

    # Taking what is said.

    def take(self, event: Event) -> bool:
        """Publish an event if it is news; return whether it is."""
        match event:
            case OrderUpdate():
                news = self._take_order(event)
            case Fill():
                news = self._take_fill(event)
            case BalanceUpdate():
                return self._take_balance(event)
            case PortfolioUpdate():
                return self._take_portfolio(event)
            case _:
                raise TypeError(f"{type(event).__name__} is not of an account")
        self.repeated += not news
        return news

    def _take_order(self, new: OrderUpdate) -> bool:
        known = self._known(order_key(new))
        if known.order is not None and not _is_newer(new, known.order):
            return False
        known.order = new
        if not known.is_open:
            self._bury(order_key(new), known)
        self._publish(new)
        return True

    def _take_fill(self, fill: Fill) -> bool:
        if not self.is_news(fill):
            return False
        self._fills[fill_key(fill)] = fill.traded_us
        if len(self._fills) > MAX_FILLS:
            oldest = next(iter(self._fills))
            self._floor_us = max(self._floor_us, self._fills.pop(oldest) + 1)
        self._last[fill.symbol] = fill.trade_id
        known = self._known(order_key(fill))
        known.accounted = add(known.accounted, Decimal(fill.quantity))
        self._publish(fill)
        return True

    def _take_balance(self, new: BalanceUpdate) -> bool:
        old = self.balances.get(new.asset)
        total, before = _total(new), ZERO if old is None else _total(old)
        if old is None and total == ZERO:
            return False
        if old is not None:
            if new.updated_us < old.updated_us:
                return False
            same = total == before and Decimal(new.available) == Decimal(old.available)
            if same:
                return False
            new = msgspec.structs.replace(new, change=text(subtract(total, before)))
        self.balances[new.asset] = new
        self._publish(new)
        return True

    def _take_portfolio(self, new: PortfolioUpdate) -> bool:
        old = self._portfolio
        if old is not None and msgspec.structs.replace(old, updated_us=new.updated_us) == new:
            return False
        self._portfolio = new
        self._publish(new)
        return True

    # What is known.

    def is_news(self, fill: Fill) -> bool:
        """Return whether a fill has not been told."""
        return fill_key(fill) not in self._fills and fill.traded_us >= self._floor_us

    def open_orders(self) -> Iterator[OrderUpdate]:
        """Yield the orders that are open as far as is known."""
        yield from [k.order for k in self._orders.values() if k.order is not None and k.is_open]

    def order(self, key: OrderKey) -> OrderUpdate | None:
        """Return the last known state of an order."""
        known = self._orders.get(key)
        return None if known is None else known.order

    def accounted(self, key: OrderKey) -> Decimal:
        """Return how much of an order is filled by what was told, or had been before the start."""
        known = self._orders.get(key)
        return ZERO if known is None else known.accounted

    def account_for(self, order: OrderUpdate, after: Decimal = ZERO) -> None:
        """
        Take it that of what an order has filled no more will be found.

        `after` is what it has filled since that was its state.
        """
        self._known(order_key(order)).accounted = add(Decimal(order.filled_quantity), after)

    def since(self, symbols: frozenset[str], assets: frozenset[str] | None) -> Since:
        """Return which fills there may be that are not known: see `Since`."""
        return Since(max(self._since_us, self._floor_us), symbols, dict(self._compared), assets)

    def newest(self) -> dict[str, str]:
        """Return the newest fill that is known of each symbol."""
        return dict(self._last)

    def reconciled(self, asked_us: int, newest: Mapping[str, str]) -> None:
        """Take note that everything until about then is known, by the daemon's clock."""
        self._since_us = max(self._since_us, asked_us - CLOCKS_US)
        self._compared = dict(newest)

    def _known(self, key: OrderKey) -> Known:
        known = self._orders.get(key)
        if known is None:
            known = self._orders[key] = Known()
        return known

    def _bury(self, key: OrderKey, known: Known) -> None:
        """Put an order that is over behind all others, and forget the first of too many."""
        del self._orders[key]
        self._orders[key] = known
        if len(self._orders) > MAX_OVER:
            oldest = next((k for k, each in self._orders.items() if not each.is_open), None)
            if oldest is not None:
                del self._orders[oldest]


def _total(balance: BalanceUpdate) -> Decimal:
    return add(Decimal(balance.available), Decimal(balance.frozen))


def _is_newer(new: OrderUpdate, old: OrderUpdate) -> bool:
    """Return whether a state of an order is a later one than another, not the same, not older."""
    is_over, was_over = (each.status not in OrderUpdate.OPEN for each in (new, old))
    if was_over and not is_over:
        return False
    filled, before = Decimal(new.filled_quantity), Decimal(old.filled_quantity)
    if filled != before or is_over != was_over:
        return filled >= before
    if new.updated_us < old.updated_us:
        return False
    return _state(new) != _state(old)


def _state(order: OrderUpdate) -> tuple[object, ...]:
    """Return what is told of an order, numbers by their value."""
    price = None if order.price is None else Decimal(order.price)
    return order.status, Decimal(order.quantity), price, order.client_order_id
