"""A thousand rotations at simulated venues, with connections that are behind one another."""

from __future__ import annotations

import asyncio
import functools
import json
from contextlib import asynccontextmanager
from random import Random

import aiohttp
import pytest
from ingest.delays import Delays
from ingest.doubles import Ear

from aggregator.config import BudgetLimits, Config, Feed, Server
from aggregator.hub import Hub
from aggregator.ingest import dial as dial_module
from aggregator.ingest import feeds as feeds_module
from aggregator.ingest import merge as merge_module
from aggregator.ingest import streamer as streamer_module
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.feeds import Ingest
from aggregator.registry import load
from aggregator.simulator import Simulator

ROTATIONS = 1000
SKEW_S = 0.03
LIMITS = ((20, 0.5),)
DEPTH = 50
OKX = {
    "tickers": ("okx.ticker", {}),
    "trades": ("okx.trades", {}),
    "books": ("okx.books", {"depth": DEPTH}),
}
BINANCE = {
    "trades": ("binance.trades", {}),
    "books": ("binance.depth", {"depth": DEPTH}),
}


class Truth:
    """What the venue says, as one undisturbed connection hears it."""

    def __init__(self, simulator) -> None:
        self.simulator = simulator
        self.tickers: list[str] = []
        self.trades: list[str] = []
        self.books: dict[int, list] = {}
        self._sides: tuple[dict, dict] = ({}, {})

    async def hear_okx(self, session) -> None:
        async with session.ws_connect(self.simulator.okx_url, max_msg_size=0) as ws:
            args = [{"channel": c, "instId": "BTC-USDT"} for c in ("tickers", "trades", "books")]
            await ws.send_json({"op": "subscribe", "args": args})
            async for message in ws:
                frame = json.loads(message.data)
                if "data" in frame:
                    self._take(frame["arg"]["channel"], frame["data"][0])

    def _take(self, channel: str, row: dict) -> None:
        if channel == "tickers":
            self.tickers.append(ticker(row))
        elif channel == "trades":
            self.trades.append(row["tradeId"])
        else:
            self._change(row["seqId"], row["bids"], row["asks"])

    async def hear_binance(self, session) -> None:
        url = f"{self.simulator.binance_ws_url}/ws/btcusdt@trade/btcusdt@depth@100ms"
        async with session.ws_connect(url) as ws:
            await ws.receive()
            rest = f"{self.simulator.binance_url}/api/v3/depth?symbol=BTCUSDT&limit=5000"
            async with session.get(rest) as answer:
                book = await answer.json()
            last = book["lastUpdateId"]
            self._change(last, book["bids"], book["asks"])
            async for message in ws:
                event = json.loads(message.data)
                if event["e"] == "trade":
                    self.trades.append(str(event["t"]))
                elif event["u"] > last:
                    self._change(event["u"], event["b"], event["a"])

    def _change(self, sequence: int, bids: list, asks: list) -> None:
        apply(self._sides, bids, asks)
        self.books[sequence] = best(self._sides)


def ticker(row: dict) -> str:
    return row["ts"] + row["last"] + row["vol24h"]


def apply(sides: tuple[dict, dict], bids: list, asks: list) -> None:
    for side, levels in zip(sides, (bids, asks), strict=True):
        for price, size, *_ in levels:
            side[price] = size
            if not float(size):
                del side[price]


def best(sides: tuple[dict, dict]) -> list[list[tuple[str, str]]]:
    bids, asks = (sorted(side.items(), key=lambda level: float(level[0])) for side in sides)
    return [bids[: -DEPTH - 1 : -1], asks[:DEPTH]]


def follows(published: list, said: list) -> bool:
    """Whether this is what was said, without a hole, from some point on."""
    begin = said.index(published[0])
    return published == said[begin : begin + len(published)]


def hold(messages: list[dict], books: dict[int, list]) -> None:
    """Keep a book as a client does: after each message it is what the venue's was."""
    sides: tuple[dict, dict] = ({}, {})
    before = 0
    for message in messages:
        data = message["data"]
        if message["action"] == "snapshot":
            sides = ({}, {})
        apply(sides, data["bids"], data["asks"])
        # What was fetched is the state between two changes, as nobody else heard it.
        assert message["action"] == "snapshot" or data["sequence"] in books
        assert best(sides) == books.get(data["sequence"], best(sides))
        assert data["sequence"] > before
        before = data["sequence"]


