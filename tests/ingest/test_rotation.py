"""Make before break: a connection is replaced by a second one, with no gap between them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable

import aiohttp
import msgspec
import pytest
from aiohttp import web
from ingest.benches import StreamBench
from ingest.doubles import Stream

from aggregator.api import Seen, TradeExecuted
from aggregator.ingest import merge as merge_module
from aggregator.ingest import streamer as streamer_module
from aggregator.model import State


class Trades(Stream):
    """`{"BTC/USDT": "5"}` is the trade with that id; what begins with `!` is an instruction."""

    def on_frame(self, frame):
        [(key, value)] = msgspec.json.decode(frame, type=dict[str, str]).items()
        if key.startswith("!"):
            return super().on_frame(frame)
        fields = {"side": "buy", "price": "1", "quantity": "1", "cost": "1"}
        return [TradeExecuted(instrument=key, id=value, **fields)]

    def resume(self, seen):
        self.seen = dict(seen)


class Floor:
    """A venue's WebSockets, in the order in which they were opened; each says what a test wants."""

    def __init__(self, venue) -> None:
        self.venue = venue
        self.sockets: list[web.WebSocketResponse] = []
        self.open = 0
        self.refuse: Callable[[], web.Response] | None = None
        self.let_in = asyncio.Event()
        self.let_in.set()
        self._change = asyncio.Event()
        venue.answer = self._serve

    async def _serve(self, request):
        await self.let_in.wait()
        if self.refuse is not None:
            return self.refuse()
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.sockets.append(ws)
        self.open += 1
        self._change.set()
        try:
            async for message in ws:
                if message.type is web.WSMsgType.TEXT and message.data.startswith("{"):
                    await ws.send_json({"!ack": json.loads(message.data)["subscribe"]})
        finally:
            self.open -= 1
            self._change.set()
        return ws

    async def until(self, done) -> None:
        """Wait until something holds, looking after each connection that comes or goes."""
        async with asyncio.timeout(10):
            while not done():
                self._change.clear()
                await self._change.wait()

    async def say(self, number: int, *trades: object, instrument: str = "BTC/USDT") -> None:
        for trade in trades:
            await self.sockets[number].send_json({instrument: str(trade)})

    async def tell(self, number: int, key: str, value: str) -> None:
        await self.sockets[number].send_json({key: value})

    async def connected(self, count: int) -> None:
        await self.until(lambda: len(self.sockets) >= count)


class Bench(StreamBench):
    def __init__(self, session, *urls, **options) -> None:
        super().__init__(session, *urls, **{"cls": Trades, "max_backoff_s": 0.02, **options})

    @property
    def ids(self) -> list[str]:
        return [m["data"]["id"] for m in self.ear.messages]

    async def published(self, count: int) -> None:
        await self.ear.until(lambda: len(self.ear.messages) >= count)

    async def eventually(self, done) -> None:
        """Wait for something that no message tells."""
        async with asyncio.timeout(10):
            while not done():  # noqa: ASYNC110 - counters wake nobody
                await asyncio.sleep(0.001)


@pytest.fixture
async def floor(venue):
    return Floor(venue)


@pytest.fixture(autouse=True)
def quick(monkeypatch, caplog):
    """Let a second connection lead as soon as there is no gap."""
    monkeypatch.setattr(merge_module, "OVERLAP_S", 0.0)
    monkeypatch.setattr(streamer_module, "CHECK_S", 0.002)
    caplog.set_level(logging.INFO, logger="aggregator")


async def live(bench, floor) -> None:
    """Wait until the first connection has brought its first trade."""
    await floor.connected(1)
    await floor.say(0, 1)
    await bench.published(1)


# What for.


async def ask(bench, floor):
    assert bench.streamer.rotate("operator")


async def announce(bench, floor):
    await floor.tell(0, "!leaving", "upgrade")


async def wait(bench, floor):
    pass


