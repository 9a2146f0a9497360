"""Why a channel is as it is: each fault that the simulator can do is named."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from ingest.benches import running

from aggregator.model import State
from aggregator.simulator import Simulator
from aggregator.simulator.faults import KINDS

OKX = {"connector": "okx.ticker", "instruments": ["BTC/USDT", "ETH/USDT"]}
TRADES = {"connector": "okx.trades", "instruments": ["BTC/USDT"]}
DAY = {"connector": "binance.24hr", "instruments": ["BTC/USDT"], "interval_s": 0.2}
DEPTH = {"connector": "binance.depth", "instruments": ["BTC/USDT"]}
QUICK = {"stale_after_s": 0.6, "ack_timeout_s": 0.2, "max_backoff_s": 0.1}
IMPATIENT = {"ping_after_s": 0.1, "pong_timeout_s": 0.2}

FAULTS = [
    ("mute", OKX, {}, {}, r"no data for.*open and answers"),
    ("mute", OKX, {"instrument": "BTC/USDT"}, {}, r"feed's others are live"),
    ("drop", DEPTH, {"fraction": 0.5}, {}, r'"last_gap":\{'),
    ("delay", OKX, {"seconds": 0.2}, {}, r'"lag_s":0\.[2-9]'),
    ("garbage", OKX, {}, {}, r'"kind":"payload"'),
    ("truncate", OKX, {}, {}, r"connection lost"),
    ("duplicate", OKX, {}, {}, r'"kind":"repeated"'),
    ("bom", OKX, {}, {}, r'"kind":"payload"'),
    ("status", DAY, {"status": 503}, {}, r"HTTP 503"),
    ("html", DAY, {}, {}, r'"kind":"payload"'),
    ("empty", DAY, {}, {}, r'"kind":"payload"'),
    ("halfopen", OKX, {}, IMPATIENT, r"no pong within|no data for"),
    ("refuse", OKX, {}, {}, r"can't connect|connection failed|connection lost"),
    ("noack", OKX, {}, {}, r"no acknowledgement of"),
    ("nopong", OKX, {}, IMPATIENT, r"no pong within"),
    ("notice", OKX, {"after_s": 30.0}, {}, r'"rotations":\{"notice":'),
    ("shutdown", DEPTH, {"after_s": 30.0}, {}, r'"rotations":\{"notice":'),
    ("close", OKX, {"code": 4006}, {}, r"closed by the venue: 4006"),
]


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


def test_every_fault_is_tried():
    """None of those that the simulator has is left out."""
    assert {kind for kind, *_ in FAULTS} == set(KINDS)


@pytest.mark.parametrize(
    "case",
    FAULTS,
    ids=[f"{f[0]}-{n}" for n, f in enumerate(FAULTS)],
)
async def test_fault_is_named(simulator, case):
    """What is wrong stands in the answer, in the verdict or among its facts."""
    kind, section, fault, options, named = case
    streamed = section is not DAY
    options = (QUICK if streamed else {"max_backoff_s": 0.1}) | (options if streamed else {})
    if kind == "nopong":
        simulator.faults.add(venue="okx", kind="mute")
        options["stale_after_s"] = 30.0
    async with running(simulator, {"x": section}, **options) as (ingest, _, ears):
        if kind not in {"noack", "refuse", "nopong"}:
            # So many that it is known how often they come.
            enough = 60 if "instrument" in fault else 1
            await ears["x"].until(lambda: len(ears["x"].messages) >= enough)
        simulator.faults.add(venue="*", kind=kind, **fault)
        want = "x:BTC/USDT" if "instrument" in fault else "x"

        def is_named() -> bool:
            return re.search(named, json.dumps(ingest.why.explain(want), separators=(",", ":")))

        await eventually(is_named)
        assert ingest.why.explain(want)["verdict"].startswith(want)


async def eventually(condition) -> None:
    """Wait until something holds that no event tells of."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_facts_of_a_stream(simulator):
    """Ages, what is acknowledged, the sequence, who subscribed."""
    async with running(simulator, {"x": OKX}) as (ingest, _, ears):
        await ears["x"].until(lambda: len(ears["x"].messages) > 3)
        facts = ingest.why.explain("x:BTC/USDT")
        assert facts["verdict"].startswith("x:BTC/USDT is live for ")
        assert facts["subscribers"] == 1
        assert facts["seq"] == len(ears["x"].messages)
        assert facts["instrument_state"]["state"] == "live"
        source = facts["source"]
        assert (source["kind"], source["connected"], source["unacknowledged"]) == (
            "stream",
            True,
            [],
        )
        for age in ("age_s", "last_frame_age_s", "last_data_age_s", "last_acknowledgement_age_s"):
            assert 0 <= source[age] < 10
        assert facts["last_message"]["lag_s"] < 5


