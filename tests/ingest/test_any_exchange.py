"""The connectors by ccxt at simulated venues: its okx and its binance, over real sockets."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ingest.ccxt_feeds import running, section, watched

from aggregator.model import State
from aggregator.simulator import Simulator, binance_shapes, okx_shapes

pytest.importorskip("ccxt.pro", reason="ccxt is not installed: pip install '.[ccxt]'")

KINDS = ("ticker", "trades", "book", "ohlcv")
BOTH = ("okx", "binance")
TYPES = {
    "ticker": "price_update",
    "trades": "trade_executed",
    "book": "orderbook_update",
    "ohlcv": "candle",
}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0, binance_weight_limit=10**9) as simulator:
        yield simulator


@pytest.fixture
async def still():
    """Yield a simulator that moves when it is told to."""
    async with Simulator(seed=7, ticks_per_s=0.0, binance_weight_limit=10**9) as simulator:
        yield simulator


# The four kinds of data.


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("exchange", BOTH)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_both_ways(simulator, kind, exchange, mode):
    """Messages of the right type come, numbered without a hole, in the exchange's name."""
    given = section(simulator, exchange, mode=mode, instruments=["BTC/USDT", "ETH/USDT"])
    async with running(kind, given) as (ear, system, status):
        await ear.until(lambda: len({m["instrument"] for m in ear.messages}) == 2)
        await ear.until(lambda: len(ear.messages) > 3)
        assert status.state is State.LIVE
        assert status.counters.errors == {}
        # Trades come when there are any, however often they are asked for.
        assert status.polled == (mode == "poll" and kind != "trades")
    assert {m["type"] for m in ear.messages} == {TYPES[kind]}
    assert {m["exchange"] for m in ear.messages} == {exchange}
    assert [m["seq"] for m in ear.messages] == list(range(1, len(ear.messages) + 1))
    assert system.states == ["connecting", "live"]


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("exchange", BOTH)
async def test_digits_of_tickers(still, exchange, mode):
    """Prices, sizes and the venue's own row are those that the venue sent, digit for digit."""
    one = still.market.by_symbol["BTCUSDT"]
    given = section(still, exchange, mode=mode)
    async with running("ticker", given) as (ear, *_):
        if mode == "stream":
            await watched(still, exchange, "ticker")
            still.tick(20)
        await ear.until(lambda: ear.messages)
    text = ear.texts[-1]
    if exchange == "okx":
        row = okx_shapes.ticker(one)
        last, bid, ask, volume = (row[k] for k in ("last", "bidPx", "askPx", "vol24h"))
        assert "change_24h_pct" not in text  # ccxt would compute one
    else:
        row = binance_shapes.day(one, full=True, closed_ms=0)
        last, bid, ask, volume = (row[k] for k in ("lastPrice", "bidPrice", "askPrice", "volume"))
        assert f'"change_24h_pct":{row["priceChangePercent"]}' in text
    assert f'"price":{last},' in text
    assert f'"bid":{bid},"ask":{ask},"volume_24h":{volume}' in text
    assert f'"{last}"' in text.partition('"data":')[2]


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("exchange", BOTH)
async def test_digits_of_trades(still, exchange, mode):
    """Id, side, price, quantity, cost and time are the venue's."""
    one = still.market.by_symbol["BTCUSDT"]
    async with running("trades", section(still, exchange, mode=mode)) as (ear, *_):
        if mode == "stream":
            await watched(still, exchange, "trade")
            still.tick(20)
        newest = str(one.trade_id)
        await ear.until(lambda: ear.messages and ear.messages[-1]["data"]["id"] == newest)
    data, last = ear.messages[-1]["data"], one.recent[-1]
    if exchange == "okx":
        row = okx_shapes.trade(one, last)
        side, price, size = row["side"], row["px"], row["sz"]
    else:
        row = binance_shapes.trade(one, last)
        side, price, size = "sell" if row["m"] else "buy", row["p"], row["q"]
    assert (data["side"], data["price"], data["quantity"]) == (side, price, size)
    assert Decimal(data["cost"]) == Decimal(price) * Decimal(size)
    assert ear.messages[-1]["exchange_us"] == last.ms * 1000


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("exchange", BOTH)
async def test_digits_of_books(still, exchange, mode):
    """Each message has the best levels of the venue's book as it is, and the venue's sequence."""
    given = section(still, exchange, mode=mode, depth=7)
    async with running("book", given) as (ear, *_):
        if mode == "stream":
            await watched(still, exchange, "depth" if exchange == "binance" else "books")
            if exchange == "binance":
                await still.wait_for_request("binance", "/api/v3/depth")
                await ear.until(lambda: ear.messages)
            still.tick(30)
        one = still.market.by_symbol["BTCUSDT"]
        book = still._books[exchange == "okx"].of(one)
        shape = okx_shapes.levels if exchange == "okx" else binance_shapes.levels
        sides = [book.best_bids(7), book.best_asks(7)]
        bids, asks = ([list(level[:2]) for level in shape(side, one)] for side in sides)
        await ear.until(lambda: ear.messages and ear.messages[-1]["data"]["bids"] == bids)
    message = ear.messages[-1]
    assert (message["action"], message["data"]["asks"]) == ("snapshot", asks)
    if mode == "stream":
        assert message["data"]["sequence"] == book.last_id
    assert {m["action"] for m in ear.messages} == {"snapshot"}


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("exchange", BOTH)
async def test_candles(still, exchange, mode, monkeypatch):
    """A candle comes as it stands, and once more, as closed, when the next one has begun."""
    minute_ms = 60_000
    now_ms = 1_795_160_040_000
    monkeypatch.setattr("aggregator.simulator.market._now_ms", lambda: now_ms)
    still.market.candles._series.clear()
    one = still.market.by_symbol["BTCUSDT"]
    one.recent.clear()
    still.tick(3)
    async with running("ohlcv", section(still, exchange, mode=mode)) as (ear, *_):
        if mode == "stream":
            await watched(still, exchange, "kline" if exchange == "binance" else "candle")
            still.tick(20)
        await ear.until(lambda: ear.messages)
        now_ms += minute_ms
        still.tick(20)
        await ear.until(lambda: any(m["data"]["closed"] for m in ear.messages))
        await ear.until(lambda: not ear.messages[-1]["data"]["closed"])
    first, second = still.market.candles.of(one, minute_ms)
    [closed] = [m["data"] for m in ear.messages if m["data"]["closed"]]
    offset = one.okx_offset if exchange == "okx" else 0

    def same(data, candle):
        assert (data["interval"], data["start_us"]) == ("1m", candle.start_ms * 1000)
        for name in ("open", "high", "low", "close"):
            ticks = getattr(candle, name) + offset
            assert Decimal(data[name]) == Decimal(ticks).scaleb(-one.decimals)
        assert Decimal(data["volume"]) == Decimal(candle.volume).scaleb(-one.lot_decimals)
        digits = [data[name] for name in ("open", "high", "low", "close", "volume")]
        assert exchange == "okx" or all(len(d.partition(".")[2]) == 8 for d in digits)

    same(closed, first)
    same(ear.messages[-1]["data"], second)