@pytest.mark.parametrize(
    ("reason", "begin", "max_age_s"),
    [("operator", ask, 1000), ("notice", announce, 1000), ("age", wait, 0.05)],
)
async def test_reasons(session, venue, floor, caplog, *, reason, begin, max_age_s):
    """A second connection leads, the first is closed politely, the feed stays as it is."""
    bench = Bench(session, venue.ws_url, max_age_s=max_age_s)
    async with bench.running():
        await live(bench, floor)
        await begin(bench, floor)
        await floor.connected(2)
        await floor.say(1, 2, 3)
        await floor.say(0, 2)
        await bench.published(3)
        await floor.say(1, 4)
        await floor.until(lambda: floor.sockets[0].closed)
        await bench.published(4)
        assert floor.sockets[0].close_code == 1000
    assert bench.ids == ["1", "2", "3", "4"]
    assert bench.system.states == ["connecting", "live"]
    assert bench.counters.rotations[reason] == 1
    assert (bench.counters.errors, bench.counters.reconnects, bench.sleeps) == ({}, 0, [])
    assert bench.counters.events == 4
    [line] = [r.getMessage() for r in caplog.records if "replaced" in r.getMessage()]
    assert line.startswith(f"feed quotes: connection replaced ({reason}); both were open for 0.")


async def test_not_while_it_can_work_without(session, venue, floor):
    """A feed that has no connection is about to make one: there is nothing to replace."""
    bench = Bench(session, venue.ws_url)
    assert not bench.streamer.rotate("operator")
    floor.let_in.clear()
    async with bench.running():
        await venue.asked(1)
        assert not bench.streamer.rotate("operator")
        floor.let_in.set()
        await live(bench, floor)
        await floor.tell(0, "!refuse", "go")
        await bench.slept.wait()
        assert not bench.streamer.rotate("operator")


async def test_the_next_address(session, venue, floor, unused_tcp_port):
    """The second connection goes to the same address, or if so wished to the next one."""
    urls = [venue.ws_url, venue.ws_url.replace("stream", "second")]
    bench = Bench(session, *urls)
    async with bench.running():
        await live(bench, floor)
        for number, next_url in ((1, False), (2, True)):
            bench.streamer.rotate("stale", next_url=next_url)
            await floor.connected(number + 1)
            await floor.say(number, 1)
            await bench.eventually(lambda n=number: bench.counters.rotations == {"stale": n})
    assert [r.path for r in venue.requests] == ["/stream", "/stream", "/second"]


async def test_ages_differ(session, venue, floor):
    """Connections are replaced at nine tenths of the age at the earliest, at it at the latest."""
    drawn = []
    bench = Bench(session, venue.ws_url, max_age_s=50_000)
    bench.streamer._new_line.keywords["uniform"] = lambda *of: drawn.append(of) or 60.0
    async with bench.running():
        await live(bench, floor)
        line = bench.streamer.line
        assert drawn == [(45_000, 50_000)]
        assert line.until - line.inlet.opened == 60.0


async def test_the_second_knows_what_was_seen(session, venue, floor):
    """A connector is told the newest trades that were published when its connection is open."""
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await live(bench, floor)
        bench.streamer.rotate("operator")
        await floor.connected(2)
        await floor.say(0, 2)
        await floor.say(1, 2)
        await bench.eventually(lambda: bench.counters.rotations)
        assert bench.streamer.line.connection._connector.seen == {"BTC/USDT": Seen("1")}


# What can go wrong with the second.


async def test_the_second_is_refused(session, venue, floor, caplog):
    """The first stays, and works; it is tried again, at the next address, with back-off."""
    bench = Bench(session, venue.ws_url, venue.ws_url.replace("stream", "second"))
    async with bench.running():
        await live(bench, floor)
        floor.refuse = lambda: web.Response(status=503)
        bench.streamer.rotate("operator")
        await venue.asked(4)
        await floor.say(0, 2)
        await bench.published(2)
        floor.refuse = None
        await floor.connected(2)
        await floor.say(1, 2, 3)
        await bench.published(3)
    assert bench.ids == ["1", "2", "3"]
    assert bench.system.states == ["connecting", "live"]
    assert bench.counters.rotations == {"operator": 1}
    assert bench.counters.errors["http"] >= 3
    assert (bench.counters.reconnects, bench.sleeps) == (0, [])
    assert {r.path for r in venue.requests} == {"/stream", "/second"}
    texts = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert texts[0].startswith("feed quotes: no second connection: HTTP 503; the first stays, next")


async def test_the_venue_wants_no_second(session, venue, floor):
    """It is left alone as long as it says; that does not limit the first."""
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await live(bench, floor)
        floor.refuse = lambda: web.Response(status=429, headers={"Retry-After": "100"})
        bench.streamer.rotate("operator")
        await bench.eventually(lambda: bench.counters.errors == {"rate_limited": 1})
        assert bench.streamer._not_before > bench.streamer._clock() + 99
        assert bench.status.state is State.LIVE
        floor.refuse = None
        # An operator does not wait.
        bench.streamer.rotate("operator")
        await floor.connected(2)


