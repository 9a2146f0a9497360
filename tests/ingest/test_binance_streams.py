"""Binance's streams at the simulator, over real sockets: nothing missing, nothing twice."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal

import pytest
from ingest.benches import running

from aggregator.model import State
from aggregator.simulator import Simulator, binance_shapes
from aggregator.simulator.digits import eight

PAIRS = ["BTC/USDT", "ETH/USDT"]
QUICK = {"max_backoff_s": 0.2, "timeout_s": 2.0}


@pytest.fixture
async def simulator():
    """Start a simulator that walks only when told to."""
    async with Simulator(seed=7, ticks_per_s=0) as simulator:
        yield simulator


def section(kind, **more):
    return {"connector": f"binance.{kind}", "instruments": PAIRS, **more, **QUICK}


def trades_of(simulator, symbol):
    """Return every trade that the simulator remembers, as (id, price and so on)."""
    one = simulator.market.by_symbol[symbol]
    return [trade.trade_id for trade in one.recent]


def told(ear, instrument="BTC/USDT"):
    """Return the trades of an instrument, and what is said of those lost."""
    trades, gaps = [], []
    for message in ear.messages:
        if message["instrument"] == instrument:
            if message["type"] == "gap":
                gaps.append(message["data"])
            else:
                trades.append((int(message["data"]["id"]), message.get("backfilled", False)))
    return trades, gaps


async def subscribed(simulator, kind):
    """Wait until a connection has its subscriptions."""
    await simulator.wait_for_connection("binance")
    await simulator.wait_for_command("binance", kind)


async def walking(simulator, until):
    """Let the market walk until something holds."""
    async with asyncio.timeout(20):
        while not until():
            simulator.tick()
            await asyncio.sleep(0.02)


async def trouble(simulator, kinds, rounds, seed):
    """Let the market walk through these faults, each after the other, with breaks between them."""
    rng = random.Random(seed)
    more = {"status": {"status": 503, "path": "/api/v3"}, "drop": {"fraction": 0.4}}
    more["delay"] = {"seconds": 0.05}
    for number in range(rounds):
        kind = kinds[number % len(kinds)]
        given = more.get(kind, {}) | ({} if kind in {"drop", "duplicate"} else {"count": 1})
        fault = simulator.faults.add(venue="binance", kind=kind, **given)
        for _ in range(rng.randint(1, 6)):
            simulator.tick(rng.randint(1, 8))
            await asyncio.sleep(0.02)
        simulator.faults.remove(fault.id)
        if rng.random() < 0.7:
            await walking(simulator, lambda: simulator.connections("binance"))
    await walking(simulator, lambda: simulator.connections("binance"))


def cut(simulator):
    """End the connections as a network does, without a word."""
    simulator.faults.add(venue="binance", kind="truncate", count=1)
    simulator.tick()


async def until_told(ear, simulator, instrument="BTC/USDT"):
    """Wait until the newest trade is there."""
    newest = simulator.market.by_symbol[instrument.replace("/", "")].trade_id
    await ear.until(lambda: newest in [n for n, _ in told(ear, instrument)[0]])


async def test_trades_that_were_missed_are_fetched(simulator):
    """After a cut nothing is missing, nothing comes twice; what was fetched is marked, no other."""
    async with running(simulator, {"t": section("trades")}) as (_, system, ears):
        await subscribed(simulator, "btcusdt@trade")
        simulator.tick(10)
        await until_told(ears["t"], simulator)
        before = trades_of(simulator, "BTCUSDT")
        cut(simulator)
        simulator.tick(50)
        missed = set(trades_of(simulator, "BTCUSDT")) - set(before)
        await subscribed(simulator, "btcusdt@trade")
        # Without any new trade: what was missed is known all the same.
        await until_told(ears["t"], simulator)
        simulator.tick(10)
        await until_told(ears["t"], simulator)
        trades, gaps = told(ears["t"])
    numbers = [number for number, _ in trades]
    assert numbers == list(range(numbers[0], simulator.market.by_symbol["BTCUSDT"].trade_id + 1))
    assert {number for number, backfilled in trades if backfilled} == missed
    assert gaps == []
    assert "down" in system.states


async def test_every_digit_of_a_trade(simulator):
    """A trade is told as the venue has it, by the stream as over REST."""
    async with running(simulator, {"t": section("trades")}) as (_, _, ears):
        await subscribed(simulator, "btcusdt@trade")
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        cut(simulator)
        simulator.tick(5)
        await subscribed(simulator, "btcusdt@trade")
        await until_told(ears["t"], simulator)
        messages = [m for m in ears["t"].messages if m["instrument"] == "BTC/USDT"]
    one = simulator.market.by_symbol["BTCUSDT"]
    kept = {trade.trade_id: trade for trade in one.recent}
    assert {m.get("backfilled", False) for m in messages} == {True, False}
    for message in messages:
        trade, data = kept[int(message["data"]["id"])], message["data"]
        assert data["side"] == ("sell" if trade.buyer_is_maker else "buy")
        assert data["price"] == eight(trade.ticks, one.decimals)
        assert data["quantity"] == eight(trade.lots, one.lot_decimals)
        assert Decimal(data["cost"]) == Decimal(data["price"]) * Decimal(data["quantity"])
        assert message["exchange_us"] == trade.ms * 1000


@pytest.mark.parametrize("kept", [20, 5000])
async def test_a_long_loss(kept):
    """A loss of thousands is fetched page by page; what the venue has no more is told as a gap."""
    async with Simulator(seed=7, ticks_per_s=0, trades_kept=kept) as simulator:
        async with running(simulator, {"t": section("trades")}) as (_, _, ears):
            await subscribed(simulator, "btcusdt@trade")
            simulator.tick(5)
            await until_told(ears["t"], simulator)
            last = simulator.market.by_symbol["BTCUSDT"].trade_id
            cut(simulator)
            simulator.tick(1700)
            await subscribed(simulator, "btcusdt@trade")
            await until_told(ears["t"], simulator)
            trades, gaps = told(ears["t"])
            paths = {request.path_qs.split("?")[0] for request in simulator.requests}
        newest = simulator.market.by_symbol["BTCUSDT"].trade_id
    numbers = [number for number, _ in trades]
    assert "/api/v3/historicalTrades" in paths
    if kept == 20:
        assert [(gap["after"], gap["before"]) for gap in gaps] == [(last, newest - 19)]
        missing = set(range(numbers[0], newest + 1)) - set(numbers)
        assert missing == set(range(last + 1, newest - 19))
    else:
        assert gaps == []
        assert numbers == list(range(numbers[0], newest + 1))


async def test_trades_when_rest_does_not_answer(simulator):
    """Where what is missing can't be had, a gap says so, and the live trades go on."""
    simulator.faults.add(venue="binance", kind="status", status=503, path="/api/v3/trades")
    async with running(simulator, {"t": section("trades")}) as (ingest, _, ears):
        await subscribed(simulator, "btcusdt@trade")
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        last = simulator.market.by_symbol["BTCUSDT"].trade_id
        cut(simulator)
        simulator.tick(5)
        await subscribed(simulator, "btcusdt@trade")
        simulator.tick(5)
        await until_told(ears["t"], simulator)
        trades, gaps = told(ears["t"])
        assert ingest.statuses["t"].counters.errors["http"] >= 4
    [gap] = gaps
    assert gap["after"] == last
    assert gap["before"] in [number for number, _ in trades]
    assert gap["cause"] == "the request for them failed"


