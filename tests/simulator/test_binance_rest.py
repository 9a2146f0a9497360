import re

import pytest

from aggregator.simulator import Simulator
from aggregator.simulator.limits import WeightMeter

EIGHT = re.compile(r"-?\d+\.\d{8}")


@pytest.fixture
def get(simulator, client):
    async def run(path, status=200, **query):
        url = f"{simulator.binance_url}/api/v3/{path}"
        async with client.get(url, params=query) as response:
            assert response.status == status, await response.text()
            run.headers = response.headers
            return await response.json()

    return run


async def test_price_in_its_three_forms(get):
    """One symbol gives an object, several and none an array, all as text of eight decimals."""
    one = await get("ticker/price", symbol="BTCUSDT")
    assert set(one) == {"symbol", "price"}
    assert EIGHT.fullmatch(one["price"])
    several = await get("ticker/price", symbols='["ETHUSDT","BTCUSDT"]')
    assert [row["symbol"] for row in several] == ["ETHUSDT", "BTCUSDT"]
    assert one in await get("ticker/price")


@pytest.mark.parametrize(
    ("path", "query", "recording"),
    [
        ("ticker/24hr", {"symbol": "BTCUSDT"}, "fixture-gct-ticker-24hr-BTCUSDT"),
        ("ticker/price", {"symbol": "BTCUSDT"}, "fixture-ticker-price"),
        ("depth", {"symbol": "BTCUSDT"}, "depth-BTCUSDT-2024-08-08-hft"),
    ],
)
async def test_same_fields_as_recorded(get, recorded, path, query, recording):
    """Every field of the recording is there, with the same type, and no other."""
    real = recorded(f"binance/http/{recording}.json")
    made = await get(path, **query)
    assert {key: type(value) for key, value in made.items()} == {
        key: type(value) for key, value in real.items()
    }


async def test_exchange_info_has_what_was_recorded(get, recorded):
    """Every field of a recorded symbol exists; ours has more, since the venue added some."""
    real = recorded("binance/http/exchangeInfo-2019-01-29.json")
    made = await get("exchangeInfo")
    assert set(real) <= set(made)
    assert set(real["symbols"][0]) <= set(made["symbols"][0])
    assert {row["status"] for row in made["symbols"]} == {"TRADING", "BREAK"}
    assert made["rateLimits"][0]["limit"] == 6000
    hidden = await get("exchangeInfo", symbol="BTCUSDT", showPermissionSets="false")
    assert [row["permissionSets"] for row in hidden["symbols"]] == [[]]


async def test_mini_and_book_ticker(get):
    """MINI leaves out the quotes; bookTicker has no time; a halted symbol has no quotes."""
    mini = await get("ticker/24hr", symbol="BTCUSDT", type="MINI")
    assert "bidPrice" not in mini
    assert mini["closeTime"] - mini["openTime"] == 86_400_000
    book = await get("ticker/bookTicker", symbol="WAVESUSDT")
    assert book == {
        "symbol": "WAVESUSDT",
        "bidPrice": "0.00000000",
        "bidQty": "0.00000000",
        "askPrice": "0.00000000",
        "askQty": "0.00000000",
    }
    assert len(await get("ticker/bookTicker")) == len(await get("ticker/price"))


async def test_ping_time_and_microseconds(simulator, client, get):
    """Ping is an empty object; the time comes in microseconds to who asks for them."""
    assert await get("ping") == {}
    milliseconds = (await get("time"))["serverTime"]
    headers = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    async with client.get(f"{simulator.binance_url}/api/v3/time", headers=headers) as response:
        assert (await response.json())["serverTime"] // 1000 >= milliseconds


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("ticker/price", {"symbol": "NOPE"}, -1121),
        ("ticker/price", {"symbols": '["BTCUSDT","NOPE"]'}, -1121),
        ("ticker/price", {"symbol": "btcusdt"}, -1100),
        ("ticker/price", {"symbols": "BTCUSDT"}, -1100),
        ("ticker/price", {"symbols": '["BTCUSDT", "ETHUSDT"]'}, -1100),
        ("ticker/price", {"symbols": '["BTCUSDT","BTCUSDT"]'}, -1151),
        ("ticker/price", {"symbol": ""}, -1105),
        ("ticker/price", {"symbols": "[]"}, -1105),
        ("ticker/price", {"symbol": "BTCUSDT", "symbols": '["BTCUSDT"]'}, -1128),
        ("ticker/price", {"nonsense": "1"}, -1104),
        ("ticker/24hr", {"symbol": "BTCUSDT", "type": "HALF"}, -1130),
        ("depth", {"symbol": "BTCUSDT", "limit": "many"}, -1100),
        ("depth", {"symbol": "BTCUSDT", "limit": "0"}, -1130),
        ("depth", {}, -1102),
        ("exchangeInfo", {"showPermissionSets": "perhaps"}, -1100),
    ],
)
async def test_refusals(get, path, query, code):
    """What the venue refuses is refused: HTTP 400 and its code."""
    body = await get(path, 400, **query)
    assert set(body) == {"code", "msg"}
    assert body["code"] == code


async def test_invalid_symbol_word_for_word(get, recorded):
    """The body for an unknown symbol is the recorded one."""
    assert await get("ticker/24hr", 400, symbol="NOPE") == recorded(
        "errors/binance-400-1121-invalid-symbol.json"
    )


