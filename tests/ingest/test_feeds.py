from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from ingest.doubles import Ear, QuoteOptions, Quotes, Stream, script, stream_options

from aggregator.config import BudgetLimits, Config, Feed, Server
from aggregator.hub import Hub
from aggregator.ingest.feeds import Ingest
from aggregator.ingest.fetch import USER_AGENT
from aggregator.model import State


class BadInstruments(Quotes):
    @classmethod
    def instruments_of(cls, options):
        raise TypeError("a bug")


class BadStart(Quotes):
    def __init__(self, options):
        raise TypeError("a bug")


@asynccontextmanager
async def running(*feeds, budgets=None):
    hub = Hub()
    ear = Ear(hub, hub.system)
    ingest = Ingest(hub, Config("test", Server(), feeds, budgets or {}))
    before = asyncio.all_tasks()
    task = asyncio.create_task(ingest.run())
    try:
        yield ingest, ear
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    names = {t.get_name() for t in asyncio.all_tasks() - before}
    assert not {n for n in names if n.startswith(("stream", "poll"))}


def states(ingest):
    return {name: status.state for name, status in ingest.statuses.items()}


async def test_everything_together(venue, caplog):
    """Polled, streamed and broken feeds run side by side; what is broken stops nothing."""

    def answer(request):
        if request.path == "/stream":
            return script('{"BTC/USDT":"1"}')(request)
        return web.json_response({"BTC/USDT": "1"})

    venue.answer = answer
    polled = QuoteOptions(base_url=venue.url, interval_s=0.05)
    feeds = (
        Feed("polled", "fake.quotes", Quotes, polled),
        Feed("streamed", "fake.stream", Stream, stream_options(venue.ws_url)),
        Feed("broken", "fake.broken", None, None, "ImportError: no such thing"),
        Feed("bad_instruments", "fake.bad", BadInstruments, polled),
        Feed("bad_start", "fake.bad", BadStart, polled),
    )
    limits = {"fake": BudgetLimits(per_minute=1_000)}
    async with running(*feeds, budgets=limits) as (ingest, ear):
        assert set(ingest.statuses) == {feed.name for feed in feeds}
        await ear.until(lambda: list(states(ingest).values()).count(State.LIVE) == 2)
        assert states(ingest) == {
            "polled": State.LIVE,
            "streamed": State.LIVE,
            "broken": State.DOWN,
            "bad_instruments": State.DOWN,
            "bad_start": State.DOWN,
        }
        assert ingest.statuses["broken"].reason == "ImportError: no such thing"
        assert ingest.statuses["bad_start"].reason == "unexpected error: TypeError"
        assert venue.requests[0].headers["User-Agent"] == USER_AGENT
        assert ingest.scheduler_events["error"] == 0
        [budget] = ingest.budgets
        assert budget.limits.per_minute == 1_000
    # 2 weights each 50 ms are 2,400 a minute.
    assert any("want 2,400 weight a minute, the limit is 1,000" in m for m in caplog.messages)


async def test_channels_are_there_at_once():
    """The channels of all feeds exist before anything runs, broken ones too."""
    hub = Hub()
    feeds = (
        Feed("streamed", "fake.stream", Stream, stream_options("ws://x")),
        Feed("broken", "fake.broken", None, None, "no"),
    )
    ingest = Ingest(hub, Config("test", Server(), feeds))

    assert set(hub.channels) == {"system", "heartbeat", "streamed", "broken"}
    assert hub.channels["streamed"].instruments == {"BTC/USDT"}
    assert states(ingest) == {"streamed": State.CONNECTING, "broken": State.DOWN}


async def test_options_that_do_not_fit(venue):
    """A feed whose options are of the wrong kind is down, with a reason."""
    async with running(
        Feed("f", "fake.stream", Stream, QuoteOptions()),
        Feed("g", "fake.quotes", Quotes, stream_options(venue.ws_url)),
    ) as (ingest, ear):
        await ear.until(lambda: set(states(ingest).values()) == {State.DOWN})


async def test_no_feeds():
    """A daemon without feeds is a daemon."""
    async with running():
        await asyncio.sleep(0)


async def test_an_operator_has_a_connection_replaced(venue):
    """A stream that is connected opens a second connection; of others it is said why not."""
    polled = QuoteOptions(base_url=venue.url, interval_s=0.05)
    feeds = (
        Feed("polled", "fake.quotes", Quotes, polled),
        Feed("streamed", "fake.stream", Stream, stream_options(venue.ws_url)),
        Feed("broken", "fake.broken", None, None, "no"),
    )
    venue.answer = lambda request: (
        script('{"BTC/USDT":"1"}')(request)
        if request.path == "/stream"
        else web.json_response({"BTC/USDT": "1"})
    )
    async with running(*feeds) as (ingest, ear):
        with pytest.raises(LookupError):
            ingest.rotate("nowhere")
        assert ingest.rotate("polled") == "polled has no connection that could be replaced"
        assert ingest.rotate("broken") == "broken has no connection that could be replaced"
        await asyncio.sleep(0)
        not_yet = "streamed is not connected; it is about to connect anyway"
        assert ingest.rotate("streamed") == not_yet
        await ear.until(lambda: states(ingest)["streamed"] is State.LIVE)
        assert ingest.rotate("streamed") == ""
        async with asyncio.timeout(10):
            while [r.path for r in venue.requests].count("/stream") < 2:
                await venue.asked(len(venue.requests) + 1)
