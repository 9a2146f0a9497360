"""OKX's JSON, REST and channels: every number is text, without trailing zeros."""

import time
from typing import Any

from aggregator.simulator.depth import Book, Changes
from aggregator.simulator.digits import short
from aggregator.simulator.market import Instrument, Trade


def now_ms() -> str:
    """Return the wall clock in milliseconds, as text."""
    return str(time.time_ns() // 1_000_000)


def ticker(one: Instrument) -> dict[str, str]:
    """Return a row of the channel `tickers` and of `market/tickers`."""
    decimals, lots, offset = one.decimals, one.lot_decimals, one.okx_offset
    opened = short(one.open + offset, decimals)
    return {
        "instType": "SPOT",
        "instId": one.okx_id,
        "last": short(one.last + offset, decimals),
        "lastSz": short(one.last_lots, lots),
        "askPx": short(one.ask + offset, decimals),
        "askSz": short(one.ask_lots, lots),
        "bidPx": short(one.bid + offset, decimals),
        "bidSz": short(one.bid_lots, lots),
        "open24h": opened,
        "high24h": short(one.high + offset, decimals),
        "low24h": short(one.low + offset, decimals),
        "volCcy24h": short(one.turnover, decimals + lots),
        "vol24h": short(one.volume, lots),
        "ts": now_ms(),
        "sodUtc0": opened,
        "sodUtc8": opened,
    }


def trade(one: Instrument, last: Trade, *, rest: bool = False) -> dict[str, Any]:
    """Return a row of the channel `trades`, or of REST `market/trades`, which has no count."""
    row = {
        "instId": one.okx_id,
        "tradeId": str(last.trade_id),
        "px": short(last.ticks + one.okx_offset, one.decimals),
        "sz": short(last.lots, one.lot_decimals),
        "side": "sell" if last.buyer_is_maker else "buy",
        "ts": str(last.ms),
    }
    if rest:
        return row | {"source": "0"}
    return row | {"count": "1", "source": "0", "seqId": last.trade_id}


def levels(rows: list[tuple[int, int]], one: Instrument) -> list[tuple[str, str, str, str]]:
    """Levels as [price, size, "0", number of orders]."""
    return [
        (
            short(ticks, one.decimals),
            short(lots, one.lot_decimals),
            "0",
            str(1 + lots % 7) if lots else "0",
        )
        for ticks, lots in rows
    ]


def top(book: Book, limit: int) -> dict[str, Any]:
    """Return the best levels: `bbo-tbt`, `books5` (which adds instId) and REST `market/books`."""
    return {
        "asks": levels(book.best_asks(limit), book.instrument),
        "bids": levels(book.best_bids(limit), book.instrument),
        "ts": now_ms(),
        "seqId": book.last_id,
    }


def snapshot(book: Book, limit: int) -> dict[str, Any]:
    """Return the first message of `books`."""
    return top(book, limit) | {"prevSeqId": -1}


def update(one: Instrument, changes: Changes) -> dict[str, Any]:
    """Return a later message of `books`; without changes it is the heartbeat."""
    return {
        "asks": levels(sorted(changes.asks.items()), one),
        "bids": levels(sorted(changes.bids.items(), reverse=True), one),
        "ts": now_ms(),
        "seqId": changes.last,
        "prevSeqId": changes.first - 1,
    }


def instrument(one: Instrument) -> dict[str, str]:
    """Return a row of `public/instruments`."""
    lot = short(1, one.lot_decimals)
    return {
        "alias": "",
        "baseCcy": one.base,
        "category": "1",
        "ctMult": "",
        "ctType": "",
        "ctVal": "",
        "ctValCcy": "",
        "expTime": "",
        "instFamily": "",
        "instId": one.okx_id,
        "instType": "SPOT",
        "lever": "10",
        "listTime": "1548133413000",
        "lotSz": lot,
        "minSz": lot,
        "optType": "",
        "quoteCcy": one.quote,
        "settleCcy": "",
        "state": "live",
        "stk": "",
        "tickSz": short(1, one.decimals),
        "uly": "",
    }
