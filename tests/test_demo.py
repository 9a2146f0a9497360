"""`aggregator demo`: the whole daemon against simulated venues, as real processes."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from aggregator import config, demo, registry, sources

CHANNELS = list(config.STANDARD_FEEDS)
STREAMED = {"bitcoinprice", "ethprice"}
FIELDS = {
    *("type", "connector_id", "exchange", "instrument", "price", "timestamp", "data", "channel"),
    *("seq", "exchange_us", "received_us", "published_us"),
}


@pytest.fixture
def children():
    """Return a function that gives the children of a process."""

    def children(pid):
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found]

    return children


async def gone(pid):
    """Wait until a process that is not our child has ended."""
    descriptor = os.pidfd_open(pid)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(30):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def test_all_eight_channels_from_start_to_stop(start, connect, children):
    """The log says what to do; a client has ack, snapshot and updates; SIGTERM ends it all."""
    daemon = await start("demo", "--port", "0", "--seed", "5")
    url = await daemon.url()
    live = await daemon.logged(r"feed \w+ live", times=8)
    assert {line.split("feed ")[1].split()[0] for line in live} == set(CHANNELS)
    [hint] = await daemon.logged("try: aggregator watch bitcoinprice")
    assert f"--url {url}" in hint
    client = await connect(url)
    await client.send(type="subscribe", channels=CHANNELS, id=7)
    ack = await client.receive()
    assert (ack["type"], ack["channels"], ack["id"]) == ("subscribed", CHANNELS, 7)
    positions = {name: place["seq"] for name, place in ack["positions"].items()}
    assert set(positions) == set(CHANNELS)
    snapshot, updates = set(), dict(positions)
    # Without waiting for the next poll: what is streamed goes on, what is polled was sent whole.
    while snapshot != set(CHANNELS) or any(updates[c] == positions[c] for c in STREAMED):
        message = await client.receive()
        assert message["type"] == "price_update"
        assert set(message) >= FIELDS
        channel, seq = message["channel"], message["seq"]
        assert message["connector_id"] == channel
        if seq <= positions[channel]:
            snapshot.add(channel)
        else:
            assert seq == updates[channel] + 1
            updates[channel] = seq
    [simulator] = children(daemon.pid)
    watching = asyncio.create_task(gone(simulator))
    await asyncio.sleep(0)
    daemon.signal(signal.SIGTERM)
    async with asyncio.timeout(5):
        assert await client.close_code() == 1001
        assert await daemon.ended() == 0
        await watching
    assert not [line for line in daemon.lines if "Traceback" in line or "level=error" in line]


async def test_polled_channels_go_on(start, connect, tmp_path):
    """With a shorter interval, each polled channel has an update after the snapshot."""
    environ = {
        f"AGGREGATOR_FEEDS__{name.upper()}__INTERVAL_S": "0.2"
        for name in set(CHANNELS) - STREAMED
        if not name.startswith("coingecko")
    }
    daemon = await start("demo", "--port", "0", environ=environ)
    client = await connect(await daemon.url())
    polled = [n for n in CHANNELS if n.startswith("binance")]
    await client.send(type="subscribe", channels=polled)
    ack = await client.receive()
    waiting = {name: place["seq"] + 20 for name, place in ack["positions"].items()}
    while waiting:
        message = await client.receive()
        if message["seq"] >= waiting.get(message["channel"], float("inf")):
            del waiting[message["channel"]]


async def test_a_killed_daemon_leaves_no_simulator(start, children):
    """The child ends when its parent does, however that ends."""
    daemon = await start("demo", "--port", "0")
    await daemon.url()
    [simulator] = children(daemon.pid)
    watching = asyncio.create_task(gone(simulator))
    await asyncio.sleep(0)
    daemon.signal(signal.SIGKILL)
    await watching
    assert await daemon.ended() == -signal.SIGKILL


async def test_sighup_changes_nothing(start, connect):
    """There is no configuration to read again: one line says so, and all goes on."""
    daemon = await start("demo", "--port", "0")
    client = await connect(await daemon.url())
    await client.send(type="subscribe", channels=["bitcoinprice"])
    before = len(await daemon.logged(r"feed \w+ live", times=8))
    daemon.signal(signal.SIGHUP)
    await daemon.logged("SIGHUP: the certificate is read again")
    await client.until(lambda m: m["type"] == "price_update")
    daemon.signal(signal.SIGTERM)
    assert await daemon.ended() == 0
    assert before == 8
    assert not daemon.lines_with("read again, from|tokens read again|taken over|restart")


async def test_ctrl_c_is_a_clean_end(start):
    """As at a terminal: exit code 0, no traceback."""
    daemon = await start("demo", "--port", "0")
    await daemon.logged(r"feed \w+ live", times=8)
    daemon.signal(signal.SIGINT)
    assert await daemon.ended() == 0
    text = "\n".join(daemon.lines)
    assert "Traceback" not in text, text


def test_a_simulator_that_does_not_start_is_said(monkeypatch):
    """Instead of a daemon without venues."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    venues = demo.simulated_venues(1)
    with pytest.raises(demo.click.ClickException, match="the simulator did not start"), venues:
        raise AssertionError


def test_the_venues_are_those_of_the_child():
    """Under every address that the options of a feed have; the child ends with the context."""
    with demo.simulated_venues(1) as venues:
        assert set(venues) == {"binance", "coingecko", "okx"}
        for found in registry.everything():
            if found.cls is not None and found.cls.exchange in venues:
                wanted = {"base_url", "urls"} & found.cls.options_type.model_fields.keys()
                given = venues[found.cls.exchange]
                assert wanted <= given.keys(), found.name
                addresses = [given.get("base_url", "http://127.0.0.1:"), *given.get("urls", [])]
                assert all(a.partition("://")[2].startswith("127.0.0.1:") for a in addresses)


def test_only_what_is_simulated_is_pointed_elsewhere(monkeypatch):
    """A feed of another venue, and one that is broken, stay as they are."""
    monkeypatch.setattr(sources, "PLACES", ())
    loaded = config.load(environ={})
    okx = {"urls": ["ws://127.0.0.1:1"], "base_url": "http://127.0.0.1:1"}
    venues = {"okx": okx, "binance": {"base_url": "http://127.0.0.1:1/binance"}}
    broken = config.Feed("broken", "x.y", None, None, "why")
    loaded = demo.dataclasses.replace(loaded, feeds=(*loaded.feeds, broken))
    pointed = {feed.name: feed for feed in demo.pointed_at(loaded, venues).feeds}
    assert pointed["bitcoinprice"].options.urls == ["ws://127.0.0.1:1"]
    assert pointed["bitcoinprice"].options.instruments == ["BTC/USDT"]
    assert pointed["broken"] is broken
    before = {feed.name: feed for feed in loaded.feeds}
    assert pointed["coingecko_top"] is before["coingecko_top"]
    assert pointed["binance_prices"].options.base_url == "http://127.0.0.1:1/binance"


async def test_the_simulator_for_a_parent_ends_with_its_input(tmp_path):
    """It prints one line, the venues."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "aggregator", "simulator", "--port", "0", "--for-parent"),
        cwd=tmp_path,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        venues = json.loads(await process.stdout.readline())
        rest, _ = await process.communicate(b"")
    assert set(venues) == {"binance", "coingecko", "okx"}
    assert (process.returncode, rest) == (0, b"")