def feed(simulator, port: int, name: str, connector: str, more: dict) -> Feed:
    """Return a feed whose connections go by another port."""
    cls = load(connector)
    url = simulator.okx_url if cls.exchange == "okx" else f"{simulator.binance_ws_url}/ws"
    options = {"urls": [url.replace(f":{simulator.port}/", f":{port}/")]}
    if "base_url" in cls.options_type.model_fields:
        options["base_url"] = getattr(
            simulator, {"okx": "okx_rest_url"}.get(cls.exchange, "binance_url")
        )
    options |= {"instruments": ["BTC/USDT"], **more}
    return Feed(name, connector, cls, cls.options_type(**options))


@asynccontextmanager
async def running(simulator, monkeypatch, delay_s, limits, sections=OKX):
    """Run feeds at a simulator behind delays, and what hears the truth."""
    monkeypatch.setattr(feeds_module, "DialLimiter", functools.partial(DialLimiter, limits=limits))
    hub, truth = Hub(), Truth(simulator)
    async with Delays(simulator.port, delay_s) as delays, aiohttp.ClientSession() as session:
        feeds = tuple(feed(simulator, delays.port, n, *of) for n, of in sections.items())
        budgets = {
            "okx": BudgetLimits(per_second=0),
            "binance": BudgetLimits(per_minute=0, per_second=0),
        }
        ingest = Ingest(hub, Config("test", Server(), feeds, budgets))
        system = Ear(hub, hub.system)
        ears = {name: Ear(hub, hub.channels[name]) for name in sections}
        hears = truth.hear_binance if sections is BINANCE else truth.hear_okx
        hearing = asyncio.create_task(hears(session))
        await until(lambda: truth.trades and truth.books)
        task = asyncio.create_task(ingest.run())
        try:
            yield ingest, system, ears, truth
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            hearing.cancel()
            await asyncio.wait([hearing])
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("stream")]


async def until(done) -> None:
    while not done():  # noqa: ASYNC110 - counters wake nobody
        await asyncio.sleep(0.002)


async def rotate(ingest, name: str, times: int) -> None:
    """Have a feed's connection replaced so many times, one after the other."""
    rotations = ingest.statuses[name].counters.rotations
    await until(lambda: not ingest.rotate(name))
    for number in range(1, times + 1):
        await until(lambda n=number: rotations.get("operator", 0) == n)
        assert number == times or ingest.rotate(name) == ""


def attempts(simulator) -> list[float]:
    return [r.at for r in simulator.requests if r.path_qs == "/ws/v5/public"]


def most_within(times: list[float], window_s: float) -> int:
    """Return the most that fell into any window of this length."""
    return max(sum(at <= other < at + window_s for other in times) for at in times)


async def rotate_all(ingest, ears, each: int) -> None:
    """Have the connections of all feeds replaced; then let what is on its way arrive."""
    async with asyncio.TaskGroup() as tasks:
        for name in ears:
            tasks.create_task(rotate(ingest, name, each))
    seen = {name: len(ear.messages) for name, ear in ears.items()}
    for name, ear in ears.items():
        await ear.until(lambda e=ear, n=seen[name]: len(e.messages) > n + 3)


@pytest.fixture
def quick(monkeypatch):
    """Let connections overlap for no longer than they may be behind one another."""
    monkeypatch.setattr(merge_module, "OVERLAP_S", 2 * SKEW_S)
    monkeypatch.setattr(streamer_module, "CHECK_S", 0.005)


def nothing_seen_of_it(ingest, system, each: int) -> None:
    for status in ingest.statuses.values():
        assert status.counters.rotations == {"operator": each}
        assert (status.counters.errors, status.counters.reconnects) == ({}, 0)
    states = [(m["data"]["feed"], m["data"]["state"]) for m in system.messages]
    assert sorted(states) == sorted((name, "live") for name in ingest.statuses)


