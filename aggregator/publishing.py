"""
Events of an engine of one's own, put on the daemon's channels: checked whole, and each just once.

A user's own events go to that user, trades to a channel of `server.publish_channels`, states to
`system`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, RootModel, StringConstraints

from .errors import AggregatorError
from .hub import Hub
from .model import (
    BalanceUpdate,
    Event,
    Fill,
    Holding,
    OrderUpdate,
    PortfolioUpdate,
    State,
    SystemStatus,
    TradeExecuted,
)
from .options import Instrument
from .outlet import Published

MAX_KEYS = 10_000
"""Keys that are remembered; one that is older is taken as new."""

Number = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,40}(\.[0-9]{1,40})?$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Published(_Model):
    key: Key | None = None
    """Names this event: with the same key it is not published again."""


class _Private(_Published):
    user_id: Annotated[int, Field(ge=1, le=2**53 - 1)]
    account: Text = "engine"
    exchange: Text = "engine"


class OrderData(_Model):
    """The content of an `order.update`."""

    order_id: Text
    symbol: Instrument
    side: Literal["BUY", "SELL"]
    type: Text
    status: Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"]
    quantity: Number
    filled_quantity: Number
    updated_at: AwareDatetime
    client_order_id: Text | None = None
    price: Number | None = None
    avg_price: Number | None = None


class FillData(_Model):
    """The content of a `trade`."""

    trade_id: Text
    order_id: Text
    symbol: Instrument
    side: Literal["BUY", "SELL"]
    price: Number
    quantity: Number
    traded_at: AwareDatetime
    client_order_id: Text | None = None
    fee: Number | None = None
    fee_asset: Text | None = None
    role: Literal["MAKER", "TAKER"] | None = None


class BalanceData(_Model):
    """The content of a `balance.update`."""

    asset: Text
    available: Number
    frozen: Number
    updated_at: AwareDatetime
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
    updated_at: AwareDatetime
    currency: Text | None = None


class TradeData(_Model):
    """The content of a `trade_executed`; `cost` is computed where it is not given."""

    id: Text
    side: Literal["buy", "sell"]
    price: Number
    quantity: Number
    cost: Number | None = None


class StatusData(_Model):
    """The content of a `system_status`."""

    feed: Text
    state: State
    reason: Text
    instrument: Instrument | None = None


class PublishOrder(_Private):
    """A state of a user's order."""

    type: Literal["order.update"]
    data: OrderData


class PublishFill(_Private):
    """A fill of a user's order."""

    type: Literal["trade"]
    data: FillData


class PublishBalance(_Private):
    """What a user has of an asset."""

    type: Literal["balance.update"]
    data: BalanceData


class PublishPortfolio(_Private):
    """What a user's account is worth."""

    type: Literal["portfolio.update"]
    data: PortfolioData


class PublishTrade(_Published):
    """A public trade."""

    type: Literal["trade_executed"]
    channel: Text
    instrument: Instrument
    timestamp: AwareDatetime | None = None
    data: TradeData


class PublishStatus(_Published):
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


class ConflictError(AggregatorError):
    """It can't be published: not under this key, or not on this channel."""


class Publisher:
    """
    Publishes what an engine of one's own has done.

    Args:
        hub: has the channels.
        channels: those that trades may be published on; they are created here.
        feeds: the daemon's own, whose states nobody else may tell.

    """

    def __init__(self, hub: Hub, channels: Iterable[str], feeds: Iterable[str]) -> None:
        self._hub = hub
        self._channels = {name: hub.add_channel(name, name) for name in channels}
        self._feeds = frozenset(feeds)
        self._seen: OrderedDict[str, tuple[bytes, Published]] = OrderedDict()

    def publish(self, content: bytes | Mapping[str, Any]) -> Published:
        """
        Publish an event, unless one with its key was published before.

        Args:
            content: as JSON, or decoded; docs/protocol.md, "POST /publish".

        Raises:
            pydantic.ValidationError: it is no such event.
            ConflictError: the key is another event's, or the channel is not open for this.

        """
        if isinstance(content, bytes):
            asked = Publication.model_validate_json(content).root
        else:
            asked = Publication.model_validate(content).root
        if asked.key is None:
            return self._publish(asked)
        digest = hashlib.sha256(asked.model_dump_json().encode()).digest()
        before = self._seen.get(asked.key)
        if before is not None:
            if before[0] != digest:
                raise ConflictError("another event was published with this key")
            return before[1]._replace(duplicate=True)
        published = self._publish(asked)
        self._seen[asked.key] = (digest, published)
        if len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)
        return published

    def _publish(self, asked: _Published) -> Published:
        now_us = self._hub.now_us()
        event: Event
        if isinstance(asked, _Private):
            event = _private_event(asked)
            channel = self._hub.publish_private(asked.user_id, event, now_us)
            return Published(channel.name, channel.seq, duplicate=False)
        if isinstance(asked, PublishTrade):
            if asked.channel not in self._channels:
                raise ConflictError("the channel is none of server.publish_channels")
            channel = self._channels[asked.channel]
            time_us = None if asked.timestamp is None else _us(asked.timestamp)
            trade = asked.data.model_dump()
            event = TradeExecuted(instrument=asked.instrument, exchange_us=time_us, **trade)
        else:
            assert isinstance(asked, PublishStatus)  # noqa: S101 - the only one that is left
            if asked.data.feed in self._feeds:
                raise ConflictError("the daemon itself tells how this feed is doing")
            channel = self._hub.system
            event = SystemStatus(**asked.data.model_dump(), since_us=now_us)
        self._hub.publish(channel, event, now_us)
        return Published(channel.name, channel.seq, duplicate=False)


def _private_event(asked: _Private) -> Event:
    data: dict[str, Any] = asked.data.model_dump()  # type: ignore[attr-defined]
    owner: dict[str, Any] = {"account": asked.account, "exchange": asked.exchange}
    match asked:
        case PublishOrder():
            return OrderUpdate(**owner, updated_us=_us(data.pop("updated_at")), **data)
        case PublishFill():
            return Fill(**owner, traded_us=_us(data.pop("traded_at")), **data)
        case PublishBalance():
            return BalanceUpdate(**owner, updated_us=_us(data.pop("updated_at")), **data)
    data["positions"] = [Holding(**each) for each in data["positions"]]
    return PortfolioUpdate(**owner, updated_us=_us(data.pop("updated_at")), **data)


def _us(time: datetime) -> int:
    """Return microseconds since the epoch."""
    return int(time.timestamp()) * 1_000_000 + time.microsecond
