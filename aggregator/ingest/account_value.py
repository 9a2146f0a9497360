"""What an account is worth: exact sums of exact products."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from aggregator.decimals import product
from aggregator.model import BalanceUpdate, Holding, PortfolioUpdate

from .account_amounts import ZERO, add, text


def valued(
    balances: Iterable[BalanceUpdate], prices: Mapping[str, str], currency: str, now_us: int
) -> PortfolioUpdate | None:
    """
    Return an account's portfolio; `None` for an account that never had anything.

    Args:
        balances: what it has of each asset.
        prices: what assets cost in `currency`; one without a price has no value, and adds nothing.
        currency: the asset that is reckoned in.
        now_us: the present, in microseconds since the epoch.

    """
    held = list(balances)
    if not held:
        return None
    cash, total, positions = ZERO, ZERO, []
    for balance in sorted(held, key=lambda each: each.asset):
        quantity = add(Decimal(balance.available), Decimal(balance.frozen))
        if balance.asset == currency:
            cash = quantity
        elif quantity:
            price = prices.get(balance.asset)
            value = None if price is None else product(price, text(quantity))
            total = add(total, Decimal(value or 0))
            positions.append(Holding(symbol=balance.asset, quantity=text(quantity), value=value))
    return PortfolioUpdate(
        account=held[0].account,
        exchange=held[0].exchange,
        total_asset=text(add(total, cash)),
        cash_balance=text(cash),
        positions=positions,
        updated_us=now_us,
        currency=currency,
    )
