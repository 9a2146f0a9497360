"""
Order books, and memory, through a million updates and 1,000 reconnects.

    .venv-bench/bin/python benchmarks/soak.py [--updates N] [--instruments N] [--reconnects N]
        [--ticks-per-s N] [--json FILE]

The real daemon against the simulator, each a process of its own: half of the instruments by
`okx.books`, half by `binance.depth`, ten to a feed, so that with 200 there are 20 connections. Each
book changes ten times a second, which is all that the venues send. Evenly over the updates
connections are cut, at one venue and the other in turn: in the middle of a frame, or closed by the
venue; and as many updates are lost on their way. A client reads from the beginning and keeps the
books as docs/protocol.md says.

At the end the market stands still. Then the venues' own books have to be what that client holds,
and what a new one gets, level by level; and the daemon's memory at no later tenth more than 1 MB
above that after the first.

The daemon keeps the venues' limits, and so the run takes its ten minutes. It connects 300 times in
five minutes to one host; the two venues are two hosts, as they are in earnest (here two names of
this one): that makes two reconnects a second. Of Binance's budget of 6,000 a minute a reconnect
takes 70; that is why a feed has ten instruments, and a snapshot 100 levels.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import report
from bookkeeper import Bookkeeper, Failed, Key
from daemon import Running, daemon
from venues import Sides, Venues, play, venues

PER_FEED = 10
DEPTH = 50
HOSTS = {"okx": "127.0.0.1", "binance": "localhost"}
PATIENCE_S = 45.0
SURELY = 3
"""Updates of each book after the last fault: by then a lost one has shown."""
MOST_MB = 1.0

Truth = dict[Key, tuple[int, Sides]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of it."""

    updates: int
    instruments: int
    reconnects: int
    ticks_per_s: float

    def feeds(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield name, venue and instruments of each feed."""
        names = [f"X{n:04d}/USDT" for n in range(1, self.instruments + 1)]
        half = self.instruments // 2
        for venue, group in (("okx", names[:half]), ("binance", names[half:])):
            for n in range(0, len(group), PER_FEED):
                yield f"{venue}_{n // PER_FEED}", venue, group[n : n + PER_FEED]

    def config(self, port: int) -> str:
        """Return the daemon's configuration, which goes on in its section `server`."""
        # What is kept for clients that come back, of `system` too, is full in the first tenth.
        kept = "history_messages = 200\n"
        okx, binance = (f"{host}:{port}" for host in HOSTS.values())
        options = {
            "okx": f'connector = "okx.books"\nurls = ["ws://{okx}/okx/ws/v5/public"]',
            "binance": f'connector = "binance.depth"\nurls = ["ws://{binance}/binance/ws"]\n'
            f'base_url = "http://{binance}/binance"\nlimit = 100',
        }
        return kept + "\n".join(
            f"[feeds.{name}]\n{options[venue]}\ndepth = {DEPTH}\ninstruments = {json.dumps(group)}"
            for name, venue, group in self.feeds()
        )

    def books(self) -> dict[Key, str]:
        """Return the venue of each book, by channel and instrument."""
        return {(name, one): venue for name, venue, group in self.feeds() for one in group}


@dataclass(frozen=True, slots=True)
class Sample:
    """How it was at one tenth."""

    updates: int
    seconds: float
    reconnects: int
    gaps: int
    rss_mb: float
    anonymous_mb: float


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"not within {PATIENCE_S:g} s: {what}")
        await asyncio.sleep(0.01)


