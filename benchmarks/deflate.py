"""
What it costs to compress a message, and what it gains; and what a larger window gains.

    .venv-bench/bin/python benchmarks/deflate.py

Every contestant gets the same messages: price updates that our connectors made of what the venues
really sent. Each compresses every message by itself, so that one result serves many clients:
"new" with a compressor for each message, "copy" with a copy of one that was never used, "flush"
with one that is kept and forgets after each message what it has seen (Z_FULL_FLUSH). zlib-ng is
skipped, with a line that says so, where it is not installed.
"""

from __future__ import annotations

import functools
import json
import statistics
import time
import zlib
from collections.abc import Callable, Iterable
from itertools import cycle, islice
from typing import Any

import report
from isal import isal_zlib

from aggregator import wire
from aggregator.connector import Output, Request, translate
from aggregator.deflate import deflated
from aggregator.errors import ConnectorError
from aggregator.model import PriceUpdate
from connectors.binance.rest import Day, OrderBook, Prices
from connectors.coingecko import Global, Top, Trending
from connectors.okx.ticker import Ticker

ROUNDS = 9
TIMED = ("okx.ticker", "binance.prices", "binance.24hr", "binance.orderbook")
MESSAGES = 600
"""Of each kind; with fewer a processor learns them by heart."""
LEVELS = 100
"""Of each side of a book: what the connector asks for."""
START_US = 1_765_211_445_123_456

Compress = Callable[[bytes], bytes]


def tickers() -> Iterable[PriceUpdate]:
    """Yield every recorded ticker of OKX, spot or not."""
    connector = Ticker(Ticker.options_type(instruments=["BTC/USDT", "ETH/USDT"]))
    for path in sorted((report.RECORDINGS / "okx").glob("*.ndjson")):
        for line in path.read_text().splitlines():
            raw = json.loads(line)["raw"]
            # Documentation examples are pretty-printed.
            if '"tickers"' in raw and '"data"' in raw and "\n" not in raw:
                yield from updates(functools.partial(connector.on_frame, raw.encode()))


def prices(kind: type[Day]) -> Iterable[PriceUpdate]:
    """Yield the recorded 24 h ticker of all symbols of Binance."""
    path = report.RECORDINGS / "binance" / "http" / "ticker-24hr-all-2019-08-22.json"
    body = json.loads(path.read_text())["body"]
    symbols = [row["symbol"] for row in json.loads(body)]
    # The names, which the recording does not have.
    markets = [
        {"symbol": s, "status": "TRADING", "baseAsset": s[:-3], "quoteAsset": s[-3:]}
        for s in symbols
    ]
    connector = kind(kind.options_type(instruments="all"))
    names = json.dumps({"symbols": markets}).encode()
    list(connector.on_response(Request("", key="names"), names))
    yield from updates(lambda: connector.on_response(Request(""), body.encode()))


def books() -> Iterable[PriceUpdate]:
    """Yield every recorded order book of Binance, of as many levels as the connector asks for."""
    for path in sorted((report.RECORDINGS / "binance" / "http").glob("depth-*.json")):
        book = json.loads(json.loads(path.read_text())["body"])
        book |= {side: book[side][:LEVELS] for side in ("bids", "asks")}
        body = json.dumps(book, separators=(",", ":")).encode()
        connector = OrderBook(OrderBook.options_type(instruments=["BTC/USDT"]))
        request = Request("", key="BTCUSDT")
        yield from updates(functools.partial(connector.on_response, request, body))


def coins(kind: type[Global | Top | Trending], pattern: str) -> Iterable[PriceUpdate]:
    """Yield what CoinGecko sent, in whatever currency it was recorded."""
    for path in sorted((report.RECORDINGS / "coingecko" / "http").glob(pattern)):
        body = json.loads(path.read_text())["body"].encode()
        connector = kind(kind.options_type())
        yield from updates(functools.partial(connector.on_response, Request(""), body))


def updates(call: Callable[[], Iterable[Output]]) -> list[PriceUpdate]:
    """Return the messages that a connector makes; of what is no answer for it, none."""
    try:
        return [o for o in translate(call) if isinstance(o, PriceUpdate) and o.price]
    except ConnectorError:
        return []


def frames(channel: str, exchange: str, events: Iterable[PriceUpdate]) -> list[bytes]:
    """Return finished frames, each with a number and a time of its own."""
    found = []
    for i, event in enumerate(islice(cycle(events), MESSAGES)):
        us = START_US + i * 131_071
        encode = wire.PriceEncoder(channel, exchange, event.instrument).encode
        found.append(encode(event, 1000 + i, us, us + 157))
    return [frame for frame in found if frame is not None]


