"""A running server without the rest of the daemon, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop
from gateway.wsclient import Client

from aggregator.channel import Channel
from aggregator.config import Server as ServerConfig
from aggregator.gateway.fanout import Fanout
from aggregator.gateway.server import Server
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.model import PriceUpdate
from aggregator.publishing import Publisher
from aggregator.tokens import Keyring


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every asynchronous test of this folder on both loops."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


BOTH_WAYS = {
    "test_access",
    "test_private",
    "test_bad_input",
    "test_heartbeats",
    "test_queries",
    "test_resume",
    "test_server",
    "test_sessions",
    "test_slow_readers",
    "test_terms",
}
"""What these say holds for clients that are taken over from aiohttp, and for the fallback."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    both = metafunc.module.__name__.rpartition(".")[2] in BOTH_WAYS
    chosen = any(m.args[0] == "way" for m in metafunc.definition.iter_markers("parametrize"))
    if both and not chosen and "way" in metafunc.fixturenames:
        metafunc.parametrize("way", ["handoff", "fallback"], indirect=True)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """Return how clients are served."""
    return getattr(request, "param", "handoff")


class Daemon:
    """Hub, sessions, fan-out and server, as `app` puts them together."""

    def __init__(self, keyring: Keyring | None = None, **config: Any) -> None:
        self.config = ServerConfig(**{"port": 0, "flush_window_s": 0.0005, **config})
        self.hub = Hub(history=self.config.history_messages)
        self.channel = self.hub.add_channel("prices", "venue", ["BTC/USDT", "ETH/USDT"])
        self.other = self.hub.add_channel("others", "venue", ["BTC/USDT"])
        self.open_ended = self.hub.add_channel("all", "elsewhere")
        loop = asyncio.get_running_loop()
        self.sessions = Sessions(self.hub, self.config, loop.time, keyring)
        self.moves = 0
        self.fanout = Fanout(self.hub, self.config.flush_window_s, self._moved)
        self.unready: list[dict[str, object]] = []
        self.rotated: list[str] = []
        self.server = Server(
            self.hub,
            self.sessions,
            channels=lambda: [{"name": name} for name in self.hub.channels],
            unready=lambda: self.unready,
            metrics=self._metrics,
            rotate=self._rotate,
            why=self._why,
            publisher=Publisher(self.hub, self.config.publish_channels, ["prices"]),
        )
        self._task: asyncio.Task[None] | None = None

    def _why(self, want: str) -> dict[str, object]:
        if not self.hub.find(want):
            raise LookupError(want)
        return {"verdict": f"{want} is live"}

    async def _metrics(self) -> bytes:
        return b"up 1\n"

    def _rotate(self, feed: str) -> str:
        self.rotated.append(feed)
        return {"prices": "", "others": "others is not connected"}[feed]

    def _moved(self) -> None:
        self.moves += 1

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def counters(self):
        return self.sessions.counters

    async def start(self) -> None:
        await self.server.start()
        self._task = asyncio.create_task(self.sessions.run(), name="sessions")

    async def stop(self) -> None:
        await self.sessions.stop(0.5)
        await self.server.stop()
        self.fanout.stop()
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def connect(self, path: str = "/ws", **options: Any) -> Client:
        return await Client.connect(self.port, path, **options)

    def publish(
        self,
        price: object,
        instrument: str = "BTC/USDT",
        channel: Channel | None = None,
        data: bytes = b"{}",
    ) -> None:
        event = PriceUpdate(instrument, str(price), data)
        self.hub.publish(channel or self.channel, event, self.hub.now_us())


Serve = Callable[..., Any]


@pytest.fixture
async def serve(way: str) -> AsyncIterator[Serve]:
    """Return a function that starts a daemon with this configuration."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**config: Any) -> Daemon:
            daemon = Daemon(**config)
            await daemon.start()
            if way == "fallback":
                daemon.server.takes_over = False
            stack.push_async_callback(daemon.stop)
            return daemon

        yield start


@pytest.fixture
async def daemon(serve: Serve) -> Daemon:
    """Return a running daemon with the default configuration."""
    return await serve()
