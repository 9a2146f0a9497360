from __future__ import annotations

import asyncio
import logging

import pytest
from aiohttp import web
from ingest.benches import StreamBench as Bench
from ingest.doubles import QuoteOptions, Quotes, Stream, script

from aggregator.config import Feed
from aggregator.ingest import dial as dial_module
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.streamer import Streamer
from aggregator.model import State

PRICE = '{"BTC/USDT":"1.5"}'


async def test_subscribes_and_publishes(session, venue):
    """Subscriptions are sent and acknowledged, prices published, and the feed is live."""
    venue.answer = script('{"BTC/USDT":"1.5"}', '{"ETH/USDT":"é"}', '{"ETH/USDT":"2"}')
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 2)

    assert bench.prices == [("BTC/USDT", 1.5), ("ETH/USDT", 2)]
    assert bench.system.states == ["connecting", "live"]
    assert bench.counters.events == 2
    assert bench.counters.errors == {}
    assert bench.channel.unpriced == 1
    assert bench.ear.messages[0]["received_us"] > 1e15


@pytest.mark.parametrize(
    ("frame", "kind", "reason"),
    [
        ('{"!refuse":"60012 invalid"}', "exchange", "60012 invalid"),
        ('{"!unknown":"BTC/USDT"}', "exchange", "the venue knows none of the instruments"),
        ('{"!bug":"x"}', "unexpected", "unexpected error: TypeError"),
        ('{"!leaving":"upgrade"}', "connection", "the venue is going to close: upgrade"),
    ],
)
async def test_reasons_to_reconnect(session, venue, caplog, *, frame, kind, reason):
    """What ends a connection without data puts the feed down, and backs off."""
    venue.answer = script(frame)
    bench = Bench(session, venue.ws_url)
    await bench.to_the_end()

    assert bench.status.state is State.DOWN
    assert bench.status.reason == reason
    assert bench.counters.errors == {kind: 1}
    assert bench.sleeps == [60 if "none of" in reason else 1]
    assert bool([r for r in caplog.records if r.exc_info]) == (kind == "unexpected")


@pytest.mark.parametrize(
    ("status", "headers", "reason", "wait"),
    [
        (404, {}, "HTTP 404 instead of a WebSocket", 1),
        (503, {}, "HTTP 503", 1),
        (451, {}, "HTTP 451: fake refuses this location; try another base_url", 60),
        (429, {"Retry-After": "35"}, "HTTP 429: fake wants no request for 35 s", 35),
    ],
)
async def test_refused_handshakes(session, venue, *, status, headers, reason, wait):
    """A refused handshake says why, and waits as long as the venue wants."""
    venue.answer = lambda _: web.Response(status=status, headers=headers)
    bench = Bench(session, venue.ws_url)
    await bench.to_the_end()

    state = State.LIMITED if status == 429 else State.DOWN
    assert (bench.status.state, bench.status.reason) == (state, reason)
    assert not bench.status.ready
    assert bench.sleeps == [wait]


async def test_connecting_takes_too_long(session, venue, monkeypatch):
    """A host that never answers the handshake is given up."""
    monkeypatch.setattr(dial_module, "CONNECT_TIMEOUT_S", 0.05)
    release = asyncio.Event()
    venue.answer = lambda _: release.wait()
    bench = Bench(session, venue.ws_url)
    await bench.to_the_end()
    release.set()

    assert bench.status.reason == "no answer within 0.05 s"


async def test_addresses_in_turn(session, venue, unused_tcp_port, caplog):
    """After a failed attempt the next address is tried, with growing waits, and no secrets."""
    caplog.set_level(logging.DEBUG, logger="aggregator")
    nowhere = f"ws://127.0.0.1:{unused_tcp_port}/?key=very-secret"
    venue.answer = script(PRICE)
    bench = Bench(session, nowhere, nowhere, venue.ws_url, patient=True)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)

    assert bench.sleeps == [1, 2]
    assert bench.system.states == ["connecting", "down", "live"]
    assert bench.system.reasons[1].startswith("can't connect")
    assert "secret" not in caplog.text + str(bench.system.messages)


async def test_cancelled_while_failing(session, venue):
    """A stop in the same moment as a failure is not forgotten."""
    task = None

    class Cancels(Stream):
        def on_frame(self, frame):
            task.cancel()
            raise TypeError("a bug")

    bench = Bench(session, venue.ws_url, cls=Cancels)
    venue.answer = script(PRICE)
    task = asyncio.create_task(bench.streamer.run())
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await task
    assert bench.sleeps == []


async def test_stopped_at_any_moment(session, venue):
    """However early a stop comes, nothing is left."""
    venue.answer = script(PRICE)
    for rounds in range(0, 60, 3):
        bench = Bench(session, venue.ws_url)
        async with bench.running():
            for _ in range(rounds):
                await asyncio.sleep(0)


async def test_wrong_kind_of_feed(session, venue):
    """A polled feed, or options of another kind, are refused."""
    bench = Bench(session, venue.ws_url)
    options = QuoteOptions()
    for feed in (Feed("f", "c", Quotes, options), Feed("f", "c", Stream, options)):
        with pytest.raises(TypeError):
            Streamer(feed, bench.channel, bench.hub, session, bench.status, DialLimiter())


async def test_blocked_is_said_once_and_ends_with_data(session, venue):
    """A venue that refuses the handshake for a while limits the feed until it lets it in again."""
    venue.answer = lambda _: web.Response(status=429, headers={"Retry-After": "1"})
    bench = Bench(session, venue.ws_url, patient=True)
    async with bench.running():
        await venue.asked(3)
        assert bench.system.states == ["connecting", "limited"]
        venue.answer = script(PRICE)
        await bench.ear.until(lambda: bench.prices)
    assert bench.system.states == ["connecting", "limited", "live"]
    assert bench.status.cause is None