async def test_a_symbol_outside_ascii(get):
    """The venue lists names in other alphabets, and they work like any other."""
    assert (await get("ticker/price", symbol="币安人生USDT"))["symbol"] == "币安人生USDT"


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("ping", {}, 1),
        ("ticker/price", {"symbol": "BTCUSDT"}, 2),
        ("ticker/price", {"symbols": '["BTCUSDT"]'}, 4),
        ("ticker/price", {}, 4),
        ("ticker/bookTicker", {"symbol": "BTCUSDT"}, 2),
        ("ticker/bookTicker", {}, 4),
        ("ticker/24hr", {"symbol": "BTCUSDT"}, 2),
        ("ticker/24hr", {"symbols": '["BTCUSDT","ETHUSDT"]'}, 2),
        ("ticker/24hr", {}, 80),
        ("depth", {"symbol": "BTCUSDT"}, 5),
        ("depth", {"symbol": "BTCUSDT", "limit": "101"}, 25),
        ("depth", {"symbol": "BTCUSDT", "limit": "1000"}, 50),
        ("depth", {"symbol": "BTCUSDT", "limit": "9999"}, 250),
        ("exchangeInfo", {}, 20),
        ("trades", {"symbol": "BTCUSDT"}, 25),
        ("historicalTrades", {"symbol": "BTCUSDT", "fromId": "1"}, 25),
    ],
)
async def test_weights(get, path, query, weight):
    """Each request costs what the venue documents, and says so in both headers."""
    await get(path, **query)
    assert get.headers["X-MBX-USED-WEIGHT"] == str(weight)
    assert get.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


async def test_many_symbols_weigh_more(client):
    """From 21 symbols on a day ticker costs 40, from 101 on 80."""
    async with Simulator(ticks_per_s=0, extra_instruments=120) as simulator:
        symbols = [f"X{number:04d}USDT" for number in range(1, 121)]
        for count, weight in ((20, "2"), (21, "42"), (101, "122")):
            wanted = '["' + '","'.join(symbols[:count]) + '"]'
            url = f"{simulator.binance_url}/api/v3/ticker/24hr"
            async with client.get(url, params={"symbols": wanted}) as response:
                assert response.headers["X-MBX-USED-WEIGHT-1M"] == weight


async def test_over_the_limit_429_then_418(client):
    """Over the budget 429 with Retry-After; who goes on calling is banned."""
    options = {"binance_weight_limit": 10, "binance_ban_after": 1}
    async with Simulator(ticks_per_s=0, **options) as simulator:
        url = f"{simulator.binance_url}/api/v3/depth?symbol=BTCUSDT&limit=500"
        answers = []
        for _ in range(2):
            async with client.get(url) as response:
                assert int(response.headers["Retry-After"]) >= 1
                assert "X-MBX-USED-WEIGHT-1M" in response.headers
                body = await response.json()
                answers.append((response.status, body["code"]))
        assert answers == [(429, -1003), (418, -1003)]
        assert "IP banned until" in body["msg"]


def test_the_meter_over_time():
    """A new minute forgives a 429, a ban lasts its time and no longer."""
    now = 60.0
    meter = WeightMeter(10, ban_after=1, ban_s=120, wall=lambda: now)
    assert meter.charge(10).status == 200
    assert meter.charge(1).retry_after_s == 60
    now = 120.0
    assert [meter.charge(w).status for w in (10, 1, 1)] == [200, 429, 418]
    now = 230.0
    assert meter.charge(1).retry_after_s == 10
    now = 240.0
    assert meter.charge(1).status == 200


async def test_trades_are_those_of_the_stream(simulator, client, get):
    """REST tells the trades that the stream told, the newest, or from a number on."""
    async with client.ws_connect(f"{simulator.binance_ws_url}/ws/btcusdt@trade") as socket:
        simulator.tick(30)
        recent = simulator.market.by_symbol["BTCUSDT"].recent
        told = []
        while not told or told[-1]["t"] < recent[-1].trade_id:
            told.append(await socket.receive_json())
    names = {"t": "id", "p": "price", "q": "qty", "T": "time", "m": "isBuyerMaker"}
    expected = [{there: row[here] for here, there in names.items()} for row in told]

    def shown(rows):
        return [{key: row[key] for key in names.values()} for row in rows]

    assert shown(await get("trades", symbol="BTCUSDT"))[-len(told) :] == expected
    assert shown(await get("trades", symbol="BTCUSDT", limit="3")) == expected[-3:]
    since = str(told[5]["t"])
    rows = await get("historicalTrades", symbol="BTCUSDT", fromId=since, limit="4")
    assert shown(rows) == expected[5:9]
    for row in rows:
        assert float(row["quoteQty"]) == pytest.approx(float(row["price"]) * float(row["qty"]))
    assert await get("historicalTrades", symbol="BTCUSDT", fromId=str(told[-1]["t"] + 1)) == []


async def test_only_so_many_trades_are_kept(client):
    """What is older than the last `trades_kept` can't be had any more."""
    async with Simulator(ticks_per_s=0, trades_kept=5) as simulator:
        simulator.tick(30)
        newest = simulator.market.by_symbol["BTCUSDT"].trade_id
        url = f"{simulator.binance_url}/api/v3/historicalTrades?symbol=BTCUSDT&fromId=1"
        async with client.get(url) as response:
            rows = await response.json()
        assert [row["id"] for row in rows] == list(range(newest - 4, newest + 1))