async def test_the_second_is_mute(session, venue, floor, monkeypatch):
    """One that brings nothing is closed again in time; the first stays, and works."""
    monkeypatch.setattr(merge_module, "WAIT_S", 0.1)
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await live(bench, floor)
        bench.streamer.rotate("operator")
        number = 2
        while not bench.counters.errors:
            await floor.say(0, number)
            await bench.published(number)
            number += 1
        await floor.until(lambda: floor.sockets[1].closed)
        assert floor.open <= 2
        assert not floor.sockets[0].closed
        await floor.connected(3)
        await floor.say(2, number - 1, number)
        await bench.published(number)
    assert bench.ids == [str(n) for n in range(1, number + 1)]
    assert bench.counters.errors.keys() == {"timeout"}
    assert bench.system.states == ["connecting", "live"]


@pytest.mark.parametrize(
    ("key", "kind"),
    [("!leaving", "connection"), ("!refuse", "exchange"), ("!bug", "unexpected")],
)
async def test_the_second_fails(session, venue, floor, caplog, *, key, kind):
    """Whatever happens to it, also a bug, is counted and said, and the first stays."""
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await live(bench, floor)
        bench.streamer.rotate("operator")
        await floor.connected(2)
        # Far beyond what the first has brought: it can't lead yet.
        await floor.say(1, 9)
        await floor.tell(1, key, "words")
        await floor.connected(3)
        await floor.say(0, 2)
        await floor.say(2, 2)
        await bench.eventually(lambda: bench.counters.rotations)
    assert bench.ids == ["1", "2"]
    assert bench.counters.errors == {kind: 1}
    assert bench.system.states == ["connecting", "live"]
    assert bool([r for r in caplog.records if r.exc_info]) == (kind == "unexpected")


async def test_what_the_second_says_of_instruments(session, venue, floor):
    """It is told when the second leads; an instrument it does not know is not waited for."""
    bench = Bench(session, venue.ws_url, instruments=["BTC/USDT", "ETH/USDT"])
    async with bench.running():
        await live(bench, floor)
        await floor.say(0, 1, instrument="ETH/USDT")
        await bench.published(2)
        bench.streamer.rotate("operator")
        await floor.connected(2)
        await floor.tell(1, "!unknown", "ETH/USDT")
        await floor.say(0, 2, instrument="ETH/USDT")
        await bench.published(3)
        assert bench.status.unknown == {}
        await floor.say(1, 1)
        await bench.system.until(lambda: "unknown_instrument" in bench.system.states)
    assert bench.counters.rotations == {"operator": 1}
    assert bench.ids == ["1", "1", "2"]


async def test_what_is_held_back_is_nobodys_news(session, venue, floor, monkeypatch):
    """Data of a connection that does not lead yet make no feed live."""
    monkeypatch.setattr(merge_module, "OVERLAP_S", 1000.0)
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await floor.connected(1)
        await bench.eventually(lambda: bench.streamer.rotate("operator"))
        await floor.connected(2)
        await floor.say(1, 1)
        await bench.eventually(lambda: bench.counters.received == 3)
        assert (bench.status.state, bench.counters.events) == (State.CONNECTING, 0)
        monkeypatch.setattr(merge_module, "OVERLAP_S", 0.0)
        await bench.published(1)
        assert (bench.status.state, bench.counters.events) == (State.LIVE, 1)


# What can go wrong with the first.


@pytest.mark.parametrize("announced", [True, False])
async def test_the_first_closes_when_the_second_has_data(session, venue, floor, announced):
    """The second takes over at once, with what it has; that is no change of state."""
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await live(bench, floor)
        await (announce if announced else ask)(bench, floor)
        await floor.connected(2)
        # Nothing that the first has published: it is not yet where the second begins.
        await floor.say(1, 3, 4)
        await bench.eventually(lambda: bench.streamer.status.counters.received >= 5)
        assert bench.ids == ["1"]
        await floor.sockets[0].close(code=1012)
        await bench.published(3)
    assert bench.ids == ["1", "3", "4"]
    assert bench.system.states == ["connecting", "live"]
    assert sum(bench.counters.rotations.values()) == 1
    assert bench.counters.errors == ({} if announced else {"connection": 1})
    assert (bench.counters.reconnects, bench.sleeps) == (0, [])


