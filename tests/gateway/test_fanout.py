"""The pace of the fan-out, on a loop whose time the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from aggregator.gateway.fanout import SESSIONS_AT_ONCE, Fanout
from aggregator.hub import Hub
from aggregator.model import PriceUpdate


class Loop:
    """What `Fanout` uses of an event loop."""

    def __init__(self) -> None:
        self.now = 100.0
        self.planned: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, call: Callable[[], None]) -> Loop:
        return self.call_later(0, call)

    def call_later(self, wait: float, call: Callable[[], None]) -> Loop:
        self.planned.append((self.now + wait, call))
        return self

    def cancel(self) -> None:
        self.planned.clear()

    def run(self) -> float:
        """Do what is planned; return when that is."""
        ((when, call),) = self.planned
        self.planned.clear()
        self.now = max(self.now, when)
        call()
        return when


class Client:
    """A session to which a write takes 4 ms."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.writes = 0
        self.transport = self

    def write(self, data: bytes) -> None:
        self.writes += 1
        self.loop.now += 0.004


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, window_s: float = 0.001) -> None:
        self.loop = Loop()
        monkeypatch.setattr(asyncio, "get_running_loop", lambda: self.loop)
        self.hub = Hub()
        self.channel = self.hub.add_channel("a", "venue", ["X/Y"])
        self.moves = 0
        self.fanout = Fanout(self.hub, window_s, self.moved)
        self.client = Client(self.loop)
        self.hub.join(self.client, frozenset({"a"}))

    def moved(self) -> None:
        self.moves += 1

    def publish(self) -> None:
        self.hub.publish(self.channel, PriceUpdate("X/Y", "1", b"{}"), 1)


def test_first_message_goes_out_at_once(monkeypatch):
    """After a quiet moment, the first of all included, nothing waits for the window."""
    world = World(monkeypatch)
    world.publish()
    assert world.loop.run() == 100.0
    assert (world.client.writes, world.moves, world.fanout.flushes) == (1, 1, 1)
    world.loop.now = 200.0
    world.publish()
    assert world.loop.run() == 200.0


def test_window_counts_from_the_end(monkeypatch):
    """However long the fan-out takes, the loop is free for the window before the next."""
    world = World(monkeypatch)
    world.publish()
    world.loop.run()
    end = world.loop.now
    assert end == pytest.approx(100.004)
    world.publish()
    assert world.loop.run() == pytest.approx(end + 0.001)
    assert world.fanout.seconds == pytest.approx(0.008)


def test_many_messages_are_one_flush(monkeypatch):
    """What comes within the window is joined; waking again plans nothing."""
    world = World(monkeypatch)
    for _ in range(10):
        world.publish()
        world.fanout.wake()
    world.loop.run()
    assert (world.client.writes, world.fanout.flushes) == (1, 1)


def test_window_of_zero(monkeypatch):
    """Each turn of the loop is a fan-out."""
    world = World(monkeypatch, 0.0)
    for _ in range(3):
        world.publish()
        assert world.loop.run() == pytest.approx(world.loop.now - 0.004)


def test_stop(monkeypatch):
    """What waits goes out; where nothing waits, nothing happens."""
    world = World(monkeypatch)
    world.fanout.stop()
    assert world.moves == 0
    world.publish()
    world.fanout.stop()
    assert (world.client.writes, world.loop.planned) == (1, [])


def test_published_during_a_lap(monkeypatch):
    """What comes while a lap is under way, for who has had his turn, goes out after the window."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 1)
    world = World(monkeypatch)
    monkeypatch.setattr(Fanout._flush, "__defaults__", (1,))
    other = Client(world.loop)
    world.hub.join(other, frozenset({"a"}))
    world.publish()
    world.loop.run()
    world.publish()
    world.loop.run()
    assert sorted([world.client.writes, other.writes]) == [1, 1]
    end = world.loop.now
    assert world.fanout.flushes == 1
    assert world.loop.run() == pytest.approx(end + 0.001)
    assert sorted([world.client.writes, other.writes]) == [1, 2]
    assert not world.loop.planned


def test_stop_in_the_middle_of_a_lap(monkeypatch):
    """Everything that waits goes out, of this lap and the next."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 1)
    world = World(monkeypatch)
    other = Client(world.loop)
    world.hub.join(other, frozenset({"a"}))
    world.publish()
    world.hub.flush(limit=1)
    world.publish()
    world.fanout.stop()
    assert world.client.writes + other.writes == 3
    assert not world.hub.waiting


async def test_on_a_real_loop():
    """Published in one turn, written in one of the next, without anybody waiting for it."""
    hub = Hub()
    written = asyncio.Event()

    class Real:
        def __init__(self) -> None:
            self.transport = self

        def write(self, data: bytes) -> None:
            written.set()

    Fanout(hub, 0.001, lambda: None)
    channel = hub.add_channel("a", "venue", ["X/Y"])
    hub.join(Real(), frozenset({"a"}))
    for _ in range(3):
        hub.publish(channel, PriceUpdate("X/Y", "1", b"{}"), 1)
        async with asyncio.timeout(5):
            await written.wait()
        written.clear()


async def test_large_fanout_lets_others_have_their_turn():
    """Between two parts of a large fan-out, what else the loop has to do is done."""
    hub = Hub()
    turns: list[object] = []
    done = asyncio.Event()

    class One:
        def __init__(self) -> None:
            self.transport = self

        def write(self, data: bytes) -> None:
            if not turns:
                asyncio.get_running_loop().call_soon(turns.append, "other")
            turns.append(self)
            if len(turns) == 2 * SESSIONS_AT_ONCE + 6:
                done.set()

    pace = Fanout(hub, 0.0, lambda: None)
    channel = hub.add_channel("a", "venue", ["X/Y"])
    for _ in range(2 * SESSIONS_AT_ONCE + 5):
        hub.join(One(), frozenset({"a"}))
    hub.publish(channel, PriceUpdate("X/Y", "1", b"{}"), 1)
    await done.wait()
    assert turns.index("other") < 2 * SESSIONS_AT_ONCE
    assert pace.flushes == 1
