"""
One poll: which requests, in what order, how many at a time, and what becomes of the answers.

Requests for reference data (with a `max_age_s`) go first and alone, since a connector may need
their answers to know its other requests. Those go up to `CONCURRENCY` at a time, beginning where
the last poll ran out of budget or of time, so that a plan that is larger than the budget still
goes round. What the answers ask for besides (`Fetch`) goes last.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from aggregator.channel import Channel
from aggregator.connector import (
    UNREADABLE,
    Fetch,
    Ignored,
    KnownInstruments,
    Output,
    PollConnector,
    Request,
    Unhandled,
    UnknownInstrument,
    slices,
    unreadable,
)
from aggregator.errors import ConnectorError, PayloadError
from aggregator.hub import Hub
from aggregator.model import Event, State

from . import caching
from .budget import Budget
from .failure import UpstreamError, kind_of
from .fetch import Answer
from .freshness import FeedStatus

CONCURRENCY = 8
"""Requests of one poll that are under way at the same time."""
SLICE = 100
"""Messages translated or published before others get their turn: about a millisecond."""
MAX_GENERATIONS = 5
"""How often the answers to what answers asked for may ask for more."""
MAX_FETCHES = 5000
"""Requests that the answers of one poll may ask for."""

Identity = tuple[str, str, tuple[tuple[str, str], ...]]
Get = Callable[[Request], Awaitable[Answer]]


def identity(request: Request) -> Identity:
    """Return what makes two requests the same."""
    return request.path, request.key, tuple(sorted(request.params.items()))


class Memory:
    """What one poll leaves to the next: where to begin, and what need not be asked for yet."""

    __slots__ = ("begin_at", "good_until", "lifetime_s")

    def __init__(self) -> None:
        self.begin_at: Identity | None = None
        self.good_until: dict[Identity, float] = {}
        # How often the slowest of the last answers is refreshed at its source.
        self.lifetime_s = 0.0

    def forget(self, now: float) -> None:
        """Drop what no longer holds."""
        if self.good_until:
            self.good_until = {k: until for k, until in self.good_until.items() if until > now}

    def is_due(self, request: Request, now: float) -> bool:
        """Whether the last good answer to this request is too old by now."""
        # Most venues say nothing about it, and a plan may have thousands of requests.
        return not self.good_until or self.good_until.get(identity(request), now) <= now

    def rotated(self, requests: list[Request]) -> list[Request]:
        """Return the requests beginning with the one that the last poll left over."""
        if self.begin_at is None:
            return requests
        for n, request in enumerate(requests):
            if identity(request) == self.begin_at:
                return requests[n:] + requests[:n]
        return requests


class Poll:
    """
    One poll of a feed. What came of it stands in its attributes once `run` has returned.

    `failure` ended it early; `problem` is the last error of a single request, which lets the
    others go on; `short_s` is how long the budget wanted us to wait; `late` says that time ran
    out; `cached` that nothing was due; `complete` that `planned` is.
    """

    def __init__(
        self,
        connector: PollConnector,
        get: Get,
        *,
        memory: Memory,
        budget: Budget,
        status: FeedStatus,
        channel: Channel,
        hub: Hub,
        time_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connector = connector
        self._get = get
        self._memory = memory
        self._budget = budget
        self._status = status
        self._channel = channel
        self._hub = hub
        self._clock = clock
        self._until = clock() + time_s
        self._fetches: list[Request] = []
        self._asked_for = 0
        self._one_at_a_time = asyncio.Lock()
        self.planned: list[Request] = []
        self.complete = False
        self.ordinary = 0
        self.fetched = 0
        self.events = 0
        self.failure: UpstreamError | None = None
        self.problem: ConnectorError | None = None
        self.short_s = 0.0
        self.late = False
        self.cached = False

    @property
    def stopped(self) -> bool:
        """Whether no further request may go."""
        return self.failure is not None or self.short_s > 0 or self.late

    async def run(self) -> None:
        """
        Do it. May be cancelled between the slices of an answer.

        Raises:
            ExceptionGroup, Exception: a bug, in the connector or here.

        """
        ordinary = []
        memory = self._memory
        # Asked for one by one: a connector may know the next only after the answer to the last.
        for request in self._connector.requests():
            self.planned.append(request)
            if request.max_age_s <= 0:
                ordinary.append(request)
            elif memory.is_due(request, self._clock()):
                await self._do(request)
                if self.stopped:
                    return
        self.complete = True
        now = self._clock()
        self.ordinary = len(ordinary)
        memory.forget(now)
        due = [request for request in memory.rotated(ordinary) if memory.is_due(request, now)]
        self.cached = bool(ordinary) and not due
        await self._do_all(due)
        for _ in range(MAX_GENERATIONS):
            requests, self._fetches = self._fetches, []
            await self._do_all(requests)
        if self._fetches and not self.stopped:
            self._problem(PayloadError("answers ask for more and more requests"))
        # The place to begin at stays after a poll that was complete: beginning at the first again
        # would favour the first whenever the next one is not.

    async def _do_all(self, requests: list[Request]) -> None:
        queue = deque(requests)
        if len(queue) == 1:
            await self._work(queue)
        elif queue:
            async with asyncio.TaskGroup() as group:
                for n in range(min(CONCURRENCY, len(queue))):
                    group.create_task(self._work(queue), name=f"poll {self._channel.name} {n}")

    async def _work(self, queue: deque[Request]) -> None:
        while queue and not self.stopped:
            request = queue.popleft()
            if self._clock() >= self._until and self.fetched:
                self.late = True
                self._memory.begin_at = identity(request)
                return
            await self._do(request)
            if self.failure and queue:
                # Not with the one that failed, or it would keep the others from their turn.
                self._memory.begin_at = identity(queue[0])

    async def _do(self, request: Request) -> None:
        wait_s = self._budget.try_take(request.weight)
        if wait_s > 0:
            self.short_s = wait_s
            if request.max_age_s <= 0:
                self._memory.begin_at = identity(request)
            return
        try:
            answer = await self._get(request)
            self._status.counters.received += 1
            # One answer after the other, since a connector does not expect to be interrupted.
            async with self._one_at_a_time:
                outputs = await self._translate(request, answer)
            await self._perform(outputs, answer.received_us)
        except UpstreamError as e:
            self._status.counters.error(kind_of(e), str(e))
            self.failure = e
        except ConnectorError as e:
            self._problem(e)
        else:
            self._remember(request, answer)
        self.fetched += 1

    def _problem(self, error: ConnectorError) -> None:
        self._status.counters.error(kind_of(error), str(error))
        self.problem = error

    def _remember(self, request: Request, answer: Answer) -> None:
        if answer.status != 200:
            return
        reuse = caching.reuse(answer.headers)
        if request.max_age_s <= 0:
            self._memory.lifetime_s = reuse.lifetime_s
        rest_s = max(request.max_age_s, reuse.rest_s)
        if rest_s > 0:
            self._memory.good_until[identity(request)] = self._clock() + rest_s

    async def _translate(self, request: Request, answer: Answer) -> list[Output]:
        """Return everything that an answer means, before any of it is published."""
        drift = self._status.counters.drift
        if answer.status in {404, 410}:
            drift.found("endpoint", request.path)
        try:
            if answer.status == 200:
                if drift.due():
                    drift.look(self._connector, answer.body)
                outputs = self._connector.on_response(request, answer.body)
            else:
                outputs = self._connector.on_refusal(request, answer.status, answer.body)
        except UNREADABLE as e:
            raise unreadable(e) from e
        everything: list[Output] = []
        for part in slices(outputs, SLICE):
            everything += part
            if len(part) == SLICE:
                await asyncio.sleep(0)
        return everything

    async def _perform(self, outputs: list[Output], received_us: int) -> None:
        channel, status = self._channel, self._status
        status.counters.measure(outputs, received_us, self._clock())
        for start in range(0, len(outputs), SLICE):
            if start:
                await asyncio.sleep(0)
            before = channel.seq
            part = outputs[start : start + SLICE]
            for output in part:
                if isinstance(output, Event):
                    self._hub.publish(channel, output, received_us)
                else:
                    self._act(output)
            if channel.seq != before:
                self.events += channel.seq - before
                status.counters.events += channel.seq - before
                status.last_data = self._clock()
                # Otherwise the state is judged at the end, or it would change twice in a poll
                # that fails half-way.
                if status.state is State.CONNECTING:
                    status.data(status.last_data)
            if status.unknown:
                status.heard_of(part)

    def _act(self, output: Output) -> None:
        match output:
            case Fetch(request) if self._asked_for < MAX_FETCHES:
                self._asked_for += 1
                self._fetches.append(request)
            case UnknownInstrument(instrument, reason):
                self._status.unknown_instrument(instrument, reason)
            case KnownInstruments(instruments):
                self._status.listed(instruments)
            case Ignored(name):
                self._status.counters.leave_out(name)
            case Unhandled(name):
                self._status.counters.ignore(name)
            case _:
                # Of no use without a connection: what a streamed feed may say.
                self._status.counters.ignore(type(output).__name__)
