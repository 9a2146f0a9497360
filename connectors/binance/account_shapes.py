"""Binance: what the rows and events of an account look like, and what they mean."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Context, Decimal
from typing import Annotated

import msgspec

from aggregator import api

Milliseconds = Annotated[int, msgspec.Meta(ge=0, lt=10**15)]
STATUSES: dict[str, api.OrderStatus] = {
    "NEW": "NEW",
    "PENDING_NEW": "NEW",
    "PARTIALLY_FILLED": "PARTIALLY_FILLED",
    "FILLED": "FILLED",
    "CANCELED": "CANCELED",
    "PENDING_CANCEL": "CANCELED",
    "REJECTED": "REJECTED",
    "EXPIRED": "EXPIRED",
    "EXPIRED_IN_MATCH": "EXPIRED",
}
REASONS = {"TRADE": "trade", "NEW": "order", "CANCELED": "order", "EXPIRED": "order"}
TRANSFER = "transfer"

Named = Callable[[str], str]
"""Returns BASE/QUOTE for a symbol."""
_divide = Context(prec=16).divide


NOTHING = msgspec.Raw(b"")


class Error(msgspec.Struct):
    """What is wrong."""

    code: int = 0
    msg: str = ""


class Frame(msgspec.Struct):
    """Any frame: an answer has `status`, everything else `event`."""

    id: str | int | None = None
    status: int | None = None
    error: Error | None = None
    event: msgspec.Raw = NOTHING


class Kind(msgspec.Struct):
    """What an event is about."""

    e: str
    s: str = ""


class Report(msgspec.Struct):
    """An `executionReport`."""

    s: str
    c: str
    S: api.OrderSide
    o: str
    q: api.Amount
    p: api.Amount
    x: str
    X: str
    i: int
    l: api.Amount  # noqa: E741 - the venue's name
    z: api.Amount
    L: api.Amount
    T: Milliseconds
    t: int
    Z: api.Amount
    C: str | None = None
    n: api.Amount | None = None
    N: str | None = None
    m: bool = False


class Asset(msgspec.Struct):
    """An asset of an `outboundAccountPosition`."""

    a: str
    f: api.Amount
    l: api.Amount  # noqa: E741 - the venue's name


class Position(msgspec.Struct):
    """An `outboundAccountPosition`: the assets that may have changed."""

    u: Milliseconds
    B: list[Asset]


class Moved(msgspec.Struct):
    """A `balanceUpdate`: something came or went that was no trade."""

    a: str


class OrderRow(msgspec.Struct):
    """A row of `openOrders`, and an `order`."""

    symbol: str
    orderId: int
    clientOrderId: str
    price: api.Amount
    origQty: api.Amount
    executedQty: api.Amount
    cummulativeQuoteQty: api.Amount
    status: str
    type: str
    side: api.OrderSide
    updateTime: Milliseconds


class TradeRow(msgspec.Struct):
    """A row of `myTrades`."""

    symbol: str
    id: int
    orderId: int
    price: api.Amount
    qty: api.Amount
    commission: api.Amount
    commissionAsset: str
    time: Milliseconds
    isBuyer: bool
    isMaker: bool


class AssetRow(msgspec.Struct):
    """A row of the `balances` of an `account`."""

    asset: str
    free: api.Amount
    locked: api.Amount


class AccountRow(msgspec.Struct):
    """An `account`."""

    updateTime: Milliseconds
    balances: list[AssetRow]


class Restrictions(msgspec.Struct):
    """What a key may do."""

    enableSpotAndMarginTrading: bool = False
    enableWithdrawals: bool = False
    enableInternalTransfer: bool = False
    permitsUniversalTransfer: bool = False

    @property
    def granted(self) -> frozenset[str]:
        """What it may do besides reading, and that."""
        rights = {
            "trade": self.enableSpotAndMarginTrading,
            "withdraw": self.enableWithdrawals,
            "transfer": self.enableInternalTransfer or self.permitsUniversalTransfer,
        }
        return frozenset({api.READ, *(right for right, there in rights.items() if there)})


class PriceRow(msgspec.Struct):
    """A row of `ticker/price`."""

    symbol: str
    price: api.Amount


def reported(account: str, report: Report, named: Named) -> Iterator[api.Told]:
    """Yield the fill that a report is about, if it is, and the state that it led to."""
    symbol = named(report.s)
    # Of a cancellation `c` is its own name, and `C` that of the order.
    client_id = report.C or report.c or None
    if report.x == "TRADE":
        yield api.Fill(
            account=account,
            exchange="binance",
            trade_id=str(report.t),
            order_id=str(report.i),
            client_order_id=client_id,
            symbol=symbol,
            side=report.S,
            price=report.L,
            quantity=report.l,
            fee=report.n,
            fee_asset=report.N,
            role="MAKER" if report.m else "TAKER",
            traded_us=report.T * 1000,
        )
    yield api.OrderUpdate(
        account=account,
        exchange="binance",
        order_id=str(report.i),
        client_order_id=client_id,
        symbol=symbol,
        side=report.S,
        type=api.excerpt(report.o.encode()),
        status=STATUSES[report.X],
        quantity=_some(report.q) or report.z,
        filled_quantity=report.z,
        price=_some(report.p),
        avg_price=_average(report.Z, report.z),
        updated_us=report.T * 1000,
    )


def order_of(account: str, row: OrderRow, named: Named) -> api.OrderUpdate:
    """Return the state of an order."""
    return api.OrderUpdate(
        account=account,
        exchange="binance",
        order_id=str(row.orderId),
        client_order_id=row.clientOrderId or None,
        symbol=named(row.symbol),
        side=row.side,
        type=api.excerpt(row.type.encode()),
        status=STATUSES[row.status],
        quantity=_some(row.origQty) or row.executedQty,
        filled_quantity=row.executedQty,
        price=_some(row.price),
        avg_price=_average(row.cummulativeQuoteQty, row.executedQty),
        updated_us=row.updateTime * 1000,
    )


def fill_of(account: str, row: TradeRow, named: Named) -> api.Fill:
    """Return a fill."""
    return api.Fill(
        account=account,
        exchange="binance",
        trade_id=str(row.id),
        order_id=str(row.orderId),
        symbol=named(row.symbol),
        side="BUY" if row.isBuyer else "SELL",
        price=row.price,
        quantity=row.qty,
        fee=row.commission,
        fee_asset=row.commissionAsset,
        role="MAKER" if row.isMaker else "TAKER",
        traded_us=row.time * 1000,
    )


def balances_of(
    account: str, position: Position, reasons: Mapping[str, str]
) -> Iterator[api.BalanceUpdate]:
    """Yield the balances; `reasons` has, by asset or for all of them (""), why they changed."""
    for each in position.B:
        yield _balance(
            account, each.a, each.f, each.l, position.u, reasons.get(each.a) or reasons.get("")
        )


def balances_in(account: str, row: AccountRow) -> list[api.BalanceUpdate]:
    """Return the balances of an answer."""
    return [_balance(account, b.asset, b.free, b.locked, row.updateTime) for b in row.balances]


def _balance(  # noqa: PLR0917 - what a balance is
    account: str, asset: str, free: str, locked: str, at_ms: int, reason: str | None = None
) -> api.BalanceUpdate:
    return api.BalanceUpdate(
        account=account,
        exchange="binance",
        asset=asset,
        available=free,
        frozen=locked,
        updated_us=at_ms * 1000,
        reason=reason,
    )


def _some(amount: str) -> str | None:
    """Return an amount that is not zero."""
    return amount if amount.strip("-0.") else None


def _average(cost: str, quantity: str) -> str | None:
    """Return the average price, which Binance does not tell, to 16 digits."""
    if not _some(quantity) or not _some(cost):
        return None
    text = format(_divide(Decimal(cost), Decimal(quantity)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
