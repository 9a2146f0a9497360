"""Instruments that go silent at a simulated venue: over real sockets, with short times."""

from __future__ import annotations

import asyncio
import json

import pytest
from ingest.benches import running

from aggregator import wire
from aggregator.ingest import merge
from aggregator.model import State
from aggregator.simulator import Simulator

PAIR = ["BTC/USDT", "ETH/USDT"]
SHORT = {"stale_after_s": 1.0, "ping_after_s": 0.1}


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


def section(connector="okx.ticker", **more):
    return {"pair": {"connector": connector, "instruments": PAIR, **more}}


def said(system, instrument):
    """Return the states that were said of an instrument; of the feed with `None`."""
    data = [message["data"] for message in system.messages]
    return [each["state"] for each in data if each["instrument"] == instrument]


async def learned(ingest, ear):
    """Wait until both instruments are known well enough to be judged quickly."""
    watched = ingest.instruments["pair"].watched
    await ear.until(lambda: len(watched) == 2 and all(w.limit_s < 1.5 for w in watched.values()))


def snapshot(ingest):
    messages = ingest._hub.snapshot(["pair"])
    found = [json.loads(wire.payload_of(message.frame)) for message in messages]
    return {message["instrument"]: message["stale"] for message in found}


@pytest.mark.parametrize("connector", ["okx.ticker", "okx.books", "binance.trades"])
async def test_one_of_two_goes_silent(simulator, connector):
    """While pongs go on: exactly one `stale`, none for the other, `live` once when it is back."""
    async with running(simulator, section(connector), **SHORT) as (ingest, system, ears):
        await learned(ingest, ears["pair"])
        fault = simulator.faults.add(venue="*", kind="mute", instrument="ETH/USDT")
        await system.until(lambda: "stale" in said(system, "ETH/USDT"))
        assert snapshot(ingest) == {"BTC/USDT": False, "ETH/USDT": True}
        [silent] = ingest.instruments["pair"].not_live()
        assert (silent["instrument"], silent["state"]) == ("ETH/USDT", State.STALE)
        simulator.faults.remove(fault.id)
        await system.until(lambda: "live" in said(system, "ETH/USDT"))
        assert snapshot(ingest) == {"BTC/USDT": False, "ETH/USDT": False}
        states = said(system, "ETH/USDT")
    assert states in (["late", "stale", "live"], ["stale", "live"])
    assert said(system, "BTC/USDT") == []
    assert said(system, None) == ["connecting", "live"]


async def test_both_go_silent(simulator):
    """Then it is the feed that is late and stale, and connects anew; of the instruments nothing."""
    options = SHORT | {"stale_after_s": 1.5}
    async with running(simulator, section(), **options) as (ingest, system, ears):
        status = ingest.statuses["pair"]
        await ears["pair"].until(lambda: status.late_limit_s < 1.2)
        fault = simulator.faults.add(venue="okx", kind="mute")
        await system.until(lambda: "stale" in said(system, None))
        simulator.faults.remove(fault.id)
        await system.until(lambda: said(system, None)[-1] == "live")
        assert status.counters.reconnects == 1
    assert said(system, None) == ["connecting", "live", "late", "stale", "live"]
    assert said(system, "BTC/USDT") == said(system, "ETH/USDT") == []


async def test_steps_against_a_silence(simulator, monkeypatch):
    """Subscribed again, then connected anew, then at the next address; then it is left alone."""
    monkeypatch.setattr(merge, "WAIT_S", 0.2)
    urls = [simulator.okx_url, f"{simulator.okx_url}?second"]
    sections = section(urls=urls)
    async with running(simulator, sections, **SHORT) as (ingest, system, ears):
        await learned(ingest, ears["pair"])
        before = len(simulator.commands)
        simulator.faults.add(venue="okx", kind="mute", instrument="ETH/USDT")
        async with asyncio.timeout(20):
            unsubscribed = await simulator.wait_for_command("okx", "unsubscribe")
            assert "ETH" in unsubscribed.text
            assert not [c for c in list(simulator.commands)[before:] if "BTC" in c.text]
            again = await simulator.wait_for_request("okx", "/ws/v5/public")
            assert "second" not in again.path_qs
            await simulator.wait_for_request("okx", "/ws/v5/public?second")
        counters = ingest.statuses["pair"].counters
        assert counters.escalations == {"resubscribe": 1, "reconnect": 1, "next_url": 1}
    assert said(system, None) == ["connecting", "live"]
    assert said(system, "ETH/USDT")[-1] == "stale"


async def test_a_subscription_that_was_lost(simulator):
    """To subscribe to the one instrument again brings it back; the connection stays."""
    async with running(simulator, section(), **SHORT) as (ingest, system, ears):
        await learned(ingest, ears["pair"])
        fault = simulator.faults.add(venue="okx", kind="mute", instrument="ETH/USDT")
        async with asyncio.timeout(10):
            await simulator.wait_for_command("okx", "unsubscribe")
        simulator.faults.remove(fault.id)
        await system.until(lambda: "live" in said(system, "ETH/USDT"))
        counters = ingest.statuses["pair"].counters
        assert counters.escalations == {"resubscribe": 1}
        assert (counters.reconnects, counters.rotations) == (0, {})


async def test_polled(simulator):
    """One row that is missing in the polls is late, then stale; the feed is live."""
    prices = {"pair": {"connector": "binance.orderbook", "instruments": PAIR}}
    options = {"interval_s": 0.1, "stale_after_s": 2.0}
    async with running(simulator, prices, **options) as (_, system, ears):
        await ears["pair"].until(lambda: len(ears["pair"].messages) > 4)
        simulator.faults.add(venue="binance", kind="garbage", instrument="ETH/USDT")
        await system.until(lambda: "stale" in said(system, "ETH/USDT"))
    assert said(system, "ETH/USDT") == ["late", "stale"]
    assert said(system, "BTC/USDT") == []
    assert said(system, None) == ["connecting", "live"]
