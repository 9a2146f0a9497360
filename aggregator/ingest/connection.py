"""
One WebSocket connection to a venue, from its opening to the reason for its end.

Three tasks: one receives, one sends (`sender`), one watches the clock; and one for each request
that the connector asks for (`errands`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import WSMsgType

from aggregator.channel import Channel
from aggregator.connector import (
    UNREADABLE,
    Acknowledged,
    Fetch,
    Ignored,
    KnownInstruments,
    Leaving,
    Output,
    Send,
    StreamConnector,
    Unhandled,
    UnknownInstrument,
    Withheld,
    translate,
    unreadable,
)
from aggregator.errors import PayloadError
from aggregator.model import Event

from .counters import EVERY
from .errands import Errands
from .failure import LeavingError, NothingKnownError, StaleError, from_websocket, printable
from .fetcher import Fetcher
from .freshness import FeedStatus
from .inlet import Inlet
from .roster import brief
from .sender import Pings, Receipts, Sender, WebSocket

log = logging.getLogger(__name__)

LONGEST_WATCH_S = 1.0
SHORTEST_WATCH_S = 0.005


class Connection:
    """
    A connection that is open.

    Args:
        ws: an open WebSocket, with `autoping=False, autoclose=False, decode_text=False`.
        connector: a fresh one.
        channel: where its messages are published.
        inlet: where it puts them.
        status: the feed's state.
        fetcher: makes the requests that the connector asks for; `None` where it has no address.
        on_leaving: called when the venue says that it will close the connection.
        clock: a monotonic clock, in seconds.

    Attributes:
        last_data: when the stream brought data; what was fetched does not count.
        errands: what its connector has fetched; `None` where it has no address for that.
        leaving: whether the venue has said so.
        unknown: instruments that the venue does not know.

    """

    def __init__(
        self,
        ws: WebSocket,
        connector: StreamConnector,
        *,
        channel: Channel,
        inlet: Inlet,
        status: FeedStatus,
        fetcher: Fetcher | None = None,
        on_leaving: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ws = ws
        self._connector = connector
        self._options = connector.options
        self._channel = channel
        self._inlet = inlet
        self._status = status
        self._on_leaving = on_leaving
        self._clock = clock
        self._sender = Sender(ws, connector.sends_per_s, clock)
        self._pings = Pings(self._sender, connector)
        self._tasks: asyncio.TaskGroup | None = None
        self._withheld: list[str] = []
        self.errands: Errands | None = None
        if fetcher is not None:
            self.errands = Errands(
                connector, fetcher, channel=channel, inlet=inlet, status=status, act=self._act
            )
        self.opened = self.last_frame = clock()
        self.last_data: float | None = None
        self.receipts = Receipts(connector.options.ack_timeout_s)
        self._deferred: list[UnknownInstrument | KnownInstruments] = []
        self._silent: list[str] = []
        self.leaving = False
        self.unknown: set[str] = set()

    @property
    def had_data(self) -> bool:
        """Whether real data came."""
        return self.last_data is not None

    async def run(self) -> None:
        """
        Subscribe and receive until something ends it. Cancelled, it closes the connection.

        Raises:
            ExceptionGroup: with the reason: `UpstreamError`, `ExchangeError`, or a bug.

        """
        name = self._channel.name
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for output in self._connector.on_open():
                    self._act(output)
                tasks.create_task(self._sender.run(), name=f"stream {name} send")
                tasks.create_task(self._watch(), name=f"stream {name} watch")
                if self._connector.tick_s is not None:
                    tick = self._tick(self._connector.tick_s)
                    tasks.create_task(tick, name=f"stream {name} tick")
                await self._receive()
        finally:
            await self._sender.close()

    def resubscribe(self, instruments: Iterable[str]) -> bool:
        """Have these instruments subscribed to again; return whether the connector can."""
        if type(self._connector).resubscribe is StreamConnector.resubscribe:
            return False
        # Done by a task of this connection, which ends if the connector fails at it.
        self._silent += instruments
        return True

    def lead(self) -> None:
        """Say of the feed what was kept back while another connection led."""
        deferred, self._deferred = self._deferred, []
        for output in deferred:
            self._tell(output)

    # Receiving.

    async def _receive(self) -> None:
        connector, receive = self._connector, self._ws.receive
        on_frame, pong = connector.on_frame, connector.pong
        counters, due = self._status.counters, self._status.counters.drift.due
        while True:
            message = await receive()
            received_us = time.time_ns() // 1000
            self.last_frame = now = self._clock()
            frame = message.data
            if message.type is not WSMsgType.TEXT:
                self._not_text(message.type, message.data, message.extra)
            elif frame != pong:
                counters.received += 1
                try:
                    # aiohttp leaves this check to us, and hands out what came without a copy.
                    if not frame.isascii():
                        frame.decode()
                    said = on_frame(frame)
                    outputs = said if isinstance(said, list) else list(said)
                except (PayloadError, *UNREADABLE) as e:
                    self._unreadable(e)
                else:
                    self._perform(outputs, received_us, now)
                if due():
                    counters.drift.look(connector, frame, streamed=True)

    def _perform(self, outputs: list[Output], received_us: int, now: float) -> None:
        channel, inlet, status = self._channel, self._inlet, self._status
        take, before, gaps, unpublished = inlet.take, channel.seq, channel.gaps, inlet.unpublished
        for output in outputs:
            if isinstance(output, Event):
                take(output, received_us)
            else:
                self._act(output)
        published = channel.seq - before
        # That something is lost is no data, and no sign of life.
        data = published - channel.gaps + gaps
        if data or self._withheld or inlet.unpublished != unpublished:
            self.last_data = now
            if inlet.leads:
                status.data(now)
                status.withheld.update(self._withheld)
                if status.unknown:
                    status.heard_of(outputs)
            elif self.errands is not None:
                self.errands.heard(outputs)
            self._withheld.clear()
        counters = status.counters
        counters.events += published
        if published and (now >= counters.measure_at or not counters.received % EVERY):
            counters.measure(outputs, received_us, now)

    def _unreadable(self, error: Exception) -> None:
        error = error if isinstance(error, PayloadError) else unreadable(error)
        self._status.counters.error("payload", str(error))
        log.debug("feed %s: unreadable frame: %s", self._channel.name, printable(str(error)))

    def _not_text(self, kind: WSMsgType, data: Any, extra: str | None) -> None:
        match kind:
            case WSMsgType.PING:
                self._sender.add(WSMsgType.PONG, bytes(data))
            case WSMsgType.PONG:
                pass
            case WSMsgType.BINARY:
                self._status.counters.received += 1
                self._unreadable(PayloadError("a binary frame"))
            case _:
                raise from_websocket(kind, data, extra)

    def _act(self, output: Output) -> None:
        match output:
            case Send(frame, key):
                if key:
                    self.receipts.expect(key, self._clock())
                self._sender.add(WSMsgType.TEXT, frame.encode())
            case Acknowledged(key):
                self.receipts.take(key, self._clock())
            case UnknownInstrument(instrument, _):
                self.unknown.add(instrument)
                self._tell(output)
                if self.unknown.issuperset(self._options.instruments):
                    raise NothingKnownError("the venue knows none of the instruments", "exchange")
            case KnownInstruments():
                self._tell(output)
            case Leaving(reason):
                self._leave(reason)
            case Withheld(instrument):
                self._withheld.append(instrument)
            case Fetch() if self.errands is not None and self._tasks is not None:
                self.errands.begin(output, self._tasks)
            case _:
                self._count(output)

    def _count(self, output: Output) -> None:
        match output:
            case Ignored(name):
                self._status.counters.leave_out(printable(name, 60))
            case Unhandled(name):
                self._status.counters.ignore(printable(name, 60))
            case _:  # `Fetch` without an address to ask, say
                self._status.counters.ignore(type(output).__name__)

    def _tell(self, output: UnknownInstrument | KnownInstruments) -> None:
        if not self._inlet.leads:
            self._deferred.append(output)
        elif isinstance(output, KnownInstruments):
            self._status.listed(output.instruments)
        else:
            self._status.unknown_instrument(output.instrument, output.reason)

    def _leave(self, reason: str) -> None:
        brought = self.errands is not None and self.errands.brought
        if not (self._inlet.leads and (self.had_data or brought)):
            raise LeavingError(printable(f"the venue is going to close: {reason}"))
        self.leaving = True
        self._on_leaving()

    async def _tick(self, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            outputs = translate(self._connector.on_tick)
            self._perform(outputs, time.time_ns() // 1000, self._clock())

    # Watching.

    async def _watch(self) -> None:
        while True:
            while self._silent:
                for send in self._connector.resubscribe(self._silent.pop(0)):
                    self._act(send)
            wait_s = self._check(self._clock()) - self._clock()
            await asyncio.sleep(min(max(wait_s, SHORTEST_WATCH_S), LONGEST_WATCH_S))

    def _check(self, now: float) -> float:
        """Ping if it is time to, give up if it is time to, and return when to look again."""
        self._sender.check(now)
        acknowledge_by = self.receipts.check(now)
        newest = self.opened if self.last_data is None else self.last_data
        stale_at = newest + self._status.stale_limit_s
        if now >= stale_at:
            problem = self.errands and self.errands.problem
            because = f"; {problem}" if problem else ""
            text = f"no data for {brief(now - newest)}{self._status.usual}{because}"
            raise StaleError(text, "timeout")
        return min(acknowledge_by, stale_at, self._pings.check(now, self.last_frame))
