"""Measures of benchmarks/scoreboard.py that no other benchmark makes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import random
import re
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator

import aiohttp
from daemon import Running, daemon

from aggregator import registry
from aggregator.connector import UNREADABLE, StreamConnector
from aggregator.errors import PayloadError
from aggregator.gateway import protocol
from aggregator.gateway.frames import ProtocolError, Reader
from aggregator.simulator import Simulator

OKX = """
[feeds.prices]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["{url}"]
stale_after_s = 5
"""
POLLED = """
[feeds.polled{number}]
connector = "binance.prices"
base_url = "{url}"
interval_s = 1
"""
CLIENTS = 1000
FUZZED = 100_000
POLLING_S = 60
FEEDS = 10
FRAMES = {
    "okx.ticker": (
        b'{"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
        b'"last":"42150.5","askPx":"42150.6","bidPx":"42150.4","open24h":"42000","vol24h":"1234.5",'
        b'"ts":"1789000000000"}]}'
    ),
    "okx.trades": (
        b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
        b'"tradeId":"7","px":"42150.5","sz":"0.1","side":"buy","ts":"1789000000000","count":"1"}]}'
    ),
    "okx.books": (
        b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":'
        b'[["42150.6","1","0","1"]],"bids":[["42150.4","1","0","1"]],"ts":"1789000000000",'
        b'"checksum":0,"seqId":10,"prevSeqId":-1}]}'
    ),
    "binance.trades": (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1789000000000,"s":"BTCUSDT","t":7,'
        b'"p":"42150.50","q":"0.1","T":1789000000000,"m":true,"M":true}}'
    ),
}
"""One of each, as the venues send them."""


@contextlib.asynccontextmanager
async def listening(
    running: Running, *channels: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Yield a client that is subscribed."""
    url = f"ws://127.0.0.1:{running.port}/ws"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        await ws.send_json({"type": "subscribe", "channels": channels})
        yield ws


def detection(_: argparse.Namespace) -> tuple[str, bool]:
    """Measure how long it takes to see that somebody has gone without a word."""
    seconds = asyncio.run(_detection())
    return " / ".join(f"{each:.0f}" for each in seconds) + " s", all(
        took <= limit for took, limit in zip(seconds, (60, 35, 45), strict=True)
    )


async def _detection() -> list[float]:
    async with Simulator(ticks_per_s=20) as simulator:
        with daemon(OKX.format(url=simulator.okx_url)) as running:
            found = [
                await _until_not_live(running, simulator, "halfopen"),
                await _until_not_live(running, simulator, "mute"),
            ]
            # Longer than a ping and its pong.
            found.append(await _until_given_up(running))
    return found


async def _until_not_live(running: Running, simulator: Simulator, kind: str) -> float:
    async with listening(running, "system", "prices") as ws:
        async for message in ws:
            if '"price_update"' in message.data:
                break
        start = time.monotonic()
        simulator.faults.add(venue="okx", kind=kind)
        async for message in ws:
            text = json.loads(message.data)
            state = text.get("data", {}).get("state") if text["type"] == "system_status" else None
            if state in {"stale", "down", "connecting"} and text["data"]["instrument"] is None:
                break
        took = time.monotonic() - start
        simulator.faults.clear()
        async for message in ws:
            if '"live"' in message.data:
                break
    return took


async def _until_given_up(running: Running) -> float:
    """Connect, and answer nothing; return when the daemon ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    start = time.monotonic()
    while await reader.read(4096):
        pass
    writer.close()
    return time.monotonic() - start


def stop(_: argparse.Namespace) -> tuple[str, bool]:
    """Stop with a thousand clients."""
    codes, took = asyncio.run(_stop())
    text = ", ".join(f"{count} x {code}" for code, count in codes.most_common())
    return f"{took:.1f} s, {text}", took <= 5 and codes == {1001: CLIENTS}


async def _stop() -> tuple[Counter[int | None], float]:
    async with Simulator(ticks_per_s=20) as simulator:
        with daemon(OKX.format(url=simulator.okx_url)) as running:
            url = f"ws://127.0.0.1:{running.port}/ws"
            connector = aiohttp.TCPConnector(limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                sockets = [await session.ws_connect(url) for _ in range(CLIENTS)]
                for ws in sockets:
                    await ws.send_json({"type": "subscribe", "channels": ["prices"]})
                start = time.monotonic()
                running.signal(signal.SIGTERM)

                async def code(ws: aiohttp.ClientWebSocketResponse) -> int | None:
                    async for _ in ws:
                        pass
                    return ws.close_code

                codes = Counter(await asyncio.gather(*map(code, sockets)))
                took = time.monotonic() - start
    return codes, took


def polls(_: argparse.Namespace) -> tuple[str, bool]:
    """Count the polls that are missed while both cores are busy."""
    missed, all_ = asyncio.run(_polls())
    return f"{missed} of {all_}", missed <= FEEDS


async def _polls() -> tuple[int, int]:
    async with Simulator() as simulator:
        feeds = (POLLED.format(number=n, url=simulator.binance_url) for n in range(FEEDS))
        with daemon("[budgets.binance]\nper_minute = 0\n" + "".join(feeds)) as running:
            burners = [multiprocessing.Process(target=_burn, daemon=True) for _ in range(2)]
            for each in burners:
                each.start()
            before, start = _count(running), time.monotonic()
            await asyncio.sleep(POLLING_S)
            made, wanted = _count(running) - before, FEEDS * (time.monotonic() - start)
            for each in burners:
                each.kill()
    # One of each feed may be on its way, at either end.
    return max(0, round(wanted - made)), round(wanted)


def _burn() -> None:
    while True:
        pass


def _count(running: Running) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics") as page:
        lines = page.read().decode()
    counts = re.findall(r"^aggregator_feed_polls_total\{.*\} (\S+)", lines, re.MULTILINE)
    return sum(int(float(count)) for count in counts)


def fuzz(_: argparse.Namespace) -> tuple[str, bool]:
    """Try bad input: commands, frames of clients, frames of venues; nothing else is raised."""
    chance = random.Random(2026)
    tried = 0
    for _ in range(FUZZED // 2):
        tried += 1
        with contextlib.suppress(protocol.Refusal):
            protocol.decode(
                _spoiled(chance, b'{"type":"subscribe","channels":["a:B/C"],"max_hz":2,"id":1}')
            )
    for _ in range(FUZZED // 4):
        tried += 1
        reader = Reader(65_536)
        with contextlib.suppress(ProtocolError):
            for _ in reader.feed(_spoiled(chance, b"\x81\x85\x00\x00\x00\x00hello")):
                pass
    for name, frame in FRAMES.items():
        cls = registry.load(name)
        assert issubclass(cls, StreamConnector)
        for _ in range(FUZZED // 4 // len(FRAMES)):
            tried += 1
            spoiled = _spoiled(chance, frame)
            connector = cls(cls.options_type(instruments=["BTC/USDT"]))
            # As the runner does it: what is no text does not get there.
            with contextlib.suppress(PayloadError, *UNREADABLE):
                spoiled.decode()
                list(connector.on_frame(spoiled))
    return f"{tried:,}", tried >= FUZZED


def _spoiled(chance: random.Random, text: bytes) -> bytes:
    data = bytearray(text)
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        if chance.random() < 0.5 and at < len(data):
            data[at] = chance.randrange(256)
        elif chance.random() < 0.5:
            data[at:at] = chance.choice([b"{", b"[", b'"', b"1e999", b"null", b"\x00", b"\xff"])
        else:
            del data[at : at + chance.randrange(1, 9)]
    return bytes(data)
