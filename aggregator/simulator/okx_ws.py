"""OKX's public WebSocket: one acknowledgement per argument, text pings, chained books."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from aggregator.simulator import okx_shapes as shapes
from aggregator.simulator.candle_shapes import okx_row
from aggregator.simulator.candles import OKX_BARS_MS
from aggregator.simulator.connection import TEXT, Connection, frame
from aggregator.simulator.depth import Books, View
from aggregator.simulator.faults import Faults, plain
from aggregator.simulator.limits import Window
from aggregator.simulator.market import Instrument, Market

_CHANNELS = frozenset({"tickers", "trades", "bbo-tbt", "books5", "books"})
_DEPTH = 400
# These are at another address, /ws/v5/business.
_CANDLES_MS = {f"candle{bar}": ms for bar, ms in OKX_BARS_MS.items()}
_HEARTBEAT_S = 60.0
_HOUR_S = 3600.0
# The order in which one connection gets what one step brought.
_ORDER = ("tickers", "trades", "bbo-tbt", "books", "books5")


@dataclass(slots=True)
class Peer:
    """What OKX remembers of one connection."""

    conn_id: str
    window: Window
    # Any sign of life from either side; silence for too long ends the connection.
    active_at: float
    topics: set[tuple[str, str]] = field(default_factory=set)


@dataclass(slots=True)
class Topic:
    """A channel of one instrument that somebody reads."""

    channel: str
    instrument: Instrument
    symbol: str
    pushed_at: float
    # Of candles: the beginning of the one that was sent last.
    sent_ms: int = 0
    # Of books: what all who read it hold.
    view: View | None = None
    peers: set[Connection] = field(default_factory=set)


class OkxPublic:
    """All connections to `/ws/v5/public` and `/ws/v5/business`, and what they read."""

    def __init__(
        self,
        market: Market,
        books: Books,
        faults: Faults,
        *,
        idle_s: float,
        requests_per_hour: int,
    ) -> None:
        self._market = market
        self._books = books
        self._faults = faults
        self._idle_s = idle_s
        self._requests_per_hour = requests_per_hour
        self._accepted = 0
        self._topics: dict[str, dict[str, Topic]] = {c: {} for c in (*_ORDER, *_CANDLES_MS)}

    def accept(self, connection: Connection) -> None:
        """Begin with a new connection."""
        self._accepted += 1
        conn_id = f"{0xA4D3AE55 ^ self._accepted * 0x9E3779B1 & 0xFFFFFFFF:08x}"
        window = Window(self._requests_per_hour, _HOUR_S)
        connection.state = Peer(conn_id, window, asyncio.get_running_loop().time())

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        for channel, name in list(connection.state.topics):
            self._remove(connection, channel, name)

    def watch(self, connection: Connection, now: float) -> None:
        """End a connection on which nothing was pushed or asked for too long."""
        peer: Peer = connection.state
        if now - max(peer.active_at, connection.pushed_at) > self._idle_s:
            connection.close(4004, "No data received in 30s.")

    def notice(self, connection: Connection) -> None:
        """Announce a service upgrade."""
        event = {
            "event": "notice",
            "msg": "The connection will soon be closed for a service upgrade. Please reconnect.",
            "code": "64008",
            "connId": connection.state.conn_id,
        }
        connection.send(orjson.dumps(event))

    def received(self, connection: Connection, text: str) -> None:
        """One text message from the client."""
        peer: Peer = connection.state
        peer.active_at = asyncio.get_running_loop().time()
        if text == "ping":
            connection.pong(b"pong", TEXT)
            return
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            request = None
        if not _well_formed(request):
            number = request.get("id") if isinstance(request, dict) else None
            self._error(connection, "60012", f"Invalid request: {text}", number)
        elif not peer.window.admit(peer.active_at):
            self._error(connection, "60014", "Requests too frequent", request.get("id"))
        else:
            for arg in request["args"]:
                self._do(connection, request["op"], arg, request.get("id"))

    def publish(self, *, tenth: bool) -> None:
        """Send what the last step brought; `tenth`: it is the turn of the books."""
        for channel in _ORDER:
            if channel in ("books", "books5") and not tenth:
                continue
            for topic in self._topics[channel].values():
                if channel == "books":
                    self._publish_book(topic)
                elif topic.instrument.moved:
                    _push(topic, {"data": [self._row(topic)]}, topic.peers)

        for channel in _CANDLES_MS if tenth else ():
            for topic in self._topics[channel].values():
                if topic.instrument.moved:
                    self._publish_candles(topic)

    def _publish_candles(self, topic: Topic) -> None:
        """Send how the last candle ended, if there is another, and the present one."""
        one = topic.instrument
        candles = self._market.candles.of(one, _CANDLES_MS[topic.channel])
        for candle in [c for c in candles if c.start_ms >= topic.sent_ms]:
            row = okx_row(one, candle, closed=candle is not candles[-1])
            _push(topic, {"data": [row]}, topic.peers)
        topic.sent_ms = candles[-1].start_ms

    def _publish_book(self, topic: Topic) -> None:
        if topic.view is None:
            return
        changes = topic.view.take()
        now = asyncio.get_running_loop().time()
        # Unchanged, a book still shows once a minute that its chain holds.
        if not changes and now - topic.pushed_at < _HEARTBEAT_S:
            return
        topic.pushed_at = now
        data = [shapes.update(topic.instrument, changes)]
        _push(topic, {"action": "update", "data": data}, topic.peers)

    def _row(self, topic: Topic) -> dict[str, Any]:
        one = topic.instrument
        if topic.channel == "tickers":
            return shapes.ticker(one)
        if topic.channel == "trades":
            return shapes.trade(one, one.recent[-1])
        book = self._books.of(one)
        if topic.channel == "bbo-tbt":
            return shapes.top(book, 1)
        return {"instId": one.okx_id} | shapes.top(book, 5)

    def _do(self, connection: Connection, op: str, arg: dict[str, Any], number: Any) -> None:
        channel, name = arg.get("channel"), arg.get("instId")
        if (
            not isinstance(channel, str)
            or not isinstance(name, str)
            or channel not in (_CANDLES_MS if connection.path.endswith("business") else _CHANNELS)
            or name not in self._market.by_okx_id
        ):
            message = (
                f"Wrong URL or channel:{channel},instId:{name} doesn't exist. Please use the "
                "correct URL, channel and parameters referring to API document."
            )
            self._error(connection, "60018", message, number)
            return
        if op == "unsubscribe":
            self._remove(connection, channel, name)
            self._acknowledge(connection, op, arg, number)
            return
        fault = self._faults.take(
            "noack", "okx", instruments=frozenset((plain(name),)), channel=channel
        )
        if fault is None:
            self._acknowledge(connection, op, arg, number)
        if fault is None or fault.parameters.get("data", False):
            self._add(connection, channel, name)

    def _add(self, connection: Connection, channel: str, name: str) -> None:
        one = self._market.by_okx_id[name]
        topic = self._topics[channel].get(name)
        if topic is None:
            now = asyncio.get_running_loop().time()
            topic = self._topics[channel][name] = Topic(channel, one, plain(name), now)
            if channel == "books":
                topic.view = View(self._books.of(one), _DEPTH)
        connection.state.topics.add((channel, name))
        first: dict[str, Any]
        if channel == "books":
            # Earlier readers get what has gathered first: one chain serves all of them.
            topic.peers.discard(connection)
            self._publish_book(topic)
            book = self._books.of(one)
            sequence = topic.view.sequence if topic.view else book.last_id
            data = [shapes.snapshot(book, _DEPTH) | {"seqId": sequence}]
            first = {"action": "snapshot", "data": data}
        elif channel == "trades":
            topic.peers.add(connection)
            return
        elif channel in _CANDLES_MS:
            candle = self._market.candles.of(one, _CANDLES_MS[channel])[-1]
            topic.sent_ms = topic.sent_ms or candle.start_ms
            first = {"data": [okx_row(one, candle, closed=False)]}
        else:
            first = {"data": [self._row(topic)]}
        topic.peers.add(connection)
        _push(topic, first, {connection})
        for peer in topic.peers:
            peer.flush()

    def _remove(self, connection: Connection, channel: str, name: str) -> None:
        connection.state.topics.discard((channel, name))
        topic = self._topics[channel].get(name)
        if topic is None:
            return
        topic.peers.discard(connection)
        if not topic.peers:
            del self._topics[channel][name]

    def _acknowledge(
        self, connection: Connection, op: str, arg: dict[str, Any], number: Any
    ) -> None:
        event = {"event": op, "arg": arg, "connId": connection.state.conn_id}
        connection.send(orjson.dumps(event | ({} if number is None else {"id": number})))

    def _error(self, connection: Connection, code: str, message: str, number: Any) -> None:
        event = {"event": "error", "msg": message, "code": code}
        event["connId"] = connection.state.conn_id
        connection.send(orjson.dumps(event | ({} if number is None else {"id": number})))


def _well_formed(request: Any) -> bool:
    if not isinstance(request, dict) or request.get("op") not in ("subscribe", "unsubscribe"):
        return False
    number, args = request.get("id"), request.get("args")
    if number is not None and not (
        isinstance(number, str) and number.isalnum() and number.isascii() and len(number) <= 32
    ):
        return False
    return isinstance(args, list) and bool(args) and all(isinstance(arg, dict) for arg in args)


def _push(topic: Topic, body: dict[str, Any], peers: set[Connection]) -> None:
    arg = {"channel": topic.channel, "instId": topic.instrument.okx_id}
    payload = orjson.dumps({"arg": arg} | body)
    ready = frame(payload)
    for connection in peers:
        connection.push(payload, ready, topic.channel, topic.symbol)
