"""A small OKX for benchmarks/private_push.py: tickers, as many as are asked for, and accounts."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

import uvloop
from aiohttp import web

from aggregator.simulator.connection import frame

TICK_S = 0.001
ROW = (
    '{"arg":{"channel":"tickers","instId":"%s"},"data":[{"instType":"SPOT","instId":"%s",'
    '"last":"%d.%02d","lastSz":"0.01","askPx":"%d.60","askSz":"1.1","bidPx":"%d.10","bidSz":"0.9",'
    '"open24h":"41000.1","high24h":"43000.5","low24h":"40000.2","volCcy24h":"22000000.5",'
    '"vol24h":"512.25","ts":"%d","sodUtc0":"41000.1","sodUtc8":"41000.2"}]}'
)
ACCOUNT = {"uTime": "1795161360598", "details": []}


class Venue:
    """Everything that listens, and who is connected."""

    def __init__(self) -> None:
        self.readers: dict[str, Any] = {}
        self.accounts: dict[str, Any] = {}
        self.sent = 0
        self.events = 0

    def application(self) -> web.Application:
        """Return what serves it."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/public", self._public),
                web.get("/private", self._private),
                web.get("/api/v5/{tail:.*}", self._answer),
            ]
        )
        return app

    async def _answer(self, request: web.Request) -> web.Response:
        rows = [ACCOUNT] if request.path.endswith("balance") else []
        return web.json_response({"code": "0", "msg": "", "data": rows})

    async def _public(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.data == "ping":
                await socket.send_str("pong")
                continue
            asked = json.loads(message.data)
            for arg in asked["args"]:
                self.readers[arg["instId"]] = request.transport
                answer = {"event": "subscribe", "arg": arg, "id": asked.get("id")}
                await socket.send_json(answer)
        return socket

    async def _private(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        async for message in socket:
            if message.data == "ping":
                await socket.send_str("pong")
                continue
            asked = json.loads(message.data)
            if asked["op"] == "login":
                self.accounts[asked["args"][0]["apiKey"]] = request.transport
                await socket.send_json({"event": "login", "code": "0", "msg": ""})
                continue
            for arg in asked["args"]:
                await socket.send_json({"event": "subscribe", "arg": arg})
        return socket

    async def feed(self, per_s: int) -> None:
        """Send tickers, evenly over all instruments and time."""
        names, at = sorted(self.readers), 0
        start = time.monotonic()
        while True:
            due = int((time.monotonic() - start) * per_s)
            batches: dict[Any, list[bytes]] = {}
            stamp = time.time_ns() // 1_000_000
            while self.sent < due:
                at = (at + 1) % len(names)
                name, price = names[at], 42_000 + self.sent % 997
                text = ROW % (name, name, price, self.sent % 100, price, price, stamp)
                batches.setdefault(self.readers[name], []).append(frame(text.encode()))
                self.sent += 1
            for transport, frames in batches.items():
                transport.write(b"".join(frames))
            await asyncio.sleep(TICK_S)

    async def trade(self, per_s: float) -> None:
        """Send fills at random moments to random accounts; each has in it when it was sent."""
        rng = random.Random(7)
        transports = list(self.accounts.values())
        while True:
            await asyncio.sleep(rng.expovariate(per_s))
            self.events += 1
            row = self._row(self.events)
            rng.choice(transports).write(frame(row))

    def _row(self, number: int) -> bytes:
        now_ms = str(time.time_ns() // 1_000_000)
        row = {"instType": "SPOT", "instId": "BTC-USDT", "ordId": str(10**15 + number)}
        row |= {"side": "buy", "ordType": "limit", "state": "filled", "px": "42000.1", "sz": "0.5"}
        row |= {"accFillSz": "0.5", "avgPx": "42000.1", "fillPx": "42000.1", "fillSz": "0.5"}
        row |= {"tradeId": str(number), "fillTime": now_ms, "fillFee": "-0.0005"}
        row |= {"fillFeeCcy": "BTC", "execType": "M", "uTime": now_ms, "tgtCcy": ""}
        # What the owner's end is compared with: one clock for all processes of a machine.
        row["clOrdId"] = str(time.monotonic_ns())
        return json.dumps({"arg": {"channel": "orders", "uid": "1"}, "data": [row]}).encode()


async def main() -> None:
    """Listen; then a line of JSON for each that comes over standard input."""
    venue = Venue()
    runner = web.AppRunner(venue.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    tasks: set[asyncio.Task[None]] = set()
    while line := await asyncio.to_thread(sys.stdin.readline):
        word, *numbers = line.split()
        if word == "feed":
            tasks.add(asyncio.create_task(venue.feed(int(numbers[0]))))
            tasks.add(asyncio.create_task(venue.trade(float(numbers[1]))))
        counts = {"readers": len(venue.readers), "accounts": len(venue.accounts)}
        print(json.dumps(counts | {"sent": venue.sent, "events": venue.events}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