async def test_trades_through_everything(simulator):
    """Through losses, repetitions, cuts and refusals: in order, each once, and all of them."""
    kinds = ["drop", "truncate", "duplicate", "close", "drop", "refuse", "status", "garbage"]
    async with running(simulator, {"t": section("trades")}) as (_, _, ears):
        await subscribed(simulator, "btcusdt@trade")
        simulator.tick(3)
        await trouble(simulator, kinds, 24, seed=3)
        simulator.tick(20)
        for pair in PAIRS:
            await until_told(ears["t"], simulator, pair)
    for pair in PAIRS:
        trades, gaps = told(ears["t"], pair)
        numbers = [number for number, _ in trades]
        newest = simulator.market.by_symbol[pair.replace("/", "")].trade_id
        assert numbers == list(range(numbers[0], newest + 1)), pair
        assert gaps == []
        assert sum(backfilled for _, backfilled in trades) > 10


class Reader:
    """A client that keeps books as the protocol says."""

    def __init__(self, ear):
        self._ear = ear
        self._read = 0
        self.books = {}
        self.gaps = []

    def read(self):
        for message in self._ear.messages[self._read :]:
            name, data = message["instrument"], message["data"]
            if message["type"] == "gap":
                self.gaps.append(data)
                self.books.pop(name, None)
                continue
            if message["action"] == "snapshot":
                self.books[name] = {"sequence": 0, "bids": {}, "asks": {}}
            book = self.books[name]
            book["sequence"] = data["sequence"]
            for side in ("bids", "asks"):
                for price, size in data[side]:
                    book[side].pop(price, None)
                    if float(size):
                        book[side][price] = size
        self._read = len(self._ear.messages)

    def of(self, pair):
        """Return a book as the venue's REST interface shows it."""
        self.read()
        book = self.books.get(pair)
        if book is None:
            return None
        sides = {}
        for side, sign in (("bids", -1), ("asks", 1)):
            levels = book[side].items()
            sides[side] = sorted(levels, key=lambda level: sign * Decimal(level[0]))
        return {"lastUpdateId": book["sequence"], **sides}


