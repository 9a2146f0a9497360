"""What may be asked of an OKX account over REST; rows in, rows out."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from aggregator.simulator import okx_account_shapes as shapes
from aggregator.simulator.accounts import Account, Fill, Order
from aggregator.simulator.keys import Key
from aggregator.simulator.market import Market
from aggregator.simulator.matching import Engine
from aggregator.simulator.okx_auth import Denied
from aggregator.simulator.okx_shapes import now_ms
from aggregator.simulator.wanted import TYPES, Refused, Wanted

_REFUSALS = {
    "instrument": ("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist."),
    "lot": ("51121", "Order quantity must be a multiple of the lot size."),
    "minimum": ("51020", "Your order should meet or exceed the minimum order amount."),
    "tick": ("51000", "Parameter px error"),
    "price": ("51000", "Parameter px error"),
    "size": ("51000", "Parameter sz error"),
    "type": ("51000", "Parameter ordType error"),
    "duplicate": ("51016", "Client order ID already exists."),
}
_GONE = "as the order has been filled, canceled or does not exist."
_MOST = 100
_Given = Mapping[str, str]


class OkxTrade:
    """The answers' `data`, by path; `Denied` is an answer with another code than 0."""

    def __init__(self, market: Market, engine: Engine) -> None:
        self._market = market
        self._engine = engine

    def balance(self, key: Key, given: _Given) -> list[Any]:
        """`account/balance`, of all currencies or of those in `ccy`."""
        wanted = given["ccy"].split(",") if given.get("ccy") else None
        return [shapes.account(self._owner(key), self._market, wanted)]

    def config(self, key: Key, _given: _Given) -> list[Any]:
        """`account/config`."""
        return [shapes.config(self._owner(key), key)]

    def currencies(self, _key: Key, given: _Given) -> list[Any]:
        """`asset/currencies`."""
        names = {name for one in self._market for name in (one.base, one.quote)}
        wanted = given["ccy"].split(",") if given.get("ccy") else sorted(names)
        return [shapes.currency(name) for name in wanted if name in names]

    def pending(self, key: Key, given: _Given) -> list[Any]:
        """`trade/orders-pending`, newest first."""
        return self._orders(given, list(self._owner(key).open.values()))

    def history(self, key: Key, given: _Given) -> list[Any]:
        """`trade/orders-history`: what does not work any more."""
        if not given.get("instType"):
            raise Denied("50014", "Parameter instType can not be empty.")
        ended = [order for order in self._owner(key).orders() if not order.working]
        # An order that was never filled is not listed for long; here it is.
        return self._orders(given, [order for order in ended if order.state != "rejected"])

    def order(self, key: Key, given: _Given) -> list[Any]:
        """`trade/order`, one of them."""
        order = self._find(self._owner(key), given)
        if order is None or order.state == "rejected":
            raise Denied("51603", "Order does not exist")
        return [shapes.order(order)]

    def fills(self, key: Key, given: _Given) -> list[Any]:
        """`trade/fills` and `trade/fills-history`, newest first."""
        account = self._owner(key)
        orders = {order.id: order for order in account.orders()}

        def wanted(fill: Fill) -> bool:
            return (
                given.get("instId", fill.instrument.okx_id) == fill.instrument.okx_id
                and given.get("ordId", str(fill.order_id)) == str(fill.order_id)
                and _within(given, fill.id + shapes.BILL, fill.ms)
            )

        rows = [shapes.fill_row(f, orders.get(f.order_id)) for f in account.fills if wanted(f)]
        return _page(rows, given)

    def place(self, key: Key, given: _Given) -> dict[str, str]:
        """Return the row of one new order; its `sCode` says whether there is one."""
        row = {"clOrdId": given.get("clOrdId", ""), "ordId": "", "tag": given.get("tag", "")}
        row |= {"ts": now_ms(), "subCode": ""}
        try:
            order = self._engine.place(self._owner(key), self._wanted(given))
        except Refused as refused:
            code, message = _REFUSALS.get(refused.reason, ("51000", str(refused)))
            if refused.reason == "balance":
                currency = str(refused).rpartition(" ")[2]
                code = "51008"
                message = f"Order failed. Insufficient {currency} balance in account."
            return row | {"sCode": code, "sMsg": message}
        return row | {"ordId": str(order.id), "sCode": "0", "sMsg": "Order placed"}

    def cancel(self, key: Key, given: _Given) -> dict[str, str]:
        """Return the row of one cancellation."""
        account = self._owner(key)
        order = self._find(account, given)
        row = {"clOrdId": given.get("clOrdId", ""), "ordId": given.get("ordId", "")}
        row["ts"] = now_ms()
        if order is None or not order.working:
            return row | {"sCode": "51400", "sMsg": f"Cancellation failed {_GONE}"}
        self._engine.cancel(account, order)
        row |= {"clOrdId": order.client_id, "ordId": str(order.id)}
        return row | {"sCode": "0", "sMsg": ""}

    def _owner(self, key: Key) -> Account:
        return self._engine.accounts.owner(key)

    def _wanted(self, given: _Given) -> Wanted:
        kind, side = given.get("ordType", ""), given.get("side", "")
        if kind not in TYPES or side not in ("buy", "sell"):
            raise Refused("type", "")
        name = given.get("instId", "")
        if name not in self._market.by_okx_id:
            raise Refused("instrument", "")
        size = _decimal(given, "sz", "size")
        # Without a word of it, market buys are in the quote currency, and they alone.
        target = given.get("tgtCcy") or ("quote_ccy" if side == "buy" else "base_ccy")
        by_quote = kind == "market" and target == "quote_ccy"
        return Wanted(
            instrument=self._market.by_okx_id[name],
            side=side,
            type=kind,
            price=None if kind == "market" else _decimal(given, "px", "price"),
            size=None if by_quote else size,
            quote_size=size if by_quote else None,
            client_id=given.get("clOrdId", ""),
            tag=given.get("tag", ""),
        )

    def _find(self, account: Account, given: _Given) -> Order | None:
        number = given.get("ordId", "")
        if not number and not given.get("clOrdId"):
            raise Denied("51003", "Either client order ID or order ID is required.")
        known = int(number) if number.isascii() and number.isdigit() else None
        order = account.find(known, given.get("clOrdId", ""))
        same = order is not None and order.instrument.okx_id == given.get("instId")
        return order if same else None

    def _orders(self, given: _Given, orders: list[Order]) -> list[Any]:
        def wanted(order: Order) -> bool:
            return (
                given.get("instType", "SPOT") == "SPOT"
                and given.get("instId", order.instrument.okx_id) == order.instrument.okx_id
                and given.get("state", order.state) == order.state
                and order.type in given.get("ordType", order.type).split(",")
                and _within(given, order.id, order.created_ms)
            )

        return _page([shapes.order(order) for order in orders if wanted(order)], given)


def _within(given: _Given, number: int, ms: int) -> bool:
    return (
        number < _whole(given, "after", 10**30)
        and number > _whole(given, "before", 0)
        and _whole(given, "begin", 0) <= ms <= _whole(given, "end", 10**18)
    )


def _page(rows: list[Any], given: _Given) -> list[Any]:
    return rows[::-1][: min(_whole(given, "limit", _MOST), _MOST)]


def _whole(given: _Given, name: str, default: int) -> int:
    text = given.get(name) or str(default)
    if not (text.isascii() and text.isdigit()):
        raise Denied("51000", f"Parameter {name} error")
    return int(text)


def _decimal(given: _Given, name: str, reason: str) -> Decimal:
    try:
        number = Decimal(given.get(name, ""))
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise Refused(reason, "")
    return number
