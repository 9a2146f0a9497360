"""
The processes of benchmarks/hour.py: the daemon, and clients that come and go.

    hour_roles.py serve ORDERS | hour_roles.py visit PORT
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import uvloop
from visitors import Numbers, Visitor

# `peers/ours.py` and what it imports.
sys.path.insert(0, str(Path(__file__).parent / "peers"))

INSTRUMENTS, EACH = 100, 10
CHURN_PER_S = 10.0
STAY_S = 10.0
"""How long a visitor stays, on the average; so about 100 of them are there."""
BACK_S = 0.5
LOOK_S = 0.005
BIN_MS = 0.1
CHANNEL = "prices"


def subscribe(wanted: list[int]) -> dict[str, Any]:
    """Return the command for these instruments."""
    names = [f"{CHANNEL}:C{number:03d}/USDT" for number in wanted]
    return {"type": "subscribe", "channels": names}


async def daemon() -> None:
    """Be the daemon; "go" begins to publish, "report" tells how it is, "stop" ends publishing."""
    import pace
    from ours import Driver, serve

    driver, lag = Driver(pace.orders()), Lag()

    def report() -> None:
        pace.say(
            published=driver.published,
            sessions=len(driver.daemon.sessions),
            folded=driver.daemon.sessions.counters.folded,
            tasks=len(asyncio.all_tasks()),
            blocked_ms=lag.take() * 1e3,
        )

    await serve(driver, report)


class Lag:
    """By how much a timer is late at most: so long nothing else could be done."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._look(time.perf_counter())

    def _look(self, due: float) -> None:
        now = time.perf_counter()
        self._longest = max(self._longest, now - due)
        asyncio.get_running_loop().call_later(LOOK_S, self._look, time.perf_counter() + LOOK_S)

    def take(self) -> float:
        """Return the longest since the last call, in seconds."""
        longest, self._longest = self._longest, 0.0
        return longest


class Visitors:
    """All that come and go."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._random = random.Random(1)
        self._all: list[Numbers] = []
        self.counts = {"connections": 0, "refused": 0}
        self._bins: dict[int, int] = {}

    async def come(self) -> None:
        """Let ten a second come, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with asyncio.TaskGroup() as tasks:
            while True:
                tasks.create_task(self._visit())
                # Half of them come twice.
                due += 1.5 / CHURN_PER_S
                await asyncio.sleep(due - loop.time())

    async def _visit(self) -> None:
        wanted = self._random.sample(range(INSTRUMENTS), EACH)
        numbers = Numbers(INSTRUMENTS, wanted)
        self._all.append(numbers)
        command = subscribe(wanted)
        await self._stay(command, numbers)
        if self._random.random() < 0.5 and numbers.messages:
            await asyncio.sleep(BACK_S)
            command["since"] = {CHANNEL: {"epoch": numbers.epoch, "seq": numbers.last}}
            await self._stay(command, numbers)

    async def _stay(self, command: dict[str, Any], numbers: Numbers) -> None:
        ended = asyncio.Event()
        bins = self._bins

        def said(text: bytes) -> None:
            if us := numbers.take(text):
                key = int(us / 1e3 / BIN_MS)
                bins[key] = bins.get(key, 0) + 1

        def gone(code: int) -> None:
            self.counts["refused"] += code != 0
            ended.set()

        visitor = Visitor(command, said, gone)
        self.counts["connections"] += 1
        await asyncio.get_running_loop().create_connection(lambda: visitor, "127.0.0.1", self._port)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._random.expovariate(1 / STAY_S)):
                await ended.wait()
        visitor.leave()
        await ended.wait()

    def report(self) -> dict[str, Any]:
        """Return what was counted, and the times since the last call."""
        sums = {
            name: sum(getattr(each, name) for each in self._all)
            for name in ("messages", "lost", "told", "twice", "recovered")
        }
        bins = dict(self._bins)
        self._bins.clear()
        return {**self.counts, **sums, "bins": bins}


async def visit(port: int) -> None:
    """Be the visitors; "report" tells what they have seen."""
    import pace

    visitors = Visitors(port)
    commands = await pace.standard_input()
    coming = asyncio.create_task(visitors.come())
    while (await commands.readline()).strip():
        if coming.done():
            coming.result()
        pace.say(**visitors.report())
    os._exit(0)


# Without an argument it is `make bench`, which runs every file here.
if __name__ == "__main__" and sys.argv[1:]:
    # The orders are where `pace` looks for them.
    role, argument = sys.argv[1], sys.argv.pop(2)
    sys.argv[1] = argument
    uvloop.run(daemon() if role == "serve" else visit(int(argument)))
