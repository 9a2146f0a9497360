"""The WebSocket side of both streaming venues: accept, read, break on demand, let go."""

import struct
from collections.abc import Callable

from aiohttp import WSMsgType, web

from aggregator.simulator.binance_api import BinanceApi
from aggregator.simulator.binance_ws import BinanceStreams
from aggregator.simulator.connection import CLOSE, Connection
from aggregator.simulator.faults import IMMEDIATE, Fault, Faults
from aggregator.simulator.http_faults import venue_of
from aggregator.simulator.journal import Journal
from aggregator.simulator.okx_private import OkxPrivate
from aggregator.simulator.okx_ws import OkxPublic
from aggregator.simulator.private import Private

# OKX takes arguments of 64 KB at most; larger messages end the connection with 1009.
_MAX_MESSAGE = 65_536
_OVERFLOW = {"okx": (4005, "buffer full"), "binance": (1008, "Slow consumer")}


class Sockets:
    """All open connections, whatever the venue."""

    def __init__(
        self,
        okx: OkxPublic,
        binance: BinanceStreams,
        private: Private,
        faults: Faults,
        journal: Journal,
        *,
        max_buffered_bytes: int,
    ) -> None:
        self._okx = okx
        self._binance = binance
        self._private = private
        self._faults = faults
        self._journal = journal
        self._max_buffered_bytes = max_buffered_bytes
        # In the order in which they came: a fault that is for one of them has the oldest.
        self._open: dict[Connection, None] = {}
        faults.listen(self._fault_added, self._fault_removed)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for the application."""
        return [
            web.get("/okx/ws/v5/public", self._serve),
            web.get("/okx/ws/v5/business", self._serve),
            web.get("/okx/ws/v5/private", self._serve),
            web.get("/binance/ws-api/v3", self._serve),
            web.get("/binance/stream", self._serve),
            # ccxt tells spot by "/stream" in the address, which there is part of the host.
            web.get("/binance/stream/ws{slash:/?}{streams:.*}", self._serve),
            web.get("/binance/ws{slash:/?}{streams:.*}", self._serve),
        ]

    def count(self, venue: str) -> int:
        """How many sockets of `venue` are open."""
        return sum(connection.venue == venue for connection in self._open)

    def flush(self) -> None:
        """Write what the last step queued, one write per connection."""
        for connection in self._open:
            connection.flush()

    def watch(self, now: float) -> None:
        """Pings that are due, connections that were silent for too long."""
        for connection in self._open:
            if not connection.closing:
                self._of(connection).watch(connection, now)

    def abort(self) -> None:
        """Drop all connections at once."""
        for connection in self._open:
            connection.abort()

    def _of(self, connection: Connection) -> OkxPublic | OkxPrivate | BinanceStreams | BinanceApi:
        okx = connection.venue == "okx"
        return self._okx_of(connection) if okx else self._binance_of(connection)

    def _binance_of(self, connection: Connection) -> BinanceStreams | BinanceApi:
        return self._private.binance if connection.path.startswith("/ws-api/") else self._binance

    def _okx_of(self, connection: Connection) -> OkxPublic | OkxPrivate:
        return self._private.okx if connection.path.endswith("/private") else self._okx

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        venue, path = venue_of(request.path) or ("", "")
        # Closing and pings are ours: faults must be able to forbid them.
        socket = web.WebSocketResponse(
            autoclose=False, autoping=False, compress=False, max_msg_size=_MAX_MESSAGE, timeout=0.1
        )
        try:
            await socket.prepare(request)
        except ConnectionError:
            return socket  # gone before the handshake was answered
        connection = Connection(
            venue,
            path,
            request,
            self._faults,
            max_buffered_bytes=self._max_buffered_bytes,
            overflow=_OVERFLOW[venue],
        )
        self._enter(connection, request)
        try:
            await self._read(connection, socket)
        finally:
            self._open.pop(connection, None)
            self._of(connection).leave(connection)
            connection.ended()
        return socket

    def _enter(self, connection: Connection, request: web.Request) -> None:
        if connection.venue == "okx":
            self._okx_of(connection).accept(connection)
        else:
            self._binance_of(connection).accept(connection, request)
        self._open[connection] = None
        for kind in sorted(IMMEDIATE):
            fault = self._faults.take(kind, connection.venue, path=connection.path)
            if fault is not None:
                self._do(fault, connection)
        self._journal.happened(connection)

    async def _read(self, connection: Connection, socket: web.WebSocketResponse) -> None:
        binance = self._binance_of(connection) if connection.venue == "binance" else None
        received: Callable[[Connection, str], None] = self._of(connection).received
        while True:
            message = await socket.receive()
            if message.type is WSMsgType.TEXT:
                self._journal.command(connection.venue, message.data)
                received(connection, message.data)
            elif message.type in (WSMsgType.PING, WSMsgType.PONG):
                if binance:
                    binance.counted(connection)
                if message.type is WSMsgType.PING:
                    connection.pong(message.data)
                elif binance:
                    binance.ponged(connection, message.data)
            elif message.type is WSMsgType.BINARY:
                connection.close(1003, "Text only")
            else:
                if message.type is WSMsgType.CLOSE and not connection.closing:
                    code = struct.pack("!H", message.data) if message.data else b""
                    connection.send(code, CLOSE)
                return

    def _fault_added(self, fault: Fault) -> None:
        if fault.kind not in IMMEDIATE and fault.kind != "halfopen":
            return
        for connection in list(self._open):
            if (
                fault.venue in (connection.venue, "*")
                and fault.remaining != 0
                and not connection.closing
                and (fault.path is None or connection.path.startswith(fault.path))
            ):
                self._faults.consume(fault)
                if fault.kind == "halfopen":
                    connection.halt(fault)
                else:
                    self._do(fault, connection)
        # Without a number or a time it was meant for those that are open now.
        if fault.kind != "halfopen" and fault.count is None and fault.for_s is None:
            self._faults.remove(fault.id)

    def _fault_removed(self, fault: Fault) -> None:
        for connection in self._open:
            if connection.halted_by is fault:
                # What was to be sent meanwhile is lost, so it can't go on.
                connection.abort()

    def _do(self, fault: Fault, connection: Connection) -> None:
        parameters = fault.parameters
        if fault.kind == "close":
            connection.close(parameters.get("code", 1001), parameters.get("reason", ""))
            return
        if fault.kind == "notice":
            if connection.venue != "okx":
                return
            self._okx_of(connection).notice(connection)
        else:
            if connection.venue != "binance":
                return
            self._binance_of(connection).shutdown(connection)
        after_s, code = parameters.get("after_s", 60.0), parameters.get("code", 1001)
        connection.later(after_s, connection.close, code)
