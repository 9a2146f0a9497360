"""
When the polled feeds poll: APScheduler, and a watch beside it.

APScheduler follows the wall clock. Set back, it would stop every job until the old time is
reached again; set forward by years, it would step through each interval in between. Hence the
watch on the monotonic clock, and a trigger that jumps.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from apscheduler.events import (
    EVENT_JOB_ERROR,
    EVENT_JOB_MAX_INSTANCES,
    EVENT_JOB_MISSED,
    JobEvent,
)
from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from .poller import Poller

log = logging.getLogger(__name__)

MISFIRE_GRACE_S = 10
"""A poll that is late by more is left to the next one."""
LONGEST_JITTER_S = 0.5
JITTER_SHARE = 20
"""Polls are late by up to this fraction of the interval, so that the feeds spread out."""
OVERDUE_INTERVALS = 1.5
"""No poll for so many intervals: the watch starts one."""
LONGEST_WATCH_S = 1.0
SHORTEST_WATCH_S = 0.01
NAMES = {
    EVENT_JOB_MISSED: "missed",
    EVENT_JOB_MAX_INSTANCES: "max_instances",
    EVENT_JOB_ERROR: "error",
}


# APScheduler ships no types.
class GridTrigger(IntervalTrigger):  # type: ignore[misc]
    """An interval that jumps over what was missed, instead of stepping through it."""

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        """Return when to fire next."""
        if previous is not None and now - previous > 2 * self.interval:
            previous = now
        following: datetime | None = super().get_next_fire_time(previous, now)
        return following


@dataclass(slots=True, eq=False)
class _Entry:
    poller: Poller
    jitter_s: float
    started: float
    job: Job | None = None
    running: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Schedule:
    """
    Owns the one scheduler and the tasks of all polls.

    `events` counts what the scheduler says (`missed`, `max_instances`, `error`) and the polls that
    the watch had to start (`rescued`).
    """

    clock: Callable[[], float] = time.monotonic
    events: dict[str, int] = field(
        default_factory=lambda: {"missed": 0, "max_instances": 0, "error": 0, "rescued": 0}
    )
    _entries: list[_Entry] = field(default_factory=list)
    _wrappers: set[asyncio.Task[Any]] = field(default_factory=set)
    _scheduler: AsyncIOScheduler | None = None
    _polls: asyncio.TaskGroup | None = None

    def add(self, poller: Poller) -> None:
        """Add a feed. It is polled at once, or as soon as `run` begins."""
        jitter_s = min(LONGEST_JITTER_S, poller.interval_s / JITTER_SHARE)
        self._entries.append(_Entry(poller, jitter_s, self.clock()))
        if self._scheduler is not None and self._polls is not None:
            self._start(self._scheduler, self._entries[-1], self._polls)

    async def remove(self, poller: Poller) -> None:
        """Poll a feed no more; a poll that is under way is ended first."""
        entry = next(e for e in self._entries if e.poller is poller)
        self._entries.remove(entry)
        if entry.job is not None:
            entry.job.remove()
        if entry.running is not None:
            entry.running.cancel()
            await asyncio.wait((entry.running,))

    def next_poll_s(self, name: str) -> float | None:
        """Return in how many seconds a feed is polled next, as far as that is known."""
        job = next((e.job for e in self._entries if e.poller.name == name), None)
        due = job.next_run_time if job is not None else None
        return None if due is None else (due - datetime.now(UTC)).total_seconds()

    async def run(self) -> None:
        """Poll until cancelled; when it returns, no poll is under way any more."""
        scheduler = self._new_scheduler()
        async with asyncio.TaskGroup() as polls:
            for entry in self._entries:
                self._start(scheduler, entry, polls)
            scheduler.start()
            self._scheduler, self._polls = scheduler, polls
            try:
                await self._watch()
            finally:
                self._scheduler = self._polls = None
                await self._stop(scheduler)

    def _new_scheduler(self) -> AsyncIOScheduler:
        scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={
                "coalesce": True,
                "max_instances": 1,
                "misfire_grace_time": MISFIRE_GRACE_S,
            },
        )
        scheduler.add_listener(self._count, sum(NAMES))
        return scheduler

    def _count(self, event: JobEvent) -> None:
        self.events[NAMES[event.code]] += 1

    def _start(self, scheduler: AsyncIOScheduler, entry: _Entry, polls: asyncio.TaskGroup) -> None:
        poller = entry.poller
        entry.started = self.clock()

        async def poll() -> None:
            # The poll is a task of ours: the scheduler would cancel one of its own at shutdown,
            # and report that as an error. `wait` lets it live when this wrapper is cancelled.
            entry.started = self.clock()
            wrapper = asyncio.current_task()
            assert wrapper is not None  # noqa: S101 - for the type checker
            self._wrappers.add(wrapper)
            wrapper.add_done_callback(self._wrappers.discard)
            entry.running = polls.create_task(poller.tick(), name=f"poll {poller.name}")
            try:
                await asyncio.wait((entry.running,))
            finally:
                entry.running = None

        entry.job = scheduler.add_job(
            poll,
            GridTrigger(seconds=poller.interval_s, jitter=entry.jitter_s, timezone=UTC),
            name=poller.name,
            next_run_time=datetime.now(UTC),
        )

    async def _watch(self) -> None:
        """Start the polls that the scheduler has forgotten, and notice data that get too old."""
        while True:
            shortest_s = min((e.poller.interval_s for e in self._entries), default=LONGEST_WATCH_S)
            await asyncio.sleep(min(LONGEST_WATCH_S, max(SHORTEST_WATCH_S, shortest_s / 4)))
            now = self.clock()
            for entry in self._entries:
                entry.poller.check()
                overdue_s = OVERDUE_INTERVALS * entry.poller.interval_s + entry.jitter_s
                if entry.running is None and entry.job and now - entry.started > overdue_s:
                    self.events["rescued"] += 1
                    entry.started = now
                    entry.job.modify(next_run_time=datetime.now(UTC))

    async def _stop(self, scheduler: AsyncIOScheduler) -> None:
        """End our polls first, then the scheduler, which has nothing left to cancel."""
        scheduler.remove_all_jobs()
        # What it has just submitted gets as far as to be known here.
        await asyncio.sleep(0)
        for entry in self._entries:
            if entry.running is not None:
                entry.running.cancel()
        if self._wrappers:
            await asyncio.wait(self._wrappers)
        scheduler.shutdown(wait=False)
        # It does so in the next round of the loop.
        await asyncio.sleep(0)
