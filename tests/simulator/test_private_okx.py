import asyncio
import time
from decimal import Decimal

import aiohttp
import pytest
from simulator.signing import Okx, okx_login, place

from aggregator.simulator import Simulator
from aggregator.simulator.keys import named

MAIN = named("okx", "main")
ORDERS = {"channel": "orders", "instType": "ANY"}


@pytest.fixture
async def socket(simulator, client):
    async with client.ws_connect(simulator.okx_private_url) as opened:
        yield opened


@pytest.fixture
async def okx(socket):
    logged_in = Okx(socket)
    await logged_in.login(MAIN)
    return logged_in


@pytest.mark.parametrize(
    ("login", "code"),
    [
        (lambda: okx_login(MAIN, secret="other"), "60007"),
        (lambda: okx_login(MAIN, passphrase="other"), "60024"),
        (lambda: okx_login(MAIN, apiKey="other"), "60005"),
        (lambda: okx_login(MAIN, at=str(int(time.time()) - 40)), "60006"),
        (lambda: okx_login(MAIN, at="noon"), "60004"),
        (lambda: okx_login(MAIN, at="nan"), "60006"),
        (lambda: okx_login(MAIN, sign=None), "60009"),
    ],
)
async def test_a_login_that_fails(socket, login, code):
    """It is answered with the code of what is wrong, and the connection ends with 4001."""
    await socket.send_json(login())
    answer = await socket.receive_json()
    assert (answer["event"], answer["code"], "connId" in answer) == ("error", code, True)
    assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert socket.close_code == 4001


async def test_only_one_login(okx):
    """A second login is refused with 60031; the first one holds."""
    await okx.socket.send_json(okx_login(MAIN))
    assert (await okx.socket.receive_json())["code"] == "60031"
    await okx.subscribe(ORDERS)
    assert (await okx.socket.receive_json())["event"] == "subscribe"


async def test_nothing_before_the_login(socket):
    """A subscription before it is refused with 60011, text pings are answered."""
    await socket.send_json({"id": "7", "op": "subscribe", "args": [ORDERS]})
    answer = await socket.receive_json()
    assert (answer["code"], answer["msg"], answer["id"]) == ("60011", "Please log in", "7")
    await socket.send_str("ping")
    assert (await socket.receive()).data == "pong"


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"op": "subscribe", "args": [{"channel": "tickers", "instId": "BTC-USDT"}]}, "60018"),
        ({"op": "subscribe", "args": [ORDERS | {"instId": "NOPE-USDT"}]}, "60018"),
        ({"op": "subscribe", "args": [{"channel": "orders"}]}, "60012"),
        ({"op": "dance", "args": [ORDERS]}, "60012"),
        ({"op": "subscribe", "args": []}, "60012"),
        ([], "60012"),
    ],
)
async def test_bad_requests(okx, request_, code):
    """What is no subscription of this address is refused; the connection stays."""
    await okx.socket.send_json(request_)
    assert (await okx.socket.receive_json())["code"] == code
    assert await okx.quiet() == []


async def test_an_order_from_placing_to_the_last_fill(simulator, client, okx):
    """Live, partially filled, filled: each change comes once, with the fill that made it."""
    await okx.subscribe(ORDERS)
    given = {"instrument": "BTC/USDT", "side": "sell", "price": "70000", "size": "0.1"}
    made = await place(client, simulator, "okx/main", **given, client_id="mine1")
    url = f"{simulator.accounts_url}/okx/main/orders/{made['id']}/fill"
    for size in ("0.04", "0.06"):
        async with client.post(url, json={"size": size}) as response:
            assert response.status == 201
    rows = [push["data"][0] for push in await okx.pushes(3)]
    assert [row["state"] for row in rows] == ["live", "partially_filled", "filled"]
    assert [row["accFillSz"] for row in rows] == ["0", "0.04", "0.1"]
    assert [row["fillSz"] for row in rows] == ["0", "0.04", "0.06"]
    assert [row["fillFee"] for row in rows] == ["0", "-2.24", "-3.36"]
    assert [row["fee"] for row in rows] == ["0", "-2.24", "-5.6"]
    assert [row["execType"] for row in rows] == ["", "M", "M"]
    assert [row["fillPx"] for row in rows] == ["", "70000", "70000"]
    assert rows[0]["tradeId"] == ""
    assert int(rows[1]["tradeId"]) < int(rows[2]["tradeId"])
    for row in rows:
        assert {name: row[name] for name in ("ordId", "clOrdId", "instId", "side", "ordType")} == {
            "ordId": made["id"], "clOrdId": "mine1", "instId": "BTC-USDT", "side": "sell",
            "ordType": "limit",
        }  # fmt: skip
        assert (row["px"], row["sz"], row["feeCcy"], row["code"]) == ("70000", "0.1", "USDT", "0")
        assert all(
            isinstance(v, str)
            for n, v in row.items()
            if n not in ("attachAlgoOrds", "linkedAlgoOrd")
        )
        assert int(row["cTime"]) <= int(row["uTime"])
    assert await okx.quiet() == []


