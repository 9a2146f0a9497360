"""
The messages, and what each field means.

* Prices, sizes and percentages are the venue's own decimal text, digit for digit. `None`, or text
  that is no JSON number, means that the venue does not give it; zero means zero.
* Times are integers: microseconds since the epoch, UTC. A time the venue does not give is `None`.
* `data` is JSON text exactly as the venue sent it.
* A message never changes after its creation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal, Protocol, final

import msgspec

Json = bytes | bytearray | memoryview | msgspec.Raw
"""JSON text as bytes; `msgspec.Raw` is a view into the frame that it came in."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of what can be published on a channel."""


class PriceUpdate(Event, frozen=True, gc=False):
    """
    The price of one instrument.

    `instrument` is `BASE/QUOTE` in upper case. `price` is the last trade's price; of an order
    book, its mid. `volume_24h` counts in units of the base. `change_24h_pct` is in per cent.
    """

    instrument: str
    price: str
    data: Json
    exchange_us: int | None = None
    bid: str | None = None
    ask: str | None = None
    volume_24h: str | None = None
    change_24h_pct: str | None = None


class Level(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """
    A price of an order book and the size at it, as the venue's decimal text.

    In JSON it is `[price, size]`; what a venue has after these two is left out in decoding.
    """

    price: str
    size: str


class Top(Protocol):
    """An order book, as far as others have to know it."""

    def top(self) -> tuple[list[Level], list[Level]]:
        """Return bids and asks as they are now, best first, as many as clients get."""


@final
class BookUpdate(Event, frozen=True, gc=False, kw_only=True):
    """
    A change of an order book, or with `whole` all of it, best prices first.

    In a change a size of zero removes the level. `sequence` is the venue's own number of the state
    after it. `book` gives that state to who comes later; without one each update has to be
    `whole`. `flag` says that the best bid is above (or at) the best ask, as in an auction.
    """

    instrument: str
    bids: list[Level]
    asks: list[Level]
    whole: bool = False
    sequence: int | None = None
    exchange_us: int | None = None
    book: Top | None = None
    flag: Literal["crossed", "locked"] | None = None


class TradeExecuted(Event, frozen=True, gc=False, kw_only=True):
    """
    A public trade.

    `id` is the venue's, `side` the taker's. `quantity` counts in units of the base, `cost` in units
    of the quote; without one it is price times quantity, and computed when the trade is sent.
    `backfilled`: it was fetched after a loss, and is told late.
    """

    instrument: str
    id: str
    side: Literal["buy", "sell"]
    price: str
    quantity: str
    cost: str | None = None
    exchange_us: int | None = None
    backfilled: bool = False


class Candle(Event, frozen=True, gc=False, kw_only=True):
    """
    What a price did in an interval, as "1m", that began at `start_us`; `closed` when it is over.

    Until then the same candle comes again and again.
    """

    instrument: str
    interval: str
    start_us: int
    open: str
    high: str
    low: str
    close: str
    volume: str | None = None
    closed: bool = False


class Gap(Event, frozen=True, gc=False, kw_only=True):
    """
    The venue's messages that did not arrive, of one instrument or of the whole channel.

    `data` is what is known of them: the venue's numbers on both sides, or ids, or times. An order
    book is not known any more after it, until the next that is `whole`.
    """

    instrument: str | None
    data: dict[str, int | str | None]


class State(StrEnum):
    """How a feed, or one instrument of it, is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    LATE = "late"
    STALE = "stale"
    DOWN = "down"
    LIMITED = "limited"
    UNKNOWN_INSTRUMENT = "unknown_instrument"


class SystemStatus(Event, frozen=True, gc=False, kw_only=True):
    """
    A change of state. `instrument` is `None` for the whole feed.

    `since_us` is when the state began; `reason` is for a person to read.
    """

    feed: str
    state: State
    since_us: int
    reason: str
    instrument: str | None = None
    detail: dict[str, int | float | str | None] | None = None


OrderStatus = Literal["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED"]
OrderSide = Literal["BUY", "SELL"]
FillRole = Literal["MAKER", "TAKER"]


class OrderUpdate(Event, frozen=True, gc=False, kw_only=True):
    """
    The state of a user's order, at a venue or in an engine of one's own.

    `quantity` counts in units of the base; `avg_price` is that of what is filled.
    """

    account: str
    exchange: str
    order_id: str
    symbol: str
    side: OrderSide
    type: str
    status: OrderStatus
    quantity: str
    filled_quantity: str
    updated_us: int
    client_order_id: str | None = None
    price: str | None = None
    avg_price: str | None = None

    OPEN: ClassVar = ("NEW", "PARTIALLY_FILLED")


class Fill(Event, frozen=True, gc=False, kw_only=True):
    """A trade of a user's order; `fee` counts in units of `fee_asset`."""

    account: str
    exchange: str
    trade_id: str
    order_id: str
    symbol: str
    side: OrderSide
    price: str
    quantity: str
    traded_us: int
    role: FillRole | None = None
    client_order_id: str | None = None
    fee: str | None = None
    fee_asset: str | None = None


class BalanceUpdate(Event, frozen=True, gc=False, kw_only=True):
    """What a user has of an asset; `change` is that of the total, where it is known."""

    account: str
    exchange: str
    asset: str
    available: str
    frozen: str
    updated_us: int
    change: str | None = None
    reason: str | None = None


class Holding(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A part of a portfolio."""

    symbol: str
    quantity: str
    avg_price: str | None = None
    value: str | None = None
    unrealized_pnl: str | None = None


class PortfolioUpdate(Event, frozen=True, gc=False, kw_only=True):
    """What an account is worth, in its reference currency, and what it holds."""

    account: str
    exchange: str
    total_asset: str
    cash_balance: str
    positions: list[Holding]
    updated_us: int
    currency: str | None = None


Private = OrderUpdate | Fill | BalanceUpdate | PortfolioUpdate
"""Events of one user, for nobody else."""


class Heartbeat(Event, frozen=True, gc=False):
    """The daemon is alive; published every `heartbeat_s`."""

    instrument: ClassVar[None] = None
