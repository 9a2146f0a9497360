import re

import pytest

from aggregator.simulator import Simulator


@pytest.fixture
def get(simulator, client):
    async def run(path, status=200, **query):
        async with client.get(f"{simulator.coingecko_url}/{path}", params=query) as response:
            assert response.status == status, await response.text()
            run.headers = response.headers
            run.text = await response.text()
            return await response.json()

    return run


async def test_markets_have_the_recorded_fields(get, recorded):
    """Every field of a recorded row is there and no other; types mix as in the recording."""
    real = recorded("coingecko/http/coins-markets-57-coins-2022-01-06.json")
    made = await get("coins/markets", vs_currency="usd", per_page="250")
    assert set(made[0]) == set(real[0])
    assert len(made) >= 120
    for key in ("current_price", "market_cap_rank", "max_supply", "roi"):
        mixed = {type(row[key]) for row in made}
        assert {type(row[key]) for row in real} <= mixed | {int}, key


async def test_markets_are_hard_to_read_in_the_real_ways(get):
    """Nulls, integers beside floats, exponents, and symbols that occur twice."""
    rows = await get("coins/markets", vs_currency="usd", per_page="250")
    assert {type(row["current_price"]) for row in rows} == {int, float, type(None)}
    assert re.search(r"\d[eE]-\d+", get.text)
    symbols = [row["symbol"] for row in rows]
    assert len(set(symbols)) < len(symbols)
    assert all(re.fullmatch(r"[\d-]+T[\d:]+\.\d{3}Z", row["last_updated"]) for row in rows)


async def test_markets_pages_ids_and_currencies(get):
    """Pages do not overlap, ids choose (unknown ones silently not), currencies convert."""
    first = await get("coins/markets", vs_currency="usd", per_page="10")
    second = await get("coins/markets", vs_currency="usd", per_page="10", page="2")
    assert [row["market_cap_rank"] for row in first + second] == list(range(1, 21))
    chosen = await get("coins/markets", vs_currency="btc", ids="ethereum,bitcoin,nope")
    assert {row["id"] for row in chosen} == {"bitcoin", "ethereum"}
    assert chosen[0]["current_price"] == pytest.approx(1.0)
    await get("coins/markets", 422)
    await get("coins/markets", 422, vs_currency="nope")
    await get("coins/markets", 422, vs_currency="usd", page="x")


async def test_global(get, recorded):
    """The fields are the recorded ones, and a total has an exponent."""
    real = recorded("coingecko/http/doc-global.json")
    made = await get("global")
    assert set(made["data"]) == set(real["data"])
    assert re.search(r'"total_market_cap":\{[^}]*\d\.\d+e\+\d\d', get.text)
    assert made["data"]["updated_at"] > 1_700_000_000


async def test_trending(get, recorded):
    """Fifteen coins with the recorded fields; capitalisation is text with a dollar sign."""
    real = recorded("coingecko/http/search-trending-with-nfts-categories.json")
    made = await get("search/trending")
    assert set(made) == set(real)
    item, real_item = made["coins"][0]["item"], real["coins"][0]["item"]
    assert set(item) == set(real_item)
    assert set(item["data"]) == set(real_item["data"])
    assert item["data"]["market_cap"].startswith("$")
    assert len(made["coins"]) == 15


async def test_simple_price_and_ping(get):
    """Prices by id and currency, with what was asked for besides."""
    body = await get(
        "simple/price",
        ids="bitcoin,nope",
        vs_currencies="usd,eur",
        include_market_cap="true",
        include_24hr_vol="true",
        include_24hr_change="true",
        include_last_updated_at="true",
    )
    assert set(body) == {"bitcoin"}
    fields = {f"{ccy}{what}" for ccy in ("usd", "eur") for what in ("", "_market_cap")}
    assert fields | {"usd_24h_vol", "usd_24h_change", "last_updated_at"} <= set(body["bitcoin"])
    await get("simple/price", 422, ids="bitcoin")
    assert await get("ping") == {"gecko_says": "(V3) To the Moon!"}


async def test_answers_come_from_a_cache(simulator, get):
    """Within the time in Cache-Control the body stays the same, whatever the market does."""
    before = await get("simple/price", ids="bitcoin", vs_currencies="usd")
    assert get.headers["CF-Cache-Status"] == "MISS"
    simulator.tick(200)
    assert await get("simple/price", ids="bitcoin", vs_currencies="usd") == before
    assert get.headers["CF-Cache-Status"] == "HIT"
    assert get.headers["Cache-Control"] == "public, max-age=5"
    assert get.headers["Age"].isdigit()


async def test_without_a_cache_prices_move(client):
    """`cache_s=0` makes every answer fresh."""
    async with Simulator(ticks_per_s=0, cache_s=0) as simulator:
        url = f"{simulator.coingecko_url}/simple/price?ids=bitcoin&vs_currencies=usd"
        seen = set()
        for _ in range(2):
            async with client.get(url) as response:
                seen.add(await response.text())
            simulator.tick(200)
        assert len(seen) == 2


async def test_too_many_calls(client, recorded):
    """One call too many: 429, Retry-After, and the recorded body."""
    real = recorded("errors/coingecko-429-2022.json")
    async with Simulator(ticks_per_s=0, coingecko_calls_per_minute=1) as simulator:
        async with client.get(f"{simulator.coingecko_url}/ping") as response:
            assert response.status == 200
        async with client.get(f"{simulator.coingecko_url}/ping") as response:
            assert response.status == 429
            assert 1 <= int(response.headers["Retry-After"]) <= 61
            assert await response.json() == real


async def test_the_key_is_checked_if_one_is_required(client):
    """A wrong or missing key is 401 with code 10002, the right one passes."""
    async with Simulator(ticks_per_s=0, coingecko_api_key="CG-1") as simulator:
        url = f"{simulator.coingecko_url}/ping"
        for headers, status in (({}, 401), ({"x-cg-demo-api-key": "x"}, 401)):
            async with client.get(url, headers=headers) as response:
                assert response.status == status
                assert (await response.json())["status"]["error_code"] == 10002
        async with client.get(url, headers={"x-cg-demo-api-key": "CG-1"}) as response:
            assert response.status == 200
