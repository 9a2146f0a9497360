"""Candles: what the trades of the walk come to, over REST and as streams, of both venues."""

from __future__ import annotations

from decimal import Decimal

import pytest

MINUTE_MS = 60_000
START_MS = 1_795_160_040_000


@pytest.fixture
def clock(simulator, monkeypatch):
    """Return a function that sets the market's clock; the walk begins anew at a full minute."""
    now = {"ms": START_MS}
    monkeypatch.setattr("aggregator.simulator.market._now_ms", lambda: now["ms"])
    for one in simulator.market:
        one.recent.clear()

    def advance(ms):
        now["ms"] += ms

    return advance


def trades(simulator, symbol="BTCUSDT"):
    """Return an instrument's trades by minute, oldest first."""
    minutes = {}
    for trade in simulator.market.by_symbol[symbol].recent:
        minutes.setdefault(trade.ms // MINUTE_MS * MINUTE_MS, []).append(trade)
    return minutes


def expected(one, minute, offset=0):
    """Return open, high, low, close and volume as numbers."""
    ticks = [trade.ticks + offset for trade in minute]
    prices = (ticks[0], max(ticks), min(ticks), ticks[-1])
    volume = Decimal(sum(trade.lots for trade in minute)).scaleb(-one.lot_decimals)
    return [*(Decimal(t).scaleb(-one.decimals) for t in prices), volume]


def walk(simulator, advance, minutes, ticks=10):
    for _ in range(minutes):
        simulator.tick(ticks)
        advance(MINUTE_MS)


async def get(client, url, **params):
    async with client.get(url, params=params) as answer:
        return answer.status, await answer.json()


async def test_klines(simulator, client, clock):
    """Each row is what its minute's trades come to, in Binance's form; the newest is the last."""
    walk(simulator, clock, 3)
    url = f"{simulator.binance_url}/api/v3/klines"
    _, rows = await get(client, url, symbol="BTCUSDT", interval="1m")
    one, minutes = simulator.market.by_symbol["BTCUSDT"], trades(simulator)
    assert [row[0] for row in rows] == [START_MS + n * MINUTE_MS for n in range(3)] == [*minutes]
    for row, minute in zip(rows, minutes.values(), strict=True):
        assert [Decimal(text) for text in row[1:6]] == expected(one, minute)
        assert all(len(text.partition(".")[2]) == 8 for text in row[1:6])
        assert row[6] == row[0] + MINUTE_MS - 1
        turnover = sum(t.ticks * t.lots for t in minute)
        assert Decimal(row[7]) == Decimal(turnover).scaleb(-one.decimals - one.lot_decimals)
        assert (row[8], row[11]) == (len(minute), "0")
        bought = sum(t.lots for t in minute if not t.buyer_is_maker)
        assert Decimal(row[9]) == Decimal(bought).scaleb(-one.lot_decimals)


async def test_klines_in_part(simulator, client, clock):
    """`limit` cuts the oldest, from `startTime` on the newest; an unknown interval is refused."""
    walk(simulator, clock, 4)
    url = f"{simulator.binance_url}/api/v3/klines"
    starts = [START_MS + n * MINUTE_MS for n in range(4)]
    wanted = {"symbol": "BTCUSDT", "interval": "1m"}
    for params, rows in (
        ({"limit": 2}, starts[2:]),
        ({"startTime": starts[1]}, starts[1:]),
        ({"startTime": starts[1], "limit": 2}, starts[1:3]),
        ({"startTime": starts[1], "endTime": starts[2]}, starts[1:3]),
    ):
        _, found = await get(client, url, **wanted, **params)
        assert [row[0] for row in found] == rows
    assert await get(client, url, symbol="BTCUSDT", interval="7m") == (
        400,
        {"code": -1120, "msg": "Invalid interval."},
    )


async def test_a_stream_of_klines(simulator, client, clock):
    """The present candle comes when it is due; how it ended comes as soon as there is another."""
    url = f"{simulator.binance_ws_url}/ws/btcusdt@kline_1m"
    one = simulator.market.by_symbol["BTCUSDT"]
    async with client.ws_connect(url) as socket:
        walk(simulator, clock, 1)
        while len(trades(simulator)) < 2:
            simulator.tick()
        events = [await socket.receive_json()]
        while events[-1]["k"]["t"] == START_MS:
            events.append(await socket.receive_json())
    first, second = trades(simulator).values()
    *_, ended, present = events
    assert [(e["e"], e["s"], e["k"]["i"]) for e in events[:1]] == [("kline", "BTCUSDT", "1m")]
    assert [e["k"]["x"] for e in (ended, present)] == [True, False]
    for event, minute in ((ended, first), (present, second)):
        texts = [event["k"][letter] for letter in "ohlcv"]
        assert [Decimal(text) for text in texts] == expected(one, minute)
        ids = (minute[0].trade_id, minute[-1].trade_id)
        assert (event["k"]["f"], event["k"]["L"]) == ids


async def test_a_stream_of_an_unknown_interval_is_silent(simulator, client):
    """It is acknowledged, as every name is."""
    async with client.ws_connect(f"{simulator.binance_ws_url}/ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@kline_7m"], "id": 1})
        assert await socket.receive_json() == {"result": None, "id": 1}
        simulator.tick(5)
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert (await socket.receive_json())["id"] == 2


