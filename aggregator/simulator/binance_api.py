"""Binance's WebSocket API: session, requests of an account, and the user data stream."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator import binance_account_shapes as shapes
from aggregator.simulator import binance_signed as signed
from aggregator.simulator.accounts import Account
from aggregator.simulator.binance_account import BinanceAccount
from aggregator.simulator.binance_pings import Pings
from aggregator.simulator.binance_query import Refusal
from aggregator.simulator.binance_shapes import now_ms
from aggregator.simulator.connection import Connection, frame
from aggregator.simulator.faults import Faults
from aggregator.simulator.keys import Key
from aggregator.simulator.limits import Verdict
from aggregator.simulator.matching import Change, Engine

_SUBSCRIBE = "userDataStream.subscribe"


@dataclass(slots=True)
class Peer:
    """What Binance remembers of one connection; `streams` are the subscriptions by number."""

    address: str
    since_ms: int
    pinged_at: float
    with_limits: bool = True
    ping: bytes | None = None
    key: Key | None = None
    key_ms: int | None = None
    streams: dict[int, Account] = field(default_factory=dict)
    # The one that was made for the session's key and ends with it.
    own: int | None = None
    next_stream: int = 0


class BinanceApi(Pings):
    """All connections to `/ws-api/v3`."""

    def __init__(
        self,
        account: BinanceAccount,
        engine: Engine,
        faults: Faults,
        charge: Callable[[str, int], Verdict],
        *,
        weight_limit: int,
        ping_s: float,
        pong_timeout_s: float,
    ) -> None:
        super().__init__(ping_s, pong_timeout_s)
        self._account = account
        self._engine = engine
        self._faults = faults
        self._charge = charge
        self._weight_limit = weight_limit
        self._open: dict[Connection, None] = {}
        self._executions = 8_641_984
        engine.listen(self._changed)
        self._methods: dict[str, Callable[[Connection, dict[str, str]], Any]] = {
            "ping": lambda _connection, _given: {},
            "time": lambda _connection, _given: {"serverTime": now_ms()},
            "session.logon": self._logon,
            "session.status": lambda connection, _given: _status(connection.state),
            "session.logout": self._logout,
            "session.subscriptions": self._subscriptions,
            _SUBSCRIBE: self._subscribe,
            f"{_SUBSCRIBE}.signature": self._subscribe_signed,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    def accept(self, connection: Connection, request: web.Request) -> None:
        """Begin with a new connection."""
        now = asyncio.get_running_loop().time()
        limits = request.query.get("returnRateLimits", "true") != "false"
        connection.state = Peer(request.remote or "", now_ms(), now, limits)
        self._open[connection] = None

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)

    def counted(self, connection: Connection) -> None:
        """Count nothing: requests have weights here, and messages no limit of their own."""

    def shutdown(self, connection: Connection) -> None:
        """Announce that this server goes away."""
        connection.send(orjson.dumps({"event": {"e": "serverShutdown", "E": now_ms()}}))

    def revoke(self, key: Key) -> None:
        """Forget the sessions of a key that was deleted, and what they are subscribed to."""
        account = self._engine.accounts.owner(key)
        for connection in self._open:
            peer: Peer = connection.state
            if peer.key is key:
                peer.key = peer.key_ms = None
                body = {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}
                connection.send(orjson.dumps({"id": None, "status": 401, "error": body}))
            for number in [n for n, one in peer.streams.items() if one is account]:
                self._terminate(connection, number)

    def received(self, connection: Connection, text: str) -> None:
        """One text message from the client."""
        peer: Peer = connection.state
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("params", {}), dict):
            error = {"code": -1135, "msg": "Invalid JSON Request"}
            connection.send(orjson.dumps({"id": None, "status": 400, "error": error}))
            return
        number = request.get("id")
        given = {name: _text(value) for name, value in request.get("params", {}).items()}
        limits = given.pop("returnRateLimits", "true") != "false" and peer.with_limits
        name = str(request.get("method", "")).removeprefix("v3/")
        if name.startswith(_SUBSCRIBE) and (
            fault := self._faults.take("noack", "binance", channel="userDataStream")
        ):
            if fault.parameters.get("data", False):
                self._answer(connection, name, given)
            return
        status, body, used = self._answer(connection, name, given)
        answer = {"id": number, "status": status} | body
        if limits:
            weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
            answer["rateLimits"] = [weight | {"limit": self._weight_limit, "count": used}]
        connection.send(orjson.dumps(answer))
        if name in ("userDataStream.unsubscribe", "session.logout") and status == 200:
            self._end_streams(connection, given, own=name == "session.logout")

    def _answer(
        self, connection: Connection, name: str, given: dict[str, str]
    ) -> tuple[int, dict[str, Any], int]:
        method = self._account.method(name)
        weight = method.weight(given) if method else 1 if name in ("ping", "time") else 2
        verdict = self._charge(connection.state.address, weight)
        if verdict.status != 200:
            message = "Too much request weight used; current limit is "
            message += f"{self._weight_limit} request weight per 1 MINUTE."
            data = {"serverTime": now_ms(), "retryAfter": now_ms() + verdict.retry_after_s * 1000}
            error = {"code": -1003, "msg": message, "data": data}
            return verdict.status, {"error": error}, verdict.used
        try:
            if method is not None and not method.rest_only:
                key = self._who(connection, given)
                return 200, {"result": self._account.call(method, key, given)}, verdict.used
            run = self._methods.get(name)
            if run is None:
                raise Refusal(-1020, "This operation is not supported.")
            return 200, {"result": run(connection, given)}, verdict.used
        except Refusal as refusal:
            status = 401 if isinstance(refusal, signed.Denied) else 400
            error = {"code": refusal.code, "msg": refusal.message}
            return status, {"error": error}, verdict.used

    def _who(self, connection: Connection, given: dict[str, str]) -> Key:
        """Return whose request it is: by its own signature, or else the session's."""
        peer: Peer = connection.state
        if "apiKey" not in given and "signature" not in given and peer.key is not None:
            signed.check_time(given)
            return peer.key
        return signed.prove(self._engine.accounts, given)

    def _logon(self, connection: Connection, given: dict[str, str]) -> Any:
        peer: Peer = connection.state
        key = signed.prove(self._engine.accounts, given)
        if key.seed is None:
            raise Refusal(-4056, "HMAC_SHA256 API key is not supported.")
        peer.key, peer.key_ms = key, now_ms()
        return _status(peer)

    def _logout(self, connection: Connection, _given: dict[str, str]) -> Any:
        peer: Peer = connection.state
        peer.key = peer.key_ms = None
        ends = {} if peer.own is None else {peer.own}
        return _status(peer) | {"userDataStream": bool(peer.streams.keys() - ends)}

    def _subscriptions(self, connection: Connection, _given: dict[str, str]) -> Any:
        return [{"subscriptionId": number} for number in connection.state.streams]

    def _subscribe(self, connection: Connection, given: dict[str, str]) -> Any:
        peer: Peer = connection.state
        if given:
            message = "Not all sent parameters were read; read '0' parameter(s) but was sent "
            raise Refusal(-1104, f"{message}'{len(given)}'.")
        if peer.key is None:
            raise signed.not_permitted()
        result = self._stream(peer, peer.key)
        peer.own = result["subscriptionId"]
        return result

    def _subscribe_signed(self, connection: Connection, given: dict[str, str]) -> Any:
        return self._stream(connection.state, signed.prove(self._engine.accounts, given))

    def _stream(self, peer: Peer, key: Key) -> dict[str, int]:
        account = self._engine.accounts.owner(key)
        if account in peer.streams.values():
            raise Refusal(-2035, "User Data Stream subscription already active.")
        number = peer.next_stream
        peer.next_stream += 1
        peer.streams[number] = account
        return {"subscriptionId": number}

    def _unsubscribe(self, connection: Connection, given: dict[str, str]) -> Any:
        peer: Peer = connection.state
        wanted = given.get("subscriptionId")
        known = {str(number) for number in peer.streams}
        if not known or (wanted is not None and wanted not in known):
            raise Refusal(-2036, "User Data Stream subscription not active.")
        return {}

    def _end_streams(self, connection: Connection, given: dict[str, str], *, own: bool) -> None:
        peer: Peer = connection.state
        wanted = None if peer.own is None else str(peer.own)
        wanted = wanted if own else given.get("subscriptionId")
        for number in list(peer.streams):
            if wanted == str(number) or (wanted is None and not own):
                self._terminate(connection, number)

    def _terminate(self, connection: Connection, number: int) -> None:
        peer: Peer = connection.state
        del peer.streams[number]
        if peer.own == number:
            peer.own = None
        _push(connection, number, {"e": "eventStreamTerminated", "E": now_ms()})
        connection.flush()

    def _changed(self, change: Change) -> None:
        if change.account.venue != "binance" or change.kind == "completed":
            return
        events = self._events(change)
        for connection in self._open:
            for number, account in connection.state.streams.items():
                if account is change.account:
                    for event in events:
                        _push(connection, number, event)
            connection.flush()

    def _events(self, change: Change) -> list[dict[str, Any]]:
        events = []
        if change.order is not None:
            self._executions += 1
            events.append(shapes.report(change, change.order, self._executions))
        if change.kind == "deposit":
            events.append(shapes.balance(change))
        if change.currencies:
            events.append(shapes.position(change.account, change.currencies))
        return events


def _status(peer: Peer) -> dict[str, Any]:
    return {
        "apiKey": None if peer.key is None else peer.key.api_key,
        "authorizedSince": peer.key_ms,
        "connectedSince": peer.since_ms,
        "returnRateLimits": peer.with_limits,
        "serverTime": now_ms(),
        "userDataStream": bool(peer.streams),
    }


def _text(value: Any) -> str:
    """Return a parameter as it is signed, whatever its JSON type."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _push(connection: Connection, number: int, event: dict[str, Any]) -> None:
    payload = orjson.dumps({"subscriptionId": number, "event": event})
    connection.push(payload, frame(payload), event["e"], event.get("s", ""))
