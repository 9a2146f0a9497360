from __future__ import annotations

import asyncio
import json
import logging

import pytest
from aiohttp import web
from ingest.benches import PollBench as Bench
from ingest.doubles import Quotes, Stream, stream_options

from aggregator.config import Feed
from aggregator.connector import Budget as Limits
from aggregator.ingest.poller import Poller
from aggregator.model import State


@pytest.fixture
def bench(venue, session):
    return Bench(venue, session)


async def test_good_poll(bench, venue):
    """A good answer is published with the time of its receipt, and the feed is live."""
    await bench.tick()

    assert bench.prices == [("BTC/USDT", 1.5)]
    assert bench.status.state is State.LIVE
    assert (bench.counters.received, bench.counters.events, bench.counters.polls) == (1, 1, 1)
    assert bench.counters.errors == {}


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (lambda _: web.Response(status=503), "http", "HTTP 503"),
        (lambda _: web.Response(text="<html>"), "payload", "DecodeError"),
        (lambda _: web.Response(body=b""), "payload", "DecodeError"),
        (lambda _: web.Response(body=b"\xef\xbb\xbf{}"), "payload", "byte order mark"),
        (lambda _: web.Response(status=404, text="gone"), "exchange", "HTTP 404: gone"),
        (lambda _: web.json_response({"BTC/USDT": "1", "bug": ""}), "unexpected", "TypeError"),
    ],
)
async def test_failure_and_recovery(bench, venue, answer, kind, reason):
    """A failure publishes nothing, puts the feed down, and backs off by leaving out ticks."""
    venue.answer = answer
    await bench.tick()
    assert bench.prices == []
    assert bench.status.state is State.DOWN
    assert reason in bench.status.reason
    assert bench.counters.errors == {kind: 1}
    await bench.tick(9.9)
    assert bench.counters.skipped == {"backoff": 1}
    await bench.tick(0.1)
    await bench.tick(19)
    assert bench.counters.errors == {kind: 2}
    assert len(venue.requests) == 2
    venue.answer = lambda _: web.json_response({"BTC/USDT": "2"})
    await bench.tick(1)
    assert bench.status.state is State.LIVE
    assert bench.system.states == ["connecting", "down", "live"]
    venue.answer = answer
    await bench.tick()
    await bench.tick()
    assert bench.counters.errors == {kind: 4}


async def test_a_bug_is_logged_with_its_traceback(bench, venue, caplog):
    """A bug in a connector is logged, and does not leave the poller."""
    venue.answer = lambda _: web.json_response({"bug": ""})
    await bench.tick()

    [record] = [r for r in caplog.records if r.exc_info]
    assert record.message == "feed quotes: unexpected error while polling"


async def test_timeout_and_secrets(venue, session, caplog):
    """The deadline of an answer is kept, and no key is ever logged or published."""
    caplog.set_level(logging.DEBUG, logger="aggregator")
    bench = Bench(venue, session, timeout_s=0.05)
    release = asyncio.Event()
    venue.answer = lambda _: release.wait()
    await bench.tick()
    release.set()

    assert bench.status.reason == "no answer within 0.05 s"
    assert bench.counters.errors == {"timeout": 1}
    assert "secret" not in caplog.text + str(bench.system.messages)


@pytest.mark.parametrize("status", [451, 403, 301])
async def test_refused_backs_off_at_the_cap(bench, venue, status):
    """A refused location is said in words, and not asked again for long."""
    venue.answer = lambda _: web.Response(status=status)
    await bench.tick()
    await bench.tick(59)

    assert f"HTTP {status}" in bench.status.reason
    assert bench.status.state is State.DOWN
    assert len(venue.requests) == 1
    await bench.tick(1)
    assert len(venue.requests) == 2


async def test_rate_limited_blocks_the_host(bench, venue, session):
    """After a 429 no feed of the host sends anything before Retry-After is over."""
    other = Bench(venue, session)
    other.poller.budget = bench.budget
    venue.answer = lambda _: web.Response(status=429, headers={"Retry-After": "35"})
    await bench.tick()
    assert bench.status.state is State.LIMITED
    assert bench.status.reason == "HTTP 429: fake wants no request for 35 s"
    detail = bench.system.messages[-1]["data"]["detail"]
    assert detail["cause"] == "blocked"
    assert abs(detail["until_us"] - bench.hub.now_us() - 35e6) < 30e6
    await other.poller.tick()
    assert other.status.state is State.LIMITED
    assert other.counters.skipped == {"blocked": 1}
    await bench.tick(34.9)
    assert bench.counters.skipped == {"blocked": 1}
    assert len(venue.requests) == 1
    # By now the data are too old as well, which says more.
    assert bench.status.state is State.STALE
    assert "HTTP 429" in bench.status.reason
    venue.answer = lambda _: web.json_response({"BTC/USDT": "1"})
    await bench.tick(0.2)
    assert bench.system.states == ["connecting", "limited", "stale", "live"]
    assert bench.status.cause is None


