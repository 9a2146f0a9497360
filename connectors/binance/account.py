"""
Binance spot: orders, fills and balances of an account, over the WebSocket API and REST.

https://developers.binance.com/docs/binance-spot-api-docs/websocket-api/user-data-stream-requests
https://developers.binance.com/docs/binance-spot-api-docs/user-data-stream
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/account-endpoints

The user stream is subscribed to by a signed request; there are no listen keys any more. Fills have
to be asked for by the symbol: which ones those are the balances say that are not what they were.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, TypeVar
from urllib.parse import urlencode

import msgspec

from aggregator import api

from .account_shapes import (
    REASONS,
    TRANSFER,
    AccountRow,
    Error,
    Frame,
    Kind,
    Moved,
    OrderRow,
    Position,
    PriceRow,
    Report,
    Restrictions,
    TradeRow,
    balances_in,
    balances_of,
    fill_of,
    order_of,
    reported,
)
from .listing import Market
from .signing import signer

URLS = ("wss://ws-api.binance.com:443/ws-api/v3",)
PAGE = 1000
MAX_PAGES = 100
SUBSCRIBE = "subscribe"
REFUSED = frozenset({-1022, -2008, -2014, -2015})
"""The key, its address or the signature is not accepted."""
THROTTLED = frozenset({-1003, -1015})
GONE = frozenset({-2013})

T = TypeVar("T")


class Options(api.NativeOptions):
    """What the section of a `binance.account` may contain."""

    urls: Annotated[list[api.WebSocketAddress], api.Field(min_length=1)] = api.Field(
        default=list(URLS)
    )
    """Addresses of the venue's WebSocket API, tried in turn."""
    base_url: api.HttpAddress = "https://api.binance.com"
    """Where the venue's REST interface is; the paths are appended."""
    instruments: list[api.Instrument] = api.Field(default=[])
    """Whose fills are looked up at the start, besides those of open orders, as "BASE/QUOTE"."""


class Markets(msgspec.Struct):
    """The answer to `exchangeInfo`."""

    symbols: list[Market]