async def test_facts_of_a_poll(simulator):
    """When it is polled next, and what is left of the budget."""
    async with running(simulator, {"x": DAY | {"interval_s": 5.0}}) as (ingest, _, ears):
        await ears["x"].until(lambda: ears["x"].messages)
        source = ingest.why.explain("x")["source"]
        assert source["kind"] == "poll"
        assert 0 < source["next_poll_s"] <= 6
        assert source["budget"]["left"] > 0
        assert source["budget"]["blocked_s"] == 0


async def test_what_is_not_there(simulator):
    """A channel that does not exist, an instrument that it has not; the daemon's own channel."""
    async with running(simulator, {"x": OKX}) as (ingest, _, _):
        for want in ("nowhere", "x:NO/SUCH", "*:BTC/USDT", ""):
            with pytest.raises(LookupError):
                ingest.why.explain(want)
        assert "itself" in ingest.why.explain("system")["verdict"]
        assert ingest.statuses["x"].state in set(State)


STREAMS = [
    {"connector": name, "instruments": ["BTC/USDT"]}
    for name in (
        *("okx.ticker", "okx.bbo", "okx.books", "okx.trades"),
        *("binance.ticker", "binance.depth", "binance.trades"),
    )
]
NAMED = [
    ("mute", {}, r'"verdict":"x is (stale|connecting) .*no data for'),
    ("garbage", {}, r'"errors":\{[^}]*"payload":\d'),
    ("bom", {}, r'"errors":\{[^}]*"payload":\d'),
    ("truncate", {}, r'"verdict":"x is (down|connecting) .*connection'),
    ("delay", {"seconds": 0.3}, r'"lag_s":0\.[3-9]'),
    ("close", {"code": 4006}, r'"verdict":"x is (down|connecting) .*closed by the venue: 4006'),
]


@pytest.mark.parametrize("section", STREAMS, ids=[each["connector"] for each in STREAMS])
@pytest.mark.parametrize(("kind", "fault", "named"), NAMED, ids=[each[0] for each in NAMED])
async def test_fault_is_named_by_every_kind_of_stream(simulator, section, kind, fault, named):
    """Whatever the data are, and whoever sends them."""
    if kind == "delay" and section["connector"] in {"binance.ticker", "binance.depth"}:
        fault = {"seconds": 0.4}
    async with running(simulator, {"x": section}, **QUICK | {"stale_after_s": 1.2}) as (
        ingest,
        _,
        ears,
    ):
        await ears["x"].until(lambda: ears["x"].messages)
        simulator.faults.add(venue="*", kind=kind, **fault)

        def is_named() -> bool:
            answer = json.dumps(ingest.why.explain("x"), separators=(",", ":"))
            return re.search(named, answer)

        await eventually(is_named)


@pytest.mark.parametrize("connector", ["okx.trades", "binance.trades"])
async def test_trades_that_were_missed_are_counted(simulator, connector):
    """A stream that loses some of its trades, which are fetched, does not look like a sound one."""
    section = {"connector": connector, "instruments": ["BTC/USDT"]}
    async with running(simulator, {"x": section}) as (ingest, _, ears):
        await ears["x"].until(lambda: ears["x"].messages)
        assert ingest.why.explain("x")["feed"]["backfilled"] == 0
        simulator.faults.add(venue="*", kind="drop", fraction=0.5)
        await eventually(lambda: ingest.why.explain("x")["feed"]["backfilled"] > 0)


async def test_updates_that_come_twice_are_counted(simulator):
    """Each change of a book sent twice is no loss, and no subscription is made anew for it."""
    section = {"connector": "okx.books", "instruments": ["BTC/USDT"]}
    async with running(simulator, {"x": section}) as (ingest, _, ears):
        await ears["x"].until(lambda: ears["x"].messages)
        simulator.faults.add(venue="okx", kind="duplicate", channel="books")
        ignored = {"update that came twice"}
        await eventually(lambda: ingest.why.explain("x")["feed"]["ignored"].keys() == ignored)
        before = len(ears["x"].messages)
        await ears["x"].until(lambda: len(ears["x"].messages) > before + 10)
        assert all(m["type"] == "orderbook_update" for m in ears["x"].messages)
        assert ingest.why.explain("x")["last_gap"] is None
