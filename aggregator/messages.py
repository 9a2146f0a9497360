"""
The messages of docs/protocol.md as types, for whoever reads them.

* Numbers are exact: `Decimal` with the digits that the venue sent.
* Times in microseconds (`..._us`) are integers since the epoch; `timestamp` is a `datetime` in UTC.
* What a message may lack has a default; fields and types that are not here are passed over.
* Messages never change. Two are equal when all of their fields are.

The descriptions are part of the types: `msgspec.json.schema` has them in what it makes.
"""

# More than 300 lines: it is one list, of each type with what each field means.
from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


def _text(description: str) -> Meta:
    return Meta(description=description)


def _number(description: str) -> Meta:
    return Meta(description=description, extra_json_schema={"type": "number", "format": None})


def _nothing() -> msgspec.Raw:
    return msgspec.Raw(b"null")


def _digits(description: str) -> Meta:
    return Meta(description=description)


Channel = Annotated[str, Meta(min_length=1, description="The name of the channel.")]
ConnectorId = Annotated[str, _text("The feed's name; the same as `channel`.")]
Exchange = Annotated[str, _text("The venue.")]
Instrument = Annotated[str, Meta(min_length=1, description="`BASE/QUOTE` in upper case.")]
Seq = Annotated[
    int, Meta(ge=0, description="The number of the message on its channel, one up for each.")
]
Timestamp = Annotated[
    datetime,
    Meta(
        tz=True,
        description="The venue's time where it gives one, else the time of receipt; UTC.",
    ),
]
Said = Annotated[datetime, Meta(tz=True, description="When the daemon said so; UTC.")]
ExchangeUs = Annotated[
    int | None,
    _text("The venue's time in microseconds since the epoch; null where it gives none."),
]
ReceivedUs = Annotated[
    int, _text("When the daemon had the frame or the answer, in microseconds since the epoch.")
]
PublishedUs = Annotated[
    int, _text("When the daemon had the message ready, in microseconds since the epoch.")
]
AgeUs = Annotated[
    int | None,
    _text("Only in a snapshot: microseconds since it was received, when the snapshot was made."),
]
Stale = Annotated[bool | None, _text("Only in a snapshot: whether that is too long.")]
Conflated = Annotated[
    int, _text("How many older messages this one stands for besides itself; 0 if absent.")
]
CommandId = Annotated[int | str | None, _text("That of the command, as it came.")]


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="type"):
    """Base of all messages."""


class OfInstrument(Message, frozen=True, kw_only=True, gc=False):
    """Base of what concerns an instrument of a venue."""

    connector_id: ConnectorId
    channel: Channel
    exchange: Exchange
    instrument: Instrument
    timestamp: Timestamp
    seq: Seq
    received_us: ReceivedUs
    published_us: PublishedUs
    exchange_us: ExchangeUs = None
    age_us: AgeUs = None
    stale: Stale = None
    conflated: Conflated = 0


class PriceUpdate(OfInstrument, frozen=True, kw_only=True, gc=False, tag="price_update"):
    """
    The price of an instrument.

    `raw` is the field `data`, the venue's own payload, as it came: the property `data` decodes it.
    """

    price: Annotated[Decimal, _number("The last trade's; of a book the exact mid.")]
    bid: Annotated[Decimal | None, _number("Best bid; absent where the venue gives none.")] = None
    ask: Annotated[Decimal | None, _number("Best ask; absent where the venue gives none.")] = None
    volume_24h: Annotated[
        Decimal | None, _number("In units of the base; absent where the venue gives none.")
    ] = None
    change_24h_pct: Annotated[
        Decimal | None, _number("In per cent; absent where the venue gives none.")
    ] = None
    raw: Annotated[
        msgspec.Raw,
        _text("The venue's own payload, byte for byte; absent with `raw: false`."),
    ] = msgspec.field(name="data", default_factory=_nothing)

    @property
    def data(self) -> Any:
        """The venue's own payload, decoded anew each time; `None` where it was not asked for."""
        return _payload(self.raw)


