"""A daemon that does what a test says: it loses, repeats, falls silent and talks nonsense."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from aiohttp import WSMsgType, web

PATIENCE_S = 30
EPOCH = "303a6b3b"


class Connection:
    """One connection of a client, seen from the daemon's side."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.transport = request.transport
        self.is_mute = False
        """Whether pings are left unanswered."""
        self.commands: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.over = asyncio.Event()

    async def serve(self) -> None:
        """Take commands until the client or the test ends it; pings are answered right here."""
        async for frame in self.socket:
            assert frame.type is WSMsgType.TEXT
            command = json.loads(frame.data)
            if command["type"] != "ping":
                self.commands.put_nowait(command)
            elif not self.is_mute:
                await self.send(type="pong", timestamp="2026-11-20T07:56:05.562Z", id=command["id"])
        self.over.set()

    async def command(self) -> dict[str, Any]:
        """Return the next command that is no ping."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.commands.get()

    async def text(self, text: str) -> None:
        await self.socket.send_str(text)

    async def send(self, **message: object) -> None:
        await self.text(json.dumps(message))

    async def acknowledge(self, seq: int = 0, epoch: str = EPOCH, **more: object) -> dict[str, Any]:
        """Take the next command and say yes to all of it; return it."""
        command = await self.command()
        names = dict.fromkeys(name.partition(":")[0] for name in command["channels"])
        positions = {name: {"epoch": epoch, "seq": seq} for name in names}
        fields = {"type": f"{command['type']}d", "channels": command["channels"]}
        if command["type"] == "subscribe":
            fields["positions"] = positions
        await self.send(**fields, **more, id=command["id"])
        return command

    async def price(self, seq: int, instrument: str = "BTC/USDT", **more: object) -> None:
        """Publish a price, a new one for each number."""
        await self.send(**price(seq, instrument) | more)

    def cut(self) -> None:
        """Break off, without a word."""
        self.transport.abort()

    async def close(self, code: int) -> None:
        await self.socket.close(code=code)


def price(seq: int, instrument: str = "BTC/USDT") -> dict[str, Any]:
    fields = {"type": "price_update", "connector_id": "prices", "exchange": "okx"}
    fields |= {"instrument": instrument, "price": seq + 0.5, "channel": "prices", "seq": seq}
    times = {"exchange_us": None, "received_us": 1, "published_us": 2}
    return fields | times | {"timestamp": "2026-11-20T07:56:05.562Z"}


def book(seq: int, action: str, bids: list, asks: list) -> dict[str, Any]:
    data = {"bids": bids, "asks": asks, "sequence": seq}
    return price(seq) | {"type": "orderbook_update", "action": action, "data": data}


class Fake:
    """The daemon: what it does with those who come, and who has come."""

    def __init__(self) -> None:
        self.behaviour = "serve"
        self.attempts = 0
        self.connections: asyncio.Queue[Connection] = asyncio.Queue()
        self.url = ""
        self._released = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.attempts += 1
        if self.behaviour == "refuse":
            return web.Response(status=503)
        if self.behaviour == "hang":
            await self._released.wait()
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(socket, request)
        self.connections.put_nowait(connection)
        with contextlib.suppress(ConnectionError):
            await connection.serve()
        return socket

    async def connected(self) -> Connection:
        """Wait for the next client."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.connections.get()

    @contextlib.asynccontextmanager
    async def running(self):
        application = web.Application()
        application.router.add_get("/ws", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
        yield self
        self._released.set()
        await runner.cleanup()
