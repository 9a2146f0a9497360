"""Pings and who did not answer, on a clock of the test's own."""

from __future__ import annotations

import itertools

from gateway.wsclient import CLOSE, PING, PONG, eventually, frame

from aggregator.gateway.heartbeats import Heartbeats, Pinged


class Peer:
    """A session that counts its pings."""

    def __init__(self) -> None:
        self.lagging = False
        self.progress = (0, 0)
        self.pings = 0

    def ping(self) -> None:
        self.pings += 1


class World:
    """Heartbeats with an interval of 30 and a time-out of 10, from the second 0 on."""

    def __init__(self) -> None:
        self.now = 0.0
        self.dead: list[Pinged] = []
        self.beats = Heartbeats(30, 10, self.dead.append, lambda: self.now)

    def at(self, now: float) -> None:
        self.now = now
        self.beats.tick()

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


def test_lagging_session_is_not_pinged():
    """As long as it reads on, it lives; a ping would wait behind what it has not read."""
    world = World()
    peer = world.peer()
    peer.lagging = True
    for now, progress in ((30, (0, -100)), (40, (0, -99)), (70, (0, -50)), (80, (1, -100))):
        peer.progress = progress
        world.at(now)
    assert not world.dead
    world.at(110)
    world.at(120)
    assert world.dead == [peer]
    assert peer.pings == 0


def test_lagging_session_that_catches_up():
    """It is pinged like any other from then on."""
    world = World()
    peer = world.peer()
    peer.lagging = True
    world.at(30)
    peer.lagging = False
    world.at(40)
    assert not world.dead
    world.at(70)
    assert peer.pings == 1


def test_pinged_session_that_lags_later():
    """Its ping came before what it does not read, so the pong is still due."""
    world = World()
    peer = world.peer()
    world.at(30)
    peer.lagging = True
    world.at(40)
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
    """Also when what it has read has just been filled up again from its outbox."""
    daemon = await serve()
    channel = daemon.hub.add_channel("big", "venue", [])
    for i in range(100):
        daemon.publish(i, f"I{i}/X", channel, b'"%b"' % (b"x" * 100_000))
    async with await daemon.connect(receive_buffer=65_536) as client:
        await client.send({"type": "subscribe", "channels": ["big"]})
        await eventually(lambda: daemon.sessions.lagging)
        (session,) = daemon.sessions.lagging
        refills, before = 0, (session.progress, session.unsent)
        while session.lagging:
            await client.more()
            client.buffer.clear()
            now = (session.progress, session.unsent)
            assert now[0] >= before[0]
            if session.lagging and now[1] > before[1]:
                assert now[0] > before[0]
                refills += 1
            before = now
        assert refills
