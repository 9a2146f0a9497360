"""The answers of HTTP: JSON, errors included, in the shape that docs/protocol.md names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import hdrs, web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    426: "upgrade_required",
    429: "rate_limited",
}
"""What the errors are called that aiohttp raises, or that are raised as it does."""


def as_json(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Return an answer with this content, which no cache keeps."""
    return web.Response(
        body=orjson.dumps(content),
        status=status,
        headers={hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"}
        | (headers or {}),
    )


def as_error(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    """Return an error; `code` is for programs, `message` for people."""
    return as_json({"type": "error", "code": code, "message": message}, status, headers)


async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give every error that a handler raises the shape of an answer."""
    try:
        return await handler(request)
    except web.HTTPException as e:
        if e.status < 400:
            raise
        code = CODES.get(e.status, "bad_request")
        kept = (
            hdrs.ALLOW,
            hdrs.RETRY_AFTER,
            hdrs.SEC_WEBSOCKET_VERSION,
            hdrs.UPGRADE,
            hdrs.WWW_AUTHENTICATE,
        )
        headers = {str(name): e.headers[name] for name in kept if name in e.headers}
        return as_error(e.status, code, (e.text or e.reason).strip(), headers)
    except TimeoutError:
        return as_error(408, "timeout", "the body did not arrive in time")
    except (web.RequestPayloadError, ConnectionError):
        return as_error(400, "bad_request", "the body is incomplete, or not encoded as announced")
