"""The JavaScript client, in Node and in a page, and the real daemon with simulated venues."""

import asyncio
import json
import re
import signal
import socket

import pytest

from aggregator.simulator import Simulator

QUICK = {"minBackoffMs": 1, "maxBackoffMs": 200, "breakAfter": 1000}
ORIGINS = "AGGREGATOR_SERVER__ALLOWED_ORIGINS"
BOOKS = """
[server]
port = 0
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT"]
depth = 20
urls = ["{url}"]
"""


@pytest.fixture
async def demo(start, site):
    """Run `aggregator demo`, for pages of the test's site as well; yield it and its address."""
    daemon = await start("demo", "--port", "0", environ={ORIGINS: json.dumps([site])})
    await daemon.logged(r"feed \w+ live", times=8)
    return await daemon.url()


async def test_prices_of_all_channels(far, demo):
    """The snapshot of each channel comes, each price with the digits of the venue's own text."""
    await far.connect(demo)
    channels = ["binance_prices", "binance_orderbook", "binance_24hr", "bitcoinprice", "ethprice"]
    channels += ["coingecko_global", "coingecko_top", "coingecko_trending"]
    await far.subscribe("all", *channels, "system", "heartbeat")
    seen = {}
    while set(seen) < {*channels, "system"}:
        report = await far.until("message")
        seen[report["message"]["channel"]] = report
    assert seen["system"]["message"]["data"]["state"]
    own = {"binance_prices": "price", "binance_24hr": "lastPrice", "bitcoinprice": "last"}
    for channel, field in own.items():
        message = seen[channel]["message"]
        assert seen[channel]["digits"] == message["data"][field]
        assert float(message["data"][field]) == message["price"]


async def test_nothing_is_lost_with_a_connection(far, demo):
    """After three lost connections each number has come once, in order, and no gap."""
    await far.connect(demo, **QUICK)
    await far.subscribe("all", "bitcoinprice")
    seqs = []
    for _ in range(3):
        seqs += [(await far.message())["seq"] for _ in range(5)]
        await far.do("drop")
        await far.state("waiting")
        await far.state("resuming")
        await far.state("open")
    seqs += [(await far.message())["seq"] for _ in range(5)]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))


async def test_the_daemon_restarts(in_node, start):
    """The state says so, and what can't be had any more is a gap, before the new snapshot."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    daemon = await start("demo", "--port", port)
    url = await daemon.url()
    await daemon.logged(r"feed bitcoinprice live")
    await in_node.connect(url, **QUICK)
    await in_node.subscribe("all", "bitcoinprice")
    while "age_us" in await in_node.message(type="price_update"):
        pass
    daemon.signal(signal.SIGTERM)
    assert (await in_node.state("waiting"))["code"] == 1001
    await daemon.ended()
    await start("demo", "--port", port)
    await in_node.state("resuming")
    await in_node.state("open")
    gap = await in_node.until("message")
    assert (gap["message"]["type"], gap["message"]["reason"]) == ("gap", "history")
    await in_node.message(type="price_update")


async def test_a_book_is_the_venues(far, start, site, connect, tmp_path):
    """At each sequence it is what a snapshot says at that sequence, after a lost connection too."""
    async with Simulator(seed=11, ticks_per_s=20) as simulator:
        (tmp_path / "books.toml").write_text(BOOKS.format(url=simulator.okx_url))
        environ = {ORIGINS: json.dumps([site])}
        daemon = await start("run", "--config", "books.toml", environ=environ)
        url = await daemon.url()
        await daemon.logged("feed okx_books live")
        await far.connect(url, **QUICK)
        await far.subscribe("all", "okx_books", book=["okx_books", "BTC/USDT"])
        await far.message(action="delta")
        await far.do("drop")
        await far.state("resuming")
        report = await far.until("message", action="delta")
        client = await connect(url)
        await client.send(type="subscribe", channels=["okx_books"])
        snapshot = await client.until(lambda m: m.get("action") == "snapshot")
        while report["message"]["seq"] < snapshot["seq"]:
            report = await far.until("message", action="delta")
        assert report["message"]["seq"] == snapshot["seq"]
        assert report["book"]["bids"] == snapshot["data"]["bids"]
        assert report["book"]["asks"] == snapshot["data"]["asks"]
        assert len(report["book"]["bids"]) == 20


async def test_rates_and_payloads(in_node, demo):
    """`maxHz` and `raw` hold as the daemon promises, and no hole is seen in what is left out."""
    await in_node.connect(demo)
    await in_node.subscribe("slow", "bitcoinprice", maxHz=1, raw=False)
    messages = [(await in_node.until("message"))["message"] for _ in range(4)]
    assert not any("data" in message for message in messages)
    assert messages[3]["seq"] - messages[1]["seq"] > 2
    assert {message["type"] for message in messages} == {"price_update"}


async def test_a_token(far, start, run_cli, site, tmp_path):
    """Opens a daemon that lets nobody else in, on each connection anew; without one nothing is."""
    made = run_cli("token", "create", "--user", "7")
    section = made.stderr[made.stderr.index("[tokens.") :]
    (tmp_path / "closed.toml").write_text("[server]\nport = 0\nanonymous = false\n" + section)
    environ = {ORIGINS: json.dumps([site])}
    daemon = await start("demo", "--config", "closed.toml", environ=environ)
    url = await daemon.url()
    await daemon.logged("feed bitcoinprice live")
    await far.connect(url, token=made.stdout.strip(), **QUICK)
    await far.subscribe("all", "bitcoinprice")
    await far.message(type="price_update")
    await far.do("drop")
    await far.state("resuming")
    await far.message(type="price_update")
    await far.connect(url, token="agg_x_" + "0" * 40, **QUICK)
    assert (await far.state("waiting"))["reason"] == "the connection failed"


async def test_a_page_without_leave(in_page, start):
    """A page whose origin the daemon does not allow is told so by its state, and goes on trying."""
    daemon = await start("demo", "--port", "0")
    await in_page.connect(await daemon.url(), **QUICK)
    assert (await in_page.state("waiting"))["reason"] == "the connection failed"
    await in_page.state("connecting")


async def test_without_an_address(in_page, site):
    """A page's client connects to where the file came from."""
    await in_page.do("connect", options={})
    await in_page.do("address")
    assert (await in_page.until("address"))["url"] == f"{site.replace('http', 'ws')}/ws"


async def test_the_daemon_serves_it(in_node, demo, connect):
    """`GET /client.js` is the file, as a script that pages from anywhere may import."""
    reader, writer = await asyncio.open_connection(*re.findall(r"[\d.]+", demo)[:2])
    writer.write(b"GET /client.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200")
    assert b"Content-Type: text/javascript" in head
    assert b"Access-Control-Allow-Origin: *" in head
    assert body.startswith(b"/**")
