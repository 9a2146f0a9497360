"""OKX's private WebSocket: login, then what happens to orders and balances."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson

from aggregator.simulator import okx_account_shapes as shapes
from aggregator.simulator.accounts import Account
from aggregator.simulator.connection import TEXT, Connection, frame
from aggregator.simulator.faults import Faults, plain
from aggregator.simulator.keys import Key
from aggregator.simulator.limits import Window
from aggregator.simulator.market import Market
from aggregator.simulator.matching import Change, Engine
from aggregator.simulator.okx_auth import Denied, login
from aggregator.simulator.okx_shapes import now_ms

_CHANNELS = ("orders", "account", "balance_and_position")
_TYPES = ("SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION", "EVENTS", "ANY")
_HOUR_S = 3600.0
_EVENTS = {"filled": "filled", "deposit": "transferred"}


@dataclass(slots=True)
class Peer:
    """What OKX remembers of one connection; `args` are the subscriptions as they were sent."""

    conn_id: str
    window: Window
    active_at: float
    key: Key | None = None
    account: Account | None = None
    args: dict[bytes, dict[str, Any]] = field(default_factory=dict)
    told_at: float = 0.0


class OkxPrivate:
    """All connections to `/ws/v5/private`."""

    def __init__(
        self,
        market: Market,
        engine: Engine,
        faults: Faults,
        *,
        idle_s: float,
        requests_per_hour: int,
        account_push_s: float,
        connections_per_channel: int,
    ) -> None:
        self._market = market
        self._engine = engine
        self._faults = faults
        self._idle_s = idle_s
        self._requests_per_hour = requests_per_hour
        self._account_push_s = account_push_s
        self._connections_per_channel = connections_per_channel
        self._accepted = 0
        self._open: dict[Connection, None] = {}
        engine.listen(self._changed)

    def accept(self, connection: Connection) -> None:
        """Begin with a new connection."""
        self._accepted += 1
        conn_id = f"{0x51A7E000 ^ self._accepted * 0x9E3779B1 & 0xFFFFFFFF:08x}"
        window = Window(self._requests_per_hour, _HOUR_S)
        connection.state = Peer(conn_id, window, asyncio.get_running_loop().time())
        self._open[connection] = None

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.pop(connection, None)

    def watch(self, connection: Connection, now: float) -> None:
        """Push the whole account where it is time; end a connection that is silent."""
        peer: Peer = connection.state
        if now - max(peer.active_at, connection.pushed_at) > self._idle_s:
            connection.close(4004, "No data received in 30s")
            return
        if self._account_push_s and now - peer.told_at >= self._account_push_s:
            for arg in [a for a in peer.args.values() if a["channel"] == "account"]:
                if _interval(arg) != "0":
                    self._snapshot(connection, arg)

    def notice(self, connection: Connection) -> None:
        """Announce a service upgrade."""
        message = "The connection will soon be closed for a service upgrade. Please reconnect."
        self._send(connection, {"event": "notice", "msg": message, "code": "64008"})

    def revoke(self, key: Key) -> None:
        """End the connections that came with this key, as for a key that was deleted."""
        for connection in list(self._open):
            if connection.state.key is key:
                connection.close(4007, "API key has been updated or deleted. Please reconnect.")

    def received(self, connection: Connection, text: str) -> None:
        """One text message from the client."""
        peer: Peer = connection.state
        peer.active_at = asyncio.get_running_loop().time()
        if text == "ping":
            connection.pong(b"pong", TEXT)
            return
        number: Any = None
        try:
            request = _parse(text)
            number = request.get("id")
            if not peer.window.admit(peer.active_at):
                raise Denied("60014", "Requests too frequent")
            if request["op"] == "login":
                self._login(connection, request["args"])
                return
        except Denied as error:
            self._refuse(connection, error, number)
            return
        for arg in request["args"]:
            try:
                self._do(connection, request["op"], arg, number)
            except Denied as error:
                self._refuse(connection, error, number)

    def _login(self, connection: Connection, args: list[dict[str, Any]]) -> None:
        peer: Peer = connection.state
        if peer.key is not None or len(args) > 1:
            message = "The WebSocket endpoint does not allow multiple or repeated logins."
            raise Denied("60031", message)
        try:
            peer.key = login(self._engine.accounts, args[0])
        except Denied as error:
            self._refuse(connection, error, None)
            connection.close(4001, "Login Failed")
            return
        peer.account = self._engine.accounts.owner(peer.key)
        self._send(connection, {"event": "login", "msg": "", "code": "0"})

    def _do(self, connection: Connection, op: str, arg: dict[str, Any], number: Any) -> None:
        peer: Peer = connection.state
        if peer.account is None:
            raise Denied("60011", "Please log in")
        self._check(arg)
        name = orjson.dumps(arg, option=orjson.OPT_SORT_KEYS)
        extra = {} if number is None else {"id": number}
        if op == "unsubscribe":
            peer.args.pop(name, None)
            self._send(connection, {"event": op, "arg": arg} | extra)
            return
        channel, instrument = arg["channel"], plain(arg.get("instId", ""))
        fault = self._faults.take(
            "noack", "okx", instruments=frozenset((instrument,)), channel=channel
        )
        if fault is None:
            self._send(connection, {"event": op, "arg": arg} | extra)
        elif not fault.parameters.get("data", False):
            return
        count = len(self._readers(peer.account, channel) | {connection})
        event = {"channel": channel, "connCount": str(count)}
        if count > self._connections_per_channel:
            event["connCount"] = str(self._connections_per_channel)
            self._send(connection, {"event": "channel-conn-count-error"} | event)
            return
        if fault is None:
            self._send(connection, {"event": "channel-conn-count"} | event)
        peer.args[name] = arg
        if channel != "orders":
            self._snapshot(connection, arg)

    def _check(self, arg: dict[str, Any]) -> None:
        channel, name = arg.get("channel"), arg.get("instId", "")
        if channel not in _CHANNELS or (name and name not in self._market.by_okx_id):
            what = f"channel:{channel}" + (f",instId:{name}" if name else "")
            message = (
                f"Wrong URL or {what} doesn't exist. Please use the correct URL, channel and "
                "parameters referring to API document."
            )
            raise Denied("60018", message)
        if channel == "orders" and arg.get("instType") not in _TYPES:
            raise Denied("60012", f"Invalid request: {orjson.dumps(arg).decode()}")

    def _readers(self, account: Account, channel: str) -> set[Connection]:
        return {
            connection
            for connection in self._open
            if connection.state.account is account
            and any(arg["channel"] == channel for arg in connection.state.args.values())
        }

    def _snapshot(self, connection: Connection, arg: dict[str, Any]) -> None:
        peer: Peer = connection.state
        account = peer.account
        if account is None:
            return
        peer.told_at = asyncio.get_running_loop().time()
        if arg["channel"] == "account":
            wanted = [arg["ccy"]] if "ccy" in arg else None
            row = shapes.account(account, self._market, wanted)
            head = {"eventType": "snapshot", "curPage": 1, "lastPage": True}
            _push(connection, arg, head | {"data": [row]})
        else:
            held = [ccy for ccy, balance in account.balances.items() if balance.total]
            _push(connection, arg, {"data": [_position(account, "snapshot", held)]})
        connection.flush()

    def _changed(self, change: Change) -> None:
        if change.account.venue != "okx" or change.kind == "rejected":
            return
        for connection in self._open:
            peer: Peer = connection.state
            if peer.account is change.account:
                # Orders first: that is what the balances follow from.
                for arg in sorted(peer.args.values(), key=lambda arg: arg["channel"] != "orders"):
                    self._report(connection, arg, change)
                connection.flush()

    def _report(self, connection: Connection, arg: dict[str, Any], change: Change) -> None:
        account, order, channel = change.account, change.order, arg["channel"]
        if channel == "orders":
            if (
                order is not None
                and arg["instType"] in ("SPOT", "ANY")
                and arg.get("instId", order.instrument.okx_id) == order.instrument.okx_id
            ):
                row = shapes.order_push(order, change.fill, self._market)
                _push(connection, arg, {"data": [row]}, order.instrument.symbol)
        elif channel == "account":
            touched = [ccy for ccy in change.currencies if arg.get("ccy", ccy) == ccy]
            if touched:
                row = shapes.account(account, self._market, touched)
                _push(connection, arg, {"eventType": "event_update", "data": [row]})
        elif change.kind in _EVENTS:
            row = _position(account, _EVENTS[change.kind], change.currencies)
            if order is not None and change.fill is not None:
                trade = {"instId": order.instrument.okx_id, "tradeId": str(change.fill.id)}
                row["trades"] = [trade]
            _push(connection, arg, {"data": [row]})

    def _refuse(self, connection: Connection, error: Denied, number: Any) -> None:
        extra = {} if number is None else {"id": number}
        self._send(connection, {"event": "error", "msg": error.message, "code": error.code} | extra)

    def _send(self, connection: Connection, event: dict[str, Any]) -> None:
        connection.send(orjson.dumps(event | {"connId": connection.state.conn_id}))


def _parse(text: str) -> dict[str, Any]:
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError:
        request = None
    args = request.get("args") if isinstance(request, dict) else None
    if (
        not isinstance(request, dict)
        or request.get("op") not in ("login", "subscribe", "unsubscribe")
        or not isinstance(args, list)
        or not args
        or not all(isinstance(arg, dict) for arg in args)
    ):
        raise Denied("60012", f"Invalid request: {text}")
    return request


def _interval(arg: dict[str, Any]) -> str:
    try:
        extra = orjson.loads(arg.get("extraParams", "{}"))
        return str(extra.get("updateInterval", ""))
    except (orjson.JSONDecodeError, AttributeError, TypeError):
        return ""


def _position(account: Account, event: str, currencies: Any) -> dict[str, Any]:
    return {
        "pTime": now_ms(),
        "eventType": event,
        "balData": shapes.cash(account, currencies),
        "posData": [],
        "trades": [],
    }


def _push(
    connection: Connection, arg: dict[str, Any], body: dict[str, Any], symbol: str = ""
) -> None:
    account = connection.state.account
    shown = {name: value for name, value in arg.items() if name != "extraParams"}
    payload = orjson.dumps({"arg": shown | {"uid": str(account.uid)}} | body)
    connection.push(payload, frame(payload), arg["channel"], symbol)
