"""Where the milliseconds go: from the venue to here, and from here to the clients."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web
from ingest.benches import PollBench, StreamBench
from ingest.doubles import Stream, script
from ingest.test_driver import DriverBench
from msgspec.structs import replace

from aggregator.api import PriceUpdate
from aggregator.gateway.fanout import SESSIONS_AT_ONCE, Fanout
from aggregator.hub import Hub
from aggregator.ingest.counters import AT_LEAST_S, EVERY, FeedCounters
from aggregator.model import Heartbeat, TradeExecuted

NOW_US = 1_765_211_445_000_000
PRICE = '{"BTC/USDT":"1.5"}'


def price(age_us, instrument="BTC/USDT"):
    """Return a price that is so old when it is received."""
    time_us = None if age_us is None else NOW_US - age_us
    return PriceUpdate(instrument, "1.5", b"{}", exchange_us=time_us)


def trade(age_us, *, backfilled):
    return TradeExecuted(
        instrument="BTC/USDT",
        id="1",
        side="buy",
        price="1",
        quantity="1",
        exchange_us=NOW_US - age_us,
        backfilled=backfilled,
    )


@pytest.mark.parametrize(
    ("outputs", "seconds"),
    [
        ([price(20_000)], 0.02),
        ([price(900_000), price(20_000), price(50_000)], 0.02),
        ([price(None), price(20_000)], 0.02),
        ([trade(9_000_000, backfilled=True), trade(20_000, backfilled=False)], 0.02),
        ([price(-20_000)], 0.0),
        ([price(None)], None),
        ([trade(9_000_000, backfilled=True)], None),
        ([], None),
    ],
)
def test_the_delay_is_that_of_the_newest(outputs, seconds):
    """What has no time, or was fetched after a loss, does not count; the future counts as now."""
    counters = FeedCounters()
    counters.measure(outputs, NOW_US, 5.0)
    assert sum(counters.delays.counts) == (seconds is not None)
    assert counters.delays.seconds == pytest.approx(seconds or 0.0)
    assert counters.delays.negative == (seconds == 0.0)
    assert counters.measure_at == 5.0 + AT_LEAST_S


class Dated(Stream):
    """Its prices have times."""

    def on_frame(self, frame):
        for output in super().on_frame(frame):
            dated = isinstance(output, PriceUpdate)
            yield replace(output, exchange_us=NOW_US) if dated else output


async def test_of_a_stream_some_frames_are_measured(session, venue, monkeypatch):
    """The first, then one of so many, and the first after a while."""
    monkeypatch.setattr("aggregator.ingest.counters.AT_LEAST_S", float("inf"))
    venue.answer = script(*[PRICE] * (2 * EVERY))
    bench = StreamBench(session, venue.ws_url, cls=Dated)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 2 * EVERY)
    received = bench.counters.received
    assert sum(bench.counters.delays.counts) == 1 + received // EVERY
    monkeypatch.undo()
    assert bench.counters.measure_at == float("inf")

    bench = StreamBench(session, venue.ws_url, cls=Dated)
    bench.counters.measure_at = -1.0
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)
    assert bench.counters.measure_at > 0


async def test_of_a_poll_each_answer_is_measured(session, venue, monkeypatch):
    """There are few of them."""
    measured = []
    monkeypatch.setattr(
        FeedCounters, "measure", lambda _, outputs, us, now: measured.append((len(outputs), us))
    )
    venue.answer = lambda _: web.Response(text=PRICE)
    bench = PollBench(venue, session)
    before = bench.hub.now_us()
    await bench.tick()
    ((events, received_us),) = measured
    assert events == bench.counters.events > 0
    assert received_us >= before


async def test_of_a_driver_some_frames_are_measured(monkeypatch):
    """In the same way as of a stream."""
    monkeypatch.setattr("aggregator.ingest.counters.AT_LEAST_S", float("inf"))

    async def act(emit):
        for _ in range(2 * EVERY):
            emit([price(20_000)])

    bench = DriverBench(act)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 2 * EVERY)
    assert sum(bench.counters.delays.counts) == 3
    assert bench.counters.delays.seconds > 0


class Client:
    """A session and its transport; a write to it may do something."""

    def __init__(self, write=lambda: None):
        self.transport = self
        self.written = []
        self._write = write

    def write(self, data):
        self.written.append(data)
        self._write()

    def deliver(self, messages, data):
        self.write(data)


class World:
    """A hub on a clock that the test sets, whose fan-outs are measured."""

    def __init__(self):
        self.now_us = NOW_US
        self.hub = Hub(clock_ns=lambda: self.now_us * 1000)
        self.channel = self.hub.add_channel("a", "venue", ["BTC/USDT"])
        self.other = self.hub.add_channel("b", "venue", ["BTC/USDT"])
        self.flushed = asyncio.Event()
        self.fanout = Fanout(self.hub, 0.0, self._moved)

    def _moved(self):
        if not self.hub.waiting:
            self.flushed.set()

    def publish(self, channel=None, age_us=0):
        self.hub.publish(channel or self.channel, price(None), self.now_us - age_us)

    async def flush(self):
        self.flushed.clear()
        self.fanout.wake()
        await self.flushed.wait()

    def sent(self, name="a"):
        """Return how many messages were measured, and their time in all."""
        histogram = self.fanout.sent.get(name)
        return histogram and (sum(histogram.counts), round(histogram.seconds, 6))


@pytest.fixture
async def world():
    return World()


async def test_a_message_is_measured_to_its_last_write(world):
    """That of the last client, in another turn of the loop than the first."""

    def takes():
        world.now_us += 10

    clients = 2 * SESSIONS_AT_ONCE
    for _ in range(clients):
        world.hub.join(Client(takes), frozenset({"a"}))
    world.publish(age_us=1000)
    await world.flush()
    assert world.sent() == (1, pytest.approx((1000 + 10 * clients) / 1e6))
    assert sum(world.fanout.durations.counts) == world.fanout.flushes == 1


async def test_of_a_fan_out_the_first_message_is_measured(world):
    """Whatever else goes with it; each fan-out has its own."""
    world.hub.join(Client(), frozenset({"a", "b"}))
    for age_us in (300, 200, 100):
        world.publish(age_us=age_us)
    world.publish(world.other)
    await world.flush()
    assert (world.sent("a"), world.sent("b")) == ((1, 0.0003), None)
    world.publish(world.other, age_us=50)
    world.publish()
    await world.flush()
    assert (world.sent("a"), world.sent("b")) == ((1, 0.0003), (1, 0.00005))


async def test_what_comes_during_a_fan_out_belongs_to_the_next(world):
    """It is measured when that one is over."""
    again = [True]

    def publish():
        if again.pop():
            again.append(False)
            world.publish(age_us=0)
            world.now_us += 500
        else:
            again.append(False)

    world.hub.join(Client(publish), frozenset({"a"}))
    world.publish()
    await world.flush()
    assert world.fanout.flushes == 2
    assert world.sent() == (2, 0.001)


async def test_what_nobody_gets_is_not_measured(world):
    """Nor is what the daemon itself says, nor a fan-out with nothing in it."""
    world.hub.join(Client(), frozenset({"b", "heartbeat"}))
    world.publish(age_us=5000)
    await world.flush()
    world.hub.publish(world.hub.heartbeat, Heartbeat(), world.now_us - 5000)
    await world.flush()
    world.publish(age_us=5000)
    world.hub.broadcast(b"{}")
    await world.flush()
    world.publish(age_us=5000)
    await world.flush()
    assert world.fanout.sent == {}


async def test_the_bytes_that_are_sent_are_counted(world):
    """All that is written in fan-outs, to each of the clients."""
    clients = [Client(), Client(), Client()]
    for client, wants in zip(clients, ("a", "a", "b"), strict=True):
        world.hub.join(client, frozenset({wants}))
    for channel in (world.channel, world.channel, world.other):
        world.publish(channel)
    await world.flush()
    written = sum(len(data) for client in clients for data in client.written)
    assert world.hub.sent_bytes == written > 0
