import pytest
from simulator.signing import Binance, binance_rest, now_ms, place, true_state

from aggregator.simulator.keys import named

MAIN, VIEWER, ED = (named("binance", name) for name in ("main", "viewer", "ed25519"))
LIMIT = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "GTC"}
LIMIT |= {"quantity": "0.1", "price": "70000"}


@pytest.fixture
def ask(simulator, client):
    async def run(method, path, key=MAIN, headers=None, **given):
        return await binance_rest(client, simulator, key, method, path, headers=headers, **given)

    return run


@pytest.mark.parametrize(
    ("headers", "given", "status", "code"),
    [
        ({}, {}, 401, -2014),
        ({"X-MBX-APIKEY": "short"}, {}, 401, -2014),
        ({"X-MBX-APIKEY": "a" * 64}, {}, 401, -2015),
        ({"X-MBX-APIKEY": VIEWER.api_key}, {}, 400, -1022),
        (None, {"timestamp": now_ms() - 3_600_000}, 400, -1021),
        (None, {"timestamp": now_ms() + 3_600_000}, 400, -1021),
        (None, {"recvWindow": "60001"}, 400, -1131),
        (None, {"timestamp": ""}, 400, -1102),
        (None, {"signature": "0" * 64}, 400, -1101),
        (None, {"unknown": "1"}, 400, -1104),
    ],
)
async def test_who_is_not_let_in(ask, headers, given, status, code):
    """The venue's status and code for each; the order of the checks is key, time, signature."""
    answered, body = await ask("GET", "/api/v3/account", headers=headers, **given)
    assert (answered, body["code"]) == (status, code)


async def test_a_request_without_a_signature(simulator, client):
    """It is -1102: the parameter is missing."""
    url = f"{simulator.binance_url}/api/v3/account?timestamp={now_ms()}"
    async with client.get(url, headers={"X-MBX-APIKEY": MAIN.api_key}) as response:
        assert (response.status, (await response.json())["code"]) == (400, -1102)


@pytest.mark.parametrize("key", [MAIN, ED], ids=["hmac", "ed25519"])
async def test_the_account(ask, key):
    """Balances, permissions and the user's number; both kinds of keys see the same."""
    status, body = await ask("GET", "/api/v3/account", key=key)
    assert (status, body["canTrade"], body["permissions"], body["uid"]) == (
        200, True, ["SPOT"], 354937868,
    )  # fmt: skip
    assert {"asset": "BTC", "free": "2.00000000", "locked": "0.00000000"} in body["balances"]
    assert body["commissionRates"]["taker"] == "0.00100000"


async def test_what_a_key_may_do(ask):
    """`apiRestrictions` says it; who may only read gets 401 and -2015 for an order."""
    for key in (MAIN, VIEWER):
        _, body = await ask("GET", "/sapi/v1/account/apiRestrictions", key=key)
        assert body["enableReading"] is True
        assert body["enableWithdrawals"] is False
        assert body["enableSpotAndMarginTrading"] is key.may_trade
    status, body = await ask("POST", "/api/v3/order", key=VIEWER, **LIMIT)
    assert (status, body["code"]) == (401, -2015)
    assert (await ask("GET", "/api/v3/openOrders", key=VIEWER))[1] == []


async def test_an_order_and_its_end(ask, simulator):
    """Placed in a body, found, filled in part, canceled by its name."""
    status, made = await ask("POST", "/api/v3/order", newClientOrderId="mine1", **LIMIT)
    assert (status, made["status"], made["fills"]) == (200, "NEW", [])
    account = simulator.engine.accounts.of("binance", "main")
    order = account.open[made["orderId"]]
    simulator.engine.fill(account, order, order.size / 4)
    _, found = await ask("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine1")
    assert (found["status"], found["executedQty"], found["cummulativeQuoteQty"]) == (
        "PARTIALLY_FILLED", "0.02500000", "1750.00000000",
    )  # fmt: skip
    assert (await ask("GET", "/api/v3/openOrders", symbol="BTCUSDT"))[1] == [found]
    _, gone = await ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=made["orderId"])
    assert (gone["status"], gone["origClientOrderId"]) == ("CANCELED", "mine1")
    _, again = await ask("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=made["orderId"])
    assert again["code"] == -2011
    assert (await ask("GET", "/api/v3/openOrders"))[1] == []
    _, everything = await ask("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    assert [row["status"] for row in everything] == ["CANCELED"]


async def test_a_market_order(ask):
    """FULL shows the fills, RESULT leaves them out, ACK has no more than the numbers."""
    given = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.05"}
    _, full = await ask("POST", "/api/v3/order", **given)
    assert (full["status"], full["executedQty"]) == ("FILLED", "0.05000000")
    assert len(full["fills"]) > 1
    assert {fill["commissionAsset"] for fill in full["fills"]} == {"BTC"}
    _, result = await ask("POST", "/api/v3/order", newOrderRespType="RESULT", **given)
    assert "fills" not in result
    _, ack = await ask("POST", "/api/v3/order", newOrderRespType="ACK", **given)
    assert set(ack) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}
    given = {"symbol": "BTCUSDT", "side": "SELL", "type": "MARKET", "quoteOrderQty": "1000"}
    _, sold = await ask("POST", "/api/v3/order", **given)
    assert (sold["status"], sold["origQuoteOrderQty"]) == ("FILLED", "1000.00000000")
    assert sold["origQty"] == sold["executedQty"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"quantity": "100"}, -2010),
        ({"quantity": "0.000001"}, -1013),
        ({"price": "70000.001"}, -1013),
        ({"quantity": "x"}, -1100),
        ({"symbol": "NOPE"}, -1121),
        ({"symbol": "WAVESUSDT"}, -2010),
        ({"side": "HOLD"}, -1117),
        ({"type": "STOP_LOSS"}, -1116),
        ({"type": "MARKET"}, -1106),
        ({"timeInForce": "GTX"}, -1115),
        ({"timeInForce": ""}, -1102),
        ({"newOrderRespType": "ALL"}, -1130),
        ({"type": "LIMIT_MAKER", "price": "60000"}, -1106),
    ],
)
async def test_orders_that_are_refused(ask, change, code):
    """HTTP 400 and the code of the documentation."""
    status, body = await ask("POST", "/api/v3/order", **LIMIT | change)
    assert (status, body["code"]) == (400, code)


