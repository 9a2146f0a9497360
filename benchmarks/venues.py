"""The simulated venues as a process of their own, for benchmarks/soak.py."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp

from aggregator.simulator import Simulator

LEVELS = 330
"""Of each side: always below the 400 that OKX shows, so that all of a book is known."""

CHANNELS = {"okx": "books", "binance": "depth"}

Sides = tuple[list[list[str]], list[list[str]]]
"""Bids and asks, each a list of price and size, the best first."""


async def play(instruments: int, ticks_per_s: float) -> None:
    """Be the venues: `Venues` says by lines when to walk and when to stand still."""
    options: dict[str, Any] = {"ticks_per_s": 0, "book_levels": LEVELS}
    async with Simulator(extra_instruments=instruments, **options) as simulator:
        print(simulator.port, flush=True)
        simulator.tick(int(await asyncio.to_thread(sys.stdin.readline)))
        print("walking", flush=True)
        walking = asyncio.create_task(_walk(simulator, 1 / ticks_per_s))
        await asyncio.to_thread(sys.stdin.readline)
        walking.cancel()
        await asyncio.wait([walking])
        print("still", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _walk(simulator: Simulator, interval_s: float) -> None:
    """Take a step at each interval; what is late is not made up for."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + interval_s
        simulator.tick()
        await asyncio.sleep(due - clock())


class Venues:
    """What one can have them do."""

    def __init__(self, process: subprocess.Popen[str], session: aiohttp.ClientSession) -> None:
        assert process.stdout is not None
        self._process = process
        self._session = session
        self.port = int(process.stdout.readline())
        self._url = f"http://127.0.0.1:{self.port}"

    async def fault(self, venue: str, kind: str, instrument: str | None = None) -> None:
        """Have something go wrong once; with an instrument, with the next update of its book."""
        fault: dict[str, object] = {"venue": venue, "kind": kind, "count": 1}
        if instrument is not None:
            fault |= {"instrument": instrument, "channel": CHANNELS[venue]}
        async with self._session.post(f"{self._url}/faults", json=fault) as answer:
            assert answer.status == 201, await answer.text()

    async def faults(self) -> list[Any]:
        """Return what has yet to go wrong."""
        found: list[Any] = await self._get("/faults")
        return found

    async def walk(self, at_once: int) -> None:
        """Begin to walk, with so many steps at once."""
        await self._tell(str(at_once), "walking")

    async def stand_still(self) -> None:
        """End the walk."""
        await self._tell("still", "still")

    async def _tell(self, line: str, expected: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer = await asyncio.to_thread(self._process.stdout.readline)
        assert answer == f"{expected}\n", answer

    async def book(self, venue: str, instrument: str, depth: int) -> tuple[int, Sides]:
        """Return the venue's own book, over REST: its number, and the best levels."""
        if venue == "okx":
            inst_id = instrument.replace("/", "-")
            path = f"/okx/api/v5/market/books?instId={inst_id}&sz={depth}"
            row = (await self._get(path))["data"][0]
            number = row["seqId"]
        else:
            symbol = instrument.replace("/", "")
            row = await self._get(f"/binance/api/v3/depth?symbol={symbol}&limit={depth}")
            number = row["lastUpdateId"]
        bids, asks = ([level[:2] for level in row[side]] for side in ("bids", "asks"))
        return number, (bids, asks)

    async def _get(self, path: str) -> Any:
        while True:
            async with self._session.get(self._url + path) as answer:
                if answer.status == 200:
                    return await answer.json()
                # What the daemon has used of this minute's budget counts for us too.
                assert answer.status == 429, await answer.text()
                wait_s = int(answer.headers["Retry-After"])
            await asyncio.sleep(wait_s)


@contextlib.contextmanager
def venues(command: Sequence[str], session: aiohttp.ClientSession) -> Iterator[Venues]:
    """Run a command that does `play` until the block ends."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield Venues(process, session)
        finally:
            process.terminate()
