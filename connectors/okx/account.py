"""
OKX v5: orders, fills and balances of an account, over the private WebSocket and REST.

https://www.okx.com/docs-v5/en/#overview-websocket-login
https://www.okx.com/docs-v5/en/#order-book-trading-trade-ws-order-channel
https://www.okx.com/docs-v5/en/#trading-account-websocket-account-channel

The channel `orders` says nothing when it is subscribed to; a push has the state of an order, and
the fill that led to it, if one did. `account` has the balances, `balance_and_position` the reason
that they changed. Spot and margin alone: elsewhere sizes are contracts.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from urllib.parse import urlencode

import msgspec

from aggregator import api

from .account_shapes import (
    AccountRow,
    BalanceRow,
    Config,
    Event,
    FillRow,
    OrderRow,
    Reply,
    TickerRow,
    balances_of,
    fill_of,
    order_of,
)

URLS = ("wss://ws.okx.com:443/ws/v5/private",)
# Why a balance changed is told before the change, if the venue keeps to this order.
CHANNELS = (
    {"channel": "orders", "instType": "ANY"},
    {"channel": "balance_and_position"},
    {"channel": "account"},
)
PAGE = 100
MAX_PAGES = 200
RECENT_US = 2 * 86_400 * 1_000_000
"""`fills` has those of three days, `fills-history` of three months."""
THROTTLED = frozenset({"50011", "60014"})
GONE = frozenset({"51603"})
"""There is no such order; unfilled ones that were cancelled are forgotten after two hours."""

T = TypeVar("T")


class Options(api.NativeOptions):
    """What the section of an `okx.account` may contain."""

    urls: Annotated[list[api.WebSocketAddress], api.Field(min_length=1)] = api.Field(
        default=list(URLS)
    )
    """Addresses of the venue's private WebSocket, tried in turn."""
    base_url: api.HttpAddress = "https://openapi.okx.com"
    """Where the venue's REST interface is; the paths are appended."""
    passphrase: api.Secret
    """What was chosen when the key was made."""


