from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from apscheduler.events import EVENT_JOB_MISSED, JobExecutionEvent

from aggregator.ingest.schedule import GridTrigger, Schedule

INTERVAL_S = 0.05


class Ticks:
    """Instead of a poller: counts its ticks, and may hang or take its time."""

    def __init__(self, interval_s=INTERVAL_S, *, hang=False) -> None:
        self.name = "ticks"
        self.interval_s = interval_s
        self.count = self.checks = self.cancelled = 0
        self.hang = hang
        self._ticked = asyncio.Event()

    def check(self) -> None:
        self.checks += 1

    async def tick(self) -> None:
        self.count += 1
        self._ticked.set()
        if self.hang:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise

    async def reach(self, count) -> None:
        async with asyncio.timeout(10):
            while self.count < count:
                self._ticked.clear()
                await self._ticked.wait()


class Running:
    """A schedule that runs within a block."""

    def __init__(self, *pollers) -> None:
        self.schedule = Schedule()
        for poller in pollers:
            self.schedule.add(poller)

    async def __aenter__(self):
        self._before = asyncio.all_tasks()
        self._task = asyncio.create_task(self.schedule.run())
        return self.schedule

    async def __aexit__(self, *exc):
        self._task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self._task
        assert asyncio.all_tasks() == self._before


async def test_first_poll_at_once_then_on_the_interval():
    """The first poll does not wait for the interval; the next ones follow."""
    slow, quick = Ticks(3600), Ticks()
    async with Running(slow, quick):
        await slow.reach(1)
        await quick.reach(3)

    assert slow.count == 1


async def test_the_watch_looks_at_freshness():
    """The age of the data is looked at between the polls as well."""
    ticks = Ticks()
    async with Running(ticks):
        await ticks.reach(3)
    assert ticks.checks


async def test_stop_ends_polls_that_are_under_way(caplog):
    """A poll under way is ended before the scheduler, which then has nothing to complain about."""
    ticks = Ticks(hang=True)
    async with Running(ticks):
        await ticks.reach(1)

    assert ticks.cancelled == 1
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_stop_before_the_first_poll(caplog):
    """A schedule that is stopped while its first polls are on their way leaves nothing behind."""
    for rounds in range(6):
        ticks = Ticks(hang=True)
        async with Running(ticks):
            for _ in range(rounds):
                await asyncio.sleep(0)
        assert ticks.cancelled == ticks.count
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_polls_do_not_overlap():
    """A poll that outlives its interval is not joined by another; the scheduler says so."""
    ticks, quick = Ticks(hang=True), Ticks()
    async with Running(ticks, quick) as schedule:
        while not schedule.events["max_instances"]:
            await quick.reach(quick.count + 1)

    assert ticks.count == 1
    assert schedule.events["rescued"] == 0


async def test_nothing_to_do():
    """Without polled feeds it simply runs."""
    async with Running():
        await asyncio.sleep(0)


@pytest.mark.parametrize("hours", [-24, 24, 24 * 365 * 30])
async def test_the_clock_is_set(hours):
    """A wall clock that is set back or forward costs at most two polls, and no memory."""
    ticks = Ticks()
    async with Running(ticks) as schedule:
        await ticks.reach(2)
        there = datetime.now(UTC) + timedelta(hours=hours)
        with time_machine.travel(there, tick=True):
            # Without the watch it would be a day.
            await ticks.reach(ticks.count + 3)

    assert schedule.events["rescued"] + schedule.events["missed"] > 0


def test_the_trigger_jumps():
    """What was missed is not stepped through, whatever its length."""
    trigger = GridTrigger(seconds=10, timezone=UTC)
    start = datetime(1970, 1, 1, tzinfo=UTC)
    now = datetime(2026, 1, 1, tzinfo=UTC)

    assert trigger.get_next_fire_time(start, now) == now + timedelta(seconds=10)
    assert trigger.get_next_fire_time(now, now) == now + timedelta(seconds=10)
    late = now + timedelta(seconds=15)
    assert trigger.get_next_fire_time(now, late) == now + timedelta(seconds=10)
    assert (
        GridTrigger(seconds=10, start_date=late, timezone=UTC).get_next_fire_time(None, now) == late
    )


def test_what_the_scheduler_says_is_counted():
    """A missed poll is a number, by name."""
    schedule = Schedule()
    schedule._count(JobExecutionEvent(EVENT_JOB_MISSED, "id", "default", None))

    assert schedule.events["missed"] == 1
