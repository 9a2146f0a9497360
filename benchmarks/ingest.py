"""
From a frame to events, and on to a finished frame for the clients: tickers and trades.

    .venv-bench/bin/python benchmarks/ingest.py

Every contestant gets recorded frames of its own subscription, as the text that its WebSocket
library hands it, and does what it does with them in production up to the point where the user's
code is called. cryptofeed and ccxt.pro are skipped, with a line that says so, where they are not
installed. Of Binance cryptofeed subscribes to `aggTrade`, all others to `trade`.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson
import report

from aggregator.connector import StreamConnector
from aggregator.hub import Hub
from connectors.binance.trades import Trades as BinanceTrades
from connectors.okx.ticker import Ticker
from connectors.okx.trades import Trades as OkxTrades

ROUNDS = 7
FRAMES = 40_000
CRYPTOFEED = "cryptofeed 2.4.1 message_handler"
CCXT = "ccxt.pro handle_message"

Frames = list[str]
Handler = Callable[[Frames], None]


def recorded(folder: str, *wanted: str) -> Frames:
    """Return the recorded frames that contain all of this, on one line as a venue sends them."""
    frames = []
    for path in sorted((report.RECORDINGS / folder).glob("*.ndjson")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            raw = entry["raw"]
            if entry["dir"] == "in" and "\n" not in raw and all(text in raw for text in wanted):
                frames.append(raw)
    return frames


def okx(channel: str) -> Frames:
    """Return the frames of a channel of OKX, of one instrument."""
    about = f'"arg":{{"channel":"{channel}","instId":"BTC-USDT"}}'
    return recorded("okx", about, '"data":[')


def numbered(frames: Frames, pattern: str) -> Frames:
    """Repeat trades, and number them one by one: what was told before would be left out."""
    numbers = itertools.count(1_000_000_000)
    many = frames * (FRAMES // max(1, len(frames)) + 1)
    return [re.sub(pattern, lambda found: f"{found[1]}{next(numbers)}", raw) for raw in many]


@dataclass(frozen=True)
class Case:
    """What is measured: our connector, its frames, and those of cryptofeed where they differ."""

    name: str
    connector: type[StreamConnector]
    frames: Frames
    exchange: str
    symbol: str
    cryptofeeds: Frames


def cases() -> list[Case]:
    """Return all there are."""
    tickers = okx("tickers")
    trades = numbered(okx("trades"), r'("tradeId":")\d+')
    # What was recorded is wrapped for several streams, `{"stream":...,"data":...}`, as cryptofeed
    # and ccxt.pro ask for; our default address is that of events as they are.
    wrapped = numbered(recorded("binance", '"stream":"btcusdt@trade"'), r'("t":)\d+')
    binance = [raw.partition('"data":')[2][:-1] for raw in wrapped]
    aggregated = recorded("binance", '"stream":"btcusdt@aggTrade"')
    return [
        Case("ingest", Ticker, tickers, "okx", "BTC-USDT", tickers),
        Case("ingest-trades-okx", OkxTrades, trades, "okx", "BTC-USDT", trades),
        Case("ingest-trades-binance", BinanceTrades, binance, "binance", "BTCUSDT", aggregated),
    ]


def timed(work: Callable[[list[Any]], None], frames: list[Any]) -> Callable[[], float]:
    """Return a measurement: frames per second of CPU time."""
    many = frames * (FRAMES // len(frames) + 1)

    def once() -> float:
        start = time.process_time()
        work(many)
        return len(many) / (time.process_time() - start)

    return once


def ours_events(case: Case) -> Callable[[list[bytes]], None]:
    """Frame to events, as the runner does it (`ingest.connection`)."""
    options = case.connector.options_type(instruments=["BTC/USDT"])

    def work(frames: list[bytes]) -> None:
        # A new one each time, as for each connection.
        on_frame = case.connector(options).on_frame
        for frame in frames:
            if not frame.isascii():
                frame.decode()
            outputs = on_frame(frame)
            if not isinstance(outputs, list):
                list(outputs)

    return work


class Nobody:
    """A session that takes everything at no cost."""

    @property
    def transport(self) -> Nobody:
        """Return where it takes it."""
        return self

    def write(self, data: bytes) -> None:
        """Take it."""


def ours_frames(case: Case) -> Callable[[list[bytes]], None]:
    """Frame to events to finished WebSocket frames in the batch of an audience."""
    options = case.connector.options_type(instruments=["BTC/USDT"])
    hub = Hub()
    channel = hub.add_channel("feed", case.exchange, ["BTC/USDT"])
    hub.join(Nobody(), frozenset({"feed"}))

    def work(frames: list[bytes]) -> None:
        on_frame, before = case.connector(options).on_frame, channel.seq
        for start in range(0, len(frames), 16):
            for frame in frames[start : start + 16]:
                received_us = time.time_ns() // 1000
                if not frame.isascii():
                    frame.decode()
                for event in on_frame(frame):
                    hub.publish(channel, event, received_us)
            hub.flush()
        assert channel.seq - before == len(frames)

    return work


def loads_only(frames: list[bytes]) -> None:
    """Decode with orjson alone: what no program that decodes into dictionaries can beat."""
    for frame in frames:
        orjson.loads(frame)


def decode_only(frames: list[bytes]) -> None:
    """Decode with msgspec alone, into dictionaries."""
    decode = msgspec.json.Decoder().decode
    for frame in frames:
        decode(frame)


def cryptofeed_handler(case: Case) -> Handler:
    """Return cryptofeed's `message_handler`, with a callback that does nothing."""
    from cryptofeed.defines import TICKER, TRADES
    from cryptofeed.exchanges import OKX, Binance
    from cryptofeed.symbols import Symbols

    feeds: dict[str, Any] = {"okx": OKX, "binance": Binance}
    what = TICKER if case.connector is Ticker else TRADES
    symbols = {"BTC-USDT": case.symbol}
    Symbols.set(case.exchange.upper(), symbols, {"instrument_type": {"BTC-USDT": "spot"}})

    async def callback(_what: object, _receipt: float) -> None:
        pass

    feed = feeds[case.exchange](symbols=["BTC-USDT"], channels=[what], callbacks={what: callback})

    def work(frames: Frames) -> None:
        async def run() -> None:
            for frame in frames:
                await feed.message_handler(frame, None, time.time())

        asyncio.run(run())

    return work


