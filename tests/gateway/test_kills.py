"""
Random kills on both sides: what a client received and what it was told it lost is all there was.

Sessions, hub and frames are the daemon's own. Only the sockets are not, so that thousands of rounds
take seconds; `test_over_real_sockets` does fewer, with those.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from gateway.conftest import Daemon
from gateway.test_model import Transport
from gateway.wsclient import TEXT, Client, Gone, frame

from aggregator.gateway import commands
from aggregator.gateway.outbox import Gap, Outbox
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Level, PriceUpdate, TradeExecuted
from aggregator.settings import Server

CHANNELS = ("prices", "books", "trades")
INSTRUMENTS = ("A/B", "C/D")
LEVELS = [Level("1", "2")]


class Top:
    def top(self):
        return LEVELS, []


def event(name: str, instrument: str) -> Any:
    match name:
        case "prices":
            return PriceUpdate(instrument, "1", b"{}")
        case "books":
            return BookUpdate(instrument=instrument, bids=LEVELS, asks=[], whole=False, book=Top())
    return TradeExecuted(instrument=instrument, id="1", side="buy", price="1", quantity="1")


class Run:
    """One run of the daemon."""

    def __init__(self, history: int) -> None:
        self.hub = Hub(history=history)
        for name in CHANNELS:
            self.hub.add_channel(name, "venue", INSTRUMENTS)
        config = Server(command_burst=10**6, max_buffered_bytes=1024)
        self.sessions = Sessions(self.hub, config, lambda: 0.0)

    def publish(self, name: str, instrument: str) -> None:
        self.hub.publish(self.hub.channels[name], event(name, instrument), 1)


class Ledger:
    """What a client knows: each number of a channel is received or declared lost, just once."""

    def __init__(self) -> None:
        # Up to where nothing is missing; and what has come behind that, with what it stands for.
        self.at: dict[str, tuple[str, int]] = {}
        self.behind: dict[str, dict[int, int]] = {name: {} for name in CHANNELS}
        self.positions: dict[str, tuple[str, int]] = {}
        self.gaps: list[str] = []
        self.folded = self.recovered = 0

    def since(self) -> dict[str, dict[str, object]]:
        return {name: {"epoch": epoch, "seq": seq} for name, (epoch, seq) in self.at.items()}

    def take(self, message: dict[str, Any]) -> None:
        """Check a message against all before it."""
        if message["type"] == "subscribed":
            self.positions = {n: (p["epoch"], p["seq"]) for n, p in message["positions"].items()}
            self.recovered += sum(message.get("recovered", {}).values())
            self.at = self.at or dict(self.positions)
            # What has come behind a hole comes again, with what is in that.
            self.behind = {name: {} for name in CHANNELS}
        elif message["type"] == "gap":
            self.gap(message["channel"], message)
        elif "age_us" in message:
            assert message["seq"] <= self.positions[message["channel"]][1]
        else:
            self.news(message["channel"], message["seq"], message.get("conflated", 0))

    def gap(self, name: str, message: dict[str, Any]) -> None:
        (known, last), (epoch, position) = self.at[name], self.positions[name]
        lost = (message["from_seq"], message["to_seq"])
        self.gaps.append(message["reason"])
        if message["reason"] == "history":
            # Of the run before, nothing more can be known; of this one it is all up to here.
            first = last + 1 if known == epoch else 1
            assert lost == ((first, position) if position else (None, None))
            self.at[name] = (epoch, position)
        else:
            assert lost[0] == last + 1
            self.at[name] = (epoch, lost[1])

    def news(self, name: str, seq: int, folded: int) -> None:
        (known, last), (epoch, _) = self.at[name], self.positions[name]
        assert known == epoch, "a message of another run, and no word of what was lost"
        behind = self.behind[name]
        assert seq > max(behind, default=last), "twice, or out of order"
        behind[seq] = folded
        self.folded += folded
        # Else there is a hole, which a later message has to explain: of two instruments, one's
        # newest may stand for numbers around the other's.
        if seq - last == len(behind) + sum(behind.values()):
            self.at[name] = (epoch, seq)
            behind.clear()


def messages(data: bytes) -> Iterator[dict[str, Any]]:
    """Yield what is whole of a stream of frames."""
    while len(data) > 1:
        size, start = data[1], 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        if len(data) < start + size:
            return
        if data[0] == 0x80 | TEXT:
            yield json.loads(data[start : start + size])
        data = data[start + size :]


class World:
    """A daemon, a client, and chance."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.run = self.start()
        self.ledger = Ledger()
        self.connection: tuple[Any, Transport] | None = None
        self.kills = 0

    def start(self) -> Run:
        return Run(self.random.choice([0, 5, 50, 1000]))

    def connect(self) -> None:
        if self.connection is None:
            sessions = self.run.sessions
            session, transport = sessions.create("x", short=False), Transport()
            transport.session = session
            sessions.add(session, transport, b"")
            self.connection = session, transport
            command = {"type": "subscribe", "channels": CHANNELS, "since": self.ledger.since()}
            session._receive(frame(json.dumps(command).encode()))

    def publish(self) -> None:
        for _ in range(self.random.randrange(1, 20)):
            name, instrument = self.random.choice(CHANNELS), self.random.choice(INSTRUMENTS)
            self.run.publish(name, instrument)
            if self.random.random() < 0.5:
                self.run.hub.flush()

    def stall(self) -> None:
        if self.connection is not None:
            self.connection[1].stalled = True

    def flow(self) -> None:
        if self.connection is not None:
            self.connection[1].flow()

    def lose(self) -> None:
        """Cut the connection: some of what was sent never arrives."""
        if self.connection is None:
            return
        session, transport = self.connection
        self.connection = None
        self.read(transport.data[: self.random.randrange(len(transport.data) + 1)])
        session.connection_lost(None)
        self.kills += 1

    def restart(self) -> None:
        if self.random.random() < 0.2:
            self.lose()
            self.run = self.start()

    def read(self, data: bytes) -> None:
        for message in messages(data):
            self.ledger.take(message)

    def end(self) -> None:
        """Let the client have everything, and compare."""
        self.connect()
        self.run.hub.flush()
        self.flow()
        self.read(self.connection[1].data)
        sent = {name: (c.epoch, c.seq) for name, c in self.run.hub.channels.items() if c.exchange}
        assert self.ledger.at == sent
        self.lose_nothing()

    def lose_nothing(self) -> None:
        session, _ = self.connection
        session.connection_lost(None)
        self.connection = None

    def rounds(self, count: int) -> None:
        steps = [self.connect, self.publish, self.publish, self.stall, self.flow]
        steps += [self.stall, self.publish, self.lose, self.restart]
        for _ in range(count):
            for _ in range(self.random.randrange(1, 12)):
                self.random.choice(steps)()
            if self.random.random() < 0.2:
                self.end()
            self.lose()
        self.end()


