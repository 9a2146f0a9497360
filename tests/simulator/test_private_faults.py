import asyncio
import json
from decimal import Decimal

import aiohttp
import pytest
from simulator.signing import Binance, Okx, binance_rest, okx_login, okx_rest

from aggregator.simulator.keys import named

ORDERS = {"channel": "orders", "instType": "SPOT"}


@pytest.fixture
async def okx(simulator, client):
    async with client.ws_connect(simulator.okx_private_url) as socket:
        okx = Okx(socket)
        await okx.login(named("okx", "main"))
        yield okx


@pytest.fixture
async def api(simulator, client):
    async with client.ws_connect(simulator.binance_ws_api_url) as socket:
        api = Binance(socket)
        await api.subscribe(named("binance", "main"))
        yield api


def deposit(simulator, venue, amount="1", currency="BTC"):
    account = simulator.engine.accounts.of(venue, "main")
    simulator.engine.deposit(account, currency, Decimal(amount))


async def test_mute_takes_a_channel_alone(simulator, okx, api):
    """A muted channel says nothing while the others go on, on both venues."""
    await okx.subscribe({"channel": "account"}, {"channel": "balance_and_position"})
    await okx.pushes(2)
    simulator.faults.add(venue="okx", kind="mute", channel="account")
    simulator.faults.add(venue="binance", kind="mute", channel="balanceUpdate")
    deposit(simulator, "okx")
    deposit(simulator, "binance")
    told = [push["arg"]["channel"] for push in await okx.quiet() if "arg" in push]
    assert told == ["balance_and_position"]
    assert [e["event"]["e"] for e in await api.quiet()] == ["outboundAccountPosition"]


async def test_drop_by_instrument(simulator, client, okx, api):
    """A fault of one instrument leaves the orders of another alone."""
    await okx.subscribe(ORDERS)
    for venue in ("okx", "binance"):
        simulator.faults.add(venue=venue, kind="drop", instrument="ETH-USDT", count=1)
        for name in ("ETH/USDT", "BTC/USDT"):
            url = f"{simulator.accounts_url}/{venue}/main/orders"
            order = {"instrument": name, "side": "buy", "price": "1", "size": "1"}
            async with client.post(url, json=order) as response:
                assert response.status == 201
    assert [push["data"][0]["instId"] for push in await okx.pushes(1)] == ["BTC-USDT"]
    seen = [e["event"].get("s") for e in await api.quiet()]
    assert [name for name in seen if name] == ["BTCUSDT"]


@pytest.mark.parametrize(
    ("kind", "parameters", "texts"),
    [
        ("duplicate", {}, 2),
        ("garbage", {"text": "<p>"}, ["<p>"]),
        ("bom", {}, "\ufeff"),
        ("delay", {"seconds": 0.05}, 1),
    ],
)
async def test_what_becomes_of_a_push(simulator, okx, kind, parameters, texts):
    """Data messages of the private socket are repeated, spoilt and delayed like public ones."""
    await okx.subscribe({"channel": "balance_and_position"})
    await okx.pushes(1)
    simulator.faults.add(venue="okx", kind=kind, count=1, **parameters)
    deposit(simulator, "okx")
    first = (await okx.socket.receive()).data
    if isinstance(texts, list):
        assert [first] == texts
        return
    assert first.startswith("\ufeff") == (texts == "\ufeff")
    row = json.loads(first.lstrip("\ufeff"))["data"][0]
    assert row["balData"][0]["cashBal"] == "3"
    if texts == 2:
        assert (await okx.socket.receive()).data == first


async def test_half_a_frame(simulator, api):
    """`truncate` cuts the connection within a message of the user data stream."""
    simulator.faults.add(venue="binance", kind="truncate", count=1)
    deposit(simulator, "binance")
    message = await api.socket.receive()
    assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)


