"""How long a stream waits for what it has asked for."""

from __future__ import annotations

import asyncio
import time

import pytest
from aiohttp import web
from ingest.test_fetcher import GOOD, FetchBench, answers, read

from aggregator.api import Request
from aggregator.connector import Budget as Limits
from aggregator.ingest import fetcher as fetcher_module
from aggregator.ingest.failure import UpstreamError


@pytest.fixture
def bench(venue, session):
    return FetchBench(venue, session)


def get(bench, path="/thing", within_s=0.2):
    return bench.fetcher.get(Request(path), read, within_s)


async def test_an_address_that_hangs(venue, bench):
    """It is given up in time, whatever one answer may take, and the reason says so."""
    release = asyncio.Event()
    venue.answer = lambda _: release.wait()
    start = time.monotonic()
    with pytest.raises(UpstreamError, match=r"^no answer within 0.2 s$"):
        await get(bench)
    release.set()
    assert 0.15 < time.monotonic() - start < 2
    assert bench.counters.errors == {"timeout": 1}


async def test_one_that_fails_again_and_again(venue, bench, monkeypatch):
    """Attempts and the waits in between count as well; what was wrong with them is said."""

    async def asleep(seconds):
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.fetcher, "_sleep", asleep)
    venue.answer = answers(503)
    with pytest.raises(UpstreamError, match=r"^no answer within 0.2 s; HTTP 503"):
        await get(bench)


async def test_a_good_answer_in_time(venue, bench):
    """It is as without a deadline."""
    venue.answer = answers(503, GOOD)
    outputs, _ = await get(bench, within_s=5.0)
    assert [output.price for output in outputs] == ["1.5"]
    assert bench.fetcher._waiting == {}


async def test_all_that_wait_for_one_that_hangs(venue, bench, monkeypatch):
    """They are given up together: none is held up by those before it."""
    monkeypatch.setattr(bench.fetcher, "_places", asyncio.Semaphore(1))
    release = asyncio.Event()
    venue.answer = lambda _: release.wait()
    start = time.monotonic()
    waiting = [get(bench, f"/{n}", 0.3) for n in range(10)]
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    release.set()
    assert all(isinstance(failure, UpstreamError) for failure in failures)
    assert time.monotonic() - start < 1
    assert bench.fetcher._waiting == {}


async def test_a_queue_that_moves(venue, bench, monkeypatch):
    """While others are answered nobody's time runs out, however long the queue is."""
    monkeypatch.setattr(bench.fetcher, "_places", asyncio.Semaphore(1))

    async def answer(_request):
        await asyncio.sleep(0.05)
        return web.Response(text=GOOD)

    venue.answer = answer
    start = time.monotonic()
    found = await asyncio.gather(*(get(bench, f"/{n}", 0.25) for n in range(15)))
    assert len(found) == 15
    assert time.monotonic() - start > 3 * 0.25 * 0.9
    assert bench.counters.errors == {}


async def test_a_turn_that_comes_late_has_its_time(venue, bench, monkeypatch):
    """The time of an answer is counted from when it is asked for."""
    monkeypatch.setattr(bench.fetcher, "_places", asyncio.Semaphore(1))

    async def answer(_request):
        await asyncio.sleep(0.2)
        return web.Response(text=GOOD)

    venue.answer = answer
    assert len(await asyncio.gather(*(get(bench, f"/{n}", 0.3) for n in range(3)))) == 3


@pytest.mark.parametrize(("blocked_s", "fails"), [(30, True), (3, False)])
async def test_a_host_that_wants_no_request(venue, session, blocked_s, fails):
    """A block that is longer than the patience is not waited for; a shorter one is."""
    bench = FetchBench(venue, session)
    venue.answer = answers(GOOD)
    bench.budget.block(blocked_s, "HTTP 429")
    if fails:
        with pytest.raises(UpstreamError, match="HTTP 429"):
            await get(bench, within_s=10.0)
        assert bench.sleeps == []
    else:
        await get(bench, within_s=10.0)
        assert bench.sleeps == [3]


async def test_our_own_budget_is_waited_for(venue, session):
    """What the budget spreads out is not given up for that."""
    bench = FetchBench(venue, session, Limits(per_minute=1))
    venue.answer = answers(GOOD)
    for n in range(3):
        await get(bench, f"/{n}", within_s=30.0)
    assert sum(bench.sleeps) == pytest.approx(120, abs=2)


async def test_the_patience_with_others_is_as_before(venue, session):
    """Without a deadline a request has its attempts, and a minute and a half for its turn."""
    bench = FetchBench(venue, session)
    venue.answer = answers(GOOD)
    bench.budget.block(80, "HTTP 429")
    assert await bench.get() == ["1.5"]
    bench.budget.block(fetcher_module.PATIENCE_S + 1, "HTTP 429")
    with pytest.raises(UpstreamError):
        await bench.get()


async def test_cancelled(venue, bench):
    """A stop is a stop, and not taken for a deadline."""
    release = asyncio.Event()
    venue.answer = lambda _: release.wait()
    task = asyncio.create_task(get(bench, within_s=60.0))
    await venue.asked(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    release.set()
    assert bench.counters.errors == {}
    assert bench.fetcher._waiting == {}
