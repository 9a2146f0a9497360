from __future__ import annotations

import logging

import pytest
from ingest.doubles import QuoteOptions, Quotes, Setup, Stream, stream_options

from aggregator.hub import Hub
from aggregator.ingest.failure import RefusedError, UpstreamError
from aggregator.ingest.freshness import FeedStatus
from aggregator.model import State


@pytest.fixture
def setup():
    return Setup(Stream, stream_options("ws://x", instruments=["BTC/USDT", "ETH/USDT"]))


@pytest.fixture
def polled():
    return Setup(Quotes, QuoteOptions(interval_s=20, stale_after_s=30))


def test_starts_connecting(setup):
    """A new feed says at once that it exists."""
    assert setup.system.states == ["connecting"]
    assert setup.system.messages[0]["data"]["feed"] == "quotes"
    assert not setup.status.ready


def test_first_data_make_it_live(setup, caplog):
    """The first data are one message and one line, the next ones nothing."""
    caplog.set_level(logging.INFO)
    for _ in range(3):
        setup.status.data(setup.clock())

    assert setup.system.states == ["connecting", "live"]
    assert caplog.messages == ["feed quotes live (fake, BTC/USDT, ETH/USDT)"]
    assert setup.status.ready
    assert setup.status.last_data == setup.clock()


def test_a_long_list_is_cut(caplog):
    """A feed of many instruments does not fill the log."""
    caplog.set_level(logging.INFO)
    setup = Setup(Stream, stream_options("ws://x", instruments=[f"A{n}/B" for n in range(9)]))
    setup.status.data(0)

    assert caplog.messages == ["feed quotes live (fake, A0/B, A1/B, A2/B, A3/B, A4/B and 4 more)"]


def test_one_message_per_change(setup, caplog):
    """A failure that goes on is said once, and its end once."""
    setup.status.down("HTTP 503")
    setup.status.down("HTTP 502")
    setup.status.connecting("again")
    setup.status.stale("old")
    assert setup.system.states == ["connecting", "down"]
    # The reason that is asked for is the present one all the same.
    assert setup.status.reason == "HTTP 502"
    setup.status.data(1)
    setup.status.down("again")
    setup.status.data(2)

    assert setup.system.states == ["connecting", "down", "live", "down", "live"]
    assert caplog.messages == ["feed quotes down: HTTP 503", "feed quotes down: again"]


def test_another_kind_of_failure_is_news(setup):
    """What is down for another reason than before is said again, each kind once."""
    refused = RefusedError("HTTP 451: refused", "http")
    assert setup.status.down("HTTP 500", UpstreamError("HTTP 500", "http"))
    assert not setup.status.down("HTTP 502", UpstreamError("HTTP 502", "http"))
    assert setup.status.down("HTTP 451: refused", refused)
    assert not setup.status.down("HTTP 451: refused", refused)
    assert setup.system.states == ["connecting", "down", "down"]


@pytest.mark.parametrize("text", ["bad key {}", "{}", "bad key {} of {}", "cut: {:.7}"])
def test_no_secret_in_what_is_said(text, caplog):
    """A venue that repeats our key does not tell it to everybody, even where it is cut."""
    hub = Hub()
    channel = hub.add_channel("quotes", "fake", ["A/B"])
    status = FeedStatus(channel, hub, stale_after_s=30, secrets=["CGSECRETKEY"])
    with caplog.at_level(logging.DEBUG):
        status.down(text.format("CGSECRETKEY", "CGSECRETKEY"))
        status.unknown_instrument("A/B", text.format("CGSECRETKEY", "CGSECRETKEY"))
    said = [slot.last.frame for slot in hub.system.slots.values()]
    assert not [frame for frame in said if b"SECRET" in frame]
    assert "SECRET" not in status.reason
    assert "SECRET" not in caplog.text


def test_live_again_says_for_how_long(setup, caplog):
    """The end of a failure says how long it was."""
    setup.status.data(1)
    setup.status.down("HTTP 503")
    caplog.clear()
    caplog.set_level(logging.INFO)
    setup.status.data(2)

    assert caplog.messages == ["feed quotes live again after 0.0 s"]


def test_stale(setup):
    """Data that stop coming make the feed stale, which ends with data alone."""
    setup.clock.advance(29)
    setup.status.check(setup.clock())
    setup.status.data(setup.clock())
    setup.clock.advance(30)
    setup.status.check(setup.clock())
    assert setup.status.ready
    setup.clock.advance(1)
    setup.status.check(setup.clock())
    setup.status.check(setup.clock())
    setup.status.connecting("reconnecting")

    assert setup.status.state is State.STALE
    assert setup.system.reasons[-1] == "no data for 31 s"
    detail = {"age_us": 31_000_000, "usual_us": None}
    assert setup.system.messages[-1]["data"]["detail"] == detail
    assert not setup.status.ready
    setup.status.data(setup.clock())
    assert setup.status.state is State.LIVE


def test_late(setup, caplog):
    """Late is said once, with how old the data are; it is ready, no failure, and ends with data."""
    caplog.set_level(logging.INFO)
    setup.status.late(setup.clock())
    assert setup.system.states == ["connecting"]
    setup.status.data(setup.clock())
    setup.clock.advance(12)
    for _ in range(3):
        setup.status.late(setup.clock())
    said = setup.system.messages[-1]["data"]
    assert (said["state"], said["reason"]) == ("late", "no data for 12 s")
    assert said["detail"] == {"age_us": 12_000_000, "usual_us": None}
    assert setup.status.ready
    setup.clock.advance(19)
    assert not setup.status.ready
    setup.status.data(setup.clock())
    assert setup.system.states == ["connecting", "live", "late", "live"]
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3


