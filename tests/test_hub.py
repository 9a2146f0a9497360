"""Who gets what, in which order, and that nothing stays behind."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import wire
from aggregator.channel import Message
from aggregator.hub import Hub
from aggregator.model import Event, Heartbeat, PriceUpdate, State, SystemStatus

NOW_NS = 1_765_211_445_123_456_789


class Client:
    """A session and its transport: keeps the messages written to it."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []
        self.transport = self

    def deliver(self, messages: list[Message], data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        while data:
            size, start = data[1], 2
            if size == 126:
                size, start = int.from_bytes(data[2:4]), 4
            elif size == 127:
                size, start = int.from_bytes(data[2:10]), 10
            self.messages.append(json.loads(data[start : start + size]))
            data = data[start + size :]

    @property
    def places(self) -> list[tuple[object, object]]:
        return [(m.get("channel"), m.get("seq")) for m in self.messages]


class Listener:
    """An outbox: keeps what it is offered."""

    size = 1

    def __init__(self) -> None:
        self.taken: list[Message] = []

    def offer(self, message: Message) -> None:
        self.taken.append(message)

    @property
    def seqs(self) -> list[object]:
        return [json.loads(wire.payload_of(message.frame))["seq"] for message in self.taken]


@pytest.fixture
def hub() -> Hub:
    hub = Hub(clock_ns=lambda: NOW_NS, epoch="e1")
    hub.add_channel("a", "venue", ["X/Y", "Z/Y"])
    hub.add_channel("b", "venue", ["X/Y"])
    return hub


def publish(hub: Hub, name: str, instrument: str = "X/Y", price: str = "1") -> None:
    hub.publish(hub.channels[name], PriceUpdate(instrument, price, b"{}"), 1000)


def joined(hub: Hub, *wants: str) -> Client:
    client = Client()
    hub.join(client, frozenset(wants))
    return client


def empty(hub: Hub) -> bool:
    """Whether nobody is left anywhere, and no slot that was only wished for."""
    channels = hub.channels.values()
    slots = [slot for channel in channels for slot in channel.slots.values()]
    return (
        not len(hub.audiences)
        and not len(hub.paced)
        and not hub._outboxes
        and not any(c.listeners for c in channels)
        and not any(s.listeners or s.anywhere or s.last is None for s in slots)
        and set(hub._anywhere) == {s.instrument for s in slots if s.channel.exchange}
        and not any(hub._anywhere.values())
    )


def test_sequence_has_no_holes(hub):
    """Each channel counts for itself from 1; a message without a price takes no number."""
    client = joined(hub, "a", "b")
    publish(hub, "a")
    publish(hub, "a", price="NaN")
    publish(hub, "b")
    publish(hub, "a", "Z/Y")
    hub.flush()
    assert client.places == [("a", 1), ("b", 1), ("a", 2)]
    assert hub.channels["a"].unpriced == 1
    assert {c.epoch for c in hub.channels.values()} == {"e1"}


def test_epochs_differ():
    """Each run has its own."""
    assert len({Hub().epoch for _ in range(100)}) == 100


def test_nobody_gets_a_message_twice(hub):
    """A listener that wants it as channel, as instrument, and everywhere gets it once."""
    client = joined(hub, "a", "a:X/Y", "*:X/Y")
    box = Listener()
    hub.register(box, frozenset({"a", "a:X/Y", "*:X/Y"}))
    publish(hub, "a")
    publish(hub, "b")
    publish(hub, "a", "Z/Y")
    hub.flush()
    assert client.places == [("a", 1), ("b", 1), ("a", 2)]
    assert len(box.taken) == 3


def test_everywhere(hub):
    """`*:X` is the instrument on every channel of prices, also on one that gets it later."""
    client = joined(hub, "*:X/Y")
    late = hub.add_channel("late", "venue")
    publish(hub, "late")
    publish(hub, "late", "Z/Y")
    publish(hub, "b")
    hub.flush()
    assert client.places == [("late", 1), ("b", 1)]
    assert hub.find("*:X/Y") == [hub.channels["a"], hub.channels["b"], late]


@pytest.mark.parametrize(
    ("want", "names"),
    [
        ("a", ["a"]),
        ("a:X/Y", ["a"]),
        ("a:U/V", []),
        ("a:", []),
        ("open:", []),
        ("open:ANY/THING", ["open"]),
        ("*:X/Y", ["a", "b", "open"]),
        ("*:", []),
        ("*", []),
        ("", []),
        (":X/Y", []),
        ("nothing", []),
        ("system", ["system"]),
        ("system:a", []),
        ("heartbeat", ["heartbeat"]),
        ("*:a", ["open"]),
    ],
)
def test_find(hub, want, names):
    """A subscription names channels that exist, and instruments that these have or may get."""
    hub.add_channel("open", "venue")
    hub.publish(hub.system, SystemStatus(feed="a", state=State.LIVE, since_us=1, reason=""), 1)
    assert [channel.name for channel in hub.find(want)] == names


def test_snapshot_order(hub):
    """Every last value once, and the numbers of a channel never go back."""
    for instrument in ("Z/Y", "X/Y", "U/Y"):
        publish(hub, "a", instrument)
    publish(hub, "b")
    publish(hub, "a", "Z/Y")
    slots = hub.snapshot(["a:U/Y", "a", "*:X/Y", "b:Q/Q", "heartbeat"])
    assert [m.seq for m in slots if m.channel.name == "a"] == [2, 3, 4]
    assert len(slots) == 4
    assert hub.snapshot(["a:nothing"]) == []


@pytest.mark.parametrize(
    ("wants", "yes"),
    [({"a"}, True), ({"a:X/Y"}, True), ({"*:X/Y"}, True), ({"b", "a:Z/Y", "*:Z/Y"}, False)],
)
def test_wanted(hub, wants, yes):
    """What belongs to a set of subscriptions, however they are written."""
    publish(hub, "a", "X/Y")
    assert hub.wanted(hub.channels["a"].slots["X/Y"], frozenset(wants)) is yes
    status = SystemStatus(feed="X/Y", state=State.LIVE, since_us=1, reason="")
    hub.publish(hub.system, status, 1)
    place = hub.system.slots["X/Y"]
    assert not hub.wanted(place, frozenset(wants))
    assert hub.wanted(place, frozenset({"system"}))


def test_snapshot_of_a_wish(hub):
    """An instrument that is known but has no value yet has none in the snapshot."""
    joined(hub, "a:Z/Y")
    assert hub.snapshot(["a:Z/Y", "*:Z/Y", "a"]) == []


def test_join_while_a_batch_waits(hub):
    """Who joins gets nothing from before, and nobody is written to for it."""
    first = joined(hub, "a")
    publish(hub, "a")
    second = joined(hub, "a")
    assert first.places == []
    publish(hub, "a")
    third, leaver = joined(hub, "a"), Client()
    audience = hub.join(leaver, frozenset({"a"}))
    publish(hub, "a")
    leaver.write(hub.leave(leaver, audience))
    hub.flush()
    hub.flush()
    assert [len(c.messages) for c in (first, second, third, leaver)] == [3, 2, 1, 1]
    assert leaver.places == third.places == [("a", 3)]
    assert hub.deliveries == 7
    publish(hub, "a")
    hub.flush()
    assert [len(c.messages) for c in (first, second, third, leaver)] == [4, 3, 2, 1]


def test_leave_while_being_written_to(hub):
    """A flush may drive sessions out; who joins meanwhile or after it is served."""

    class Leaver(Client):
        def write(self, data: bytes) -> None:
            super().write(data)
            assert hub.leave(self, audience) == b""

    leaver = Leaver()
    audience = hub.join(leaver, frozenset({"a"}))
    publish(hub, "a")
    hub.flush()
    client = joined(hub, "a")
    publish(hub, "a")
    hub.flush()
    assert leaver.places == [("a", 1)]
    assert client.places == [("a", 2)]


def test_flush_of_many_in_parts(hub, monkeypatch):
    """Many are written to in parts; who leaves or joins between them misses nothing."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 2)
    clients = [Client() for _ in range(5)]
    audiences = [hub.join(client, frozenset({"a"})) for client in clients]
    assert len(hub.audiences) == 3
    publish(hub, "a")
    assert hub.flush(limit=2)
    assert sum(len(c.messages) for c in clients) in {2, 3}
    publish(hub, "a")
    waiting = next(n for n, c in enumerate(clients) if not c.messages)
    served = next(n for n, c in enumerate(clients) if c.messages)
    for number in (waiting, served):
        clients[number].write(hub.leave(clients[number], audiences[number]))
    late = joined(hub, "a")
    while hub.waiting:
        hub.flush(limit=2)
    assert all(c.places == [("a", 1), ("a", 2)] for c in clients)
    assert late.places == []
    assert hub.deliveries == 10


def test_lap(hub, monkeypatch):
    """What comes while others are written to goes out with this lap to those that wait for it."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 1)
    clients = [joined(hub, "a") for _ in range(3)]
    publish(hub, "a")
    assert hub.flush(limit=1)
    publish(hub, "a")
    assert hub.flush(limit=1)
    assert not hub.flush(limit=1)
    assert sorted(len(c.messages) for c in clients) == [1, 2, 2]
    assert hub.waiting
    assert not hub.flush()
    assert [len(c.messages) for c in clients] == [2, 2, 2]
    assert not hub.waiting


def test_quiet_channel_in_the_lap_of_a_busy_one(hub, monkeypatch):
    """It comes next, once: it need not wait until all of the others have been written to."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 1)
    busy = [joined(hub, "a") for _ in range(4)]
    quiet = joined(hub, "b")
    publish(hub, "a")
    assert hub.flush(limit=1)
    publish(hub, "b")
    assert hub.flush(limit=1)
    assert quiet.places == [("b", 1)]
    assert sum(len(c.messages) for c in busy) == 1
    publish(hub, "b")
    while hub.flush(limit=1):
        assert len(quiet.places) == 1
    assert sum(len(c.messages) for c in busy) == 4
    hub.flush()
    assert quiet.places == [("b", 1), ("b", 2)]


def test_audience_of_another_is_first_in_turn(hub, monkeypatch):
    """No audience is always written to last."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 1)
    clients = [joined(hub, "a") for _ in range(3)]
    firsts = set()
    for _ in range(3):
        publish(hub, "a")
        hub.flush(limit=1)
        firsts.add(max(clients, key=lambda c: len(c.messages)))
        hub.flush()
    assert len(firsts) == 3


def test_laps_without_a_pause(hub, monkeypatch):
    """Who was first is first again: nobody waits for two laps, however fast messages come."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 1)
    clients = [joined(hub, "a") for _ in range(4)]
    orders = []
    publish(hub, "a")
    for _ in range(3):
        order = []
        before = {c: len(c.messages) for c in clients}
        for _ in clients:
            hub.flush(limit=1)
            publish(hub, "a")
            order += [c for c in clients if len(c.messages) > before[c] and c not in order]
        orders.append(order)
    assert orders[0] == orders[1] == orders[2]


def test_closed_transport_stops_nobody(hub):
    """A write that uvloop refuses, as that client has gone, is counted; the others get theirs."""

    class Gone(Client):
        def write(self, data: bytes) -> None:
            raise RuntimeError

    hub.join(Gone(), frozenset({"a"}))
    client = joined(hub, "a")
    publish(hub, "a")
    hub.join(Gone(), frozenset({"a"}))
    publish(hub, "a")
    hub.flush()
    assert client.places == [("a", 1), ("a", 2)]
    assert (hub.deliveries, hub.failed_writes) == (2, 2)


def test_rooms_are_filled_again(hub, monkeypatch):
    """Who joins takes a place that somebody left; an audience without anybody is gone."""
    monkeypatch.setattr("aggregator.groups.SESSIONS", 2)
    wants = frozenset({"a"})
    clients = [Client() for _ in range(4)]
    audiences = [hub.join(client, wants) for client in clients]
    assert len(set(audiences)) == 2
    hub.leave(clients[0], audiences[0])
    assert hub.join(Client(), wants) is audiences[0]
    for number in (2, 3):
        hub.leave(clients[number], audiences[number])
    assert list(hub.audiences) == [audiences[0]]
    assert hub.join(Client(), wants) is not audiences[0]


def test_everybody_is_first_in_turn(hub):
    """The session that is written to first changes from flush to flush."""
    firsts = []

    class Named(Client):
        def write(self, data: bytes) -> None:
            if not any(c.messages for c in clients):
                firsts.append(clients.index(self))
            super().write(data)

    clients = [Named() for _ in range(4)]
    for client in clients:
        hub.join(client, frozenset({"a"}))
    for _ in range(8):
        for client in clients:
            client.messages.clear()
        publish(hub, "a")
        hub.flush()
    assert sorted(firsts) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_leave_hands_over_the_rest(hub):
    """Who leaves gets what waits in the batch, and the others get it too."""
    leaver, stayer = Client(), Client()
    audience = hub.join(leaver, frozenset({"a"}))
    hub.join(stayer, frozenset({"a"}))
    publish(hub, "a")
    leaver.write(hub.leave(leaver, audience))
    hub.flush()
    assert leaver.places == stayer.places == [("a", 1)]
    assert hub.deliveries == 2
    rest = hub.leave(stayer, audience)
    assert rest == b""
    assert empty(hub)


def test_leave_of_the_last_drops_the_batch(hub):
    """A batch without an audience is not written, and costs nothing later."""
    client = Client()
    audience = hub.join(client, frozenset({"a"}))
    publish(hub, "a")
    client.write(hub.leave(client, audience))
    hub.flush()
    assert client.places == [("a", 1)]
    assert empty(hub)


def test_wish_of_another_stays(hub):
    """One of two who wait for an instrument's first value leaves: the other still gets it."""
    hub.add_channel("open", "venue")
    for want in ("open:N/N", "*:N/N"):
        stayer, leaver, box = Client(), Client(), Listener()
        hub.join(stayer, frozenset({want, "system"}))
        audience = hub.join(leaver, frozenset({want}))
        hub.register(box, frozenset({want}))
        hub.leave(leaver, audience)
        hub.unregister(box, frozenset({want}))
        publish(hub, "open", "N/N")
        hub.flush()
        assert stayer.places == [("open", hub.channels["open"].seq)]


def test_wake_once_per_flush():
    """At the first message after a flush, not at each; and not for what nobody wants."""
    wakes = []
    hub = Hub(wake=lambda: wakes.append(1))
    hub.add_channel("a", "venue", ["X/Y"])
    publish(hub, "a")
    assert not wakes
    joined(hub, "a")
    joined(hub, "a:X/Y")
    publish(hub, "a")
    publish(hub, "a")
    assert len(wakes) == 1
    hub.flush()
    publish(hub, "a")
    assert len(wakes) == 2


def test_broadcast(hub):
    """To every audience and outbox, whatever they want, once."""
    clients = [joined(hub), joined(hub, "a"), joined(hub, "a", "b")]
    box = Listener()
    hub.register(box, frozenset({"a"}))
    hub.broadcast(b'{"type":"x"}')
    hub.flush()
    assert [c.messages for c in clients] == [[{"type": "x"}]] * 3
    (message,) = box.taken
    assert (message.frame, message.slot) == (wire.frame(b'{"type":"x"}'), None)


def test_heartbeat_is_no_last_value(hub):
    """It is numbered and delivered, but no snapshot has an old one."""
    client = joined(hub, "heartbeat")
    hub.publish(hub.heartbeat, Heartbeat(), 5)
    hub.flush()
    assert client.places == [("heartbeat", 1)]
    assert hub.snapshot(["heartbeat"]) == []


def test_states_are_last_values(hub):
    """Of each feed, and of each instrument of it, the latest."""
    for state, instrument in itertools.product((State.LIVE, State.STALE), (None, "X/Y")):
        status = SystemStatus(feed="a", state=state, since_us=1, reason="", instrument=instrument)
        hub.publish(hub.system, status, 5)
    frames = [json.loads(wire.payload_of(last.frame)) for last in hub.snapshot(["system"])]
    assert [(f["data"]["instrument"], f["data"]["state"], f["seq"]) for f in frames] == [
        (None, "stale", 3),
        ("X/Y", "stale", 4),
    ]
    assert not hub.find("*:a")


@pytest.mark.parametrize(
    ("exchange_us", "timestamp"),
    [
        (None, "1970-01-01T00:00:00.001Z"),
        (-1, "1970-01-01T00:00:00.001Z"),
        (2**70, "1970-01-01T00:00:00.001Z"),
        (wire.END_OF_TIME_US, "1970-01-01T00:00:00.001Z"),
        (wire.END_OF_TIME_US - 1, "9999-12-31T23:59:59.999Z"),
        (0, "1970-01-01T00:00:00.000Z"),
        (1_765_211_445_123_000, "2025-12-08T16:30:45.123Z"),
    ],
)
def test_timestamp(hub, exchange_us, timestamp):
    """The venue's time where it can be one, else the receipt's; what it sent is passed on."""
    client = joined(hub, "a")
    hub.publish(hub.channels["a"], PriceUpdate("X/Y", "1", b"{}", exchange_us), 1000)
    hub.flush()
    (message,) = client.messages
    assert message["timestamp"] == timestamp
    assert message["exchange_us"] == exchange_us
    assert message["received_us"] == 1000
    assert message["published_us"] == NOW_NS // 1000
    assert hub.now_iso() == "2025-12-08T16:30:45.123Z"


def test_unknown_kind_of_event(hub):
    """What is no kind of message known here is a bug of who publishes it, and changes nothing."""
    client = joined(hub, "a")
    with pytest.raises(TypeError, match="Event can't be published"):
        hub.publish(hub.channels["a"], Event(), 1)
    hub.flush()
    assert client.messages == []
    assert hub.channels["a"].seq == 0


def test_subscribers(hub):
    """Sessions that want a channel for any reason, each once."""
    joined(hub, "a")
    joined(hub, "a")
    joined(hub, "a", "a:X/Y", "*:X/Y")
    joined(hub, "a:Z/Y")
    hub.register(Listener(), frozenset({"*:X/Y"}))
    publish(hub, "a")
    assert hub.subscribers(hub.channels["a"]) == 5
    publish(hub, "b")
    assert hub.subscribers(hub.channels["b"]) == 2


WANTS = [
    "a",
    "b",
    "a:X/Y",
    "a:Z/Y",
    "b:X/Y",
    "*:X/Y",
    "*:Z/Y",
    "open",
    "open:A/B",
    "*:A/B",
    "system",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("join"), st.frozensets(st.sampled_from(WANTS), max_size=4)),
            st.tuples(st.just("register"), st.frozensets(st.sampled_from(WANTS), max_size=4)),
            st.tuples(st.just("leave"), st.integers(0, 9)),
            st.tuples(st.just("publish"), st.sampled_from(["a", "b", "open"])),
            st.tuples(st.just("flush"), st.none()),
        ),
        max_size=40,
    )
)
def test_any_coming_and_going(steps):  # noqa: C901, PLR0912 - a model and what it is held to
    """Everybody gets exactly what was published while they were there, in order, no one stays."""
    hub = Hub()
    for name, instruments in (("a", ["X/Y", "Z/Y"]), ("b", ["X/Y"]), ("open", None)):
        hub.add_channel(name, "venue", instruments)
    members: list[tuple[Client, frozenset[str], object, list[tuple[object, object]]]] = []
    boxes: list[tuple[Listener, frozenset[str], list[object]]] = []
    turns = itertools.cycle(["X/Y", "Z/Y", "A/B"])
    for what, argument in steps:
        if what == "join":
            client = Client()
            members.append((client, argument, hub.join(client, argument), []))
        elif what == "register":
            boxes.append((Listener(), argument, []))
            hub.register(boxes[-1][0], argument)
        elif what == "leave":
            if argument < len(members):
                client, _, audience, due = members.pop(argument)
                client.write(hub.leave(client, audience))
                assert client.places == due
            elif boxes:
                box, wants, due = boxes.pop()
                hub.unregister(box, wants)
                assert box.seqs == due
        elif what == "publish":
            instrument = next(turns)
            publish(hub, argument, instrument)
            hits = {argument, f"{argument}:{instrument}", f"*:{instrument}"}
            seq = hub.channels[argument].seq
            for _, wants, _, due in members:
                due.extend([(argument, seq)] * bool(hits & wants))
            for _, wants, due in boxes:
                due.extend([seq] * bool(hits & wants))
        else:
            hub.flush()
    for client, _, audience, due in members:
        client.write(hub.leave(client, audience))
        assert client.places == due
    for box, wants, due in boxes:
        hub.unregister(box, wants)
        assert box.seqs == due
    assert empty(hub)


def test_flush_that_fails(hub):
    """A session that breaks its promise not to raise costs others nothing but a second flush."""

    class Broken(Client):
        def write(self, data):
            raise ZeroDivisionError

    woken = []
    client = joined(hub, "a")
    hub.join(Broken(), frozenset({"a", "b"}))
    hub.wake = lambda: woken.append(1)
    publish(hub, "a", "X/Y")
    with pytest.raises(ZeroDivisionError):
        hub.flush()
    hub.flush()
    assert len(client.messages) == 1
    assert woken
