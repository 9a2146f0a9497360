"""A changed configuration: feeds come, go and change, and the others notice nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from ingest.test_rotation_at_venues import OKX, feed, follows, hold, running, ticker, until

from aggregator.config import BudgetLimits, Config, Feed, Server
from aggregator.hub import Hub
from aggregator.ingest.feeds import Ingest
from aggregator.registry import load
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


async def nobody(name: str) -> None:
    """End the subscriptions to a channel that nobody has."""


def rotated(ingest, name: str) -> int:
    return ingest.statuses[name].counters.rotations.get("config", 0)


async def test_nothing_is_missing_while_it_changes(simulator, monkeypatch):
    """Instruments come and go; of those that stay every message comes, once, in order."""
    async with running(simulator, monkeypatch, lambda: 0.0, ((100, 1.0),)) as parts:
        ingest, system, ears, truth = parts
        await until(lambda: all(len(ear.messages) > 5 for ear in ears.values()))
        both = ["BTC/USDT", "ETH/USDT"]
        await ingest.reload(changed(ingest, "tickers", instruments=both), nobody)
        await until(lambda: rotated(ingest, "tickers") == 1)
        channel = ears["tickers"].messages
        await until(lambda: any(m["instrument"] == "ETH/USDT" for m in channel))
        await ingest.reload(changed(ingest, "tickers", instruments=["BTC/USDT"]), nobody)
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
        await ingest.reload(changed(ingest, "books", depth=5), nobody)
        await until(lambda: rotated(ingest, "books") == 1)
        count = len(books)
        await until(lambda: len(books) > count + 10)
        hold(books[: count - 1], truth.books)
        snapshot = next(m for m in books[count - 1 :] if m["action"] == "snapshot")
        assert len(snapshot["data"]["bids"]) == 5
        assert rotated(ingest, "tickers") == 0


async def test_feeds_come_and_go(simulator, monkeypatch):
    """One that is new has data, one that is gone has no channel, the others notice nothing."""
    async with running(simulator, monkeypatch, lambda: 0.0, ((100, 1.0),)) as parts:
        ingest, system, ears, _ = parts
        await until(lambda: all(ear.messages for ear in ears.values()))
        tickers, trades, books = ingest.feeds
        new = feed(simulator, simulator.port, "more", *OKX["tickers"])
        ended = []

        async def dismiss(name):
            hub = ingest._hub
            assert not hub.find(name)
            assert name in hub.channels
            ended.append(name)

        await ingest.reload(replace(ingest._config, feeds=(books, new, trades)), dismiss)
        assert ended == ["tickers"]
        assert "tickers" not in ingest._hub.channels.keys() | ingest.statuses.keys()
        told = [m["data"] for m in system.messages if m["data"]["feed"] == "tickers"]
        assert (told[-1]["state"], told[-1]["reason"]) == ("down", "it is no longer configured")
        assert "tickers" not in ingest._hub.system.slots
        await until(lambda: ingest.statuses["more"].state == "live")
        counts = [ingest.statuses[name].counters.reconnects for name in ("trades", "books")]
        assert counts == [0, 0]
        count, gone = len(ears["trades"].messages), len(ears["tickers"].messages)
        await until(lambda: len(ears["trades"].messages) > count + 10)
        assert len(ears["tickers"].messages) == gone
        assert not any(task.get_name() == "stream tickers" for task in asyncio.all_tasks())

        # Back again its numbers go on: the same one is never used twice in an epoch.
        seq = ears["tickers"].messages[-1]["seq"]
        await ingest.reload(replace(ingest._config, feeds=(books, tickers)), dismiss)
        channel = ingest._hub.channels["tickers"]
        await until(lambda: channel.seq > seq)
        assert channel.begun == seq


async def test_another_connector_is_another_feed(simulator, monkeypatch):
    """Under the same name: who was subscribed is told, and the new one runs."""
    async with running(simulator, monkeypatch, lambda: 0.0, ((100, 1.0),)) as parts:
        ingest, _, ears, _ = parts
        await until(lambda: all(ear.messages for ear in ears.values()))
        tickers, _, books = ingest.feeds
        other = replace(tickers, name="trades")
        ended = []

        async def dismiss(name):
            ended.append(name)

        await ingest.reload(replace(ingest._config, feeds=(tickers, other, books)), dismiss)
        assert ended == ["trades"]
        values = ingest._hub.channels["trades"].values
        await until(lambda: b"price_update" in b"".join(m.frame for m in values()))


@pytest.fixture
async def polling(simulator):
    """Yield the sides of two polled feeds of one venue, running."""
    hub = Hub(history=1000)
    feeds = tuple(
        polled(simulator, name, connector, interval_s=0.1)
        for name, connector in (("prices", "binance.prices"), ("day", "binance.24hr"))
    )
    ingest = Ingest(hub, Config("test", Server(), feeds))
    task = asyncio.create_task(ingest.run())
    await until(lambda: all(status.state == "live" for status in ingest.statuses.values()))
    yield hub, ingest
    task.cancel()
    await asyncio.wait([task])


def polled(simulator, name: str, connector: str, **options: object) -> Feed:
    cls = load(connector)
    return Feed(name, connector, cls, cls.options_type(base_url=simulator.binance_url, **options))


async def test_a_polled_feed_changes(simulator, polling):
    """Its channel stays, with what is listed now; how often it polls is as configured."""
    hub, ingest = polling
    day = ingest.feeds[1]
    channel, seq = hub.channels["prices"], hub.channels["prices"].seq
    new = polled(simulator, "prices", "binance.prices", interval_s=0.05, instruments=["BTC/USDT"])
    await ingest.reload(replace(ingest._config, feeds=(new, day)), nobody)
    assert hub.channels["prices"] is channel
    assert channel.instruments == {"BTC/USDT"}
    await until(lambda: channel.seq > seq + 3)
    assert [message.slot.instrument for message in channel.values()] == ["BTC/USDT"]
    assert len([e for e in ingest._schedule._entries if e.poller.name == "prices"]) == 1
    assert ingest._runners["prices"].interval_s == 0.05

    polls = ingest.statuses["prices"].counters.polls
    await ingest.reload(replace(ingest._config, feeds=(day,)), nobody)
    days = ingest.statuses["day"].counters
    before = days.polls
    await until(lambda: days.polls > before + 3)
    assert polls > 0
    assert "prices" not in hub.channels
    assert [e.poller.name for e in ingest._schedule._entries] == ["day"]


async def test_limits_of_a_venue_change(simulator, polling):
    """What went in the last minute still counts; a feed that is gone wants nothing more."""
    hub, ingest = polling
    del hub
    [budget] = ingest.budgets
    left, limit = budget.left, budget.limits.per_minute
    budgets = {"binance": BudgetLimits(per_minute=limit + 1000)}
    await ingest.reload(replace(ingest._config, budgets=budgets), nobody)
    assert [budget] == list(ingest.budgets)
    assert left < limit
    assert limit < budget.left < limit + 1000
    planned = budget._wants()[0][0]
    day = ingest.feeds[1]
    await ingest.reload(replace(ingest._config, feeds=(day,)), nobody)
    assert budget._wants()[0][0] < planned
    budgets = {"binance": BudgetLimits(per_minute=0)}
    await ingest.reload(replace(ingest._config, budgets=budgets), nobody)
    assert budget.left is None


async def test_a_host_that_is_asked_no_more(simulator, polling):
    """Its budget is not told of any more, once no feed asks it."""
    hub, ingest = polling
    del hub
    url = simulator.binance_url.replace("127.0.0.1", "localhost")
    feeds = [
        replace(f, options=f.options.model_copy(update={"base_url": url})) for f in ingest.feeds
    ]
    await ingest.reload(replace(ingest._config, feeds=(feeds[0], ingest.feeds[1])), nobody)
    hosts = sorted(budget.host.partition(":")[0] for budget in ingest.budgets)
    assert hosts == ["127.0.0.1", "localhost"]
    await ingest.reload(replace(ingest._config, feeds=tuple(feeds)), nobody)
    [left] = ingest.budgets
    assert left.host.startswith("localhost:")
    await ingest.reload(replace(ingest._config, feeds=()), nobody)
    assert not list(ingest.budgets)


async def test_a_poll_under_way_ends_first(simulator, polling):
    """A feed that goes while the venue is slow to answer leaves nothing running."""
    hub, ingest = polling
    simulator.faults.add(kind="delay", venue="binance", seconds=30)
    entry = next(e for e in ingest._schedule._entries if e.poller.name == "prices")
    await until(lambda: entry.running is not None)
    poll = entry.running
    await ingest.reload(replace(ingest._config, feeds=ingest.feeds[1:]), nobody)
    assert poll.cancelled()
    assert "prices" not in hub.channels
