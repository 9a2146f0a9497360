"""
What one connection's connector has fetched: requests under way, and what their answers say.

An answer is published like what the stream brings, but is no sign that the stream is alive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aggregator.channel import Channel
from aggregator.connector import Fetch, Output, StreamConnector, Withheld, translate
from aggregator.model import Event

from .failure import UpstreamError
from .fetched import is_backfilled
from .fetcher import MAX_FETCHES, Fetcher
from .freshness import FeedStatus
from .inlet import Inlet
from .roster import DATA


class Errands:
    """
    The requests of one connection.

    Args:
        connector: asks for them, and is given the answers.
        fetcher: makes them.
        channel: where the connection's messages are published.
        inlet: where it puts them.
        status: the feed's state.
        act: does what is no event.

    Attributes:
        brought: whether any answer had data.
        fetched: while the connection does not lead: instruments whose newest data were fetched.

    """

    def __init__(
        self,
        connector: StreamConnector,
        fetcher: Fetcher,
        *,
        channel: Channel,
        inlet: Inlet,
        status: FeedStatus,
        act: Callable[[Output], None],
    ) -> None:
        self.brought = False
        self.fetched: set[str] = set()
        self._connector = connector
        self._fetcher = fetcher
        self._channel = channel
        self._inlet = inlet
        self._status = status
        self._act = act
        self._under_way = 0

    @property
    def problem(self) -> str:
        """Why the last request failed; empty after a good answer."""
        return self._fetcher.problem

    def begin(self, fetch: Fetch, tasks: asyncio.TaskGroup) -> None:
        """
        Begin with a request.

        Raises:
            UpstreamError: there are too many.

        """
        if self._under_way >= MAX_FETCHES:
            raise UpstreamError(f"{MAX_FETCHES:,} requests wait for their answers")
        self._under_way += 1
        tasks.create_task(self._run(fetch), name=f"stream {self._channel.name} fetch")

    def heard(self, outputs: list[Output]) -> None:
        """Take note that the stream itself has brought this."""
        self.fetched -= {each.instrument for each in outputs if isinstance(each, DATA)}

    async def _run(self, fetch: Fetch) -> None:
        connector, request = self._connector, fetch.request
        if fetch.delay_s > 0:
            await asyncio.sleep(fetch.delay_s)
        try:
            outputs, received_us = await self._fetcher.get(
                request, connector.on_response, fetch.within_s
            )
        except UpstreamError as e:
            reason = str(e)
            outputs = translate(lambda: connector.on_no_response(request, reason))
            received_us = time.time_ns() // 1000
        self._under_way -= 1
        self._take(outputs, received_us)

    def _take(self, outputs: list[Output], received_us: int) -> None:
        channel, inlet, status = self._channel, self._inlet, self._status
        names = {each.instrument for each in outputs if isinstance(each, DATA)}
        before = status.fetched.lasts(names)
        self.brought = self.brought or bool(names)
        for output in outputs:
            seq = channel.seq
            if isinstance(output, Event):
                inlet.take(output, received_us)
            elif not isinstance(output, Withheld):  # that was said when it came
                self._act(output)
            if channel.seq != seq:
                status.counters.events += 1
                status.counters.backfilled += is_backfilled(output)
        if not inlet.leads:
            self.fetched |= names
        elif status.fetched.note(before):
            status.begun()
