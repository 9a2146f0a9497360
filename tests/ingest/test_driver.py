"""The runner of connectors that do their own I/O, with a driver that does what a test says."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import zlib
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp.compression_utils import ZLibBackend
from ingest.doubles import Setup

from aggregator.api import (
    DriverConnector,
    ExchangeError,
    Field,
    Gap,
    Instruments,
    KnownInstruments,
    Leaving,
    Options,
    PayloadError,
    PriceUpdate,
    Send,
    ThrottledError,
    Unhandled,
    UnknownInstrument,
    UnreachableError,
    UnusableError,
)
from aggregator.config import Feed
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.driver import Driver
from aggregator.model import State

PRICE = PriceUpdate("BTC/USDT", "1.50", b"{}")


class ScriptOptions(Options):
    instruments: Instruments = Field(default=["BTC/USDT", "ETH/USDT"])


class Script(DriverConnector):
    """Does the next of `acts` in each attempt, then waits; counts what is open."""

    exchange = "fake"
    library = "json"
    install = "exchange-aggregator[fake]"
    options_type = ScriptOptions

    def __init__(self, options):
        super().__init__(options)
        self.acts = []
        self.open = 0
        self.attempts = 0

    async def run(self, emit):
        self.attempts += 1
        self.open += 1
        try:
            if self.acts:
                await self.acts.pop(0)(emit)
            await asyncio.Event().wait()
        finally:
            self.open -= 1


class DriverBench(Setup):
    """A driver's runner. Its sleeps are noted, and end when the test lets them."""

    def __init__(self, *acts, cls=Script, patient=True, **options) -> None:
        super().__init__(cls, cls.options_type(**options), clock=time.monotonic)
        self.sleeps: list[float] = []
        self.patient = patient
        self.slept = asyncio.Event()
        self.driver = Driver(
            self.feed,
            self.channel,
            self.hub,
            self.status,
            DialLimiter(),
            sleep=self._sleep,
            uniform=lambda low, high: high,
        )
        self.connector = self.driver._connector
        self.connector.acts = list(acts)
        self.counters = self.status.counters

    async def _sleep(self, seconds):
        self.sleeps.append(seconds)
        self.slept.set()
        if not self.patient:
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self):
        before = asyncio.all_tasks()
        task = asyncio.create_task(self.driver.run(), name="driver")
        try:
            yield task
        finally:
            task.cancel()
            async with asyncio.timeout(1):
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert self.connector.open == 0
        assert asyncio.all_tasks() - before == set()

    async def to_the_end(self):
        """Run until the first attempt has ended."""
        self.patient = False
        async with self.running(), asyncio.timeout(10):
            await self.slept.wait()


def says(*outputs):
    async def act(emit):
        emit(outputs)

    return act


def fails(error, *outputs):
    async def act(emit):
        if outputs:
            emit(outputs)
        raise error

    return act


async def test_what_a_driver_says_is_published():
    """Messages go out at once; frames, messages and what is of no use are counted."""
    known = KnownInstruments(frozenset({"BTC/USDT"}))
    outputs = (PRICE, Unhandled("odd"), Send("x"), known)
    bench = DriverBench(says(*outputs))
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
    [message] = bench.ear.messages
    assert (message["instrument"], message["price"], message["exchange"]) == (
        "BTC/USDT",
        1.5,
        "fake",
    )
    assert message["received_us"] <= message["published_us"]
    assert bench.system.states == ["connecting", "unknown_instrument", "live"]
    assert (bench.counters.received, bench.counters.events) == (1, 1)
    assert bench.counters.unhandled == {"odd": 1, "Send": 1}
    assert bench.channel.instruments == {"BTC/USDT"}


async def test_a_frame_is_published_whole_or_not_at_all():
    """An unreadable frame is counted, nothing of it goes out, and the attempt goes on."""

    def unreadable(error):
        yield PRICE
        raise error

    async def act(emit):
        for error in (PayloadError("odd"), KeyError("no such"), ValueError("no number")):
            emit(unreadable(error))
        emit([PRICE])

    bench = DriverBench(act)
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
    assert len(bench.ear.messages) == 1
    assert bench.counters.errors == {"payload": 3}
    assert (bench.counters.received, bench.counters.reconnects) == (4, 0)


