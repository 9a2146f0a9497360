"""
From a simulated OKX through the whole daemon to a plain client, over real sockets: a client that
does what docs/protocol.md says holds the venue's book, and has every trade.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Self

import pytest
from gateway.wsclient import Client, eventually

from aggregator.app import Daemon
from aggregator.config import Config, Feed, Server
from aggregator.registry import load
from aggregator.simulator import Simulator
from aggregator.simulator.digits import short

PAIRS = ["BTC/USDT", "ETH/USDT"]
# As many levels as OKX shows, at most: the simulator's whole book is known.
LEVELS = 330
OPTIONS = {"instruments": PAIRS, "max_backoff_s": 0.2, "stale_after_s": 2.0}


@pytest.fixture
async def simulator():
    """Start a simulator that walks only when told to."""
    options = {"ticks_per_s": 0, "book_levels": LEVELS, "okx_requests_per_hour": 100_000}
    async with Simulator(seed=11, **options) as simulator:
        yield simulator


@asynccontextmanager
async def daemon(simulator, **sections):
    """Run the whole daemon in this process."""
    feeds = []
    addresses = {"urls": [simulator.okx_url], "base_url": simulator.okx_rest_url}
    for name, section in sections.items():
        cls = load(section.pop("connector"))
        known = {k: v for k, v in addresses.items() if k in cls.options_type.model_fields}
        options = cls.options_type(**{**OPTIONS, **known, **section})
        feeds.append(Feed(name, "okx", cls, options))
    server = Server(port=0, flush_window_s=0.0005)
    running, stop = Daemon(Config("test", server, tuple(feeds))), asyncio.Event()
    task = asyncio.create_task(running.run(stop))
    await eventually(lambda: running.server.port or task.done())
    try:
        yield running
    finally:
        stop.set()
        await task


class Book:
    """One instrument's book as a client keeps it; without one before the first snapshot."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, str]] | None = None
        self.sequence: int | None = None

    def take(self, message) -> None:
        data = message["data"]
        if message["action"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
        assert self.sides is not None, "a change of nothing"
        for side, levels in self.sides.items():
            for price, size in data[side]:
                levels[price] = size
                if not Decimal(size):
                    del levels[price]
        self.sequence = data["sequence"]

    def levels(self, side: str) -> list[tuple[str, str]]:
        found = (self.sides or {}).get(side, {}).items()
        return sorted(found, key=lambda level: Decimal(level[0]), reverse=side == "bids")


class Reader:
    """A client that keeps books by what it reads."""

    def __init__(self, client: Client, channel: str) -> None:
        self.client = client
        self.channel = channel
        self.books = {pair: Book() for pair in PAIRS}
        self.messages: list[dict] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.client.send({"type": "subscribe", "channels": [self.channel]})
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def read(self) -> Reader:
        """Begin to read."""
        self._task = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        while True:
            message = await self.client.receive()
            self.messages.append(message)
            if message["type"] == "orderbook_update":
                self.books[message["instrument"]].take(message)
            elif message["type"] == "gap" and message["instrument"] in self.books:
                self.books[message["instrument"]] = Book()

    def of(self, kind: str) -> list[dict]:
        return [message for message in self.messages if message["type"] == kind]

    async def caught_up(self, simulator) -> None:
        """Wait until it has the venue's newest book of each instrument."""
        expected = {pair: book_of(simulator, pair).last_id for pair in PAIRS}
        await eventually(
            lambda: (
                {pair: b.sequence for pair, b in self.books.items()} == expected
                or (self._task and self._task.done())
            )
        )
        assert self._task is not None
        if self._task.done():
            self._task.result()


@asynccontextmanager
async def readers(running, *channels, **options):
    """Connect a client for each channel."""
    async with AsyncExitStack() as stack:
        found = []
        for channel in channels:
            client = await Client.connect(running.server.port, **options)
            await stack.enter_async_context(client)
            found.append(await stack.enter_async_context(Reader(client, channel)))
        yield found


def book_of(simulator, pair):
    return simulator._books[1].of(simulator.market.by_okx_id[pair.replace("/", "-")])


def shown(simulator, pair, depth):
    """Return the best levels of the venue's book, in its words."""
    book = book_of(simulator, pair)
    one = book.instrument
    return [
        [(short(ticks, one.decimals), short(lots, one.lot_decimals)) for ticks, lots in levels]
        for levels in (book.best_bids(depth), book.best_asks(depth))
    ]


def held(reader, pair):
    return [reader.books[pair].levels(side) for side in ("bids", "asks")]


async def subscribed(running, *channels):
    """Wait until each feed has a first value of each instrument."""
    slots = [running.hub.channels[name].slots for name in channels]
    await eventually(lambda: all(s.get(p) and s[p].last for s in slots for p in PAIRS))


def walk(simulator):
    """Take a step and push what it brings."""
    simulator.tick()


async def trouble(simulator, rng):
    """Walk through one fault."""
    kind = rng.choice(["drop", "drop", "truncate", "close", "duplicate", "delay", "garbage"])
    given = {"drop": {"fraction": 0.3}, "delay": {"seconds": 0.02}}.get(kind, {})
    if kind in {"truncate", "close", "garbage"}:
        given["count"] = 1
    fault = simulator.faults.add(venue="okx", kind=kind, **given)
    for _ in range(rng.randint(1, 12)):
        walk(simulator)
        await asyncio.sleep(0.003)
    simulator.faults.remove(fault.id)


BOOKS = {
    "all": {"connector": "okx.books", "depth": 400},
    "top": {"connector": "okx.books", "depth": 5},
    "slower": {"connector": "okx.books", "depth": 20, "interval_ms": 40},
    "best": {"connector": "okx.bbo"},
}
DEPTHS = {"all": None, "top": 5, "slower": 20, "best": 1}


def books(*names):
    return {name: dict(BOOKS[name]) for name in names or BOOKS}


async def until_well(simulator, running):
    """Wait until no book is missing and nothing is under way; then walk once more."""
    async with asyncio.timeout(20):
        while True:
            walk(simulator)
            await asyncio.sleep(0.02)
            states = [status.state.value for status in running.ingest.statuses.values()]
            slots = [
                s for c in running.ingest.statuses for s in running.hub.channels[c].slots.values()
            ]
            if states == ["live"] * len(states) and all(slot.last for slot in slots):
                return


async def test_the_best_levels_at_every_step(simulator):
    """After each of the venue's updates a client holds exactly its best 5 levels, and all 330."""
    async with daemon(simulator, **books("all", "top", "best")) as running:
        await subscribed(running, "all", "top", "best")
        async with readers(running, "all", "top", "best") as found:
            for reader in found:
                reader.read()
            for _ in range(150):
                walk(simulator)
                for reader in found:
                    await reader.caught_up(simulator)
                    for pair in PAIRS:
                        expected = shown(simulator, pair, DEPTHS[reader.channel])
                        assert held(reader, pair) == expected
    for reader in found:
        assert not reader.of("gap")
        # One snapshot of each instrument, and never another but for what is always whole.
        snapshots = [m for m in reader.of("orderbook_update") if m["action"] == "snapshot"]
        assert len(snapshots) == 2 or reader.channel == "best"


@pytest.mark.parametrize("seed", range(4))
async def test_books_through_everything(simulator, seed):
    """
    Through losses, repetitions, cuts and delays: who reads, who comes later and who is slow, all
    hold the venue's book at the end, and none is ever told a change of what it does not have.
    """
    rng = random.Random(seed)
    async with daemon(simulator, **books()) as running:
        await subscribed(running, *BOOKS)
        async with (
            readers(running, *BOOKS) as first,
            readers(running, *BOOKS, receive_buffer=4096) as slow,
        ):
            for reader in first:
                reader.read()
            for _ in range(15):
                await trouble(simulator, rng)
            async with readers(running, *BOOKS) as later:
                for reader in later:
                    reader.read()
                for _ in range(10):
                    await trouble(simulator, rng)
                for reader in slow:
                    reader.read()
                await until_well(simulator, running)
                await asyncio.sleep(0.1)
                for reader in (*first, *later, *slow):
                    await reader.caught_up(simulator)
                    for pair in PAIRS:
                        expected = shown(simulator, pair, DEPTHS[reader.channel])
                        assert held(reader, pair) == expected, (reader.channel, pair)
    assert any(reader.of("gap") for reader in first)


async def test_a_client_far_behind(simulator):
    """Who reads nothing for thousands of updates gets the state for them, and goes on from it."""
    async with daemon(simulator, **books("all")) as running:
        await subscribed(running, "all")
        async with readers(running, "all", receive_buffer=4096) as [reader]:
            await eventually(lambda: len(running.sessions))
            async with asyncio.timeout(30):
                while not running.sessions.lagging:
                    simulator.tick(20)
                    await asyncio.sleep(0)
            simulator.tick(500)
            await eventually(lambda: running.hub.channels["all"].seq > 1000)
            reader.read()
            walk(simulator)
            await reader.caught_up(simulator)
            for pair in PAIRS:
                assert held(reader, pair) == shown(simulator, pair, None)
            folded = [m for m in reader.messages if m.get("conflated")]
            assert folded
            assert {m["action"] for m in folded} == {"snapshot"}
            before = len(reader.messages)
            walk(simulator)
            await reader.caught_up(simulator)
            assert {m["action"] for m in reader.messages[before:]} <= {"delta"}


async def test_a_gap_is_told_and_mended_without_a_reconnect(simulator):
    """A lost update: gap with range and cause, a new subscription of that instrument alone."""
    async with daemon(simulator, **books("top")) as running:
        await subscribed(running, "top")
        async with readers(running, "top") as [reader]:
            reader.read()
            walk(simulator)
            await reader.caught_up(simulator)
            last = reader.books["BTC/USDT"].sequence
            fault = simulator.faults.add(venue="okx", kind="drop", instrument="BTC-USDT")
            walk(simulator)
            missed = book_of(simulator, "BTC/USDT").last_id
            assert missed > last
            simulator.faults.remove(fault.id)
            simulator.commands.clear()
            while book_of(simulator, "BTC/USDT").last_id == missed:
                walk(simulator)
            await eventually(lambda: reader.of("gap"))
            [gap] = reader.of("gap")
            before = book_of(simulator, "BTC/USDT").last_id
            assert (gap["instrument"], gap["reason"]) == ("BTC/USDT", "upstream")
            assert gap["data"] == {
                "cause": f"the update follows {missed}, not {last}",
                "after": last,
                "before": before,
            }
            await eventually(lambda: running.hub.channels["top"].slots["BTC/USDT"].last)
            await reader.caught_up(simulator)
            assert held(reader, "BTC/USDT") == shown(simulator, "BTC/USDT", 5)
            counters = running.ingest.statuses["top"].counters
            assert counters.reconnects == 0
            sent = [command.text for command in simulator.commands]
            assert [text.split('"op":"')[1].split('"')[0] for text in sent] == [
                "unsubscribe",
                "subscribe",
            ]
            assert all("BTC-USDT" in text and "ETH-USDT" not in text for text in sent)
