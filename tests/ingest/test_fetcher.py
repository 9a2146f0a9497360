"""What a streamed connector fetches: attempts, budget, errors, and that receiving goes on."""

from __future__ import annotations

import asyncio
import json
import time

import msgspec
import pytest
from aiohttp import web
from ingest.benches import StreamBench
from ingest.doubles import Clock, Stream, Venue

from aggregator.api import ExchangeError, Fetch, FetchOptions, PriceUpdate, Request, TradeExecuted
from aggregator.connector import Budget as Limits
from aggregator.ingest import fetcher as fetcher_module
from aggregator.ingest.budget import Budget
from aggregator.ingest.counters import FeedCounters
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.failure import UpstreamError
from aggregator.ingest.fetcher import ATTEMPTS, Fetcher
from aggregator.ingest.streamer import Streamer

REQUEST = Request("/thing", {"a": "b"}, weight=10)
GOOD = '{"BTC/USDT":"1.5"}'


def read(request, body):
    for instrument, price in msgspec.json.decode(body, type=dict[str, str]).items():
        if price == "refuse":
            raise ExchangeError("refused")
        yield PriceUpdate(instrument, price, body)


class FetchBench:
    """A fetcher at a real server; its sleeps are noted and move its clock."""

    def __init__(self, venue, session, limits=None, **options) -> None:
        self.clock = Clock()
        self.sleeps = []
        self.counters = FeedCounters()
        self.budget = Budget("fake", "host", limits or Limits(), self.clock)
        self.fetcher = Fetcher(
            "f",
            "fake",
            options=FetchOptions(
                instruments=["BTC/USDT"], urls=["ws://x"], base_url=venue.url, **options
            ),
            session=session,
            budget=self.budget,
            counters=self.counters,
            sleep=self._sleep,
            uniform=lambda low, high: high,
        )

    async def _sleep(self, seconds):
        self.sleeps.append(round(seconds, 3))
        self.clock.advance(seconds)
        await asyncio.sleep(0)

    async def get(self, request=REQUEST):
        outputs, received_us = await self.fetcher.get(request, read)
        assert received_us > 1e15
        return [output.price for output in outputs]


@pytest.fixture
def bench(venue, session):
    return FetchBench(venue, session)


def answers(*answers):
    """Give these answers one after the other; a number is a status."""
    waiting = list(answers)

    def answer(_request):
        given = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(given, int):
            return web.Response(status=given, text='{"code":-1,"msg":"no"}')
        return web.Response(text=given, content_type="application/json")

    return answer


async def test_a_good_answer(venue, bench):
    """The request goes out as it was asked for, and its answer is read."""
    venue.answer = answers(GOOD)
    assert await bench.get() == ["1.5"]
    assert venue.requests[0].path_qs == "/thing?a=b"
    assert bench.sleeps == []
    assert (bench.counters.received, bench.counters.errors) == (1, {})
    assert bench.fetcher.problem == ""


@pytest.mark.parametrize(("first", "kind"), [(503, "http"), ("<html>", "payload"), ("", "payload")])
async def test_what_fails_is_tried_again(venue, bench, first, kind):
    """What may be better the next time is asked for again, with growing waits."""
    venue.answer = answers(first, first, GOOD)
    assert await bench.get() == ["1.5"]
    assert bench.sleeps == [1, 2]
    assert bench.counters.errors == {kind: 2}
    assert bench.fetcher.problem == ""


async def test_attempts_have_an_end(venue, bench, caplog):
    """After the last attempt it has failed; the log says the reason once."""
    venue.answer = answers(503)
    with pytest.raises(UpstreamError, match="HTTP 503"):
        await bench.get()
    assert len(venue.requests) == ATTEMPTS
    assert bench.fetcher.problem.startswith("HTTP 503")
    assert caplog.text.count("a request failed: HTTP 503") == 1


@pytest.mark.parametrize(
    ("status", "kind", "reason"),
    [
        (400, "exchange", 'HTTP 400: {"code":-1,"msg":"no"}'),
        (404, "exchange", "HTTP 404"),
        (403, "http", "HTTP 403"),
        (451, "http", "HTTP 451: fake refuses this location"),
        (301, "http", "HTTP 301: moved"),
    ],
)
async def test_a_refusal_is_final(venue, bench, status, kind, reason):
    """What would be refused again is not asked for again."""
    venue.answer = answers(status)
    with pytest.raises(UpstreamError) as caught:
        await bench.get()
    assert str(caught.value).startswith(reason)
    assert len(venue.requests) == 1
    assert bench.counters.errors == {kind: 1}


