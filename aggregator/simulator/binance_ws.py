"""Binance's streams: raw and combined, SUBSCRIBE and its kin, pings from the server."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from aggregator.simulator import binance_shapes as shapes
from aggregator.simulator import binance_topics as topics
from aggregator.simulator.binance_pings import Pings
from aggregator.simulator.connection import Connection
from aggregator.simulator.depth import Books
from aggregator.simulator.faults import Fault, Faults
from aggregator.simulator.limits import Window
from aggregator.simulator.market import Market

_MAX_STREAMS = 1024
_VARIANTS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"


@dataclass(slots=True)
class Peer:
    """What Binance remembers of one connection."""

    combined: bool
    window: Window
    streams: dict[str, None] = field(default_factory=dict)
    pinged_at: float = 0.0
    ping: bytes | None = None


class BinanceStreams(Pings):
    """All stream connections of Binance and what they read."""

    def __init__(
        self,
        market: Market,
        books: Books,
        faults: Faults,
        *,
        ping_s: float,
        pong_timeout_s: float,
        messages_per_s: int,
    ) -> None:
        super().__init__(ping_s, pong_timeout_s)
        self._market = market
        self._books = books
        self._faults = faults
        self._messages_per_s = messages_per_s
        self._topics: dict[str, topics.Topic] = {}

    def accept(self, connection: Connection, request: web.Request) -> None:
        """Begin with a new connection; its path and query may name streams already."""
        combined = request.path.endswith("/stream")
        names = request.query.get("streams", "") if combined else request.match_info["streams"]
        now = asyncio.get_running_loop().time()
        # One message too many is the sixth: the window admits as many as are allowed.
        window = Window(self._messages_per_s, 1.0)
        connection.state = Peer(combined, window, pinged_at=now)
        for name in filter(None, names.split("/")):
            self._subscribe(connection, name)

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        for name in list(connection.state.streams):
            self._unsubscribe(connection, name)

    def received(self, connection: Connection, text: str) -> None:
        """One text message from the client."""
        self.counted(connection)
        if not connection.closing:
            self._command(connection, text)

    def counted(self, connection: Connection) -> None:
        """Count an incoming message, pings and pongs too; one too many disconnects."""
        if not connection.state.window.admit(asyncio.get_running_loop().time()):
            connection.close(1008, "Too many requests")

    def shutdown(self, connection: Connection) -> None:
        """Announce that this server goes away."""
        event = {"e": "serverShutdown", "E": shapes.now_ms()}
        wrapped = {"stream": "!serverShutdown", "data": event}
        connection.send(orjson.dumps(wrapped if connection.state.combined else event))

    def publish(self, *, tenth: bool, second: bool) -> None:
        """Send what the last step brought: `tenth` and `second` say whose turn it is."""
        for topic in self._topics.values():
            for event in topics.events(
                topic, self._market, self._books, tenth=tenth, second=second
            ):
                topic.push(event)

    def _subscribe(self, connection: Connection, name: str) -> None:
        peer: Peer = connection.state
        peer.streams[name] = None
        topic = self._topics.get(name) or topics.find(name, self._market, self._books)
        # A stream that does not exist is acknowledged and stays silent, as there.
        if topic is not None:
            self._topics[name] = topic
            topic.peers.add(connection)

    def _unsubscribe(self, connection: Connection, name: str) -> None:
        connection.state.streams.pop(name, None)
        topic = self._topics.get(name)
        if topic is None:
            return
        topic.peers.discard(connection)
        if not topic.peers:
            del self._topics[name]
            if topic.kind == "depth" and topic.instrument is not None and not topic.levels:
                self._books.of(topic.instrument).forget(name)

    def _command(self, connection: Connection, text: str) -> None:
        try:
            command = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            where = f"line {error.lineno} column {error.colno}"
            _refuse(connection, 3, f"Invalid JSON: expected value at {where}", None)
            return
        if not isinstance(command, dict):
            _refuse(connection, 2, "Invalid request: expected a JSON object", None)
            return
        number = command.get("id")
        if isinstance(number, bool | float | list | dict):
            message = "Invalid request: request ID must be an unsigned integer"
            _refuse(connection, 2, message, None)
            return
        if "method" not in command:
            _refuse(connection, 2, "Invalid request: missing field `method`", number)
            return
        method, params = command["method"], command.get("params", [])
        run = self._methods().get(method) if isinstance(method, str) else None
        if run is None:
            message = f"Invalid request: unknown variant {method}, expected one of {_VARIANTS}"
            _refuse(connection, 2, message, number)
        elif not isinstance(params, list):
            _refuse(connection, 2, "Invalid request: params must be an array", number)
        else:
            run(connection, params, number)

    def _methods(self) -> dict[str, Callable[[Connection, list[Any], Any], None]]:
        return {
            "SUBSCRIBE": self._do_subscribe,
            "UNSUBSCRIBE": self._do_unsubscribe,
            "LIST_SUBSCRIPTIONS": self._do_list,
            "SET_PROPERTY": self._do_set,
            "GET_PROPERTY": self._do_get,
        }

    def _do_subscribe(self, connection: Connection, params: list[Any], number: Any) -> None:
        if any(not isinstance(name, str) for name in params):
            _refuse(connection, 2, "Invalid request: stream names must be strings", number)
            return
        if len(connection.state.streams.keys() | set(params)) > _MAX_STREAMS:
            _refuse(connection, 2, f"Invalid request: more than {_MAX_STREAMS} streams", number)
            return
        fault = self._unacknowledged(params)
        if fault is None or fault.parameters.get("data", False):
            for name in params:
                self._subscribe(connection, name)
        if fault is None:
            _answer(connection, None, number)

    def _unacknowledged(self, params: list[str]) -> Fault | None:
        symbols = frozenset(name.partition("@")[0].upper() for name in params)
        kinds = [topics.kind_of(name) for name in params] or [""]
        for kind in kinds:
            if fault := self._faults.take("noack", "binance", instruments=symbols, channel=kind):
                return fault
        return None

    def _do_unsubscribe(self, connection: Connection, params: list[Any], number: Any) -> None:
        for name in params:
            if isinstance(name, str):
                self._unsubscribe(connection, name)
        _answer(connection, None, number)

    def _do_list(self, connection: Connection, _params: list[Any], number: Any) -> None:
        _answer(connection, list(connection.state.streams), number)

    def _do_set(self, connection: Connection, params: list[Any], number: Any) -> None:
        if len(params) != 2 or params[0] != "combined":
            _refuse(connection, 0, "Unknown property", number)
        elif not isinstance(params[1], bool):
            _refuse(connection, 1, "Invalid value type: expected Boolean", number)
        else:
            connection.state.combined = params[1]
            _answer(connection, None, number)

    def _do_get(self, connection: Connection, params: list[Any], number: Any) -> None:
        if params != ["combined"]:
            _refuse(connection, 0, "Unknown property", number)
        else:
            _answer(connection, connection.state.combined, number)


def _answer(connection: Connection, result: Any, number: Any) -> None:
    connection.send(orjson.dumps({"result": result, "id": number}))


def _refuse(connection: Connection, code: int, message: str, number: Any) -> None:
    connection.send(orjson.dumps({"code": code, "msg": message, "id": number}))
