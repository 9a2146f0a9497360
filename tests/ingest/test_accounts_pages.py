"""All pages of an exchange of ccxt's, as it is known to answer."""

from __future__ import annotations

import pytest

from aggregator.errors import ConnectorError, ExchangeError, UnusableError
from connectors.any_exchange import account_pages
from connectors.any_exchange.account_pages import for_each, open_orders, trades

ccxt = pytest.importorskip("ccxt.pro", reason="ccxt is not installed: pip install '.[ccxt]'")
DAY_MS = 86_400_000
BTC = {
    "id": "BTCUSDT",
    "symbol": "BTC/USDT",
    "base": "BTC",
    "quote": "USDT",
    "baseId": "BTC",
    "quoteId": "USDT",
    "type": "spot",
    "spot": True,
    "active": True,
    "precision": {},
    "limits": {},
}


class Exchange:
    """One whose pages have a hundred fills; it notes what it is asked for."""

    id = "other"

    def __init__(self, fills, *, newest_first, days=None, by_symbol=False):
        self.fills = fills
        self.newest_first = newest_first
        self.by_symbol = by_symbol
        self.features = {"spot": {"fetchMyTrades": {"untilDays": days}}}
        self.days = days
        self.asked = []

    async def ask(self, symbol, since, limit=None, params=None):
        if self.by_symbol and symbol is None:
            raise ConnectorError from ccxt.ArgumentsRequired()
        until = (params or {}).get("until", 10**18)
        assert params is None or self.days is None or until - since <= self.days * DAY_MS
        self.asked.append((symbol, since, until))
        found = [f for f in self.fills if since <= f["timestamp"] <= until]
        found = [f for f in found if symbol in {None, f["symbol"]}]
        return found[-100:] if self.newest_first else found[:100]


def fills(count, symbol="BTC/USDT", begin=0, step=1000):
    return [
        {"symbol": symbol, "order": "o", "id": f"{n}", "timestamp": begin + n * step}
        for n in range(count)
    ]


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("count", [0, 19, 99, 100, 101, 777])
async def test_from_whichever_end(count, newest_first):
    """All fills once, wherever the first page begins."""
    exchange = Exchange(fills(count), newest_first=newest_first, days=10_000)
    found = await trades(exchange, exchange.ask, None, 0)
    assert sorted(row["timestamp"] for row in found) == [n * 1000 for n in range(count)]


async def test_a_window_of_days():
    """No more of them lie between the two ends than the exchange takes."""
    exchange = Exchange(fills(300, step=DAY_MS // 50), newest_first=True, days=1)
    found = await trades(exchange, exchange.ask, None, 0)
    assert len(found) == 300


async def test_no_end_where_none_is_taken():
    """What ccxt does not know of an exchange is not sent to it."""
    exchange = Exchange(fills(300), newest_first=True)
    assert len(await trades(exchange, exchange.ask, None, 0)) == 100
    assert {until for _, _, until in exchange.asked} == {10**18}


async def test_each_symbol_has_pages_of_its_own():
    """The last fill of one says nothing of another's."""
    rows = fills(250) + fills(130, "ETH/USDT", begin=10**9)
    exchange = Exchange(rows, newest_first=False, days=1, by_symbol=True)
    found = await for_each(
        ["ETH/USDT", "BTC/USDT"],
        lambda symbol: trades(exchange, exchange.ask, symbol, 0),
    )
    assert len(found) == 380
    assert {symbol for symbol, *_ in exchange.asked} == {"ETH/USDT", "BTC/USDT"}


async def test_pages_without_an_end(monkeypatch):
    """There are so many at most."""
    monkeypatch.setattr(account_pages, "MAX_PAGES", 3)
    exchange = Exchange(fills(777), newest_first=False)
    with pytest.raises(ExchangeError, match="more than 3 pages"):
        await trades(exchange, exchange.ask, None, 0)


async def test_what_is_refused_for_another_reason():
    """It is not asked for symbol by symbol."""

    async def ask(symbol):
        assert symbol is None
        raise UnusableError("no")

    with pytest.raises(UnusableError):
        await for_each(["BTC/USDT"], ask)


@pytest.mark.parametrize("count", [3, 50, 131])
async def test_open_orders_by_cursor(count):
    """Bybit's cursor is followed by ccxt itself, to the last page."""
    exchange = ccxt.bybit({"options": {"defaultType": "spot"}})
    exchange.set_markets([BTC])

    async def page(params):
        begin = int(params.get("cursor", 0))
        rows = [row(n) for n in range(begin, min(begin + 50, count))]
        more = begin + 50 < count
        result = {
            "category": "spot",
            "list": rows,
            "nextPageCursor": str(begin + 50) if more else "",
        }
        return {"retCode": 0, "result": result, "time": 1}

    exchange.privateGetV5OrderRealtime = page
    try:
        found, may_be_more = await open_orders(exchange, exchange.fetch_open_orders, None)
    finally:
        await exchange.close()
    assert sorted(int(order["id"]) for order in found) == list(range(count))
    assert not may_be_more


def row(number):
    times = {"createdTime": str(10**12 - number), "updatedTime": str(10**12)}
    amounts = {"price": "1", "qty": "1", "cumExecQty": "0", "leavesQty": "1"}
    kind = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "orderStatus": "New"}
    return {"orderId": str(number)} | kind | amounts | times


def test_what_ccxt_says_of_the_exchanges():
    """Those that are named exist, and have the method that they are named for."""
    for name in account_pages.PAGINATED | account_pages.AFTER | account_pages.UNTIL:
        assert getattr(ccxt, name)().has["fetchOpenOrders"]
