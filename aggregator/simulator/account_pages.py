"""The simulator's own pages about accounts: what is true of them, and orders by hand.

GET    /accounts                                    accounts and keys
GET    /accounts/okx/main                           orders, fills, balances
POST   /accounts/okx/main/orders                    {"instrument": "BTC/USDT", "side": "buy",
                                                     "price": "60000", "size": "0.1"}
POST   /accounts/okx/main/orders/<id>/fill          {"size": "0.04"}
DELETE /accounts/okx/main/orders/<id>               canceled by the venue
POST   /accounts/okx/main/deposit                   {"currency": "BTC", "amount": "1"}
POST   /accounts/okx/keys/<name>/revoke             its connections end
"""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator.accounts import Account, Order
from aggregator.simulator.keys import KEYS, Key
from aggregator.simulator.matching import Engine
from aggregator.simulator.wanted import Refused, Wanted

_AMOUNTS = ("price", "size", "quote_size", "amount")
_TEXTS = ("instrument", "side", "type", "client_id", "currency", "reject", "role", "reason")
_ORDER = ("side", "type", "price", "size", "quote_size", "client_id", "held")


class _Wrong(Exception):  # noqa: N818 -- an answer, not a fault of ours
    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


class AccountPages:
    """The routes below `/accounts`; `revoked` is told of a key that holds no more."""

    def __init__(self, engine: Engine, revoked: Callable[[Key], None]) -> None:
        self._engine = engine
        self._revoked = revoked

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        account = "/accounts/{venue}/{name}"
        return [
            web.get("/accounts", self._route(self._list)),
            web.get(account, self._route(self._show)),
            web.post(f"{account}/orders", self._route(self._place, 201)),
            web.post(f"{account}/orders/{{id}}/fill", self._route(self._fill, 201)),
            web.delete(f"{account}/orders/{{id}}", self._route(self._cancel)),
            web.post(f"{account}/deposit", self._route(self._deposit, 201)),
            web.post("/accounts/{venue}/keys/{key}/revoke", self._route(self._revoke)),
        ]

    def _route(
        self, answer: Callable[[web.Request, dict[str, Any]], Any], status: int = 200
    ) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.Response:
            try:
                return _json(answer(request, _parameters(await request.read())), status)
            except _Wrong as wrong:
                return _json({"error": str(wrong)}, wrong.status)
            except Refused as refused:
                return _json({"error": str(refused), "reason": refused.reason}, 409)

        return handler

    def _list(self, _request: web.Request, _given: dict[str, Any]) -> Any:
        names = ("venue", "name", "account", "api_key", "secret", "passphrase", "may_trade")
        return {
            "accounts": [{"venue": one.venue, "name": one.name} for one in self._engine.accounts],
            "keys": [{name: getattr(key, name) for name in names} for key in KEYS],
        }

    def _show(self, request: web.Request, _given: dict[str, Any]) -> Any:
        return self._account(request).describe()

    def _place(self, request: web.Request, given: dict[str, Any]) -> Any:
        account = self._account(request)
        for name in ("instrument", "side"):
            if name not in given:
                raise _Wrong(f"missing: {name}")
        if "price" not in given:
            given.setdefault("type", "market")
        one = self._engine.instrument(account.venue, given["instrument"])
        wanted = Wanted(instrument=one, **{name: given[name] for name in _ORDER if name in given})
        if "reject" in given:
            return self._engine.reject(account, wanted, given["reject"]).describe()
        return self._engine.place(account, wanted).describe()

    def _fill(self, request: web.Request, given: dict[str, Any]) -> Any:
        account, order = self._order(request)
        maker = given.get("role", "maker") == "maker"
        fill = self._engine.fill(account, order, given.get("size"), given.get("price"), maker=maker)
        return fill.describe()

    def _cancel(self, request: web.Request, given: dict[str, Any]) -> Any:
        account, order = self._order(request)
        self._engine.cancel(account, order, reason=given.get("reason", "system"))
        return order.describe()

    def _deposit(self, request: web.Request, given: dict[str, Any]) -> Any:
        account = self._account(request)
        if "currency" not in given or "amount" not in given:
            raise _Wrong("a currency and an amount are needed")
        self._engine.deposit(account, given["currency"], given["amount"])
        return account.describe()["balances"]

    def _revoke(self, request: web.Request, _given: dict[str, Any]) -> Any:
        venue, name = request.match_info["venue"], request.match_info["key"]
        key = next((key for key in KEYS if (key.venue, key.name) == (venue, name)), None)
        if key is None:
            raise _Wrong(f"no key {name!r} of {venue}", 404)
        self._engine.accounts.revoke(key)
        self._revoked(key)
        return {}

    def _account(self, request: web.Request) -> Account:
        venue, name = request.match_info["venue"], request.match_info["name"]
        account = self._engine.accounts.of(venue, name)
        if account is None:
            raise _Wrong(f"no account {name!r} of {venue}", 404)
        return account

    def _order(self, request: web.Request) -> tuple[Account, Order]:
        account, number = self._account(request), request.match_info["id"]
        known = account.find(int(number), "") if number.isascii() and number.isdigit() else None
        order = known or account.find(None, number)
        if order is None:
            raise _Wrong(f"no order {number!r}", 404)
        return account, order


def _parameters(body: bytes) -> dict[str, Any]:
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise _Wrong(f"not JSON: {error}") from None
    if not isinstance(given, dict):
        raise _Wrong("a JSON object is expected")
    for name, value in given.items():
        if name in _AMOUNTS:
            given[name] = _amount(name, value)
        elif not isinstance(value, bool if name == "held" else str):
            raise _Wrong(f"{name} has the wrong type: {value!r}")
        elif name not in (*_TEXTS, "held"):
            raise _Wrong(f"unknown: {name}")
    return given


def _amount(name: str, value: Any) -> Decimal:
    # A JSON number would have been a float by now.
    try:
        amount = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite():
        raise _Wrong(f"{name} must be a number as text: {value!r}")
    return amount
