from __future__ import annotations

import asyncio
from itertools import pairwise

from aiohttp import web
from ingest.benches import PollBench as Bench
from ingest.doubles import Quotes

from aggregator.api import (
    Fetch,
    KnownInstruments,
    PriceUpdate,
    Request,
    Unhandled,
    UnknownInstrument,
)
from aggregator.connector import Budget as Limits
from aggregator.connector import Send
from aggregator.ingest.poll import CONCURRENCY, MAX_GENERATIONS, SLICE, Memory, identity
from aggregator.model import State


class Books(Quotes):
    """Names first, then a request for each of 20 instruments, which are known from the names."""

    count = 20

    def __init__(self, options):
        super().__init__(options)
        self.names = []

    def requests(self):
        yield Request("/names", key="names", max_age_s=60)
        for name in self.names:
            yield Request(f"/book/{name}", key=name)

    def on_response(self, request, body):
        if request.key == "names":
            self.names = [f"A{n}" for n in range(self.count)]
            return [KnownInstruments(frozenset(f"{n}/B" for n in self.names))]
        return [PriceUpdate(f"{request.key}/B", "1", b"{}")]


async def test_reference_data_first_and_alone(venue, session):
    """Reference data are asked for first and rarely, the rest several at a time."""
    bench = Bench(venue, session, Books)
    running, most, alone = 0, 0, []
    full = asyncio.Event()

    async def answer(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        alone.append((request.path == "/names", running))
        if running == CONCURRENCY:
            full.set()
        if request.path != "/names":
            await full.wait()
        running -= 1
        return web.Response(text="{}")

    venue.answer = answer
    await bench.tick()
    assert len(bench.prices) == 20
    assert most == CONCURRENCY
    assert alone[0] == (True, 1)
    await bench.tick()
    assert len(venue.requests) == 41
    await bench.tick(51)
    assert len(venue.requests) == 62
    assert bench.channel.instruments == {f"A{n}/B" for n in range(20)}


async def test_larger_than_the_budget_goes_round(venue, session):
    """A plan larger than the budget goes on at the next tick where it stopped."""
    bench = Bench(venue, session, Books, Limits(per_minute=48))
    await bench.tick()
    for _ in range(11):
        await bench.tick()
    paths = [r.path for r in venue.requests if r.path != "/names"]

    asked = {path: paths.count(path) for path in paths}
    assert len(asked) == 20
    assert max(asked.values()) - min(asked.values()) <= 1
    assert bench.status.state is State.LIMITED
    assert bench.status.cause == "budget"
    assert bench.counters.errors == {}


def test_where_to_begin_may_be_gone():
    """If what was left over is asked for no more, a poll begins at the beginning."""
    memory = Memory()
    requests = [Request(f"/{n}") for n in range(3)]
    memory.begin_at = identity(requests[1])

    assert [r.path for r in memory.rotated(requests)] == ["/1", "/2", "/0"]
    assert memory.rotated(requests[2:]) == requests[2:]


async def test_budget_too_short_for_the_names(venue, session):
    """Without budget for reference data nothing else is asked either."""
    bench = Bench(venue, session, Books, Limits(per_minute=1))
    bench.budget.try_take(1)
    await bench.tick(1)

    assert venue.requests == []
    assert bench.counters.skipped == {"budget": 1}
    assert bench.status.state is State.LIMITED


async def test_a_slow_round_is_cut_and_goes_on(venue, session):
    """A round that takes longer than an interval stops, and goes on at the next tick."""
    bench = Bench(venue, session, Books)

    async def answer(request):
        bench.clock.advance(3)
        return web.Response(text="{}")

    venue.answer = answer
    for _ in range(6):
        await bench.tick()

    assert {r.path for r in venue.requests} == {"/names"} | {f"/book/A{n}" for n in range(20)}
    assert bench.status.cause == "slow"
    assert "a poll of 20 requests takes about" in bench.status.reason


async def test_one_bad_request_does_not_stop_the_others(venue, session, caplog):
    """The error of one request is counted and logged once; the others go on."""
    bench = Bench(venue, session, Books)
    venue.answer = lambda r: web.Response(status=400 if r.path == "/book/A3" else 200, text="no")
    await bench.tick()
    await bench.tick()

    assert len(bench.prices) == 38
    assert bench.status.state is State.LIVE
    assert bench.counters.errors == {"exchange": 2}
    text = "feed quotes: a request failed, others did not: HTTP 400: no"
    assert caplog.messages.count(text) == 1


async def test_a_dead_venue_is_not_asked_for_everything(venue, session):
    """After a failure of the venue itself no further request goes; the next poll begins later."""
    bench = Bench(venue, session, Books)
    venue.answer = lambda r: web.Response(status=200 if r.path == "/names" else 502, text="{}")
    await bench.tick()
    assert len(venue.requests) <= 1 + CONCURRENCY
    assert bench.status.state is State.DOWN
    first = {r.path for r in venue.requests}
    await bench.tick()
    assert not first & {r.path for r in venue.requests[len(first) :][:1]}


class Whole(Quotes):
    """A large answer, of which one row may be unreadable."""

    def on_response(self, request, body):
        rows = int(body)
        for n in range(abs(rows)):
            yield PriceUpdate(f"A{n}/B", "1", b"{}")
        if rows < 0:
            raise ValueError("the last row is unreadable")


async def test_whole_answer_or_nothing(venue, session):
    """An answer whose last row is unreadable publishes nothing."""
    bench = Bench(venue, session, Whole)
    venue.answer = lambda _: web.Response(text="-3000")
    await bench.tick()

    assert bench.prices == []
    assert bench.status.reason == "ValueError: the last row is unreadable"


async def test_large_answers_in_slices(venue, session):
    """Between the slices of a large answer others get their turn."""
    bench = Bench(venue, session, Whole)
    venue.answer = lambda _: web.Response(text="3000")
    seen = []

    async def look():
        while True:
            seen.append(bench.channel.seq)
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    await bench.tick()
    looking.cancel()

    assert len(bench.prices) == 3000
    steps = [after - before for before, after in pairwise(seen)]
    assert max(steps) <= SLICE


class Chatty(Quotes):
    """Says everything that a connector may say."""

    def on_response(self, request, body):
        if request.key == "more":
            return [PriceUpdate("ETH/USDT", "2", b"{}"), PriceUpdate("C/D", "", b"{}")]
        return [
            PriceUpdate("BTC/USDT", "1", b"{}"),
            UnknownInstrument("ETH/USDT", "no"),
            Unhandled("something"),
            Send("of no use"),
            Fetch(Request("/more", key="more")),
        ]


async def test_what_a_connector_may_say(venue, session):
    """Requests that answers ask for are done in the same poll; notices are taken note of."""
    bench = Bench(venue, session, Chatty)
    await bench.tick()

    assert bench.prices == [("BTC/USDT", 1), ("ETH/USDT", 2)]
    assert bench.system.states == ["connecting", "unknown_instrument", "live", "live"]
    assert bench.counters.unhandled == {"something": 1, "Send": 1}
    assert bench.channel.unpriced == 1
    assert bench.counters.events == 2


class Endless(Quotes):
    """Never has enough."""

    def on_response(self, request, body):
        return [Fetch(Request("/more"))]


async def test_endless_requests_are_cut(venue, session):
    """A connector that always asks for more is stopped."""
    bench = Bench(venue, session, Endless)
    await bench.tick()

    assert len(venue.requests) == 1 + MAX_GENERATIONS
    assert bench.status.reason == "answers ask for more and more requests"


class Nothing(Quotes):
    """Knows that there is nothing."""

    def requests(self):
        return [Request("/names", max_age_s=5)]

    def on_response(self, request, body):
        return [KnownInstruments(frozenset())] if body == b"none" else []


async def test_no_instrument_known(venue, session):
    """A feed none of whose instruments exist is down; one without news is just that."""
    bench = Bench(venue, session, Nothing)
    await bench.tick()
    assert bench.status.state is State.CONNECTING
    venue.answer = lambda _: web.Response(text="none")
    await bench.tick()
    await bench.tick()

    assert bench.status.reason == "the venue knows none of the instruments"
    assert bench.counters.skipped == {"backoff": 1}


class Refuses(Quotes):
    """Raises at once instead of in a generator."""

    def on_response(self, request, body):
        return [PriceUpdate(str(body["x"]), "1", b"{}")] if body == b"{}x" else [{}["x"]]


async def test_unreadable_at_once(venue, session):
    """What decoding raises is unreadable data, not a bug, wherever it is raised."""
    bench = Bench(venue, session, Refuses)
    await bench.tick()

    assert bench.counters.errors == {"payload": 1}
    assert bench.status.reason == "KeyError: 'x'"


class Broken(Books):
    """A bug in one of several requests that are under way together."""

    def on_response(self, request, body):
        if request.key == "A2":
            raise TypeError("a bug")
        return super().on_response(request, body)


async def test_a_bug_among_many(venue, session):
    """A bug among requests under way together is named, and no task is left."""
    bench = Bench(venue, session, Broken)
    before = asyncio.all_tasks()
    await bench.tick()

    assert bench.status.reason == "unexpected error: TypeError"
    assert {t for t in asyncio.all_tasks() - before if t.get_name().startswith("poll ")} == set()
