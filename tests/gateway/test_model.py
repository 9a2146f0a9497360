"""Sessions against a naive model: whatever happens, each gets exactly what it should."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.wsclient import frame
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from aggregator.config import Server
from aggregator.gateway.session import Session
from aggregator.gateway.sessions import Sessions
from aggregator.gateway.subscriptions import ALL, Terms
from aggregator.hub import Hub
from aggregator.model import PriceUpdate

CHANNELS = {"a": ["X/Y", "Z/Y"], "b": ["X/Y"], "open": None}
INSTRUMENTS = ["X/Y", "Z/Y", "N/N"]
TERMS = st.sampled_from([ALL, ALL, Terms(raw=False), Terms(1.0), Terms(5.0), Terms(1.0, raw=False)])
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
    aged: bool = False
    """It is part of a snapshot, and says how old it is."""


@dataclass
class Model:
    """What one client is due, as naively as can be."""

    wants: dict[str, Terms] = field(default_factory=dict)
    out: list[tuple[Entry, bool]] = field(default_factory=list)
    waiting: list[Entry] | None = None
    pending: list[Entry] = field(default_factory=list)

    def hits(self, place: tuple[str, str]) -> bool:
        channel, instrument = place
        return bool(self.wants.keys() & {channel, f"{channel}:{instrument}", f"*:{instrument}"})

    def terms(self, channel: str) -> Terms:
        """All channels are of prices here, so a star makes all terms hold everywhere."""
        starred = any(want.startswith("*") for want in self.wants)
        each = [t for want, t in self.wants.items() if starred or want.split(":")[0] == channel]
        rates = [t.max_hz for t in each]
        return Terms(
            None if None in rates else max(rates, default=None),
            any(t.raw for t in each) or not each,
        )

    def publish(self, entry: Entry) -> None:
        if self.terms(entry.place[0]).max_hz is None:
            self.add(entry)
        else:
            self.pending = [e for e in self.pending if e.place != entry.place] + [entry]

    def tick(self) -> None:
        for entry in self.pending:
            self.add(entry)
        self.pending.clear()

    def send(self, entry: Entry) -> None:
        self.out.append((entry, entry.place is None or self.terms(entry.place[0]).raw))

    def add(self, entry: Entry) -> None:
        if self.waiting is None:
            self.send(entry)
            return
        for old in self.waiting:
            if entry.place is not None and old.place == entry.place:
                self.waiting.remove(old)
                entry.count = old.count + (not entry.aged and old.content != entry.content)
                break
        else:
            # A value of a snapshot is owed to nobody, unless it takes the place of one that was.
            entry.count = -1 if entry.aged else 0
        self.waiting.append(entry)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect all that a command leads to, as for a client that lags."""
        fast = self.waiting is None
        self.waiting = self.waiting or []
        yield
        if fast:
            self.read_on()

    def read_on(self) -> None:
        waiting, self.waiting = self.waiting or [], None
        for entry in waiting:
            self.send(entry)

    def part(self, place: tuple[str, str]) -> tuple[Terms, frozenset[str]]:
        """Return the terms of a place, and all that is wanted on these."""
        terms = self.terms(place[0])
        return terms, frozenset(w for w in self.wants if self.terms(w.split(":")[0]) == terms)

    def change(self, wants: dict[str, Terms], asked: set[str]) -> None:
        """Want this from now on; of what waits, only that stays."""
        stays = Model(wants=wants)
        fewer = self.wants.keys() - wants.keys()
        pending, self.pending = self.pending, []
        for entry in pending:
            part = self.part(entry.place)
            if part == stays.part(entry.place) and not asked & part[1]:
                self.pending.append(entry)
            else:
                self.add(entry)
        if fewer and self.waiting is not None:
            self.waiting = [e for e in self.waiting if e.place is None or stays.hits(e.place)]
        self.wants = wants


