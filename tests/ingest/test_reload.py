"""A changed configuration of a streamed feed: a second connection has it, and takes over."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from ingest.test_rotation_at_venues import OKX, feed, follows, hold, running, ticker, until

from aggregator.simulator import Simulator


@pytest.fixture
async def simulator():
    async with Simulator(ticks_per_s=50) as simulator:
        yield simulator


def changed(ingest, name: str, **options: object):
    """Return the configuration with other options of a feed."""
    feeds = tuple(
        replace(f, options=f.options.model_copy(update=options)) if f.name == name else f
        for f in ingest._config.feeds
    )
    return replace(ingest._config, feeds=feeds)


def rotated(ingest, name: str) -> int:
    return ingest.statuses[name].counters.rotations.get("config", 0)


async def test_nothing_is_missing_while_it_changes(simulator, monkeypatch):
    """Instruments come and go; of those that stay every message comes, once, in order."""
    async with running(simulator, monkeypatch, lambda: 0.0, ((100, 1.0),)) as parts:
        ingest, system, ears, truth = parts
        await until(lambda: all(len(ear.messages) > 5 for ear in ears.values()))
        both = ["BTC/USDT", "ETH/USDT"]
        assert ingest.reload(changed(ingest, "tickers", instruments=both)) == []
        await until(lambda: rotated(ingest, "tickers") == 1)
        channel = ears["tickers"].messages
        await until(lambda: any(m["instrument"] == "ETH/USDT" for m in channel))
        assert ingest.reload(changed(ingest, "tickers", instruments=["BTC/USDT"])) == []
        await until(lambda: rotated(ingest, "tickers") == 2)
        count = len(channel)
        await until(lambda: len(channel) > count + 20)
        assert {m["instrument"] for m in channel[count + 1 :]} == {"BTC/USDT"}
        told = [m["data"] for m in channel if m["instrument"] == "BTC/USDT"]
        # The first is what the venue says at once to who subscribes.
        assert follows([ticker(row) for row in told[1:]], truth.tickers)
        said = [m["data"]["state"] for m in system.messages if m["data"]["feed"] == "tickers"]
        assert said == ["live", "unknown_instrument"]


async def test_depth_of_books(simulator, monkeypatch):
    """Clients hold the book before and after; another feed is left alone."""
    async with running(simulator, monkeypatch, lambda: 0.0, ((100, 1.0),)) as parts:
        ingest, _, ears, truth = parts
        books = ears["books"].messages
        await until(lambda: len(books) > 5)
        assert ingest.reload(changed(ingest, "books", depth=5)) == []
        await until(lambda: rotated(ingest, "books") == 1)
        count = len(books)
        await until(lambda: len(books) > count + 10)
        hold(books[: count - 1], truth.books)
        snapshot = next(m for m in books[count - 1 :] if m["action"] == "snapshot")
        assert len(snapshot["data"]["bids"]) == 5
        assert rotated(ingest, "tickers") == 0


async def test_what_needs_a_restart_is_named(simulator, monkeypatch):
    """A feed that is new, gone, or of another connector; nothing is done about those."""
    async with running(simulator, monkeypatch, lambda: 0.0, ((100, 1.0),)) as parts:
        ingest, _, ears, _ = parts
        await until(lambda: all(ear.messages for ear in ears.values()))
        tickers, trades, books = ingest._config.feeds
        new = feed(simulator, simulator.port, "more", *OKX["tickers"])
        other = replace(new, name="trades")
        config = replace(ingest._config, feeds=(other, books, new))
        assert sorted(ingest.reload(config)) == ["feeds.more", "feeds.tickers", "feeds.trades"]
        assert [f.name for f in ingest._config.feeds] == [tickers.name, trades.name, books.name]
        await asyncio.sleep(0)
        assert not any(rotated(ingest, name) for name in ears)