def messages() -> dict[str, list[bytes]]:
    """Return frames of each kind."""
    return {
        "okx.ticker": frames("bitcoinprice", "okx", tickers()),
        "binance.prices": frames("binance_prices", "binance", prices(Prices)),
        "binance.24hr": frames("binance_24hr", "binance", prices(Day)),
        "binance.orderbook": frames("binance_orderbook", "binance", books()),
        "coingecko.top": frames("coingecko_top", "coingecko", coins(Top, "*coins-markets*")),
        "coingecko.trending": frames(
            "coingecko_trending", "coingecko", coins(Trending, "*trending*")
        ),
        "coingecko.global": frames("coingecko_global", "coingecko", coins(Global, "*global*")),
    }


def new(library: Any, level: int, memory: int = 8) -> Compress:
    """Return who makes a compressor for each message."""

    def compress(data: bytes) -> bytes:
        one = library.compressobj(level, library.DEFLATED, -15, memory)
        return one.compress(data) + one.flush(library.Z_SYNC_FLUSH)

    return compress


def copy(library: Any, level: int, memory: int = 8) -> Compress:
    """Return who copies a compressor for each message."""
    pristine = library.compressobj(level, library.DEFLATED, -15, memory)

    def compress(data: bytes) -> bytes:
        one = pristine.copy()
        return one.compress(data) + one.flush(library.Z_SYNC_FLUSH)

    return compress


def flush(library: Any, level: int, memory: int = 8) -> Compress:
    """Return who keeps a compressor."""
    one = library.compressobj(level, library.DEFLATED, -15, memory)

    def compress(data: bytes) -> bytes:
        return one.compress(data) + one.flush(library.Z_FULL_FLUSH)

    return compress


def contestants() -> dict[str, Compress]:
    """Return everybody."""
    found = {f"ISA-L, level {n}, flush": flush(isal_zlib, n) for n in range(4)}
    found["ISA-L, level 1, new"] = new(isal_zlib, 1)
    for memory in (1, 4, 8):
        found[f"zlib, level 1, memory {memory}, new"] = new(zlib, 1, memory)
        found[f"zlib, level 1, memory {memory}, flush"] = flush(zlib, 1, memory)
    found["zlib, level 1, memory 8, copy"] = copy(zlib, 1)
    found |= {f"zlib, level {n}, memory 8, flush": flush(zlib, n) for n in (2, 3, 4, 6)}
    try:
        from zlib_ng import zlib_ng
    except ImportError as e:
        print(f"left out: zlib-ng: {e}")
    else:
        found |= {f"zlib-ng, level {n}, flush": flush(zlib_ng, n) for n in (1, 2, 3, 6)}
        found["zlib-ng, level 1, new"] = new(zlib_ng, 1)
    return found


def timed(work: Compress, data: list[bytes]) -> Callable[[], float]:
    """Return a measurement: microseconds of CPU time for a message."""

    def once() -> float:
        start = time.process_time()
        for each in data:
            work(each)
        return (time.process_time() - start) * 1e6 / len(data)

    return once


def windows(framed: dict[str, list[bytes]]) -> None:
    """Print what is left of a message, for each size of the window."""
    rows = []
    for kind, some in framed.items():
        sizes = [sum(len(deflated(f, bits)) for f in some) for bits in range(9, 16)]
        rows.append([kind, *(f"{size / sum(map(len, some)):.3f}" for size in sizes)])
    titles = ["out/in, window of 2 to the", *map(str, range(9, 16))]
    report.show("deflate-windows", titles, rows, messages=MESSAGES)


def main() -> None:
    """Measure, and print."""
    if not report.RECORDINGS.is_dir():
        raise SystemExit(f"no recordings at {report.RECORDINGS}")
    everything = messages()
    windows(everything)
    framed = {kind: everything[kind] for kind in TIMED}
    payloads = {kind: [wire.payload_of(f) for f in some] for kind, some in framed.items()}
    works, shares = {}, {}
    for kind, some in framed.items():
        name = f"{kind} ours: deflated()"
        works[name] = timed(lambda frame: deflated(frame, 15), some)
        shares[name] = sum(len(deflated(f, 15)) for f in some) / sum(map(len, some))
    for name, compress in contestants().items():
        for kind, some in payloads.items():
            works[f"{kind} {name}"] = timed(compress, some)
            # Four octets at the end are not sent.
            sent = sum(len(compress(payload)) - 4 for payload in some)
            shares[f"{kind} {name}"] = sent / sum(map(len, some))
    figures = report.interleaved(works, ROUNDS)
    rows = []
    for name in ["ours: deflated()", *contestants()]:
        row = [name]
        for kind in framed:
            key = f"{kind} {name}"
            row += [f"{report.median(figures[key]):.1f}", f"{shares[key]:.3f}"]
        rows.append(row)
    titles = ["compressor"]
    for kind, some in framed.items():
        titles += [f"{kind} ({statistics.mean(map(len, some)):.0f} B) us", "out/in"]
    report.show("deflate", titles, rows, messages=MESSAGES, rounds=ROUNDS)


if __name__ == "__main__":
    main()