async def test_the_first_closes_before_the_second_is_open(session, venue, floor):
    """That is a reconnect, which is under way already: no back-off."""
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await live(bench, floor)
        floor.let_in.clear()
        await announce(bench, floor)
        await venue.asked(2)
        await floor.sockets[0].close(code=1012)
        await bench.system.until(lambda: bench.system.states[-1] == "connecting")
        floor.let_in.set()
        await floor.connected(2)
        await floor.say(1, 1, 2)
        await bench.published(2)
    assert bench.ids == ["1", "2"]
    assert bench.system.states == ["connecting", "live", "connecting", "live"]
    assert bench.counters.rotations == {}
    assert (bench.counters.reconnects, bench.counters.errors, bench.sleeps) == (1, {}, [])


async def test_the_first_closes_between_two_attempts(session, venue, floor):
    """After a notice that is no surprise: the next connection comes without back-off."""
    bench = Bench(session, venue.ws_url, max_backoff_s=1000, patient=True)
    async with bench.running():
        await live(bench, floor)
        floor.refuse = lambda: web.Response(status=503)
        await announce(bench, floor)
        await bench.eventually(lambda: bench.counters.errors == {"http": 1})
        floor.refuse = None
        await floor.sockets[0].close(code=1012)
        await floor.connected(2)
        await floor.say(1, 2)
        await bench.published(2)
    assert bench.sleeps == [0.0]
    assert bench.counters.errors == {"http": 1}
    assert bench.system.states == ["connecting", "live", "connecting", "live"]


async def test_both_fail(session, venue, floor):
    """Then it is an ordinary reconnect, with the failure of the first."""
    bench = Bench(session, venue.ws_url, patient=True)
    async with bench.running():
        await live(bench, floor)
        floor.let_in.clear()
        bench.streamer.rotate("operator")
        await venue.asked(2)
        await floor.tell(0, "!refuse", "go")
        floor.refuse = lambda: web.Response(status=503)
        floor.let_in.set()
        await bench.system.until(lambda: "down" in bench.system.states)
        floor.refuse = None
        await floor.connected(2)
        await floor.say(1, 2)
        await bench.published(2)
    assert bench.system.states[-1] == "live"
    assert bench.counters.errors["exchange"] == 1
    assert bench.counters.rotations == {}


async def test_the_second_closes_right_after_the_switch(session, venue, floor):
    """That is an ordinary loss of the connection: said, and followed by another."""
    bench = Bench(session, venue.ws_url, patient=True)
    async with bench.running():
        await live(bench, floor)
        bench.streamer.rotate("operator")
        await floor.connected(2)
        await floor.say(1, 1)
        await bench.eventually(lambda: bench.counters.rotations)
        await floor.sockets[1].close(code=1012)
        await floor.connected(3)
        await floor.say(2, 1, 2)
        await bench.published(2)
    assert bench.ids == ["1", "2"]
    assert bench.system.states == ["connecting", "live", "down", "live"]
    assert bench.sleeps == [0.02]


async def test_what_the_second_held_back_can_not_be_published(session, venue, floor, caplog):
    """A bug of a connector ends its own connection, also when it shows at the switch."""

    class Odd(Trades):
        def on_frame(self, frame):
            outputs = super().on_frame(frame)
            return [msgspec.structs.replace(o, side=object()) for o in outputs] if odd else outputs

    odd = False
    bench = Bench(session, venue.ws_url, cls=Odd, patient=True)
    async with bench.running():
        await live(bench, floor)
        bench.streamer.rotate("operator")
        await floor.connected(2)
        odd = True
        await floor.say(1, 5)
        await bench.eventually(lambda: bench.counters.received >= 4)
        odd = False
        await floor.sockets[0].close()
        await floor.connected(3)
        await floor.say(2, 6)
        await bench.published(2)
    assert bench.ids == ["1", "6"]
    assert "down" in bench.system.states
    assert bench.counters.errors["unexpected"] == 1
    assert [r for r in caplog.records if r.exc_info]


# The end.


async def test_stopped_in_the_middle(venue, floor):
    """However far a rotation is, a stop leaves no task, and no socket on either side."""
    for rounds in range(0, 120, 4):
        async with aiohttp.ClientSession() as session:
            number = len(floor.sockets)
            bench = Bench(session, venue.ws_url)
            async with bench.running():
                await floor.connected(number + 1)
                await floor.say(number, 1)
                await bench.published(1)
                bench.streamer.rotate("operator")
                for _ in range(rounds):
                    await asyncio.sleep(0)
                    if len(floor.sockets) > number + 1:
                        await floor.say(number + 1, 1)
            await floor.until(lambda: floor.open == 0)
            assert not session.connector._acquired