async def test_a_cancellation(simulator, client, okx):
    """It comes with its source: 1 is the user, 0 the venue."""
    await okx.subscribe(ORDERS)
    for reason, source in (("user", "1"), ("system", "0")):
        made = await place(
            client, simulator, "okx/main", instrument="BTC/USDT", side="buy", price="1", size="1"
        )
        url = f"{simulator.accounts_url}/okx/main/orders/{made['id']}"
        async with client.delete(url, json={"reason": reason}) as response:
            assert response.status == 200
        row = (await okx.pushes(2))[1]["data"][0]
        assert (row["state"], row["cancelSource"], row["fillSz"]) == ("canceled", source, "0")


async def test_a_market_order_by_quote_ends_without_a_fill(simulator, client, okx):
    """The last word on it is `filled` without a trade, as the documentation warns."""
    await okx.subscribe(ORDERS)
    await place(client, simulator, "okx/main", instrument="BTC/USDT", side="buy", quote_size="3000")
    filled = simulator.engine.accounts.of("okx", "main").fills
    rows = [push["data"][0] for push in await okx.pushes(2 + len(filled))]
    assert {row["state"] for row in rows[1:-1]} == {"partially_filled"}
    assert {row["execType"] for row in rows[1:-1]} == {"T"}
    last = rows[-1]
    assert (last["state"], last["fillSz"], last["tradeId"], last["tgtCcy"]) == (
        "filled", "0", "", "quote_ccy",
    )  # fmt: skip
    assert Decimal(last["accFillSz"]) == sum(fill.size for fill in filled)


async def test_filters_of_orders(simulator, client, okx):
    """`instType` and `instId` choose; what is subscribed twice by two names comes twice."""
    await okx.subscribe({"channel": "orders", "instType": "SPOT", "instId": "ETH-USDT"})
    await okx.subscribe(
        {"channel": "orders", "instType": "SWAP"}, {"channel": "orders", "instType": "SPOT"}
    )
    await okx.subscribe({"channel": "orders", "instType": "SPOT"})
    for name in ("BTC/USDT", "ETH/USDT"):
        await place(client, simulator, "okx/main", instrument=name, side="buy", price="1", size="1")
    pushes = await okx.pushes(3)
    assert [push["data"][0]["instId"] for push in pushes] == ["BTC-USDT", "ETH-USDT", "ETH-USDT"]
    assert [push["arg"].get("instId") for push in pushes] == [None, "ETH-USDT", None]
    assert {push["arg"]["uid"] for push in pushes} == {"446556018584"}
    assert await okx.quiet() == []


async def test_the_account_whole_and_then_its_changes(simulator, client, okx):
    """A snapshot at once, pages counted; after it what an event touched, and that alone."""
    await okx.subscribe({"channel": "account"})
    first = (await okx.pushes(1))[0]
    assert (first["eventType"], first["curPage"], first["lastPage"]) == ("snapshot", 1, True)
    have = {row["ccy"]: row for row in first["data"][0]["details"]}
    assert set(have) == {"BTC", "ETH", "SOL", "USDT", "USDC"}
    assert (have["BTC"]["availBal"], have["BTC"]["frozenBal"], have["BTC"]["eq"]) == ("2", "0", "2")
    await place(
        client, simulator, "okx/main", instrument="BTC/USDT", side="sell", price="70000", size="0.1"
    )
    change = (await okx.pushes(1))[0]
    assert change["eventType"] == "event_update"
    assert not {"curPage", "lastPage"} & set(change)
    details = change["data"][0]["details"]
    assert [(r["ccy"], r["availBal"], r["frozenBal"], r["cashBal"]) for r in details] == [
        ("BTC", "1.9", "0.1", "2")
    ]
    assert Decimal(change["data"][0]["totalEq"]) > 200_000


async def test_one_currency_of_the_account(simulator, okx):
    """`ccy` limits both the snapshot and the changes."""
    await okx.subscribe({"channel": "account", "ccy": "ETH"})
    assert [r["ccy"] for r in (await okx.pushes(1))[0]["data"][0]["details"]] == ["ETH"]
    account = simulator.engine.accounts.of("okx", "main")
    simulator.engine.deposit(account, "BTC", Decimal(1))
    simulator.engine.deposit(account, "ETH", Decimal(1))
    assert [r["eq"] for r in (await okx.pushes(1))[0]["data"][0]["details"]] == ["21"]
    assert await okx.quiet() == []