class Level(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A price of an order book and the size at it; in JSON `["price","size"]`."""

    price: Annotated[Decimal, _digits("With the venue's digits.")]
    size: Annotated[Decimal, _digits("In units of the base; in a delta zero removes the level.")]


class BookLevels(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The levels of an `orderbook_update`."""

    bids: Annotated[list[Level], _text("Best first in a snapshot, in any order in a delta.")]
    asks: Annotated[list[Level], _text("Best first in a snapshot, in any order in a delta.")]
    sequence: Annotated[
        int | None, _text("The venue's own number of the state after this; null if it has none.")
    ] = None
    flag: Annotated[
        str | None, _text("`crossed` or `locked` while the best bid is above or at the best ask.")
    ] = None


class OrderbookUpdate(OfInstrument, frozen=True, kw_only=True, gc=False, tag="orderbook_update"):
    """An order book, or what has changed in it."""

    action: Annotated[
        Literal["snapshot", "delta"],
        _text("`snapshot`: these levels are the book. `delta`: they are what has changed."),
    ]
    data: Annotated[BookLevels, _text("The levels.")]


class Trade(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of a `trade_executed`."""

    id: Annotated[str, _text("The venue's; empty where it gives none.")]
    side: Annotated[str, _text("The taker's: `buy` or `sell`.")]
    price: Annotated[Decimal, _digits("With the venue's digits.")]
    quantity: Annotated[Decimal, _digits("In units of the base.")]
    cost: Annotated[Decimal, _digits("Price times quantity, in units of the quote.")]


class TradeExecuted(OfInstrument, frozen=True, kw_only=True, gc=False, tag="trade_executed"):
    """A public trade."""

    data: Annotated[Trade, _text("The trade.")]
    backfilled: Annotated[bool, _text("It was missed, and fetched afterwards.")] = False


class CandleData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of a `candle`."""

    interval: Annotated[str, _text("Its length: `1m`, `1h`, `1d` and so on.")]
    start_us: Annotated[int, _text("When it began, in microseconds since the epoch.")]
    open: Annotated[Decimal, _digits("The first price.")]
    high: Annotated[Decimal, _digits("The highest.")]
    low: Annotated[Decimal, _digits("The lowest.")]
    close: Annotated[Decimal, _digits("The last.")]
    volume: Annotated[
        Decimal | None, _digits("In units of the base; null where the venue gives none.")
    ] = None
    closed: Annotated[bool, _text("Whether it is over.")]


class Candle(OfInstrument, frozen=True, kw_only=True, gc=False, tag="candle"):
    """What the price of an instrument did in an interval; sent again as it changes."""

    data: Annotated[CandleData, _text("The candle.")]


class Status(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of a `system_status`."""

    feed: Annotated[str, _text("The feed's name.")]
    state: Annotated[
        str,
        _text(
            "`connecting`, `live`, `limited`, `late`, `stale`, `down` or `unknown_instrument`; "
            "there may be more one day."
        ),
    ]
    since_us: Annotated[int, _text("When the state began, in microseconds since the epoch.")]
    reason: Annotated[str, _text("For a person to read.")]
    instrument: Annotated[str | None, _text("Null for the whole feed.")] = None
    detail: Annotated[
        dict[str, Any] | None, _text("Numbers to it; with `late`, `stale` and `limited`.")
    ] = None


class SystemStatus(Message, frozen=True, kw_only=True, gc=False, tag="system_status"):
    """How a feed, or an instrument of it, is doing from now on."""

    channel: Channel
    seq: Seq
    timestamp: Said
    data: Annotated[Status, _text("The state.")]
    conflated: Conflated = 0


class Heartbeat(Message, frozen=True, kw_only=True, gc=False, tag="heartbeat"):
    """The daemon is alive."""

    status: Annotated[str, _text("`ok`.")]
    timestamp: Said
    channel: Channel
    seq: Seq


class Gap(Message, frozen=True, kw_only=True, gc=False, tag="gap"):
    """
    Something that you did not get and will not get.

    The reasons `client` and `buffer` are the client's own: a hole in the numbers that nobody told
    of, and what its own buffer had no room for.
    """

    channel: Channel
    reason: Annotated[
        str, _text("`slow_consumer`, `upstream` or `history`; of the client `client`, `buffer`.")
    ]
    timestamp: Said
    instrument: Annotated[str | None, _text("Null for the whole channel.")] = None
    from_seq: Annotated[int | None, _text("The first that is lost; null if not known.")] = None
    to_seq: Annotated[int | None, _text("The last that is lost; null if not known.")] = None
    data: Annotated[dict[str, Any] | None, _text("What is known of it.")] = None
    seq: Annotated[int | None, _text("Its own number on the channel; only with `upstream`.")] = None


class TestMessage(Message, frozen=True, kw_only=True, gc=False, tag="test_message"):
    """What an operator says to everybody."""

    __test__ = False  # it is no test, whatever pytest may think

    message: Annotated[str, _text("The words.")]
    timestamp: Said


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place on a channel: the number of a message in a run of the daemon."""

    epoch: Annotated[str, _text("Names the run of the daemon.")]
    seq: Seq


class Subscribed(Message, frozen=True, kw_only=True, gc=False, tag="subscribed"):
    """The answer to `subscribe`."""

    channels: Annotated[list[str], _text("The subscriptions, as they were asked for.")]
    positions: Annotated[
        dict[str, Position], _text("By channel, where it is: the snapshot is what was then.")
    ] = msgspec.field(default_factory=dict)
    recovered: Annotated[
        dict[str, bool], _text("By channel of `since`: whether all that was missed follows.")
    ] = msgspec.field(default_factory=dict)
    max_hz: Annotated[float | None, _text("As asked for; absent if not.")] = None
    raw: Annotated[bool, _text("Whether price updates have `data`; true if absent.")] = True
    id: CommandId = None


class Unsubscribed(Message, frozen=True, kw_only=True, gc=False, tag="unsubscribed"):
    """The answer to `unsubscribe`."""

    channels: Annotated[list[str], _text("As they were given.")]
    id: CommandId = None


class Pong(Message, frozen=True, kw_only=True, gc=False, tag="pong"):
    """The answer to `ping`."""

    timestamp: Said
    id: CommandId = None


class Error(Message, frozen=True, kw_only=True, gc=False, tag="error"):
    """A refusal. The connection stays."""

    code: Annotated[str, _text("For programs: `unknown_channel`, `rate_limited` and so on.")]
    message: Annotated[str, _text("For people.")]
    channel: Annotated[str | None, _text("The subscription that is refused, if it is one.")] = None
    dropped: Annotated[int | None, _text("How many commands this one refusal stands for.")] = None
    id: CommandId = None


class AuthSuccess(Message, frozen=True, kw_only=True, gc=False, tag="auth.success"):
    """The answer to `auth`, where the token is good."""

    user_id: Annotated[int, _text("Whose token it is.")]
    id: CommandId = None


Account = Annotated[str, _text("The account at the venue, as its owner calls it.")]
OrderId = Annotated[str, _text("The venue's, of the order.")]
ClientOrderId = Annotated[str | None, _text("What the client called the order, if it did.")]
Symbol = Annotated[str, _text("`BASE/QUOTE` in upper case.")]
Side = Annotated[str, _text("`BUY` or `SELL`.")]


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of an `order.update`."""

    order_id: OrderId
    symbol: Symbol
    side: Side
    type: Annotated[str, _text("The kind of order, as the venue calls it.")]
    status: Annotated[
        str,
        _text("`NEW`, `PARTIALLY_FILLED`, `FILLED`, `CANCELED`, `REJECTED` or `EXPIRED`."),
    ]
    quantity: Annotated[Decimal, _digits("Ordered, in units of the base.")]
    filled_quantity: Annotated[Decimal, _digits("Of that, what is filled.")]
    updated_at: Annotated[datetime, _text("When it came to this.")]
    client_order_id: ClientOrderId = None
    price: Annotated[Decimal | None, _digits("The limit, if there is one.")] = None
    avg_price: Annotated[Decimal | None, _digits("Of what is filled.")] = None


class Fill(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of a `trade`."""

    trade_id: Annotated[str, _text("The venue's.")]
    order_id: OrderId
    symbol: Symbol
    side: Side
    price: Annotated[Decimal, _digits("With the venue's digits.")]
    quantity: Annotated[Decimal, _digits("In units of the base.")]
    traded_at: Annotated[datetime, _text("When it was made.")]
    role: Annotated[str | None, _text("`MAKER` or `TAKER`, where it is known.")] = None
    client_order_id: ClientOrderId = None
    fee: Annotated[Decimal | None, _digits("In units of `fee_asset`.")] = None
    fee_asset: Annotated[str | None, _text("What the fee was paid in.")] = None


class Balance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of a `balance.update`."""

    asset: Annotated[str, _text("As `BTC`.")]
    available: Annotated[Decimal, _digits("What can be used.")]
    frozen: Annotated[Decimal, _digits("What open orders hold.")]
    updated_at: Annotated[datetime, _text("When it came to this.")]
    change: Annotated[Decimal | None, _digits("Of the total, where it is known.")] = None
    reason: Annotated[str | None, _text("Of the change, where it is known.")] = None


class Holding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A part of a portfolio."""

    symbol: Annotated[str, _text("What it is.")]
    quantity: Annotated[Decimal, _digits("How much of it.")]
    avg_price: Annotated[Decimal | None, _digits("What was paid, on the average.")] = None
    value: Annotated[Decimal | None, _digits("In the currency of the portfolio.")] = None
    unrealized_pnl: Annotated[Decimal | None, _digits("Profit or loss so far.")] = None


class Portfolio(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The content of a `portfolio.update`."""

    total_asset: Annotated[Decimal, _digits("What the account is worth.")]
    cash_balance: Annotated[Decimal, _digits("Of that, cash.")]
    positions: Annotated[list[Holding], _text("What it holds.")]
    updated_at: Annotated[datetime, _text("When it came to this.")]
    currency: Annotated[str | None, _text("What these are counted in.")] = None


class Own(Message, frozen=True, kw_only=True, gc=False):
    """Base of what concerns one user alone, after `auth`."""

    channel: Channel
    account: Account
    exchange: Exchange
    timestamp: Timestamp
    seq: Seq
    received_us: ReceivedUs
    published_us: PublishedUs
    exchange_us: ExchangeUs = None


class OrderUpdate(Own, frozen=True, kw_only=True, gc=False, tag="order.update"):
    """The state of an order of the user's."""

    data: Annotated[Order, _text("The order.")]


class OwnTrade(Own, frozen=True, kw_only=True, gc=False, tag="trade"):
    """A trade of an order of the user's."""

    data: Annotated[Fill, _text("The trade.")]


class BalanceUpdate(Own, frozen=True, kw_only=True, gc=False, tag="balance.update"):
    """What the user has of an asset."""

    data: Annotated[Balance, _text("The balance.")]


class PortfolioUpdate(Own, frozen=True, kw_only=True, gc=False, tag="portfolio.update"):
    """What an account of the user's is worth, and what it holds."""

    data: Annotated[Portfolio, _text("The portfolio.")]


OfUser = OrderUpdate | OwnTrade | BalanceUpdate | PortfolioUpdate
"""What concerns one user alone."""
OfMarket = PriceUpdate | OrderbookUpdate | TradeExecuted | Candle
"""What concerns an instrument."""
Numbered = OfMarket | SystemStatus | Heartbeat | OfUser
"""What always has a number on a channel."""
AnyMessage = Numbered | Gap | TestMessage | Subscribed | Unsubscribed | Pong | Error | AuthSuccess
"""Every message that the daemon sends."""

_payload = msgspec.json.Decoder(float_hook=Decimal).decode
