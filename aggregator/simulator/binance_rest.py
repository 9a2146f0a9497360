"""Binance's market-data REST interface with its real weights, limits and refusals."""

import time
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator import binance_query as query
from aggregator.simulator import binance_shapes as shapes
from aggregator.simulator.candle_shapes import kline_row
from aggregator.simulator.candles import INTERVALS_MS
from aggregator.simulator.depth import Books
from aggregator.simulator.limits import Verdict, WeightMeter
from aggregator.simulator.market import Instrument, Market

_MAX_METERS = 64
_MAX_DEPTH = 5000
_MAX_TRADES = 1000


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(body),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="UTF-8",
    )


def _day_weight(chosen: list[Instrument] | None) -> int:
    if chosen is None or len(chosen) > 100:
        return 80
    return 2 if len(chosen) <= 20 else 40


def _depth_weight(limit: int) -> int:
    return 5 if limit <= 100 else 25 if limit <= 500 else 50 if limit <= 1000 else 250


class BinanceRest:
    """The routes below `/binance/api/v3`."""

    def __init__(
        self,
        market: Market,
        books: Books,
        *,
        weight_limit: int,
        ban_after: int,
        ban_s: float,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._market = market
        self._books = books
        self._weight_limit = weight_limit
        self._ban_after = ban_after
        self._ban_s = ban_s
        self._wall = wall
        self._meters: dict[str, WeightMeter] = {}

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        return [
            web.get(f"{prefix}/ping", self._route(self._ping, ())),
            web.get(f"{prefix}/time", self._route(self._time, ())),
            web.get(
                f"{prefix}/exchangeInfo",
                self._route(
                    self._info,
                    ("symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"),
                ),
            ),
            web.get(
                f"{prefix}/ticker/price",
                self._route(self._price, ("symbol", "symbols", "symbolStatus")),
            ),
            web.get(
                f"{prefix}/ticker/24hr",
                self._route(self._day, ("symbol", "symbols", "type", "symbolStatus")),
            ),
            web.get(
                f"{prefix}/ticker/bookTicker",
                self._route(self._book_ticker, ("symbol", "symbols", "symbolStatus")),
            ),
            web.get(
                f"{prefix}/depth", self._route(self._depth, ("symbol", "limit", "symbolStatus"))
            ),
            web.get(f"{prefix}/trades", self._route(self._trades, ("symbol", "limit"))),
            web.get(
                f"{prefix}/historicalTrades",
                self._route(self._trades, ("symbol", "limit", "fromId")),
            ),
            web.get(
                f"{prefix}/klines",
                self._route(self._klines, ("symbol", "interval", "startTime", "endTime", "limit")),
            ),
        ]

    def _route(
        self, answer: Callable[[web.Request], tuple[int, Callable[[], Any]]], known: tuple[str, ...]
    ) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            try:
                sent = len(request.query)
                read = sum(name in known for name in request.query)
                if read < sent:
                    raise query.Refusal(
                        -1104,
                        f"Not all sent parameters were read; read '{read}' parameter(s) "
                        f"but was sent '{sent}'.",
                    )
                weight, build = answer(request)
            except query.Refusal as refusal:
                # A refused request costs too; what exactly is not documented, so the least.
                refused, headers = self.admit(request, 1)
                body = {"code": refusal.code, "msg": refusal.message}
                return refused or _json(body, 400, headers)
            refused, headers = self.admit(request, weight)
            return refused or _json(build(), headers=headers)

        return handler

    def admit(
        self, request: web.Request, weight: int
    ) -> tuple[web.Response | None, dict[str, str]]:
        """Charge a request; return the refusal if it is one too many, and the headers."""
        verdict = self.charge(request.remote or "", weight)
        used = str(verdict.used)
        headers = {"X-MBX-USED-WEIGHT": used, "X-MBX-USED-WEIGHT-1M": used}
        if verdict.status == 200:
            return None, headers
        headers["Retry-After"] = str(verdict.retry_after_s)
        return _json(self._over(verdict), verdict.status, headers), headers

    def charge(self, address: str, weight: int) -> Verdict:
        """Charge an address: REST and the WebSocket API share its budget."""
        meter = self._meters.get(address)
        if meter is None:
            if len(self._meters) >= _MAX_METERS:
                self._meters.clear()
            meter = self._meters[address] = WeightMeter(
                self._weight_limit, ban_after=self._ban_after, ban_s=self._ban_s, wall=self._wall
            )
        return meter.charge(weight)

    def _over(self, verdict: Verdict) -> dict[str, Any]:
        if verdict.status == 418:
            start = f"Way too much request weight used; IP banned until {verdict.banned_until_ms}. "
            advice = "Please use WebSocket Streams for live updates to avoid bans."
        else:
            start = (
                f"Too much request weight used; current limit is {self._weight_limit} "
                "request weight per 1 MINUTE. "
            )
            advice = "Please use WebSocket Streams for live updates to avoid polling the API."
        return {"code": -1003, "msg": start + advice}

    def _ping(self, _request: web.Request) -> tuple[int, Callable[[], Any]]:
        return 1, dict

    def _time(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        return 1, lambda: {"serverTime": shapes.now_ms() * query.scale(request)}

    def _info(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        chosen = query.instruments(self._market, request)
        shown = request.query.get("showPermissionSets", "true")
        if shown not in ("true", "false"):
            raise query.illegal("showPermissionSets", "true|false")
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
        return 20, lambda: {
            "timezone": "UTC",
            "serverTime": shapes.now_ms() * query.scale(request),
            "rateLimits": [weight | {"limit": self._weight_limit}, *shapes.RATE_LIMITS],
            "exchangeFilters": [],
            "symbols": [
                shapes.symbol_info(one, permission_sets=shown == "true")
                for one in (self._market if chosen is None else chosen)
            ],
        }

    def _price(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        chosen = query.instruments(self._market, request)
        return _light(request), lambda: self._rows(request, chosen, shapes.price)

    def _book_ticker(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        chosen = query.instruments(self._market, request)
        return _light(request), lambda: self._rows(request, chosen, shapes.book_ticker)

    def _day(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        chosen = query.instruments(self._market, request)
        kind = request.query.get("type", "FULL")
        if kind not in ("FULL", "MINI"):
            raise query.Refusal(-1130, "Data sent for parameter 'type' is not valid.")
        now, scale = shapes.now_ms(), query.scale(request)

        def row(one: Instrument) -> dict[str, Any]:
            return shapes.day(one, full=kind == "FULL", closed_ms=now, scale=scale)

        return _day_weight(chosen), lambda: self._rows(request, chosen, row)

    def _depth(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        limit, one = query.limit(request, 100, _MAX_DEPTH), query.instrument(self._market, request)
        return _depth_weight(limit), lambda: shapes.depth(self._books.of(one), limit)

    def _trades(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        limit, one = query.limit(request, 500, _MAX_TRADES), query.instrument(self._market, request)
        since = query.whole(request, "fromId", -1)
        scale = query.scale(request)

        def rows() -> list[dict[str, Any]]:
            kept = list(one.recent)
            # From a number on they begin with the oldest, else they end with the newest.
            chosen = [last for last in kept if last.trade_id >= since][:limit]
            return [
                shapes.trade_row(one, last, scale)
                for last in (chosen if since >= 0 else kept[-limit:])
            ]

        return 25, rows

    def _klines(self, request: web.Request) -> tuple[int, Callable[[], Any]]:
        limit, one = query.limit(request, 500, _MAX_TRADES), query.instrument(self._market, request)
        interval_ms = INTERVALS_MS.get(request.query.get("interval", ""))
        if interval_ms is None:
            raise query.Refusal(-1120, "Invalid interval.")
        since, until = query.whole(request, "startTime", 0), query.whole(request, "endTime", 10**18)
        scale = query.scale(request)

        def rows() -> list[list[Any]]:
            candles = self._market.candles.of(one, interval_ms)
            kept = [c for c in candles if since <= c.start_ms <= until]
            # From a time on they begin with the oldest, else they end with the newest.
            chosen = kept[:limit] if since else kept[-limit:]
            return [kline_row(one, candle, interval_ms, scale) for candle in chosen]

        return 2, rows

    def _rows(
        self,
        request: web.Request,
        chosen: list[Instrument] | None,
        row: Callable[[Instrument], dict[str, Any]],
    ) -> Any:
        rows = [row(one) for one in (self._market if chosen is None else chosen)]
        return rows[0] if "symbol" in request.query else rows


def _light(request: web.Request) -> int:
    return 2 if "symbol" in request.query else 4