@pytest.mark.parametrize(
    ("error", "kind", "reason", "wait"),
    [
        (ExchangeError("no such pair"), "exchange", "no such pair", 1.0),
        (PayloadError("no market in the answer"), "payload", "no market", 1.0),
        (UnreachableError("can't connect"), "connection", "can't connect", 1.0),
        (UnreachableError("no answer", "timeout"), "timeout", "no answer", 1.0),
        (UnreachableError("HTTP 503", "http"), "http", "HTTP 503", 1.0),
        (UnusableError("it wants a key"), "exchange", "it wants a key", 60.0),
        (RuntimeError("a bug"), "unexpected", "unexpected error: RuntimeError", 1.0),
    ],
)
async def test_reasons_to_try_again(error, kind, reason, wait, caplog):
    """Each end of an attempt has its state, its counter and its wait; a bug has a traceback."""
    bench = DriverBench(fails(error))
    await bench.to_the_end()
    assert bench.system.states == ["connecting", "down"]
    assert reason in bench.system.reasons[-1]
    assert bench.counters.errors == {kind: 1}
    assert bench.sleeps == [wait]
    assert any(r.exc_info for r in caplog.records) == (kind == "unexpected")


async def test_throttled():
    """A venue that wants no request is left alone as long as it says, and that is no failure."""
    bench = DriverBench(fails(ThrottledError("too many", 30.0)))
    before_us = bench.hub.now_us()
    await bench.to_the_end()
    status = bench.system.messages[-1]["data"]
    assert (status["state"], status["detail"]["cause"]) == ("limited", "blocked")
    assert 30e6 <= status["detail"]["until_us"] - before_us < 32e6
    assert bench.sleeps == [30.0]
    assert bench.counters.errors == {"rate_limited": 1}


async def test_throttled_without_a_word_how_long():
    """Then it is left alone for a minute and some, and is live again with its data."""
    bench = DriverBench(fails(ThrottledError("too many")), says(PRICE))
    async with bench.running():
        await bench.system.until(lambda: "live" in bench.system.states)
    assert 60 <= bench.sleeps[0] <= 70
    assert bench.system.states == ["connecting", "limited", "live"]


async def test_back_off_grows_until_data_come():
    """The waits double; after real data they begin anew."""
    lost = UnreachableError("lost")
    acts = [fails(lost), fails(lost), fails(lost, Unhandled("pong")), fails(lost, PRICE)]
    bench = DriverBench(*acts, says(PRICE))
    async with bench.running():
        await bench.ear.until(lambda: len(bench.ear.messages) == 2)
    assert bench.sleeps == [1.0, 2.0, 4.0, 1.0]
    assert bench.counters.reconnects == 4
    assert bench.connector.attempts == 5


async def test_a_driver_that_hangs():
    """Without data it is stale, ended and started anew; frames without a message are no data."""

    async def frames_alone(emit):
        while True:
            emit([Unhandled("pong")])
            await asyncio.sleep(0.02)

    bench = DriverBench(says(PRICE), frames_alone, says(PRICE), stale_after_s=0.1)
    async with bench.running():
        await bench.system.until(lambda: bench.system.states.count("live") == 2)
    assert bench.system.states == ["connecting", "live", "stale", "live"]
    assert bench.system.reasons[2].startswith("no data for")
    assert bench.counters.errors == {"timeout": 2}
    assert bench.connector.attempts == 3


async def test_a_driver_that_polls_has_time_for_it():
    """Polls of an hour are stale after two and a half, however short `stale_after_s` is."""

    async def polls(emit):
        bench.connector.interval_s = 3600.0
        emit([PRICE])
        await asyncio.sleep(0.2)
        emit([PRICE])

    bench = DriverBench(polls, stale_after_s=0.05)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.ear.messages) == 2)
        assert bench.status.polled
        assert bench.status.stale_limit_s == 9000.0
    assert bench.system.states == ["connecting", "live"]


@pytest.mark.parametrize("sparse", [False, True])
async def test_a_poll_without_news(monkeypatch, *, sparse):
    """Nothing new is an answer: the feed stays live. What may bring nothing has no fixed rhythm."""
    monkeypatch.setattr(Script, "sparse", sparse)

    async def polls(emit):
        bench.connector.interval_s = 0.05
        emit([PRICE])
        for _ in range(10):
            await asyncio.sleep(0.05)
            emit([])
        emit([PRICE])

    bench = DriverBench(polls, stale_after_s=0.2)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.ear.messages) == 2)
        assert bench.status.polled != sparse
    assert bench.system.states == ["connecting", "live"]


async def test_leaving():
    """A driver that wants to begin anew does so at once, and nothing has failed."""
    bench = DriverBench(says(PRICE, Leaving("other markets are traded")), says(PRICE))
    async with bench.running():
        await bench.system.until(lambda: bench.system.states.count("live") == 2)
    assert bench.sleeps == [0.0]
    assert bench.counters.errors == {}
    assert bench.system.reasons[2] == "other markets are traded"


async def test_a_silent_instrument():
    """A driver begins anew for it when it runs, and then at once; nothing has failed."""
    bench = DriverBench(says(PRICE), says(PRICE), patient=False)
    assert not bench.driver.resubscribe(["ETH/USDT"])
    assert not bench.driver.rotate("stale")
    assert not bench.driver.rotating
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
        assert bench.driver.rotate("stale")
        assert bench.driver.rotating
        await bench.slept.wait()
    assert bench.sleeps == [0.0]
    assert bench.counters.errors == {}
    assert bench.system.states == ["connecting", "live", "connecting"]


