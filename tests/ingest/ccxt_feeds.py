"""Feeds by ccxt, at a simulator or hearing what a test says."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from ingest.doubles import Ear

from aggregator import registry
from aggregator.config import Config, Feed, Server
from aggregator.hub import Hub
from aggregator.ingest.feeds import Ingest
from connectors.any_exchange.exchange import opened

CLOSE_S = 1.0
MARKETS = {
    "binance": ("BTC/USDT", "BTCUSDT"),
    "bitfinex": ("ETH/USD", "tETHUSD"),
    "bybit": ("BTC/USDT", "BTCUSDT"),
    "coinbase": ("BTC/USD", "BTC-USD"),
    "kraken": ("BTC/USD", "XXBTZUSD"),
    "okx": ("BTC/USDT", "BTC-USDT"),
}
"""By exchange: the instrument, and the exchange's name of it."""


class Bench:
    """A feed whose exchange hears what a test says."""

    def __init__(self, kind, exchange, **options):
        self.symbol, name = MARKETS[exchange]
        cls = registry.load(f"ccxt.{kind}")
        given = {"exchange": exchange, "instruments": [self.symbol], **options}
        self.feed = cls(cls.options_type(**given))
        self.outputs = []
        self.feed._emit = self.outputs.extend
        self.feed._lost = asyncio.get_running_loop().create_future()
        self.ccxt = self.feed.ccxt = opened(self.feed.options, self.feed)
        base, quote = self.symbol.split("/")
        market = {"id": name, "symbol": self.symbol, "base": base, "quote": quote}
        market |= {"baseId": base, "quoteId": quote, "type": "spot", "spot": True, "active": True}
        self.ccxt.set_markets([self.ccxt.safe_market_structure(market)])
        self.feed.symbols = {self.symbol: None}
        self.line = self.ccxt.client(f"wss://{exchange}.example/stream/spot")

    def hears(self, *frames):
        """Return what these frames mean."""
        before = len(self.outputs)
        for frame in frames:
            self.line.handle_text_or_binary_message(frame)
        if self.feed._lost.done():
            raise self.feed._lost.result()
        return self.outputs[before:]


def section(simulator, exchange, **options):
    """Return the section of a feed that has ccxt's exchange at the simulator."""
    address = f"127.0.0.1:{simulator.port}"
    if exchange == "okx":
        api = {"rest": f"http://{address}/okx", "ws": f"ws://{address}/okx/ws/v5"}
    else:
        # ccxt tells spot by "/stream" in the address.
        ws = {"spot": f"ws://{address}/binance/stream/ws"}
        api = {"public": f"http://{address}/binance/api/v3", "ws": ws}
    given = {"exchange": exchange, "instruments": ["BTC/USDT"], "urls": {"api": api}}
    return given | {"interval_s": 0.2} | options


@asynccontextmanager
async def running(kind, given):
    """Run one feed; afterwards nothing of it may be left, and it may not take long to end."""
    hub = Hub()
    cls = registry.load(f"ccxt.{kind}")
    feed = Feed("feed", f"ccxt.{kind}", cls, cls.options_type(**given))
    system = Ear(hub, hub.system)
    ingest = Ingest(hub, Config("test", Server(), (feed,)))
    ear = Ear(hub, hub.channels["feed"])
    before = asyncio.all_tasks()
    task = asyncio.create_task(ingest.run())
    try:
        yield ear, system, ingest.statuses["feed"]
    finally:
        stopped = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - stopped < CLOSE_S
    # What is cancelled ends with the loop's next turns.
    for _ in range(5):
        await asyncio.sleep(0)
    # Not the simulator's own.
    left = {t for t in asyncio.all_tasks() - before if "aiohttp/web_" not in repr(t)}
    assert left == set()


async def watched(simulator, exchange, word):
    """Wait until ccxt has subscribed."""
    async with asyncio.timeout(10):
        await simulator.wait_for_command(exchange, word)


def asked(simulator, exchange, path):
    """Return the requests for a path so far."""
    return [r for r in simulator.requests if r.venue == exchange and r.path_qs.startswith(path)]
