"""The connectors by ccxt, when their venues fail: what is said, and that they come back."""

from __future__ import annotations

import asyncio
import zlib
from types import SimpleNamespace

import pytest
from aiohttp.compression_utils import ZLibBackend
from ingest.ccxt_feeds import asked, running, section, watched

from aggregator.model import State
from aggregator.simulator import Simulator
from connectors.any_exchange.exchange import opened

pytest.importorskip("ccxt.pro", reason="ccxt is not installed: pip install '.[ccxt]'")

NO_STREAM = {"watchTrades": False, "watchTradesForSymbols": False}
PATIENT = {"stale_after_s": 0.6, "max_backoff_s": 0.2, "timeout_s": 0.5}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0, binance_weight_limit=10**9) as simulator:
        yield simulator


# Streams.


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ({"kind": "mute"}, "stale", "no data for"),
        ({"kind": "halfopen", "path": "/ws"}, "stale", "no data for"),
        ({"kind": "close", "code": 4006}, "down", "closing code 4006"),
        ({"kind": "notice", "after_s": 0.1}, "down", "64008"),
        ({"kind": "truncate", "channel": "tickers", "count": 1}, "down", "NetworkError"),
    ],
)
async def test_faults_of_a_stream(simulator, fault, state, reason):
    """A fault is said on `system`; when it is over, the feed is live again by itself."""
    async with running("ticker", section(simulator, "okx", **PATIENT)) as (ear, system, _):
        await system.until(lambda: "live" in system.states)
        fault = simulator.faults.add(venue="okx", **fault)
        await system.until(lambda: state in system.states)
        assert any(reason in text for text in system.reasons), system.reasons
        simulator.faults.remove(fault.id)
        before = len(ear.messages)
        await system.until(lambda: system.states.count("live") == 2)
        assert len(ear.messages) > before


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ({"kind": "noack"}, "stale", "no data for"),
        ({"kind": "refuse"}, "down", "NetworkError"),
        ({"kind": "halfopen"}, "stale", "no data for"),
        ({"kind": "status", "status": 503}, "down", "503"),
        ({"kind": "status", "status": 451}, "down", "451"),
        ({"kind": "status", "status": 429, "retry_after": 1}, "limited", "429"),
    ],
)
async def test_faults_while_connecting(simulator, fault, state, reason):
    """So is one that hinders the stream from the start."""
    path = {} if fault["kind"] == "noack" else {"path": "/ws"}
    fault = simulator.faults.add(venue="okx", **fault, **path)
    async with running("ticker", section(simulator, "okx", **PATIENT)) as (ear, system, _):
        await system.until(lambda: state in system.states)
        assert any(reason in text for text in system.reasons), system.reasons
        assert not ear.messages
        simulator.faults.remove(fault.id)
        await system.until(lambda: "live" in system.states)


@pytest.mark.parametrize("kind", ["ticker", "trades", "book", "ohlcv"])
async def test_a_watch_that_hangs(simulator, kind):
    """Pongs go on and data do not: ccxt would wait for ever. The exchange is made anew."""
    given = section(simulator, "okx", **PATIENT)
    async with running(kind, given) as (_, system, status):
        await system.until(lambda: "live" in system.states)
        fault = simulator.faults.add(venue="okx", kind="mute")
        await system.until(lambda: "stale" in system.states)
        simulator.faults.remove(fault.id)
        await system.until(lambda: system.states.count("live") == 2)
        assert status.counters.errors == {"timeout": status.counters.reconnects}
    assert len(asked(simulator, "okx", "/ws/v5")) > 1


async def test_garbage_is_counted(simulator):
    """Frames that are no JSON, or are of nothing known, are counted; the connection stays."""
    for text in ('{"arg":', '{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[7]}'):
        simulator.faults.add(venue="okx", kind="garbage", channel="tickers", count=2, text=text)
    async with running("ticker", section(simulator, "okx")) as (ear, _, status):
        await ear.until(lambda: ear.messages)
        assert status.counters.errors == {"payload": 2}
        assert status.counters.unhandled == {"ticker of another instrument": 2}
        assert status.counters.reconnects == 0


async def test_stopped_while_nobody_answers(simulator):
    """A connection that is open but dead does not hold up the end; `running` times it."""
    async with running("ticker", section(simulator, "okx")) as (ear, *_):
        await ear.until(lambda: ear.messages)
        simulator.faults.add(venue="okx", kind="halfopen")


