"""
All open orders and all fills, from exchanges that answer with a page of them.

https://docs.ccxt.com/#/README?id=pagination
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from aggregator import api

Rows = list[Any]
Ask = Callable[..., Awaitable[Rows]]
"""Makes one request of ccxt's, with a symbol, or `None` for all of them, and what follows that."""

MAX_PAGES = 200
SMALLEST_PAGE = 20
"""Of fewer fills no exchange makes a page."""
DAY_MS = 86_400_000
PAGINATED = frozenset({"bybit", "bybiteu", "bybitid", "coinbase"})
"""Of these ccxt itself asks for all pages of open orders; nothing in ccxt tells which can."""
AFTER = frozenset({"okx", "okxus", "myokx"})
"""
These take the id of the oldest row as `after`.

Of open orders ccxt's own way gets the first page again and again, and of fills there may be more in
one millisecond than a page has.
"""
UNTIL = frozenset({"kraken"})
"""These take the end of a time as well, though ccxt does not tell."""


async def for_each(symbols: Collection[str], ask: Ask) -> Rows:
    """
    Ask for all symbols at once, or where that can't be done for one after the other.

    Raises:
        ConnectorError: there is no answer.

    """
    try:
        return await ask(None)
    except api.ConnectorError as e:
        if type(e.__cause__).__name__ != "ArgumentsRequired":
            raise
    return [row for symbol in sorted(symbols) for row in await ask(symbol)]


async def open_orders(exchange: Any, ask: Ask, symbol: str | None) -> tuple[Rows, bool]:
    """
    Return the open orders of one request, and whether there may be more that can't be had.

    Raises:
        ConnectorError: there is no answer, or no end of them.

    """
    if exchange.id in PAGINATED:
        params = {"paginate": True, "paginationCalls": MAX_PAGES}
        return await ask(symbol, None, None, params), False
    limit = _told(exchange, "fetchOpenOrders", "limit")
    rows = page = await ask(symbol, None, limit)
    if limit is None or len(page) < limit:
        return rows, False
    if exchange.id not in AFTER:
        return rows, True
    for _ in range(MAX_PAGES):
        page = await ask(symbol, None, limit, {"after": _oldest(row["id"] for row in page)})
        rows = rows + page
        if len(page) < limit:
            return rows, False
    raise api.ExchangeError(f"more than {MAX_PAGES} pages of open orders")


async def trades(exchange: Any, ask: Ask, symbol: str | None, begin: int) -> Rows:
    """
    Return the fills of one request from a time on, in milliseconds.

    A page has the oldest of them at some exchanges, the newest at others; so it goes on from it
    in both directions.

    Raises:
        ConnectorError: there is no answer, or no end of them.

    """
    rows = {_key(row): row for row in await ask(symbol, begin)}
    if len(rows) < SMALLEST_PAGE:
        return list(rows.values())
    days = _told(exchange, "fetchMyTrades", "untilDays")

    def later() -> Awaitable[Rows]:
        return ask(symbol, max(_times(rows), default=begin))

    def earlier() -> Awaitable[Rows]:
        if exchange.id in AFTER:
            after = _oldest(row["info"]["billId"] for row in rows.values())
            return ask(symbol, begin, None, {"after": after})
        until = min(_times(rows), default=begin)
        # Between the two there may be so many days at most.
        start = max(begin, until - days * DAY_MS) if days else begin
        return ask(symbol, start, None, {"until": until})

    await _go_on(rows, later)
    if days or exchange.id in UNTIL:
        await _go_on(rows, earlier)
    return list(rows.values())


async def _go_on(rows: dict[Any, Any], ask: Callable[[], Awaitable[Rows]]) -> None:
    for _ in range(MAX_PAGES):
        new = {_key(row): row for row in await ask() if _key(row) not in rows}
        if not new:
            return
        rows |= new
    raise api.ExchangeError(f"more than {MAX_PAGES} pages of trades")


def _oldest(ids: Iterable[str]) -> str:
    return min(ids, key=int)


def _times(rows: dict[Any, Any]) -> Rows:
    return [row["timestamp"] for row in rows.values() if row.get("timestamp")]


def _key(row: Any) -> tuple[Any, ...]:
    """Return what a fill of ccxt's is known by."""
    return row["symbol"], row["order"], row["id"]


def _told(exchange: Any, method: str, name: str) -> int | None:
    """Return what ccxt tells of a request for spot; `None` if it does not."""
    spot = (exchange.features or {}).get("spot") or {}
    value: int | None = (spot.get(method) or {}).get(name)
    return value


def strict(exchange: Any) -> None:
    """Have answers refused that are no JSON: of one ccxt makes an account with nothing in it."""
    parse_json = exchange.parse_json

    def parsed(http_response: str) -> Any:
        decoded = parse_json(http_response)
        if decoded is None and exchange.status == 200:
            raise ValueError("an answer that is no JSON")
        return decoded

    exchange.parse_json = parsed
