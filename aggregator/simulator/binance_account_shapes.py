"""Binance's JSON about an account: REST, the WebSocket API's answers and the user data stream."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from aggregator.simulator.accounts import ZERO, Account, Fill, Order, down
from aggregator.simulator.binance_shapes import now_ms
from aggregator.simulator.keys import Key
from aggregator.simulator.matching import Change

_UNIT = Decimal("1e-8")
_STATES = {
    "live": "NEW",
    "partially_filled": "PARTIALLY_FILLED",
    "filled": "FILLED",
    "rejected": "REJECTED",
}
_TYPES = {"market": "MARKET", "post_only": "LIMIT_MAKER"}
_TIMES = {"ioc": "IOC", "fok": "FOK"}
_EXPIRIES = {
    "ioc": "UNFILLED_IOC_QUANTITY_EXPIRED",
    "fok": "UNFILLED_FOK_ORDER_EXPIRED",
    "liquidity": "INSUFFICIENT_LIQUIDITY",
    "system": "EXCHANGE_CANCELED",
}


def amount(number: Decimal | None) -> str:
    """Return an amount with eight decimals."""
    return f"{down(number or ZERO, _UNIT):f}"


def state(one: Order) -> str:
    """Return an order's status; what the user did not cancel has expired."""
    if one.state == "canceled":
        return "EXPIRED" if one.reason in _EXPIRIES else "CANCELED"
    return _STATES[one.state]


def _names(one: Order) -> dict[str, Any]:
    return {"symbol": one.instrument.symbol, "orderId": one.id, "orderListId": -1}


def _expiry(one: Order, name: str) -> dict[str, str]:
    return {name: _EXPIRIES[one.reason]} if state(one) == "EXPIRED" else {}


def _quantity(one: Order) -> str:
    return amount(one.filled if one.size is None else one.size)


def _kind(one: Order) -> dict[str, str]:
    return {
        "status": state(one),
        "timeInForce": _TIMES.get(one.type, "GTC"),
        "type": _TYPES.get(one.type, "LIMIT"),
        "side": one.side.upper(),
    }


def _sizes(one: Order) -> dict[str, str]:
    return {
        "price": amount(one.price),
        "origQty": _quantity(one),
        "executedQty": amount(one.filled),
        "origQuoteOrderQty": amount(one.quote_size),
        "cummulativeQuoteQty": amount(one.value),
    }


def order(one: Order) -> dict[str, Any]:
    """Return an order as queries show it."""
    return {
        **_names(one),
        "clientOrderId": one.client_id,
        **_sizes(one),
        **_kind(one),
        "stopPrice": "0.00000000",
        "icebergQty": "0.00000000",
        "time": one.created_ms,
        "updateTime": one.updated_ms,
        "isWorking": True,
        "workingTime": one.created_ms,
        "selfTradePreventionMode": "NONE",
        **_expiry(one, "expiryReason"),
    }


def placed(one: Order, fills: Iterable[Fill], form: str) -> dict[str, Any]:
    """Return the answer to a new order: `ACK`, `RESULT` or `FULL`."""
    answer = {**_names(one), "clientOrderId": one.client_id, "transactTime": one.updated_ms}
    if form == "ACK":
        return answer
    answer |= {**_sizes(one), **_kind(one), "workingTime": one.created_ms}
    answer |= {"selfTradePreventionMode": "NONE", **_expiry(one, "expiryReason")}
    if form == "FULL":
        answer["fills"] = [
            {
                "price": amount(fill.price),
                "qty": amount(fill.size),
                "commission": amount(fill.fee),
                "commissionAsset": fill.fee_currency,
                "tradeId": fill.id,
            }
            for fill in fills
        ]
    return answer


def canceled(one: Order) -> dict[str, Any]:
    """Return the answer to a cancellation, which has a client's id of its own."""
    return {
        "symbol": one.instrument.symbol,
        "origClientOrderId": one.client_id,
        "orderId": one.id,
        "orderListId": -1,
        "clientOrderId": one.cancel_id,
        "transactTime": one.updated_ms,
        **_sizes(one),
        **_kind(one),
        "selfTradePreventionMode": "NONE",
    }


def trade(fill: Fill) -> dict[str, Any]:
    """Return a row of `myTrades`."""
    return {
        "symbol": fill.instrument.symbol,
        "id": fill.id,
        "orderId": fill.order_id,
        "orderListId": -1,
        "price": amount(fill.price),
        "qty": amount(fill.size),
        "quoteQty": amount(fill.value),
        "commission": amount(fill.fee),
        "commissionAsset": fill.fee_currency,
        "time": fill.ms,
        "isBuyer": fill.side == "buy",
        "isMaker": fill.maker,
        "isBestMatch": True,
    }


