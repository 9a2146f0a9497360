"""
What a poll of 3,000 instruments does to the messages of a stream.

    .venv-bench/bin/python benchmarks/poll_stall.py

The real daemon, pinned to one core, gets 500 OKX ticker frames a second and, with the poll, every
2 s the 24 h tickers of all of Binance: 3,000 rows of recorded traffic, some 1.8 MB. One client
times the stream's messages from the venue's `send` to its own `recv`; another subscribes to the
polled channel and reads it all. Venues and clients are processes of their own, on the other core.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import time
from multiprocessing.connection import Connection

import orjson
import report
from aiohttp import ClientSession, WSMsgType, web
from daemon import daemon

ROUNDS = 3
SECONDS = 12.0
RATE = 500
INTERVAL_S = 2.0
ROWS = 3000


def binance_body() -> tuple[bytes, bytes]:
    """Return an exchangeInfo and a `ticker/24hr` of `ROWS` rows, made of recorded ones."""
    path = report.RECORDINGS / "binance/http/ticker-24hr-all-2019-08-22.json"
    recorded = orjson.loads(orjson.loads(path.read_bytes())["body"])
    rows, symbols = [], []
    for n in range(ROWS):
        symbol = f"C{n}USDT"
        rows.append(recorded[n % len(recorded)] | {"symbol": symbol})
        symbols.append(
            {"symbol": symbol, "status": "TRADING", "baseAsset": f"C{n}", "quoteAsset": "USDT"}
        )
    return orjson.dumps({"symbols": symbols, "rateLimits": []}), orjson.dumps(rows)


async def serve_binance(pipe: Connection) -> None:
    """Be Binance."""
    info, tickers = binance_body()
    app = web.Application()
    json_type = {"Content-Type": "application/json"}

    async def exchange_info(_: web.Request) -> web.Response:
        return web.Response(body=info, headers=json_type)

    async def ticker(_: web.Request) -> web.Response:
        return web.Response(body=tickers, headers=json_type)

    app.router.add_get("/api/v3/exchangeInfo", exchange_info)
    app.router.add_get("/api/v3/ticker/24hr", ticker)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pipe.send((runner.addresses[0][1], len(tickers)))
    port = await asyncio.to_thread(pipe.recv)
    await read_all(port, "binance_24hr")


async def read_all(port: int, channel: str) -> None:
    """Be a client that reads everything."""
    while True:
        with contextlib.suppress(OSError):
            url = f"ws://127.0.0.1:{port}/ws"
            async with ClientSession() as session, session.ws_connect(url) as ws:
                await ws.send_json({"type": "subscribe", "channels": [channel]})
                async for _ in ws:
                    pass
        await asyncio.sleep(0.2)


def binance_process(pipe: Connection) -> None:
    """Run Binance and a client of its channel."""
    with contextlib.suppress(KeyboardInterrupt, EOFError):
        asyncio.run(serve_binance(pipe))


async def okx(request: web.Request) -> web.WebSocketResponse:
    """Be OKX: acknowledge, then send at `RATE`, each frame with the time of its sending."""
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    subscribe = await ws.receive_json()
    arg = subscribe["args"][0]
    await ws.send_json({"id": subscribe["id"], "event": "subscribe", "arg": arg, "connId": "1"})
    loop = asyncio.get_running_loop()
    due = loop.time()
    row = {"instType": "SPOT", "instId": "BTC-USDT", "last": "29934", "askPx": "29934.1"}
    row |= {"bidPx": "29934", "vol24h": "9935.14546361", "ts": "1654166073135"}
    while not ws.closed:
        due += 1 / RATE
        await asyncio.sleep(due - loop.time())
        row["sodUtc0"] = str(time.monotonic_ns())
        with contextlib.suppress(ConnectionError):
            await ws.send_str(json.dumps({"arg": arg, "data": [row]}))
    return ws


async def latencies(port: int) -> list[float]:
    """Return how long each message of the stream took, in ms."""
    taken = []
    async with ClientSession() as session, session.ws_connect(f"ws://127.0.0.1:{port}/ws") as ws:
        await ws.send_json({"type": "subscribe", "channels": ["bitcoinprice"]})
        end = time.monotonic() + SECONDS
        async for message in ws:
            now = time.monotonic_ns()
            if message.type is WSMsgType.TEXT and '"sodUtc0": "' in message.data:
                sent = int(message.data.partition('"sodUtc0": "')[2].partition('"')[0])
                taken.append((now - sent) / 1e6)
            if time.monotonic() > end:
                break
    return taken[RATE:]


async def measure(okx_port: int, binance_port: int | None, pipe: Connection | None) -> list[float]:
    """Return the latencies with, or without, the poll."""
    config = f"""
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:{okx_port}/ws/v5/public"]
"""
    if binance_port is not None:
        config += f"""
[feeds.binance_24hr]
connector = "binance.24hr"
instruments = "all"
interval_s = {INTERVAL_S}
base_url = "http://127.0.0.1:{binance_port}"
"""
    with daemon(config, core=0) as running:
        if pipe is not None:
            pipe.send(running.port)
        return await latencies(running.port)


async def main() -> None:
    """Measure, and print."""
    os.sched_setaffinity(0, {1})
    app = web.Application()
    app.router.add_get("/ws/v5/public", okx)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    okx_port = runner.addresses[0][1]
    taken: dict[str, list[list[float]]] = {"without the poll": [], "with the poll": []}
    size = 0
    for _ in range(ROUNDS):
        taken["without the poll"].append(await measure(okx_port, None, None))
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=binance_process, args=(theirs,), daemon=True)
        process.start()
        port, size = await asyncio.to_thread(ours.recv)
        taken["with the poll"].append(await measure(okx_port, port, ours))
        process.terminate()
        process.join()
    await runner.cleanup()
    rows = []
    for name, rounds in taken.items():
        at = [
            report.median([sorted(r)[min(len(r) - 1, int(len(r) * q))] for r in rounds])
            for q in (0.5, 0.99, 0.999, 1.0)
        ]
        rows.append([name, *(f"{value:.2f}" for value in at), sum(map(len, rounds))])
    report.show(
        "poll_stall",
        ["OKX messages, ms", "p50", "p99", "p99.9", "max", "messages"],
        rows,
        rounds=ROUNDS,
        poll_rows=ROWS,
        poll_bytes=size,
    )


if __name__ == "__main__":
    asyncio.run(main())
