"""Feeds and instruments that have data rarely, on a clock that only the test moves."""

from __future__ import annotations

import random

import pytest
from aiohttp import web
from ingest.benches import StreamBench
from ingest.doubles import script
from ingest.test_instruments import PAIR, Steps, World

from aggregator.ingest.instruments import NEVER_S
from aggregator.ingest.rhythm import Rhythm
from aggregator.model import State


class Streamed(World):
    """A feed whose connection lives, and is watched as a streamed one's is."""

    def __init__(self, **more) -> None:
        super().__init__(**more)
        self.status.pinged = True

    def look(self) -> None:
        super().look()
        since = self.status.last_data
        if since is not None and self.clock() - since >= self.status.stale_limit_s:
            self.status.stale(f"no data for {self.clock() - since:.0f} s")


# Feeds all of whose instruments are rare.


@pytest.mark.parametrize("seed", range(8))
def test_a_feed_that_has_a_trade_in_ten_minutes(seed):
    """After its first hours it raises nothing over a day; before that it is learned soon."""
    rng = random.Random(seed)
    world = Streamed()
    following = 0.0
    for second in range(4 * 3600 + 86_400):
        if second == 4 * 3600:
            early = world.system.states.count("stale")
            del world.system.messages[:]
        if second >= following:
            following = second + rng.expovariate(1 / 300)
            world.data(rng.choice(PAIR))
        world.look()
    assert world.system.states == []
    assert early <= 6


def test_a_rare_feed_that_fails_again_and_again():
    """What it takes to find that it is silent does not grow by the silences that were found."""
    world = Streamed()
    for _ in range(30):
        world.run(1, "ETH/USDT")
        for _ in range(60):
            world.look()
    limit_s = world.status.stale_limit_s
    for _ in range(10):
        while world.status.state is not State.STALE:
            world.look()
        for _ in range(60):
            world.look()
        for _ in range(30):
            world.run(1, "ETH/USDT")
            for _ in range(60):
                world.look()
        assert world.status.stale_limit_s < 2 * limit_s


def test_a_rare_feed_that_stops():
    """It is found, though not in half a minute."""
    world = Streamed()
    for _ in range(30):
        world.run(1, "ETH/USDT")
        for _ in range(600):
            world.look()
    del world.system.messages[:]
    for _ in range(2 * 3600):
        world.look()
    assert world.system.states[-1] == "stale"


def test_a_feed_that_is_not_rare():
    """One with data each second is stale after `stale_after_s`, also after it has failed often."""
    world = Streamed()
    for _ in range(6):
        world.run(300, *PAIR)
        assert world.status.stale_limit_s == 30
        for _ in range(900):
            world.look()
        assert world.status.state is State.STALE
    world.run(5, *PAIR)
    assert world.status.stale_limit_s == 30


def test_a_feed_that_is_not_pinged():
    """Where nobody knows whether the connection lives, `stale_after_s` holds."""
    world = World()
    for _ in range(20):
        world.run(1, "ETH/USDT")
        for _ in range(20):
            world.look()
    assert world.status.stale_limit_s == 30


def test_the_limit_of_what_is_slow():
    """It is learned from the first pauses on; a failure alone makes nothing slow."""
    rhythm = Rhythm(10.0, 1.0)
    assert rhythm.slow_limit_s(30.0) == 0.0
    rhythm.add(20.0)
    assert rhythm.slow_limit_s(30.0) == 0.0
    rhythm.add(600.0)
    assert rhythm.slow_limit_s(30.0) == 2400.0
    for _ in range(20):
        rhythm.add(600.0)
    assert rhythm.slow_limit_s(30.0) == rhythm.limit_s
    fast = Rhythm(10.0, 1.0)
    fast.beats = 1000
    fast.add(1000.0)
    assert fast.slow_limit_s(30.0) == 0.0


# Instruments that had no data yet.


def connecting(world):
    return [(row["instrument"], row["reason"]) for row in world.instruments.not_live()]


def test_an_instrument_that_is_mute_from_the_start(caplog):
    """Who asks is told after `stale_after_s`; that it is stale is said when it can't be chance."""
    caplog.set_level("INFO")
    world = World()
    world.run(30, "BTC/USDT")
    assert connecting(world) == []
    assert +world.instruments.counts() == {"live": 1, "connecting": 1}
    world.run(15, "BTC/USDT")
    [(name, reason)] = connecting(world)
    assert (name, reason) == ("ETH/USDT", "no data yet, for 44 s")
    [row] = world.instruments.not_live()
    assert (row["state"], row["age_s"]) == ("connecting", None)
    assert caplog.text.count("ETH/USDT connecting: no data yet") == 1
    world.run(int(NEVER_S), "BTC/USDT")
    assert world.states("ETH/USDT") == ["stale"]
    said = world.said("ETH/USDT")[0]
    assert said["reason"].startswith("no data yet, for 9")
    assert said["detail"] == {"age_us": None, "usual_us": None}
    assert +world.instruments.counts() == {"live": 1, "stale": 1}
    world.run(1, *PAIR)
    assert world.states("ETH/USDT") == ["stale", "live"]
    assert connecting(world) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_first_trade_may_be_long_in_coming(seed):
    """What trades once in ten minutes, or for the first time after an hour, raises nothing."""
    rng = random.Random(seed)
    world = World()
    world.run(3600, "BTC/USDT")
    assert [name for name, _ in connecting(world)] == ["ETH/USDT"]
    following = 0.0
    for second in range(20_000):
        due = second >= following
        if due:
            following = second + rng.expovariate(1 / 600)
        world.data("BTC/USDT", *["ETH/USDT"] * due)
        world.look()
    assert world.system.states == ["connecting", "live"]
    assert connecting(world) == []