def account(one: Account, *, with_zeros: bool) -> dict[str, Any]:
    """Return `GET /api/v3/account`."""
    rates = {"maker": "0.00100000", "taker": "0.00100000"}
    return {
        "makerCommission": 10,
        "takerCommission": 10,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": rates | {"buyer": "0.00000000", "seller": "0.00000000"},
        "canTrade": True,
        "canWithdraw": True,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": one.updated_ms,
        "accountType": "SPOT",
        "balances": [
            {"asset": ccy, "free": amount(have.available), "locked": amount(have.frozen)}
            for ccy, have in sorted(one.balances.items())
            if with_zeros or have.total
        ],
        "permissions": ["SPOT"],
        "uid": one.uid,
    }


def restrictions(key: Key) -> dict[str, Any]:
    """Return `GET /sapi/v1/account/apiRestrictions`: what this key may do."""
    no = (
        "enableWithdrawals enableInternalTransfer permitsUniversalTransfer enableVanillaOptions "
        "enableFutures enableMargin enablePortfolioMarginTrading enableFixApiTrade"
    )
    return dict.fromkeys(no.split(), False) | {
        "ipRestrict": False,
        "createTime": 1_767_225_600_000,
        "enableReading": True,
        "enableSpotAndMarginTrading": key.may_trade,
        "enableFixReadOnly": not key.may_trade,
    }


def coin(name: str, one: Account) -> dict[str, Any]:
    """Return a row of `GET /sapi/v1/capital/config/getall`."""
    have = one.balance(name)
    return {
        "coin": name,
        "name": name,
        "free": amount(have.available),
        "locked": amount(have.frozen),
        "freeze": "0",
        "withdrawing": "0",
        "ipoing": "0",
        "ipoable": "0",
        "storage": "0",
        "isLegalMoney": False,
        "trading": True,
        "depositAllEnable": True,
        "withdrawAllEnable": True,
        "networkList": [],
    }


def report(change: Change, one: Order, number: int) -> dict[str, Any]:
    """Return the event `executionReport`; `number` is of this execution."""
    execution = _execution(change, one)
    # A cancellation has an id of its own, the order's follows as C.
    renamed = execution == "CANCELED" and bool(one.cancel_id)
    event = {
        "e": "executionReport",
        "E": now_ms(),
        "s": one.instrument.symbol,
        "c": one.cancel_id if renamed else one.client_id,
        "S": one.side.upper(),
        "o": _TYPES.get(one.type, "LIMIT"),
        "f": _TIMES.get(one.type, "GTC"),
        "q": _quantity(one),
        "p": amount(one.price),
        "P": "0.00000000",
        "F": "0.00000000",
        "g": -1,
        "C": one.client_id if renamed else "",
        "x": execution,
        "X": state(one),
        "r": one.reason if change.kind == "rejected" else "NONE",
        "i": one.id,
        "z": amount(one.filled),
        "T": change.ms,
        "I": number,
        "w": one.working and one.type != "market",
        "M": False,
        "O": one.created_ms,
        "Z": amount(one.value),
        "Q": amount(one.quote_size),
        "V": "NONE",
    }
    working = {} if change.kind == "rejected" else {"W": one.created_ms}
    return event | _executed(change.fill) | working | _expiry(one, "eR")


def _execution(change: Change, one: Order) -> str:
    kinds = {"placed": "NEW", "filled": "TRADE", "rejected": "REJECTED"}
    return kinds.get(change.kind, state(one))


def _executed(fill: Fill | None) -> dict[str, Any]:
    return {
        "l": amount(fill.size if fill else None),
        "L": amount(fill.price if fill else None),
        "n": amount(fill.fee) if fill else "0",
        "N": fill.fee_currency if fill else None,
        "t": fill.id if fill else -1,
        "m": fill.maker if fill else False,
        "Y": amount(fill.value if fill else None),
    }


def position(one: Account, currencies: Iterable[str]) -> dict[str, Any]:
    """Return the event `outboundAccountPosition`."""
    balances = [(currency, one.balance(currency)) for currency in currencies]
    return {
        "e": "outboundAccountPosition",
        "E": now_ms(),
        "u": one.updated_ms,
        "B": [
            {"a": currency, "f": amount(have.available), "l": amount(have.frozen)}
            for currency, have in balances
        ],
    }


def balance(change: Change) -> dict[str, Any]:
    """Return the event `balanceUpdate`, of a deposit or a withdrawal."""
    return {
        "e": "balanceUpdate",
        "E": now_ms(),
        "a": change.currencies[0],
        "d": amount(change.amount),
        "T": change.ms,
    }
