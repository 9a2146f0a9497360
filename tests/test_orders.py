"""`aggregator orders`: a user's own events in the terminal; and the client's short ways to them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aiohttp
import msgspec
import pytest
from test_users import CONFIG, made

from aggregator.client import Client, Options, SyncClient
from aggregator.messages import OfUser
from aggregator.orders import line_of

TIME = "2026-11-20T07:56:00Z"
AMOUNTS = ("quantity", "filled_quantity", "price", "fee", "available", "frozen")
AMOUNTS += ("total_asset", "cash_balance")
EVENTS = [
    (
        "order.update",
        {
            "order_id": "o1",
            "symbol": "BTC/USDT",
            "side": "BUY",
            "type": "LIMIT",
            "status": "PARTIALLY_FILLED",
            "quantity": "0.50",
            "filled_quantity": "0.10",
            "price": "42000.10",
            "updated_at": TIME,
        },
        "07:56:00 okx main order BTC/USDT BUY 0.50 at 42000.10, filled 0.10: PARTIALLY_FILLED",
    ),
    (
        "trade",
        {
            "trade_id": "t1",
            "order_id": "o1",
            "symbol": "BTC/USDT",
            "side": "BUY",
            "price": "42000.10",
            "quantity": "0.10",
            "fee": "0.00010",
            "fee_asset": "BTC",
            "traded_at": TIME,
        },
        "07:56:00 okx main fill BTC/USDT BUY 0.10 at 42000.10, fee 0.00010 BTC",
    ),
    (
        "balance.update",
        {"asset": "BTC", "available": "1.50", "frozen": "0", "updated_at": TIME},
        "07:56:00 okx main balance BTC: 1.50 available, 0 frozen",
    ),
    (
        "portfolio.update",
        {
            "total_asset": "100.50",
            "cash_balance": "5.00",
            "positions": [],
            "currency": "USD",
            "updated_at": TIME,
        },
        "07:56:00 okx main portfolio: 100.50 USD, 5.00 in cash",
    ),
]


@pytest.fixture
async def daemon(start, run_cli, tmp_path):
    """Run a daemon with a user and an operator; return its address and their tokens."""
    user, users = made(run_cli, "--user", "1001")
    ops, operators = made(run_cli, "--user", "1", "--role", "ops")
    path = tmp_path / "a.toml"
    path.write_text(CONFIG + users + operators)
    process = await start("run", "--config", path)
    yield await process.url(), user, ops
    process.signal(signal.SIGTERM)
    await process.ended()


async def publish(url, ops, events=EVENTS):
    http = url.replace("ws:", "http:").removesuffix("/ws")
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ops}"}) as session:
        for kind, data, _ in events:
            event = {"type": kind, "user_id": 1001, "account": "main", "exchange": "okx"}
            async with session.post(f"{http}/publish", json=event | {"data": data}) as answer:
                assert answer.status == 200, await answer.text()


async def lines_of(process, count):
    async with asyncio.timeout(20):
        return [(await process.stdout.readline()).decode().rstrip("\n") for _ in range(count)]


@pytest.fixture
async def command(tmp_path):
    """Return a function that runs `aggregator orders`; it is killed after the test."""
    started = []

    async def command(url, token, *options):
        path = tmp_path / "token"
        path.write_text(token + "\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aggregator", "orders", "--url", url),
            *("--token-file", str(path), *options),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield command
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_in_words(daemon, command):
    """Each event is a line, with every digit; what was before comes as the snapshot."""
    url, user, ops = daemon
    await publish(url, ops, [EVENTS[2]])
    process = await command(url, user)
    assert await lines_of(process, 1) == [EVENTS[2][2]]
    await publish(url, ops)
    assert sorted(await lines_of(process, 4)) == sorted(line for _, _, line in EVENTS)


def test_small_amounts():
    """Plainly, with every digit: without an exponent, which `Decimal` takes for some."""
    times = dict.fromkeys(("seq", "exchange_us", "received_us", "published_us"), 1)
    owner = {"account": "main", "exchange": "okx", "channel": "x", "timestamp": TIME} | times
    told = []
    for kind, data, _ in EVENTS:
        amounts = {name: "0.00000000" for name in data if name in AMOUNTS}
        text = json.dumps({"type": kind, **owner, "data": data | amounts})
        told.append(line_of(msgspec.json.decode(text, type=OfUser)))
    assert [line.count("0.00000000") for line in told] == [3, 3, 2, 2]
    assert not any("E-" in line for line in told)


async def test_as_json(daemon, command):
    """The messages as they are on the socket."""
    url, user, ops = daemon
    await publish(url, ops, [EVENTS[2]])
    process = await command(url, user, "--json")
    [line] = await lines_of(process, 1)
    assert json.loads(line)["data"]["available"] == "1.50"


async def test_wrong_token(daemon, command):
    """It says so, and not which."""
    url, user, _ = daemon
    process = await command(url, user[:-4] + "AAAA")
    async with asyncio.timeout(20):
        _, said = await process.communicate()
    assert process.returncode == 2
    assert user[:-4] not in said.decode()
    assert said


def test_without_a_token(run_cli):
    """It says where one comes from."""
    done = run_cli("orders", environ={"ORDERS_TOKEN": ""})
    assert (done.returncode, "--token-file" in done.stderr) == (2, True)


async def test_short_ways(daemon):
    """Each is the channel of its name; the token can be asked for on each connection."""
    url, user, ops = daemon
    asked = []

    def token():
        asked.append(user)
        return user

    got = []
    async with Client(url, Options(token=token)) as client:
        client.on_order = client.on_fill = client.on_balance = client.on_portfolio = got.append
        client.subscribe_orders()
        client.subscribe_fills()
        client.subscribe_balances()
        client.subscribe_portfolio()
        await publish(url, ops)
        async with asyncio.timeout(20):
            while len(got) < 4:
                await client.wait(0.1)
    assert sorted(m.channel for m in got) == ["balances", "fills", "orders", "portfolio"]
    assert asked == [user]


async def test_short_ways_without_asyncio(daemon):
    """The same of the other client."""
    url, user, ops = daemon

    def follow():
        with SyncClient(url, Options(token=user)) as client:
            for message in client.subscribe_orders():
                return message.data.quantity
        return None

    following = asyncio.create_task(asyncio.to_thread(follow))
    await publish(url, ops)
    async with asyncio.timeout(20):
        assert str(await following) == "0.50"