@pytest.mark.timeout(240)
async def test_a_thousand_rotations(monkeypatch, quick):
    """
    What is published is what the venue said: nothing missing, nothing twice, all in order.

    Each connection is behind by a time of its own. The venue sees no more attempts to connect than
    it allows, and no client sees anything of it.
    """
    each = -(-ROTATIONS // len(OKX))
    delay_s = functools.partial(Random(11).uniform, 0.0, SKEW_S)
    async with (
        # Few enough levels for the venue to show all of them.
        Simulator(seed=3, ticks_per_s=100.0, book_levels=350) as simulator,
        running(simulator, monkeypatch, delay_s, LIMITS) as (ingest, system, ears, truth),
    ):
        await rotate_all(ingest, ears, each)
        assert simulator.connections("okx") <= 2 * len(OKX) + 1
        dialled = attempts(simulator)
    # The first is what the venue says at once to who subscribes.
    assert follows([ticker(m["data"]) for m in ears["tickers"].messages[1:]], truth.tickers)
    assert {m["type"] for m in ears["trades"].messages} == {"trade_executed"}
    assert follows([m["data"]["id"] for m in ears["trades"].messages], truth.trades)
    hold(ears["books"].messages, truth.books)
    nothing_seen_of_it(ingest, system, each)
    assert len(dialled) == len(OKX) * (each + 1) + 1
    assert most_within(dialled[1:], LIMITS[0][1]) <= LIMITS[0][0]


async def test_rotations_at_binance(monkeypatch, quick):
    """The same where a book begins with a snapshot that is fetched."""
    delay_s = functools.partial(Random(5).uniform, 0.0, SKEW_S)
    async with (
        Simulator(seed=3, ticks_per_s=100.0, binance_weight_limit=10**9) as simulator,
        running(simulator, monkeypatch, delay_s, LIMITS, BINANCE) as (ingest, system, ears, truth),
    ):
        await rotate_all(ingest, ears, 30)
    assert {m["type"] for m in ears["trades"].messages} == {"trade_executed"}
    assert follows([m["data"]["id"] for m in ears["trades"].messages], truth.trades)
    hold(ears["books"].messages, truth.books)
    nothing_seen_of_it(ingest, system, 30)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "refuse", "count": 2}, "connection"),
        ({"kind": "status", "status": 503, "count": 1}, "http"),
        ({"kind": "noack", "count": 1}, "timeout"),
    ],
)
async def test_faults_of_the_venue(monkeypatch, quick, fault, kind):
    """However often the second connection fails, the trades that are published have no hole."""
    sections = {"trades": ("okx.trades", {"ack_timeout_s": 0.3, "max_backoff_s": 0.1})}
    delay_s = functools.partial(Random(7).uniform, 0.0, SKEW_S)
    async with (
        Simulator(seed=3, ticks_per_s=50.0) as simulator,
        running(simulator, monkeypatch, delay_s, LIMITS, sections) as (ingest, _, ears, _),
    ):
        counters = ingest.statuses["trades"].counters
        await ears["trades"].until(lambda: ears["trades"].messages)
        simulator.faults.add(venue="okx", **fault)
        ingest.rotate("trades")
        await until(lambda: counters.errors)
        await until(lambda: counters.rotations or ingest.rotate("trades"))
        await until(lambda: counters.rotations)
        seen = len(ears["trades"].messages)
        await ears["trades"].until(lambda: len(ears["trades"].messages) > seen + 3)
    assert counters.errors.keys() == {kind}
    assert {m["type"] for m in ears["trades"].messages} == {"trade_executed"}
    numbers = [int(m["data"]["id"]) for m in ears["trades"].messages]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


async def test_the_limits_of_the_venue(monkeypatch, quick):
    """However many rotations are asked for at once, three attempts a second are not exceeded."""
    async with (
        Simulator(seed=3, ticks_per_s=100.0) as simulator,
        running(simulator, monkeypatch, lambda: 0.0, dial_module.LIMITS) as (ingest, _, ears, _),
    ):
        await rotate_all(ingest, ears, 4)
        dialled = attempts(simulator)[1:]
    assert len(dialled) == 15
    assert most_within(dialled, 1.0) == 3
