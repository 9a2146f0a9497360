from datetime import UTC, datetime, timedelta

import pytest
from simulator.signing import Okx, okx_rest, place, true_state

from aggregator.simulator import signatures
from aggregator.simulator.keys import named

MAIN, VIEWER = named("okx", "main"), named("okx", "viewer")
LIMIT = {"instId": "BTC-USDT", "tdMode": "cash", "side": "sell", "ordType": "limit"}
LIMIT |= {"px": "70000", "sz": "0.1"}


@pytest.fixture
def ask(simulator, client):
    async def run(method, path, body=None, key=MAIN, headers=None):
        return await okx_rest(client, simulator, key, method, path, body=body, headers=headers)

    return run


def _then(**offset):
    at = datetime.now(UTC) + timedelta(**offset)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"key": None}, "50103"),
        ({"passphrase": None}, "50104"),
        ({"sign": None}, "50106"),
        ({"timestamp": None}, "50107"),
        ({"key": "other"}, "50111"),
        ({"timestamp": "noon"}, "50112"),
        ({"timestamp": _then(hours=-1)}, "50102"),
        ({"timestamp": _then(hours=1)}, "50102"),
        ({"passphrase": "other"}, "50105"),
        ({"sign": "other"}, "50113"),
    ],
)
async def test_who_is_not_let_in(ask, headers, code):
    """HTTP 401, the code, and no `data`."""
    status, body = await ask("GET", "account/balance", headers=headers)
    assert (status, body["code"], set(body)) == (401, code, {"msg", "code"})


async def test_the_query_and_the_body_are_signed(simulator, client):
    """A signature of other parameters does not hold."""
    status, body = await okx_rest(client, simulator, MAIN, "GET", "account/balance?ccy=BTC,ETH")
    assert (status, [row["ccy"] for row in body["data"][0]["details"]]) == (200, ["BTC", "ETH"])
    now = _then()
    sign = signatures.okx(MAIN.secret, now, "GET", "/api/v5/account/balance")
    headers = {"sign": sign, "timestamp": now}
    path = "account/balance?ccy=BTC"
    status, body = await okx_rest(client, simulator, MAIN, "GET", path, headers=headers)
    assert (status, body["code"]) == (401, "50113")


async def test_what_a_key_may_do(ask):
    """`perm` says it, and who may only read is refused with 50120; reading works."""
    for key, perm in ((MAIN, "read_only,trade"), (VIEWER, "read_only")):
        status, body = await ask("GET", "account/config", key=key)
        assert (status, body["data"][0]["perm"]) == (200, perm)
        assert body["data"][0]["uid"] == "446556018584"
    for path in ("trade/order", "trade/cancel-order"):
        status, body = await ask("POST", path, LIMIT, key=VIEWER)
        assert (status, body["code"], body["data"]) == (200, "50120", [])
    assert (await ask("GET", "trade/orders-pending", key=VIEWER))[1]["data"] == []


async def test_an_order_and_its_end(ask, simulator):
    """Placed, found among the pending, filled in part, canceled, found in the history."""
    status, body = await ask("POST", "trade/order", LIMIT | {"clOrdId": "mine1", "tag": "t"})
    row = body["data"][0]
    assert (status, body["code"], row["sCode"], row["clOrdId"]) == (200, "0", "0", "mine1")
    assert int(body["inTime"]) <= int(body["outTime"])
    assert set(row) == {"clOrdId", "ordId", "tag", "ts", "sCode", "sMsg", "subCode"}
    _, pending = await ask("GET", "trade/orders-pending?instType=SPOT")
    assert [(o["ordId"], o["state"], o["tag"]) for o in pending["data"]] == [
        (row["ordId"], "live", "t")
    ]
    account = simulator.engine.accounts.of("okx", "main")
    fill = simulator.engine.fill(account, account.open[int(row["ordId"])])
    assert fill.size == account.recent[0].size
    _, one = await ask("GET", f"trade/order?instId=BTC-USDT&ordId={row['ordId']}")
    assert (one["data"][0]["state"], one["data"][0]["avgPx"]) == ("filled", "70000")
    status, body = await ask(
        "POST", "trade/cancel-order", {"instId": "BTC-USDT", "ordId": row["ordId"]}
    )
    assert (status, body["code"], body["data"][0]["sCode"]) == (200, "1", "51400")
    _, again = await ask("POST", "trade/order", LIMIT)
    gone = {"instId": "BTC-USDT", "ordId": again["data"][0]["ordId"]}
    assert (await ask("POST", "trade/cancel-order", gone))[1]["data"][0]["sCode"] == "0"
    _, history = await ask("GET", "trade/orders-history?instType=SPOT")
    assert [o["state"] for o in history["data"]] == ["canceled", "filled"]
    _, canceled = await ask("GET", "trade/orders-history?instType=SPOT&state=canceled")
    assert [o["ordId"] for o in canceled["data"]] == [gone["ordId"]]
    assert (await ask("GET", "trade/orders-history"))[1]["code"] == "50014"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"sz": "100"}, "51008"),
        ({"sz": "0"}, "51020"),
        ({"sz": "0.000001"}, "51121"),
        ({"sz": "x"}, "51000"),
        ({"px": "70000.001"}, "51000"),
        ({"instId": "NOPE-USDT"}, "51001"),
        ({"ordType": "magic"}, "51000"),
        ({"side": "hold"}, "51000"),
    ],
)
async def test_orders_that_are_refused(ask, simulator, change, code):
    """HTTP 200, code 1, and in the row what is wrong; nothing is frozen."""
    status, body = await ask("POST", "trade/order", LIMIT | change)
    assert (status, body["code"], body["msg"]) == (200, "1", "All operations failed")
    assert (body["data"][0]["sCode"], body["data"][0]["ordId"]) == (code, "")
    account = simulator.engine.accounts.of("okx", "main")
    assert all(balance.frozen == 0 for balance in account.balances.values())