@pytest.mark.parametrize("seed", range(4))
def test_received_and_declared_is_sent(seed):
    """Thousands of rounds: nothing is missing without a word, twice or out of order."""
    world = World(seed)
    world.rounds(5000)
    ledger = world.ledger
    # All that there is to see was seen.
    assert world.kills > 2000
    assert {"history", "slow_consumer"} <= set(ledger.gaps)
    assert ledger.folded
    assert ledger.recovered


def test_it_would_be_noticed(monkeypatch):
    """Without the gap of a client that comes back, the rounds above fail."""
    real = commands.resume
    monkeypatch.setattr(commands, "resume", lambda *args: real(*args)._replace(gaps=[]))
    with pytest.raises(AssertionError, match="no word of what was lost"):
        World(0).rounds(1500)


def test_it_would_be_noticed_of_slow_readers(monkeypatch):
    """Without the gap of a client that reads too slowly, they fail as well."""
    real = Outbox._frame

    def silent(self: Outbox, entry: Any, limit: int) -> bytes:
        whole = real(self, entry, limit)
        return b"" if isinstance(entry, Gap) else whole

    monkeypatch.setattr(Outbox, "_frame", silent)
    with pytest.raises(AssertionError, match="Differing"):
        World(0).rounds(1500)


async def test_over_real_sockets():
    """The same, where the client is reset and the daemon stopped in the middle of what is sent."""
    chance = random.Random(7)
    ledger = Ledger()
    daemon: Daemon | None = None
    for _ in range(150):
        if daemon is None:
            daemon = Daemon(history_messages=chance.choice([5, 1000]), command_burst=1000)
            for name in CHANNELS[1:]:
                daemon.hub.add_channel(name, "venue", INSTRUMENTS)
            await daemon.start()
        async with await daemon.connect() as client:
            command = {"type": "subscribe", "channels": CHANNELS, "since": ledger.since()}
            await client.send(command)
            for _ in range(chance.randrange(30)):
                name, instrument = chance.choice(CHANNELS), chance.choice(INSTRUMENTS)
                channel = daemon.hub.channels[name]
                daemon.hub.publish(channel, event(name, instrument), daemon.hub.now_us())
            with contextlib.suppress(Gone):
                for _ in range(chance.randrange(1, 60)):
                    ledger.take(await _next(client, daemon))
            client.reset()
        if chance.random() < 0.1:
            await daemon.stop()
            daemon = None
    if daemon is not None:
        await daemon.stop()
    assert ledger.recovered
    assert "history" in ledger.gaps


async def _next(client: Client, daemon: Daemon) -> dict[str, Any]:
    """Return the next message; there always is one."""
    channel = daemon.hub.channels["prices"]
    daemon.hub.publish(channel, event("prices", "A/B"), daemon.hub.now_us())
    return await client.receive()
