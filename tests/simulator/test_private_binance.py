import time
from decimal import Decimal

import pytest
from simulator.signing import Binance, binance_params, place

from aggregator.simulator import Simulator
from aggregator.simulator.keys import named

MAIN, ED = named("binance", "main"), named("binance", "ed25519")


@pytest.fixture
async def api(simulator, client):
    async with client.ws_connect(simulator.binance_ws_api_url) as socket:
        yield Binance(socket)


async def test_what_needs_no_key(api):
    """`ping` and `time` answer with the id, a status and the used weight."""
    answer = await api.call("ping")
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    weight |= {"limit": 6000, "count": 1}
    assert answer == {"id": "x1", "status": 200, "result": {}, "rateLimits": [weight]}
    assert abs((await api.call("time"))["result"]["serverTime"] - time.time() * 1000) < 5000
    assert "rateLimits" not in await api.call("v3/time", returnRateLimits=False)


@pytest.mark.parametrize("key", [MAIN, ED], ids=["hmac", "ed25519"])
async def test_a_signed_subscription(api, key):
    """HMAC and Ed25519 keys subscribe with a signature; once for an account and connection."""
    assert await api.subscribe(key) == 0
    again = await api.call("userDataStream.subscribe.signature", **binance_params(key))
    assert (again["status"], again["error"]["code"]) == (400, -2035)
    assert await api.subscribe(named("binance", "second")) == 1
    assert (await api.call("session.subscriptions"))["result"] == [
        {"subscriptionId": 0}, {"subscriptionId": 1},
    ]  # fmt: skip
    assert (await api.call("session.status"))["result"]["userDataStream"] is True


async def test_a_session(api):
    """Ed25519 keys log on; requests then need a time alone; logout ends what logon began."""
    assert (await api.call("userDataStream.subscribe"))["status"] == 401
    answer = await api.call("session.logon", **binance_params(ED))
    assert (answer["status"], answer["result"]["apiKey"]) == (200, ED.api_key)
    assert (await api.call("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
    assert await api.subscribe(named("binance", "second")) == 1
    account = await api.call("account.status", timestamp=int(time.time() * 1000))
    assert account["result"]["uid"] == 354937868
    answer = await api.call("session.logout")
    assert (answer["result"]["apiKey"], answer["result"]["userDataStream"]) == (None, True)
    event = (await api.events(1))[0]
    assert (event["subscriptionId"], event["event"]["e"]) == (0, "eventStreamTerminated")
    assert (await api.call("session.subscriptions"))["result"] == [{"subscriptionId": 1}]
    refused = await api.call("account.status", timestamp=int(time.time() * 1000))
    assert refused["error"]["code"] == -1102


async def test_only_ed25519_logs_on(api):
    """A session of an HMAC key is refused."""
    answer = await api.call("session.logon", **binance_params(MAIN))
    assert (answer["status"], answer["error"]["code"]) == (400, -4056)


@pytest.mark.parametrize("key", [MAIN, ED], ids=["hmac", "ed25519"])
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"signature": "0" * 64}, 400, -1022),
        ({"apiKey": "short"}, 401, -2014),
        ({"apiKey": "a" * 64}, 401, -2015),
        ({"apiKey": ""}, 400, -1102),
        ({"signature": ""}, 400, -1102),
        ({"timestamp": "soon"}, 400, -1100),
    ],
)
async def test_bad_signatures(api, key, change, status, code):
    """Each has its code; nothing is subscribed."""
    params = binance_params(key) | change
    answer = await api.call("userDataStream.subscribe.signature", **params)
    assert (answer["status"], answer["error"]["code"]) == (status, code)
    assert (await api.call("session.subscriptions"))["result"] == []


@pytest.mark.parametrize(
    ("offset_ms", "extra", "code"),
    [
        (-6_000, {}, -1021),
        (-6_000, {"recvWindow": 10_000}, None),
        (3_000, {}, -1021),
        (0, {"recvWindow": 60_001}, -1131),
        (0, {"recvWindow": "wide"}, -1100),
    ],
)
async def test_the_time_of_a_request(api, offset_ms, extra, code):
    """It holds for `recvWindow`, 5 s by default, and at most a second in the future."""
    at = int(time.time() * 1000) + offset_ms
    params = binance_params(MAIN, timestamp=at, **extra)
    answer = await api.call("userDataStream.subscribe.signature", **params)
    assert answer.get("error", {}).get("code") == code


