"""
From a frame to a finished frame for the clients, by ccxt: what the connectors `ccxt.*` cost.

    .venv-bench/bin/python benchmarks/any_exchange.py

The frames are those of benchmarks/ingest.py. Beside them stand ccxt.pro's own handler, whose work
is part of it, and our connector of that venue.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import ingest
import report
from ingest import Case, Frames

from aggregator.config import Feed
from aggregator.driver import DriverConnector
from aggregator.hub import Hub
from aggregator.ingest.dial import DialLimiter
from aggregator.ingest.driver import Driver
from aggregator.ingest.freshness import FeedStatus
from connectors.any_exchange.exchange import closed, opened
from connectors.any_exchange.feed import CcxtFeed
from connectors.any_exchange.ticker import Ticker
from connectors.any_exchange.trades import Trades

KINDS: dict[str, type[CcxtFeed]] = {
    "ingest": Ticker,
    "ingest-trades-okx": Trades,
    "ingest-trades-binance": Trades,
}
INSTRUMENT = "BTC/USDT"


def by_ccxt(case: Case) -> Callable[[Frames], None]:
    """Frame to events to finished WebSocket frames, with the real runner and the real hub."""
    cls: type[DriverConnector] = KINDS[case.name]
    options = cls.options_type(exchange=case.exchange, instruments=[INSTRUMENT])
    hub = Hub()
    channel = hub.add_channel("feed", case.exchange, [INSTRUMENT])
    hub.join(ingest.Nobody(), frozenset({"feed"}))

    async def run(frames: Frames) -> None:
        status = FeedStatus(channel, hub, stale_after_s=30.0)
        driver = Driver(Feed("feed", "ccxt", cls, options), channel, hub, status, DialLimiter())
        # Without its I/O: what `run` prepares is put into place here.
        feed = driver._connector  # noqa: SLF001
        assert isinstance(feed, CcxtFeed)
        feed._emit = driver._take  # noqa: SLF001
        feed._lost = asyncio.get_running_loop().create_future()  # noqa: SLF001
        feed.ccxt = exchange = opened(feed.options, feed)
        ends = {"base": "BTC", "quote": "USDT", "baseId": "BTC", "quoteId": "USDT"}
        market = {"id": case.symbol, "symbol": INSTRUMENT, "type": "spot", "spot": True}
        exchange.set_markets([exchange.safe_market_structure(market | ends)])
        feed.symbols = {INSTRUMENT: None}
        line = exchange.client("ws://x/stream")
        before = channel.seq
        for start in range(0, len(frames), 16):
            for frame in frames[start : start + 16]:
                line.handle_text_or_binary_message(frame)
            hub.flush()
        assert channel.seq - before == len(frames), status.counters.errors
        await closed(exchange)

    return lambda frames: asyncio.run(run(frames))


def main() -> None:
    """Measure everything, and print."""
    rows = []
    for case in ingest.cases():
        if not case.frames:
            raise SystemExit(f"no recordings at {report.RECORDINGS}")
        data = [frame.encode() for frame in case.frames]
        works = {
            f"{case.exchange}, ccxt.{KINDS[case.name].__name__.lower()}": ingest.timed(
                by_ccxt(case), case.frames
            ),
            f"{case.exchange}, ccxt.pro handle_message": ingest.timed(
                ingest.ccxt_handler(case), case.frames
            ),
            f"{case.exchange}, {case.connector.__name__} of its own": ingest.timed(
                ingest.ours_frames(case), data
            ),
        }
        gc.collect()
        gc.freeze()
        for name, rates in report.interleaved(works, ingest.ROUNDS).items():
            rate = report.median(rates)
            rows.append([name, f"{rate:,.0f}", f"{1e6 / rate:.1f}"])
    report.show(
        "any-exchange",
        ["work", "frames per CPU second", "us per frame"],
        rows,
        rounds=ingest.ROUNDS,
    )


if __name__ == "__main__":
    main()
