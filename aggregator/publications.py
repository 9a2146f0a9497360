"""What may be published by others, as types: the bodies of `POST /publish`."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
)

from .model import FillRole, OrderSide, OrderStatus, State
from .options import Instrument
from .settings import FeedName

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")
Number = Annotated[str, StringConstraints(pattern=r"^-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?$")]


def _positive(text: str) -> str:
    if not Decimal(text) > 0:
        raise ValueError("has to be more than zero")
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has to be printable")
    return text


def _writable(value: float | str | None) -> float | str | None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("has to be within 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("has to be finite")
    return value


def _dated(value: object) -> str:
    # pydantic takes digits for seconds since the epoch, or for milliseconds if they are many.
    if not isinstance(value, str) or not DATE.match(value):
        raise ValueError("has to be a date and a time in ISO 8601")
    return value


Text = Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_printable)]
Positive = Annotated[Number, AfterValidator(_positive)]
Scalar = Annotated[int | float | Text | None, AfterValidator(_writable)]
Time = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_dated)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Keyed(_Model):
    """What is published just once, if it says so."""

    key: Key | None = None
    """Names this event: with the same key it is not published again."""


class Private(Keyed):
    """What concerns one user alone."""

    user_id: Annotated[int, Field(ge=1, le=2**53 - 1)]
    account: Text = "engine"
    exchange: Text = "engine"


class OrderData(_Model):
    """The content of an `order.update`."""

    order_id: Text
    symbol: Instrument
    side: OrderSide
    type: Text
    status: OrderStatus
    quantity: Number
    filled_quantity: Number
    updated_at: Time
    client_order_id: Text | None = None
    price: Number | None = None
    avg_price: Number | None = None


class FillData(_Model):
    """The content of a `trade`."""

    trade_id: Text
    order_id: Text
    symbol: Instrument
    side: OrderSide
    price: Number
    quantity: Number
    traded_at: Time
    client_order_id: Text | None = None
    fee: Number | None = None
    fee_asset: Text | None = None
    role: FillRole | None = None


class BalanceData(_Model):
    """The content of a `balance.update`."""

    asset: Text
    available: Number
    frozen: Number
    updated_at: Time
    change: Number | None = None
    reason: Text | None = None


class HoldingData(_Model):
    """A part of a portfolio."""

    symbol: Text
    quantity: Number
    avg_price: Number | None = None
    value: Number | None = None
    unrealized_pnl: Number | None = None


class PortfolioData(_Model):
    """The content of a `portfolio.update`."""

    total_asset: Number
    cash_balance: Number
    positions: list[HoldingData]
    updated_at: Time
    currency: Text | None = None


class TradeData(_Model):
    """The content of a `trade_executed`; `cost` is computed where it is not given."""

    id: Text
    side: Literal["buy", "sell"]
    price: Positive
    quantity: Positive
    cost: Positive | None = None


class StatusData(_Model):
    """The content of a `system_status`."""

    feed: FeedName
    state: State
    reason: Text
    instrument: Instrument | None = None
    detail: dict[Text, Scalar] | None = None


class PublishOrder(Private):
    """A state of a user's order."""

    type: Literal["order.update"]
    data: OrderData


class PublishFill(Private):
    """A fill of a user's order."""

    type: Literal["trade"]
    data: FillData


class PublishBalance(Private):
    """What a user has of an asset."""

    type: Literal["balance.update"]
    data: BalanceData


class PublishPortfolio(Private):
    """What a user's account is worth."""

    type: Literal["portfolio.update"]
    data: PortfolioData


class PublishTrade(Keyed):
    """A public trade."""

    type: Literal["trade_executed"]
    channel: Text
    instrument: Instrument
    timestamp: Time | None = None
    data: TradeData


class PublishStatus(Keyed):
    """How something of one's own is doing, that is no feed of the daemon."""

    type: Literal["system_status"]
    data: StatusData


class Publication(
    RootModel[
        Annotated[
            PublishOrder
            | PublishFill
            | PublishBalance
            | PublishPortfolio
            | PublishTrade
            | PublishStatus,
            Field(discriminator="type"),
        ]
    ]
):
    """The body of `POST /publish`."""
