"""The way from a venue's REST answer to a price, with the venue's answers made up."""

import re

import aiohttp
import pytest
from aiohttp import ClientConnectionError

from aggregator.connector import translate
from aggregator.errors import PayloadError
from aggregator.ingest import fetch
from aggregator.ingest.failure import RateLimitedError, UpstreamError
from connectors.coingecko import GeckoOptions, Global

URL = "https://api.coingecko.com/api/v3/global"
BODY = '{"data": {"total_market_cap": {"usd": 3512345678901.2300}, "updated_at": 1765211445}}'


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


async def get(session, **options):
    connector = Global(GeckoOptions(**options))
    [request] = connector.requests()
    base_url = connector.options.base_url
    answer = await fetch.get(session, base_url, request, venue="coingecko", timeout_s=5)
    return translate(lambda: connector.on_response(request, answer.body))


async def test_an_answer_becomes_a_price(venue_rest, session):
    """The digits of the venue arrive unchanged."""
    venue_rest.get(URL, body=BODY)
    [event] = await get(session)
    assert (event.instrument, event.price) == ("GLOBAL/USD", "3512345678901.2300")
    assert event.exchange_us == 1_765_211_445_000_000


async def test_a_key_goes_in_a_header(venue_rest, session):
    """Not in the address, where logs would show it."""
    venue_rest.get(URL, body=BODY)
    await get(session, api_key="k3y")
    [(method, url), [call]] = next(iter(venue_rest.requests.items()))
    assert (method, "k3y" in str(url)) == ("GET", False)
    assert call.kwargs["headers"] == {"x-cg-demo-api-key": "k3y"}


async def test_a_refusal_says_how_long_to_wait(venue_rest, session):
    """`Retry-After` is kept."""
    venue_rest.get(URL, status=429, headers={"Retry-After": "17"})
    with pytest.raises(RateLimitedError) as caught:
        await get(session)
    assert caught.value.retry_after_s >= 17


@pytest.mark.parametrize("error", [ClientConnectionError("no route"), TimeoutError(), OSError(5)])
async def test_no_answer_is_the_venues_failure(venue_rest, session, error):
    """Whatever the network does comes out as one kind of error."""
    venue_rest.get(URL, exception=error)
    with pytest.raises(UpstreamError):
        await get(session)


async def test_a_page_in_place_of_json_is_no_price(venue_rest, session):
    """A gateway's error page with HTTP 200 is an unreadable payload."""
    venue_rest.get(re.compile(".*"), body="<html>maintenance</html>", content_type="text/html")
    with pytest.raises(PayloadError):
        await get(session)