async def test_candles_of_okx(simulator, client, clock):
    """Newest first, without trailing zeros, with a mark for what is over."""
    walk(simulator, clock, 3)
    url = f"{simulator.okx_rest_url}/api/v5/market/candles"
    _, answer = await get(client, url, instId="BTC-USDT", bar="1m")
    one, minutes = simulator.market.by_symbol["BTCUSDT"], trades(simulator)
    rows = answer["data"]
    assert [int(row[0]) for row in rows] == [*reversed(minutes)]
    assert [row[8] for row in rows] == ["0", "1", "1"]
    for row, minute in zip(reversed(rows), minutes.values(), strict=True):
        assert [Decimal(text) for text in row[1:6]] == expected(one, minute, one.okx_offset)
    bounds = {"after": START_MS + 2 * MINUTE_MS, "before": START_MS}
    _, answer = await get(client, url, instId="BTC-USDT", bar="1m", **bounds)
    assert [int(row[0]) for row in answer["data"]] == [START_MS + MINUTE_MS]
    assert (await get(client, url, instId="BTC-USDT", bar="1h"))[1]["code"] == "51000"


async def test_candles_of_okx_as_a_channel(simulator, client, clock):
    """At an address of their own; the first message is the present candle."""
    one = simulator.market.by_symbol["BTCUSDT"]
    simulator.tick(3)
    url = simulator.okx_url.replace("/public", "/business")
    async with client.ws_connect(url) as socket:
        arg = {"channel": "candle1m", "instId": "BTC-USDT"}
        await socket.send_json({"op": "subscribe", "args": [arg]})
        assert (await socket.receive_json())["event"] == "subscribe"
        first = await socket.receive_json()
        clock(MINUTE_MS)
        last = one.trade_id
        while one.trade_id == last:
            simulator.tick()
        ended, present = await socket.receive_json(), await socket.receive_json()
        await socket.send_json({"op": "subscribe", "args": [arg | {"channel": "tickers"}]})
        assert (await socket.receive_json())["code"] == "60018"
    assert first["arg"] == arg
    assert [m["data"][0][8] for m in (first, ended, present)] == ["0", "1", "0"]
    minutes = [*trades(simulator).values()]
    for message, minute in ((first, minutes[0]), (ended, minutes[0]), (present, minutes[1])):
        texts = message["data"][0][1:6]
        assert [Decimal(text) for text in texts] == expected(one, minute, one.okx_offset)
