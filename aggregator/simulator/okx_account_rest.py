"""The signed endpoints of OKX's REST interface."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator import okx_auth
from aggregator.simulator.keys import Key
from aggregator.simulator.matching import Engine
from aggregator.simulator.okx_auth import Denied
from aggregator.simulator.okx_trade import OkxTrade

_PREFIX = "/okx"
# Of what is answered with HTTP 400; authentication is 401, all else 200.
_BAD = ("50000", "50002", "50014", "51000")
_Row = Callable[[Key, Mapping[str, str]], dict[str, str]]
_Rows = Callable[[Key, Mapping[str, str]], list[Any]]


class OkxAccountRest:
    """The routes below `/okx/api/v5`."""

    def __init__(self, trade: OkxTrade, engine: Engine) -> None:
        self._trade = trade
        self._engine = engine

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        trade, base = self._trade, f"{_PREFIX}/api/v5"
        asked: dict[str, _Rows] = {
            "account/balance": trade.balance,
            "account/config": trade.config,
            "asset/currencies": trade.currencies,
            "trade/orders-pending": trade.pending,
            "trade/orders-history": trade.history,
            "trade/orders-history-archive": trade.history,
            "trade/order": trade.order,
            "trade/fills": trade.fills,
            "trade/fills-history": trade.fills,
        }
        told: dict[str, tuple[_Row, bool]] = {
            "trade/order": (trade.place, False),
            "trade/batch-orders": (trade.place, True),
            "trade/cancel-order": (trade.cancel, False),
            "trade/cancel-batch-orders": (trade.cancel, True),
        }
        return [
            *(web.get(f"{base}/{path}", self._asking(rows)) for path, rows in asked.items()),
            *(
                web.post(f"{base}/{path}", self._telling(row, many=many))
                for path, (row, many) in told.items()
            ),
        ]

    def _asking(self, rows: _Rows) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            try:
                key = await self._who(request)
                given = {name: value for name, value in request.query.items() if value}
                return _json({"code": "0", "data": rows(key, given), "msg": ""})
            except Denied as denied:
                return _denied(denied)

        return handler

    def _telling(self, row: _Row, *, many: bool) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            came = str(time.time_ns() // 1000)
            try:
                key = await self._who(request)
                if not key.may_trade:
                    message = "This API key doesn't have permission to use this function"
                    raise Denied("50120", message)
                done = [row(key, one) for one in _orders(await request.read(), many=many)]
            except Denied as denied:
                return _denied(denied)
            failed = sum(one["sCode"] != "0" for one in done)
            code, message = "0", ""
            if failed:
                code = "1" if failed == len(done) else "2"
                message = "All operations failed" if code == "1" else "Bulk operation partially"
            body = {"code": code, "data": done, "inTime": came, "msg": message}
            return _json(body | {"outTime": str(time.time_ns() // 1000)})

        return handler

    async def _who(self, request: web.Request) -> Key:
        body = (await request.read()).decode()
        path = request.raw_path.removeprefix(_PREFIX)
        accounts = self._engine.accounts
        return okx_auth.rest(accounts, request.headers, request.method, path, body)


def _orders(body: bytes, *, many: bool) -> list[dict[str, str]]:
    if not body:
        raise Denied("50000", "Body for POST request cannot be empty.")
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Denied("50002", "JSON syntax error") from None
    # The real one takes a single order in a list, and a list of one without.
    rows = given if isinstance(given, list) else [given]
    if not rows or not all(isinstance(row, dict) for row in rows) or (len(rows) > 1 and not many):
        raise Denied("50002", "JSON syntax error")
    return [{name: str(value) for name, value in row.items()} for row in rows]


def _denied(denied: Denied) -> web.Response:
    unauthorised = denied.code.startswith("501") and denied.code != "50120"
    status = 401 if unauthorised else 400 if denied.code in _BAD else 200
    body: dict[str, Any] = {"msg": denied.message, "code": denied.code}
    return _json(body if unauthorised else body | {"data": []}, status)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
