from __future__ import annotations

import asyncio

import pytest

from aggregator.ingest.dial import LIMITS, DialLimiter


@pytest.fixture
async def asked():
    """Return a function that asks for turns, and gives them; their waits do not end."""
    tasks = []

    async def asked(dial, host, times):
        tasks.extend(asyncio.create_task(dial.turn(host)) for _ in range(times))
        await asyncio.sleep(0)
        return list(dial._turns[host])

    yield asked
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def never(seconds):
    return asyncio.Event().wait()


async def test_three_attempts_a_second(clock, asked):
    """However many feeds dial one host at once, no window has more than three of them."""
    dial = DialLimiter(clock, never)
    attempts, window_s = LIMITS[0]
    begin = clock.now
    turns = await asked(dial, "okx", 3 * attempts)
    assert [turn.at - begin for turn in turns] == pytest.approx(
        [n * window_s for n in range(3) for _ in range(attempts)]
    )
    [other] = await asked(dial, "another host", 1)
    assert other.at == begin
    clock.advance(10)
    assert (await asked(dial, "okx", 1))[-1].at == clock.now


async def test_300_attempts_in_five_minutes(clock):
    """Every limit holds in every window, wherever it begins."""
    times = []

    async def sleep(seconds):
        clock.advance(seconds)

    dial = DialLimiter(clock, sleep)
    for _ in range(1000):
        await dial.turn("binance")
        times.append(clock.now)
    for attempts, window_s in ((3, 1.0), (300, 300.0)):
        for first, beyond in zip(times, times[attempts:], strict=False):
            assert beyond - first > window_s
    assert times[-1] - times[0] < 1000


async def test_an_attempt_that_took_its_time(clock):
    """It counts from when the venue has surely seen it, also for who waits already."""
    dial = DialLimiter(clock, never, limits=((1, 5.0),))
    first = await dial.turn("okx")

    async def sleep(seconds):
        if first.at == 1000.0:
            clock.advance(4)
            first.made()
            clock.advance(1)
        else:
            clock.advance(seconds)

    dial._sleep = sleep
    assert (await dial.turn("okx")).at == 1009.0


async def test_a_turn_that_is_cancelled_counts(clock, asked):
    """Or those who come and go would let others in too early."""
    dial = DialLimiter(clock, never, limits=((1, 5.0),))
    await dial.turn("okx")
    waits = asyncio.create_task(dial.turn("okx"))
    await asyncio.sleep(0)
    waits.cancel()
    assert (await asked(dial, "okx", 1))[-1].at == clock.now + 10.0
