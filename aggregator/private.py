"""The bytes of what concerns one user alone, and the channels that it is published on."""

from __future__ import annotations

from typing import Any

import msgspec

from . import wire
from .model import BalanceUpdate, Event, Fill, OrderUpdate, PortfolioUpdate

CHANNELS: dict[type[Event], str] = {
    OrderUpdate: "orders",
    Fill: "fills",
    BalanceUpdate: "balances",
    PortfolioUpdate: "portfolio",
}
NAMES = frozenset(CHANNELS.values())
"""The same names for everybody; behind each, every user has a channel of its own."""
_TYPES: dict[type[Event], tuple[str, str, str]] = {
    OrderUpdate: ("order.update", "updated_us", "updated_at"),
    Fill: ("trade", "traded_us", "traded_at"),
    BalanceUpdate: ("balance.update", "updated_us", "updated_at"),
    PortfolioUpdate: ("portfolio.update", "updated_us", "updated_at"),
}
"""The message's type, and what becomes the time of its content."""


def place(event: Event) -> str:
    """Return what a newer event takes the place of in a snapshot; empty for a fill."""
    match event:
        case OrderUpdate():
            return f"{event.exchange}\0{event.account}\0{event.symbol}\0{event.order_id}"
        case BalanceUpdate():
            return f"{event.exchange}\0{event.account}\0{event.asset}"
        case PortfolioUpdate():
            return f"{event.exchange}\0{event.account}"
    return ""


def is_over(event: Event) -> bool:
    """Whether it is the last state of something, which no snapshot has any more."""
    return isinstance(event, OrderUpdate) and event.status not in OrderUpdate.OPEN


def encode(event: Event, seq: int, received_us: int, published_us: int) -> bytes:
    """
    Return the payload of a private event.

    Args:
        event: one of `CHANNELS`.
        seq: its number on the user's channel.
        received_us: when it arrived, in microseconds since the epoch.
        published_us: the present, likewise.

    """
    kind, time_field, time_name = _TYPES[type(event)]
    data: dict[str, Any] = msgspec.structs.asdict(event)
    account, exchange, time_us = data.pop("account"), data.pop("exchange"), data.pop(time_field)
    known = 0 <= time_us < wire.END_OF_TIME_US
    data[time_name] = wire.iso(time_us if known else received_us)
    fields = {
        "type": kind,
        "channel": CHANNELS[type(event)],
        "account": account,
        "exchange": exchange,
        "data": data,
        "timestamp": data[time_name],
        "seq": seq,
        "exchange_us": time_us if known else None,
        "received_us": received_us,
        "published_us": published_us,
    }
    return msgspec.json.encode(fields)