# Nothing is lost in a burst.


@pytest.mark.parametrize("exchange", BOTH)
async def test_a_burst_of_tickers(still, exchange):
    """1,000 ticks that arrive together are 1,000 messages, in order; `watch_ticker` gives one."""
    one = still.market.by_symbol["BTCUSDT"]
    lasts = []
    async with running("ticker", section(still, exchange)) as (ear, *_):
        await watched(still, exchange, "ticker")
        still.tick()
        await ear.until(lambda: ear.messages)
        before = len(ear.messages)
        while len(lasts) < 1000:
            still.tick()
            # Of Binance there is one each second, moved or not: here, each step.
            if one.moved or exchange == "binance":
                lasts.append(one.last + (one.okx_offset if exchange == "okx" else 0))
        await ear.until(lambda: len(ear.messages) == before + 1000)
    prices = [Decimal(str(m["price"])) for m in ear.messages[before:]]
    assert prices == [Decimal(ticks).scaleb(-one.decimals) for ticks in lasts]


@pytest.mark.parametrize("exchange", BOTH)
async def test_a_burst_of_trades(still, exchange):
    """1,000 trades that arrive together are 1,000 messages, each once and in order."""
    one = still.market.by_symbol["BTCUSDT"]
    async with running("trades", section(still, exchange)) as (ear, *_):
        await watched(still, exchange, "trade")
        last = one.trade_id
        while one.trade_id == last:
            still.tick()
        await ear.until(lambda: ear.messages)
        last = one.trade_id
        before = len(ear.messages)
        while one.trade_id < last + 1000:
            still.tick()
        await ear.until(lambda: len(ear.messages) == before + 1000)
    ids = [int(m["data"]["id"]) for m in ear.messages[before:]]
    assert ids == list(range(last + 1, last + 1001))


async def test_what_comes_twice_is_told_once(simulator):
    """A trade that the venue repeats is counted, not published."""
    simulator.faults.add(venue="okx", kind="duplicate")
    async with running("trades", section(simulator, "okx")) as (ear, _, status):
        await ear.until(lambda: len(ear.messages) > 20)
        repeated = status.counters.ignored["trade that was told before"]
    ids = [m["data"]["id"] for m in ear.messages]
    assert len(set(ids)) == len(ids)
    assert repeated >= 20
