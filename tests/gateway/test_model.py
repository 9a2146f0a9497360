"""Sessions against a naive model: whatever happens, each gets exactly what it should."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field

from gateway.wsclient import frame
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from aggregator.config import Server
from aggregator.gateway.session import Session
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.model import PriceUpdate

CHANNELS = {"a": ["X/Y", "Z/Y"], "b": ["X/Y"], "open": None}
INSTRUMENTS = ["X/Y", "Z/Y", "N/N"]
WANTS = ["a", "b", "open", "a:X/Y", "a:Z/Y", "b:X/Y", "open:N/N", "*:X/Y", "*:N/N", "no", "a:No"]


class Transport(asyncio.Transport):
    """Takes everything, until it is told to stall; then it has room for one more write."""

    def __init__(self) -> None:
        super().__init__()
        self.session: Session
        self.data = b""
        self.unsent = b""
        self.stalled = False
        self.paused = False
        self.closing = False

    def write(self, data: bytes) -> None:
        if not self.stalled:
            self.data += data
            return
        self.unsent += data
        if not self.paused:
            self.paused = True
            self.session.pause_writing()

    def flow(self) -> None:
        self.stalled = False
        self.data, self.unsent = self.data + self.unsent, b""
        if self.paused:
            self.paused = False
            self.session.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


@dataclass
class Entry:
    """Something that is due to a session: an answer, or a message with what it stands for."""

    place: tuple[str, str] | None
    content: object
    count: int = 0


@dataclass
class Model:
    """What one client is due, as naively as can be."""

    wants: set[str] = field(default_factory=set)
    out: list[Entry] = field(default_factory=list)
    waiting: list[Entry] | None = None

    def hits(self, place: tuple[str, str]) -> bool:
        channel, instrument = place
        return bool(self.wants & {channel, f"{channel}:{instrument}", f"*:{instrument}"})

    def add(self, entry: Entry) -> None:
        if self.waiting is None:
            self.out.append(entry)
            return
        for old in self.waiting:
            if entry.place is not None and old.place == entry.place:
                self.waiting.remove(old)
                entry.count = old.count + (old.content != entry.content)
                break
        self.waiting.append(entry)


class Traffic(RuleBasedStateMachine):
    """Clients come, subscribe, stall, read on and go, while messages are published."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        for name, instruments in CHANNELS.items():
            self.hub.add_channel(name, "venue", instruments)
        self.sessions = Sessions(self.hub, Server(command_burst=10_000), lambda: 0.0)
        self.sessions.abort_later = lambda transport, seconds: None
        self.values: dict[tuple[str, str], int] = {}
        self.seqs: Counter[str] = Counter()
        self.present: dict[int, tuple[Session, Transport, Model]] = {}
        self.number = 0

    @rule(target=clients)
    def connect(self) -> int:
        self.number += 1
        session, transport = self.sessions.create("x", short=False), Transport()
        transport.session = session
        self.present[self.number] = (session, transport, Model())
        self.sessions.add(session, transport, b"")
        return self.number

    @rule(channel=st.sampled_from(sorted(CHANNELS)), instrument=st.sampled_from(INSTRUMENTS))
    def publish(self, channel: str, instrument: str) -> None:
        self.seqs[channel] += 1
        seq = self.seqs[channel]
        self.values[channel, instrument] = seq
        event = PriceUpdate(instrument, "1", b"{}")
        self.hub.publish(self.hub.channels[channel], event, 1)
        for _, _, model in self.present.values():
            if model.hits((channel, instrument)):
                model.add(Entry((channel, instrument), (channel, seq)))

    @rule()
    def flush(self) -> None:
        self.hub.flush()

    def known(self, want: str) -> list[str]:
        name, _, instrument = want.partition(":")

        def has(channel: str) -> bool:
            listed = CHANNELS[channel]
            if (channel, instrument) in self.values:
                return True
            return instrument in listed if listed is not None else not self.seqs[channel]

        if name == "*":
            return [channel for channel in CHANNELS if has(channel)]
        return [name] if name in CHANNELS and (not instrument or has(name)) else []

    def command(self, number: int, kind: str, channels: list[str]) -> None:
        self.hub.flush()  # so that the model need not know of batches
        text = json.dumps({"type": kind, "channels": channels, "id": number}).encode()
        self.present[number][0]._receive(frame(text))

    @rule(number=clients, channels=st.lists(st.sampled_from(WANTS), min_size=1, max_size=4))
    def subscribe(self, number: int, channels: list[str]) -> None:
        model = self.present[number][2]
        names = list(dict.fromkeys(channels))
        good = [name for name in names if self.known(name)]
        positions = {c for name in good for c in self.known(name)}
        if good:
            model.add(Entry(None, ("subscribed", tuple(good), tuple(sorted(positions)))))
        for name in names:
            if name not in good:
                model.add(Entry(None, ("error", name)))
        wanted = Model(wants=set(good))
        snapshot = [(seq, place) for place, seq in self.values.items() if wanted.hits(place)]
        for seq, (channel, instrument) in sorted(
            snapshot, key=lambda item: (item[0], self.rank(item[1], good))
        ):
            model.add(Entry((channel, instrument), (channel, seq)))
        model.wants |= set(good)
        self.command(number, "subscribe", channels)

    @staticmethod
    def rank(place: tuple[str, str], good: list[str]) -> tuple[int, int]:
        """Where the numbers of two channels are equal: as asked for, then as configured."""
        first = next(i for i, name in enumerate(good) if Model(wants={name}).hits(place))
        return first, list(CHANNELS).index(place[0])

    @rule(number=clients, channels=st.lists(st.sampled_from(WANTS), min_size=1, max_size=3))
    def unsubscribe(self, number: int, channels: list[str]) -> None:
        model = self.present[number][2]
        fewer = model.wants - set(channels)
        if fewer != model.wants and model.waiting is not None:
            model.wants = fewer
            model.waiting = [e for e in model.waiting if e.place is None or model.hits(e.place)]
        model.wants = fewer
        names = tuple(dict.fromkeys(channels))
        model.add(Entry(None, ("unsubscribed", names)))
        self.command(number, "unsubscribe", channels)

    @rule(number=clients)
    def stall(self, number: int) -> None:
        self.hub.flush()
        _, transport, model = self.present[number]
        if not transport.stalled:
            transport.stalled = True
            # One ping fills it, so that the client lags from here on.
            self.present[number][0].write(b"\x89\x00")
            model.waiting = []

    @rule(number=clients)
    def read_on(self, number: int) -> None:
        _, transport, model = self.present[number]
        transport.flow()
        model.out += model.waiting or []
        model.waiting = None

    @rule(number=consumes(clients))
    def leave(self, number: int) -> None:
        self.hub.flush()
        self.check(number)
        session, _, _ = self.present.pop(number)
        session.connection_lost(None)

    @rule(number=consumes(clients))
    def close(self, number: int) -> None:
        self.hub.flush()
        session, transport, _ = self.present.pop(number)
        session.close(4008, "x")
        before = transport.data + transport.unsent
        assert before.endswith(b"\x88\x03\x0f\xa8x")
        self.hub.broadcast(b"{}")
        self.hub.flush()
        for other in self.present.values():
            other[2].add(Entry(None, ("broadcast",)))
        transport.flow()
        assert transport.data == before
        session.connection_lost(None)

    @staticmethod
    def received(transport: Transport) -> list[tuple[object, int]]:
        found = []
        data = transport.data
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4]), 4
            if data[0] == 0x81:
                message = json.loads(data[start : start + size])
                kind = message.get("type", "broadcast")
                content: object = (message.get("channel"), message.get("seq"))
                if kind == "subscribed":
                    places = tuple(sorted(message["positions"]))
                    content = (kind, tuple(message["channels"]), places)
                elif kind == "unsubscribed":
                    content = (kind, tuple(message["channels"]))
                elif kind == "error":
                    content = (kind, message["channel"])
                elif kind == "broadcast":
                    content = (kind,)
                found.append((content, message.get("conflated", 0)))
            data = data[start + size :]
        return found

    def check(self, number: int) -> None:
        _, transport, model = self.present[number]
        assert self.received(transport) == [(e.content, e.count) for e in model.out]

    @invariant()
    def in_one_place(self) -> None:
        """Each session is in exactly one audience or has exactly one outbox."""
        joined = Counter(s for a in self.hub.audiences.values() for s in a.sessions)
        for session, transport, _ in self.present.values():
            assert joined[session] + (session._outbox in self.hub._outboxes) == 1
            assert session.lagging == transport.paused == (session in self.sessions.lagging)
        assert len(joined) + len(self.hub._outboxes) == len(self.present)

    def teardown(self) -> None:
        for number in tuple(self.present):
            self.read_on(number)
            self.leave(number)
        assert not self.hub.audiences
        assert not self.hub._outboxes
        assert not self.sessions.lagging
        assert not len(self.sessions)
        slots = [s for c in self.hub.channels.values() for s in c.slots.values()]
        assert {(s.channel.name, s.instrument) for s in slots} == set(self.values)
        assert not any(s.listeners or s.anywhere for s in slots)
        assert set(self.hub._anywhere) == {s.instrument for s in slots}
        super().teardown()


Traffic.TestCase.settings = settings(max_examples=250, stateful_step_count=50, deadline=None)
TestTraffic = Traffic.TestCase
TestTraffic.__doc__ = "Each session gets exactly what was due to it, in order, and nothing stays."
