"""Which instruments are late or stale, on a clock that only the test moves."""

from __future__ import annotations

import json
import logging
import random

import pytest
from ingest.doubles import QuoteOptions, Quotes, Setup, Stream, stream_options

from aggregator import wire
from aggregator.ingest import instruments as instruments_module
from aggregator.ingest.instruments import Instruments
from aggregator.model import BookUpdate, Gap, Level, PriceUpdate, State

PAIR = ["BTC/USDT", "ETH/USDT"]


class World(Setup):
    """One feed that is looked at each second; what its instruments do is up to the test."""

    def __init__(self, cls=Stream, options=None, **more) -> None:
        super().__init__(cls, options or stream_options("ws://x", instruments=PAIR))
        # A day is a lot of messages, and nobody looks at them.
        self.hub.unregister(self.ear, frozenset({self.channel.name}))
        self.instruments = Instruments(self.status, self.channel, self.hub, **more)
        self.wall_ns = 10**18
        self.hub._clock_ns = lambda: self.wall_ns

    def data(self, *instruments: str) -> None:
        for instrument in instruments:
            event = PriceUpdate(instrument, "1", b"{}")
            self.hub.publish(self.channel, event, self.hub.now_us())
        self.status.data(self.clock())

    def pass_s(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall_ns += round(seconds * 1e9)

    def run(self, seconds: int, *instruments: str, every: int = 1) -> None:
        for second in range(seconds):
            if second % every == 0:
                self.data(*instruments)
            self.look()

    def look(self) -> None:
        self.pass_s(1)
        for _ in self.instruments.look(self.clock()):
            pass

    def said(self, instrument: str) -> list[dict]:
        data = [message["data"] for message in self.system.messages]
        return [each for each in data if each["instrument"] == instrument]

    def states(self, instrument: str) -> list[str]:
        return [each["state"] for each in self.said(instrument)]

    def snapshot(self) -> dict[str, bool]:
        messages = [json.loads(wire.payload_of(m.frame)) for m in self.hub.snapshot(["quotes"])]
        return {m["instrument"]: m["stale"] for m in messages}


@pytest.fixture
def world():
    return World()


def test_one_of_two_goes_silent(world, caplog):
    """Exactly one `late` and one `stale` for it, none for the other; `live` once at its return."""
    caplog.set_level(logging.INFO)
    world.run(120, *PAIR)
    caplog.clear()
    world.run(120, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    late, stale = world.said("ETH/USDT")
    assert stale["reason"] == "no data for 32 s, usual 0.6 s"
    assert stale["detail"] == {"age_us": 32_000_000, "usual_us": pytest.approx(0.6e6, rel=0.1)}
    assert stale["since_us"] - late["since_us"] == 20_000_000
    assert world.snapshot() == {"BTC/USDT": False, "ETH/USDT": True}
    world.run(60, *PAIR)
    assert world.states("ETH/USDT") == ["late", "stale", "live"]
    assert world.said("ETH/USDT")[-1]["reason"] == "data again after 121 s"
    assert world.states("BTC/USDT") == []
    assert world.system.states == ["connecting", "live", "late", "stale", "live"]
    assert world.snapshot() == {"BTC/USDT": False, "ETH/USDT": False}
    assert [r.levelname for r in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert caplog.messages[1] == "feed quotes: ETH/USDT stale: no data for 32 s, usual 0.6 s"


def test_the_whole_feed_goes_silent(world):
    """One instrument a moment before the other: it is the feed that is late, neither of them."""
    world.run(120, *PAIR)
    world.run(1, "ETH/USDT")
    for _ in range(60):
        world.look()
    assert world.system.states == ["connecting", "live", "late"]


def test_the_snapshot_of_system_has_what_is_not_live(world):
    """Who comes later hears of a stale instrument, and not of each that once was."""
    world.run(120, *PAIR)
    world.run(60, "BTC/USDT")
    assert set(world.hub.system.slots) == {"quotes", "quotes:ETH/USDT"}
    world.run(5, *PAIR)
    assert set(world.hub.system.slots) == {"quotes"}


@pytest.mark.parametrize("seed", range(8))
def test_one_trade_in_ten_minutes(seed):
    """An instrument that trades at random, once in ten minutes, raises nothing over a day."""
    rng = random.Random(seed)
    world = World()
    following = rng.expovariate(1 / 600)
    for second in range(86_400):
        due = second >= following
        if due:
            following = second + rng.expovariate(1 / 600)
        world.data("BTC/USDT", *["ETH/USDT"] * due)
        world.look()
    assert world.system.states == ["connecting", "live"]


def test_a_rare_instrument_that_stops_is_found():
    """What came once in ten minutes and comes no more is stale after some hours."""
    world = World()
    for _ in range(40):
        world.run(600, "BTC/USDT")
        world.data("ETH/USDT")
    world.run(5 * 3600, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]


def test_too_few_data_to_judge(world):
    """An instrument that came a few times is judged by its feed alone."""
    world.run(5, *PAIR)
    world.run(3600, "BTC/USDT")
    assert world.states("ETH/USDT") == []


def test_feed_is_late(world):
    """When all are silent the feed is late, with what is usual, and no instrument is."""
    world.run(120, *PAIR)
    for _ in range(25):
        world.look()
    assert world.system.states == ["connecting", "live", "late"]
    said = world.system.messages[-1]["data"]
    assert said["reason"] == "no data for 12 s, usual 0.6 s"
    assert said["detail"]["age_us"] == 12_000_000
    assert world.status.ready
    world.run(1, *PAIR)
    assert world.system.states == ["connecting", "live", "late", "live"]


@pytest.mark.parametrize("outage", ["stale", "down", "connecting", "blocked", "late"])
def test_outage_of_the_feed(world, outage):
    """While the feed has a state of its own nothing is said; who stays silent after it is said."""
    world.run(120, *PAIR)
    states = len(world.system.states)
    match outage:
        case "stale":
            world.status.stale("no data for 30 s")
        case "down":
            world.status.down("HTTP 503")
        case "connecting":
            world.status.connecting("again")
        case "blocked":
            world.status.limited("HTTP 429", 0.0, "blocked")
        case "late":
            for _ in range(20):
                world.look()
    for _ in range(600):
        world.look()
    assert world.system.states[states:] == [outage if outage != "blocked" else "limited"]
    world.status.unlimited()
    world.run(8, "BTC/USDT")
    assert world.states("ETH/USDT") == []
    world.run(120, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    assert world.states("BTC/USDT") == []


def test_outage_does_not_change_who_was_stale(world):
    """What was stale before an outage of the feed is stale after it, and is not said again."""
    world.run(120, *PAIR)
    world.run(60, "BTC/USDT")
    world.status.down("HTTP 503")
    world.look()
    world.run(600, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    world.run(1, *PAIR)
    assert world.states("ETH/USDT") == ["late", "stale", "live"]


def test_late_before_and_after_an_outage(world):
    """What was late before an outage of the feed is not said to be late once more after it."""
    world.run(120, *PAIR)
    world.run(20, "BTC/USDT")
    world.status.down("HTTP 503")
    world.look()
    world.run(25, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late"]
    world.run(25, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]


def test_outage_is_not_learned(world):
    """Time in which the whole feed had no data is no interval of its instruments."""
    world.run(200, *PAIR)
    usual = world.instruments.watched["ETH/USDT"].usual_s
    world.status.down("HTTP 503")
    for _ in range(1000):
        world.look()
    world.run(3, *PAIR)
    assert world.instruments.watched["ETH/USDT"].usual_s == pytest.approx(usual, rel=0.1)


def test_suspended(world):
    """A daemon that was suspended for hours does not call everything late, or learn from it."""
    world.run(200, *PAIR)
    usual = world.instruments.watched["ETH/USDT"].usual_s
    world.pass_s(7200)
    world.look()
    world.run(5, *PAIR)
    assert world.states("ETH/USDT") == world.states("BTC/USDT") == []
    assert world.instruments.watched["ETH/USDT"].usual_s == pytest.approx(usual, rel=0.2)


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
def test_the_wall_clock_jumps(world, jump_s):
    """It changes nothing but the age that is told, which is never negative."""
    world.run(120, *PAIR)
    world.wall_ns += jump_s * 10**9
    world.run(9, "BTC/USDT")
    assert world.states("ETH/USDT") == []
    world.run(60, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    assert world.said("ETH/USDT")[0]["detail"]["age_us"] >= 0


def test_withdrawn(world):
    """What the venue does not know any more has no freshness; its own state is said."""
    world.run(120, *PAIR)
    world.run(20, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late"]
    world.status.unknown_instrument("ETH/USDT", "delisted")
    world.run(600, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "unknown_instrument"]
    assert list(world.instruments.watched) == ["BTC/USDT"]
    assert +world.instruments.counts() == {"live": 1, "unknown_instrument": 1}
    assert [row["state"] for row in world.instruments.not_live()] == ["unknown_instrument"]


def test_polled_instruments_are_judged_by_polls():
    """Each poll brings all: one that is left out is late after two intervals, then stale."""
    world = World(Quotes, QuoteOptions(interval_s=10, stale_after_s=30))
    world.run(100, *PAIR, every=10)
    world.run(100, "BTC/USDT", every=10)
    assert world.states("ETH/USDT") == ["late", "stale"]
    late, stale = world.said("ETH/USDT")
    assert late["reason"] == "no data for 22 s, usual 4.9 s"
    assert stale["reason"] == "no data for 32 s, usual 4.9 s"
    assert world.states("BTC/USDT") == []


def test_polled_less_often_than_configured():
    """Where the source refreshes every ten minutes, five minutes are no silence."""
    world = World(Quotes, QuoteOptions(interval_s=10, stale_after_s=30))
    world.run(100, *PAIR, every=10)
    world.status.limited("the source refreshes every 600 s", 600, "cached")
    world.run(1200, *PAIR, every=600)
    assert set(world.system.states) == {"connecting", "live", "limited"}
    world.run(1800, "BTC/USDT", every=600)
    assert world.states("ETH/USDT") == ["late", "stale"]


def test_promise_of_the_venue():
    """A venue that promises data each minute is held to it, however little was learned."""
    world = World(silence_s=60.0)
    world.data("BTC/USDT")
    assert world.instruments.counts() == dict.fromkeys(
        ("live", "late", "stale", "unknown_instrument"), 0
    ) | {"connecting": 2}
    world.run(69, "BTC/USDT")
    assert world.states("ETH/USDT") == []
    world.run(60, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    stale = world.said("ETH/USDT")[-1]
    assert stale["reason"] == "no data for 91 s; the venue promises some every 60 s"
    assert stale["detail"] == {"age_us": None, "usual_us": None}
    assert +world.instruments.counts() == {"live": 1, "stale": 1}


def test_a_book_that_was_lost(world):
    """After a gap there is no value, but the instrument is expected back as before."""
    world.run(60, *PAIR)
    book = [Level("1", "2")]
    event = BookUpdate(instrument="ETH/USDT", bids=book, asks=[], whole=True, book=FakeBook())
    world.hub.publish(world.channel, event, world.hub.now_us())
    world.look()
    world.hub.publish(world.channel, Gap(instrument="ETH/USDT", data={}), world.hub.now_us())
    world.run(60, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    assert world.said("ETH/USDT")[-1]["detail"]["age_us"] is None
    world.run(2, *PAIR)
    assert world.states("ETH/USDT") == ["late", "stale", "live"]


class FakeBook:
    def top(self):
        return [Level("1", "2")], []


def test_many_at_once_are_one_line(caplog, monkeypatch):
    """A hundred silent instruments fill neither the log nor a turn of the loop."""
    monkeypatch.setattr(instruments_module, "SLICE", 10)
    names = [f"A{n:02}/B" for n in range(100)]
    world = World(options=stream_options("ws://x", instruments=[*names, "BTC/USDT"]))
    world.run(60, *names, "BTC/USDT")
    caplog.clear()
    caplog.set_level(logging.INFO)
    world.run(60, "BTC/USDT")
    assert len(caplog.messages) == 2
    assert caplog.messages[1] == (
        "feed quotes: A00/B, A01/B, A02/B, A03/B, A04/B and 95 more stale: 100 instruments"
    )
    assert world.instruments.counts()[State.STALE] == 100
    assert sum(1 for _ in world.instruments.look(world.clock())) == 10


class Steps:
    def __init__(self) -> None:
        self.looks: list[dict[str, float]] = []

    def look(self, now, silent):
        self.looks.append(dict(silent))


def test_what_is_stale_is_escalated(world):
    """Those that are stale, with what is usual; late ones, and a feed that is down, are not."""
    steps = world.instruments.escalation = Steps()
    world.run(120, *PAIR)
    world.run(20, "BTC/USDT")
    assert not any(steps.looks)
    world.run(20, "BTC/USDT")
    assert list(steps.looks[-1]) == ["ETH/USDT"]
    assert 0 < steps.looks[-1]["ETH/USDT"] < 1
    count = len(steps.looks)
    world.status.down("HTTP 503")
    world.look()
    assert len(steps.looks) == count
    world.run(2, *PAIR)
    assert steps.looks[-1] == {}