def test_late_and_limited(polled):
    """What is late and finds no budget stays late; that the venue blocks it is news, and why."""
    polled.status.limited("budget", 40, "budget")
    polled.status.data(polled.clock())
    polled.clock.advance(90)
    polled.status.late(polled.clock())
    assert polled.system.reasons[-1] == "no data for 90 s; budget"
    polled.status.limited("budget", 40, "budget")
    assert polled.status.state is State.LATE
    polled.status.limited("HTTP 429", 20, "blocked", 5)
    polled.status.late(polled.clock())
    assert polled.system.states == ["connecting", "limited", "late", "limited"]


def test_channel_is_stale(setup):
    """While the feed is stale or down all of its values are; a late feed's are not."""
    setup.status.data(setup.clock())
    setup.status.late(setup.clock())
    assert not setup.channel.stale
    setup.status.stale("no data for 30 s")
    assert setup.channel.stale
    setup.status.data(setup.clock())
    assert not setup.channel.stale
    setup.status.down("HTTP 503")
    assert setup.channel.stale


def test_never_any_data_is_stale(setup):
    """A feed that never had data is stale as well, after its time."""
    setup.clock.advance(31)
    setup.status.check(setup.clock())

    assert setup.system.states == ["connecting", "stale"]


def test_polled_feeds_may_be_older(polled):
    """A polled feed is stale after two and a half intervals, where that is longer."""
    polled.status.data(polled.clock())
    polled.clock.advance(49)
    polled.status.check(polled.clock())
    assert polled.status.state is State.LIVE
    polled.clock.advance(2)
    polled.status.check(polled.clock())
    assert polled.status.state is State.STALE


def test_limited(polled, caplog):
    """A limited feed says why and how often, stays limited with data, and is ready while fresh."""
    caplog.set_level(logging.INFO)
    polled.status.data(polled.clock())
    caplog.clear()
    polled.status.limited("the source refreshes every 60 s", 60, "cached")
    polled.status.data(polled.clock())
    polled.status.limited("the source refreshes every 80 s", 80, "cached")

    assert polled.system.states == ["connecting", "live", "limited"]
    assert polled.system.messages[-1]["data"]["detail"] == {
        "effective_interval_s": 60,
        "cause": "cached",
        "until_us": None,
    }
    assert caplog.messages == ["feed quotes limited: the source refreshes every 60 s"]
    polled.clock.advance(200)
    assert polled.status.ready
    polled.clock.advance(1)
    assert not polled.status.ready
    polled.status.check(polled.clock())
    assert polled.system.reasons[-1] == "no data for 201 s; the source refreshes every 80 s"
    polled.status.limited("the source refreshes every 60 s", 60, "cached")
    assert polled.status.state is State.STALE
    polled.status.data(polled.clock())
    assert polled.status.state is State.LIMITED


def test_unlimited(polled):
    """What ends a limit is the next data."""
    polled.status.limited("budget", 40, "budget")
    polled.status.unlimited()
    assert polled.status.state is State.LIMITED
    polled.status.data(polled.clock())

    assert polled.status.state is State.LIVE
    assert polled.status.cause is None
    assert polled.status.effective_interval_s == 20


def test_down_and_limited(polled):
    """A feed that is down stays so when the budget is short; that the venue blocks it is news."""
    polled.status.down("HTTP 503")
    polled.status.limited("budget", 40, "budget")
    assert polled.status.state is State.DOWN
    polled.status.limited("HTTP 429", 20, "blocked", 5)
    polled.status.limited("HTTP 429", 20, "blocked", 6)

    assert polled.system.states == ["connecting", "down", "limited"]
    assert polled.system.messages[-1]["data"]["detail"]["until_us"] == 5
    assert not polled.status.ready


def test_another_cause_is_news(polled, caplog):
    """A feed limited for another reason than before says so."""
    polled.status.limited("budget", 40, "budget")
    polled.status.limited("HTTP 429", 20, "blocked")

    assert polled.system.reasons[-2:] == ["budget", "HTTP 429"]
    assert [r.levelname for r in caplog.records] == ["WARNING", "WARNING"]


def test_unknown_instrument(setup, caplog):
    """An unknown instrument is said once, leaves the channel, and comes back with its data."""
    setup.status.unknown_instrument("ETH/USDT", "not\nlisted")
    setup.status.unknown_instrument("ETH/USDT", "not listed")

    assert setup.channel.instruments == {"BTC/USDT"}
    assert setup.system.states == ["connecting", "unknown_instrument"]
    assert setup.system.messages[-1]["data"]["instrument"] == "ETH/USDT"
    assert caplog.messages == ["feed quotes: unknown instrument ETH/USDT: not listed"]
    setup.status.known("BTC/USDT")
    setup.status.known_again(["ETH/USDT", "BTC/USDT"])
    assert setup.system.states == ["connecting", "unknown_instrument", "live"]
    assert setup.channel.instruments == {"BTC/USDT", "ETH/USDT"}
    assert setup.status.state is State.CONNECTING


def test_listed_by_the_venue(polled):
    """Which instruments there are may come from the venue, and change."""
    assert polled.channel.instruments is None
    polled.status.unknown_instrument("C/D", "no")
    polled.status.known("C/D")
    polled.status.listed(frozenset({"A/B", "C/D"}))
    polled.status.listed(frozenset({"A/B"}))
    assert polled.channel.instruments == {"A/B"}
    polled.status.listed(frozenset({"A/B", "C/D"}))

    assert polled.channel.instruments == {"A/B", "C/D"}
    assert [m["data"]["instrument"] for m in polled.system.messages] == [None] + ["C/D"] * 3
    # That it is back, its next price says.
    assert polled.system.states[1:] == ["unknown_instrument", "live", "unknown_instrument"]
    assert not polled.status.unknown
    assert "polled:C/D" not in polled.hub.system.slots
