"""The signed endpoints of Binance's REST interface, and where the listen keys were."""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import web

from aggregator.simulator import binance_signed as signed
from aggregator.simulator.binance_account import BinanceAccount
from aggregator.simulator.binance_query import Refusal
from aggregator.simulator.binance_rest import BinanceRest
from aggregator.simulator.matching import Engine

_PATHS = (
    ("POST", "/api/v3/order", "order.place"),
    ("DELETE", "/api/v3/order", "order.cancel"),
    ("GET", "/api/v3/order", "order.status"),
    ("GET", "/api/v3/openOrders", "openOrders.status"),
    ("GET", "/api/v3/allOrders", "allOrders"),
    ("GET", "/api/v3/myTrades", "myTrades"),
    ("GET", "/api/v3/account", "account.status"),
    ("GET", "/sapi/v1/account/apiRestrictions", "apiRestrictions"),
    ("GET", "/sapi/v1/capital/config/getall", "coins"),
    ("GET", "/sapi/v1/margin/allPairs", "marginPairs"),
    ("GET", "/sapi/v1/margin/isolated/allPairs", "marginPairs"),
)
# Since 20 February 2026; field reports show the web server's own page.
_GONE = (
    "<html>\r\n<head><title>410 Gone</title></head>\r\n<body>\r\n<center><h1>410 Gone</h1></center>"
    "\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


class BinanceAccountRest:
    """The routes below `/binance`."""

    def __init__(self, account: BinanceAccount, engine: Engine, rest: BinanceRest) -> None:
        self._account = account
        self._engine = engine
        self._rest = rest

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        gone = [
            web.route(method, f"{prefix}{path}", _gone)
            for method in ("POST", "PUT", "DELETE")
            for path in ("/api/v3/userDataStream", "/sapi/v1/userDataStream")
        ]
        return gone + [
            web.route(method, prefix + path, self._route(name)) for method, path, name in _PATHS
        ]

    def _route(self, name: str) -> Callable[[web.Request], Any]:
        method = self._account.method(name)
        if method is None:
            raise ValueError(name)

        async def handler(request: web.Request) -> web.Response:
            raw = [request.raw_path.partition("?")[2], (await request.read()).decode()]
            weight = 1
            try:
                pairs = [pair for part in raw for pair in parse_qsl(part, keep_blank_values=True)]
                given = dict(pairs)
                if len(given) < len(pairs):
                    raise Refusal(-1101, "Duplicate values for a parameter detected.")
                key = signed.find(self._engine.accounts, request.headers.get("X-MBX-APIKEY"))
                signed.check_time(given)
                signature = signed.mandatory(given, "signature")
                signed.check_signature(key, "".join(map(_unsigned, raw)), signature)
                weight = method.weight(given)
                refused, headers = self._rest.admit(request, weight)
                return refused or _json(self._account.call(method, key, given), 200, headers)
            except Refusal as refusal:
                refused, headers = self._rest.admit(request, 1)
                status = 401 if isinstance(refusal, signed.Denied) else 400
                body = {"code": refusal.code, "msg": refusal.message}
                return refused or _json(body, status, headers)

        return handler


def _unsigned(raw: str) -> str:
    """Return a query or a body as it was signed: as it was sent, without the signature."""
    return "&".join(part for part in raw.split("&") if not part.startswith("signature="))


def _json(body: Any, status: int, headers: dict[str, str]) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, headers=headers, content_type="application/json"
    )


async def _gone(_request: web.Request) -> web.Response:
    return web.Response(status=410, text=_GONE, content_type="text/html")
