"""What a stream fetches is data, but no sign that the stream is alive; and what waits is data."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest
from aiohttp import web
from ingest.benches import running
from ingest.doubles import Setup, stream_options
from ingest.test_fetcher import Asking, AskingBench, Both

from aggregator.api import Fetch, Gap, Ignored, Leaving, Request, TradeExecuted, Withheld
from aggregator.ingest import merge as merge_module
from aggregator.ingest import streamer as streamer_module
from aggregator.ingest.fetched import Fetched
from aggregator.model import PriceUpdate, State
from aggregator.simulator import Simulator

PAIR = ["BTC/USDT", "ETH/USDT"]


@pytest.fixture
async def both():
    async with Both() as venue:
        yield venue


@pytest.fixture
async def simulator():
    async with Simulator(seed=7, ticks_per_s=20.0) as simulator:
        yield simulator


class Saying(Asking):
    """Says also that trades are withheld, lost or known."""

    def on_item(self, key, value):
        match key:
            case "!withheld":
                return [Withheld(value)]
            case "!gap":
                return [Gap(instrument=value, data={})]
            case "!ignored":
                return [Ignored(value)]
            case "!later":
                return [Fetch(Request(value), delay_s=0.2)]
        return super().on_item(key, value)

    def on_frame(self, frame):
        [(key, value)] = msgspec.json.decode(frame, type=dict[str, str]).items()
        return self.on_item(key, value) if key.startswith("!") else super().on_frame(frame)


def bench_of(session, venue, cls=Saying, **options):
    """Return a bench whose connector has this class."""
    bench = AskingBench(session, venue, **options)
    bench.streamer._new_line.keywords["connector"] = lambda: cls(bench.feed.options)
    return bench


async def test_answers_do_not_keep_a_mute_stream_alive(session, both):
    """They make the feed live at first, and then it is stale once, however often they come."""
    numbers = iter(range(1, 1000))
    both.fetched = lambda _: web.json_response(str(next(numbers)))
    bench = bench_of(session, both, stale_after_s=0.1, patient=True)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.kinds) == 5)
        assert bench.status.state is State.STALE
    assert bench.system.states == ["connecting", "live", "stale"]
    # No data, so the waits grow.
    assert bench.sleeps[:4] == [1, 2, 4, 8]
    assert bench.status.last_data is None


async def test_the_next_address_is_tried(session, both):
    """A stream that brings nothing but what was fetched is left for the next address."""
    numbers = iter(range(1, 1000))
    both.fetched = lambda _: web.json_response(str(next(numbers)))
    bench = bench_of(session, both, stale_after_s=0.1, patient=True)
    bench.streamer.options.urls.append(both.ws_url + "&second")
    urls = []
    answer = both.answer
    both.answer = lambda request: urls.append(request.path_qs) or answer(request)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.kinds) == 3)
    streams = [url for url in urls if url.startswith("/stream")]
    assert ["second" in url for url in streams[:3]] == [False, True, False]


async def test_what_is_fetched_after_a_break_ends_it(session, both):
    """After a feed was down, an answer says that it works; that it is silent is seen later."""
    numbers = iter(range(1, 1000))
    both.fetched = lambda _: web.json_response(str(next(numbers)))
    bench = bench_of(session, both, patient=True)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.kinds) == 1)
        both.requests[0].transport.abort()
        await bench.ear.until(lambda: len(bench.kinds) == 2)
        await bench.system.until(lambda: bench.system.states[-1] == "live")
    assert bench.system.states == ["connecting", "live", "down", "live"]


async def test_a_gap_is_no_data(session, both, monkeypatch):
    """A feed of which only losses are heard is stale."""
    both.fetched = lambda _: web.Response(status=404)
    both.frames = ['{"!gap":"BTC/USDT"}']
    bench = bench_of(session, both, stale_after_s=0.1)
    monkeypatch.setattr(Saying, "on_no_response", lambda *_: [])
    await bench.to_the_end()
    assert bench.kinds == ["gap"]
    assert bench.system.states == ["connecting", "stale"]
    assert bench.counters.events == 1


async def test_what_waits_is_data(session, both):
    """Data that are withheld make a feed live, and are looked at with the instruments."""
    both.fetched = lambda _: web.Response(status=404)
    both.frames = ['{"!withheld":"BTC/USDT"}']
    bench = bench_of(session, both)
    async with bench.running():
        await bench.system.until(lambda: "live" in bench.system.states)
        assert bench.streamer.line.had_data
        assert bench.status.withheld == {"BTC/USDT"}


async def test_it_is_known_what_was_fetched(session, both):
    """Where silences are judged, what the leading connection has fetched is told apart."""
    both.frames = ['{"BTC/USDT":"1"}', '{"!later":"/later"}']
    bench = bench_of(session, both)
    async with bench.running():
        await bench.ear.until(lambda: bench.kinds.count("trade_executed") == 2)
        last = bench.channel.slots["BTC/USDT"].last
        heard = bench.status.fetched.heard("BTC/USDT", last)
    assert heard is None or heard.seq < last.seq


async def test_what_is_known_is_no_drift(session, both, caplog):
    """What a connector knows and leaves out is counted apart, and nobody is warned."""
    both.frames = ['{"!ignored":"told before"}', '{"BTC/USDT":"1"}', '{"!ignored":"told before"}']
    bench = bench_of(session, both)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.kinds) == 2)
    assert bench.counters.ignored == {"told before": 2}
    assert bench.counters.unhandled == {}
    assert bench.counters.drift.counts == {}
    assert "does not know" not in caplog.text


async def test_a_pause_before_a_request(session, both):
    """A request may be put off; meanwhile frames go on coming."""
    both.frames = ['{"!later":"/later"}', '{"BTC/USDT":"1"}']
    asked = {}
    both.fetched = lambda path: asked.setdefault(path, time.monotonic()) and web.json_response("1")
    bench = bench_of(session, both)
    async with bench.running():
        await bench.ear.until(lambda: bench.kinds.count("trade_executed") == 2)
        assert bench.kinds.index("price_update") < 2
    assert asked["/later"] - asked["/opened"] >= 0.19


async def test_a_notice_before_the_stream_has_said_anything(session, both):
    """Where only fetched data are there the connection is replaced like any other that works."""

    class Leaves(Saying):
        def on_response(self, request, body):
            return [*super().on_response(request, body), Leaving("upgrade")]

    bench = bench_of(session, both, cls=Leaves)
    async with bench.running():
        await bench.ear.until(lambda: bench.kinds)
        await both.asked(4)
    assert bench.system.states == ["connecting", "live"]


# Which message was fetched.


def test_which_message_was_fetched():
    """Of each instrument the last message that the stream itself brought is known."""
    bench = Setup(Saying, stream_options("ws://x"))
    channel, hub = bench.channel, bench.hub
    fetched = Fetched(channel)

    def publish(price):
        hub.publish(channel, PriceUpdate("BTC/USDT", str(price), b"{}"), hub.now_us())
        return channel.slots["BTC/USDT"].last

    def fetch(price):
        before = fetched.lasts(["BTC/USDT"])
        message = publish(price)
        assert fetched.note(before)
        return message

    assert fetched.heard("BTC/USDT", fetch(1)) is None
    first = publish(2)
    assert fetched.heard("BTC/USDT", first) is first
    assert fetched.heard("BTC/USDT", fetch(3)) is first
    channel.slots["BTC/USDT"].stale = channel.slots["BTC/USDT"].last
    message = fetch(4)
    assert fetched.heard("BTC/USDT", message) is first
    # What was stale stays so.
    assert channel.slots["BTC/USDT"].stale is message
    assert not fetched.note(fetched.lasts(["BTC/USDT", "X/Y"]))


# At a simulated venue.


def states_of(system, instrument):
    data = [message["data"] for message in system.messages]
    return [each["state"] for each in data if each["instrument"] == instrument]


async def test_books_of_a_mute_venue(simulator):
    """While snapshots are answered and nothing is pushed, the feed is stale once, and stays so."""
    section = {"connector": "binance.depth", "instruments": PAIR, "max_backoff_s": 0.2}
    urls = [f"{simulator.binance_ws_url}/ws", f"{simulator.binance_ws_url}/ws?second"]
    async with running(simulator, {"b": section | {"urls": urls}}, stale_after_s=1.2) as (
        ingest,
        system,
        ears,
    ):
        await ears["b"].until(lambda: len(ears["b"].messages) > 40)
        fault = simulator.faults.add(venue="binance", kind="mute")
        counters = ingest.statuses["b"].counters
        await ears["b"].until(lambda: counters.reconnects >= 3)
        async with asyncio.timeout(10):
            await simulator.wait_for_request("binance", "/ws?second")
        assert states_of(system, None)[-1] == "stale"
        simulator.faults.remove(fault.id)
        await system.until(lambda: states_of(system, None)[-1] == "live")
    states = [each for each in states_of(system, None) if each != "late"]
    assert states == ["connecting", "live", "stale", "live"]


async def test_one_mute_book_of_two(simulator, monkeypatch):
    """Whatever is done about it, and however often its snapshot is fetched: one `stale`."""
    monkeypatch.setattr(merge_module, "WAIT_S", 0.2)
    section = {"connector": "binance.depth", "instruments": PAIR}
    urls = [f"{simulator.binance_ws_url}/ws", f"{simulator.binance_ws_url}/ws?second"]
    async with running(simulator, {"b": section | {"urls": urls}}, stale_after_s=1.6) as (
        ingest,
        system,
        ears,
    ):
        watched = ingest.instruments["b"].watched
        await ears["b"].until(
            lambda: len(watched) == 2 and all(each.limit_s < 2.4 for each in watched.values())
        )
        fault = simulator.faults.add(venue="*", kind="mute", instrument="ETH/USDT")
        counters = ingest.statuses["b"].counters
        await ears["b"].until(lambda: "next_url" in counters.escalations)
        await ears["b"].until(lambda: counters.rotations.get("stale", 0) == 2)
        seq = ears["b"].channel.seq
        await ears["b"].until(lambda: ears["b"].channel.seq > seq + 40)
        assert states_of(system, "ETH/USDT") in (["late", "stale"], ["stale"])
        simulator.faults.remove(fault.id)
        await system.until(lambda: states_of(system, "ETH/USDT")[-1] == "live")
    assert states_of(system, "BTC/USDT") == []
    assert states_of(system, None) == ["connecting", "live"]


async def test_a_second_connection_that_is_mute(simulator, monkeypatch):
    """One that brings nothing but what it fetches does not take the place of one that works."""
    monkeypatch.setattr(merge_module, "WAIT_S", 1.5)
    section = {"connector": "binance.depth", "instruments": PAIR[:1], "max_backoff_s": 0.1}
    async with running(simulator, {"b": section}) as (ingest, system, ears):
        await ears["b"].until(lambda: len(ears["b"].messages) > 20)
        streamer = ingest._runners["b"]
        given_up = asyncio.Event()
        give_up = streamer_module.Streamer._give_up
        problems = []

        def note(self, second, problem):
            problems.append(problem)
            given_up.set()
            give_up(self, second, problem)

        monkeypatch.setattr(streamer_module.Streamer, "_give_up", note)
        monkeypatch.setattr(
            type(streamer.line.connection._connector),
            "_event",
            only_of(streamer.line.connection._connector),
        )
        streamer.rotate("operator")
        async with asyncio.timeout(10):
            await given_up.wait()
        assert problems[0] == "no data for 1.5 s"
    assert states_of(system, None) == ["connecting", "live"]


def only_of(connector):
    """Return a translation that hears only on the connection of this connector."""
    event = type(connector)._event
    return lambda self, frame: event(self, frame) if self is connector else []


async def test_an_answer_is_told_as_it_is(session, both):
    """A trade that was fetched is published as such, and counted."""

    class Missed(Saying):
        def on_response(self, request, body):
            return [
                msgspec.structs.replace(each, backfilled=True)
                for each in super().on_response(request, body)
                if isinstance(each, TradeExecuted)
            ]

    bench = bench_of(session, both, cls=Missed)
    async with bench.running():
        await bench.ear.until(lambda: bench.kinds)
    assert bench.counters.backfilled == 1
    assert bench.ear.messages[0]["backfilled"]