def venues_book(simulator, pair, depth):
    book = simulator._books[0].of(simulator.market.by_symbol[pair.replace("/", "")])
    return binance_shapes.depth(book, depth)


async def until_equal(ear, reader, simulator, depth):
    """Wait until a client holds exactly the venue's books."""
    for pair in PAIRS:
        await ear.until(lambda p=pair: reader.of(p) == venues_book(simulator, p, depth))


@pytest.mark.parametrize(
    "options", [{}, {"depth": 5}, {"interval_ms": 1000}, {"depth": 30, "limit": 100}]
)
async def test_books_are_the_venues(simulator, options):
    """A client that applies what it gets holds exactly the venue's best levels."""
    async with running(simulator, {"b": section("depth", **options)}) as (_, _, ears):
        await subscribed(simulator, "btcusdt@depth")
        reader = Reader(ears["b"])
        for _ in range(40):
            simulator.tick(5)
            await until_equal(ears["b"], reader, simulator, options.get("depth", 50))
        wholes = sum(message.get("action") == "snapshot" for message in ears["b"].messages)
    assert reader.gaps == []
    # With a snapshot of few levels the walk reaches its end.
    assert (wholes > 2) == ("limit" in options)


async def test_a_lost_change_is_recovered_without_a_reconnect(simulator):
    """A missing change drops that book alone, says from where to where, and brings it back."""
    async with running(simulator, {"b": section("depth")}) as (ingest, _, ears):
        await subscribed(simulator, "btcusdt@depth")
        reader = Reader(ears["b"])
        simulator.tick(5)
        await until_equal(ears["b"], reader, simulator, 50)
        last = reader.of("BTC/USDT")["lastUpdateId"]
        fault = simulator.faults.add(venue="binance", kind="drop", fraction=1, instrument="BTCUSDT")
        simulator.tick(5)
        lost = venues_book(simulator, "BTC/USDT", 1)["lastUpdateId"]
        simulator.faults.remove(fault.id)
        simulator.tick(5)
        await until_equal(ears["b"], reader, simulator, 50)
        assert ingest.statuses["b"].counters.reconnects == 0
    [gap] = reader.gaps
    assert (gap["after"], gap["before"]) == (last, lost + 1)


async def test_books_through_everything(simulator):
    """Through losses, repetitions, cuts and refusals: at the end the books are the venue's."""
    kinds = [
        "drop",
        "truncate",
        "duplicate",
        "status",
        "drop",
        "close",
        "refuse",
        "delay",
        "garbage",
    ]
    async with running(simulator, {"b": section("depth", depth=20)}) as (_, _, ears):
        await subscribed(simulator, "btcusdt@depth")
        reader = Reader(ears["b"])
        await trouble(simulator, kinds, 27, seed=5)

        def equal():
            return all(reader.of(p) == venues_book(simulator, p, 20) for p in PAIRS)

        # A snapshot that could not be had is asked for with the next change.
        await walking(simulator, equal)
        await until_equal(ears["b"], reader, simulator, 20)
    assert reader.gaps


