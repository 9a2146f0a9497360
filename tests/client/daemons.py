"""A small server that speaks docs/protocol.md, and does on demand what no daemon should."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, web

PATIENCE_S = 20
NOW_US = 1_795_160_887_636_000


def price(seq: int, instrument: str = "BTC/USDT", channel: str = "btc", **fields: Any) -> dict:
    """Return a price update as the daemon sends it."""
    message = {"type": "price_update", "connector_id": channel, "exchange": "okx"}
    message |= {"instrument": instrument, "price": 42150.5, "timestamp": "2026-11-20T07:48:07.636Z"}
    message |= {"data": {"last": "42150.50"}, "channel": channel, "seq": seq}
    return message | {"exchange_us": NOW_US, "received_us": NOW_US, "published_us": NOW_US} | fields


async def reached(condition: Callable[[], bool]) -> None:
    """Wait until this holds of a client; it does not say when."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)


class FakeDaemon:
    """
    Channels with their histories and clients.

    `script` may take over a connection: it gets the socket, and returns when it is done with it.
    """

    def __init__(self) -> None:
        self.epoch = "first"
        self.history: dict[str, list[dict]] = {"btc": [], "eth": [], "system": []}
        self.first_kept = 0
        self.commands: list[dict] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.wants: dict[web.WebSocketResponse, set[str]] = {}
        self.status: int | None = None
        self.script: Callable[[web.WebSocketResponse], Any] | None = None
        self.connections = 0
        self.silent = False
        self.tokens: set[str] | None = None
        self.resumes = True
        self.changed = asyncio.Condition()
        self._runner: web.AppRunner
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/ws", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Stop to listen, and say farewell."""
        for socket in list(self.sockets):
            with contextlib.suppress(ConnectionError):
                await socket.close(code=code)
        await self._runner.cleanup()

    async def cut(self) -> None:
        """Lose all connections, without a word."""
        for socket in list(self.sockets):
            socket._req.transport.abort()
            self.sockets.remove(socket)
            del self.wants[socket]

    async def restart(self, epoch: str) -> None:
        """Be another run of the daemon: numbers begin anew."""
        await self.stop()
        self.epoch = epoch
        self.history = {name: [] for name in self.history}
        await self.start()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds; looked at whenever somebody comes, goes or says something."""
        async with asyncio.timeout(PATIENCE_S), self.changed:
            await self.changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self.status is not None:
            return web.json_response({"type": "error", "code": "x"}, status=self.status)
        socket = web.WebSocketResponse(autoping=not self.silent)
        await socket.prepare(request)
        self.connections += 1
        self.sockets.append(socket)
        self.wants[socket] = set()
        await self._notify()
        try:
            if self.script is not None:
                await self.script(socket)
                return socket
            async for received in socket:
                self.commands.append(received.json())
                if not self.silent:
                    await self._answer(socket, received.json())
                await self._notify()
        finally:
            with contextlib.suppress(ValueError):
                self.sockets.remove(socket)
            self.wants.pop(socket, None)
            await self._notify()
        return socket

    async def _answer(self, socket: web.WebSocketResponse, command: dict) -> None:
        id_ = {"id": command["id"]} if "id" in command else {}
        if command["type"] == "auth":
            answer = {"type": "auth.success", "user_id": 1}
            if self.tokens is not None and command["token"] not in self.tokens:
                answer = {"type": "error", "code": "unauthorized", "message": "not a good token"}
            await socket.send_json(answer | id_)
        elif command["type"] == "ping":
            await socket.send_json({"type": "pong", "timestamp": "2026-11-20T07:48:07Z"} | id_)
        elif command["type"] == "unsubscribe":
            self.wants[socket] -= set(command["channels"])
            await socket.send_json({"type": "unsubscribed", "channels": command["channels"]} | id_)
        else:
            await self._subscribe(socket, command, id_)

    async def _subscribe(self, socket: web.WebSocketResponse, command: dict, id_: dict) -> None:
        known = [*self.history, "*"]
        good = [c for c in command["channels"] if c.partition(":")[0] in known]
        names = {c.partition(":")[0] for c in good}
        names = set(self.history) - {"system"} if "*" in names else names
        places = {n: {"epoch": self.epoch, "seq": len(self.history[n])} for n in sorted(names)}
        since = {n: p for n, p in command.get("since", {}).items() if n in names}
        recovered = {n: self._has(n, place) for n, place in since.items()}
        if good:
            ack = {"type": "subscribed", "channels": good, "positions": places}
            more = {"recovered": recovered} if recovered and self.resumes else {}
            terms = {name: command[name] for name in ("max_hz", "raw") if name in command}
            await socket.send_json(ack | terms | more | id_)
        for bad in (c for c in command["channels"] if c not in good):
            refusal = {"type": "error", "code": "unknown_channel", "message": "there is none"}
            await socket.send_json(refusal | {"channel": bad} | id_)
        for name, place in since.items():
            if not recovered[name] and self.resumes:
                await socket.send_json(self._gap(name, place))
        for name in sorted(names):
            begin = since[name]["seq"] if recovered.get(name) and self.resumes else None
            for message in self._snapshot(name) if begin is None else self.history[name][begin:]:
                if _matches(good, name, message):
                    await socket.send_json(message)
        self.wants[socket] |= set(good)

    def _has(self, name: str, place: dict) -> bool:
        return place["epoch"] == self.epoch and self.first_kept <= place["seq"]

    def _gap(self, name: str, place: dict) -> dict:
        same, last = place["epoch"] == self.epoch, len(self.history[name])
        first = place["seq"] + 1 if same else 1
        seqs = (first, last) if first <= last else (None, None)
        gap = {"type": "gap", "channel": name, "instrument": None, "from_seq": seqs[0]}
        gap |= {"to_seq": seqs[1], "reason": "history", "timestamp": "2026-11-20T07:48:07.636Z"}
        return gap | {"data": {"cause": "older than what is kept"}}

    def _snapshot(self, name: str) -> list[dict]:
        newest = {message.get("instrument"): message for message in self.history[name]}
        return [message | {"age_us": 5, "stale": False} for message in newest.values()]

    def next(self, channel: str) -> int:
        return len(self.history[channel]) + 1

    async def publish(self, channel: str = "btc", instrument: str = "BTC/USDT", **fields) -> int:
        """Publish a price; return its number."""
        message = price(self.next(channel), instrument, channel, **fields)
        self.history[channel].append(message)
        for socket in list(self.sockets):
            if _matches(self.wants[socket], channel, message):
                # Who has just gone gets nothing.
                with contextlib.suppress(ConnectionError):
                    await socket.send_json(message)
        return message["seq"]

    async def say(self, message: object) -> None:
        """Send this to everybody as it is."""
        text = message if isinstance(message, str) else json.dumps(message)
        for socket in list(self.sockets):
            await socket.send_str(text)


def _matches(wants: Any, channel: str, message: dict) -> bool:
    instrument = message.get("instrument")
    return not {channel, f"{channel}:{instrument}", f"*:{instrument}"}.isdisjoint(wants)
