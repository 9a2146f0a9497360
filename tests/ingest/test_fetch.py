from __future__ import annotations

import asyncio
import gzip
import time

import pytest
from aiohttp import web

from aggregator.connector import Request
from aggregator.errors import PayloadError
from aggregator.ingest.failure import RateLimitedError, RefusedError, UpstreamError
from aggregator.ingest.fetch import get

REQUEST = Request("/quotes", {"symbols": '["A","B"]'}, {"x-key": "very-secret"})


async def fetch(session, venue, timeout_s=8.0, url=None, **more):
    return await get(
        session, url or venue.url + "/", REQUEST, venue="fake", timeout_s=timeout_s, **more
    )


async def test_good(session, venue):
    """The answer comes whole, with headers, and stamped when its last byte was in."""
    venue.answer = lambda _: web.Response(body="é".encode(), headers={"X-Used": "7"})
    seen = []
    before = time.time_ns() // 1000
    answer = await fetch(session, venue, observe=lambda headers: seen.append(headers["x-used"]))

    assert (answer.status, answer.body) == (200, "é".encode())
    assert before <= answer.received_us <= time.time_ns() // 1000
    assert seen == ["7"]
    [request] = venue.requests
    assert request.path == "/quotes"
    assert request.query == {"symbols": '["A","B"]'}
    assert request.headers["x-key"] == "very-secret"


async def test_compressed(session, venue):
    """A compressed answer is unpacked."""
    body = gzip.compress(b"[1]")
    venue.answer = lambda _: web.Response(body=body, headers={"Content-Encoding": "gzip"})

    assert (await fetch(session, venue)).body == b"[1]"


async def test_other_status_is_passed_on(session, venue):
    """What only the connector understands comes back as it is."""
    venue.answer = lambda _: web.Response(status=400, body=b'{"code":-1121}')
    answer = await fetch(session, venue)

    assert (answer.status, answer.body) == (400, b'{"code":-1121}')


async def test_redirects_are_not_followed(session, venue):
    """A key in a header does not go where a redirect points."""
    venue.answer = lambda _: web.Response(status=302, headers={"Location": "/elsewhere?k=secret"})

    with pytest.raises(RefusedError, match=r"moved to /elsewhere$"):
        await fetch(session, venue)
    assert len(venue.requests) == 1


async def test_rate_limited_observes_headers(session, venue):
    """The headers of a refusal are observed as well, and Retry-After is kept to the second."""
    venue.answer = lambda _: web.Response(status=429, headers={"Retry-After": "35"})
    seen = []

    with pytest.raises(RateLimitedError) as caught:
        await fetch(session, venue, observe=seen.append)
    assert caught.value.retry_after_s == 35
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"\xef\xbb\xbf{}", "byte order mark"), (b'{"a":"\xff"}', "no UTF-8, at byte 6")],
)
async def test_no_text(session, venue, body, text):
    """A body that is no plain UTF-8 is unreadable."""
    venue.answer = lambda _: web.Response(body=body)

    with pytest.raises(PayloadError, match=text):
        await fetch(session, venue)


@pytest.mark.parametrize("announced", [True, False])
async def test_too_large(session, venue, announced):
    """A body over the limit is given up, whether its size was announced or not."""

    async def answer(request):
        response = web.StreamResponse()
        if announced:
            response.content_length = 2000
        await response.prepare(request)
        for _ in range(2):
            await response.write(b"x" * 1000)
        await response.write_eof()
        return response

    venue.answer = answer

    with pytest.raises(PayloadError, match="larger than 1,500 bytes"):
        await fetch(session, venue, max_bytes=1500)
    assert (await fetch(session, venue, max_bytes=2000)).body == b"x" * 2000


async def test_slow_body(session, venue):
    """The deadline is for the whole answer, not for each read; its text has no secrets."""
    release = asyncio.Event()

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"[")
        await release.wait()
        return response

    venue.answer = answer
    with pytest.raises(UpstreamError, match=r"^no answer within 0.05 s$") as caught:
        await fetch(session, venue, timeout_s=0.05)
    release.set()
    assert caught.value.kind == "timeout"


async def test_nobody_there(session, unused_tcp_port):
    """A host that refuses the connection is an error without the address's query."""
    url = f"http://127.0.0.1:{unused_tcp_port}"

    with pytest.raises(UpstreamError, match=r"^can't connect: ") as caught:
        await fetch(session, None, url=url)
    assert caught.value.kind == "connection"
    assert caught.value.__cause__ is None


async def test_cut_off(session, venue):
    """A body that breaks off is an error, not a shorter body."""

    async def answer(request):
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"[")
        request.transport.abort()
        return response

    venue.answer = answer
    with pytest.raises(UpstreamError):
        await fetch(session, venue)