def ccxt_handler(case: Case) -> Handler:
    """Return ccxt.pro's way of a text frame: its JSON parser, then `handle_message`."""
    import ccxt.pro
    from ccxt.async_support.base.ws.client import Client

    def work(frames: Frames) -> None:
        async def run() -> None:
            given = {"options": {"fetchMarkets": {"types": ["spot"]}}}
            exchange = getattr(ccxt.pro, case.exchange)(given)
            ends = {"base": "BTC", "quote": "USDT", "baseId": "BTC", "quoteId": "USDT"}
            market = {"id": case.symbol, "symbol": "BTC/USDT", "type": "spot", "spot": True}
            exchange.set_markets([exchange.safe_market_structure(market | ends)])
            nothing = lambda *_: None  # noqa: E731
            client = Client("ws://x", exchange.handle_message, nothing, nothing, nothing)
            for frame in frames:
                client.handle_text_or_binary_message(frame)
            if case.connector is Ticker:
                assert exchange.tickers["BTC/USDT"]["last"]
            else:
                assert exchange.trades["BTC/USDT"]
            await exchange.close()

        asyncio.run(run())

    return work


def measure(case: Case) -> None:
    """Measure one case, and print."""
    data = [frame.encode() for frame in case.frames]
    works = {
        "ours: frame to events": timed(ours_events(case), data),
        "ours: frame to finished frame": timed(ours_frames(case), data),
        "orjson.loads alone": timed(loads_only, data),
        "msgspec.json.decode alone": timed(decode_only, data),
    }
    for name, build, frames in (
        (CRYPTOFEED, cryptofeed_handler, case.cryptofeeds),
        (CCXT, ccxt_handler, case.frames),
    ):
        try:
            works[name] = timed(build(case), frames)
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
            for peer in (CRYPTOFEED, CCXT)
        ]
        rows.append([name, f"{rate:,.0f}", f"{1e6 / rate:.2f}", *ratios])
    report.show(
        case.name,
        ["work", "frames per CPU second", "us per frame", "x cryptofeed", "x ccxt.pro"],
        rows,
        frames=len(case.frames),
        rounds=ROUNDS,
    )


def main() -> None:
    """Measure everything, and print."""
    for case in cases():
        if not case.frames:
            raise SystemExit(f"no recordings at {report.RECORDINGS}")
        measure(case)


if __name__ == "__main__":
    main()