@pytest.mark.parametrize("path", ["/api", "/ws"])
async def test_stopped_while_connecting(simulator, path):
    """Neither does one that is not open yet, nor a request without an answer."""
    simulator.faults.add(venue="okx", kind="halfopen", path=path)
    async with running("ticker", section(simulator, "okx")), asyncio.timeout(10):
        while not asked(simulator, "okx", path):  # noqa: ASYNC110 - no event tells of the past
            await asyncio.sleep(0.01)


async def test_stopped_while_it_subscribes(simulator):
    """Subscriptions that wait for their turn, as ccxt's limiter wants it, are given up."""
    names = [f"{base}/USDT" for base in ("BTC", "ETH", "SOL", "BNB", "XRP", "ADA", "DOT")]
    one_by_one = {"has": {"watchTickers": False}, "rateLimit": 500}
    given = section(simulator, "okx", instruments=names, ccxt_options=one_by_one)
    async with running("ticker", given):
        await watched(simulator, "okx", "tickers")


# Polls.


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ({"kind": "status", "status": 429, "retry_after": 1}, "limited", "429"),
        ({"kind": "status", "status": 418, "retry_after": 1}, "limited", "418"),
        ({"kind": "status", "status": 451}, "down", "451"),
        ({"kind": "status", "status": 403}, "down", "403"),
        ({"kind": "status", "status": 503}, "down", "503"),
        ({"kind": "html"}, "down", "in the answer"),
        ({"kind": "empty"}, "down", "in the answer"),
        ({"kind": "garbage"}, "down", "in the answer"),
        ({"kind": "garbage", "text": "{}"}, "down", "in the answer"),
        ({"kind": "truncate"}, "down", "not completed"),
        ({"kind": "refuse"}, "down", "ExchangeNotAvailable"),
        ({"kind": "halfopen"}, "down", "RequestTimeout"),
    ],
)
async def test_faults_of_a_poll(simulator, fault, state, reason):
    """A fault is said on `system`; when it is over, the feed is live again by itself."""
    await faulty(simulator, "/api/v3/ticker", fault, state, reason)


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ({"kind": "status", "status": 429, "retry_after": 1}, "limited", "429"),
        ({"kind": "html"}, "down", "no market in the answer"),
        ({"kind": "refuse"}, "down", "ExchangeNotAvailable"),
        ({"kind": "halfopen"}, "down", "RequestTimeout"),
    ],
)
async def test_faults_while_looking_up_markets(simulator, fault, state, reason):
    """So is one that hinders the start; no instrument is called unknown for it."""
    await faulty(simulator, "/api/v3/exchangeInfo", fault, state, reason)


async def faulty(simulator, path, fault, state, reason):
    fault = simulator.faults.add(venue="binance", path=path, **fault)
    given = section(simulator, "binance", mode="poll", **PATIENT | {"stale_after_s": 5.0})
    async with running("ticker", given) as (ear, system, status):
        await system.until(lambda: state in system.states)
        assert any(reason in text for text in system.reasons), system.reasons
        assert not ear.messages
        assert status.unknown == {}
        simulator.faults.remove(fault.id)
        await system.until(lambda: status.state is State.LIVE)
        assert ear.messages


async def test_429_says_until_when(simulator):
    """`Retry-After` is kept to: no request goes out before."""
    simulator.faults.add(
        venue="binance", kind="status", status=429, retry_after=1, path="/api/v3/ticker", count=1
    )
    given = section(simulator, "binance", mode="poll", **PATIENT)
    async with running("ticker", given) as (_, system, _):
        await system.until(lambda: "live" in system.states)
    [limited] = [m["data"] for m in system.messages if m["data"]["state"] == "limited"]
    assert limited["detail"]["cause"] == "blocked"
    first, second = asked(simulator, "binance", "/api/v3/ticker")[:2]
    assert second.at - first.at >= 1.0


# What is missed is fetched, or said.


async def test_trades_missed_while_away_are_fetched(simulator):
    """After a reconnect each trade is there once; those missed are marked, and come first."""
    async with running("trades", section(simulator, "okx", **PATIENT)) as (ear, system, _):
        await ear.until(lambda: len(ear.messages) > 5)
        simulator.faults.add(venue="okx", kind="mute", for_s=1.0)
        await ear.until(lambda: any(m.get("backfilled") for m in ear.messages))
        before = len(ear.messages)
        await ear.until(lambda: len(ear.messages) > before + 20)
        assert "stale" in system.states
    assert {m["type"] for m in ear.messages} == {"trade_executed"}
    ids = [int(m["data"]["id"]) for m in ear.messages]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    marked = [i for i, m in enumerate(ear.messages) if m.get("backfilled")]
    assert marked == list(range(marked[0], marked[0] + len(marked)))


