from __future__ import annotations

import asyncio

import pytest
from aiohttp import WSMsgType, web
from ingest.benches import StreamBench as Bench
from ingest.doubles import Stream, script

from aggregator.api import PriceUpdate, Send
from aggregator.ingest import dial as dial_module
from aggregator.ingest import sender as sender_module
from aggregator.model import State

PRICE = '{"BTC/USDT":"1.5"}'


@pytest.mark.parametrize(
    "frame", ["garbage", "[]", '{"A/B":1}', "<html>", "", "{}", '{"a":' * 3000]
)
async def test_an_unreadable_frame_is_counted(session, venue, frame):
    """An unreadable frame is counted; the connection and the next frames are not touched."""
    venue.answer = script(frame, PRICE)
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)

    assert bench.counters.errors == {"payload": 1}
    assert len(venue.requests) == 1


async def test_binary_and_broken_text(session, venue):
    """A binary frame, and text that is no UTF-8, are counted as unreadable."""

    async def then(ws):
        await ws.send_bytes(b"{}")
        await ws._writer.send_frame(b'{"BTC/USDT":"\xff"}', WSMsgType.TEXT)
        await ws.send_str(PRICE)

    venue.answer = script(then=then)
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)

    assert bench.counters.errors == {"payload": 2}
    assert bench.prices == [("BTC/USDT", 1.5)]


async def test_unknown_instruments_do_not_stop_the_others(session, venue):
    """An unknown instrument is said; the others go on; its own data make it known again."""
    venue.answer = script(
        '{"!unknown":"ETH/USDT"}',
        '{"!known":"BTC/USDT X/Y"}',
        '{"!unhandled":"thing"}',
        '{"!request":"x"}',
        PRICE,
        '{"ETH/USDT":"2"}',
    )
    bench = Bench(session, venue.ws_url, instruments=["BTC/USDT", "ETH/USDT"])
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 2)

    assert bench.system.states == ["connecting", "unknown_instrument", "live", "live"]
    assert bench.channel.instruments == {"BTC/USDT", "ETH/USDT", "X/Y"}
    assert bench.counters.unhandled == {"thing": 1, "Request": 1}


async def test_unknown_among_the_data_of_others(session, venue):
    """That a message also says that an instrument is unknown does not make it known."""
    venue.answer = script('{"!unknown":"ETH/USDT","BTC/USDT":"1.5"}', PRICE)
    bench = Bench(session, venue.ws_url, instruments=["BTC/USDT", "ETH/USDT"])
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 2)
        assert list(bench.status.unknown) == ["ETH/USDT"]


async def test_no_acknowledgement(session, venue):
    """A subscription that is not acknowledged in time ends the connection, even with data."""
    venue.answer = script(PRICE, ack=False)
    bench = Bench(session, venue.ws_url, ack_timeout_s=0.05)
    await bench.to_the_end()

    assert bench.status.reason == "no acknowledgement of BTC/USDT within 0.05 s"
    assert bench.counters.errors == {"timeout": 1}


async def test_ping_and_pong_as_text(session, venue):
    """After silence the venue's own ping is sent; its pong keeps the connection, and is no data."""
    pings = []

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.data == "ping":
                pings.append(1)
                await ws.send_str("pong" if len(pings) < 3 else PRICE)
            else:
                await ws.send_str('{"!ack":"BTC/USDT"}')
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url, ping_after_s=0.02, pong_timeout_s=5)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)

    assert len(pings) >= 3
    assert bench.counters.errors == {}


class Plain(Stream):
    """Uses the pings of the WebSocket protocol."""

    ping = None
    pong = None


async def test_ping_and_pong_of_the_protocol(session, venue):
    """Pings of the protocol are sent and answered, both ways."""
    seen = []

    async def serve(request):
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        await ws.ping(b"hello")
        async for message in ws:
            seen.append((message.type, message.data))
            if message.type is WSMsgType.PING:
                await ws.pong(message.data)
                await ws.send_str(PRICE)
            elif message.type is WSMsgType.TEXT:
                await ws.send_str('{"!ack":"BTC/USDT"}')
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url, cls=Plain, ping_after_s=0.02)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)

    assert (WSMsgType.PONG, b"hello") in seen
    assert (WSMsgType.PING, b"") in seen


async def test_no_pong(session, venue):
    """A venue that answers no ping is left."""
    venue.answer = script()
    bench = Bench(session, venue.ws_url, ping_after_s=0.02, pong_timeout_s=0.05)
    await bench.to_the_end()

    assert bench.status.state is State.DOWN
    assert bench.status.reason == "no pong within 0.05 s"


async def test_a_connection_that_only_pongs_is_stale(session, venue):
    """Pongs and acknowledgements are no data: without data the feed is stale, and reconnects."""

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str("pong" if message.data == "ping" else '{"!ack":"BTC/USDT"}')
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url, ping_after_s=0.01, stale_after_s=0.1)
    await bench.to_the_end()

    assert bench.system.states == ["connecting", "stale"]
    assert bench.status.reason.startswith("no data for")
    assert bench.sleeps == [1]


async def test_data_that_stop(session, venue):
    """Data that stop make the feed stale; the next connection's data make it live again."""
    venue.answer = script(PRICE)
    bench = Bench(session, venue.ws_url, stale_after_s=0.05, patient=True)
    async with bench.running():
        await bench.system.until(lambda: bench.system.states.count("live") == 2)

    assert bench.system.states[:4] == ["connecting", "live", "stale", "live"]


