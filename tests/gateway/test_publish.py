"""Events of somebody's own engine: checked whole, published once, to whom they belong."""

from __future__ import annotations

import json

import pytest
from gateway.conftest import Daemon
from gateway.test_access import OPS, READER, TOKENS, auth
from gateway.wsclient import Raw

from aggregator import api, outlet, publishing
from aggregator.publishing import ConflictError, Publisher
from aggregator.tokens import Keyring

TIME = "2026-11-20T07:56:00.598Z"
ORDER = {
    "order_id": "o1",
    "symbol": "BTC/USDT",
    "side": "BUY",
    "type": "LIMIT",
    "status": "NEW",
    "quantity": "0.50",
    "filled_quantity": "0",
    "updated_at": TIME,
}
FILL = {
    "trade_id": "t1",
    "order_id": "o1",
    "symbol": "BTC/USDT",
    "side": "SELL",
    "price": "42000.10",
    "quantity": "0.10",
    "fee": "0.00010",
    "fee_asset": "BTC",
    "role": "MAKER",
    "traded_at": TIME,
}
BALANCE = {"asset": "BTC", "available": "1.50", "frozen": "0", "updated_at": TIME}
HOLDING = {"symbol": "BTC/USDT", "quantity": "1.50"}
PORTFOLIO = {
    "total_asset": "100.50",
    "cash_balance": "5.00",
    "positions": [HOLDING],
    "updated_at": TIME,
}
TRADE = {"id": "7", "side": "buy", "price": "2.50", "quantity": "4"}
STATUS = {"feed": "engine", "state": "live", "reason": "matching"}
PRIVATE = [
    ("order.update", "orders", ORDER),
    ("trade", "fills", FILL),
    ("balance.update", "balances", BALANCE),
    ("portfolio.update", "portfolio", PORTFOLIO),
]
TRADED = {"type": "trade_executed", "channel": "engine", "instrument": "BTC/USDT", "data": TRADE}


@pytest.fixture
async def engine(serve) -> Daemon:
    """Return a daemon with users and a channel for an engine."""
    return await serve(keyring=Keyring(TOKENS, {}, None), publish_channels=["engine"])