@pytest.mark.parametrize("cause", ["refused", "too old"])
async def test_trades_that_can_not_be_fetched_are_a_gap(cause):
    """A loss that nobody can make good is said, with the ids around it."""
    kept = 3 if cause == "too old" else 1000
    async with (
        Simulator(seed=7, ticks_per_s=20.0, trades_kept=kept) as simulator,
        running("trades", section(simulator, "okx", **PATIENT)) as (ear, *_),
    ):
        await ear.until(lambda: len(ear.messages) > 5)
        if cause == "refused":
            simulator.faults.add(venue="okx", kind="status", status=503, path="/api/v5/market")
        simulator.faults.add(venue="okx", kind="mute", for_s=1.0)
        await ear.until(lambda: any(m["type"] == "gap" for m in ear.messages))
        await ear.until(lambda: ear.messages[-1]["type"] == "trade_executed")
    place = next(i for i, m in enumerate(ear.messages) if m["type"] == "gap")
    gap, around = ear.messages[place], (ear.messages[place - 1], ear.messages[place + 1])
    ids = [m["data"]["id"] for m in around]
    assert gap["data"].pop("cause").startswith("what came during a break")
    assert gap["data"] == {"after": ids[0], "before": ids[1]}
    assert (gap["instrument"], gap["reason"]) == ("BTC/USDT", "upstream")
    assert int(ids[1]) > int(ids[0]) + 1


async def test_a_short_break_without_a_trade_is_no_gap():
    """Where the ids leave no room for a trade nothing is asked for, and nothing said."""
    async with Simulator(seed=7, ticks_per_s=0.0) as still:
        one = still.market.by_symbol["BTCUSDT"]

        def trade():
            last = one.trade_id
            while one.trade_id == last:
                still.tick()

        async with running("trades", section(still, "okx", **PATIENT)) as (ear, *_):
            await watched(still, "okx", "trades")
            trade()
            await ear.until(lambda: ear.messages)
            again = asyncio.create_task(watched(still, "okx", "trades"))
            await asyncio.sleep(0)
            still.faults.add(venue="okx", kind="close", code=4006)
            await again
            trade()
            await ear.until(lambda: len(ear.messages) == 2)
    ids = [int(m["data"]["id"]) for m in ear.messages]
    assert ids[1] == ids[0] + 1
    assert asked(still, "okx", "/api/v5/market/trades") == []


async def test_polled_trades_out_of_reach_are_a_gap():
    """If more trades came between two polls than the venue tells, that is said."""
    async with Simulator(seed=7, ticks_per_s=0.0, trades_kept=5) as still:
        one = still.market.by_symbol["BTCUSDT"]
        given = section(still, "okx", mode="poll")
        async with running("trades", given) as (ear, *_):
            await ear.until(lambda: ear.messages)
            last = one.trade_id
            while one.trade_id < last + 20:
                still.tick()
            await ear.until(lambda: len(ear.messages) == 7)
    assert [m["type"] for m in ear.messages] == ["trade_executed", "gap", *["trade_executed"] * 5]
    assert ear.messages[1]["data"]["after"] == str(last)
    ids = [int(m["data"]["id"]) for m in ear.messages[2:]]
    assert ids == list(range(last + 16, last + 21))


@pytest.mark.parametrize("refused", [False, True])
async def test_a_candle_that_ended_while_away(simulator, monkeypatch, *, refused):
    """It is fetched: what was heard of it is not how it ended. If it can't be, that is said."""
    now_ms = 1_795_160_040_000
    monkeypatch.setattr("aggregator.simulator.market._now_ms", lambda: now_ms)
    simulator.market.candles._series.clear()
    one = simulator.market.by_symbol["BTCUSDT"]
    one.recent.clear()
    simulator.tick(5)
    async with running("ohlcv", section(simulator, "okx", **PATIENT)) as (ear, system, _):
        await ear.until(lambda: ear.messages)
        if refused:
            simulator.faults.add(venue="okx", kind="refuse", path="/api/v5/market")
        mute = simulator.faults.add(venue="okx", kind="mute")
        await system.until(lambda: "stale" in system.states)
        simulator.tick(100)
        now_ms += 60_000
        simulator.tick(20)
        simulator.faults.remove(mute.id)
        await system.until(lambda: system.states.count("live") == 2)
        if not refused:
            await ear.until(lambda: any(m["data"].get("closed") for m in ear.messages))
    first = simulator.market.candles.of(one, 60_000)[0]
    closed = [m["data"] for m in ear.messages if m["data"].get("closed")]
    gaps = [m["data"] for m in ear.messages if m["type"] == "gap"]
    if refused:
        assert closed == []
        [gap] = gaps
        assert gap["cause"] == "how a candle ended during a break is not known"
        assert (gap["after"], gap["before"]) == (first.start_ms * 1000, now_ms * 1000)
    else:
        assert gaps == []
        [data] = closed
        assert data["volume"] == f"{first.volume / 10**one.lot_decimals:.5f}".rstrip("0")
        assert data["start_us"] == first.start_ms * 1000


