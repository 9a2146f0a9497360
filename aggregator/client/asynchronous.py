"""The client for `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Self

import aiohttp

from aggregator.messages import Gap, Message, Position

from .attempts import Attempts
from .buffer import Item, Text
from .callbacks import Callbacks, State
from .commands import Command, Commands
from .connection import Connection, dial
from .counters import Counters
from .errors import ClosedError, UnreachableError
from .intake import Intake
from .options import Options, Policy
from .own import OwnChannels
from .readers import Readers
from .sequence import GRACE_S, Sequence
from .subscription import Subscription, Terms, is_text

logger = logging.getLogger("aggregator.client")

NEW = State("connecting")
LASTING_S = 60.0
"""A connection that held for so long was a good one, even if nothing came."""


class Client(Callbacks, OwnChannels[Subscription]):
    """
    A client of the daemon; see docs/client.md.

    Args:
        url: of the daemon's WebSocket, as `ws://127.0.0.1:8000/ws`.
        options: how it behaves.
        session: for all of its connections, if you have one; it stays yours.

    """

    def __init__(
        self,
        url: str,
        options: Options | None = None,
        *,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        super().__init__()
        self.url = url
        self.options = options or Options()
        self.counters = Counters()
        self.state = NEW
        self._given = session
        self.readers = Readers(self.options, self, self.counters)
        self._intake = Intake(self.options, self.readers, self, self.counters)
        self._intake.on_hole = self._look_later
        self._commands = Commands(self.readers, self._intake, self.options, self._send)
        self._attempts = Attempts(self.options)
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        await self.close()

    async def connect(self) -> None:
        """
        Connect, and stay connected until `close`.

        Raises:
            UnreachableError: within `start_timeout_s` there was no connection.
            RefusedError: the daemon does not want this client.
            ClientError: the address is none.

        """
        if self._task is not None:
            raise ClosedError("a client can be opened once")
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name="client")
        try:
            await asyncio.shield(self._first)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close; can be called at any time, from anywhere in the loop, and more than once."""
        self.readers.close(None)
        task = self._task
        if task is None or task.done() or task is asyncio.current_task():
            return
        if not self._closing:
            self._closing = True
            task.cancel()
        # Twice the time that a farewell may take is for what aiohttp has to tidy up.
        await asyncio.wait({task}, timeout=2 * self.options.close_timeout_s)

    def subscribe(
        self,
        *channels: str,
        max_hz: float | None = None,
        raw: bool = True,
        since: Mapping[str, Position] | None = None,
        policy: Policy | None = None,
        buffer: int | None = None,
    ) -> Subscription:
        """
        Subscribe, now and after each reconnect.

        Args:
            channels: as in docs/protocol.md: `channel`, `channel:instrument` or `*:instrument`.
            max_hz: of each instrument the latest value, at most so often a second.
            raw: price updates with the venue's own payload.
            since: by channel, the last message that you have; what came after is sent.
            policy: of the options, for this subscription.
            buffer: of the options, for this subscription.

        """
        if not channels or not all(map(is_text, channels)):
            raise ValueError("no channel is given: subscribe('bitcoinprice', 'ethprice')")
        # They are checked as those of the options are.
        size = self.options.buffer if buffer is None else buffer
        replace(self.options, policy=policy or self.options.policy, buffer=size)
        positions = {channel: _position(place) for channel, place in dict(since or {}).items()}
        subscription = self.readers.add(channels, Terms(max_hz, raw), policy, buffer)
        self._commands.start_from(positions)
        self._commands.add(subscription)
        return subscription

    def unsubscribe(self, *channels: str) -> None:
        """End all subscriptions that have one of these."""
        for subscription in list(self.readers.subscriptions):
            if not set(channels).isdisjoint(subscription.channels):
                subscription.unsubscribe()

    def __aiter__(self) -> AsyncIterator[Message]:
        """Return an iterator over the messages of subscriptions that are not iterated over."""
        return self.readers.messages(self.readers.inbox)

    async def wait(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - it is no error
        """
        Hand messages to the callbacks, until so many seconds are over or the client is closed.

        They are those of subscriptions that are not iterated over.

        Raises:
            SubscriptionError: all of them are refused.
            RefusedError: the daemon does not want this client any more.

        """
        loop, inbox = asyncio.get_running_loop(), self.readers.inbox
        deadline = None if timeout is None else loop.time() + timeout
        while await inbox.ready(None if deadline is None else max(0.0, deadline - loop.time())):
            if self._closing:
                break
            await self.readers.taken(inbox)
            if deadline is not None and loop.time() >= deadline:
                break

    def positions(self, left: Iterable[Item] = ()) -> dict[str, Position]:
        """
        Return by channel up to where you have taken the messages, for `since`.

        What waits in a buffer is not counted as taken, so that nothing is missing if you go on from
        here; what was taken already of another instrument may come twice.
        """
        left, found = list(left), {}
        for name, sequence in self.readers.sequences.items():
            position = sequence.position
            if position is not None and sequence.whole:
                found[name] = _taken(sequence, position, self.readers.waiting(name, left))
        return found

    def _send(self, command: Command, delay_s: float) -> None:
        if self._connection is not None:
            self._connection.send(command, delay_s)

    def _look_later(self, sequence: Sequence) -> None:
        """Look at a hole once what stands for it has had the time to come."""
        asyncio.get_running_loop().call_later(GRACE_S, self._look_at, sequence)

    def _look_at(self, sequence: Sequence) -> None:
        settled, lost = sequence.settled(asyncio.get_running_loop().time())
        self._intake.lost(lost)
        if not settled and not self._closing:
            self._look_later(sequence)

    def _is(self, name: str, reason: str = "", wait_s: float = 0.0) -> None:
        self.state = State(name, reason, wait_s)
        if reason:
            logger.info("%s: %s: %s", self.url, name, reason)
        if self.on_state is not None:
            self.on_state(self.state)

    async def _run(self) -> None:
        """Be connected until told otherwise; the one owner of the connection."""
        session = self._given or aiohttp.ClientSession()
        error: Exception | None = None
        try:
            await self._stay_connected(session)
        except asyncio.CancelledError:
            if not self._closing:
                raise
        except Exception as e:  # noqa: BLE001 - whatever it is, the readers have to know
            error = e
        finally:
            self.readers.close(error)
            if self._first is not None and not self._first.done():
                self._first.set_exception(error or ClosedError("closed before it was connected"))
                self._first.exception()
            try:
                self._is("closed", str(error) if error is not None else "")
            finally:
                if self._given is None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self.options.close_timeout_s):
                            await session.close()

    async def _stay_connected(self, session: aiohttp.ClientSession) -> None:
        started = asyncio.get_running_loop().time()
        while True:
            self._is("half_open" if self._attempts.is_open else "connecting")
            reason = await self._once(session)
            self.counters.failures += 1
            over_s = asyncio.get_running_loop().time() - started
            assert self._first is not None  # noqa: S101 - connect() has made it
            if not self._first.done() and over_s >= self.options.start_timeout_s:
                raise UnreachableError(f"can't reach {self.url}: {reason}")
            wait = self._attempts.failed()
            wait_s = wait.seconds
            if not self._first.done():
                # Whoever opens it is waiting.
                wait_s = min(wait_s, self.options.start_timeout_s - over_s)
            self._is("open" if wait.is_open else "waiting", reason, wait_s)
            await asyncio.sleep(wait_s)

    async def _once(self, session: aiohttp.ClientSession) -> str:
        """Have one connection, or none; return why it is over."""
        try:
            ws = await dial(session, self.url, self.options)
        except (aiohttp.ClientError, OSError, TimeoutError) as e:
            return str(e) or type(e).__name__
        self._connection = Connection(ws, self._intake, self._commands, self.options)
        self.counters.connections += 1
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._is("connected")
        had, started = self.counters.messages, asyncio.get_running_loop().time()
        try:
            return await self._connection.run()
        finally:
            self._connection = None
            lasted_s = asyncio.get_running_loop().time() - started
            if self.counters.messages > had or lasted_s > LASTING_S:
                self._attempts.succeeded()


def _taken(sequence: Sequence, position: Position, waiting: list[Message]) -> Position:
    """Return the position before the first of the messages that nobody has taken yet."""
    messages = [m.message if isinstance(m, Text) else m for m in waiting]
    seqs = [seq for m in messages if (seq := getattr(m, "seq", None)) is not None]
    if not seqs:
        return position
    # Those before the gap that a restart makes have numbers of the run before.
    restarted = any(isinstance(m, Gap) and m.reason == "history" for m in messages)
    epoch = sequence.old_epoch if restarted and sequence.old_epoch else position.epoch
    return Position(epoch, max(0, seqs[0] - 1))


def _position(place: Position | tuple[str, int]) -> Position:
    """Return a position, also of one that was written as JSON and read again."""
    if isinstance(place, Position):
        return place
    try:
        epoch, seq = place
    except (TypeError, ValueError):
        raise ValueError("since has a Position, or its epoch and seq, for each channel") from None
    return Position(str(epoch), int(seq))
