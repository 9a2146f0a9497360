"""OKX's public REST interface: code, msg and data, mostly with HTTP 200."""

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator import okx_shapes as shapes
from aggregator.simulator.candle_shapes import okx_row
from aggregator.simulator.candles import OKX_BARS_MS
from aggregator.simulator.depth import Books
from aggregator.simulator.market import Instrument, Market


class Refusal(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """An answer with a code other than 0; HTTP 200 unless said otherwise."""

    def __init__(self, code: str, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body), status=status, content_type="application/json", charset="UTF-8"
    )


class OkxRest:
    """The routes below `/okx/api/v5`."""

    def __init__(self, market: Market, books: Books) -> None:
        self._market = market
        self._books = books

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        return [
            web.get(f"{prefix}/market/tickers", self._route(self._tickers)),
            web.get(f"{prefix}/market/ticker", self._route(self._ticker)),
            web.get(f"{prefix}/market/books", self._route(self._depth)),
            web.get(f"{prefix}/market/trades", self._route(self._trades)),
            web.get(f"{prefix}/market/history-trades", self._route(self._history)),
            web.get(f"{prefix}/market/candles", self._route(self._candles)),
            web.get(f"{prefix}/public/instruments", self._route(self._instruments)),
            web.get(f"{prefix}/public/time", self._route(self._time)),
        ]

    def _route(self, answer: Callable[[web.Request], list[Any]]) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            try:
                return _json({"code": "0", "msg": "", "data": answer(request)})
            except Refusal as refusal:
                body = {"code": refusal.code, "data": [], "msg": refusal.message}
                return _json(body, refusal.status)

        return handler

    def _tickers(self, request: web.Request) -> list[Any]:
        return [shapes.ticker(one) for one in self._of_type(request)]

    def _ticker(self, request: web.Request) -> list[Any]:
        return [shapes.ticker(self._one(request))]

    def _depth(self, request: web.Request) -> list[Any]:
        return [shapes.top(self._books.of(self._one(request)), _number(request, "sz", 1, 400))]

    def _trades(self, request: web.Request) -> list[Any]:
        one, limit = self._one(request), _number(request, "limit", 100, 500)
        newest_first = list(reversed(one.recent))[:limit]
        return [shapes.trade(one, last, rest=True) for last in newest_first]

    def _history(self, request: web.Request) -> list[Any]:
        one, limit = self._one(request), _number(request, "limit", 100, 100)
        # Bounded by the trade's id, or with 2 by its time in milliseconds.
        by_id = _number(request, "type", 1, 2) == 1
        after = _number(request, "after", 10**18, 10**18)
        before = _number(request, "before", 1, 10**18) if "before" in request.query else 0
        rows = [
            shapes.trade(one, last, rest=True)
            for last in reversed(one.recent)
            if before < (last.trade_id if by_id else last.ms) < after
        ]
        return rows[:limit]

    def _candles(self, request: web.Request) -> list[Any]:
        one, limit = self._one(request), _number(request, "limit", 100, 300)
        interval_ms = OKX_BARS_MS.get(request.query.get("bar", "1m"))
        if interval_ms is None:
            raise Refusal("51000", "Parameter bar error", 400)
        after, before = (_number(request, name, 10**18, 10**18) for name in ("after", "before"))
        before = before if "before" in request.query else 0
        candles = self._market.candles.of(one, interval_ms)
        rows = [
            okx_row(one, candle, closed=candle is not candles[-1])
            for candle in reversed(candles)
            if before < candle.start_ms < after
        ]
        return rows[:limit]

    def _instruments(self, request: web.Request) -> list[Any]:
        wanted = request.query.get("instId")
        rows = self._of_type(request)
        if wanted is not None:
            rows = [one for one in rows if one.okx_id == wanted]
            if not rows:
                raise _unknown()
        return [shapes.instrument(one) for one in rows]

    def _time(self, _request: web.Request) -> list[Any]:
        return [{"ts": shapes.now_ms()}]

    def _of_type(self, request: web.Request) -> list[Instrument]:
        kind = request.query.get("instType")
        if kind is None:
            raise Refusal("50014", "Parameter instType can not be empty", 400)
        if kind not in ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"):
            raise Refusal("51000", "Parameter instType error", 400)
        return list(self._market.by_okx_id.values()) if kind == "SPOT" else []

    def _one(self, request: web.Request) -> Instrument:
        name = request.query.get("instId")
        if not name:
            raise Refusal("50014", "Parameter instId can not be empty", 400)
        one = self._market.by_okx_id.get(name)
        if one is None:
            raise _unknown()
        return one


def _unknown() -> Refusal:
    return Refusal("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


def _number(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise Refusal("51000", f"Parameter {name} error", 400)
    return int(text)
