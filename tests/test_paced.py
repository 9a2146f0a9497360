"""Sessions that want less: the latest of each instrument at their rate, nothing twice."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import wire
from aggregator.audience import Key
from aggregator.channel import Message
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Heartbeat, Level, PriceUpdate, TradeExecuted
from aggregator.paced import MAX_KEPT
from aggregator.shape import SHAPES, WHOLE

WANTS = frozenset({"a", "heartbeat"})
INSTRUMENTS = ["X/Y", "Z/Y", "U/Y"]


class Client:
    """A session: keeps what is delivered to it."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.data = b""
        self.transport = self

    def write(self, data: bytes) -> None:
        raise AssertionError("paced sessions are not written to by audiences")

    def deliver(self, messages: list[Message], data: bytes) -> None:
        self.got += messages
        self.data += data

    @property
    def seqs(self) -> list[int]:
        return [message.seq for message in self.got]


class World:
    """A hub with one channel, and a clock that the test sets."""

    def __init__(self, max_hz: float = 2.0) -> None:
        self.now = 0.0
        self.planned: list[tuple[float, object]] = []
        self.hub = Hub(later=lambda s, call: self.planned.append((self.now + s, call)))
        self.channel = self.hub.add_channel("a", "venue", INSTRUMENTS)
        self.max_hz = max_hz

    def join(self) -> tuple[Client, object]:
        client = Client()
        return client, self.hub.join_paced(client, Key(WANTS, WHOLE, self.max_hz))

    def publish(self, instrument: str = "X/Y") -> None:
        self.hub.publish(self.channel, PriceUpdate(instrument, "1", b"{}"), 1)

    def run(self, until: float) -> None:
        self.hub.flush()  # what did not wait for its time
        while due := [plan for plan in self.planned if plan[0] <= until]:
            plan = min(due, key=lambda each: each[0])
            self.planned.remove(plan)
            self.now = plan[0]
            plan[1]()
            self.hub.flush()
        self.now = until


def test_first_at_once_then_the_latest_at_each_tick():
    """After a quiet time at once; then what is newest when the interval is over, and no more."""
    world = World()
    client, audience = world.join()
    world.publish()
    world.publish("Z/Y")
    world.run(0.0)
    assert client.seqs == [1, 2]
    for _ in range(5):
        world.publish()
    world.run(0.49)
    assert client.seqs == [1, 2]
    world.run(0.5)
    assert client.seqs == [1, 2, 7]
    assert audience.skipped == world.hub.skipped == 4
    world.run(10)
    assert not world.planned
    world.publish()
    world.run(10)
    assert client.seqs == [1, 2, 7, 8]


def test_order_of_the_sequence():
    """What goes out together rises by number, whatever changed first."""
    world = World()
    client, _ = world.join()
    world.publish()
    world.run(0)
    for instrument in ("U/Y", "Z/Y", "U/Y"):
        world.publish(instrument)
    world.run(1)
    assert client.seqs == [1, 3, 4]


def test_joins_between_ticks():
    """Who joins gets nothing from before; who leaves is handed what was kept for it."""
    world = World()
    first, audience = world.join()
    world.publish()
    world.run(0)
    world.publish("Z/Y")
    late, _ = world.join()
    world.publish("U/Y")
    leaver, _ = world.join()
    last, _ = world.join()
    world.publish("U/Y")
    assert [m.seq for m in world.hub.leave_paced(leaver, audience)] == [4]
    world.run(0.5)
    assert (first.seqs, late.seqs, leaver.seqs, last.seqs) == ([1, 2, 4], [4], [], [4])
    # The bytes are those of the messages, for all alike.
    for client in (first, late, last):
        assert client.data == b"".join(m.frame for m in client.got)
    newcomer, _ = world.join()
    world.run(1)
    assert newcomer.seqs == []


def test_what_is_not_replaced_keeps_its_order():
    """Messages that no newer one replaces all come, with the tick."""
    world = World()
    client, _ = world.join()
    for _ in range(3):
        world.hub.publish(world.hub.heartbeat, Heartbeat(), 1)
    world.run(0)
    assert [(m.channel.name, m.seq) for m in client.got] == [("heartbeat", n) for n in (1, 2, 3)]
    assert world.hub.skipped == 0


