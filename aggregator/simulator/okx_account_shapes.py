"""OKX's JSON about an account: orders, fills, balances; every number is text."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from aggregator.simulator.accounts import ROUNDED, ZERO, Account, Balance, Fill, Order, text
from aggregator.simulator.keys import Key
from aggregator.simulator.market import Market
from aggregator.simulator.okx_shapes import now_ms

_USD = ("USD", "USDT", "USDC")
# Bills are numbered apart from fills.
BILL = 10**15
_CENT = Decimal("1e-8")
_RATES = {True: "-0.0008", False: "-0.001"}
# Why an order was canceled; all others were by the user.
_SOURCES = {"system": "0", "post_only": "31", "ioc": "14", "fok": "13", "liquidity": "14"}


def _all(names: str, value: str = "") -> dict[str, str]:
    return dict.fromkeys(names.split(), value)


# Fields of an order that spot never fills.
_EMPTY = _all(
    "algoClOrdId algoId attachAlgoClOrdId ccy lever posSide pxType pxUsd pxVol quickMgnType "
    "slOrdPx slTriggerPx slTriggerPxType source stpId tpOrdPx tpTriggerPx tpTriggerPxType"
)
_FILL_EMPTY = _all("fillFwdPx fillIdxPx fillMarkPx fillMarkVol fillPxUsd fillPxVol")
_PUSH_EMPTY = _FILL_EMPTY | _all("amendResult amendSource msg reqId")
_DETAIL = _all(
    "accAvgPx clSpotInUseAmt imr maxSpotInUseAmt mgnRatio mmr notionalLever openAvgPx spotBal "
    "spotInUseAmt spotUpl spotUplRatio totalPnl totalPnlRatio"
)
_DETAIL |= _all(
    "borrowFroz colBorrAutoConversion colRes crossLiab fixedBal frpType interest isoEq isoLiab "
    "isoUpl liab maxLoan rewardBal smtSyncEq spotCopyTradingEq spotIsoBal stgyEq twap upl uplLiab",
    "0",
)
_ACCOUNT = _all(
    "adjEq availEq borrowFroz delta deltaLever deltaNeutralStatus imr mgnRatio mmr notionalUsd "
    "notionalUsdForBorrow notionalUsdForFutures notionalUsdForOption notionalUsdForSwap ordFroz upl"
)


def order(one: Order) -> dict[str, Any]:
    """Return an order as REST shows it: the fields of a fill are those of the last."""
    last, price = one.last, one.price
    wanted = one.quote_size if one.size is None else one.size
    target = "quote_ccy" if one.size is None else "base_ccy"
    return _EMPTY | {
        "accFillSz": text(one.filled),
        "attachAlgoOrds": [],
        "avgPx": text(one.average()) if one.filled else "",
        "cTime": str(one.created_ms),
        "cancelSource": _SOURCES.get(one.reason, "1") if one.state == "canceled" else "",
        "cancelSourceReason": "",
        "category": "normal",
        "clOrdId": one.client_id,
        "fee": _negative(one.fee),
        "feeCcy": one.gets,
        "fillPx": "" if last is None else text(last.price),
        "fillSz": "0" if last is None else text(last.size),
        "fillTime": "" if last is None else str(last.ms),
        "instId": one.instrument.okx_id,
        "instType": "SPOT",
        "isTpLimit": "false",
        "linkedAlgoOrd": {"algoId": ""},
        "ordId": str(one.id),
        "ordType": one.type,
        "pnl": "0",
        "px": "" if price is None else text(price),
        "rebate": "0",
        "rebateCcy": one.pays,
        "reduceOnly": "false",
        "side": one.side,
        "state": one.state,
        "stpMode": "cancel_maker",
        "sz": text(wanted or ZERO),
        "tag": one.tag,
        "tdMode": "cash",
        "tgtCcy": target if one.type == "market" else "",
        "tradeId": "" if last is None else str(last.id),
        "tradeQuoteCcy": one.instrument.quote,
        "uTime": str(one.updated_ms),
    }


def order_push(one: Order, fill: Fill | None, market: Market) -> dict[str, Any]:
    """Return a row of the channel `orders`: the fields of a fill are those of this very change."""
    row = order(one) | _PUSH_EMPTY
    del row["cancelSourceReason"]
    rate = price_in_usd(market, one.instrument.quote)
    size = one.size if one.size is not None else one.filled
    notional = (one.quote_size or size * (one.price or _last(one))) * rate
    filled = ZERO if fill is None else fill.value
    return row | {
        "avgPx": text(one.average()),
        "code": "0",
        "execType": "" if fill is None else "M" if fill.maker else "T",
        "fillFee": "0" if fill is None else _negative(fill.fee),
        "fillFeeCcy": "" if fill is None else fill.fee_currency,
        "fillNotionalUsd": "" if fill is None else _usd(filled * rate),
        "fillPnl": "0",
        "fillPx": "" if fill is None else text(fill.price),
        "fillSz": "0" if fill is None else text(fill.size),
        "fillTime": "" if fill is None else str(fill.ms),
        "lastPx": text(_last(one)),
        "notionalUsd": _usd(notional),
        "tradeId": "" if fill is None else str(fill.id),
    }


def fill_row(fill: Fill, one: Order | None) -> dict[str, str]:
    """Return a row of `trade/fills`."""
    return _FILL_EMPTY | {
        "billId": str(fill.id + BILL),
        "clOrdId": "" if one is None else one.client_id,
        "execType": "M" if fill.maker else "T",
        "fee": _negative(fill.fee),
        "feeCcy": fill.fee_currency,
        "feeRate": _RATES[fill.maker],
        "fillPnl": "0",
        "fillPx": text(fill.price),
        "fillSz": text(fill.size),
        "fillTime": str(fill.ms),
        "instId": fill.instrument.okx_id,
        "instType": "SPOT",
        "ordId": str(fill.order_id),
        "posSide": "net",
        "side": fill.side,
        "subType": "1" if fill.side == "buy" else "2",
        "tag": "" if one is None else one.tag,
        "tradeId": str(fill.id),
        "tradeQuoteCcy": fill.instrument.quote,
        "ts": str(fill.ms),
    }


def account(one: Account, market: Market, currencies: Iterable[str] | None) -> dict[str, Any]:
    """Return the row of `account` and of `account/balance`; None = every currency it has."""
    total = sum((b.total * price_in_usd(market, ccy) for ccy, b in one.balances.items()), ZERO)
    chosen = one.balances if currencies is None else currencies
    details = [_detail(ccy, one.balance(ccy), market) for ccy in chosen]
    if currencies is None:
        details = [row for row in details if row["eq"] != "0"]
    times = {"isoEq": "0", "totalEq": _usd(total), "uTime": now_ms()}
    return _ACCOUNT | {"details": details} | times


def _detail(currency: str, have: Balance, market: Market) -> dict[str, Any]:
    price = price_in_usd(market, currency)
    equity = text(have.total)
    return _DETAIL | {
        "autoLendStatus": "unsupported",
        "autoLendAmt": "0",
        "autoLendMtAmt": "0",
        "autoStakingStatus": "unsupported",
        "availBal": text(have.available),
        "availEq": text(have.available),
        "cashBal": equity,
        "ccy": currency,
        "coinUsdPrice": text(price),
        "collateralEnabled": False,
        "collateralRestrict": False,
        "disEq": _usd(have.total * price),
        "eq": equity,
        "eqUsd": _usd(have.total * price),
        "frozenBal": text(have.frozen),
        "ordFrozen": text(have.frozen),
        "uTime": str(have.updated_ms),
    }


def cash(one: Account, currencies: Iterable[str]) -> list[dict[str, str]]:
    """Return `balData` of the channel `balance_and_position`."""
    return [
        {
            "ccy": currency,
            "cashBal": text(one.balance(currency).total),
            "uTime": str(one.balance(currency).updated_ms),
        }
        for currency in currencies
    ]


def config(one: Account, key: Key) -> dict[str, Any]:
    """Return the row of `account/config`: what this key may do, and whose it is."""
    empty = dict.fromkeys(("ip", "levelTmp", "spotOffsetType", "settleCcy"), "")
    return empty | {
        "acctLv": "1",
        "acctStpMode": "cancel_maker",
        "autoLoan": False,
        "ctIsoMode": "automatic",
        "enableSpotBorrow": False,
        "feeType": "0",
        "greeksType": "PA",
        "kycLv": "3",
        "label": key.name,
        "level": "Lv1",
        "liquidationGear": "-1",
        "mainUid": str(one.uid),
        "mgnIsoMode": "automatic",
        "opAuth": "0",
        "perm": "read_only,trade" if key.may_trade else "read_only",
        "posMode": "net_mode",
        "roleType": "0",
        "settleCcyList": [],
        "spotBorrowAutoRepay": False,
        "spotRoleType": "0",
        "spotTraderInsts": [],
        "stgyType": "0",
        "traderInsts": [],
        "type": "0",
        "uid": str(one.uid),
    }


def currency(name: str) -> dict[str, Any]:
    """Return a row of `asset/currencies`, of one chain."""
    amounts = "minDep minFee minInternal minWd maxFee maxFeeForCtAddr minFeeForCtAddr fee"
    return _all(amounts, "0.01") | {
        "burningFeeRate": "",
        "canDep": True,
        "canInternal": True,
        "canWd": True,
        "ccy": name,
        "chain": f"{name}-{name}",
        "ctAddr": "",
        "depQuotaFixed": "",
        "depQuoteDailyLayer2": "",
        "logoLink": "",
        "mainNet": True,
        "maxWd": "1000000",
        "minDepArrivalConfirm": "1",
        "minWdUnlockConfirm": "2",
        "name": name,
        "needTag": False,
        "usedDepQuotaFixed": "",
        "usedWdQuota": "0",
        "wdQuota": "10000000",
        "wdTickSz": "8",
    }


def price_in_usd(market: Market, currency: str) -> Decimal:
    """Return what one unit is worth, 0 where nobody trades it for dollars."""
    if currency in _USD:
        return Decimal(1)
    one = market.by_symbol.get(f"{currency}USDT")
    return ZERO if one is None else Decimal(one.last).scaleb(-one.decimals)


def _last(one: Order) -> Decimal:
    traded = one.instrument
    return Decimal(traded.last + traded.okx_offset).scaleb(-traded.decimals)


def _usd(amount: Decimal) -> str:
    return text(amount.quantize(_CENT, context=ROUNDED))


def _negative(fee: Decimal) -> str:
    return text(fee.copy_negate()) if fee else "0"
