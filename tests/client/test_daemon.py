"""The client and the daemon itself, against simulated venues: over cuts, restarts and refusals."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys

import pytest
from client.daemons import PATIENCE_S

from aggregator.client import Client, Options, SubscriptionError, SyncClient
from aggregator.messages import Gap, OrderbookUpdate, PriceUpdate, SystemStatus, TradeExecuted

CONFIG = """
[server]
port = {port}
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT"]
[feeds.okx_trades]
connector = "okx.trades"
instruments = ["BTC/USDT"]
"""
OPTIONS = Options(
    first_wait_s=0.05,
    max_wait_s=0.2,
    start_timeout_s=0.0,
    connect_timeout_s=5,
    ping_after_s=4,
    pong_timeout_s=4,
    # A machine that is busy takes its time to start the daemon again.
    breaker_failures=10_000,
)


@pytest.fixture
def port():
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
async def begin(start, tmp_path, port):
    """Return a function that starts the daemon, always at the same place."""

    async def begin():
        (tmp_path / "aggregator.toml").write_text(CONFIG.format(port=port))
        daemon = await start("demo", "--config", "aggregator.toml")
        await daemon.logged(r"feed \w+ live", times=3)
        return daemon

    return begin


@pytest.fixture
def url(port):
    return f"ws://127.0.0.1:{port}/ws"


async def until(messages, condition):
    """Return the messages up to the first of which this holds."""
    found = []
    async with asyncio.timeout(PATIENCE_S):
        async for message in messages:
            found.append(message)
            if condition(message):
                return found
    raise AssertionError(found)


def in_order(messages):
    """Hold what is not of a snapshot to its numbers: one up for each, by channel."""
    last = {}
    for message in messages:
        if getattr(message, "age_us", None) is None and not isinstance(message, SystemStatus):
            before = last.get(message.channel)
            assert before is None or message.seq == before + 1
            last[message.channel] = message.seq


async def test_everything_is_typed_and_without_holes(begin, url):
    """Of all kinds of channels; nothing is invalid or unknown."""
    await begin()
    wanted = {PriceUpdate, OrderbookUpdate, TradeExecuted}
    async with Client(url, OPTIONS) as client:
        seen = set()

        def enough(message):
            seen.add(type(message))
            return wanted <= seen and message.seq > 30

        channels = ("bitcoinprice", "okx_books", "okx_trades", "system")
        in_order(await until(client.subscribe(*channels), enough))
        counters = client.counters
        assert (counters.invalid, counters.unknown, counters.gaps, counters.duplicates) == (0,) * 4


async def test_a_cut_costs_nothing(begin, url):
    """What was published meanwhile follows; no hole, no gap, nothing twice."""
    await begin()
    async with Client(url, OPTIONS) as client:
        messages = aiter(client.subscribe("bitcoinprice", "okx_trades"))
        first = await until(messages, lambda m: m.seq > 3)
        # As a lost route would: neither side says a word.
        sock = client._connection._ws.get_extra_info("socket")
        sock.shutdown(socket.SHUT_RDWR)
        rest = await until(messages, lambda m: client.counters.connections == 2)
        rest += [m for _ in range(5) for m in await until(messages, lambda _: True)]
        in_order([*first, *rest])
        assert not [m for m in [*first, *rest] if isinstance(m, Gap)]
        assert client.counters.gaps == 0


async def test_a_restart_is_a_gap(begin, url):
    """Then all goes on by itself, with the numbers of the new run."""
    daemon = await begin()
    async with Client(url, OPTIONS) as client:
        messages = aiter(client.subscribe("bitcoinprice"))
        before = await until(messages, lambda m: m.age_us is None and m.seq > 2)
        daemon.signal(signal.SIGTERM)
        assert await daemon.ended() == 0
        await begin()
        *late, gap = await until(messages, lambda m: isinstance(m, Gap))
        assert gap.reason == "history"
        after = await until(messages, lambda m: m.age_us is None)
        times = [m.published_us for m in [*before, *late, *after]]
        assert times == sorted(set(times))
        assert client.positions()["bitcoinprice"].epoch


async def test_a_book_is_continued_after_a_cut(begin, url):
    """By its changes, not by a snapshot."""
    await begin()
    async with Client(url, OPTIONS) as client:
        messages = aiter(client.subscribe("okx_books"))
        await until(messages, lambda m: m.action == "delta")
        client._connection._ws.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        rest = await until(messages, lambda m: client.counters.connections == 2)
        assert {m.action for m in rest} == {"delta"}


async def test_another_process_goes_on(begin, url):
    """From the positions that the first one leaves."""
    await begin()
    async with Client(url, OPTIONS) as client:
        first = await until(client.subscribe("okx_trades"), lambda m: m.seq > 2)
        positions = client.positions()
    async with Client(url, OPTIONS) as client:
        subscription = client.subscribe("okx_trades", since=positions)
        second = await until(subscription, lambda m: m.seq > first[-1].seq + 3)
    assert second[0].seq == first[-1].seq + 1
    in_order([*first, *second])


async def test_a_rate_and_no_payload(begin, url):
    """As asked for: `data` is not there, holes are no gaps."""
    await begin()
    async with Client(url, OPTIONS) as client:
        messages = client.subscribe("bitcoinprice:BTC/USDT", max_hz=2, raw=False)
        found = await until(messages, lambda m: m.seq > 10)
        assert [m.data for m in found] == [None] * len(found)
        assert client.counters.gaps == 0


async def test_a_channel_that_is_none(begin, url):
    """The daemon's own words are in the exception."""
    await begin()
    async with Client(url, OPTIONS) as client:
        with pytest.raises(SubscriptionError, match="nowhere: there is no such channel"):
            await until(client.subscribe("nowhere"), lambda _: False)


async def test_the_synchronous_client(begin, url):
    """As in the README."""
    await begin()
    found = []

    def follow():
        with SyncClient(url, OPTIONS) as client:

            def price(message):
                found.append(message)
                if len(found) == 5:
                    client.close()

            client.on_price = price
            client.subscribe("bitcoinprice")
            client.wait(timeout=PATIENCE_S)

    await asyncio.to_thread(follow)
    assert [type(m) for m in found] == [PriceUpdate] * 5
    in_order(found)


async def test_watch_goes_on_where_it_is_told_to(begin, url, run_cli):
    """`--since` brings what came after, and no snapshot."""
    await begin()
    async with Client(url, OPTIONS) as client:
        await until(client.subscribe("okx_trades"), lambda m: m.seq > 5)
        place = client.positions()["okx_trades"]
    since = f"okx_trades={place.epoch}:{place.seq - 3}"
    process = await asyncio.create_subprocess_shell(
        f"exec {sys.executable} -m aggregator watch okx_trades --url {url} --since {since}",
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_S):
        lines = [json.loads(await process.stdout.readline()) for _ in range(3)]
    process.kill()
    await process.communicate()
    assert [line["seq"] for line in lines] == [place.seq - 2, place.seq - 1, place.seq]
    assert "age_us" not in lines[0]
    for wrong in ("okx_trades", "=e:1", "okx_trades=e:", "okx_trades=e:x", "okx_trades=:1"):
        result = await asyncio.to_thread(run_cli, "watch", "okx_trades", "--since", wrong)
        assert (result.returncode, result.stdout) == (2, "")
        assert "bitcoinprice=303a6b3b:1042" in result.stderr
