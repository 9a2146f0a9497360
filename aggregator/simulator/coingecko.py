"""CoinGecko's REST interface: a cache in front, a limit of calls, numbers as it writes them."""

import time
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator import coingecko_shapes as shapes
from aggregator.simulator.coins import Coin, known_coins
from aggregator.simulator.limits import Window
from aggregator.simulator.market import Market

_MAX_CACHED = 512
_TRENDING = 15
_RATE_LIMITED = (
    "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing "
    "to subscribe to our API plans for higher rate limits."
)
_WRONG_KEY = "Please check your API key: it is missing or not valid for this root URL."


def _status(status: int, code: int, message: str, retry_after: int | None = None) -> web.Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    body = {"status": {"error_code": code, "error_message": message}}
    return web.Response(
        status=status, body=orjson.dumps(body), headers=headers, content_type="application/json"
    )


def _error(status: int, message: str) -> web.Response:
    body = orjson.dumps({"error": message})
    return web.Response(status=status, body=body, content_type="application/json")


class CoinGecko:
    """The routes below `/coingecko/api/v3`."""

    def __init__(
        self, market: Market, *, cache_s: int, calls_per_minute: int, api_key: str | None
    ) -> None:
        self._coins = known_coins(market)
        self._by_id = {coin.id: coin for coin in self._coins}
        self._ranks = {coin.id: rank for rank, coin in enumerate(self._coins, start=1)}
        self._cache_s = cache_s
        self._api_key = api_key
        self._window = Window(calls_per_minute, 60.0)
        self._cache: dict[str, tuple[float, bytes]] = {}

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        return [
            web.get(f"{prefix}/ping", self._route(self._ping)),
            web.get(f"{prefix}/global", self._route(self._global)),
            web.get(f"{prefix}/coins/markets", self._route(self._markets)),
            web.get(f"{prefix}/search/trending", self._route(self._trending)),
            web.get(f"{prefix}/simple/price", self._route(self._simple)),
        ]

    def _route(self, build: Callable[[web.Request], Any]) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            now = time.monotonic()
            # Refused calls count as well, as they do there.
            if not self._window.admit(now):
                wait = max(1, round(self._window.wait_s(now) + 0.5))
                return _status(429, 429, _RATE_LIMITED, wait)
            key = request.headers.get("x-cg-demo-api-key", request.query.get("x_cg_demo_api_key"))
            if self._api_key is not None and key != self._api_key:
                return _status(401, 10002, _WRONG_KEY)
            return self._answer(request, build, now)

        return handler

    def _answer(
        self, request: web.Request, build: Callable[[web.Request], Any], now: float
    ) -> web.Response:
        made, body = self._cache.get(request.path_qs, (-1e9, b""))
        hit = now - made < self._cache_s
        if not hit:
            built = build(request)
            if isinstance(built, web.Response):
                return built
            made, body = now, orjson.dumps(built)
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            self._cache[request.path_qs] = made, body
        headers = {
            "Cache-Control": f"public, max-age={self._cache_s}",
            "Age": str(int(now - made)),
            "CF-Cache-Status": "HIT" if hit else "MISS",
            "Vary": "Accept-Encoding, Origin",
        }
        return web.Response(
            body=body, headers=headers, content_type="application/json", charset="utf-8"
        )

    def _ping(self, _request: web.Request) -> Any:
        return {"gecko_says": "(V3) To the Moon!"}

    def _global(self, _request: web.Request) -> Any:
        return shapes.global_body(self._coins, self._by_id, time.time())

    def _markets(self, request: web.Request) -> Any:
        query = request.query
        rate = shapes.rates(self._by_id).get(query.get("vs_currency", ""))
        if "vs_currency" not in query:
            return _error(422, "Missing parameter vs_currency")
        if rate is None:
            return _error(422, "invalid vs_currency")
        try:
            page = max(1, int(query.get("page", "1")))
            per_page = min(max(1, int(query.get("per_page", "100"))), 250)
        except ValueError:
            return _error(422, "page and per_page must be numbers")
        coins = self._chosen(query.get("ids")) if "ids" in query else self._coins
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
        return [
            shapes.market_row(
                coin, self._ranks[coin.id], rate, f"{stamp}.{coin.number * 7 % 1000:03d}Z"
            )
            for coin in coins[(page - 1) * per_page : page * per_page]
        ]

    def _trending(self, _request: web.Request) -> Any:
        # Small coins trend: every fifth from rank 21 down, always the same ones.
        chosen = [coin for coin in self._coins[20::5] if coin.price][:_TRENDING]
        btc = self._by_id["bitcoin"].price or 1.0
        return {
            "coins": [
                shapes.trending_item(coin, self._ranks[coin.id], score, btc)
                for score, coin in enumerate(chosen)
            ],
            "nfts": [
                {
                    "id": "runestone",
                    "name": "Runestone",
                    "symbol": "RUNESTONE",
                    "thumb": f"{shapes.IMAGES}/4200/standard/runestone.png?1710468413",
                    "nft_contract_id": 4200,
                    "native_currency_symbol": "btc",
                    "floor_price_in_native_currency": 0.00168,
                    "floor_price_24h_percentage_change": -7.340129332743706,
                    "data": {"floor_price": "0.002 BTC", "h24_volume": "0.24 BTC", "content": None},
                }
            ],
            "categories": [
                {
                    "id": 225,
                    "name": "Launchpad",
                    "market_cap_1h_change": -0.15451615389241194,
                    "slug": "launchpad",
                    "coins_count": "11",
                    "data": {"market_cap": 95999175.78764266, "total_volume": 7710230.1},
                }
            ],
        }

    def _simple(self, request: web.Request) -> Any:
        query = request.query
        if "ids" not in query or "vs_currencies" not in query:
            return _error(422, "Missing parameter ids or vs_currencies")
        table = shapes.rates(self._by_id)
        wanted = [name for name in query["vs_currencies"].split(",") if name in table]
        answer = {}
        for coin in self._chosen(query["ids"]):
            row: dict[str, Any] = {}
            for name in wanted:
                price = coin.price
                row[name] = None if price is None else shapes.price_number(price * table[name])
                if query.get("include_market_cap") == "true":
                    row[f"{name}_market_cap"] = shapes.capitalisation(coin, table[name])
                if query.get("include_24hr_vol") == "true":
                    row[f"{name}_24h_vol"] = shapes.volume(coin, table[name])
                if query.get("include_24hr_change") == "true":
                    row[f"{name}_24h_change"] = shapes.change_percent(coin)
            if query.get("include_last_updated_at") == "true":
                row["last_updated_at"] = int(time.time())
            answer[coin.id] = row
        return answer

    def _chosen(self, ids: str | None) -> tuple[Coin, ...]:
        # Unknown ids are left out without a word, as there.
        wanted = {name.strip() for name in (ids or "").split(",")}
        return tuple(coin for coin in self._coins if coin.id in wanted)
