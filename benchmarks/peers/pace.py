"""
What the servers of benchmarks/fanout.py have in common: their orders, their messages, their pace.

A server is started with its orders as JSON on the command line. It prints its port, answers each
client's command with some text, and publishes after the line "go" on standard input. It ends with
standard input.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

FIRST_SEQ = 1_000_000_000
"""Before the first message: so all numbers have as many digits, and all messages one size."""
ANSWER = '{"type":"subscribed"}'
LOOK_AT = 16
"""Of so many clients it is asked, each time, whether they still have unsent bytes."""
FULL_BYTES = 65_536
"""With so many of them a client is waited for."""
NAP_S = 0.001

ClientT = TypeVar("ClientT")


@dataclass(frozen=True, slots=True)
class Orders:
    """
    What to do.

    `burst` messages at once for each client; `rate` a second in all, 0 for as many as the clients
    take. A message is `parts` with the number, the time it was due and the present time between
    them. With `deflate`, they are compressed for the clients, all of which ask for it. The rest is
    for the daemon: `window_s`, and the number of instruments.
    """

    burst: int
    rate: float
    parts: tuple[str, str, str, str]
    deflate: bool = False
    window_s: float = 0.0
    instruments: int = 1


def orders() -> Orders:
    """Return the orders of this process."""
    return Orders(**json.loads(sys.argv[1]))


def wall_us() -> int:
    """Return the time in microseconds since the epoch."""
    return time.time_ns() // 1000


class Messages:
    """Makes the messages, numbered."""

    def __init__(self, given: Orders) -> None:
        self._head, self._received, self._published, self._tail = given.parts
        self._seq = FIRST_SEQ

    def next(self, due_us: int) -> str:
        """Return the next message."""
        self._seq += 1
        return (
            f"{self._head}{self._seq}{self._received}{due_us}"
            f"{self._published}{wall_us()}{self._tail}"
        )


class Schedule:
    """Which messages are due at a fixed rate; nothing is left out where it is late."""

    def __init__(self, rate: float) -> None:
        self.step_us = 1e6 / rate
        self.next_us = float(wall_us())

    def due(self) -> list[int]:
        """Return the times of those that are due by now."""
        now, times = wall_us(), []
        while self.next_us <= now:
            times.append(int(self.next_us))
            self.next_us += self.step_us
        return times


class Alarm:
    """
    Wakes up when a message is due: a timer of the kernel, as a file that becomes readable.

    The timers of uvloop have a resolution of 1 ms, whereas what a daemon gets from a venue wakes it
    at once. Python has `os.timerfd_create` only since 3.13.
    """

    def __init__(self, schedule: Schedule) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
        # struct itimerspec: the interval, then the first time; seconds and nanoseconds of each.
        interval = divmod(int(schedule.step_us * 1000), 1_000_000_000)
        first = divmod(int(schedule.next_us + 1) * 1000, 1_000_000_000)
        times = (ctypes.c_long * 4)(*interval, *first)
        absolute = 1  # TFD_TIMER_ABSTIME
        if self._fd < 0 or libc.timerfd_settime(self._fd, absolute, times, None):
            raise OSError(ctypes.get_errno(), "timerfd")
        self._rung = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._ring)

    def _ring(self) -> None:
        os.read(self._fd, 8)
        self._rung.set()

    async def wait(self) -> None:
        """Return when the next message is due."""
        await self._rung.wait()
        self._rung.clear()


class Backpressure(Generic[ClientT]):
    """
    Whether clients are behind, judged by a few of them in turn.

    All of them get the same and one process reads for all, so that a few tell enough; to ask each
    time a thousand of them would be charged to the server that is measured.
    """

    def __init__(self, clients: Sequence[ClientT], unsent: Callable[[ClientT], int]) -> None:
        self._clients = clients
        self._unsent = unsent
        self._at = 0

    def full(self) -> bool:
        """Whether somebody should be waited for."""
        self._at = (self._at + LOOK_AT) % max(1, len(self._clients))
        few = islice(self._clients, self._at, self._at + LOOK_AT)
        return any(self._unsent(client) > FULL_BYTES for client in few)


async def publish(
    given: Orders, send: Callable[[str], Awaitable[None] | None], full: Callable[[], bool]
) -> None:
    """Publish one message after the other for ever, as ordered, with a turn for others between."""
    messages = Messages(given)

    async def send_one(due_us: int) -> None:
        await until(lambda: not full())
        if (sending := send(messages.next(due_us))) is not None:
            await sending
        await asyncio.sleep(0)

    if given.rate:
        async for due_us in due_times(given.rate):
            await send_one(due_us)
    while True:
        await send_one(wall_us())


async def until(condition: Callable[[], bool]) -> None:
    """Return when something is so."""
    # By looking again and again, as there is nothing in the servers that would tell.
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(NAP_S)


async def due_times(rate: float) -> AsyncIterator[int]:
    """Yield the time of each message when it is due, for ever."""
    schedule = Schedule(rate)
    alarm = Alarm(schedule)
    while True:
        for due_us in schedule.due():
            yield due_us
        await alarm.wait()


async def standard_input() -> asyncio.StreamReader:
    """Return standard input, to read commands from."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    return reader


async def serve(
    port: int,
    given: Orders,
    send: Callable[[str], Awaitable[None] | None],
    full: Callable[[], bool],
) -> None:
    """Say the port, publish when told, and return when standard input has ended."""
    commands = await standard_input()
    say(port=port)
    if await commands.readline():
        task = asyncio.create_task(publish(given, send, full))
        reading = asyncio.create_task(commands.read())
        await asyncio.wait([task, reading], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        task.cancel()


def say(**content: object) -> None:
    """Tell `fanout.py`."""
    print(json.dumps(content), flush=True)