async def test_subscriptions_without_an_answer(simulator, client, okx):
    """`noack` keeps the acknowledgement back; with `data` the subscription works."""
    for data in (False, True):
        simulator.faults.add(venue="okx", kind="noack", channel="orders", data=data, count=1)
        await okx.subscribe(ORDERS)
        url = f"{simulator.accounts_url}/okx/main/orders"
        order = {"instrument": "BTC/USDT", "side": "buy", "price": "1", "size": "1"}
        async with client.post(url, json=order) as response:
            assert response.status == 201
        assert len(await okx.quiet()) == data
    async with client.ws_connect(simulator.binance_ws_api_url) as socket:
        api = Binance(socket)
        simulator.faults.add(venue="binance", kind="noack", count=1)
        await socket.send_json({"id": 1, "method": "userDataStream.subscribe"})
        assert (await api.call("time"))["id"] == "x1"


@pytest.mark.parametrize(("kind", "code"), [("notice", 1001), ("shutdown", 1001), ("close", 4006)])
async def test_announced_and_sudden_ends(simulator, okx, api, kind, code):
    """64008 and serverShutdown come in the form of the private sockets, then the close."""
    after = {} if kind == "close" else {"after_s": 0}
    venue = "binance" if kind == "shutdown" else "okx"
    simulator.faults.add(venue=venue, kind=kind, code=code, **after)
    one = okx if venue == "okx" else api
    if kind == "notice":
        assert (await one.socket.receive_json())["code"] == "64008"
    if kind == "shutdown":
        event = await one.socket.receive_json()
        assert (set(event), event["event"]["e"]) == ({"event"}, "serverShutdown")
    assert (await one.socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert one.socket.close_code == code


async def test_faults_of_an_address(simulator, client, okx):
    """`path` tells the private sockets from the public ones."""
    async with client.ws_connect(simulator.okx_url) as public:
        simulator.faults.add(venue="okx", kind="close", path="/ws/v5/private", code=4006)
        assert (await okx.socket.receive()).type is aiohttp.WSMsgType.CLOSE
        await public.send_str("ping")
        assert (await public.receive()).data == "pong"
    simulator.faults.add(venue="okx", kind="refuse", path="/ws/v5/private")
    with pytest.raises(aiohttp.ClientError):
        await client.ws_connect(simulator.okx_private_url)


async def test_halfopen(simulator, okx):
    """Nothing is read or told while it lasts; then what was to be told is lost with the socket."""
    await okx.subscribe({"channel": "balance_and_position"})
    await okx.pushes(1)
    fault = simulator.faults.add(venue="okx", kind="halfopen")
    deposit(simulator, "okx")
    await okx.socket.send_json(okx_login(named("okx", "main")))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await okx.socket.receive()
    simulator.faults.remove(fault.id)
    assert (await okx.socket.receive()).type is aiohttp.WSMsgType.CLOSED


async def test_an_order_whose_answer_is_lost(simulator, client):
    """A body cut short leaves the client in doubt, and the order in place; a refusal does not."""
    key = named("binance", "main")
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
    order |= {"quantity": "1", "price": "1"}
    simulator.faults.add(venue="binance", kind="truncate", path="/api/v3/order", count=1)
    with pytest.raises(aiohttp.ClientPayloadError):
        await binance_rest(client, simulator, key, "POST", "/api/v3/order", **order)
    account = simulator.engine.accounts.of("binance", "main")
    assert len(account.open) == 1
    simulator.faults.add(venue="binance", kind="status", status=503, count=1)
    async with client.post(f"{simulator.binance_url}/api/v3/order") as response:
        assert response.status == 503
    assert len(account.open) == 1


async def test_throttled_and_late(simulator, client):
    """OKX's 50011 and delays concern signed requests like all others."""
    key = named("okx", "main")
    simulator.faults.add(venue="okx", kind="status", status=429, path="/api/v5/account", count=1)
    status, body = await okx_rest(client, simulator, key, "GET", "account/balance")
    assert (status, body["code"]) == (429, "50011")
    simulator.faults.add(venue="okx", kind="delay", seconds=0.05, count=1)
    began = asyncio.get_running_loop().time()
    assert (await okx_rest(client, simulator, key, "GET", "account/balance"))[0] == 200
    assert asyncio.get_running_loop().time() - began >= 0.05
