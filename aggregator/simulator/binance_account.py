"""What may be asked of a Binance account, over REST and over the WebSocket API alike."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from aggregator.simulator import binance_account_shapes as shapes
from aggregator.simulator.accounts import Account, Order
from aggregator.simulator.binance_query import Refusal
from aggregator.simulator.binance_signed import mandatory, not_permitted
from aggregator.simulator.keys import Key
from aggregator.simulator.market import Instrument, Market
from aggregator.simulator.matching import Engine
from aggregator.simulator.wanted import Refused, Wanted

_SIGNED = ("apiKey", "recvWindow", "signature", "timestamp")
_REFUSALS = {
    "balance": (-2010, "Account has insufficient balance for requested action."),
    "would_take": (-2010, "Order would immediately match and take."),
    "duplicate": (-2010, "Duplicate order sent."),
    "lot": (-1013, "Filter failure: LOT_SIZE"),
    "minimum": (-1013, "Filter failure: LOT_SIZE"),
    "tick": (-1013, "Filter failure: PRICE_FILTER"),
    "closed": (-2011, "Unknown order sent."),
}
_Parameters = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Method:
    """A request: its weight, what it knows besides the signature, and what answers it."""

    weight: Callable[[_Parameters], int]
    known: tuple[str, ...]
    run: Callable[[Key, _Parameters], Any]
    trades: bool = False
    # Of another path than /api/v3, so not in the WebSocket API.
    rest_only: bool = False


class BinanceAccount:
    """The methods by the names that the WebSocket API gives them."""

    def __init__(self, market: Market, engine: Engine) -> None:
        self._market = market
        self._engine = engine
        named = ("symbol", "orderId", "origClientOrderId")
        page = ("symbol", "orderId", "startTime", "endTime", "limit")
        new = (
            "symbol side type timeInForce quantity quoteOrderQty price newClientOrderId strategyId "
            "strategyType newOrderRespType selfTradePreventionMode"
        )
        cancel = (*named, "newClientOrderId", "cancelRestrictions")
        self._methods = {
            "order.place": Method(_always(1), tuple(new.split()), self._place, trades=True),
            "order.cancel": Method(_always(1), cancel, self._cancel, trades=True),
            "order.status": Method(_always(4), named, self._order),
            "openOrders.status": Method(_open_weight, ("symbol",), self._open),
            "allOrders": Method(_always(20), page, self._all),
            "myTrades": Method(_trades_weight, (*page, "fromId"), self._trades),
            "account.status": Method(_always(20), ("omitZeroBalances",), self._account),
            "apiRestrictions": Method(
                _always(1), (), lambda key, _: shapes.restrictions(key), rest_only=True
            ),
            "coins": Method(_always(10), (), self._coins, rest_only=True),
            # Nothing is traded on margin here; ccxt asks all the same.
            "marginPairs": Method(_always(1), ("symbol",), lambda _key, _given: [], rest_only=True),
        }

    def method(self, name: str) -> Method | None:
        """Return the method of this name; None = there is no such."""
        return self._methods.get(name)

    def call(self, method: Method, key: Key, given: _Parameters) -> Any:
        """Answer one request of somebody who is known by now."""
        read = sum(name in (*method.known, *_SIGNED) for name in given)
        if read < len(given):
            raise Refusal(
                -1104,
                f"Not all sent parameters were read; read '{read}' parameter(s) but was sent "
                f"'{len(given)}'.",
            )
        if method.trades and not key.may_trade:
            raise not_permitted()
        try:
            return method.run(key, given)
        except Refused as refused:
            raise Refusal(*_REFUSALS.get(refused.reason, (-1013, str(refused)))) from None

    def _place(self, key: Key, given: _Parameters) -> Any:
        account, one = self._engine.accounts.owner(key), self._instrument(given)
        side, kind = mandatory(given, "side"), mandatory(given, "type")
        if side not in ("BUY", "SELL"):
            raise Refusal(-1117, "Invalid side.")
        if not one.trading:
            raise Refusal(-2010, "Market is closed.")
        wanted = Wanted(
            instrument=one,
            side=side.lower(),
            type=_type(kind, given),
            price=None if kind == "MARKET" else _decimal(given, "price"),
            size=_decimal(given, "quantity") if _by_base(kind, given) else None,
            quote_size=None if _by_base(kind, given) else _decimal(given, "quoteOrderQty"),
            client_id=given.get("newClientOrderId", ""),
        )
        form = given.get("newOrderRespType", "ACK" if kind == "LIMIT_MAKER" else "FULL")
        if form not in ("ACK", "RESULT", "FULL"):
            raise Refusal(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        order = self._engine.place(account, wanted)
        fills = [fill for fill in account.fills if fill.order_id == order.id]
        return shapes.placed(order, fills, form)

    def _cancel(self, key: Key, given: _Parameters) -> Any:
        account, one = self._engine.accounts.owner(key), self._instrument(given)
        order = _find(account, one, given)
        if order is None or not order.working:
            raise Refusal(-2011, "Unknown order sent.")
        cancel_id = given.get("newClientOrderId") or f"cancel{order.id:016d}"
        self._engine.cancel(account, order, cancel_id=cancel_id)
        return shapes.canceled(order)

    def _order(self, key: Key, given: _Parameters) -> Any:
        order = _find(self._engine.accounts.owner(key), self._instrument(given), given)
        if order is None or order.state == "rejected":
            raise Refusal(-2013, "Order does not exist.")
        return shapes.order(order)

    def _open(self, key: Key, given: _Parameters) -> Any:
        one = self._instrument(given) if "symbol" in given else None
        return [
            shapes.order(order)
            for order in self._engine.accounts.owner(key).open.values()
            if one is None or order.instrument is one
        ]

    def _all(self, key: Key, given: _Parameters) -> Any:
        one, first = self._instrument(given), _whole(given, "orderId", 0)
        since, until = _whole(given, "startTime", 0), _whole(given, "endTime", 10**18)
        rows = [
            shapes.order(order)
            for order in self._engine.accounts.owner(key).orders()
            if order.instrument is one
            and order.id >= first
            and since <= order.created_ms <= until
            and order.state != "rejected"
        ]
        return _page(rows, given, oldest=bool(first or since))

    def _trades(self, key: Key, given: _Parameters) -> Any:
        one, order_id = self._instrument(given), _whole(given, "orderId", 0)
        since, until = _whole(given, "startTime", 0), _whole(given, "endTime", 10**18)
        first = _whole(given, "fromId", 0)
        rows = [
            shapes.trade(fill)
            for fill in self._engine.accounts.owner(key).fills
            if fill.instrument is one
            and fill.id >= first
            and order_id in (0, fill.order_id)
            and since <= fill.ms <= until
        ]
        return _page(rows, given, oldest=bool(first or since))

    def _account(self, key: Key, given: _Parameters) -> Any:
        with_zeros = given.get("omitZeroBalances") != "true"
        return shapes.account(self._engine.accounts.owner(key), with_zeros=with_zeros)

    def _coins(self, key: Key, _given: _Parameters) -> Any:
        account = self._engine.accounts.owner(key)
        names = {name for one in self._market for name in (one.base, one.quote)}
        return [shapes.coin(name, account) for name in sorted(names)]

    def _instrument(self, given: _Parameters) -> Instrument:
        one = self._market.by_symbol.get(mandatory(given, "symbol"))
        if one is None:
            raise Refusal(-1121, "Invalid symbol.")
        return one


def _find(account: Account, one: Instrument, given: _Parameters) -> Order | None:
    if "orderId" not in given and "origClientOrderId" not in given:
        message = "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!"
        raise Refusal(-1102, message)
    number = _whole(given, "orderId", 0) if "orderId" in given else None
    order = account.find(number, given.get("origClientOrderId", ""))
    return order if order is not None and order.instrument is one else None


def _type(kind: str, given: _Parameters) -> str:
    if kind in ("MARKET", "LIMIT_MAKER"):
        if "timeInForce" in given:
            raise Refusal(-1106, "Parameter 'timeInForce' sent when not required.")
        return "market" if kind == "MARKET" else "post_only"
    if kind != "LIMIT":
        raise Refusal(-1116, "Invalid orderType.")
    types = {"GTC": "limit", "IOC": "ioc", "FOK": "fok"}
    wanted = types.get(mandatory(given, "timeInForce"))
    if wanted is None:
        raise Refusal(-1115, "Invalid timeInForce.")
    return wanted


def _by_base(kind: str, given: _Parameters) -> bool:
    return kind != "MARKET" or "quoteOrderQty" not in given


def _decimal(given: _Parameters, name: str) -> Decimal:
    text = mandatory(given, name)
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise Refusal(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is "
            r"'^([0-9]{1,20})(\.[0-9]{1,20})?$'.",
        )
    return number


def _whole(given: _Parameters, name: str, default: int) -> int:
    text = given.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Refusal(
            -1100,
            f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.",
        )
    return int(text)


def _page(rows: list[Any], given: _Parameters, *, oldest: bool) -> list[Any]:
    limit = min(_whole(given, "limit", 500), 1000)
    return rows[:limit] if oldest else rows[-limit:]


def _always(weight: int) -> Callable[[_Parameters], int]:
    return lambda _given: weight


def _open_weight(given: _Parameters) -> int:
    return 6 if "symbol" in given else 80


def _trades_weight(given: _Parameters) -> int:
    return 5 if "orderId" in given else 20
