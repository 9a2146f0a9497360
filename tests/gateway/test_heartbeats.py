"""Pings and who did not answer, on a clock of the test's own."""

from __future__ import annotations

import itertools

from gateway.wsclient import CLOSE, PING, PONG, eventually, frame

from aggregator.gateway.heartbeats import AT_ONCE, Heartbeats, Pinged


class Peer:
    """A session that counts its pings."""

    def __init__(self) -> None:
        self.lagging = False
        self.behind = False
        self.progress = 0
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1


class World:
    """Heartbeats with an interval of 30, time-outs of 10 and 120, from the second 0 on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dead: list[Pinged] = []
        self.beats = Heartbeats(30, 10, 120, dead=self.dead.append, now=lambda: self.now)

    def at(self, now: float) -> None:
        self.now = now
        while self.beats.tick():
            pass

    def peer(self) -> Peer:
        peer = Peer()
        self.beats.add(peer)
        return peer


def test_ping_and_pong():
    """A ping after the interval, the next one an interval after the pong."""
    world = World()
    peer = world.peer()
    world.at(29.9)
    assert peer.pings == 0
    world.at(30)
    world.at(31)
    assert peer.pings == 1
    world.beats.pong(peer)
    world.at(60)
    assert peer.pings == 1
    world.at(61)
    assert peer.pings == 2
    assert not world.dead


def test_many_are_due():
    """Thousands that are due in the same moment are pinged in parts, and so are given up on."""
    world = World()
    peers = [world.peer() for _ in range(AT_ONCE + 10)]
    world.now = 30
    assert world.beats.tick()
    assert sum(peer.pings for peer in peers) == AT_ONCE
    assert not world.beats.tick()
    assert {peer.pings for peer in peers} == {1}
    world.now = 40
    assert world.beats.tick()
    assert len(world.dead) == AT_ONCE
    assert not world.beats.tick()
    assert world.dead == peers


def test_ending_one_ends_another():
    """Who is forgotten while the others are looked after is left alone."""
    world = World()
    first, second, third = (world.peer() for _ in range(3))
    world.at(30)
    end = world.dead.append
    world.beats._dead = lambda peer: (end(peer), world.beats.remove(second))
    world.at(40)
    assert world.dead == [first, third]


def test_no_pong():
    """Who does not answer in time is dead, once; the others are not."""
    world = World()
    silent = world.peer()
    world.now = 1
    good = world.peer()
    world.at(31)
    world.beats.pong(good)
    world.at(40.9)
    assert not world.dead
    world.at(41)
    world.at(100)
    assert world.dead == [silent]


def test_unsolicited_pong():
    """It puts nothing off: RFC 6455, 5.5.3, allows it, but it proves nothing."""
    world = World()
    peer = world.peer()
    for second in range(1, 30):
        world.now = second
        world.beats.pong(peer)
    world.at(30)
    assert peer.pings == 1


def test_who_is_behind_lives_as_long_as_it_reads():
    """However slowly; a ping would wait behind what it has not read, so there is none."""
    world = World()
    peer = world.peer()
    peer.lagging = peer.behind = True
    for now in range(30, 1000, 10):
        peer.progress += now % 100 == 0
        world.at(now)
    assert not world.dead
    assert peer.pings == 0


def test_who_is_behind_and_reads_nothing_at_all():
    """It is given up, but only after the long time-out: its kernel tells of reading in steps."""
    world = World()
    peer = world.peer()
    peer.lagging = peer.behind = True
    for now in range(30, 150, 10):
        world.at(now)
    assert not world.dead
    world.at(150)
    assert world.dead == [peer]


def test_ping_that_waits_in_the_buffers():
    """A client that is slow but not lagging just now answers late: reading on is enough."""
    world = World()
    peer = world.peer()
    peer.behind = True
    world.at(30)
    assert peer.pings == 1
    world.at(45)
    assert not world.dead
    world.beats.pong(peer)
    peer.behind = False
    world.at(75)
    pings = peer.pings
    assert pings > 1
    world.at(85)
    assert world.dead == [peer]


def test_removed():
    """Neither pinged nor dead, wherever it stands; and removing it twice is no fault."""
    world = World()
    early, late = world.peer(), world.peer()
    world.beats.remove(early)
    world.at(30)
    assert (early.pings, late.pings) == (0, 1)
    world.beats.remove(late)
    world.beats.remove(late)
    world.at(100)
    assert not world.dead


def test_order_is_kept():
    """Nobody is pinged late because of another who answers early or never."""
    world = World()
    peers = []
    for second in range(10):
        world.now = second
        peers.append(world.peer())
    asked: dict[Peer, float] = {}
    for tenth in itertools.count(100):
        world.at(tenth / 10)
        for i, peer in enumerate(peers):
            if peer.pings and peer not in asked:
                asked[peer] = world.now
                if i % 2:
                    world.beats.pong(peer)
        if world.now > 55:
            break
    assert [asked[p] for p in peers] == [30.0 + i for i in range(10)]
    assert world.dead == peers[::2]


async def test_silent_client_is_closed(serve):
    """A client that says nothing and answers no ping gets 4010, counted; an honest one stays."""
    daemon = await serve(heartbeat_s=0.1, pong_timeout_s=0.1)
    async with await daemon.connect() as honest, await daemon.connect() as silent:
        assert await silent.receive_frame() == (PING, b"")
        opcode, payload = await silent.receive_frame()
        while opcode == PING:
            opcode, payload = await silent.receive_frame()
        assert opcode == CLOSE
        assert payload == (4010).to_bytes(2) + b"no pong in time"
        await silent.write(frame(payload, CLOSE))
        await silent.ended()
        assert daemon.counters.closed[4010] >= 1
        del honest


async def test_honest_client_is_not_closed(serve):
    """Whoever answers stays, over many intervals."""
    daemon = await serve(heartbeat_s=0.05, pong_timeout_s=5)
    async with await daemon.connect() as client:
        for _ in range(5):
            assert await client.receive_frame() == (PING, b"")
            await client.write(frame(b"", PONG))
        await client.pinged()
        assert not daemon.counters.closed


async def test_no_ping_after_a_close(daemon):
    """RFC 6455, 5.5.1: after a close frame nothing more is sent, a ping neither."""
    async with await daemon.connect() as client:
        (session,) = daemon.sessions._everybody
        session.close(4008, "x")
        session.ping()
        assert (await client.receive_frame())[0] == CLOSE
        await client.write(frame(b"\x0f\xa8", CLOSE))
        await client.ended()
        assert not client.buffer


async def test_progress_grows_while_a_lagging_client_reads(serve):
    """And never falls, however much comes after what it has read."""
    daemon = await serve()
    channel = daemon.hub.add_channel("big", "venue", [])
    for i in range(100):
        daemon.publish(i, f"I{i}/X", channel, b'"%b"' % (b"x" * 100_000))
    async with await daemon.connect(receive_buffer=65_536) as client:
        await client.send({"type": "subscribe", "channels": ["big"]})
        await eventually(lambda: daemon.sessions.lagging)
        (session,) = daemon.sessions.lagging
        assert session.behind
        read, progress = 0, [session.progress]
        while read < 9_000_000:
            read += await client.more()
            client.buffer.clear()
            progress.append(session.progress)
        assert progress == sorted(progress)
        assert progress[-1] - progress[0] > 8_000_000