async def either(work: Awaitable[None], reading: Awaitable[None]) -> None:
    """Do the work while a client reads."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(reading)]
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.wait(tasks)
    for task in ended:
        task.result()


class Soak:
    """One run; `samples` are its tenths, `unequal` what is wrong with books in the end."""

    def __init__(
        self, plan: Plan, session: aiohttp.ClientSession, simulated: Venues, running: Running
    ) -> None:
        self._plan = plan
        self._session = session
        self._venues = simulated
        self._running = running
        self._random = random.Random(1)
        self._start = time.monotonic()
        self._books = plan.books()
        self._cuts = 0
        self.client = Bookkeeper()
        self.samples: list[Sample] = []
        self.unequal: list[str] = []

    async def run(self) -> None:
        """Do all of it."""
        await either(self._work(), self._read(self.client))
        self.client.check()

    async def _read(self, client: Bookkeeper) -> None:
        channels = [name for name, *_ in self._plan.feeds()]
        await client.read(self._session, self._running.port, channels)

    async def _work(self) -> None:
        await until(lambda: self._known(self.client), "a book of each instrument")
        plan, updates = self._plan, self.client.updates
        while len(self.samples) < 10:
            await asyncio.sleep(0.005)
            total = min(updates.total(), plan.updates)
            while self._cuts < total * plan.reconnects // plan.updates:
                await self._disturb()
            if total >= plan.updates * (len(self.samples) + 1) // 10:
                self.samples.append(await self._sample())
        await self._calm_down()
        await self._venues.stand_still()
        truth = {
            key: await self._venues.book(venue, key[1], DEPTH) for key, venue in self._books.items()
        }
        await self._compare("who read from the start", self.client, truth)
        newcomer = Bookkeeper()
        compared = self._compare("a newcomer", newcomer, truth)
        await either(compared, self._read(newcomer))

    def _known(self, client: Bookkeeper) -> bool:
        return len(client.books) == len(self._books)

    async def _disturb(self) -> None:
        """Cut a connection of one venue, and lose an update of the other."""
        here, there = ("okx", "binance") if self._cuts % 2 else ("binance", "okx")
        if self._cuts // 2 % 2:
            await self._venues.fault(here, "close")
        else:
            await self._venues.fault(here, "truncate", self._any(here))
        await self._venues.fault(there, "drop", self._any(there))
        self._cuts += 1

    def _any(self, venue: str) -> str:
        return self._random.choice([one for (_, one), its in self._books.items() if its == venue])

    async def _calm_down(self) -> None:
        """Wait until everything that was to go wrong has, and each book has gone on since."""
        end = time.monotonic() + PATIENCE_S
        while await self._venues.faults() or await self._reconnects() < self._cuts:
            if time.monotonic() > end:
                raise Failed(f"{await self._reconnects()} reconnects of {self._cuts}")
            await asyncio.sleep(0.1)
        updates, before = self.client.updates, self.client.updates.copy()
        await until(
            lambda: all(updates[key] >= before[key] + SURELY for key in self._books),
            "every book goes on",
        )

    async def _compare(self, who: str, client: Bookkeeper, truth: Truth) -> None:
        """Wait for the last update of each book, and note which are not the venue's."""
        numbers = {key: number for key, (number, _) in truth.items()}
        with contextlib.suppress(Failed):
            await until(
                lambda: {key: book.number for key, book in client.books.items()} == numbers, ""
            )
        for key, (number, sides) in truth.items():
            book = client.books.get(key)
            if book is None or (book.number, book.sides()) != (number, sides):
                self.unequal.append(f"{who}: {' '.join(key)}")

    # What the daemon says of itself, and the kernel of it.

    async def _reconnects(self) -> int:
        async with self._session.get(f"http://127.0.0.1:{self._running.port}/metrics") as answer:
            text = await answer.text()
        counts = re.findall(r"^aggregator_feed_reconnects_total\{.*\} (\S+)$", text, re.MULTILINE)
        return sum(int(float(count)) for count in counts)

    async def _sample(self) -> Sample:
        reconnects = await self._reconnects()
        kb: dict[str, int] = {}
        rollup = await asyncio.to_thread(Path(f"/proc/{self._running.pid}/smaps_rollup").read_text)
        for line in rollup.splitlines()[1:]:
            name, value, *_ = line.split()
            kb[name.rstrip(":")] = int(value)
        return Sample(
            updates=self.client.updates.total(),
            seconds=time.monotonic() - self._start,
            reconnects=reconnects,
            gaps=self.client.gaps.total(),
            rss_mb=kb["Rss"] / 1024,
            anonymous_mb=kb["Anonymous"] / 1024,
        )

    async def result(self) -> dict[str, Any]:
        """Return what came of it."""
        first, *later = self.samples
        return {
            "plan": asdict(self._plan),
            "seconds": round(time.monotonic() - self._start, 1),
            "updates": self.client.updates.total(),
            "reconnects": await self._reconnects(),
            "gaps": self.client.gaps.total(),
            "gaps_by_feed": self.client.gaps,
            "conflated": self.client.conflated,
            "growth_mb": round(max(s.rss_mb for s in later) - first.rss_mb, 2),
            "unequal": self.unequal,
            "tenths": [asdict(sample) for sample in self.samples],
        }


async def soak(plan: Plan, log: Path) -> dict[str, Any]:
    """Run it; return what came of it. What the daemon logs goes to a file."""
    command = [sys.executable, __file__, "--venues", f"--instruments={plan.instruments}"]
    command.append(f"--ticks-per-s={plan.ticks_per_s}")
    async with aiohttp.ClientSession() as session:
        with log.open("wb") as file, venues(command, session) as simulated:
            for (_, instrument), venue in plan.books().items():
                await simulated.book(venue, instrument, DEPTH)
            # Books begin all alike, and grow for a while: that would look like a leak.
            await simulated.walk(plan.updates // plan.instruments // 2)
            with daemon(plan.config(simulated.port), log=file) as running:
                one = Soak(plan, session, simulated, running)
                await one.run()
                return await one.result()


def show(result: dict[str, Any]) -> bool:
    """Print what came of it; return whether all is well."""
    rows = []
    for n, s in enumerate(result["tenths"], 1):
        memory = [f"{s['rss_mb']:.2f}", f"{s['anonymous_mb']:.2f}"]
        counts = [s["reconnects"], s["gaps"]]
        rows.append([n, f"{s['updates']:,}", f"{s['seconds']:.0f}", *counts, *memory])
    titles = ["tenth", "updates", "s", "reconnects", "gaps", "RSS, MB", "anonymous, MB"]
    report.print_table("soak", titles, rows)
    names = ("seconds", "updates", "reconnects", "gaps", "conflated", "growth_mb")
    print(*(f"{name}: {result[name]}" for name in names), sep="  ")
    print("books unlike the venue's:", *(result["unequal"] or ["none"]), sep="\n  ")
    print("logged, besides that a feed is down:", *(result["logged"] or ["nothing"]), sep="\n  ")
    return not result["unequal"] and result["growth_mb"] <= MOST_MB


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--updates", type=int, default=1_000_000)
    parser.add_argument("--instruments", type=int, default=200)
    parser.add_argument("--reconnects", type=int, default=1_000)
    parser.add_argument("--ticks-per-s", type=float, default=10.0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--venues", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.venues:
        asyncio.run(play(given.instruments, given.ticks_per_s))
        return
    plan = Plan(given.updates, given.instruments, given.reconnects, given.ticks_per_s)
    report.RESULTS.mkdir(exist_ok=True)
    path = given.json or report.RESULTS / "soak.json"
    log = path.with_suffix(".log")
    result = asyncio.run(soak(plan, log))
    others = [line for line in log.read_text().splitlines() if " down: " not in line]
    result |= {"logged": others, "machine": report.machine()}
    path.write_text(json.dumps(result, indent=1) + "\n")
    sys.exit(not show(result))


if __name__ == "__main__":
    main()
