import asyncio

import aiohttp
import pytest

WEIGHTLESS = "/api/v3/ping"


@pytest.fixture
def get(simulator, client):
    async def run(path="/api/v3/ticker/price?symbol=BTCUSDT", base="binance_url"):
        async with client.get(getattr(simulator, base) + path) as response:
            return response.status, response.headers, await response.read()

    return run


async def test_http_bodies_that_are_wrong(simulator, get):
    """Cut, empty, HTML, marked or garbled: each body is broken in its own way, once."""
    _, _, good = await get()
    add = simulator.faults.add
    add(venue="binance", kind="truncate", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await get()
    add(venue="binance", kind="empty", count=1)
    assert (await get())[2] == b""
    add(venue="binance", kind="html", count=1)
    status, headers, page = await get()
    assert (status, headers["Content-Type"][:9]) == (200, "text/html")
    assert page.startswith(b"<!DOCTYPE html>")
    add(venue="binance", kind="bom", count=1)
    assert (await get())[2] == b"\xef\xbb\xbf" + good
    add(venue="binance", kind="garbage", count=1)
    assert (await get())[2] == b"<garbage>"
    add(venue="binance", kind="delay", seconds=0.01, count=1)
    assert (await get())[2] == good


@pytest.mark.parametrize(
    "case",
    [
        ("binance/api/v3/time", 429, "binance-429-documented"),
        ("binance/api/v3/time", 451, "binance-451-geo-block"),
        ("binance/api/v3/time", 418, "binance-418-ban-2026"),
        ("coingecko/api/v3/global", 429, "coingecko-429-2022"),
        ("okx/api/v5/public/time", 429, "okx-429-50011"),
    ],
)
async def test_a_status_brings_the_recorded_body(simulator, client, recorded, case):
    """A refused request has the venue's own body; Retry-After only when asked for."""
    path, status, recording = case
    venue = path.partition("/")[0]
    for extra in ({}, {"retry_after": 35}):
        simulator.faults.add(venue=venue, kind="status", status=status, count=1, **extra)
        async with client.get(f"http://127.0.0.1:{simulator.port}/{path}") as response:
            assert response.status == status
            assert response.headers.get("Retry-After") == ("35" if extra else None)
            assert await response.json() == recorded(f"errors/{recording}.json")


async def test_statuses_without_json(simulator, get):
    """403 and 5xx come as HTML from what stands in front; a body of one's own is kept."""
    add = simulator.faults.add
    for status in (403, 502, 503):
        add(venue="binance", kind="status", status=status, count=1)
        got, headers, page = await get()
        assert (got, headers["Content-Type"][:9]) == (status, "text/html")
        assert str(status).encode() in page
    add(venue="binance", kind="status", status=500, body='{"code":-1000}', count=1)
    assert (await get())[2] == b'{"code":-1000}'
    add(venue="okx", kind="status", status=200, count=1)
    assert b'"50011"' in (await get("/api/v5/public/time", "okx_rest_url"))[2]


async def test_a_fault_for_one_path_or_instrument(simulator, get):
    """Requests for another path or another instrument are served."""
    add = simulator.faults.add
    add(venue="binance", kind="status", status=500, path="/api/v3/depth")
    add(venue="binance", kind="status", status=502, instrument="ETH/USDT")
    assert (await get())[0] == 200
    assert (await get("/api/v3/depth?symbol=BTCUSDT"))[0] == 500
    assert (await get('/api/v3/ticker/price?symbols=["BTCUSDT","ETHUSDT"]'))[0] == 502
    assert (await get("/ping", "coingecko_url"))[0] == 200


async def test_refuse(simulator, client, get):
    """Requests and handshakes are cut off without an answer, until it is over."""
    simulator.faults.add(venue="*", kind="refuse")
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(WEIGHTLESS)
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.ws_connect(simulator.okx_url)
    simulator.faults.clear()
    assert (await get(WEIGHTLESS))[0] == 200


async def test_a_handshake_refused_with_a_status(simulator, client):
    """A status fault answers the handshake too."""
    simulator.faults.add(venue="okx", kind="status", status=503, count=1)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
        await client.ws_connect(simulator.okx_url)


async def test_halfopen_holds_requests(simulator, get):
    """A request gets no answer before the fault is over."""
    simulator.faults.add(venue="binance", kind="halfopen")
    arrived = asyncio.create_task(simulator.wait_for_request("binance", WEIGHTLESS))
    asked = asyncio.create_task(get(WEIGHTLESS))
    await arrived
    assert not asked.done()
    simulator.faults.clear()
    assert (await asked)[0] == 200
