"""Why a channel by ccxt is as it is: what its driver knows is said."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from ingest.ccxt_feeds import section
from ingest.doubles import Ear

from aggregator import registry
from aggregator.config import Config, Feed, Server
from aggregator.hub import Hub
from aggregator.ingest.feeds import Ingest
from aggregator.simulator import Simulator

pytest.importorskip("ccxt.pro", reason="ccxt is not installed: pip install '.[ccxt]'")

QUICK = {"stale_after_s": 0.8, "max_backoff_s": 0.2, "timeout_s": 0.5}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0, binance_weight_limit=10**9) as simulator:
        yield simulator


@asynccontextmanager
async def running(kind, given):
    hub = Hub()
    cls = registry.load(f"ccxt.{kind}")
    feed = Feed("x", f"ccxt.{kind}", cls, cls.options_type(**given))
    system = Ear(hub, hub.system)
    ingest = Ingest(hub, Config("test", Server(), (feed,)))
    ear = Ear(hub, hub.channels["x"])
    task = asyncio.create_task(ingest.run())
    try:
        yield ingest.why, ear, system
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_stream(simulator):
    """How it gets its data, what it called last, when that worked, and how many watches go on."""
    async with running("book", section(simulator, "okx")) as (why, ear, _):
        await ear.until(lambda: len(ear.messages) > 3)
        source = why.explain("x")["source"]
        assert (source["kind"], source["library"], source["mode"]) == (
            "driver",
            "ccxt.pro",
            "stream",
        )
        assert source["last_call"].startswith("watch_order_book")
        assert 0 <= source["last_success_age_s"] < 10
        assert source["watch_tasks"] == 1
        assert source["connections"] == 1
        assert source["attempt_had_data"] is True
        assert source["next_attempt_s"] is None
        assert 0 <= source["attempt_age_s"] < 10
        assert why.explain("x:BTC/USDT")["book"]["state"] == "known"


async def test_a_poll(simulator):
    """The request that was made last."""
    given = section(simulator, "binance", mode="poll")
    async with running("ticker", given) as (why, ear, _):
        await ear.until(lambda: ear.messages)
        source = why.explain("x")["source"]
        assert (source["mode"], source["interval_s"]) == ("poll", 0.2)
        assert source["last_call"] == "fetch_ticker"
        assert source["watch_tasks"] == 0


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"kind": "mute"}, r"no data for 1 s"),
        ({"kind": "garbage"}, r"messages can't be read: a frame that is no JSON"),
        ({"kind": "bom"}, r"messages can't be read"),
        ({"kind": "close", "code": 4006}, r"closing code 4006"),
        ({"kind": "refuse", "path": "/ws"}, r"NetworkError|ExchangeNotAvailable"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
async def test_faults_of_a_stream(simulator, fault, said):
    """What can't be read is told from what does not come."""
    async with running("ticker", section(simulator, "okx", **QUICK)) as (why, ear, system):
        await ear.until(lambda: ear.messages)
        simulator.faults.add(venue="okx", **fault)
        if fault["kind"] == "refuse":
            simulator.faults.add(venue="okx", kind="close", code=4006, count=1)
        await system.until(lambda: {"stale", "down"} & set(system.states))
        answer = why.explain("x")
        assert any(word in answer["verdict"] for word in said.split("|")), answer["verdict"]
        source = answer["source"]
        assert source["next_attempt_s"] is None or source["next_attempt_s"] <= 0.2


async def test_a_driver_that_can_not_say(simulator, monkeypatch):
    """What somebody else's connector raises takes away its own facts, and no others."""
    async with running("book", section(simulator, "okx")) as (why, ear, _):
        await ear.until(lambda: ear.messages)
        cls = registry.load("ccxt.book")
        monkeypatch.setattr(cls, "facts", lambda self: 1 / 0)
        source = why.explain("x")["source"]
        assert source["facts_error"] == "ZeroDivisionError"
        assert source["attempt_had_data"] is True
