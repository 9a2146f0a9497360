"""How late the loop is, on a loop whose time the test sets, and on a real one."""

from __future__ import annotations

import asyncio
import time

import pytest

from aggregator.telemetry.lag import INTERVAL_S, PERIOD_S, LoopLag


class Loop:
    """What `LoopLag` uses of an event loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.planned: list[tuple[float, object]] = []

    def call_later(self, wait, call):
        self.planned.append((self.now + wait, call))
        return self

    def cancel(self):
        self.planned.clear()

    def run(self, late=0.0):
        """Do what is planned, so much later than it is due."""
        ((when, call),) = self.planned
        self.planned.clear()
        self.now = when + late
        call()


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def lag(loop):
    return LoopLag(loop, lambda: loop.now)


def test_it_measures_by_how_much_it_is_late(loop, lag):
    """Each look is counted; one that is early is not late."""
    for late in (0.0, 0.003, -0.001, 0.0301):
        loop.run(late)
    assert sum(lag.seen.counts) == 4
    assert lag.seen.negative == 0
    assert lag.seen.seconds == pytest.approx(0.0331)
    assert lag.longest == pytest.approx(0.0301)


def test_one_delay_is_counted_once(loop, lag):
    """The next look is due from when the last one was."""
    loop.run(5.0)
    loop.run()
    assert lag.seen.seconds == pytest.approx(5.0)


def test_the_longest_is_kept_for_a_whole_period(loop, lag):
    """Whoever asks each 30 s sees it, however often others ask; then it is over."""
    start = loop.now
    loop.run(0.5)
    while loop.now < start + 2 * PERIOD_S - 1:
        loop.run()
        assert lag.longest == pytest.approx(0.5)
    while loop.now < start + 2 * PERIOD_S + 1:
        loop.run()
    assert lag.longest == pytest.approx(0.0, abs=1e-6)


def test_it_stops(loop, lag):
    """Then nothing is planned any more."""
    lag.stop()
    assert loop.planned == []


async def test_what_blocks_a_real_loop_is_seen():
    """But for the time until the next look."""
    loop = asyncio.get_running_loop()
    lag = LoopLag(loop)
    looked = asyncio.Event()
    loop.call_later(INTERVAL_S, looked.set)
    blocked_s = 5 * INTERVAL_S
    time.sleep(blocked_s)  # noqa: ASYNC251 - that is what is to be seen
    await looked.wait()
    assert lag.longest >= blocked_s - INTERVAL_S
    lag.stop()