class Account(api.AccountConnector):
    """Orders, fills and balances of one account."""

    exchange = "okx"
    options_type = Options
    options: Options

    def __init__(self, name: str, options: api.AccountOptions, io: api.Io) -> None:
        super().__init__(name, options, io)
        # By asset, why its balance changed, and when.
        self._reasons: dict[str, tuple[str, str]] = {}

    # The stream.

    async def stream(self, tell: api.Tell) -> None:
        """Log in, subscribe, and tell what is pushed."""
        self._reasons.clear()
        async with self.io.connect(ping="ping", pong=b"pong") as socket:
            await socket.send(self._login())
            self._logged_in(await socket.receive())
            await socket.send(_text({"op": "subscribe", "args": list(CHANNELS)}))
            missing = {channel["channel"] for channel in CHANNELS}
            while True:
                frame = await socket.receive()
                tell(self._read(frame, missing))

    def _login(self) -> str:
        # On the WebSocket a time in seconds, over REST one in ISO 8601.
        timestamp = str(self.io.now_us() // 1_000_000)
        options = self.options
        arg = {
            "apiKey": options.api_key.get_secret_value(),
            "passphrase": options.passphrase.get_secret_value(),
            "timestamp": timestamp,
            "sign": self._signature(timestamp, "/users/self/verify"),
        }
        return _text({"op": "login", "args": [arg]})

    def _signature(self, timestamp: str, path: str) -> str:
        secret = self.options.api_secret.get_secret_value().encode()
        digest = hmac.digest(secret, f"{timestamp}GET{path}".encode(), hashlib.sha256)
        return base64.b64encode(digest).decode()

    @staticmethod
    def _logged_in(frame: bytes) -> None:
        event = api.read(frame, Event)
        if event.event == "login" and event.code in {"0", None}:
            return
        if event.code in THROTTLED:
            raise api.ThrottledError(_said(event.code, event.msg))
        raise api.LoginError(_said(event.code, event.msg))

    def _read(self, frame: bytes, missing: set[str]) -> Iterator[api.Told]:
        event = msgspec.json.decode(frame, type=Event)
        if not bytes(event.data):
            yield from self._noted(event, missing)
            return
        channel = event.arg.channel if event.arg else ""
        match channel:
            case "orders":
                for row in msgspec.json.decode(event.data, type=list[OrderRow]):
                    yield from self._order(row)
            case "account":
                for account in msgspec.json.decode(event.data, type=list[AccountRow]):
                    yield from balances_of(self.name, account, self._reasons)
            case "balance_and_position":
                for change in msgspec.json.decode(event.data, type=list[BalanceRow]):
                    reasons = ((b.ccy, (b.uTime, change.eventType)) for b in change.balData)
                    self._reasons.update(reasons)
            case _:
                yield api.Unhandled("data of another channel")

    def _order(self, row: OrderRow) -> Iterator[api.Told]:
        if row.is_spot:
            if row.tradeId:
                yield fill_of(self.name, row.as_fill())
            yield order_of(self.name, row)
        else:
            yield api.Ignored("order of a derivative")

    @staticmethod
    def _noted(event: Event, missing: set[str]) -> Iterator[api.Told]:
        match event.event:
            case "subscribe":
                channel = event.arg.channel if event.arg else ""
                if channel in missing:
                    missing.discard(channel)
                    if not missing:
                        yield api.Subscribed()
            case "error" | "channel-conn-count-error":
                raise api.ExchangeError(_said(event.code, event.msg))
            case "notice" if event.code == "64008":
                yield api.Leaving(_said(event.code, event.msg))
            case "channel-conn-count":
                yield api.Ignored("channel-conn-count")
            case name:
                yield api.Unhandled(api.excerpt((name or "frame").encode())[:40])

    # What is asked.

    async def open_orders(self) -> list[api.OrderUpdate]:
        """Return all orders that are open, page by page."""
        path, by = "/api/v5/trade/orders-pending", "ordId"
        rows = [row async for row in self._pages(path, {}, by, list[OrderRow])]
        return [order_of(self.name, row) for row in rows if row.is_spot]

    async def order(self, symbol: str, order_id: str) -> api.OrderUpdate | None:
        """Return the state of one order."""
        params = {"instId": symbol.replace("/", "-"), "ordId": order_id}
        rows = await self._get("/api/v5/trade/order", params, list[OrderRow], GONE)
        return order_of(self.name, rows[0]) if rows else None

    async def fills(self, since: api.Since) -> list[api.Fill]:
        """Return the fills from a time on, all instruments at once."""
        recent = self.io.now_us() - since.us < RECENT_US
        kinds = [{}] if recent else [{"instType": "SPOT"}, {"instType": "MARGIN"}]
        path = "/api/v5/trade/fills" if recent else "/api/v5/trade/fills-history"
        begin = {"begin": str(since.us // 1000)}
        return [fill for kind in kinds for fill in await self._fills(path, kind | begin)]

    async def fills_of(self, symbol: str, order_id: str) -> list[api.Fill]:
        """Return the fills of one order."""
        params = {"instId": symbol.replace("/", "-"), "ordId": order_id}
        return await self._fills("/api/v5/trade/fills", params)

    async def balances(self) -> list[api.BalanceUpdate]:
        """Return the balances."""
        rows = await self._get("/api/v5/account/balance", {}, list[AccountRow])
        return [balance for row in rows for balance in balances_of(self.name, row, {})]

    async def permissions(self) -> frozenset[str] | None:
        """Return what the key may do: of OKX's `read_only`, `withdraw` and `trade`."""
        rows = await self._get("/api/v5/account/config", {}, list[Config])
        if not rows or not rows[0].perm:
            return None
        names = {"read_only": api.READ}
        return frozenset(names.get(each, api.excerpt(each.encode())) for each in rows[0].granted)

    async def prices(self, assets: Collection[str]) -> Mapping[str, str]:
        """Return the last prices of assets."""
        rows = await self._get("/api/v5/market/tickers", {"instType": "SPOT"}, list[TickerRow])
        markets = {f"{asset}-{self.options.currency}": asset for asset in assets}
        return {markets[row.instId]: row.last for row in rows if row.instId in markets and row.last}

    async def _fills(self, path: str, params: dict[str, str]) -> list[api.Fill]:
        rows = [row async for row in self._pages(path, params, "billId", list[FillRow])]
        return [fill_of(self.name, row) for row in rows if row.is_spot]

    async def _pages(
        self, path: str, params: dict[str, str], by: str, kind: type[list[T]]
    ) -> AsyncIterator[T]:
        """Yield the rows of all pages, the newest first; each next one is behind the last row."""
        after: dict[str, str] = {}
        for _ in range(MAX_PAGES):
            rows = await self._get(path, params | {"limit": str(PAGE)} | after, kind)
            for row in rows:
                yield row
            if len(rows) < PAGE:
                return
            after = {"after": getattr(rows[-1], by)}
        raise api.ExchangeError(f"{path} has more than {MAX_PAGES} pages")

    async def _get(
        self,
        path: str,
        params: Mapping[str, str],
        kind: type[list[T]],
        none: Collection[str] = (),
    ) -> list[T]:
        """Make a signed request; `none` are the codes that stand for no rows."""
        path += f"?{urlencode(params)}" if params else ""
        now = datetime.fromtimestamp(self.io.now_us() / 1e6, UTC)
        timestamp = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        options = self.options
        headers = {
            "OK-ACCESS-KEY": options.api_key.get_secret_value(),
            "OK-ACCESS-PASSPHRASE": options.passphrase.get_secret_value(),
            "OK-ACCESS-TIMESTAMP": timestamp,
            "OK-ACCESS-SIGN": self._signature(timestamp, path),
        }
        answer = await self.io.get(path, headers)
        reply = api.read(answer.body, Reply)
        if reply.code == "0":
            return api.read(reply.data, kind)
        if reply.code in none:
            return []
        text = _said(reply.code, reply.msg)
        if reply.code in THROTTLED:
            raise api.ThrottledError(text)
        is_key = answer.status == 401 or reply.code.startswith("501")
        raise api.LoginError(text) if is_key else api.ExchangeError(text)


def _text(request: dict[str, object]) -> str:
    return msgspec.json.encode(request).decode()


def _said(code: str | None, message: str | None) -> str:
    """Return what OKX says, in one line."""
    return api.excerpt(f"{code or 'no code'}: {message or 'no reason given'}".encode())