async def test_what_the_connector_refuses_is_passed_on(venue, bench):
    """An error that the connector reads in a good answer is no reason to ask again."""
    venue.answer = answers('{"BTC/USDT":"refuse"}')
    with pytest.raises(ExchangeError, match="refused"):
        await bench.get()
    assert len(venue.requests) == 1


async def test_it_is_paid_from_the_common_budget(venue, session):
    """Each request takes its weight, and waits until it fits."""
    bench = FetchBench(venue, session, Limits(per_minute=15))
    venue.answer = answers(GOOD)
    await bench.get()
    assert bench.budget.left == 5
    await bench.get()
    assert bench.sleeps == [61]


async def test_too_many_requests_block_the_host(venue, session):
    """A 429 keeps everybody from the host for as long as it says; then it is tried again."""
    bench = FetchBench(venue, session)
    headers = {"Retry-After": "30"}
    replies = iter([web.Response(status=429, headers=headers), web.Response(text=GOOD)])
    venue.answer = lambda _: next(replies)
    assert await bench.get() == ["1.5"]
    assert bench.sleeps == [1, 29]
    assert bench.counters.errors == {"rate_limited": 1}


@pytest.mark.parametrize("blocked", [True, False])
async def test_patience_has_an_end(venue, session, blocked):
    """A wait that is too long is a failure, with its reason, and nothing is sent."""
    bench = FetchBench(venue, session, Limits(per_month=10))
    if blocked:
        bench.budget.block(1000, "HTTP 418: fake wants no request for 1000 s")
    else:
        bench.budget.try_take(10)
    expected = "HTTP 418" if blocked else "the request budget of host is used up"
    with pytest.raises(UpstreamError, match=expected):
        await bench.get()
    assert venue.requests == []
    assert bench.counters.errors == {"rate_limited" if blocked else "timeout": 1}


async def test_only_so_many_at_a_time(venue, bench):
    """No more than eight requests are under way; the others wait for their turn."""
    under_way, most = 0, 0

    async def answer(_request):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return web.Response(text=GOOD)

    venue.answer = answer
    await asyncio.gather(*(bench.get() for _ in range(30)))
    assert most == fetcher_module.CONCURRENCY


# With a connection.


class Asking(Stream):
    """`{"!fetch": path}` fetches it; what the answer says is a trade."""

    options_type = FetchOptions

    def resume(self, seen):
        self.seen = {instrument: last.id for instrument, last in seen.items()}

    def on_open(self):
        yield from super().on_open()
        yield Fetch(Request("/opened", {"seen": json.dumps(self.seen)}))

    def on_frame(self, frame):
        [(key, value)] = msgspec.json.decode(frame, type=dict[str, str]).items()
        return [Fetch(Request(value))] if key == "!fetch" else super().on_frame(frame)

    def on_response(self, request, body):
        number = msgspec.json.decode(body, type=str)
        return [
            TradeExecuted(
                instrument="BTC/USDT", id=number, side="buy", price="1", quantity="1", cost="1"
            )
        ]

    def on_no_response(self, request, reason):
        return [PriceUpdate("ETH/USDT", "9", json.dumps(reason).encode())]


class AskingBench(StreamBench):
    def __init__(self, session, venue, **options) -> None:
        super().__init__(session, venue.ws_url, cls=Asking, **options)
        given = self.feed.options.model_dump() | {"base_url": venue.url}
        fetcher = Fetcher(
            "f",
            "fake",
            options=FetchOptions(**given),
            session=session,
            budget=Budget("fake", "host", Limits()),
            counters=self.status.counters,
        )
        self.streamer = Streamer(
            self.feed,
            self.channel,
            self.hub,
            session,
            self.status,
            DialLimiter(),
            fetcher=fetcher,
            sleep=self._sleep,
            uniform=lambda low, high: high,
        )

    @property
    def kinds(self):
        return [message["type"] for message in self.ear.messages]