async def test_names_are_unique_while_they_work(ask):
    """A second open order of one name is refused with 51016."""
    assert (await ask("POST", "trade/order", LIMIT | {"clOrdId": "a"}))[1]["code"] == "0"
    assert (await ask("POST", "trade/order", LIMIT | {"clOrdId": "a"}))[1]["data"][0][
        "sCode"
    ] == "51016"


async def test_many_at_once(ask):
    """`batch-orders` answers for each; code 2 says that some failed."""
    status, body = await ask("POST", "trade/batch-orders", [LIMIT, LIMIT | {"sz": "100"}])
    assert (status, body["code"], [row["sCode"] for row in body["data"]]) == (
        200,
        "2",
        ["0", "51008"],
    )
    gone = [{"instId": "BTC-USDT", "ordId": body["data"][0]["ordId"]}]
    assert (await ask("POST", "trade/cancel-batch-orders", gone))[1]["code"] == "0"


@pytest.mark.parametrize(
    ("request_", "body", "status", "code"),
    [
        ("POST trade/order", None, 400, "50000"),
        ("POST trade/order", [], 400, "50002"),
        ("GET trade/order?instId=BTC-USDT", None, 200, "51003"),
        ("GET trade/order?instId=BTC-USDT&ordId=1", None, 200, "51603"),
        ("GET trade/fills?limit=x", None, 400, "51000"),
        ("POST trade/cancel-order", {"instId": "BTC-USDT"}, 200, "51003"),
    ],
)
async def test_requests_that_are_wrong(ask, request_, body, status, code):
    """Each has the code of the documentation."""
    answered, answer = await ask(*request_.split(), body)
    assert (answered, answer["code"]) == (status, code)


async def test_pages(ask, simulator, client):
    """Newest first; `after` goes back from an order's or a bill's number, `before` forth."""
    for _ in range(5):
        await place(client, simulator, "okx/main", instrument="BTC/USDT", side="buy", size="0.0001")
    _, everything = await ask("GET", "trade/orders-history?instType=SPOT")
    ids = [row["ordId"] for row in everything["data"]]
    assert ids == sorted(ids, reverse=True)
    _, page = await ask("GET", f"trade/orders-history?instType=SPOT&after={ids[1]}&limit=2")
    assert [row["ordId"] for row in page["data"]] == ids[2:4]
    _, fills = await ask("GET", "trade/fills-history?instType=SPOT")
    bills = [row["billId"] for row in fills["data"]]
    assert len(bills) == 5
    _, page = await ask("GET", f"trade/fills?before={bills[2]}")
    assert [row["billId"] for row in page["data"]] == bills[:2]
    _, page = await ask("GET", f"trade/fills?ordId={ids[0]}")
    assert [row["ordId"] for row in page["data"]] == ids[:1]
    later = int(fills["data"][0]["ts"]) + 1
    assert (await ask("GET", f"trade/fills?begin={later}"))[1]["data"] == []


async def test_rest_and_the_stream_tell_the_same(ask, simulator, client):
    """Orders, fills and balances are equal over REST, over the WebSocket, and in truth."""
    async with client.ws_connect(simulator.okx_private_url) as socket:
        okx = Okx(socket)
        await okx.login(MAIN)
        await okx.subscribe({"channel": "orders", "instType": "ANY"}, {"channel": "account"})
        await ask("POST", "trade/order", LIMIT | {"px": "67050"})
        await ask("POST", "trade/order", LIMIT | {"ordType": "market", "side": "buy", "sz": "500"})
        simulator.tick(200)
        pushes = [push for push in await okx.quiet() if "data" in push]
    orders, fills, balances = {}, {}, {}
    for push in pushes:
        for row in push["data"]:
            if push["arg"]["channel"] == "account":
                balances |= {d["ccy"]: (d["availBal"], d["frozenBal"]) for d in row["details"]}
                continue
            orders[row["ordId"]] = (row["state"], row["accFillSz"], row["fee"])
            if row["tradeId"]:
                fills[row["tradeId"]] = (row["ordId"], row["fillPx"], row["fillSz"], row["fillFee"])
    _, ended = await ask("GET", "trade/orders-history?instType=SPOT")
    _, pending = await ask("GET", "trade/orders-pending")
    rows = ended["data"] + pending["data"]
    assert orders == {r["ordId"]: (r["state"], r["accFillSz"], r["fee"]) for r in rows}
    _, traded = await ask("GET", "trade/fills")
    assert fills == {
        r["tradeId"]: (r["ordId"], r["fillPx"], r["fillSz"], r["fee"]) for r in traded["data"]
    }
    _, answer = await ask("GET", "account/balance")
    details = answer["data"][0]["details"]
    assert balances == {d["ccy"]: (d["availBal"], d["frozenBal"]) for d in details}
    truth = await true_state(client, simulator, "okx/main")
    assert balances == {c: (b["available"], b["frozen"]) for c, b in truth["balances"].items()}
    assert len(fills) == len(truth["fills"]) > 2
