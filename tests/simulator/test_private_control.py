import pytest
from simulator.signing import place, true_state

from aggregator.simulator.keys import KEYS


async def test_what_accounts_there_are(simulator, client):
    """The list has every account and every key with all that a client needs to use it."""
    async with client.get(simulator.accounts_url) as response:
        body = await response.json()
    assert {(one["venue"], one["name"]) for one in body["accounts"]} == {
        (venue, name) for venue in ("okx", "binance") for name in ("main", "second")
    }
    assert [(key["api_key"], key["secret"]) for key in body["keys"]] == [
        (key.api_key, key.secret) for key in KEYS
    ]
    async with client.get(simulator.accounts_url.removesuffix("/accounts")) as response:
        urls = (await response.json())["urls"]
    assert urls["okx_private_url"] == simulator.okx_private_url
    assert urls["binance_ws_api_url"] == simulator.binance_ws_api_url


@pytest.mark.parametrize("venue", ["okx", "binance"])
async def test_the_true_state(simulator, client, venue):
    """Orders by hand, fills, cancellations and deposits show in the account's page at once."""
    account = f"{venue}/main"
    made = await place(
        client, simulator, account, instrument="btc-usdt", side="sell", price="70000.5", size="0.1"
    )
    assert (made["state"], made["instrument"], made["price"]) == ("live", "BTC/USDT", "70000.5")
    url = f"{simulator.accounts_url}/{account}"
    async with client.post(f"{url}/orders/{made['id']}/fill", json={"size": "0.03"}) as response:
        fill = await response.json()
    assert (fill["price"], fill["size"], fill["role"]) == ("70000.5", "0.03", "maker")
    better = {"size": "0.01", "price": "70001", "role": "taker"}
    async with client.post(f"{url}/orders/{made['id']}/fill", json=better) as response:
        assert (await response.json())["role"] == "taker"
    async with client.post(f"{url}/deposit", json={"currency": "DOGE", "amount": "7"}) as response:
        assert (response.status, (await response.json())["DOGE"]) == (
            201, {"available": "7", "frozen": "0"},
        )  # fmt: skip
    state = await true_state(client, simulator, account)
    assert [order["filled"] for order in state["open_orders"]] == ["0.04"]
    assert [one["size"] for one in state["fills"]] == ["0.03", "0.01"]
    assert state["balances"]["BTC"] == {"available": "1.9", "frozen": "0.06"}
    async with client.delete(f"{url}/orders/{made['id']}") as response:
        gone = await response.json()
    assert (gone["state"], gone["reason"]) == ("canceled", "system")
    state = await true_state(client, simulator, account)
    assert (state["open_orders"], state["recent_orders"]) == ([], [gone])
    assert state["balances"]["BTC"] == {"available": "1.96", "frozen": "0"}


@pytest.mark.parametrize(
    ("request_", "body", "answer"),
    [
        ("GET okx/nobody", None, (404, "no account")),
        ("POST okx/main/orders", {"side": "buy"}, (400, "missing: instrument")),
        (
            "POST okx/main/orders",
            {"instrument": "BTC/USDT", "side": "buy", "size": 1},
            (400, "as text"),
        ),
        (
            "POST okx/main/orders",
            {"instrument": "BTC/USDT", "side": "buy", "size": "x"},
            (400, "as text"),
        ),
        ("POST okx/main/orders", {"instrument": "BTC/USDT", "side": 1}, (400, "wrong type")),
        ("POST okx/main/orders", {"instrument": "NO/PE", "side": "buy"}, (409, "does not trade")),
        ("POST okx/main/orders", {"nonsense": "1"}, (400, "unknown: nonsense")),
        ("POST okx/main/orders", [], (400, "object")),
        ("POST okx/main/orders/1/fill", {}, (404, "no order")),
        ("DELETE okx/main/orders/abc", None, (404, "no order")),
        ("POST okx/main/deposit", {"currency": "BTC"}, (400, "amount")),
        ("POST okx/main/deposit", {"currency": "BTC", "amount": "-3"}, (409, "only 2 BTC")),
        ("POST okx/keys/nobody/revoke", None, (404, "no key")),
    ],
)
async def test_wrong_orders_are_refused_with_the_reason(simulator, client, request_, body, answer):
    """400 where the request is wrong, 404 for what is not there, 409 where the engine refuses."""
    (method, path), (status, why) = request_.split(), answer
    url = f"{simulator.accounts_url}/{path}"
    async with client.request(method, url, json=body) as response:
        assert response.status == status
        assert why in (await response.json())["error"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"size": "0.2"}, "size"),
        ({"size": "0.000001"}, "lot"),
        ({"price": "69999"}, "price"),
        ({"price": "1e300"}, "size"),
    ],
)
async def test_fills_that_can_not_be(simulator, client, body, reason):
    """More than there is, parts of a lot, and a worse price than the order's are refused."""
    await place(
        client, simulator, "okx/main",
        instrument="BTC/USDT", side="sell", price="70000", size="0.1", client_id="mine",
    )  # fmt: skip
    url = f"{simulator.accounts_url}/okx/main/orders/mine/fill"
    async with client.post(url, json=body) as response:
        assert (response.status, (await response.json())["reason"]) == (409, reason)
    async with client.post(url, json={}) as response:
        assert response.status == 201
    async with client.post(url, json={}) as response:
        assert (response.status, (await response.json())["reason"]) == (409, "closed")


async def test_a_body_that_is_no_json(simulator, client):
    """It is refused with 400."""
    async with client.post(f"{simulator.accounts_url}/okx/main/deposit", data=b"{") as response:
        assert response.status == 400