@pytest.mark.parametrize("polite", [True, False])
async def test_closed_by_the_venue(session, venue, polite):
    """A close, with its code, and a cut are told apart; the back-off begins anew after data."""

    async def then(ws):
        if polite:
            await ws.close(code=4004, message=b"idle\n")
        else:
            ws._req.transport.abort()

    venue.answer = script(PRICE, then=then)
    bench = Bench(session, venue.ws_url, patient=True)
    async with bench.running():
        await bench.ear.until(lambda: len(bench.prices) == 3)

    expected = "closed by the venue: 4004 idle" if polite else "connection lost"
    assert any(reason.startswith(expected) for reason in bench.system.reasons)
    assert set(bench.sleeps) == {1}
    assert bench.counters.reconnects == len(bench.sleeps)


async def test_a_frame_too_large(session, venue, monkeypatch):
    """A frame over the limit ends the connection with a reason."""
    monkeypatch.setattr(dial_module, "MAX_FRAME_BYTES", 1000)
    venue.answer = script("x" * 2000)
    bench = Bench(session, venue.ws_url)
    await bench.to_the_end()

    assert bench.status.reason.startswith("the WebSocket protocol was violated: ")


async def test_what_frames_ask_to_send(session, venue):
    """A connector may answer a frame with a frame."""
    said = asyncio.get_running_loop().create_future()

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str('{"!say":"hello"}')
        async for message in ws:
            if message.data == "hello":
                said.set_result(True)
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url)
    async with bench.running(), asyncio.timeout(10):
        assert await said


async def test_ticks(session, venue):
    """What a connector gathers is published at its ticks, with the time of the tick."""

    class Gathering(Stream):
        def __init__(self, options):
            super().__init__(options)
            self.tick_s = 0.05
            self.gathered = []

        def on_frame(self, frame):
            outputs = super().on_frame(frame)
            if not isinstance(outputs[0], PriceUpdate):
                return outputs
            self.gathered += outputs
            return []

        def on_tick(self):
            gathered, self.gathered = self.gathered, []
            return gathered[-1:]

    venue.answer = script(PRICE, '{"BTC/USDT":"1.6"}', '{"BTC/USDT":"1.7"}')
    bench = Bench(session, venue.ws_url, cls=Gathering)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)
        assert bench.status.state is State.LIVE

    assert bench.prices == [("BTC/USDT", 1.7)]


async def test_too_much_to_send(session, venue, monkeypatch):
    """What waits to be sent is bounded."""
    monkeypatch.setattr(sender_module, "MAX_WAITING", 2)
    venue.answer = script()
    bench = Bench(session, venue.ws_url, instruments=["A/B", "C/D", "E/F"])
    await bench.to_the_end()

    assert bench.status.reason == "2 frames wait to be sent"


class Loud(Stream):
    """Sends more than a socket takes."""

    def on_open(self):
        return [Send("x" * 2**20) for _ in range(64)]


async def test_a_venue_that_takes_nothing(session, venue, monkeypatch):
    """A venue that does not read is left without waiting for it, and no task remains."""
    monkeypatch.setattr(sender_module, "SEND_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        request.transport.pause_reading()
        await release.wait()
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url, cls=Loud)
    await bench.to_the_end()
    release.set()

    assert bench.status.reason == "the venue takes no frame for 0.05 s"


async def test_a_venue_that_does_not_answer_the_close(session, venue, monkeypatch):
    """A stop does not wait for a venue that does not answer."""
    monkeypatch.setattr(sender_module, "CLOSE_TIMEOUT_S", 0.05)
    release = asyncio.Event()

    async def serve(request):
        ws = web.WebSocketResponse(autoclose=False)
        await ws.prepare(request)
        await ws.send_str(PRICE)
        await ws.send_str('{"!refuse":"go"}')
        await release.wait()
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url)
    await bench.to_the_end()
    release.set()

    assert bench.status.reason == "go"


async def test_stop_says_goodbye(session, venue):
    """A stop closes the connection as WebSockets are closed."""
    closed = asyncio.get_running_loop().create_future()

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str(PRICE)
        async for _ in ws:
            pass
        closed.set_result(ws.close_code)
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)
    async with asyncio.timeout(10):
        assert await closed == 1000


class Again(Stream):
    """Can subscribe again; to `BTC/USDT` it fails."""

    def resubscribe(self, instrument):
        if instrument == "BTC/USDT":
            raise TypeError("a bug")
        return [Send(f"again {instrument}")]


async def test_resubscribed(session, venue):
    """What is silent is subscribed to again on the connection that there is, in order."""
    heard = []

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str(PRICE)
        async for message in ws:
            if message.data.startswith("again"):
                heard.append(message.data)
                await ws.send_str('{"ETH/USDT":"2"}')
        return ws

    venue.answer = serve
    bench = Bench(session, venue.ws_url, cls=Again)
    assert not bench.streamer.resubscribe(["ETH/USDT"])
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)
        assert bench.streamer.resubscribe(["ETH/USDT", "SOL/USDT"])
        await bench.ear.until(lambda: len(bench.prices) == 3)
    assert heard == ["again ETH/USDT", "again SOL/USDT"]
    assert bench.counters.errors == {}


async def test_what_can_not_be_resubscribed(session, venue):
    """A connector that can't says so at once; a bug in one that can is that of its connection."""
    venue.answer = script(PRICE)
    bench = Bench(session, venue.ws_url)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)
        assert not bench.streamer.resubscribe(["ETH/USDT"])
    bench = Bench(session, venue.ws_url, cls=Again)
    async with bench.running():
        await bench.ear.until(lambda: bench.prices)
        assert bench.streamer.resubscribe(["BTC/USDT"])
        await bench.system.until(lambda: "down" in bench.system.states)
    assert bench.status.reason == "unexpected error: TypeError"