def test_what_is_done_about_it():
    """It is subscribed to again, like others; with the patience that a rare one needs."""
    world = World()
    steps = world.instruments.escalation = Steps()
    world.run(int(NEVER_S), "BTC/USDT")
    assert not any(steps.looks)
    world.run(30, "BTC/USDT")
    assert steps.looks[-1] == {"ETH/USDT": 600.0}


def test_an_outage_is_not_its_silence():
    """Time in which the feed as a whole had no data does not count."""
    world = World()
    world.run(100, "BTC/USDT")
    world.status.down("HTTP 503")
    for _ in range(10_000):
        world.look()
    world.run(100, "BTC/USDT")
    assert world.states("ETH/USDT") == []
    assert connecting(world) == [("ETH/USDT", "no data yet, for 199 s")]


# What was fetched, and what waits.


def fetch(world, *instruments):
    """Publish what a stream has fetched."""
    lasts = world.status.fetched.lasts(instruments)
    at = world.status.last_data
    world.data(*instruments)
    world.status.last_data = at
    world.status.fetched.note(lasts)


def test_what_is_fetched_is_no_sign_of_life():
    """An instrument whose snapshots are fetched while its stream is silent is late, then stale."""
    world = World()
    world.run(120, *PAIR)
    for _ in range(60):
        world.data("BTC/USDT")
        fetch(world, "ETH/USDT")
        world.look()
    assert world.states("ETH/USDT") == ["late", "stale"]
    assert world.snapshot() == {"BTC/USDT": False, "ETH/USDT": True}
    for _ in range(3):
        fetch(world, "ETH/USDT")
        assert world.snapshot()["ETH/USDT"]
        world.look()
    world.run(1, *PAIR)
    assert world.states("ETH/USDT") == ["late", "stale", "live"]


def test_what_was_fetched_alone_is_no_data_yet():
    """A book that came by its snapshot, and never changed, is as one that had no data."""
    world = World()
    fetch(world, "ETH/USDT")
    world.run(60, "BTC/USDT")
    assert [name for name, _ in connecting(world)] == ["ETH/USDT"]
    world.run(int(NEVER_S), "BTC/USDT")
    assert world.states("ETH/USDT") == ["stale"]
    assert world.snapshot()["ETH/USDT"]


def test_what_waits_is_no_silence():
    """An instrument whose trades come, and wait for missed ones, is neither late nor stale."""
    world = World()
    world.run(120, *PAIR)
    for _ in range(100):
        world.status.withheld.add("ETH/USDT")
        world.run(1, "BTC/USDT")
    assert world.states("ETH/USDT") == []
    world.run(60, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    world.status.withheld.add("ETH/USDT")
    world.run(1, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale", "live"]
    assert world.snapshot() == {"BTC/USDT": False, "ETH/USDT": False}


# Over real sockets.


async def test_a_slow_feed_keeps_its_connection(session, venue):
    """While pongs come a feed that is known to be slow is not cut at `stale_after_s`."""
    pings = []

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str('{"BTC/USDT":"1.5"}')
        async for message in ws:
            if message.data == "ping":
                pings.append(1)
                await ws.send_str("pong")
                if len(pings) == 2:
                    await ws.send_str('{"BTC/USDT":"1.6"}')
            else:
                await ws.send_str('{"!ack":"BTC/USDT"}')
        return ws

    venue.answer = serve
    bench = StreamBench(session, venue.ws_url, ping_after_s=0.02, stale_after_s=0.2)
    bench.status.rhythm.add(5.0)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 2)
    assert bench.system.states == ["connecting", "live"]
    assert len(venue.requests) == 1


async def test_a_slow_feed_whose_connection_dies(session, venue):
    """Its silence is found by the pong that does not come, as ever."""
    venue.answer = script('{"BTC/USDT":"1.5"}')
    options = {"ping_after_s": 0.02, "pong_timeout_s": 0.05, "stale_after_s": 0.2}
    bench = StreamBench(session, venue.ws_url, **options)
    bench.status.rhythm.add(500.0)
    await bench.to_the_end()
    assert bench.status.reason == "no pong within 0.05 s"
