"""What operators may do: speak to every client, and have a feed's connection replaced."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from typing import Annotated

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from aggregator.hub import Hub
from aggregator.publishing import ConflictError, Publisher
from aggregator.tokens import Role

from .answers import as_error, as_json
from .origin import host_name, is_loopback
from .proxies import is_forwarded
from .sessions import Sessions

BODY_TIMEOUT_S = 10.0
"""For the body of a `POST`; aiohttp itself would wait for ever."""

Rotate = Callable[[str], str]
"""
Has the connection of a feed replaced; returns why that can't be, or nothing.

Raises LookupError where there is no such feed.
"""


class TestBroadcast(BaseModel):
    """The body of `POST /ws/test`."""

    __test__ = False  # it is no test, whatever its name
    model_config = ConfigDict(extra="forbid")

    message: Annotated[StrictStr, Field(min_length=1)]


class Operators:
    """
    Answers who may give orders.

    Args:
        hub: knows the time.
        sessions: the clients.
        rotate: has the connection of a feed replaced.
        publisher: takes what others publish.

    """

    def __init__(
        self,
        hub: Hub,
        sessions: Sessions,
        rotate: Rotate,
        publisher: Publisher,
    ) -> None:
        self._hub = hub
        self._publisher = publisher
        self._sessions = sessions
        self._rotate = rotate

    async def test(self, request: web.Request) -> web.Response:
        """Send a message to every client."""
        self._check(request)
        body = await _json_body(request)
        try:
            text = TestBroadcast.model_validate_json(body).message
        except ValidationError as e:
            return _refusal(e, '; the body must be {"message": "..."}')
        clients = self._sessions.broadcast(text)
        answer = {
            "type": "test_response",
            "message": "Broadcast to all connected clients",
            "timestamp": self._hub.now_iso(),
            "clients": clients,
        }
        return as_json(answer)

    async def publish(self, request: web.Request) -> web.Response:
        """Publish an event of somebody's own engine."""
        self._check(request)
        body = await _json_body(request)
        try:
            channel, seq, duplicate = self._publisher.publish(body)
        except ValidationError as e:
            return _refusal(e)
        except ConflictError as e:
            return as_error(409, "conflict", str(e))
        answer = {
            "type": "publish_response",
            "channel": channel,
            "seq": seq,
            "duplicate": duplicate,
            "timestamp": self._hub.now_iso(),
        }
        return as_json(answer)

    async def rotate(self, request: web.Request) -> web.Response:
        """Have the connection of a feed replaced."""
        self._check(request)
        feed = request.match_info["name"]
        try:
            problem = self._rotate(feed)
        except LookupError:
            raise web.HTTPNotFound(text="there is no such feed") from None
        if problem:
            raise web.HTTPConflict(text=problem)
        answer = {
            "type": "rotate_response",
            "message": "A second connection is being opened",
            "timestamp": self._hub.now_iso(),
            "feed": feed,
        }
        return as_json(answer, status=202)

    def _check(self, request: web.Request) -> None:
        token, access = self._sessions.config.ops_token, self._sessions.access
        if token is None and access.keyring:
            access.require(request, Role.OPS)
            return
        if token is None:
            # The name as well: a page elsewhere whose name leads here must not be an operator.
            named = host_name(request.headers.get(hdrs.HOST, ""))
            hosts = (self._sessions.config.host, request.remote or "", named)
            # Nor somebody whom a proxy here passes on.
            if is_forwarded(request.headers) or not all(map(is_loopback, hosts)):
                raise web.HTTPForbidden(text="off loopback this needs server.ops_token to be set")
            return
        scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        # As bytes: compare_digest takes no str that is not ASCII.
        wanted = token.get_secret_value().encode()
        same = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), wanted)
        if scheme.lower() == "bearer" and same:
            return
        if access.keyring:
            access.require(request, Role.OPS)
            return
        self._sessions.counters.rejected["ops_token"] += 1
        if given:
            access.failed(request.remote or "")
        text = "Authorization: Bearer with the ops token is needed"
        raise access.refusal(request.remote or "", text)


async def _json_body(request: web.Request) -> bytes:
    """
    Return the body of a request.

    Raises:
        web.HTTPUnsupportedMediaType: it is not said to be plain JSON.
        TimeoutError: it did not come in time.

    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
    if hdrs.CONTENT_ENCODING in request.headers:
        raise web.HTTPUnsupportedMediaType(text="the body must not be compressed")
    async with asyncio.timeout(BODY_TIMEOUT_S):
        return await request.read()


def _refusal(e: ValidationError, expected: str = "") -> web.Response:
    """Return what is wrong with a body; what was sent is not echoed."""
    fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
    if fault["type"] == "json_invalid":
        return as_error(400, "bad_json", "the body must be one JSON object")
    if fault["type"] == "union_tag_invalid":
        return as_error(400, "bad_command", "type: nothing of that kind can be published")
    named = fault["type"] != "extra_forbidden"
    place = ".".join(str(key) for key in fault["loc"]) if named else ""
    return as_error(400, "bad_command", f"{place or 'body'}: {fault['msg']}{expected}")