@pytest.mark.parametrize("extra", [500, 1100])
async def test_all_of_binance_is_one_section(extra):
    """All that trade, from one section: beyond 1,024 the rest comes from the stream of all."""
    sections = {"all": {"connector": "binance.ticker", "instruments": "all"}}
    async with Simulator(seed=7, ticks_per_s=0, extra_instruments=extra) as simulator:
        trading = {f"{one.base}/{one.quote}": one for one in simulator.market if one.trading}
        assert len(trading) > extra
        async with running(simulator, sections) as (ingest, _, ears):
            ear = ears["all"]

            def symbols():
                return {message["instrument"] for message in ear.messages}

            await walking(simulator, lambda: len(symbols()) == len(trading))
            assert ingest.statuses["all"].state is State.LIVE
            assert ingest.statuses["all"].counters.errors == {}
            assert ingest.statuses["all"].counters.reconnects == 0
            assert simulator.connections("binance") == 1
            ear.messages.clear()
            simulator.tick()
            await ear.until(lambda: len(symbols()) > 0.7 * len(trading))
        assert symbols() <= trading.keys()
    last = {message["instrument"]: message for message in ear.messages}
    whole = 0
    for name, message in last.items():
        one = trading[name]
        assert message["price"] == float(eight(one.last, one.decimals))
        assert message["volume_24h"] == float(eight(one.volume, one.lot_decimals))
        if "bid" in message:
            whole += 1
            assert message["bid"] == float(eight(one.bid, one.decimals))
            assert message["ask"] == float(eight(one.ask, one.decimals))
            assert "change_24h_pct" in message
    assert whole == len(last) if extra == 500 else whole < len(last)


async def test_a_misspelt_instrument_is_found(simulator):
    """A name that Binance acknowledges though it does not exist is told to be unknown."""
    sections = {
        kind: section(kind) | {"instruments": ["BTC/USDT", "BTC/USDTT", "WAVES/USDT"]}
        for kind in ("ticker", "trades", "depth")
    }
    async with running(simulator, sections) as (ingest, system, ears):
        await system.until(lambda: system.states.count("unknown_instrument") == 6)
        simulator.tick(5)
        for ear in ears.values():
            await ear.until(lambda ear=ear: ear.messages)
        for status in ingest.statuses.values():
            assert status.unknown == {
                "BTC/USDTT": "not listed by the venue",
                "WAVES/USDT": "status BREAK",
            }


async def test_nothing_known(simulator):
    """A feed none of whose instruments exist says so."""
    sections = {"t": section("trades") | {"instruments": ["NO/SUCH"]}}
    async with running(simulator, sections) as (_, system, _):
        await system.until(lambda: "the venue knows none of the instruments" in system.reasons)


async def test_its_pings_are_answered():
    """A connection whose pings are answered in time lives on."""
    options = {"binance_ping_s": 0.4, "binance_pong_timeout_s": 0.3}
    async with (
        Simulator(seed=7, ticks_per_s=50, **options) as simulator,
        running(simulator, {"t": section("trades")}) as (ingest, _, ears),
    ):
        await ears["t"].until(lambda: len(ears["t"].messages) > 120)
        assert ingest.statuses["t"].counters.reconnects == 0


@pytest.mark.parametrize("kind", ["trades", "depth"])
async def test_server_shutdown(simulator, kind):
    """After the notice a new connection takes over, and nothing is lost by it."""
    async with running(simulator, {"x": section(kind)}) as (ingest, _, ears):
        await subscribed(simulator, "SUBSCRIBE")
        simulator.tick(5)
        await ears["x"].until(lambda: ears["x"].messages)
        simulator.faults.add(venue="binance", kind="shutdown", after_s=30, count=1)
        await walking(simulator, lambda: ingest.statuses["x"].counters.rotations)
        simulator.tick(5)
        if kind == "trades":
            await until_told(ears["x"], simulator)
            numbers = [number for number, _ in told(ears["x"])[0]]
            assert numbers == list(range(numbers[0], numbers[-1] + 1))
        else:
            await until_equal(ears["x"], Reader(ears["x"]), simulator, 50)
        assert not any(message["type"] == "gap" for message in ears["x"].messages)
        assert ingest.statuses["x"].counters.reconnects == 0
