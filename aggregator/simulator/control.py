"""The simulator's own pages: what it is, and `/faults` to break it from outside."""

from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator.faults import KINDS, Faults


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


class Control:
    """`GET /`, and `GET`, `POST`, `DELETE` on `/faults`."""

    def __init__(self, faults: Faults, urls: Callable[[], dict[str, str]]) -> None:
        self._faults = faults
        self._urls = urls

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        return [
            web.get("/", self._index),
            web.get("/faults", self._list),
            web.post("/faults", self._add),
            web.delete("/faults", self._clear),
            web.delete("/faults/{id}", self._remove),
        ]

    async def _index(self, _request: web.Request) -> web.Response:
        about = "Simulated venues: real protocols, made-up prices, faults on demand."
        kinds = {kind: sorted(parameters) for kind, parameters in KINDS.items()}
        return _json({"about": about, "urls": self._urls(), "faults": kinds})

    async def _list(self, _request: web.Request) -> web.Response:
        return _json([fault.describe() for fault in self._faults])

    async def _add(self, request: web.Request) -> web.Response:
        try:
            wanted = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            return _json({"error": f"not JSON: {error}"}, 400)
        if not isinstance(wanted, dict):
            return _json({"error": "a JSON object is expected"}, 400)
        missing = [name for name in ("venue", "kind") if not isinstance(wanted.get(name), str)]
        if missing:
            return _json({"error": f"missing or not text: {', '.join(missing)}"}, 400)
        try:
            fault = self._faults.add(**wanted)
        except (ValueError, TypeError) as error:
            return _json({"error": str(error)}, 400)
        return _json(fault.describe(), 201)

    async def _clear(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        if number.isascii() and number.isdigit() and self._faults.remove(int(number)):
            return web.Response(status=204)
        return _json({"error": f"no fault with id {number}"}, 404)
