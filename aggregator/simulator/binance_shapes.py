"""Binance's JSON, REST and streams: prices and sizes as text with eight decimals."""

import time
from typing import Any

from aggregator.simulator.depth import Book, Changes
from aggregator.simulator.digits import eight
from aggregator.simulator.market import Instrument, Trade

_DAY_MS = 86_400_000


def now_ms() -> int:
    """Return the wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


def statistics(one: Instrument) -> dict[str, str]:
    """Change, percentage, average and the two volumes, computed exactly."""
    change = one.last - one.open
    per_mille = round(change * 100_000 / one.open)
    return {
        "change": eight(change, one.decimals),
        "percent": f"{'-' if per_mille < 0 else ''}{abs(per_mille) // 1000}"
        f".{abs(per_mille) % 1000:03d}",
        "average": eight(one.turnover * 100 // max(1, one.volume), one.decimals + 2),
        "volume": eight(one.volume, one.lot_decimals),
        "turnover": eight(one.turnover, one.decimals + one.lot_decimals),
    }


def price(one: Instrument) -> dict[str, Any]:
    """Return a row of `ticker/price`."""
    return {"symbol": one.symbol, "price": eight(one.last, one.decimals)}


def book_ticker(one: Instrument) -> dict[str, Any]:
    """Return a row of `ticker/bookTicker`."""
    return {
        "symbol": one.symbol,
        "bidPrice": eight(one.bid, one.decimals),
        "bidQty": eight(one.bid_lots, one.lot_decimals),
        "askPrice": eight(one.ask, one.decimals),
        "askQty": eight(one.ask_lots, one.lot_decimals),
    }


def day(one: Instrument, *, full: bool, closed_ms: int, scale: int = 1) -> dict[str, Any]:
    """Return a row of `ticker/24hr`; `scale` is 1000 when the client asked for microseconds."""
    figures = statistics(one)
    decimals, lots = one.decimals, one.lot_decimals
    ends = {
        "openPrice": eight(one.open, decimals),
        "highPrice": eight(one.high, decimals),
        "lowPrice": eight(one.low, decimals),
    }
    tail = {
        "volume": figures["volume"],
        "quoteVolume": figures["turnover"],
        "openTime": (closed_ms - _DAY_MS) * scale,
        "closeTime": closed_ms * scale,
        "firstId": one.first_trade_id,
        "lastId": one.trade_id,
        "count": one.trade_id - one.first_trade_id + 1,
    }
    last = eight(one.last, decimals)
    if not full:
        return {"symbol": one.symbol, **ends, "lastPrice": last, **tail}
    return {
        "symbol": one.symbol,
        "priceChange": figures["change"],
        "priceChangePercent": figures["percent"],
        "weightedAvgPrice": figures["average"],
        "prevClosePrice": ends["openPrice"],
        "lastPrice": last,
        "lastQty": eight(one.last_lots, lots),
        **{name: text for name, text in book_ticker(one).items() if name != "symbol"},
        **ends,
        **tail,
    }


def levels(rows: list[tuple[int, int]], one: Instrument) -> list[tuple[str, str]]:
    """Levels as [price, size]."""
    return [(eight(ticks, one.decimals), eight(lots, one.lot_decimals)) for ticks, lots in rows]


def depth(book: Book, limit: int) -> dict[str, Any]:
    """Return the body of REST `depth` and of the partial depth streams."""
    return {
        "lastUpdateId": book.last_id,
        "bids": levels(book.best_bids(limit), book.instrument),
        "asks": levels(book.best_asks(limit), book.instrument),
    }


def depth_update(one: Instrument, changes: Changes) -> dict[str, Any]:
    """Return a diff: absolute sizes, `0.00000000` removes."""
    return {
        "e": "depthUpdate",
        "E": now_ms(),
        "s": one.symbol,
        "U": changes.first,
        "u": changes.last,
        "b": levels(sorted(changes.bids.items(), reverse=True), one),
        "a": levels(sorted(changes.asks.items()), one),
    }


def book_ticker_event(book: Book) -> dict[str, Any]:
    """`bookTicker`: an update id, no time."""
    one = book.instrument
    return {
        "u": book.last_id,
        "s": one.symbol,
        "b": eight(one.bid, one.decimals),
        "B": eight(one.bid_lots, one.lot_decimals),
        "a": eight(one.ask, one.decimals),
        "A": eight(one.ask_lots, one.lot_decimals),
    }


def trade(one: Instrument, last: Trade) -> dict[str, Any]:
    """`trade`."""
    return {
        "e": "trade",
        "E": now_ms(),
        "s": one.symbol,
        "t": last.trade_id,
        "p": eight(last.ticks, one.decimals),
        "q": eight(last.lots, one.lot_decimals),
        "T": last.ms,
        "m": last.buyer_is_maker,
        "M": True,
    }


def trade_row(one: Instrument, last: Trade, scale: int = 1) -> dict[str, Any]:
    """Return a row of REST `trades` and `historicalTrades`; `scale` as with `day`."""
    return {
        "id": last.trade_id,
        "price": eight(last.ticks, one.decimals),
        "qty": eight(last.lots, one.lot_decimals),
        "quoteQty": eight(last.ticks * last.lots, one.decimals + one.lot_decimals),
        "time": last.ms * scale,
        "isBuyerMaker": last.buyer_is_maker,
        "isBestMatch": True,
    }


def agg_trade(one: Instrument, last: Trade) -> dict[str, Any]:
    """`aggTrade`; each aggregates one trade."""
    ms = now_ms()
    return {
        "e": "aggTrade",
        "E": ms,
        "s": one.symbol,
        "a": last.trade_id // 2,
        "p": eight(last.ticks, one.decimals),
        "q": eight(last.lots, one.lot_decimals),
        "f": last.trade_id,
        "l": last.trade_id,
        "T": ms,
        "m": last.buyer_is_maker,
        "M": True,
    }


def mini_ticker(one: Instrument) -> dict[str, Any]:
    """`24hrMiniTicker`."""
    return {
        "e": "24hrMiniTicker",
        "E": now_ms(),
        "s": one.symbol,
        "c": eight(one.last, one.decimals),
        "o": eight(one.open, one.decimals),
        "h": eight(one.high, one.decimals),
        "l": eight(one.low, one.decimals),
        "v": eight(one.volume, one.lot_decimals),
        "q": eight(one.turnover, one.decimals + one.lot_decimals),
    }


def ticker(one: Instrument) -> dict[str, Any]:
    """`24hrTicker`."""
    ms = now_ms()
    figures = statistics(one)
    decimals, lots = one.decimals, one.lot_decimals
    return {
        "e": "24hrTicker",
        "E": ms,
        "s": one.symbol,
        "p": figures["change"],
        "P": figures["percent"],
        "w": figures["average"],
        "x": eight(one.open, decimals),
        "c": eight(one.last, decimals),
        "Q": eight(one.last_lots, lots),
        "b": eight(one.bid, decimals),
        "B": eight(one.bid_lots, lots),
        "a": eight(one.ask, decimals),
        "A": eight(one.ask_lots, lots),
        "o": eight(one.open, decimals),
        "h": eight(one.high, decimals),
        "l": eight(one.low, decimals),
        "v": figures["volume"],
        "q": figures["turnover"],
        "O": ms - _DAY_MS,
        "C": ms,
        "F": one.first_trade_id,
        "L": one.trade_id,
        "n": one.trade_id - one.first_trade_id + 1,
    }


RATE_LIMITS = (
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200_000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61_000},
)
_ORDER_TYPES = ("LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT")


def _filters(one: Instrument) -> tuple[dict[str, Any], ...]:
    tick, lot = eight(1, one.decimals), eight(1, one.lot_decimals)
    return (
        {
            "filterType": "PRICE_FILTER",
            "minPrice": tick,
            "maxPrice": "1000000.00000000",
            "tickSize": tick,
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": lot,
            "maxQty": "92141578.00000000",
            "stepSize": lot,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": "5.00000000",
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
    )


def symbol_info(one: Instrument, *, permission_sets: bool) -> dict[str, Any]:
    """Return a row of `symbols` in `exchangeInfo`."""
    return {
        "symbol": one.symbol,
        "status": "TRADING" if one.trading else "BREAK",
        "baseAsset": one.base,
        "baseAssetPrecision": 8,
        "quoteAsset": one.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": _ORDER_TYPES,
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(one),
        "permissions": (),
        "permissionSets": (("SPOT",),) if permission_sets else (),
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ("EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"),
    }
