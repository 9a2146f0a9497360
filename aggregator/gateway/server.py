"""
The HTTP side: routes, who may connect, and what operators ask.

Everything that is refused before the handshake is refused here; what a session does afterwards is
in `session`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path

from aiohttp import hdrs, web

from aggregator.hub import Hub
from aggregator.publishing import Publisher
from aggregator.settings import Server as ServerConfig
from aggregator.tokens import Role

from . import dashboard, documents, extensions, fallback, handoff, http_connections, tls
from .access import SUBPROTOCOL, subprotocols
from .answers import Handler, answered, as_error, as_json
from .http_connections import HttpConnections
from .http_log import HttpLog
from .operators import Operators, Rotate
from .origin import host_name, may_read, origin_allowed
from .proxies import of_client
from .queries import Queries
from .sessions import Sessions

log = logging.getLogger(__name__)

CLIENT = Path(__file__).parents[1] / "static" / "client.js"
"""The client for JavaScript."""
KEEP_ALIVE_S = 15.0
"""For the next request, and for the headers of the first one."""
LINGER_S = 10.0
"""For the rest of a body that nobody wants, before the connection is closed."""


@cache
def _client_script() -> bytes:
    """Return it; read once, since everybody waits for a file."""
    return CLIENT.read_bytes()


class Server:
    """
    Serves clients and operators.

    Args:
        hub: knows the time.
        sessions: where clients go after the handshake.
        channels: returns what `GET /channels` shows.
        unready: returns the feeds that are not live, with the reason of each.
        metrics: returns the text of `GET /metrics`.
        rotate: has the connection of a feed replaced.
        why: explains a channel, for `GET /why/CHANNEL`; raises LookupError where there is none.
        publisher: takes what is published with `POST /publish`.
        sockets: those that somebody else listens on for it; else it listens itself.

    """

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        *,
        channels: Callable[[], list[dict[str, object]]],
        unready: Callable[[], list[dict[str, object]]],
        metrics: Callable[[], Awaitable[bytes]],
        rotate: Rotate,
        why: Callable[[str], dict[str, object]],
        publisher: Publisher,
        sockets: Sequence[socket.socket] = (),
    ) -> None:
        self._sockets = sockets
        self._sessions = sessions
        self._channels = channels
        self._unready = unready
        self._metrics = metrics
        self._explain = why
        self._access = sessions.access
        self._operators = Operators(hub, sessions, rotate, publisher)
        self._queries = Queries(hub)
        self._connections = HttpConnections(sessions, tls.context(sessions.config))
        self.hand_back = self._connections.hand_back
        self._runner: web.AppRunner | None = None
        self.port = sessions.config.port
        self.takes_over = True
        """Whether connections are taken over from aiohttp, or served by `fallback`."""

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: the address can't be had.

        """
        if reason := await handoff.rehearse():
            self.takes_over = False
            fallback.warn(reason)
        config = self._sessions.config
        app = web.Application(
            middlewares=[self._errors_as_json], client_max_size=config.max_frame_bytes
        )
        self._add_routes(app.router)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            logger=HttpLog(log, self._sessions.counters),
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=LINGER_S,
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 - `setup` makes it
        self.port = await self._connections.listen(self._runner.server, self._sockets)

    def _add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/ws", self._long_form, allow_head=False)
        router.add_get("/ws/ticker", self._short_form, allow_head=False)
        router.add_post("/ws/test", self._test)
        router.add_post("/feeds/{name}/rotate", self._rotate)
        router.add_post("/publish", self._publish)
        router.add_get("/healthz", self._healthz)
        router.add_get("/readyz", self._readyz)
        router.add_get("/channels", self._for_readers(self._list_channels))
        router.add_get("/why/{channel:.+}", self._for_readers(self._why))
        router.add_get("/latest/{channel}", self._for_readers(self._queries.latest))
        router.add_get(
            "/latest/{channel}/{instrument:.+}", self._for_readers(self._queries.latest_of)
        )
        router.add_get("/history/{channel}", self._for_readers(self._queries.history))
        router.add_get("/openapi.json", self._openapi)
        router.add_get("/asyncapi.json", self._asyncapi)
        router.add_get("/client.js", self._client)
        router.add_get("/metrics", self._metrics_page)
        dashboard.add_routes(router)

    @property
    def http_connections(self) -> int:
        """Connections that are no WebSocket, or not yet: also those that say nothing."""
        return len(self._connections)

    def renew(self, config: ServerConfig) -> None:
        """
        Read the certificate again; connections that there are go on with theirs.

        Raises:
            ConfigError: it can't be used; then nothing changes.

        """
        self._connections.context = tls.context(config)

    async def stop(self) -> None:
        """Stop listening and end what is left of HTTP."""
        self._connections.stop_listening()
        if self._runner is not None:
            await self._runner.cleanup()
        self._connections.abort()

    # Clients.

    async def _long_form(self, request: web.Request) -> web.StreamResponse:
        return await self._connect(request, short=False)

    async def _short_form(self, request: web.Request) -> web.StreamResponse:
        return await self._connect(request, short=True)

    async def _connect(self, request: web.Request, *, short: bool) -> web.StreamResponse:
        self._check_origin(request)
        try:
            accept = handoff.accept_key(request, promised_only=not self.takes_over)
        except web.HTTPException:
            self._sessions.counters.rejected["handshake"] += 1
            raise
        identity = self._access.of(request)
        address = request.remote or ""
        if refusal := self._sessions.refusal(address):
            return as_error(*refusal)
        http_connections.leave(request)
        if not self.takes_over:
            return await fallback.serve(request, self._sessions, address, identity, short=short)
        offers = request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
        agreed = extensions.negotiate(offers) if self._sessions.config.compression else None
        bits, answer = agreed or extensions.NO_COMPRESSION
        session = self._sessions.create(address, short=short, deflate_bits=bits)
        session.identity = identity
        offered = SUBPROTOCOL if SUBPROTOCOL in subprotocols(request) else ""
        try:
            transport, early = handoff.take_over(request, session, accept, answer, offered)
        except ConnectionResetError:
            return handoff.HandedOver()  # the client has gone: nobody is left to answer
        self._sessions.add(session, transport, early)
        return handoff.HandedOver()

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        # Not `request.host`: without the header it asks a name server, and all would wait.
        host = request.headers.get(hdrs.HOST, "")
        if not origin_allowed(origin, host, self._sessions.config.allowed_origins):
            self._sessions.counters.rejected["origin"] += 1
            raise web.HTTPForbidden(text="this origin is not allowed to connect")

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        client = of_client(request, self._sessions.config.trusted_proxies)
        with http_connections.in_work(request):
            return await self._answer(client, handler)

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        shared = may_read(request.headers, self._sessions.config.allowed_origins)
        if request.method == hdrs.METH_OPTIONS and "Access-Control-Allow-Methods" in shared:
            response: web.StreamResponse = web.Response(status=204)
        else:
            response = await answered(request, handler)
        response.headers.update(shared)
        # Also where there is none, or one that may not read: a cache must not give it to others.
        response.headers[hdrs.VARY] = hdrs.ORIGIN
        if response.status >= 400:
            self._sessions.counters.http_errors[response.status] += 1
        return response

    def _for_readers(self, handler: Handler) -> Handler:
        """Let everybody ask, or only who shows a token."""

        async def handle(request: web.Request) -> web.StreamResponse:
            if not self._sessions.config.anonymous:
                self._access.require(request, Role.READER)
            return await handler(request)

        return handle

    # Operators.

    async def _test(self, request: web.Request) -> web.StreamResponse:
        self._check_origin(request)
        return await self._operators.test(request)

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        self._check_origin(request)
        return await self._operators.publish(request)

    async def _rotate(self, request: web.Request) -> web.StreamResponse:
        self._check_origin(request)
        return await self._operators.rotate(request)

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return as_json({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        waiting = self._unready()
        status = "not ready" if waiting else "ready"
        return as_json({"status": status, "feeds": waiting}, status=503 if waiting else 200)

    async def _list_channels(self, request: web.Request) -> web.Response:
        del request
        return as_json({"channels": self._channels()})

    async def _why(self, request: web.Request) -> web.Response:
        try:
            return as_json(self._explain(request.match_info["channel"]))
        except LookupError:
            text = "there is no such channel, or it has no such instrument"
            raise web.HTTPNotFound(text=text) from None

    async def _openapi(self, request: web.Request) -> web.Response:
        del request
        return as_json(documents.openapi())

    async def _asyncapi(self, request: web.Request) -> web.Response:
        host = request.headers.get(hdrs.HOST, "")
        known = host if host_name(host) and host.isascii() else ""
        return as_json(documents.asyncapi(known, "wss" if request.secure else "ws"))

    async def _client(self, request: web.Request) -> web.Response:
        del request
        # A page from anywhere may import it; who may connect is another question.
        headers = {
            hdrs.CONTENT_TYPE: "text/javascript; charset=utf-8",
            hdrs.CACHE_CONTROL: "no-cache",
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return web.Response(body=_client_script(), headers=headers)

    async def _metrics_page(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=await self._metrics(),
            headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"},
        )