async def post(
    daemon: Daemon, body: object, token: str | None = OPS, kind: str = "application/json"
) -> tuple[int, dict[str, object]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ["POST /publish HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    lines += [f"Content-Length: {len(data)}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    async with await Raw.open(daemon.port) as raw:
        await raw.write("\r\n".join([*lines, "", ""]).encode() + data)
        status, _, text = await raw.response()
    return status, json.loads(text)


@pytest.mark.parametrize(("kind", "channel", "data"), PRIVATE)
async def test_private(engine, kind, channel, data):
    """It is the owner's alone, with the fields and digits that were given."""
    async with await engine.connect() as owner, await engine.connect() as other:
        for client, token in ((owner, READER), (other, OPS)):
            await client.ask(auth(token))
            await client.subscribe("orders", "fills", "balances", "portfolio")
        status, answer = await post(engine, {"type": kind, "user_id": 1001, "data": data})
        assert status == 200
        assert (answer["type"], answer["channel"], answer["seq"]) == (
            "publish_response",
            channel,
            1,
        )
        assert answer["duplicate"] is False
        message = await owner.receive()
        assert (message["type"], message["channel"], message["seq"]) == (kind, channel, 1)
        assert (message["account"], message["exchange"]) == ("engine", "engine")
        if kind == "portfolio.update":
            [holding] = message["data"].pop("positions")
            assert HOLDING.items() <= holding.items()
        assert {k: v for k, v in data.items() if k != "positions"}.items() <= message[
            "data"
        ].items()
        assert message["timestamp"] == TIME
        await other.pinged()


async def test_trade(engine):
    """On a channel that is open for it, for all, by instrument as well; the cost is computed."""
    async with await engine.connect() as client, await engine.connect() as one:
        await client.subscribe("engine")
        await one.subscribe("engine:ETH/USDT")
        assert (await post(engine, TRADED | {"timestamp": TIME}))[1]["seq"] == 1
        message = await client.receive()
        assert message["data"] == TRADE | {"cost": "10"}
        assert (message["exchange"], message["timestamp"]) == ("engine", TIME)
        await one.pinged()
        await post(engine, TRADED | {"instrument": "ETH/USDT"})
        assert (await one.receive())["seq"] == 2


async def test_status(engine):
    """On `system`, of what is no feed of the daemon's."""
    async with await engine.connect() as client:
        await client.subscribe("system")
        assert (await post(engine, {"type": "system_status", "data": STATUS}))[0] == 200
        message = await client.receive()
        assert (message["data"]["feed"], message["data"]["state"]) == ("engine", "live")
        assert message["data"]["since_us"] > 0
    feed = STATUS | {"feed": "prices"}
    status, answer = await post(engine, {"type": "system_status", "data": feed})
    assert (status, answer["code"]) == (409, "conflict")


async def test_states_are_bounded(engine, monkeypatch):
    """Of so many others than feeds are states told; of those it may go on."""
    monkeypatch.setattr(publishing, "MAX_STATES", 2)
    for feed, expected in (("a", 200), ("b", 200), ("c", 409), ("a", 200)):
        body = {"type": "system_status", "data": STATUS | {"feed": feed}}
        assert (await post(engine, body))[0] == expected


async def test_any_instrument(engine):
    """One that was never traded can be subscribed to, before the first trade and after."""
    async with await engine.connect() as client:
        await client.subscribe("engine:X@Y/USDT")
        await post(engine, TRADED)
        await client.subscribe("engine:ETH/USDT")
        # A star finds only what there is.
        answer = await client.ask({"type": "subscribe", "channels": ["*:NO/SUCH"]})
        assert answer["type"] == "subscribed"  # by `all`, which has yet to learn what it has
        assert answer["positions"].keys() == {"all"}
        await post(engine, TRADED | {"instrument": "X@Y/USDT"})
        assert (await client.receive())["instrument"] == "X@Y/USDT"


async def test_same_names_at_two_exchanges(engine):
    """Are two rows of the snapshot."""
    for exchange in ("okx", "binance"):
        body = {"type": "balance.update", "user_id": 1001, "exchange": exchange, "data": BALANCE}
        assert (await post(engine, body))[0] == 200
    async with await engine.connect() as client:
        await client.ask(auth(READER))
        await client.subscribe("balances")
        assert [(await client.receive())["exchange"] for _ in range(2)] == ["okx", "binance"]


async def test_what_was_sent_is_not_echoed(engine):
    """Not even the type."""
    status, answer = await post(engine, {"type": "planted"})
    assert (status, "planted" in str(answer)) == (400, False)


async def test_once_by_its_key(engine):
    """The same again is answered as the first time; something else under that key is refused."""
    event = TRADED | {"key": "k"}
    first = (await post(engine, event))[1]
    again = (await post(engine, event))[1]
    assert (again["seq"], again["duplicate"]) == (first["seq"], True)
    assert engine.hub.channels["engine"].seq == 1
    status, answer = await post(engine, event | {"instrument": "ETH/USDT"})
    assert (status, answer["code"]) == (409, "conflict")
    await post(engine, TRADED)
    await post(engine, TRADED)
    assert engine.hub.channels["engine"].seq == 3


async def test_what_fails_uses_up_no_key(engine):
    """A refused event can be sent again, mended, with its key."""
    wrong = TRADED | {"key": "k", "channel": "prices"}
    assert (await post(engine, wrong))[0] == 409
    assert (await post(engine, TRADED | {"key": "k"}))[0] == 200


def test_keys_are_bounded(engine, monkeypatch):
    """The oldest are forgotten."""
    monkeypatch.setattr(publishing, "MAX_KEYS", 2)
    publisher = Publisher(engine.hub, ["x"], [])
    event = TRADED | {"channel": "x"}
    for key in "abc":
        publisher.publish(event | {"key": key})
    assert [publisher.publish(event | {"key": key}).duplicate for key in "cba"] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "bad_json"),
        (b"[]", "bad_command"),
        ({}, "bad_command"),
        ({"type": "price_update"}, "bad_command"),
        ({"type": "order.update", "data": ORDER}, "bad_command"),
        ({"type": "order.update", "user_id": 0, "data": ORDER}, "bad_command"),
        ({"type": "order.update", "user_id": "1001; x", "data": ORDER}, "bad_command"),
        ({"type": "order.update", "user_id": 1001, "data": ORDER | {"status": "x"}}, "bad_command"),
        ({"type": "order.update", "user_id": 1001, "data": ORDER | {"more": 1}}, "bad_command"),
        ({"type": "trade", "user_id": 1001, "data": FILL | {"price": "1e5"}}, "bad_command"),
        ({"type": "trade", "user_id": 1001, "data": FILL | {"price": "NaN"}}, "bad_command"),
        ({"type": "trade", "user_id": 1001, "data": FILL | {"price": 1.5}}, "bad_command"),
        ({"type": "trade", "user_id": 1001, "data": FILL | {"traded_at": "now"}}, "bad_command"),
        ({"type": "balance.update", "user_id": True, "data": BALANCE}, "bad_command"),
        ({"type": "balance.update", "user_id": "1001", "data": BALANCE}, "bad_command"),
        ({"type": "balance.update", "user_id": 1001.0, "data": BALANCE}, "bad_command"),
        (
            {"type": "balance.update", "user_id": 1, "data": BALANCE | {"updated_at": 5}},
            "bad_command",
        ),
        (TRADED | {"data": TRADE | {"price": "007"}}, "bad_command"),
        (TRADED | {"data": TRADE | {"price": "-1"}}, "bad_command"),
        (TRADED | {"data": TRADE | {"quantity": "0.00"}}, "bad_command"),
        (TRADED | {"data": TRADE | {"id": "a\nb"}}, "bad_command"),
        ({"type": "system_status", "data": STATUS | {"feed": "px0:BTC/USDT"}}, "bad_command"),
        (TRADED | {"instrument": "btc"}, "bad_command"),
        (TRADED | {"user_id": 1}, "bad_command"),
        (TRADED | {"key": "x" * 200}, "bad_command"),
        (TRADED | {"channel": "prices"}, "conflict"),
        (TRADED | {"channel": "orders@1001"}, "conflict"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_nonsense(engine, body, code):
    """It is refused whole, and nothing is published."""
    status, answer = await post(engine, body)
    assert (status, answer["code"]) == (409 if code == "conflict" else 400, code)
    assert engine.hub.channels["engine"].seq == engine.hub.private_messages == 0


@pytest.mark.parametrize(
    "number",
    [str(2**63), str(-(2**63) - 1), "1" * 400, "1" * 5000, "1e999", "-1e999", "NaN", "Infinity"],
    ids=lambda number: number[:20],
)
async def test_numbers_that_can_not_be_told(engine, number):
    """Beyond 64 bits, or no number at all: refused, wherever one may stand."""
    status = {"type": "system_status", "data": STATUS | {"detail": {"x": "HERE"}}}
    balance = {"type": "balance.update", "user_id": "HERE", "data": BALANCE}
    timed = {"type": "balance.update", "user_id": 1, "data": BALANCE | {"updated_at": "HERE"}}
    for body in (status, balance, timed, TRADED | {"data": TRADE | {"price": "HERE"}}):
        content = json.dumps(body).replace('"HERE"', number).encode()
        assert (await post(engine, content))[0] == 400
    assert engine.hub.private_messages == 0


async def test_numbers_that_can_be_told(engine):
    """To the last that has 64 bits, digit by digit."""
    detail = {"most": 2**63 - 1, "least": -(2**63), "part": 0.5, "none": None, "word": "x"}
    async with await engine.connect() as client:
        await client.subscribe("system")
        body = {"type": "system_status", "data": STATUS | {"detail": detail}}
        assert (await post(engine, body))[0] == 200
        assert (await client.receive())["data"]["detail"] == detail


@pytest.mark.parametrize("time", ["1700000000", "1700000000000", "-5", "2026-11-20", "20261120"])
async def test_times_that_are_none(engine, time):
    """Digits are no time: nobody knows whether they are seconds or milliseconds."""
    body = {"type": "balance.update", "user_id": 1, "data": BALANCE | {"updated_at": time}}
    assert (await post(engine, body))[0] == 400
    assert (await post(engine, TRADED | {"timestamp": time}))[0] == 400


@pytest.mark.parametrize(("token", "status"), [(None, 401), (READER, 403)], ids=["no", "reader"])
async def test_who_may(engine, token, status):
    """Only operators."""
    assert (await post(engine, TRADED, token))[0] == status


async def test_content_type(engine):
    """As everywhere: a form of some page must not be able to send it."""
    assert (await post(engine, TRADED, kind="text/plain"))[0] == 415


def test_in_process(engine):
    """`api.publish` does the same, while a daemon runs in the process, and else says so."""
    with pytest.raises(RuntimeError, match="no daemon"):
        api.publish(TRADED)
    publisher = Publisher(engine.hub, ["x"], [])
    outlet.opened(publisher.publish)
    try:
        assert api.publish(TRADED | {"channel": "x"}) == ("x", 1, False)
        with pytest.raises(ConflictError):
            api.publish(TRADED | {"channel": "y"})
        with pytest.raises(ValueError, match="validation error"):
            api.publish({"type": "x"})
    finally:
        outlet.closed(publisher.publish)
    with pytest.raises(RuntimeError):
        api.publish(TRADED)