async def test_rate_limited_without_retry_after(bench, venue):
    """Without a Retry-After it is a minute and some jitter."""
    venue.answer = lambda _: web.Response(status=429)
    await bench.tick()

    assert 60 <= bench.budget.blocked_s <= 70


async def test_banned(bench, venue):
    """A ban that stands in the body is kept."""
    until = bench.hub.now_us() // 1000 + 120_000
    text = json.dumps({"code": -1003, "msg": f"IP banned until {until}. Please"})
    venue.answer = lambda _: web.Response(status=418, text=text)
    await bench.tick()

    assert 115 < bench.budget.blocked_s <= 120


async def test_budget_short(venue, session):
    """A tick that the budget does not allow is left out, counted and said, without flapping."""
    bench = Bench(venue, session, limits=Limits(per_minute=4))
    await bench.tick()
    await bench.tick(1)
    await bench.tick(1)
    assert bench.counters.skipped == {"budget": 1}
    assert bench.status.state is State.LIMITED
    assert bench.status.cause == "budget"
    assert bench.status.reason == "the request budget of host allows a poll every 60 s"
    await bench.tick(60)
    assert len(venue.requests) == 3
    assert bench.status.state is State.LIMITED
    await bench.tick(140)
    assert bench.system.states == ["connecting", "live", "limited", "live"]


async def test_used_header_is_observed(venue, session):
    """What the venue says is used takes from the budget."""
    bench = Bench(venue, session, limits=Limits(per_minute=600, used_header="x-used"))
    venue.answer = lambda _: web.json_response({"BTC/USDT": "1"}, headers={"X-Used": "590"})
    await bench.tick()

    assert bench.budget.left == 10


async def test_cached(venue, session):
    """While the source's cache holds, nothing is asked; the feed says how often it refreshes."""
    bench = Bench(venue, session)
    headers = {"Cache-Control": "max-age=32", "Age": "10"}
    venue.answer = lambda _: web.json_response({"BTC/USDT": "1"}, headers=headers)
    await bench.tick()
    assert bench.system.states == ["connecting", "live", "limited"]
    assert bench.status.reason == "the source refreshes every 32 s"
    assert bench.status.effective_interval_s == 40
    await bench.tick()
    await bench.tick()
    assert bench.counters.skipped == {"cached": 2}
    assert bench.counters.polls == 1
    headers.clear()
    await bench.tick()
    assert len(venue.requests) == 2
    assert bench.status.state is State.LIVE


async def test_a_short_cache_changes_nothing(venue, session):
    """A cache within the interval, or `no-cache`, does not limit the feed."""
    bench = Bench(venue, session)
    answers = iter(["max-age=10", "max-age=600, no-cache", "no-store", ""])
    venue.answer = lambda _: web.json_response(
        {"BTC/USDT": "1"}, headers={"Cache-Control": next(answers)}
    )
    for _ in range(4):
        await bench.tick()

    assert len(venue.requests) == 4
    assert bench.system.states == ["connecting", "live"]


class Planless(Quotes):
    """Can't even say what it wants."""

    def requests(self):
        raise TypeError("a bug")


async def test_plans(venue, session):
    """The plan is declared to the budget, and a connector that has none does no harm."""
    bench = Bench(venue, session, limits=Limits(per_minute=6))
    bench.poller.declare_plan()
    assert bench.budget.warnings() == [
        (
            "fake at host: the feeds want 12 weight a minute, the limit is 6; "
            "effective intervals will be about 20 s"
        )
    ]
    broken = Bench(venue, session, Planless, Limits(per_minute=6))
    broken.poller.declare_plan()
    assert broken.budget.warnings() == []
    await broken.tick()
    assert broken.counters.errors == {"unexpected": 1}


async def test_stale_between_polls(bench):
    """The poller itself notices data that get too old."""
    await bench.tick()
    bench.clock.advance(31)
    bench.poller.check()

    assert bench.status.state is State.STALE


async def test_wrong_kind_of_feed(bench, session):
    """A streamed feed, or options of another kind, are refused."""
    stream = stream_options("ws://x")
    for feed in (Feed("f", "c", Stream, stream), Feed("f", "c", Quotes, stream)):
        with pytest.raises(TypeError):
            Poller(feed, bench.channel, bench.hub, session, bench.status, bench.budget)
