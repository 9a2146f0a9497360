"""One HTTP GET: a deadline for the whole of it, a bound on its size, and what its status means."""

from __future__ import annotations

import asyncio
import codecs
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from aggregator import __version__
from aggregator.connector import Request
from aggregator.errors import PayloadError

from .failure import from_network, refusal

USER_AGENT = f"exchange-aggregator/{__version__}"
DNS_CACHE_S = 60
MAX_BODY_BYTES = 64 * 1024 * 1024
"""The largest answer; all of Binance's `exchangeInfo` is about 10 MB."""
NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""aiohttp's own timers are off: `asyncio.timeout` is around everything."""


def new_session(limit: int = 0) -> aiohttp.ClientSession:
    """
    Return what requests and sockets to venues are made with; its owner closes it.

    Args:
        limit: of connections at the same time; 0: none.

    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=limit, ttl_dns_cache=DNS_CACHE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        timeout=NO_TIMEOUT,
        trust_env=False,
        auto_decompress=True,
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """
    What came back: HTTP 200, or a status that only the connector understands.

    `body` is valid UTF-8. `received_us` is when its last byte was in, in microseconds since the
    epoch.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    received_us: int


async def get(
    session: aiohttp.ClientSession,
    base_url: str,
    request: Request,
    *,
    venue: str,
    timeout_s: float,
    observe: Callable[[Mapping[str, str]], None] = lambda _: None,
    max_bytes: int = MAX_BODY_BYTES,
) -> Answer:
    """
    Fetch one answer, whole, within `timeout_s` seconds.

    `observe` is called with the headers of every answer. May be cancelled at any time.

    Raises:
        UpstreamError: no answer came, or one that means the same at every venue.
        PayloadError: the body is too large, or no UTF-8.

    """
    url = URL(base_url.rstrip("/") + request.path)
    try:
        async with (
            asyncio.timeout(timeout_s),
            _send(session, url, request) as response,
        ):
            observe(response.headers)
            body = await _body(response, max_bytes)
    except (aiohttp.ClientError, OSError) as e:  # TimeoutError is one of OSError
        raise from_network(e, timeout_s) from None
    received_us = time.time_ns() // 1000
    if error := refusal(venue, response.status, response.headers, body):
        raise error
    _check_text(body)
    return Answer(response.status, response.headers, body, received_us)


def _send(
    session: aiohttp.ClientSession, url: URL, request: Request
) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
    return session.get(
        url,
        params=request.params,
        headers=request.headers,
        # A key in a header of ours would go along to whoever a redirect points at.
        allow_redirects=False,
        timeout=NO_TIMEOUT,
    )


async def _body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    size = response.content_length or 0
    chunks = []
    if size <= max_bytes:
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > max_bytes:
                break
            chunks.append(chunk)
    if size > max_bytes:
        # Not read to its end: the connection can't be used again.
        response.close()
        raise PayloadError(f"the answer is larger than {max_bytes:,} bytes")
    return b"".join(chunks)


def _check_text(body: bytes) -> None:
    if body.startswith(codecs.BOM_UTF8):
        raise PayloadError("the answer begins with a byte order mark")
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as e:
            raise PayloadError(f"the answer is no UTF-8, at byte {e.start}") from e