async def test_microseconds(api):
    """A time may be given in microseconds too."""
    params = binance_params(MAIN, timestamp=time.time_ns() // 1000)
    assert (await api.call("userDataStream.subscribe.signature", **params))["status"] == 200


@pytest.mark.parametrize(
    ("text", "code"),
    [("not JSON", -1135), ("[]", -1135), ('{"id": 1, "method": "userDataStream.start"}', -1020)],
)
async def test_what_is_no_request(api, text, code):
    """It is answered with an error, and the connection stays."""
    await api.socket.send_str(text)
    answer = await api.socket.receive_json()
    assert (answer["status"], answer["error"]["code"]) == (400, code)
    assert (await api.call("ping"))["status"] == 200


async def test_an_order_from_placing_to_the_last_fill(simulator, client, api):
    """NEW and two TRADEs, each followed by the balances it touched, all wrapped."""
    await api.subscribe(MAIN)
    given = {"instrument": "BTC/USDT", "side": "sell", "price": "70000", "size": "0.1"}
    made = await place(client, simulator, "binance/main", **given, client_id="mine1")
    url = f"{simulator.accounts_url}/binance/main/orders/mine1/fill"
    for size in ("0.04", "0.06"):
        async with client.post(url, json={"size": size}) as response:
            assert response.status == 201
    wrapped = await api.events(6)
    assert {frozenset(event) for event in wrapped} == {frozenset(("subscriptionId", "event"))}
    events = [event["event"] for event in wrapped]
    assert [e["e"] for e in events] == ["executionReport", "outboundAccountPosition"] * 3
    new, part, whole = reports = events[::2]
    assert [r["x"] for r in reports] == ["NEW", "TRADE", "TRADE"]
    assert [r["X"] for r in reports] == ["NEW", "PARTIALLY_FILLED", "FILLED"]
    assert [(r["l"], r["z"]) for r in reports] == [
        ("0.00000000", "0.00000000"), ("0.04000000", "0.04000000"), ("0.06000000", "0.10000000"),
    ]  # fmt: skip
    assert (part["L"], part["n"], part["N"]) == ("70000.00000000", "2.80000000", "USDT")
    assert (part["Y"], whole["Z"]) == ("2800.00000000", "7000.00000000")
    assert (new["t"], new["n"], new["N"], new["w"], whole["w"], part["m"]) == (
        -1, "0", None, True, False, True,
    )  # fmt: skip
    assert {(r["i"], r["c"], r["s"], r["S"], r["o"], r["C"]) for r in reports} == {
        (int(made["id"]), "mine1", "BTCUSDT", "SELL", "LIMIT", "")
    }
    assert part["t"] < whole["t"]
    documented = set("eEscSofqpPFgCxXriLlznNTtIwmMOZYQWV") - {"v"}
    assert set(new) == documented
    assert events[1]["B"] == [{"a": "BTC", "f": "1.90000000", "l": "0.10000000"}]
    assert events[5]["B"] == [
        {"a": "BTC", "f": "1.90000000", "l": "0.00000000"},
        {"a": "USDT", "f": "106993.00000000", "l": "0.00000000"},
    ]


async def test_ways_to_end(simulator, client, api):
    """A user's cancellation renames the order; the venue's own makes it expire, with a reason."""
    await api.subscribe(ED)
    for reason in ("user", "system"):
        given = {"instrument": "BTC/USDT", "side": "buy", "price": "1", "size": "1"}
        await place(client, simulator, "binance/main", **given, client_id="mine")
        url = f"{simulator.accounts_url}/binance/main/orders/mine"
        async with client.delete(url, json={"reason": reason}) as response:
            assert response.status == 200
        report = (await api.events(4))[2]["event"]
        assert (report["x"], report["X"], report.get("eR")) == {
            "user": ("CANCELED", "CANCELED", None),
            "system": ("EXPIRED", "EXPIRED", "EXCHANGE_CANCELED"),
        }[reason]
    params = binance_params(MAIN, symbol="BTCUSDT", side="BUY", type="LIMIT", timeInForce="GTC",
                            quantity="1", price="1", newClientOrderId="mine2")  # fmt: skip
    placed = (await api.call("order.place", **params))["result"]
    params = binance_params(
        MAIN, symbol="BTCUSDT", orderId=placed["orderId"], newClientOrderId="c2"
    )
    canceled = (await api.call("order.cancel", **params))["result"]
    assert (canceled["origClientOrderId"], canceled["clientOrderId"]) == ("mine2", "c2")
    report = (await api.events(4))[2]["event"]
    assert (report["x"], report["c"], report["C"]) == ("CANCELED", "c2", "mine2")


async def test_a_rejected_order(simulator, client, api):
    """REJECTED with its reason, and no balance that changed."""
    await api.subscribe(MAIN)
    given = {"instrument": "BTC/USDT", "side": "buy", "price": "1", "size": "1"}
    await place(client, simulator, "binance/main", **given, reject="INSUFFICIENT_BALANCES")
    report = (await api.events(1))[0]["event"]
    assert (report["x"], report["X"], report["r"]) == (
        "REJECTED",
        "REJECTED",
        "INSUFFICIENT_BALANCES",
    )
    assert await api.quiet() == []


async def test_deposits(simulator, api):
    """`balanceUpdate` with the difference, then the balances."""
    await api.subscribe(MAIN)
    account = simulator.engine.accounts.of("binance", "main")
    simulator.engine.deposit(account, "BTC", Decimal("0.5"))
    simulator.engine.deposit(account, "USDT", Decimal("-0.25"))
    events = [event["event"] for event in await api.events(4)]
    assert [(e["a"], e["d"]) for e in events[::2]] == [
        ("BTC", "0.50000000"),
        ("USDT", "-0.25000000"),
    ]
    assert events[3]["B"] == [{"a": "USDT", "f": "99999.75000000", "l": "0.00000000"}]


async def test_unsubscribed(simulator, client, api):
    """By number or all; each end is told, and what is not there is refused."""
    await api.subscribe(MAIN)
    await api.subscribe(named("binance", "second"))
    assert (await api.call("userDataStream.unsubscribe", subscriptionId=5))["error"][
        "code"
    ] == -2036
    for params, number in (({"subscriptionId": 1}, 1), ({}, 0)):
        assert (await api.call("userDataStream.unsubscribe", **params))["result"] == {}
        event = (await api.events(1))[0]
        assert (event["subscriptionId"], event["event"]["e"]) == (number, "eventStreamTerminated")
    await place(client, simulator, "binance/main", instrument="BTC/USDT", side="buy", size="0.001")
    assert await api.quiet() == []
    assert (await api.call("userDataStream.unsubscribe"))["error"]["code"] == -2036
    assert await api.subscribe(MAIN) == 2


async def test_a_key_that_is_deleted(simulator, client, api):
    """The session is told 401 without an id, its stream ends, and the key is unknown."""
    await api.call("session.logon", **binance_params(ED))
    await api.call("userDataStream.subscribe")
    async with client.post(f"{simulator.accounts_url}/binance/keys/ed25519/revoke") as response:
        assert response.status == 200
    told = await api.socket.receive_json()
    assert (told["id"], told["status"], told["error"]["code"]) == (None, 401, -2015)
    assert (await api.socket.receive_json())["event"]["e"] == "eventStreamTerminated"
    answer = await api.call("session.logon", **binance_params(ED))
    assert answer["error"]["code"] == -2015


async def test_weights_are_shared_with_rest(client):
    """Requests over the WebSocket API count into the address's budget; too many are 429."""
    async with (
        Simulator(ticks_per_s=0, binance_weight_limit=25) as simulator,
        client.ws_connect(simulator.binance_ws_api_url) as socket,
    ):
        api = Binance(socket)
        assert (await api.call("account.status", **binance_params(MAIN)))["status"] == 200
        async with client.get(f"{simulator.binance_url}/api/v3/time") as response:
            assert response.headers["X-MBX-USED-WEIGHT-1M"] == "21"
        answer = await api.call("account.status", **binance_params(MAIN))
        assert (answer["status"], answer["error"]["code"]) == (429, -1003)


async def test_the_servers_pings(client):
    """A ping with a payload comes; who does not answer is disconnected."""
    async with (
        Simulator(ticks_per_s=0, binance_ping_s=0.02, binance_pong_timeout_s=0.1) as simulator,
        client.ws_connect(simulator.binance_ws_api_url, autoping=False) as socket,
    ):
        kinds = [(await socket.receive()).type.name for _ in range(2)]
        assert kinds == ["PING", "CLOSE"]
        assert socket.close_code == 1008
