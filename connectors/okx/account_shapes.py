"""OKX v5: what its private rows look like, and what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec

from aggregator import api

Side = Literal["buy", "sell"]
Milliseconds = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,15}$")]
MaybeMilliseconds = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{0,15}$")]
STATUSES: dict[str, api.OrderStatus] = {
    "live": "NEW",
    "partially_filled": "PARTIALLY_FILLED",
    "filled": "FILLED",
    "canceled": "CANCELED",
    "mmp_canceled": "CANCELED",
}
ROLES: dict[str, api.FillRole] = {"M": "MAKER", "T": "TAKER"}
SIDES: dict[Side, api.OrderSide] = {"buy": "BUY", "sell": "SELL"}
NOTHING = msgspec.Raw(b"")
SPOT = frozenset({"SPOT", "MARGIN"})


class Arg(msgspec.Struct):
    """What a frame is about."""

    channel: str = ""


class Event(msgspec.Struct):
    """Any frame: data has `data`, everything else has `event`."""

    event: str | None = None
    arg: Arg | None = None
    code: str | None = None
    msg: str | None = None
    data: msgspec.Raw = NOTHING


class Reply(msgspec.Struct):
    """Any answer."""

    code: str
    msg: str = ""
    data: msgspec.Raw = msgspec.Raw(b"[]")


class FillRow(msgspec.Struct):
    """A row of `fills`."""

    instType: str
    instId: str
    tradeId: str
    ordId: str
    fillPx: api.Amount
    fillSz: api.Amount
    side: Side
    billId: str = ""
    clOrdId: str = ""
    execType: str = ""
    fee: api.MaybeAmount = ""
    feeCcy: str = ""
    fillTime: MaybeMilliseconds = ""
    ts: MaybeMilliseconds = ""

    @property
    def is_spot(self) -> bool:
        """Whether its size counts in units of the base."""
        return self.instType in SPOT


class OrderRow(msgspec.Struct):
    """A row of `orders-pending`, of `order`, and of the channel `orders`."""

    instType: str
    instId: str
    ordId: str
    side: Side
    ordType: str
    state: str
    sz: api.Amount
    uTime: Milliseconds
    px: api.MaybeAmount = ""
    accFillSz: api.MaybeAmount = ""
    avgPx: api.MaybeAmount = ""
    clOrdId: str = ""
    tgtCcy: str = ""
    tradeId: str = ""
    fillPx: api.MaybeAmount = ""
    fillSz: api.MaybeAmount = ""
    fillTime: MaybeMilliseconds = ""
    fillFee: api.MaybeAmount = ""
    fillFeeCcy: str = ""
    execType: str = ""

    @property
    def is_spot(self) -> bool:
        """Whether its size counts in units of the base."""
        return self.instType in SPOT

    def as_fill(self) -> FillRow:
        """Return the fill that led to this state."""
        # Checked as a row of `fills` is, where these are never empty.
        row = {
            "fillPx": self.fillPx,
            "fillSz": self.fillSz,
            "fee": self.fillFee,
            "feeCcy": self.fillFeeCcy,
            "fillTime": self.fillTime,
            "ts": self.uTime,
        }
        names = ("instType", "instId", "tradeId", "ordId", "side", "clOrdId", "execType")
        row |= {name: getattr(self, name) for name in names}
        return msgspec.convert(row, FillRow)


class Detail(msgspec.Struct):
    """An asset of an account."""

    ccy: str
    uTime: Milliseconds
    availBal: api.MaybeAmount = ""
    frozenBal: api.MaybeAmount = ""


class AccountRow(msgspec.Struct):
    """A row of `balance`, and of the channel `account`."""

    details: list[Detail] = []


class Balance(msgspec.Struct):
    """An asset in `balance_and_position`."""

    ccy: str
    uTime: str = ""


class BalanceRow(msgspec.Struct):
    """A row of the channel `balance_and_position`."""

    eventType: str = ""
    balData: list[Balance] = []


class Config(msgspec.Struct):
    """A row of `config`: what the key may do, separated by commas."""

    perm: str = ""

    @property
    def granted(self) -> list[str]:
        """What the key may do."""
        return [each.strip() for each in self.perm.split(",") if each.strip()]


class TickerRow(msgspec.Struct):
    """A row of `tickers`."""

    instId: str
    last: api.MaybeAmount = ""


def order_of(account: str, row: OrderRow) -> api.OrderUpdate:
    """Return the state of an order."""
    filled = row.accFillSz or "0"
    # An order may be for an amount of the quote; then what it has filled is all that is known.
    in_quote = row.tgtCcy == "quote_ccy" and row.ordType == "market"
    return api.OrderUpdate(
        account=account,
        exchange="okx",
        order_id=row.ordId,
        client_order_id=row.clOrdId or None,
        symbol=row.instId.replace("-", "/"),
        side=SIDES[row.side],
        type=api.excerpt(row.ordType.encode()).upper(),
        status=STATUSES[row.state],
        quantity=filled if in_quote else row.sz,
        filled_quantity=filled,
        price=row.px or None,
        avg_price=None if row.avgPx in {"", "0"} else row.avgPx,
        updated_us=int(row.uTime) * 1000,
    )


def fill_of(account: str, row: FillRow) -> api.Fill:
    """Return a fill; OKX counts a fee that is paid below zero."""
    fee = None
    if row.fee:
        nothing = not row.fee.strip("-0.")
        fee = row.fee.lstrip("-") if nothing or row.fee.startswith("-") else f"-{row.fee}"
    return api.Fill(
        account=account,
        exchange="okx",
        trade_id=row.tradeId,
        order_id=row.ordId,
        client_order_id=row.clOrdId or None,
        symbol=row.instId.replace("-", "/"),
        side=SIDES[row.side],
        price=row.fillPx,
        quantity=row.fillSz,
        fee=fee,
        fee_asset=row.feeCcy or None,
        role=ROLES.get(row.execType),
        traded_us=int(row.fillTime or row.ts) * 1000,
    )


def balances_of(
    account: str, row: AccountRow, reasons: Mapping[str, tuple[str, str]]
) -> Iterator[api.BalanceUpdate]:
    """Yield the balances; `reasons` has, by asset, when and why the last change was."""
    for each in row.details:
        when, why = reasons.get(each.ccy, ("", ""))
        yield api.BalanceUpdate(
            account=account,
            exchange="okx",
            asset=each.ccy,
            available=each.availBal or "0",
            frozen=each.frozenBal or "0",
            updated_us=int(each.uTime) * 1000,
            reason=why if when == each.uTime and why else None,
        )
