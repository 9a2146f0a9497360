"""The real connectors at simulated venues: the whole side of the exchanges, over real sockets."""

from __future__ import annotations

import pytest
from ingest.benches import running

from aggregator.config import STANDARD_FEEDS
from aggregator.model import State
from aggregator.simulator import Simulator

OKX = {"connector": "okx.ticker", "instruments": ["BTC/USDT"]}
PRICES = {"connector": "binance.prices", "instruments": ["BTC/USDT", "ETH/USDT"]}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


async def test_the_eight_channels(simulator):
    """All eight standard feeds bring prices, each message numbered without a hole."""
    async with running(simulator, STANDARD_FEEDS) as (ingest, _, ears):
        for ear in ears.values():
            await ear.until(lambda ear=ear: ear.messages)
        assert {s.state for s in ingest.statuses.values()} <= {State.LIVE, State.LIMITED}
        assert all(status.ready for status in ingest.statuses.values())
    for name, ear in ears.items():
        assert [m["seq"] for m in ear.messages] == list(range(1, len(ear.messages) + 1)), name
        assert {m["type"] for m in ear.messages} == {"price_update"}


async def test_all_instruments(simulator):
    """`all` asks for the names first, and publishes what is trading."""
    section = {"connector": "binance.prices", "instruments": "all"}
    async with running(simulator, {"all": section}) as (ingest, _, ears):
        await ears["all"].until(lambda: len(ears["all"].messages) > 5)
        assert len(ingest.statuses["all"].counters.errors) == 0


@pytest.mark.parametrize(
    ("fault", "options", "state", "reason"),
    [
        ({"kind": "mute"}, {"stale_after_s": 0.3}, "stale", "no data for"),
        ({"kind": "noack"}, {"ack_timeout_s": 0.2}, "down", "no acknowledgement of"),
        ({"kind": "close", "code": 4006, "count": 1}, {}, "down", "closed by the venue: 4006"),
        ({"kind": "status", "status": 503, "count": 1}, {}, "down", "HTTP 503"),
        ({"kind": "truncate", "count": 1}, {}, "down", "connection lost"),
    ],
)
async def test_faults_of_a_stream(simulator, fault, options, state, reason):
    """A fault is said on `system`; when it is over, the feed is live again by itself."""
    fault = simulator.faults.add(venue="okx", **fault)
    async with running(simulator, {"btc": OKX}, **options) as (ingest, system, ears):
        await system.until(lambda: state in system.states)
        assert any(reason in text for text in system.reasons), system.reasons
        simulator.faults.remove(fault.id)
        await system.until(lambda: ingest.statuses["btc"].state is State.LIVE)
        assert ears["btc"].messages


async def test_half_open(simulator):
    """A connection that is open but dead is found out and replaced."""
    async with running(simulator, {"btc": OKX}, stale_after_s=0.3) as (_, system, _):
        await system.until(lambda: "live" in system.states)
        simulator.faults.add(venue="okx", kind="halfopen", count=1)
        await system.until(lambda: system.states.count("live") == 2)
    assert system.states == ["connecting", "live", "stale", "live"]


async def test_no_pong(simulator):
    """A venue that answers no ping is left, before the lack of data is called stale."""
    simulator.faults.add(venue="okx", kind="mute")
    simulator.faults.add(venue="okx", kind="nopong")
    options = {"ping_after_s": 0.1, "pong_timeout_s": 0.1}
    async with running(simulator, {"btc": OKX}, **options) as (_, system, _):
        await system.until(lambda: "no pong within 0.1 s" in system.reasons)


async def test_notice_64008(simulator):
    """After the notice of an upgrade a second connection takes over; the feed stays live."""
    async with running(simulator, {"btc": OKX}) as (ingest, system, ears):
        await system.until(lambda: "live" in system.states)
        simulator.faults.add(venue="okx", kind="notice", after_s=30, count=1)
        counters = ingest.statuses["btc"].counters
        await ears["btc"].until(lambda: counters.rotations)
        assert counters.rotations == {"notice": 1}
        assert (counters.errors, counters.reconnects) == ({}, 0)
    assert system.states == ["connecting", "live"]


async def test_garbage_is_counted(simulator):
    """Garbage in a stream is counted, and the connection stays."""
    simulator.faults.add(venue="okx", kind="garbage", count=3)
    async with running(simulator, {"btc": OKX}) as (ingest, _, ears):
        await ears["btc"].until(lambda: ears["btc"].messages)
        assert ingest.statuses["btc"].counters.errors == {"payload": 3}
        assert ingest.statuses["btc"].counters.reconnects == 0


async def test_unknown_instruments(simulator):
    """What the venues do not know is said by name; the others go on."""
    sections = {
        "btc": {**OKX, "instruments": ["BTC/USDT", "NOPE/USDT"]},
        "prices": {**PRICES, "instruments": ["BTC/USDT", "NOPE/USDT"]},
    }
    async with running(simulator, sections) as (ingest, system, ears):
        for ear in ears.values():
            await ear.until(lambda ear=ear: ear.messages)
        await system.until(lambda: system.states.count("unknown_instrument") == 2)
        assert all(set(s.unknown) == {"NOPE/USDT"} for s in ingest.statuses.values())


async def test_nothing_known(simulator):
    """A feed none of whose instruments exist says so."""
    nothing = {"btc": {**OKX, "instruments": ["NOPE/USDT"]}}
    async with running(simulator, nothing) as (_, system, _):
        await system.until(lambda: "the venue knows none of the instruments" in system.reasons)


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ({"kind": "status", "status": 429, "retry_after": 1}, "limited", "HTTP 429"),
        ({"kind": "status", "status": 451}, "down", "HTTP 451: binance refuses this location"),
        ({"kind": "status", "status": 503}, "down", "HTTP 503"),
        ({"kind": "html"}, "down", "DecodeError"),
        ({"kind": "empty"}, "down", "DecodeError"),
        ({"kind": "bom"}, "down", "byte order mark"),
        ({"kind": "garbage"}, "down", "DecodeError"),
        ({"kind": "truncate"}, "down", ""),
        ({"kind": "refuse"}, "down", "connection"),
        ({"kind": "halfopen"}, "down", "no answer within 0.5 s"),
    ],
)
async def test_faults_of_a_poll(simulator, fault, state, reason):
    """A fault is said on `system`; when it is over, the feed is live again by itself."""
    fault = simulator.faults.add(venue="binance", **fault)
    options = {"interval_s": 0.1, "timeout_s": 0.5, "max_backoff_s": 0.3}
    async with running(simulator, {"prices": PRICES}, **options) as (ingest, system, ears):
        await system.until(lambda: state in system.states)
        assert any(reason in text for text in system.reasons), system.reasons
        assert ears["prices"].messages == []
        simulator.faults.remove(fault.id)
        await system.until(lambda: ingest.statuses["prices"].state is State.LIVE)
        assert ears["prices"].messages
