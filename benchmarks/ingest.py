"""
From an OKX ticker frame to events, and on to a finished frame for the clients.

    .venv-bench/bin/python benchmarks/ingest.py

Every contestant gets the same recorded frames, as the text that its WebSocket library hands it,
and does what it does with a ticker in production up to the point where the user's code is called.
cryptofeed and ccxt.pro are skipped, with a line that says so, where they are not installed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import report

from aggregator.hub import Hub
from connectors.okx import Ticker

ROUNDS = 7
FRAMES = 40_000


def recorded() -> list[str]:
    """Return every recorded spot ticker frame of OKX, and the instruments in them."""
    frames = []
    for path in sorted((report.RECORDINGS / "okx").glob("*.ndjson")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["dir"] == "in" and '"tickers"' in entry["raw"] and '"data"' in entry["raw"]:
                message = json.loads(entry["raw"])
                # Documentation examples are pretty-printed and mix two instruments.
                if "\n" not in entry["raw"] and message["arg"]["instId"] == "BTC-USDT":
                    frames.append(entry["raw"])
    return frames


def timed(work: Callable[[list[Any]], None], frames: list[Any]) -> Callable[[], float]:
    """Return a measurement: frames per second of CPU time."""

    def once() -> float:
        many = (frames * (FRAMES // len(frames) + 1))[:FRAMES]
        start = time.process_time()
        work(many)
        return FRAMES / (time.process_time() - start)

    return once


def ours_events(frames: list[bytes]) -> None:
    """Frame to events, as the runner does it (`ingest.connection`)."""
    on_frame = ticker().on_frame
    for frame in frames:
        if not frame.isascii():
            frame.decode()
        on_frame(frame)


def ours_frames(frames: list[bytes]) -> None:
    """Frame to events to finished WebSocket frames in the batch of an audience."""
    hub = Hub()
    channel = hub.add_channel("bitcoinprice", "okx", ["BTC/USDT"])

    class Nobody:
        def write(self, data: bytes) -> None:
            pass

    hub.join(Nobody(), frozenset({"bitcoinprice"}))
    on_frame = ticker().on_frame
    for start in range(0, len(frames), 16):
        for frame in frames[start : start + 16]:
            received_us = time.time_ns() // 1000
            if not frame.isascii():
                frame.decode()
            for event in on_frame(frame):
                hub.publish(channel, event, received_us)
        hub.flush()


def ticker() -> Ticker:
    """Return our connector."""
    return Ticker(Ticker.options_type(instruments=["BTC/USDT"]))


def loads_only(frames: list[bytes]) -> None:
    """Decode with orjson alone: what no program that decodes into dictionaries can beat."""
    for frame in frames:
        orjson.loads(frame)


def decode_only(frames: list[bytes]) -> None:
    """Decode with msgspec alone, into dictionaries."""
    decode = msgspec.json.Decoder().decode
    for frame in frames:
        decode(frame)


def cryptofeed_handler() -> Callable[[list[str]], None]:
    """Return cryptofeed's `message_handler`, with a callback that does nothing."""
    from cryptofeed.defines import TICKER
    from cryptofeed.exchanges import OKX
    from cryptofeed.symbols import Symbols

    Symbols.set("OKX", {"BTC-USDT": "BTC-USDT"}, {"instrument_type": {"BTC-USDT": "spot"}})

    async def callback(_ticker: object, _receipt: float) -> None:
        pass

    feed = OKX(symbols=["BTC-USDT"], channels=[TICKER], callbacks={TICKER: callback})

    def work(frames: list[str]) -> None:
        async def run() -> None:
            for frame in frames:
                await feed.message_handler(frame, None, time.time())

        asyncio.run(run())

    return work


def ccxt_handler() -> Callable[[list[str]], None]:
    """Return ccxt.pro's way of a text frame: its JSON parser, then `okx.handle_message`."""
    import ccxt.pro
    from ccxt.async_support.base.ws.client import Client

    def work(frames: list[str]) -> None:
        async def run() -> None:
            exchange = ccxt.pro.okx({"options": {"fetchMarkets": {"types": ["spot"]}}})
            exchange.set_markets(
                [
                    exchange.safe_market_structure(
                        {
                            "id": "BTC-USDT",
                            "symbol": "BTC/USDT",
                            "base": "BTC",
                            "quote": "USDT",
                            "baseId": "BTC",
                            "quoteId": "USDT",
                            "type": "spot",
                            "spot": True,
                        }
                    )
                ]
            )
            nothing = lambda *_: None  # noqa: E731
            client = Client("ws://x", exchange.handle_message, nothing, nothing, nothing)
            for frame in frames:
                client.handle_text_or_binary_message(frame)
            assert exchange.tickers["BTC/USDT"]["last"]
            await exchange.close()

        asyncio.run(run())

    return work


def main() -> None:
    """Measure, and print."""
    text = recorded()
    if not text:
        raise SystemExit(f"no recordings at {report.RECORDINGS}")
    data = [frame.encode() for frame in text]
    works = {
        "ours: frame to events": timed(ours_events, data),
        "ours: frame to finished frame": timed(ours_frames, data),
        "orjson.loads alone": timed(loads_only, data),
        "msgspec.json.decode alone": timed(decode_only, data),
    }
    for name, build in (
        ("cryptofeed 2.4.1 message_handler", cryptofeed_handler),
        ("ccxt.pro okx.handle_message", ccxt_handler),
    ):
        try:
            works[name] = timed(build(), text)
        except ImportError as e:
            print(f"left out: {name}: {e}")
    # What ccxt and cryptofeed have loaded is nobody's to collect, as in a process of one's own.
    gc.collect()
    gc.freeze()
    figures = report.interleaved(works, ROUNDS)
    rows = []
    for name, rates in figures.items():
        rate = report.median(rates)
        ratios = [
            f"{rate / report.median(figures[peer]):.2f}" if peer in figures else "-"
            for peer in ("cryptofeed 2.4.1 message_handler", "ccxt.pro okx.handle_message")
        ]
        rows.append([name, f"{rate:,.0f}", f"{1e6 / rate:.2f}", *ratios])
    report.show(
        "ingest",
        ["work", "frames per CPU second", "us per frame", "x cryptofeed", "x ccxt.pro"],
        rows,
        frames=len(text),
        rounds=ROUNDS,
    )


if __name__ == "__main__":
    main()
