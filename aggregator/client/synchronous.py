"""The client for programs without `asyncio`: the same names, and no `await`."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import TracebackType
from typing import Self, TypeVar

from aggregator.messages import Message, Position

from .asynchronous import Client
from .buffer import Buffer, Item
from .callbacks import Callbacks, Invalid, State
from .counters import Counters
from .errors import ClosedError
from .options import Options, Policy
from .own import OwnChannels
from .subscription import Subscription

T = TypeVar("T")

BATCH = 64
"""So many messages at most are taken over at once; a policy does not reach them any more."""
NOTES = 1000
"""So many states and invalid messages are kept until somebody waits or iterates."""


class SyncSubscription:
    """Messages of some channels: iterate over it, or leave them to `wait()` of the client."""

    def __init__(self, client: SyncClient, subscription: Subscription) -> None:
        self.channels = subscription.channels
        self._client = client
        self._subscription = subscription

    def __iter__(self) -> Iterator[Message]:
        """Yield messages; it ends when the client is closed."""
        return self._client.messages(self._subscription)

    def unsubscribe(self) -> None:
        """Want it no more: the iteration ends behind what has come already."""
        self._client.run(self._subscription.unsubscribe)


class SyncClient(Callbacks, OwnChannels[SyncSubscription]):
    """
    A client of the daemon; see docs/client.md.

    A thread of its own keeps the connection. Callbacks are plain functions, called in the thread
    that calls `wait()` or iterates, so they need no locks.

    Args:
        url: of the daemon's WebSocket, as `ws://127.0.0.1:8000/ws`.
        options: how it behaves.

    """

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__()
        self._client = Client(url, options)
        self._client.on_state = self._has_state
        self._client.on_invalid = self._is_invalid
        self._notes: deque[State | Invalid] = deque(maxlen=NOTES)
        # What was taken over from a buffer, and whether it is this reader's turn to call.
        self._left: dict[Buffer, deque[tuple[Item, bool]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="aggregator client", daemon=True)

    def __enter__(self) -> Self:
        """Connect."""
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    @property
    def url(self) -> str:
        """The address of the daemon."""
        return self._client.url

    @property
    def state(self) -> State:
        """How the connection is doing."""
        return self._client.state

    @property
    def counters(self) -> Counters:
        """What was counted."""
        return self._client.counters

    def connect(self) -> None:
        """Connect, and stay connected until `close`; raises what `Client.connect` does."""
        if self._closing or self._thread.ident is not None:
            raise ClosedError("a client can be opened once")
        self._thread.start()
        try:
            self._opened.result()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close; can be called at any time, from any thread, callback or signal handler."""
        if not self._closing:
            self._closing = True
            if self._loop is not None and self._task is not None:
                with contextlib.suppress(RuntimeError):  # it has ended by itself
                    self._loop.call_soon_threadsafe(self._task.cancel)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            # Each step of the farewell has its own deadline; this is for what nobody thought of.
            self._thread.join(4 * self._client.options.close_timeout_s)

    def _main(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        try:
            if not self._closing:
                await self._client.connect()
                self._opened.set_result(None)
                await self._loop.create_future()  # until it is cancelled by `close`
        except BaseException as e:
            if not self._opened.done():
                is_told = isinstance(e, Exception)
                self._opened.set_exception(e if is_told else ClosedError("it was closed"))
            if not isinstance(e, Exception):
                raise
        finally:
            await self._client.close()

    def subscribe(
        self,
        *channels: str,
        max_hz: float | None = None,
        raw: bool = True,
        since: Mapping[str, Position] | None = None,
        policy: Policy | None = None,
        buffer: int | None = None,
    ) -> SyncSubscription:
        """Subscribe, now and after each reconnect; see `Client.subscribe`."""
        return SyncSubscription(
            self,
            self.run(
                lambda: self._client.subscribe(
                    *channels, max_hz=max_hz, raw=raw, since=since, policy=policy, buffer=buffer
                )
            ),
        )

    def unsubscribe(self, *channels: str) -> None:
        """End all subscriptions that have one of these."""
        self.run(lambda: self._client.unsubscribe(*channels))

    def positions(self) -> dict[str, Position]:
        """Return by channel up to where you have taken the messages; see `Client.positions`."""
        left = [item for taken in self._left.values() for item, _ in taken]
        return self.run(lambda: self._client.positions(left))

    def __iter__(self) -> Iterator[Message]:
        """Yield the messages of subscriptions that are not iterated over."""
        return self.messages(None)

    def wait(self, timeout: float | None = None) -> None:
        """Hand messages to the callbacks until the time is over; see `Client.wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for _ in () if self._closing else self._taken(self._client.readers.inbox, deadline):
            if self._closing or (deadline is not None and time.monotonic() >= deadline):
                break
        self._call_notes()

    def messages(self, subscription: Subscription | None) -> Iterator[Message]:
        """Yield the messages of a subscription, or those that nobody else iterates over."""
        readers = self._client.readers
        if subscription is None:
            return self._taken(readers.inbox, None)
        return self._taken(self.run(lambda: readers.claim(subscription)), None)

    def _taken(self, buffer: Buffer, deadline: float | None) -> Iterator[Message]:
        """Yield messages, after what is to be called for them, until the end or the deadline."""
        left = self._left.setdefault(buffer, deque())
        going_on = True
        while going_on:
            self._call_notes()
            while left:
                item, is_first = left.popleft()
                if isinstance(item, Exception):
                    raise item
                if is_first and any(self.called(item)):
                    raise TypeError("the callbacks of a SyncClient are plain functions")
                yield item
            rest_s = None if deadline is None else deadline - time.monotonic()
            going_on = (rest_s is None or rest_s > 0) and self._fill(buffer, left, rest_s)

    def _fill(
        self, buffer: Buffer, left: deque[tuple[Item, bool]], timeout_s: float | None
    ) -> bool:
        """Wait until there is something to do; return whether there may be more."""

        def take_over() -> bool:
            # Into `left` here already: so nothing gets lost when the waiting is interrupted.
            for _ in range(min(BATCH, len(buffer))):
                item = buffer.pop()
                left.append((item, self._client.readers.is_first(buffer, item)))
            return bool(left) or not buffer.ended

        async def fill() -> bool:
            await buffer.ready(timeout_s)
            return take_over()

        try:
            return self._ask(fill)
        except ClosedError:
            # When its thread has ended, what is left belongs to this one.
            return not self._thread.is_alive() and take_over()

    def run(self, function: Callable[[], T]) -> T:
        """Run a function in the client's thread, or when that has ended here."""

        async def call() -> T:
            return function()

        try:
            return self._ask(call)
        except ClosedError:
            if self._thread.ident is None or self._thread.is_alive():
                raise
            return function()

    def _ask(self, function: Callable[[], Coroutine[None, None, T]]) -> T:
        loop = self._loop
        if loop is None or not self._opened.done() or loop.is_closed():
            raise ClosedError("the client is not open")
        asked = function()
        try:
            future = asyncio.run_coroutine_threadsafe(asked, loop)
        except RuntimeError:
            asked.close()
            raise ClosedError("the client is closed") from None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClosedError("the client is closed") from None
        except BaseException:
            future.cancel()
            raise

    def _has_state(self, state: State) -> None:
        self._note(state)

    def _is_invalid(self, invalid: Invalid) -> None:
        self._note(invalid)

    def _note(self, note: State | Invalid) -> None:
        self._notes.append(note)
        for buffer in tuple(self._left):
            buffer.nudge()

    def _call_notes(self) -> None:
        while self._notes:
            note = self._notes.popleft()
            if isinstance(note, State):
                if self.on_state is not None:
                    self.on_state(note)
            elif self.on_invalid is not None:
                self.on_invalid(note)
