"""
What ccxt's orders, fills and balances mean.

https://docs.ccxt.com/#/README?id=order-structure
https://docs.ccxt.com/#/README?id=trade-structure
https://docs.ccxt.com/#/README?id=balance-structure
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from aggregator import api

from .digits import decimal_text

STATUSES: dict[str, api.OrderStatus] = {
    "open": "NEW",
    "closed": "FILLED",
    "canceled": "CANCELED",
    "cancelled": "CANCELED",
    "canceling": "CANCELED",
    "expired": "EXPIRED",
    "rejected": "REJECTED",
}
SIDES: dict[str, api.OrderSide] = {"buy": "BUY", "sell": "SELL"}
ROLES: dict[str, api.FillRole] = {"maker": "MAKER", "taker": "TAKER"}
TIMES = ("lastUpdateTimestamp", "lastTradeTimestamp", "timestamp")


def order_of(account: str, exchange: str, row: Mapping[str, Any], now_us: int) -> api.OrderUpdate:
    """
    Return the state of an order; `now_us` is for exchanges that tell no time.

    Raises:
        LookupError, ValueError: something is missing, or is no amount.

    """
    filled = _amount(row.get("filled")) or "0"
    status = STATUSES[row["status"]]
    if status == "NEW" and filled.strip("0."):
        status = "PARTIALLY_FILLED"
    return api.OrderUpdate(
        account=account,
        exchange=exchange,
        order_id=str(row["id"]),
        client_order_id=row.get("clientOrderId") or None,
        symbol=row["symbol"],
        side=SIDES[row["side"]],
        type=api.excerpt(str(row.get("type") or "unknown").encode()).upper(),
        status=status,
        # An order may be for an amount of the quote; then what it has filled is all that is known.
        quantity=_amount(row.get("amount")) or filled,
        filled_quantity=filled,
        price=_some(row.get("price")),
        avg_price=_some(row.get("average")),
        updated_us=_time_us(row, now_us),
    )


def fill_of(account: str, exchange: str, row: Mapping[str, Any], now_us: int) -> api.Fill:
    """
    Return a fill; `now_us` is for exchanges that tell no time.

    Raises:
        LookupError, ValueError: something is missing, or is no amount.

    """
    fee = row.get("fee") or {}
    cost = _amount(fee.get("cost"))
    if cost and "fillFee" in (row.get("info") or ()):
        # Of OKX's pushes, unlike of its answers, ccxt leaves the sign as it is: paid is below zero.
        cost = cost.removeprefix("-") if cost.startswith("-") else f"-{cost}"
    price, quantity = _amount(row["price"]), _amount(row["amount"])
    if price is None or quantity is None:
        raise ValueError("a fill without a price or an amount")
    return api.Fill(
        account=account,
        exchange=exchange,
        trade_id=str(row["id"]),
        order_id=str(row["order"]),
        symbol=row["symbol"],
        side=SIDES[row["side"]],
        price=price,
        quantity=quantity,
        fee=cost,
        fee_asset=fee.get("currency") or None,
        role=ROLES.get(row.get("takerOrMaker") or ""),
        traded_us=_time_us(row, now_us),
    )


def account_of(balance: Mapping[str, Any], asset: str) -> tuple[str, str] | None:
    """Return what is available and what is frozen of an asset; `None` if not both are known."""
    free, used = (_amount(balance[kind].get(asset)) for kind in ("free", "used"))
    return None if free is None or used is None else (free, used)


def _amount(value: Any) -> str | None:
    """Return an amount as plain decimal text; `None` stays `None`."""
    text = decimal_text(value)
    return None if text is None else msgspec.convert(text, api.Amount)


def _some(value: Any) -> str | None:
    """Return an amount that is not zero."""
    text = _amount(value)
    return text if text and text.strip("-0.") else None


def _time_us(row: Mapping[str, Any], now_us: int) -> int:
    """Return when something was, as far as the exchange tells."""
    times = [row.get(name) for name in TIMES]
    return next((int(time) * 1000 for time in times if time), now_us)
