"""
Connections that are no WebSocket, or not yet: how many there may be, and for how long.

aiohttp has no bound for them. So they come to a protocol of ours, which passes on what happens to
aiohttp's until the connection is handed over or ends. By TLS a connection counts from the moment
that it is accepted, not from the end of its handshake; so that is begun here as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

from aiohttp import web

from .addresses import counted_as
from .proxies import is_trusted
from .sessions import Sessions

BACKLOG = 4096
"""Connections that the kernel accepts while the loop is busy."""
TLS_HANDSHAKE_S = 10.0
TLS_CLOSE_S = 2.0
"""For the other side to agree to the end of TLS."""
UNREAD_S = 120.0
"""From one request to the next, however slowly an answer is read; who has read it gets less."""


class HttpConnections:
    """
    All that are open.

    Args:
        sessions: with the limits and the counters.
        context: what TLS is served with, if it is; another one holds for those to come.

    """

    def __init__(self, sessions: Sessions, context: ssl.SSLContext | None) -> None:
        self.context = context
        self._sessions = sessions
        self._make: Callable[[], asyncio.Protocol]
        self._listening: list[asyncio.Server] = []
        self._given = False
        self._open: set[HttpConnection] = set()
        self._per_address: Counter[str] = Counter()
        self._handshakes: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def listen(
        self, make: Callable[[], asyncio.Protocol], sockets: Sequence[socket.socket]
    ) -> int:
        """
        Listen, and return the port.

        Args:
            make: returns aiohttp's protocol for a connection.
            sockets: those that somebody else listens on; without any it listens as configured.

        Raises:
            OSError: the address can't be had.

        """
        self._make, self._given = make, bool(sockets)
        config = self._sessions.config
        listen = partial(
            asyncio.get_running_loop().create_server, partial(_Arrival, self), backlog=BACKLOG
        )
        for sock in sockets:
            self._listening.append(await listen(sock=sock))
        if not sockets:
            self._listening.append(await listen(config.host, config.port, reuse_address=True))
        number: int = self._listening[0].sockets[0].getsockname()[1]
        return number

    def hand_back(self) -> bool:
        """Leave who connects from now on to the next process, if somebody else listens for it."""
        if self._given:
            self.stop_listening()
        return self._given

    def stop_listening(self) -> None:
        """Take no more; who is still at the handshake of TLS is cut off."""
        for server in self._listening:
            server.close()
        for task in self._handshakes:
            task.cancel()

    def abort(self) -> None:
        """Cut off who is left."""
        for connection in tuple(self._open):
            connection.abort()

    def arrived(self, transport: asyncio.Transport) -> None:
        """Take a connection that was just accepted, or cut it off at once."""
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        if not self._has_room(address):
            transport.abort()
            return
        connection = HttpConnection(self, address, self._make)
        self._open.add(connection)
        self._per_address[counted_as(address)] += 1
        if self.context is None:
            transport.set_protocol(connection)
            connection.connection_made(transport)
            return
        # uvloop reads as soon as this returns, whatever is said here, and what it has read can't
        # be put before TLS. So the socket goes into a transport that begins with TLS.
        try:
            sock = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError:  # no descriptor is left
            connection.leave()
        else:
            task = asyncio.create_task(self._secure(connection, sock, self.context), name="tls")
            self._handshakes.add(task)
            task.add_done_callback(lambda task: self._secured(task, connection, sock))
        transport.abort()

    def _has_room(self, address: str) -> bool:
        config, rejected = self._sessions.config, self._sessions.counters.rejected
        if len(self._open) >= config.max_http_connections:
            rejected["max_http_connections"] += 1
            return False
        if self._per_address[counted_as(address)] < config.max_connections_per_address:
            return True
        # A proxy's connections are those of many clients.
        if is_trusted(address, config.trusted_proxies):
            return True
        rejected["max_http_connections_per_address"] += 1
        return False

    async def _secure(
        self, connection: HttpConnection, sock: socket.socket, context: ssl.SSLContext
    ) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=TLS_HANDSHAKE_S,
                ssl_shutdown_timeout=TLS_CLOSE_S,
            )
        except OSError:
            self._sessions.counters.rejected["tls"] += 1
            connection.leave()

    def _secured(
        self, task: asyncio.Task[None], connection: HttpConnection, sock: socket.socket
    ) -> None:
        self._handshakes.discard(task)
        if task.cancelled():
            connection.leave()
            sock.close()  # maybe before anybody else has had it

    def forget(self, connection: HttpConnection) -> None:
        """Count a connection out."""
        self._open.discard(connection)
        key = counted_as(connection.address)
        self._per_address[key] -= 1
        if not self._per_address[key]:
            del self._per_address[key]


class _Arrival(asyncio.Protocol):
    """What the listening sockets make: it is not known before whose connection it will be."""

    def __init__(self, connections: HttpConnections) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take it, or cut it off."""
        self._connections.arrived(cast(asyncio.Transport, transport))


class HttpConnection(asyncio.Protocol):
    """
    One of them; aiohttp's protocol is behind it.

    Args:
        connections: all of them.
        address: the peer's.
        make: returns aiohttp's protocol.

    """

    __slots__ = ("_connections", "_http", "_left", "_timer", "_transport", "address")

    def __init__(
        self, connections: HttpConnections, address: str, make: Callable[[], asyncio.Protocol]
    ) -> None:
        self.address = address
        self._connections = connections
        self._http = make()
        self._left = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    # From the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)
        self._http.connection_made(transport)
        self.wait()

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._http.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and count it out."""
        self.leave()
        self._http.connection_lost(exc)

    # From the server.

    def work(self) -> None:
        """Stop the clock: whoever answers a request has one of its own for the body."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wait(self) -> None:
        """Give the client `UNREAD_S` to read its answer, if there is one, and to send a request."""
        self.work()
        if not self._left:
            self._timer = asyncio.get_running_loop().call_later(UNREAD_S, self.abort)

    def leave(self) -> None:
        """Count it out: it ends, or becomes a WebSocket."""
        if not self._left:
            self._left = True
            self.work()
            self._connections.forget(self)

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()


def leave(request: web.BaseRequest) -> None:
    """Count the connection of a request out: it is about to become a WebSocket."""
    if (connection := _of(request)) is not None:
        connection.leave()


@contextlib.contextmanager
def in_work(request: web.BaseRequest) -> Iterator[None]:
    """Let no time count but that of who answers the request."""
    connection = _of(request)
    if connection is not None:
        connection.work()
    try:
        yield
    finally:
        if connection is not None:
            connection.wait()


def _of(request: web.BaseRequest) -> HttpConnection | None:
    transport = request.transport
    connection = transport.get_protocol() if transport is not None else None
    return connection if isinstance(connection, HttpConnection) else None
