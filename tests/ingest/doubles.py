"""Stand-ins for what surrounds the side of the exchanges: clocks, venues, connectors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from aggregator import wire
from aggregator.api import (
    Acknowledged,
    ExchangeError,
    KnownInstruments,
    Leaving,
    PollConnector,
    PollOptions,
    PriceUpdate,
    Request,
    Send,
    StreamConnector,
    StreamOptions,
    Unhandled,
    UnknownInstrument,
)
from aggregator.channel import Channel, Message
from aggregator.config import Feed
from aggregator.hub import Hub
from aggregator.ingest.freshness import FeedStatus


class Clock:
    """A monotonic clock that only tests move."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Ear:
    """Hears everything of a channel."""

    size = 1

    def __init__(self, hub: Hub, channel: Channel) -> None:
        self.channel = channel
        self.messages: list[dict] = []
        self.texts: list[str] = []
        self._heard = asyncio.Event()
        hub.register(self, frozenset({channel.name}))

    def offer(self, message: Message) -> None:
        self.texts.append(wire.payload_of(message.frame).decode())
        self.messages.append(json.loads(self.texts[-1]))
        self._heard.set()

    @property
    def states(self) -> list[str]:
        return [m["data"]["state"] for m in self.messages]

    @property
    def reasons(self) -> list[str]:
        return [m["data"]["reason"] for m in self.messages]

    async def until(self, done: Callable[[], object]) -> None:
        """Wait until something holds, looking after each message."""
        async with asyncio.timeout(10):
            while not done():
                self._heard.clear()
                await self._heard.wait()


class Setup:
    """One feed with everything around it, except the runner."""

    def __init__(self, cls, options, clock=None) -> None:
        self.hub = Hub(epoch="test")
        self.feed = Feed("quotes", "fake.quotes", cls, options)
        self.channel = self.hub.add_channel("quotes", cls.exchange, cls.instruments_of(options))
        self.system = Ear(self.hub, self.hub.system)
        self.ear = Ear(self.hub, self.channel)
        self.clock = clock or Clock()
        self.status = FeedStatus(
            self.channel,
            self.hub,
            stale_after_s=options.stale_after_s,
            interval_s=getattr(options, "interval_s", 0.0),
            clock=self.clock,
        )

    @property
    def prices(self) -> list[tuple[str, float]]:
        return [(m["instrument"], m["price"]) for m in self.ear.messages]


class Quotes(PollConnector):
    """`GET /quotes` answers `{"BTC/USDT": "1.5", ...}`; `bug` in it is a bug of ours."""

    exchange = "fake"

    def requests(self) -> Iterable[Request]:
        return [Request("/quotes", {"a": "b"}, {"x-key": "very-secret"}, weight=2)]

    def on_response(self, request, body):
        for instrument, price in msgspec.json.decode(body, type=dict[str, str]).items():
            if instrument == "bug":
                raise TypeError("a bug")
            yield PriceUpdate(instrument, price, b"{}")


class QuoteOptions(PollOptions):
    base_url: str = ""


SAY = {
    "!ack": Acknowledged,
    "!known": lambda value: KnownInstruments(frozenset(value.split())),
    "!leaving": Leaving,
    "!unhandled": Unhandled,
    "!say": Send,
    "!request": Request,
}


class Stream(StreamConnector):
    """`{"BTC/USDT": "1.5"}` is a price; what begins with `!` is an instruction."""

    exchange = "fake"
    ping = "ping"
    pong = b"pong"

    def on_open(self):
        return [Send(json.dumps({"subscribe": i}), key=i) for i in self.options.instruments]

    def on_frame(self, frame):
        said = msgspec.json.decode(frame, type=dict[str, str])
        if not said:
            raise ValueError("nothing said")
        return [output for key, value in said.items() for output in self.on_item(key, value)]

    def on_item(self, key, value):
        match key:
            case "!refuse":
                raise ExchangeError(value)
            case "!bug":
                raise TypeError(value)
            case "!unknown":
                return [UnknownInstrument(value, "no such thing"), Acknowledged(value)]
            case name if name in SAY:
                return [SAY[name](value)]
        return [PriceUpdate(key, value, b"{}")]


def stream_options(*urls: str, **more) -> StreamOptions:
    return StreamOptions(**{"instruments": ["BTC/USDT"], "urls": list(urls), **more})


class Venue:
    """A real HTTP and WebSocket server; each request is answered by `answer`."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.answer: Callable = lambda request: web.json_response({"BTC/USDT": "1.5"})
        self.arrived = asyncio.Event()
        self._server: TestServer | None = None

    async def __aenter__(self):
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._handle)
        self._server = TestServer(app)
        await self._server.start_server(shutdown_timeout=0.1)
        return self

    async def __aexit__(self, *exc):
        await self._server.close()

    async def _handle(self, request):
        self.requests.append(request)
        self.arrived.set()
        answer = self.answer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/stream?token=very-secret"

    async def asked(self, times: int) -> None:
        """Wait for so many requests."""
        async with asyncio.timeout(10):
            while len(self.requests) < times:
                self.arrived.clear()
                await self.arrived.wait()


def script(*frames, then=None, ack=True):
    """Answer with a WebSocket that acknowledges, sends these frames, and then does something."""

    async def serve(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        for frame in frames:
            await ws.send_str(frame)
        if then is not None:
            await then(ws)
        async for message in ws:
            if message.type is web.WSMsgType.TEXT and ack and message.data.startswith("{"):
                key = json.loads(message.data).get("subscribe")
                if key:
                    await ws.send_str(json.dumps({"!ack": key}))
        return ws

    return serve