async def test_unknown_instruments():
    """One is said by name and the others go on; without any the feed is down."""
    unknown = UnknownInstrument("ETH/USDT", "not listed by the exchange")
    bench = DriverBench(says(unknown, PRICE))
    async with bench.running():
        await bench.system.until(lambda: "live" in bench.system.states)
        assert set(bench.status.unknown) == {"ETH/USDT"}
        assert bench.channel.instruments == {"BTC/USDT"}

    bench = DriverBench(says(unknown, UnknownInstrument("BTC/USDT", "not traded now")))
    await bench.to_the_end()
    assert bench.system.reasons[-1] == "the venue knows none of the instruments"
    assert bench.sleeps == [60.0]


async def test_known_again():
    """An instrument that was unknown is known again with its first message."""
    unknown = UnknownInstrument("BTC/USDT", "not traded now")
    bench = DriverBench(fails(UnreachableError("x"), unknown), says(PRICE))
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
        assert bench.status.unknown == {}
    assert bench.system.messages[-1]["data"]["reason"] == "known again"


async def test_a_gap_is_published():
    """What is lost is said on the channel."""
    bench = DriverBench(says(Gap(instrument="BTC/USDT", data={"after": "1", "before": "5"})))
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
    assert bench.ear.messages[0]["type"] == "gap"
    assert bench.ear.messages[0]["data"] == {"after": "1", "before": "5"}


async def test_without_its_library(monkeypatch, tmp_path):
    """The feed is down and says what to install; once that is there, it comes up by itself."""

    class Missing(Script):
        library = "missing_library"

    bench = DriverBench(says(PRICE), cls=Missing)
    await bench.to_the_end()
    assert bench.system.states == ["connecting", "down"]
    assert bench.system.reasons[-1] == (
        'needs missing_library, which is not installed: pip install "exchange-aggregator[fake]"'
    )
    assert (bench.sleeps, bench.connector.attempts) == ([60.0], 0)
    (tmp_path / "missing_library.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)


async def test_a_library_that_is_broken(monkeypatch, tmp_path, caplog):
    """It may raise anything while it is imported; the feed is down, with a traceback in the log."""
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('odd')")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Broken(Script):
        library = "broken_library"

    bench = DriverBench(cls=Broken)
    await bench.to_the_end()
    assert bench.system.reasons[-1] == "unexpected error: RuntimeError"
    assert any(record.exc_info for record in caplog.records)


async def test_aiohttp_keeps_its_zlib(monkeypatch, tmp_path):
    """A library that swaps it for the whole process, as ccxt does, has it for no longer."""
    (tmp_path / "swapping_library.py").write_text(
        "import aiohttp, types, zlib\n"
        "other = types.SimpleNamespace(**{n: getattr(zlib, n) for n in dir(zlib)})\n"
        "aiohttp.set_zlib_backend(other)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    class Swapping(Script):
        library = "swapping_library"

    bench = DriverBench(says(PRICE), cls=Swapping)
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
    assert "swapping_library" in sys.modules
    assert ZLibBackend._zlib_backend is zlib
    aiohttp.set_zlib_backend(zlib)
    del sys.modules["swapping_library"]


async def test_stopped_at_any_moment():
    """Whenever it is cancelled, it ends, and the driver has closed what it opened."""
    for turns in range(12):
        bench = DriverBench(says(PRICE), fails(UnreachableError("x")))
        async with bench.running():
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_cancelled_while_failing():
    """A driver that fails while it is ended does not keep its runner alive."""

    async def fail_at_the_end(emit):
        emit([PRICE])
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("while closing")

    bench = DriverBench(fail_at_the_end)
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)


async def test_the_same_failure_is_logged_once(caplog):
    """A venue that stays away is one line in the log."""
    caplog.set_level(logging.WARNING)
    lost = UnreachableError("can't connect")
    bench = DriverBench(*[fails(lost)] * 4, says(PRICE))
    async with bench.running():
        await bench.ear.until(lambda: bench.ear.messages)
    assert [m for m in caplog.messages if "can't connect" in m] == [
        "feed quotes down: can't connect"
    ]
    assert bench.status.state is State.LIVE


async def test_wrong_kind_of_feed():
    """A feed of another kind is a mistake of ours."""
    bench = DriverBench()
    with pytest.raises(TypeError, match="is no connector that does its own I/O"):
        Driver(
            Feed("f", "fake.x", None, bench.feed.options),
            bench.channel,
            bench.hub,
            bench.status,
            DialLimiter(),
        )
