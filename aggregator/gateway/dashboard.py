"""The page for people: files of the package, as they are, under a policy that allows no more."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from aiohttp import hdrs, web

FOLDER = Path(__file__).parents[1] / "static" / "dashboard"
INDEX = "index.html"
TYPES = {
    "": "text/plain; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""By the end of a name; a file that ends otherwise is not served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'{sockets}; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9A-Fa-f:]+\](:[0-9]+)?")
"""What a `Host` may be to become a part of the policy."""


class File(NamedTuple):
    """What is sent, and the tag of it."""

    body: bytes
    content_type: str
    tag: str


@cache
def files() -> dict[str, File]:
    """Return the files by name; read once, so that no name leads anywhere else."""
    found = {}
    for path in FOLDER.rglob("*"):
        if path.is_file() and path.suffix in TYPES:
            body = path.read_bytes()
            tag = hashlib.sha256(body).hexdigest()[:16]
            found[path.relative_to(FOLDER).as_posix()] = File(body, TYPES[path.suffix], tag)
    return found


def policy(host: str) -> str:
    """Return the Content-Security-Policy of a page that was asked for by this `Host`."""
    # Not every browser counts the sockets of the same host as 'self'.
    sockets = f" ws://{host} wss://{host}" if HOST.fullmatch(host) else ""
    return POLICY.format(sockets=sockets)


def add_routes(router: web.UrlDispatcher) -> None:
    """Serve the page and its files."""
    router.add_get("/", _file)
    router.add_get("/dashboard/{file:.+}", _file)


async def _file(request: web.Request) -> web.StreamResponse:
    file = files().get(request.match_info.get("file", INDEX))
    if file is None:
        raise web.HTTPNotFound(text="the dashboard has no such file")
    headers = {
        hdrs.ETAG: f'"{file.tag}"',
        hdrs.CACHE_CONTROL: "no-cache",
        "Content-Security-Policy": policy(request.headers.get(hdrs.HOST, "")),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    if any(each.value in {file.tag, "*"} for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = file.content_type
    return web.Response(body=file.body, headers=headers)