class Both(Venue):
    """A venue of which `stream` serves the WebSocket and `fetched` the rest."""

    def __init__(self):
        super().__init__()
        self.paths = []
        self.release = asyncio.Event()
        self.frames = []
        self.answer = self._both
        self.fetched = lambda path: web.json_response("1")

    def _both(self, request):
        if request.path == "/stream":
            return self._stream(request)
        self.paths.append(request.path_qs)
        return self.fetched(request.path)

    async def _stream(self, request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        for frame in self.frames:
            await ws.send_str(frame)
        async for message in ws:
            if message.data.startswith('{"subscribe"'):
                await ws.send_str('{"!ack":"BTC/USDT"}')
            elif message.type is web.WSMsgType.TEXT:
                await ws.close()
        return ws


@pytest.fixture
async def both():
    async with Both() as venue:
        yield venue


async def test_a_stream_fetches(session, both):
    """What `on_open` and a frame ask for is fetched, and what the answers mean is published."""
    both.frames = ['{"!fetch":"/more"}', '{"BTC/USDT":"2"}']
    bench = AskingBench(session, both)
    async with bench.running():
        await bench.ear.until(lambda: bench.kinds.count("trade_executed") == 2)
    assert sorted(both.paths) == ["/more", "/opened?seen=%7B%7D"]
    assert bench.kinds.count("price_update") == 1
    assert bench.counters.errors == {}


async def test_receiving_goes_on_meanwhile(session, both):
    """A request that takes its time holds nothing up."""

    async def slow(_path):
        await both.release.wait()
        return web.json_response("7")

    both.fetched = slow
    both.frames = [json.dumps({"BTC/USDT": str(n)}) for n in range(1, 200)]
    bench = AskingBench(session, both)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.ear.messages) == 199)
        both.release.set()
        await bench.ear.until(lambda: bench.kinds[-1] == "trade_executed")


async def test_a_failure_is_told_to_the_connector(session, both):
    """What has failed for good is told, with its reason; the connection stays."""
    both.fetched = lambda _: web.Response(status=404, text="no such thing")
    bench = AskingBench(session, both)
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
        assert bench.ear.messages[0]["data"] == "HTTP 404: no such thing"
        assert bench.status.counters.reconnects == 0
    assert bench.counters.errors == {"exchange": 1}


async def test_the_end_of_the_connection_is_the_end_of_its_requests(session, both):
    """A stop does not wait for an answer, and no task remains."""
    asked = asyncio.Event()

    async def never(_path):
        asked.set()
        await both.release.wait()
        return web.json_response("1")

    both.fetched = never
    bench = AskingBench(session, both)
    start = time.monotonic()
    async with bench.running(), asyncio.timeout(10):
        await asked.wait()
    assert time.monotonic() - start < 3
    assert bench.ear.messages == []
    both.release.set()


async def test_the_next_connection_knows_the_newest_trade(session, both):
    """After a reconnect `resume` gets the newest trade that was published."""
    numbers = iter(["11", "12"])
    both.fetched = lambda _: web.json_response(next(numbers))
    bench = AskingBench(session, both, patient=True)
    async with bench.running():
        await bench.ear.until(lambda: bench.kinds == ["trade_executed"])
        both.requests[0].transport.abort()
        await bench.ear.until(lambda: len(bench.kinds) == 2)
    assert "/opened?seen=%7B%22BTC/USDT%22:+%2211%22%7D" in both.paths


async def test_staleness_says_what_failed(session, both, monkeypatch):
    """Where no data come because nothing can be fetched, the reason is said."""
    both.fetched = lambda _: web.Response(status=451)
    monkeypatch.setattr(Asking, "on_no_response", lambda *_: [])
    bench = AskingBench(session, both, stale_after_s=0.1)
    await bench.to_the_end()
    assert "HTTP 451: fake refuses this location" in bench.status.reason
    assert bench.status.reason.startswith("no data for")


async def test_requests_are_bounded(session, both, monkeypatch):
    """A connector that asks for more and more is stopped."""
    monkeypatch.setattr("aggregator.ingest.errands.MAX_FETCHES", 3)

    async def never(_path):
        await both.release.wait()

    both.fetched = never
    both.frames = ['{"!fetch":"/more"}'] * 5
    bench = AskingBench(session, both)
    await bench.to_the_end()
    both.release.set()
    assert bench.status.reason == "3 requests wait for their answers"


class Paced(Stream):
    """Of a venue that takes four frames a second."""

    sends_per_s = 4

    def on_open(self):
        return [*super().on_open(), *super().on_open(), *super().on_open()]


async def test_frames_are_sent_no_faster_than_the_venue_takes_them(session, venue):
    """No second has more of our frames than the venue allows."""
    came = []
    done = asyncio.Event()

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for _ in ws:
            came.append(time.monotonic())
            if len(came) == 9:
                done.set()
        return ws

    venue.answer = serve
    bench = StreamBench(session, venue.ws_url, cls=Paced, instruments=["A/B", "C/D", "E/F"])
    async with bench.running(), asyncio.timeout(10):
        await done.wait()
    assert came[4] - came[0] > 1
    assert came[8] - came[4] > 1
    assert came[3] - came[0] < 0.5
