"""
Makes good what was missed of an account: asks the venue for its whole state, and tells the news.

Balances are asked for first, then orders, then fills: so a fill that is in an order's state is
also in the answer, and what comes later than an answer comes on the stream. The proof that nothing
is missing is arithmetic: an order has filled as much as its fills add up to. Where it has not, the
fills of that order are asked for, again after a pause: some venues' answers are behind.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from decimal import Decimal

import msgspec

from aggregator.account import AccountConnector
from aggregator.model import BalanceUpdate, Event, Fill, OrderUpdate

from .account_amounts import ZERO, add, text
from .account_ledger import FillKey, Ledger, OrderKey, fill_key, order_key

log = logging.getLogger(__name__)

TOGETHER = 4
"""Orders that a venue is asked for at the same time."""
PAUSES_S = (0.0, 0.5, 2.0)
"""Before an order's fills are asked for; after the last there is no more hope."""


class Reconciliation:
    """
    One comparison of what is known with what the venue says.

    Args:
        connector: asks the venue.
        ledger: what is known.
        first: nothing was known before.
        sleep: waits before something is asked for again.

    Attributes:
        told: how many events were news.
        unaccounted: orders that filled more than all of their fills that the venue tells.

    """

    def __init__(
        self,
        connector: AccountConnector,
        ledger: Ledger,
        *,
        first: bool,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._connector = connector
        self._ledger = ledger
        self._first = first
        self._sleep = sleep
        self._balances: list[BalanceUpdate] = []
        self._orders: dict[OrderKey, OrderUpdate] = {}
        self._fills: dict[FillKey, Fill] = {}
        self.told = 0
        self.unaccounted: list[OrderUpdate] = []

    async def ask(self, stirred: Collection[str] = ()) -> None:
        """
        Ask the venue for everything.

        `stirred` are the assets of which the stream has brought a balance since the last time.

        Raises:
            ConnectorError, UpstreamError: there is no answer to something.

        """
        connector, ledger = self._connector, self._ledger
        self._balances = self._with_nothing(await connector.balances())
        changed = None if self._first else frozenset({*self._changed(), *stirred})
        self._orders = {order_key(order): order for order in await connector.open_orders()}
        since = ledger.since(frozenset(o.symbol for o in self._orders.values()), changed)
        fills = await connector.fills(since)
        self._add(fill for fill in fills if fill.traded_us >= since.us)
        await self._ask_for_states()
        if not self._first:
            await self._complete()

    def tell(self, touched: Collection[str] = ()) -> None:
        """
        Tell what is news.

        `touched` are the assets of which the stream has brought a balance since the beginning.
        """
        ledger = self._ledger
        # In the order of time; at the same moment the fill, then the state that it led to.
        events: list[tuple[int, int, int, Event]] = []
        fills = sorted(self._fills.values(), key=lambda f: (len(f.trade_id), f.trade_id))
        events += [(fill.traded_us, 0, n, fill) for n, fill in enumerate(fills)]
        events += [(o.updated_us, 1, n, o) for n, o in enumerate(self._orders.values())]
        for *_, event in sorted(events, key=lambda each: each[:3]):
            self.told += ledger.take(event)
        for order in self._orders.values() if self._first else self.unaccounted:
            # What was filled after its answer, by fills whose answer was later, comes on top.
            ledger.account_for(order, self._found(order_key(order), order.updated_us))
        for balance in self._balances:
            if balance.asset not in touched:
                self.told += ledger.take(balance)

    def _with_nothing(self, balances: list[BalanceUpdate]) -> list[BalanceUpdate]:
        """Add the assets that the venue does not tell of any more, since there is nothing left."""
        there = {balance.asset for balance in balances}
        newest_us = max((balance.updated_us for balance in balances), default=0)
        for old in self._ledger.balances.values():
            if old.asset not in there:
                at_us = max(newest_us, old.updated_us)
                nought = {"available": "0", "frozen": "0", "updated_us": at_us, "reason": None}
                balances.append(msgspec.structs.replace(old, **nought))
        return balances

    def _changed(self) -> Iterable[str]:
        """Yield the assets of which there is more or less than is known."""
        for new in self._balances:
            old = self._ledger.balances.get(new.asset)
            before = (Decimal(old.available), Decimal(old.frozen)) if old else (0, 0)
            if (Decimal(new.available), Decimal(new.frozen)) != before:
                yield new.asset

    def _add(self, fills: Iterable[Fill]) -> None:
        self._fills |= {fill_key(fill): fill for fill in fills if self._ledger.is_news(fill)}

    async def _ask_for_states(self) -> None:
        """Ask for the orders that are open no more, and for those that have fills unheard of."""
        wanted = {order_key(order): None for order in self._ledger.open_orders()}
        wanted |= {order_key(fill): None for fill in self._fills.values()}
        missing = [key for key in wanted if key not in self._orders]
        for start in range(0, len(missing), TOGETHER):
            async with asyncio.TaskGroup() as tasks:
                for key in missing[start : start + TOGETHER]:
                    tasks.create_task(self._ask_for(key), name=f"order of {self._connector.name}")

    async def _ask_for(self, key: OrderKey) -> None:
        state = await self._connector.order(*key) or self._gone(key)
        if state is not None:
            self._orders[key] = state

    def _gone(self, key: OrderKey) -> OrderUpdate | None:
        """Return how an order ended that the venue knows no more; some forget them after hours."""
        order = self._ledger.order(key)
        if order is None or order.status not in OrderUpdate.OPEN:
            return None
        filled = add(Decimal(order.filled_quantity), self._found(key))
        status = "FILLED" if filled >= Decimal(order.quantity) else "CANCELED"
        return msgspec.structs.replace(order, status=status, filled_quantity=text(filled))

    async def _complete(self) -> None:
        """Ask for the fills of orders of which some are missing."""
        for pause_s in PAUSES_S:
            incomplete = [order for order in self._orders.values() if self._lacks(order)]
            if not incomplete:
                return
            await self._sleep(pause_s)
            for order in incomplete:
                self._add(await self._connector.fills_of(*order_key(order)))
        self.unaccounted = [order for order in self._orders.values() if self._lacks(order)]
        for order in self.unaccounted:
            log.warning(
                "account %s: fills of order %s are missing", self._connector.name, order.order_id
            )

    def _lacks(self, order: OrderUpdate) -> bool:
        key = order_key(order)
        return Decimal(order.filled_quantity) > add(self._ledger.accounted(key), self._found(key))

    def _found(self, key: OrderKey, behind_us: int = -1) -> Decimal:
        """Return how much of an order was filled, behind this time, by the fills that are news."""
        later = (fill for fill in self._fills.values() if fill.traded_us > behind_us)
        quantities = (Decimal(fill.quantity) for fill in later if order_key(fill) == key)
        return functools.reduce(add, quantities, ZERO)