class Traffic(RuleBasedStateMachine):
    """Clients come, subscribe, stall, read on and go, while messages are published."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.planned: list[Callable[[], None]] = []
        self.hub = Hub(later=lambda _, call: self.planned.append(call))
        for name, instruments in CHANNELS.items():
            self.hub.add_channel(name, "venue", instruments)
        self.sessions = Sessions(self.hub, Server(command_burst=10_000), lambda: 0.0)
        self.sessions.abort_later = lambda session, seconds: None
        self.values: dict[tuple[str, str], int] = {}
        self.seqs: Counter[str] = Counter()
        self.present: dict[int, tuple[Session, Transport, Model]] = {}
        self.number = 0

    @rule(target=clients, bits=st.sampled_from([0, 0, 9, 12]))
    def connect(self, bits: int) -> int:
        self.number += 1
        session, transport = self.sessions.create("x", short=False, deflate_bits=bits), Transport()
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
                model.publish(Entry((channel, instrument), (channel, seq)))

    @rule()
    def tick(self) -> None:
        """Let the time of every rate come."""
        self.hub.flush()
        planned, self.planned = self.planned, []
        for call in planned:
            call()
        self.hub.flush()
        for _, _, model in self.present.values():
            model.tick()

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

    def command(
        self, number: int, kind: str, channels: list[str], terms: Terms | None = None
    ) -> None:
        self.hub.flush()  # so that the model need not know of batches
        fields = {"type": kind, "channels": channels, "id": number}
        text = json.dumps(fields | (terms._asdict() if terms else {})).encode()
        self.present[number][0]._receive(frame(text))

    @rule(
        number=clients,
        channels=st.lists(st.sampled_from(WANTS), min_size=1, max_size=4),
        terms=TERMS,
    )
    def subscribe(self, number: int, channels: list[str], terms: Terms) -> None:
        model = self.present[number][2]
        with model.collecting():
            self.due_to_subscribe(model, channels, terms)
        self.command(number, "subscribe", channels, terms)

    def due_to_subscribe(self, model: Model, channels: list[str], terms: Terms) -> None:
        names = list(dict.fromkeys(channels))
        good = [name for name in names if self.known(name)]
        model.change(model.wants | dict.fromkeys(good, terms), set(good))
        positions = {c for name in good for c in self.known(name)}
        if good:
            model.add(Entry(None, ("subscribed", tuple(good), tuple(sorted(positions)))))
        for name in names:
            if name not in good:
                model.add(Entry(None, ("error", name)))
        wanted = Model(wants=dict.fromkeys(good, ALL))
        snapshot = [(seq, place) for place, seq in self.values.items() if wanted.hits(place)]
        for seq, (channel, instrument) in sorted(
            snapshot, key=lambda item: (item[0], self.rank(item[1], good))
        ):
            model.add(Entry((channel, instrument), (channel, seq), aged=True))

    @staticmethod
    def rank(place: tuple[str, str], good: list[str]) -> tuple[int, int]:
        """Where the numbers of two channels are equal: as asked for, then as configured."""
        first = next(i for i, name in enumerate(good) if Model(wants={name: ALL}).hits(place))
        return first, list(CHANNELS).index(place[0])

    @rule(number=clients, channels=st.lists(st.sampled_from(WANTS), min_size=1, max_size=3))
    def unsubscribe(self, number: int, channels: list[str]) -> None:
        model = self.present[number][2]
        with model.collecting():
            left = {want: t for want, t in model.wants.items() if want not in channels}
            model.change(left, set())
            model.add(Entry(None, ("unsubscribed", tuple(dict.fromkeys(channels)))))
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
        model.read_on()

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
    def received(transport: Transport) -> list[tuple[object, int, bool, bool]]:
        found = []
        data = transport.data
        bits = transport.session.deflate_bits
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4]), 4
            if data[0] in {0x81, 0xC1}:
                payload = data[start : start + size]
                if data[0] == 0xC1:
                    payload = zlib.decompressobj(-bits).decompress(payload + b"\0\0\xff\xff")
                message = json.loads(payload)
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
                has_data = kind != "price_update" or "data" in message
                assert ("age_us" in message) == ("stale" in message)
                count, aged = message.get("conflated", 0), "age_us" in message
                found.append((content, count, has_data, aged))
            data = data[start + size :]
        return found

    def check(self, number: int) -> None:
        _, transport, model = self.present[number]
        assert self.received(transport) == [
            (e.content, max(e.count, 0), has_data, e.aged) for e, has_data in model.out
        ]

    @invariant()
    def in_one_place(self) -> None:
        """Each session is in exactly one main audience or has exactly one outbox."""
        joined = Counter(s for a in self.hub.audiences if a.key.shape.raw for s in a.sessions)
        paced = Counter(s for a in self.hub.paced for s in a.sessions)
        for session, transport, model in self.present.values():
            assert joined[session] + (session._outbox in self.hub._outboxes) == 1
            assert session.lagging == transport.paused == (session in self.sessions.lagging)
            rates = {model.terms(want.split(":")[0]) for want in model.wants}
            assert paced[session] == sum(terms.max_hz is not None for terms in rates)
        assert len(joined) + len(self.hub._outboxes) == len(self.present)

    def teardown(self) -> None:
        for number in tuple(self.present):
            self.read_on(number)
            self.leave(number)
        assert not len(self.hub.audiences)
        assert not len(self.hub.paced)
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