# Markets, and what ccxt or the venue does not have.


async def test_unknown_instruments(simulator):
    """What the venue does not list, or does not trade, is said by name; the others go on."""
    names = ["BTC/USDT", "NOPE/USDT", "WAVES/USDT"]
    given = section(simulator, "binance", instruments=names, mode="poll")
    async with running("ticker", given) as (ear, _, status):
        await ear.until(lambda: len(ear.messages) > 1)
        assert status.unknown == {
            "NOPE/USDT": "not listed by the exchange",
            "WAVES/USDT": "not traded now",
        }
    assert {m["instrument"] for m in ear.messages} == {"BTC/USDT"}


@pytest.mark.parametrize("mode", ["stream", "poll"])
@pytest.mark.parametrize("exchange", ["okx", "binance"])
async def test_all(simulator, exchange, mode):
    """`all` is every spot market that is trading; the others are not asked about."""
    given = section(simulator, exchange, instruments="all", mode=mode)
    async with running("ticker", given) as (ear, _, status):
        traded = {f"{one.base}/{one.quote}" for one in simulator.market if one.trading}
        if exchange == "okx":
            traded = {i.okx_id.replace("-", "/") for i in simulator.market.by_okx_id.values()}
        await ear.until(lambda: {m["instrument"] for m in ear.messages} == traded)
        assert status.unknown == {}
        assert ear.channel.instruments == traded


async def test_markets_are_looked_up_once(simulator):
    """A reconnect needs no new list; ccxt's own takes a request and a long time."""
    async with running("ticker", section(simulator, "okx", **PATIENT)) as (_, system, status):
        await system.until(lambda: "live" in system.states)
        for number in range(2, 5):
            simulator.faults.add(venue="okx", kind="close", code=4006)
            await system.until(lambda number=number: system.states.count("live") == number)
        assert status.counters.reconnects >= 3
    assert len(asked(simulator, "okx", "/api/v5/public/instruments")) == 1


async def test_a_new_market_is_taken_in(simulator, monkeypatch):
    """When another market is traded than at the start, the feed begins anew with it."""
    monkeypatch.setattr("connectors.any_exchange.feed.MARKETS_S", 0.3)
    hidden = simulator.market.by_okx_id.pop("SOL-USDT")
    given = section(simulator, "okx", instruments="all", mode="poll")
    async with running("ticker", given) as (ear, system, status):
        await ear.until(lambda: ear.messages)
        simulator.market.by_okx_id["SOL-USDT"] = hidden
        await ear.until(lambda: any(m["instrument"] == "SOL/USDT" for m in ear.messages))
        assert status.counters.errors == {}
    assert "other markets are traded than before" in system.reasons


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("ticker", {"sandbox": True}, "ccxt knows no test environment of kraken"),
        ("trades", {"ccxt_options": {"has": NO_STREAM}}, "ccxt has no stream of trades of kraken"),
        ("book", {"ccxt_options": {"has": {"fetchOrderBook": False}}}, "can't fetch order books"),
        ("ohlcv", {"timeframe": "7m"}, "kraken has no timeframe 7m; it has 1m, 5m"),
    ],
)
async def test_what_can_not_be_had(simulator, kind, options, reason, monkeypatch):
    """The feed is down with the reason, and is tried rarely."""
    mode = {"trades": "stream", "book": "poll"}.get(kind, "auto")
    given = {"exchange": "kraken", "instruments": ["BTC/USDT"], "mode": mode, **options}

    async def with_markets(options):
        exchange = opened(options, SimpleNamespace(hears="resolved"))
        exchange.markets = {"BTC/USDT": {"active": True}}
        return exchange

    monkeypatch.setattr("connectors.any_exchange.feed.with_markets", with_markets)
    async with running(kind, given) as (_, system, status):
        await system.until(lambda: "down" in system.states)
        assert reason in system.reasons[-1]
        assert status.counters.errors == {"exchange": 1}


async def test_aiohttp_keeps_its_zlib(simulator):
    """The import of ccxt swaps the whole process' compressor; ours is back before data come."""
    async with running("ticker", section(simulator, "okx")) as (ear, *_):
        await ear.until(lambda: ear.messages)
        assert ZLibBackend._zlib_backend is zlib
