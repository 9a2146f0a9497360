"""
The HTTP side: routes, who may connect, and what operators ask.

Everything that is refused before the handshake is refused here; what a session does afterwards is
in `session`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from aggregator.config import Server as ServerConfig
from aggregator.hub import Hub

from . import extensions, fallback, handoff
from .http_log import HttpLog
from .origin import host_name, is_loopback, origin_allowed
from .sessions import Sessions

log = logging.getLogger(__name__)

BODY_TIMEOUT_S = 10.0
"""For the body of a `POST`; aiohttp itself would wait for ever."""
KEEP_ALIVE_S = 15.0
"""For the next request, and for the headers of the first one."""
BACKLOG = 4096
"""Connections that the kernel accepts while the loop is busy."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class TestBroadcast(BaseModel):
    """The body of `POST /ws/test`."""

    __test__ = False  # it is no test, whatever its name
    model_config = ConfigDict(extra="forbid")

    message: Annotated[StrictStr, Field(min_length=1)]


class Server:
    """
    Serves clients and operators.

    Args:
        hub: what the channels are.
        sessions: where clients go after the handshake.
        config: `[server]`.
        channels: returns what `GET /channels` shows.
        unready: returns the feeds that are not live, with the reason of each.
        metrics: returns the text of `GET /metrics`.

    """

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        config: ServerConfig,
        *,
        channels: Callable[[], list[dict[str, object]]],
        unready: Callable[[], list[dict[str, object]]],
        metrics: Callable[[], bytes],
    ) -> None:
        self._hub = hub
        self._sessions = sessions
        self._config = config
        self._channels = channels
        self._unready = unready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self.port = config.port
        self.takes_over = handoff.possible()
        """Whether connections are taken over from aiohttp, or served by `fallback`."""

    async def start(self) -> None:
        """
        Listen.

        Raises:
            OSError: the address can't be had.

        """
        if not self.takes_over:
            fallback.warn()
        app = web.Application(
            middlewares=[self._errors_as_json], client_max_size=self._config.max_frame_bytes
        )
        app.router.add_get("/ws", self._long_form, allow_head=False)
        app.router.add_get("/ws/ticker", self._short_form, allow_head=False)
        app.router.add_post("/ws/test", self._test)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/channels", self._list_channels)
        app.router.add_get("/metrics", self._metrics_page)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,
            logger=HttpLog(log, self._sessions.counters),
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=1.0,
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner,
            self._config.host,
            self._config.port,
            backlog=BACKLOG,
            reuse_address=True,
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    @property
    def http_connections(self) -> int:
        """Connections that are no WebSocket, or not yet: also those that say nothing."""
        server = self._runner.server if self._runner is not None else None
        connections = len(server.connections) if server is not None else 0
        # On the fallback aiohttp keeps those of the clients as well.
        return connections if self.takes_over else max(0, connections - len(self._sessions))

    async def stop(self) -> None:
        """Stop listening and end what is left of HTTP."""
        if self._runner is not None:
            await self._runner.cleanup()

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
        address = request.remote or ""
        if refusal := self._sessions.refusal(address):
            return _error(*refusal)
        if not self.takes_over:
            return await fallback.serve(request, self._sessions, address, short=short)
        offers = request.headers.getall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
        agreed = extensions.negotiate(offers) if self._config.compression else None
        bits, answer = agreed or extensions.NO_COMPRESSION
        session = self._sessions.create(address, short=short, deflate_bits=bits)
        try:
            transport, early = handoff.take_over(request, session, accept, answer)
        except ConnectionResetError:
            return handoff.HandedOver()  # the client has gone: nobody is left to answer
        self._sessions.add(session, transport, early)
        return handoff.HandedOver()

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get(hdrs.ORIGIN)
        # Not `request.host`: without the header it asks a name server, and all would wait.
        host = request.headers.get(hdrs.HOST, "")
        if not origin_allowed(origin, host, self._config.allowed_origins):
            self._sessions.counters.rejected["origin"] += 1
            raise web.HTTPForbidden(text="this origin is not allowed to connect")

    @web.middleware
    async def _errors_as_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await _as_json(request, handler)
        if response.status >= 400:
            self._sessions.counters.http_errors[response.status] += 1
        return response

    # Operators.

    async def _test(self, request: web.Request) -> web.Response:
        self._check_origin(request)
        self._check_operator(request)
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
        if hdrs.CONTENT_ENCODING in request.headers:
            raise web.HTTPUnsupportedMediaType(text="the body must not be compressed")
        async with asyncio.timeout(BODY_TIMEOUT_S):
            body = await request.read()
        try:
            text = TestBroadcast.model_validate_json(body).message
        except ValidationError as e:
            fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
            if fault["type"] == "json_invalid":
                return _error(400, "bad_json", "the body must be one JSON object")
            where = "message" if fault["loc"][:1] == ("message",) else "body"
            expected = 'the body must be {"message": "..."}'
            return _error(400, "bad_command", f"{where}: {fault['msg']}; {expected}")
        clients = self._sessions.broadcast(text)
        answer = {
            "type": "test_response",
            "message": "Broadcast to all connected clients",
            "timestamp": self._hub.now_iso(),
            "clients": clients,
        }
        return _json(answer)

    def _check_operator(self, request: web.Request) -> None:
        token = self._config.ops_token
        if token is None:
            # The name as well: a page elsewhere whose name leads here must not be an operator.
            named = host_name(request.headers.get(hdrs.HOST, ""))
            if not all(map(is_loopback, (self._config.host, request.remote or "", named))):
                raise web.HTTPForbidden(text="off loopback this needs server.ops_token to be set")
            return
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # As bytes: compare_digest takes no str that is not ASCII.
        wanted = token.get_secret_value().encode()
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), wanted)
        if scheme.lower() != "bearer" or not same:
            self._sessions.counters.rejected["ops_token"] += 1
            raise web.HTTPUnauthorized(
                text="Authorization: Bearer with the ops token is needed",
                headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
            )

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return _json({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        waiting = self._unready()
        status = "not ready" if waiting else "ready"
        return _json({"status": status, "feeds": waiting}, status=503 if waiting else 200)

    async def _list_channels(self, request: web.Request) -> web.Response:
        del request
        return _json({"channels": self._channels()})

    async def _metrics_page(self, request: web.Request) -> web.Response:
        del request
        return web.Response(
            body=self._metrics(),
            headers={hdrs.CONTENT_TYPE: "text/plain; version=0.0.4; charset=utf-8"},
        )


async def _as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every error the shape that docs/protocol.md names."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        if e.status < 400:
            raise
        code = _CODES.get(e.status, "bad_request")
        kept = (hdrs.ALLOW, hdrs.UPGRADE, hdrs.SEC_WEBSOCKET_VERSION, hdrs.WWW_AUTHENTICATE)
        headers = {str(name): e.headers[name] for name in kept if name in e.headers}
        return _error(e.status, code, (e.text or e.reason).strip(), headers)
    except TimeoutError:
        return _error(408, "timeout", "the body did not arrive in time")
    except (web.RequestPayloadError, ConnectionError):
        return _error(400, "bad_request", "the body is incomplete, or not encoded as announced")


_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    426: "upgrade_required",
}


def _error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    return _json({"type": "error", "code": code, "message": message}, status, headers)


def _json(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
        | (headers or {}),
    )