def test_many_take_their_turns():
    """What is due in the same moment to thousands goes out in laps, between which others go on."""
    world = World()
    clients = [world.join()[0] for _ in range(600)]
    world.publish()
    for _, call in world.planned[:]:
        call()
    laps = 1
    while world.hub.flush(100):
        laps += 1
    assert laps == 3
    assert {tuple(client.seqs) for client in clients} == {(1,)}


def test_nobody_left():
    """A tick without sessions does nothing more, and what was skipped stays counted."""
    world = World()
    client, audience = world.join()
    world.publish()
    world.publish()
    world.hub.leave_paced(client, audience)
    assert (len(world.hub.paced), world.hub.skipped) == (0, 1)
    world.run(5)
    assert (client.got, world.planned) == ([], [])
    assert not world.channel.listeners


def test_shape():
    """Without the venue's payload, encoded once for all of them."""
    world = World()
    clients = [Client(), Client()]
    for client in clients:
        world.hub.join_paced(client, Key(WANTS, SHAPES[False, 0], 2))
    world.publish()
    world.run(0)
    assert "data" not in json.loads(wire.payload_of(clients[0].data))
    assert clients[0].data is clients[1].data


class Book:
    def top(self):
        return [Level("1", "9")], []


def test_book():
    """Between two ticks changes become the state after them, which is no part of a snapshot."""
    world = World()
    client, _ = world.join()
    for whole in (True, False, False):
        bids = [Level("1", "2")]
        event = BookUpdate(instrument="X/Y", bids=bids, asks=[], whole=whole, book=Book())
        world.hub.publish(world.channel, event, 1)
    world.run(0)
    (message,) = client.got
    said = json.loads(wire.payload_of(message.frame))
    assert (said["seq"], said["action"], said["data"]["bids"]) == (3, "snapshot", [["1", "9"]])
    assert "age_us" not in said


STEP = st.one_of(
    st.sampled_from(INSTRUMENTS), st.sampled_from(["join", "leave"]), st.floats(0.01, 1.0)
)


@given(st.lists(STEP, max_size=60), st.sampled_from([0.5, 2.0, 10.0]))
@pytest.mark.parametrize("sessions", [2, 250])
def test_any_course(sessions, steps, max_hz):
    """Everybody ends with the latest values, rising, none twice, no faster than asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aggregator.groups.SESSIONS", sessions)
        world = World(max_hz)
        present = []
        for step in ["join", *steps]:
            if step == "join":
                # What is there at the time is the snapshot; it comes another way.
                client, audience = world.join()
                present.append((client, audience, world.channel.seq, world.now))
            elif step == "leave":
                client, audience, since, _ = present.pop(0)
                client.got += world.hub.leave_paced(client, audience)
                check(world, client, since)
                present = present or [(*world.join(), world.channel.seq, world.now)]
            elif isinstance(step, str):
                world.publish(step)
            else:
                world.run(world.now + step)
        world.run(world.now + 3)
        for client, _, since, joined in present:
            check(world, client, since)
            per_instrument = Counter(m.slot for m in client.got)
            most = (world.now - joined) * max_hz + 2
            assert all(count <= most for count in per_instrument.values())


def check(world: World, client: Client, since: int) -> None:
    """Compare what a client got with the last values that are newer than when it joined."""
    seqs = client.seqs
    assert seqs == sorted(set(seqs))
    last = {m.slot: m.seq for m in client.got}
    slots = world.channel.slots.values()
    assert last == {s: s.last.seq for s in slots if s.last and s.last.seq > since}


def test_what_can_not_be_replaced_is_bounded():
    """Trades all come at the ticks; so many that they would pile up do not wait for one."""
    world = World(max_hz=0.001)
    client, _ = world.join()
    world.publish()
    world.run(1.0)
    for number in range(MAX_KEPT - 1):
        event = TradeExecuted(instrument="X/Y", id=str(number), side="buy", price="1", quantity="2")
        world.hub.publish(world.channel, event, 1)
    world.run(2.0)
    assert client.seqs == [1]
    world.hub.publish(world.channel, event, 1)
    world.publish()
    world.run(3.0)
    assert client.seqs == list(range(1, MAX_KEPT + 3))
    world.publish()
    world.run(900.0)
    assert len(client.seqs) == MAX_KEPT + 2
    world.run(1003.0)
    assert client.seqs[-1] == MAX_KEPT + 3