async def test_a_maker_order_that_would_take(ask):
    """It is refused with the engine's words; one that waits is acknowledged alone."""
    given = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT_MAKER", "quantity": "0.1"}
    status, body = await ask("POST", "/api/v3/order", price="60000", **given)
    assert (status, body) == (
        400, {"code": -2010, "msg": "Order would immediately match and take."},
    )  # fmt: skip
    assert (await ask("POST", "/api/v3/order", price="70000", **given))[0] == 200


async def test_names_are_unique_while_they_work(ask):
    """A second open order of one name is a duplicate."""
    for status in (200, 400):
        assert (await ask("POST", "/api/v3/order", newClientOrderId="a", **LIMIT))[0] == status


@pytest.mark.parametrize(
    ("path", "given", "code"),
    [
        ("/api/v3/order", {"symbol": "BTCUSDT"}, -1102),
        ("/api/v3/order", {"symbol": "BTCUSDT", "orderId": "1"}, -2013),
        ("/api/v3/order", {"symbol": "BTCUSDT", "orderId": "x"}, -1100),
        ("/api/v3/allOrders", {}, -1102),
    ],
)
async def test_queries_that_are_refused(ask, path, given, code):
    """HTTP 400 and the code of the documentation."""
    status, body = await ask("GET", path, **given)
    assert (status, body["code"]) == (400, code)


async def test_pages(ask, simulator, client):
    """From a number on the oldest come first; without one the newest are the last."""
    for _ in range(5):
        await place(
            client, simulator, "binance/main", instrument="BTC/USDT", side="buy", size="0.0001"
        )
    _, trades = await ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    ids = [row["id"] for row in trades]
    assert ids == sorted(ids)
    assert len(ids) == 5
    _, page = await ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", limit=2)
    assert [row["id"] for row in page] == ids[3:]
    _, page = await ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", fromId=ids[1], limit=2)
    assert [row["id"] for row in page] == ids[1:3]
    order = trades[2]["orderId"]
    _, page = await ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=order)
    assert [row["id"] for row in page] == ids[2:3]
    _, page = await ask("GET", "/api/v3/allOrders", symbol="BTCUSDT", orderId=order)
    assert [row["orderId"] for row in page] == [row["orderId"] for row in trades[2:]]
    later = trades[-1]["time"] + 1
    assert (await ask("GET", "/api/v3/myTrades", symbol="BTCUSDT", startTime=later))[1] == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_listen_keys_are_gone(simulator, client, method):
    """Since February 2026 the venue answers 410 with a page, whoever asks."""
    url = f"{simulator.binance_url}/api/v3/userDataStream"
    async with client.request(method, url, headers={"X-MBX-APIKEY": MAIN.api_key}) as response:
        assert (response.status, response.content_type) == (410, "text/html")
        assert "410 Gone" in await response.text()


async def test_rest_and_the_stream_tell_the_same(ask, simulator, client):
    """Orders, trades and balances are equal over REST, in the stream, and in truth."""
    async with client.ws_connect(simulator.binance_ws_api_url) as socket:
        api = Binance(socket)
        await api.subscribe(MAIN)
        await ask("POST", "/api/v3/order", **LIMIT | {"price": "67050"})
        await ask("POST", "/api/v3/order", symbol="BTCUSDT", side="BUY", type="MARKET",
                  quoteOrderQty="500")  # fmt: skip
        simulator.tick(200)
        events = [event["event"] for event in await api.quiet()]
    reports = [event for event in events if event["e"] == "executionReport"]
    orders = {r["i"]: (r["X"], r["q"], r["z"], r["Z"]) for r in reports}
    trades = {
        r["t"]: (r["i"], r["L"], r["l"], r["n"], r["N"], r["m"]) for r in reports if r["t"] > 0
    }
    balances = {}
    for event in events:
        balances |= {b["a"]: (b["f"], b["l"]) for b in event.get("B", [])}
    _, rows = await ask("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    names = ("status", "origQty", "executedQty", "cummulativeQuoteQty")
    assert orders == {row["orderId"]: tuple(row[name] for name in names) for row in rows}
    _, rows = await ask("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    names = ("orderId", "price", "qty", "commission", "commissionAsset", "isMaker")
    assert trades == {row["id"]: tuple(row[name] for name in names) for row in rows}
    _, account = await ask("GET", "/api/v3/account")
    shown = {row["asset"]: (row["free"], row["locked"]) for row in account["balances"]}
    assert shown | balances == shown
    truth = await true_state(client, simulator, "binance/main")
    assert len(trades) == len(truth["fills"]) > 2