class Account(api.AccountConnector):
    """Orders, fills and balances of one account."""

    exchange = "binance"
    options_type = Options
    options: Options

    def __init__(self, name: str, options: api.AccountOptions, io: api.Io) -> None:
        super().__init__(name, options, io)
        self._key = self.options.api_key.get_secret_value()
        self._sign = signer(self.options.api_secret.get_secret_value())
        self._markets: dict[str, Market] = {}
        self._symbols: dict[str, str] = {}
        # Why balances change next, by asset, or for all of them ("").
        self._reasons: dict[str, str] = {}

    # The stream.

    async def stream(self, tell: api.Tell) -> None:
        """Subscribe, and tell what is pushed."""
        self._reasons.clear()
        if not self._markets:
            await self._look_up()
        async with self.io.connect() as socket:
            params = {"apiKey": self._key, "timestamp": str(self.io.now_us() // 1000)}
            params["signature"] = self._sign(_joined(params))
            # In JSON it is a number, in what is signed its digits.
            request = params | {"timestamp": int(params["timestamp"])}
            method = "userDataStream.subscribe.signature"
            await socket.send(_text({"id": SUBSCRIBE, "method": method, "params": request}))
            while True:
                frame = await socket.receive()
                if self._is_unknown(frame):
                    await self._look_up()
                tell(self._read(frame))

    def _is_unknown(self, frame: bytes) -> bool:
        """Return whether a frame is about a symbol that was not listed when that was asked."""
        if b'"executionReport"' not in frame:
            return False
        event = api.read(frame, Frame).event
        symbol = api.read(event, Kind).s if bytes(event) else ""
        return bool(symbol) and symbol not in self._markets

    def _read(self, frame: bytes) -> Iterator[api.Told]:
        message = msgspec.json.decode(frame, type=Frame)
        if not bytes(message.event):
            if message.id == SUBSCRIBE and message.status == 200:
                yield api.Subscribed()
            elif message.error is not None:
                raise self._meaning(message.status or 0, message.error)
            else:
                yield api.Unhandled("answer")
            return
        kind = msgspec.json.decode(message.event, type=Kind).e
        match kind:
            case "executionReport":
                report = msgspec.json.decode(message.event, type=Report)
                self._reasons[""] = REASONS.get(report.x, "")
                yield from reported(self.name, report, self._named)
            case "outboundAccountPosition":
                position = msgspec.json.decode(message.event, type=Position)
                yield from balances_of(self.name, position, self._reasons)
                self._reasons.clear()
            case "balanceUpdate":
                moved = msgspec.json.decode(message.event, type=Moved)
                self._reasons[moved.a] = TRANSFER
            case "serverShutdown":
                yield api.Leaving("the venue's server is shutting down")
            case "eventStreamTerminated":
                raise api.ExchangeError("the venue has ended the subscription")
            case "listStatus" | "externalLockUpdate":
                yield api.Ignored(kind)
            case _:
                yield api.Unhandled(api.excerpt(kind.encode())[:40])

    async def _look_up(self) -> None:
        path = "/api/v3/exchangeInfo?showPermissionSets=false"
        answer = await self.io.get(path, {})
        markets = self._answered(answer, Markets).symbols
        self._markets = {market.symbol: market for market in markets}
        self._symbols = {self._named(symbol): symbol for symbol in self._markets}

    def _named(self, symbol: str) -> str:
        market = self._markets.get(symbol)
        return symbol if market is None else f"{market.baseAsset}/{market.quoteAsset}"

    # What is asked.

    async def open_orders(self) -> list[api.OrderUpdate]:
        """Return all orders that are open."""
        rows = await self._get("/api/v3/openOrders", {}, list[OrderRow])
        return [order_of(self.name, row, self._named) for row in rows or ()]

    async def order(self, symbol: str, order_id: str) -> api.OrderUpdate | None:
        """Return the state of one order."""
        params = {"symbol": self._symbols.get(symbol, symbol), "orderId": order_id}
        row = await self._get("/api/v3/order", params, OrderRow, GONE)
        return None if row is None else order_of(self.name, row, self._named)

    async def fills(self, since: api.Since) -> list[api.Fill]:
        """Return the fills of the symbols that may have any."""
        found = []
        for symbol in sorted(self._wanted(since)):
            last = since.last.get(self._named(symbol))
            start = {"startTime": str(since.us // 1000)}
            begin = {"fromId": str(int(last) + 1)} if last else start
            found += await self._trades({"symbol": symbol} | begin)
        return found

    async def fills_of(self, symbol: str, order_id: str) -> list[api.Fill]:
        """Return the fills of one order."""
        symbol = self._symbols.get(symbol, symbol)
        return await self._trades({"symbol": symbol, "orderId": order_id})

    async def balances(self) -> list[api.BalanceUpdate]:
        """Return the balances."""
        row = await self._get("/api/v3/account", {"omitZeroBalances": "true"}, AccountRow)
        return [] if row is None else balances_in(self.name, row)

    async def permissions(self) -> frozenset[str] | None:
        """Return what the key may do."""
        row = await self._get("/sapi/v1/account/apiRestrictions", {}, Restrictions)
        return None if row is None else row.granted

    async def prices(self, assets: Collection[str]) -> Mapping[str, str]:
        """Return the last prices of assets."""
        currency = self.options.currency
        symbols = {self._symbols.get(f"{asset}/{currency}"): asset for asset in assets}
        named = [symbol for symbol in symbols if symbol]
        if not named:
            return {}
        query = urlencode({"symbols": _text(named)})
        rows = self._answered(
            await self.io.get(f"/api/v3/ticker/price?{query}", {}), list[PriceRow]
        )
        return {symbols[row.symbol]: row.price for row in rows if row.symbol in symbols}

    def _wanted(self, since: api.Since) -> set[str]:
        """Return the symbols of which there may be fills that nobody has heard of."""
        if since.assets is None:
            names = {*since.symbols, *self.options.instruments}
            return {self._symbols[name] for name in names if name in self._symbols}
        changed = since.assets
        return {
            symbol
            for symbol, market in self._markets.items()
            if market.baseAsset in changed and market.quoteAsset in changed
        }

    async def _trades(self, params: dict[str, str]) -> list[api.Fill]:
        found: list[TradeRow] = []
        for _ in range(MAX_PAGES):
            query = params | {"limit": str(PAGE)}
            rows = await self._get("/api/v3/myTrades", query, list[TradeRow]) or []
            found += rows
            if len(rows) < PAGE:
                return [fill_of(self.name, row, self._named) for row in found]
            kept = {name: params[name] for name in ("symbol", "orderId") if name in params}
            params = kept | {"fromId": str(max(row.id for row in rows) + 1)}
        raise api.ExchangeError(f"more than {MAX_PAGES} pages of trades")

    async def _get(
        self, path: str, params: Mapping[str, str], kind: type[T], none: Collection[int] = ()
    ) -> T | None:
        """Make a signed request; `none` are the codes that stand for nothing."""
        query = urlencode({**params, "timestamp": str(self.io.now_us() // 1000)})
        signed = f"{query}&{urlencode({'signature': self._sign(query)})}"
        answer = await self.io.get(f"{path}?{signed}", {"X-MBX-APIKEY": self._key})
        if answer.status != 200 and self._refusal(answer).code in none:
            return None
        return self._answered(answer, kind)

    def _answered(self, answer: api.Response, kind: type[T]) -> T:
        if answer.status == 200:
            return api.read(answer.body, kind)
        raise self._meaning(answer.status, self._refusal(answer))

    @staticmethod
    def _refusal(answer: api.Response) -> Error:
        if answer.body.lstrip()[:1] != b"{":
            raise api.ExchangeError(f"HTTP {answer.status}: {api.excerpt(answer.body)}")
        return api.read(answer.body, Error)

    @staticmethod
    def _meaning(status: int, error: Error) -> api.ConnectorError:
        text = f"{error.code}: {api.excerpt(error.msg.encode())}"
        if error.code in THROTTLED or status in {418, 429}:
            return api.ThrottledError(text)
        is_key = status == 401 or error.code in REFUSED
        return api.LoginError(text) if is_key else api.ExchangeError(text)


def _joined(params: Mapping[str, str]) -> str:
    """Return what is signed on the WebSocket: the parameters by their names, as they are."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params))


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
