"""`aggregator orders`: a user's own orders, fills and balances, as they happen."""

from __future__ import annotations

from typing import TextIO

import click

from .client import (
    Client,
    ClientError,
    Options,
    RefusedError,
    State,
    SubscriptionError,
    Text,
)
from .errors import CommandError
from .messages import BalanceUpdate, Error, Gap, Message, OrderUpdate, OwnTrade, PortfolioUpdate

CHANNELS = ("orders", "fills", "balances", "portfolio")
EXIT_UNAVAILABLE = 69
EXIT_USAGE = 2


class OrdersError(CommandError):
    """It can't go on."""


async def follow(url: str, token: str, *, otp: str | None, as_json: bool, out: TextIO) -> None:
    """
    Print what happens to a user's orders and balances, until cancelled.

    Args:
        url: of the daemon's WebSocket.
        token: whose.
        otp: a one-time code, where the user needs one.
        as_json: the messages as they come; else a line of words for each.
        out: where to.

    Raises:
        OrdersError: the daemon can't be reached at the start, or does not take the token.

    """
    try:
        async with Client(url, Options(token=token, otp=otp, text=as_json)) as client:
            client.on_state = _lost
            async for item in client.subscribe(*CHANNELS):
                if isinstance(item, Text):
                    out.write(item.text.decode().replace("\n", " ") + "\n")
                elif isinstance(item, Error):
                    raise OrdersError(item.message, EXIT_USAGE)
                elif line := line_of(item):
                    out.write(line + "\n")
                out.flush()
    except (SubscriptionError, RefusedError) as e:
        raise OrdersError(str(e), EXIT_USAGE) from e
    except ClientError as e:
        raise OrdersError(str(e), EXIT_UNAVAILABLE) from e


def _lost(state: State) -> None:
    if state.wait_s:
        click.echo("connection lost; trying again", err=True)


def line_of(message: Message) -> str:
    """Return a message in words, without what could move the cursor; empty where it has none."""
    text = _said(message)
    return "".join(c if c.isprintable() else "?" for c in text)


def _said(message: Message) -> str:
    match message:
        case OrderUpdate(data=order):
            price = "" if order.price is None else f" at {order.price:f}"
            what = f"{order.side} {order.quantity:f}{price}, filled {order.filled_quantity:f}"
            return f"{_head(message)} order {order.symbol} {what}: {order.status}"
        case OwnTrade(data=fill):
            fee = "" if fill.fee is None else f", fee {fill.fee:f} {fill.fee_asset or ''}".rstrip()
            what = f"{fill.side} {fill.quantity:f} at {fill.price:f}{fee}"
            return f"{_head(message)} fill {fill.symbol} {what}"
        case BalanceUpdate(data=balance):
            held = f"{balance.available:f} available, {balance.frozen:f} frozen"
            return f"{_head(message)} balance {balance.asset}: {held}"
        case PortfolioUpdate(data=portfolio):
            worth = f"{portfolio.total_asset:f} {portfolio.currency or ''}".rstrip()
            return f"{_head(message)} portfolio: {worth}, {portfolio.cash_balance:f} in cash"
        case Gap():
            cause = (message.data or {}).get("cause", message.reason)
            return f"gap on {message.channel}: {cause}"
    return ""


def _head(message: OrderUpdate | OwnTrade | BalanceUpdate | PortfolioUpdate) -> str:
    return f"{message.timestamp:%H:%M:%S} {message.exchange} {message.account}"