async def test_balance_and_position(simulator, client, okx):
    """What is there, then cash that changes: deposits and fills, not what is only frozen."""
    await okx.subscribe({"channel": "balance_and_position"})
    first = (await okx.pushes(1))[0]["data"][0]
    assert first["eventType"] == "snapshot"
    assert {row["ccy"]: row["cashBal"] for row in first["balData"]}["USDT"] == "100000"
    await place(
        client, simulator, "okx/main", instrument="BTC/USDT", side="sell", price="70000", size="0.1"
    )
    account = simulator.engine.accounts.of("okx", "main")
    simulator.engine.fill(account, next(iter(account.open.values())), Decimal("0.1"))
    simulator.engine.deposit(account, "USDT", Decimal(-500))
    filled, moved = [push["data"][0] for push in await okx.pushes(2)]
    assert (filled["eventType"], moved["eventType"]) == ("filled", "transferred")
    assert filled["trades"] == [{"instId": "BTC-USDT", "tradeId": str(account.fills[0].id)}]
    cash = {row["ccy"]: row["cashBal"] for row in filled["balData"]}
    assert cash == {"BTC": "1.9", "USDT": "106994.4"}
    assert [(row["ccy"], row["cashBal"]) for row in moved["balData"]] == [("USDT", "106494.4")]
    assert filled["posData"] == moved["posData"] == moved["trades"] == []


async def test_the_whole_account_from_time_to_time(client):
    """It is pushed regularly, unless the subscription asks for events alone."""
    async with (
        Simulator(ticks_per_s=0, okx_account_push_s=0.02) as simulator,
        client.ws_connect(simulator.okx_private_url) as socket,
        client.ws_connect(simulator.okx_private_url) as other,
    ):
        regular, events = Okx(socket), Okx(other)
        for one, extra in ((regular, {}), (events, {"extraParams": '{"updateInterval": "0"}'})):
            await one.login(MAIN)
            await one.subscribe({"channel": "account"} | extra)
        assert {push["eventType"] for push in await regular.pushes(3)} == {"snapshot"}
        assert len([push for push in await events.quiet() if "data" in push]) == 1


async def test_how_many_read_a_channel(client):
    """Each subscription is told; the one too many is acknowledged and then ended."""
    async with Simulator(ticks_per_s=0, okx_connections_per_channel=2) as simulator:
        told = []
        opened = [Okx(await client.ws_connect(simulator.okx_private_url)) for _ in range(3)]
        async with asyncio.timeout(5):
            for okx in opened:
                await okx.login(MAIN)
                await okx.subscribe(ORDERS)
                assert (await okx.socket.receive_json())["event"] == "subscribe"
                told.append(await okx.socket.receive_json())
        assert [(t["event"], t["channel"], t["connCount"]) for t in told] == [
            ("channel-conn-count", "orders", "1"),
            ("channel-conn-count", "orders", "2"),
            ("channel-conn-count-error", "orders", "2"),
        ]
        await place(
            client, simulator, "okx/main", instrument="BTC/USDT", side="buy", price="1", size="1"
        )
        assert await okx.quiet() == []


async def test_unsubscribed_is_silent(simulator, client, okx):
    """After the acknowledgement nothing of it comes."""
    await okx.subscribe(ORDERS)
    await okx.socket.send_json({"op": "unsubscribe", "args": [ORDERS]})
    await place(
        client, simulator, "okx/main", instrument="BTC/USDT", side="buy", price="1", size="1"
    )
    assert [event["event"] for event in await okx.quiet()] == [
        "subscribe", "channel-conn-count", "unsubscribe",
    ]  # fmt: skip


async def test_accounts_do_not_see_each_other(simulator, client, okx):
    """What happens to one account is told to its own keys, all of them, and nobody else."""
    async with client.ws_connect(simulator.okx_private_url) as socket:
        viewer = Okx(socket)
        await viewer.login(named("okx", "viewer"))
        for one in (okx, viewer):
            await one.subscribe(ORDERS)
        given = {"instrument": "BTC/USDT", "side": "buy", "price": "1", "size": "1"}
        await place(client, simulator, "okx/second", **given)
        made = await place(client, simulator, "okx/main", **given)
        for one in (okx, viewer):
            assert (await one.pushes(1))[0]["data"][0]["ordId"] == made["id"]


async def test_a_key_that_is_deleted(simulator, client, okx):
    """Its connections end with 4007, and no login with it succeeds."""
    url = f"{simulator.accounts_url}/okx/keys/main/revoke"
    async with client.post(url) as response:
        assert response.status == 200
    assert (await okx.socket.receive()).type is aiohttp.WSMsgType.CLOSE
    assert okx.socket.close_code == 4007
    async with client.ws_connect(simulator.okx_private_url) as again:
        await again.send_json(okx_login(MAIN))
        assert (await again.receive_json())["code"] == "60005"
