"""OKX's private rows and events, by the shapes that its documentation shows."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from ingest.account_scripts import NOW_US, Script, streamed

from aggregator import registry
from aggregator.account import LoginError, Since, Subscribed
from aggregator.connector import UNREADABLE, Ignored, Leaving, Unhandled
from aggregator.errors import ExchangeError, PayloadError, ThrottledError
from aggregator.model import BalanceUpdate, Fill, OrderUpdate

SECRET = "22582BD0CFF14C41EDBF1AB98506286D"
LOGIN = {"event": "login", "code": "0", "msg": "", "connId": "a4d3ae55"}
ACKS = [
    {"event": "subscribe", "arg": {"channel": channel}, "connId": "a4d3ae55"}
    for channel in ("orders", "balance_and_position", "account")
]
ORDER = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "ordId": "312269865356374016",
    "clOrdId": "b1",
    "side": "buy",
    "ordType": "limit",
    "state": "partially_filled",
    "px": "999.10",
    "sz": "3.00",
    "accFillSz": "1.20",
    "avgPx": "999.05",
    "tgtCcy": "",
    "fillPx": "999",
    "fillSz": "0.20",
    "tradeId": "242589207",
    "fillTime": "1597026383085",
    "fillFee": "-0.00020",
    "fillFeeCcy": "BTC",
    "execType": "M",
    "uTime": "1597026383085",
    "cTime": "1597026383000",
}


def account(script):
    cls = registry.load_account("okx.account")
    keys = {"api_key": "the-key", "api_secret": SECRET, "passphrase": "the-passphrase"}
    return cls("main", cls.options_type(user=1, **keys), script)


def answer(*rows, code="0", msg=""):
    return {"code": code, "msg": msg, "data": list(rows)}


def push(channel, *rows, **more):
    return {"arg": {"channel": channel, "uid": "77982378738415879"}, "data": list(rows)} | more


def changed(row, **fields):
    return row | fields


async def pushed(*frames):
    return await streamed(account(Script(frames=[LOGIN, *ACKS, *frames])))


async def test_login():
    """Signed with the time in seconds; then the three channels, and text for pings."""
    script = Script(frames=[LOGIN, *ACKS])
    assert await streamed(account(script)) == [Subscribed()]
    login, subscribe = script.sent
    [arg] = login["args"]
    text = f"{NOW_US // 1_000_000}GET/users/self/verify".encode()
    sign = base64.b64encode(hmac.digest(SECRET.encode(), text, hashlib.sha256)).decode()
    assert arg == {
        "apiKey": "the-key",
        "passphrase": "the-passphrase",
        "timestamp": str(NOW_US // 1_000_000),
        "sign": sign,
    }
    channels = [each["channel"] for each in subscribe["args"]]
    assert channels == ["orders", "balance_and_position", "account"]
    assert script.pings == ("ping", b"pong")


@pytest.mark.parametrize("code", ["60005", "60006", "60007", "60009", "60024"])
async def test_a_login_that_is_refused(code):
    """It is said with the venue's words, and is no reason to try again soon."""
    frame = {"event": "error", "code": code, "msg": "Login failed.", "connId": "x"}
    with pytest.raises(LoginError, match=f"{code}: Login failed."):
        await streamed(account(Script(frames=[frame])))


async def test_too_many_logins():
    """That is no fault of the key."""
    frame = {"event": "error", "code": "60014", "msg": "Requests too frequent"}
    with pytest.raises(ThrottledError):
        await streamed(account(Script(frames=[frame])))


async def test_an_order_that_was_filled_in_part():
    """The fill first, then the state; a fee that is paid counts above zero."""
    _, fill, order = await pushed(push("orders", ORDER))
    assert fill == Fill(
        account="main",
        exchange="okx",
        trade_id="242589207",
        order_id="312269865356374016",
        client_order_id="b1",
        symbol="BTC/USDT",
        side="BUY",
        price="999",
        quantity="0.20",
        fee="0.00020",
        fee_asset="BTC",
        role="MAKER",
        traded_us=1_597_026_383_085_000,
    )
    assert order == OrderUpdate(
        account="main",
        exchange="okx",
        order_id="312269865356374016",
        client_order_id="b1",
        symbol="BTC/USDT",
        side="BUY",
        type="LIMIT",
        status="PARTIALLY_FILLED",
        quantity="3.00",
        filled_quantity="1.20",
        price="999.10",
        avg_price="999.05",
        updated_us=1_597_026_383_085_000,
    )


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("live", "NEW"),
        ("filled", "FILLED"),
        ("canceled", "CANCELED"),
        ("mmp_canceled", "CANCELED"),
    ],
)
async def test_states(state, status):
    """Each has its name; without a trade's number there is no fill."""
    row = changed(ORDER, state=state, tradeId="", fillPx="", fillSz="0", clOrdId="", avgPx="")
    [_, order] = await pushed(push("orders", row))
    assert (order.status, order.client_order_id, order.avg_price) == (status, None, None)


@pytest.mark.parametrize(("fee", "told"), [("0.5", "-0.5"), ("0", "0"), ("-0", "0"), ("", None)])
async def test_fees(fee, told):
    """A rebate counts below zero, and nothing is nothing."""
    _, fill, _ = await pushed(push("orders", changed(ORDER, fillFee=fee)))
    assert fill.fee == told


async def test_an_order_for_an_amount_of_the_quote():
    """Its size is no quantity: that is what it has filled."""
    row = changed(ORDER, ordType="market", tgtCcy="quote_ccy", sz="1000", px="")
    [*_, order] = await pushed(push("orders", row))
    assert (order.quantity, order.filled_quantity, order.price) == ("1.20", "1.20", None)


async def test_derivatives_are_left_out():
    """Their sizes are contracts."""
    told = await pushed(push("orders", changed(ORDER, instType="SWAP", instId="BTC-USDT-SWAP")))
    assert told[1:] == [Ignored("order of a derivative")]


async def test_balances_and_why_they_changed():
    """The reason is that of the change at the same moment, no other."""
    reason = {
        "pTime": "1597026383085",
        "eventType": "filled",
        "balData": [{"ccy": "BTC", "cashBal": "1", "uTime": "1597026383085"}],
    }
    details = [
        {"ccy": "BTC", "uTime": "1597026383085", "availBal": "0.9", "frozenBal": "0.10"},
        {"ccy": "USDT", "uTime": "1597026383084", "availBal": "", "frozenBal": ""},
    ]
    row = {"uTime": "1597026383086", "totalEq": "1", "details": details}
    later = {"details": [details[0] | {"uTime": "1597026399999"}]}
    told = await pushed(
        push("balance_and_position", reason), push("account", row), push("account", later)
    )
    one, other, third = told[1:]
    assert one == BalanceUpdate(
        account="main",
        exchange="okx",
        asset="BTC",
        available="0.9",
        frozen="0.10",
        updated_us=1_597_026_383_085_000,
        reason="filled",
    )
    assert (other.available, other.frozen, other.reason) == ("0", "0", None)
    assert third.reason is None


async def test_what_else_is_said():
    """Notices, counts of connections and what nobody knows."""
    notice = {"event": "notice", "code": "64008", "msg": "soon"}
    count = {"event": "channel-conn-count", "channel": "orders", "connCount": "2"}
    other = push("positions", {})
    told = await pushed(count, {"event": "novel"}, other, notice)
    assert told[1:] == [
        Ignored("channel-conn-count"),
        Unhandled("novel"),
        Unhandled("data of another channel"),
        Leaving("64008: soon"),
    ]


@pytest.mark.parametrize("event", ["error", "channel-conn-count-error"])
async def test_refusals(event):
    """They end the connection."""
    with pytest.raises(ExchangeError, match="60018: no such channel"):
        await pushed({"event": event, "code": "60018", "msg": "no such channel"})


@pytest.mark.parametrize(
    "fields",
    [{"sz": "1e5"}, {"accFillSz": "NaN"}, {"state": "novel"}, {"uTime": ""}, {"fillPx": ""}],
)
async def test_rows_of_another_shape(fields):
    """Nothing of them is told."""
    connector = account(Script())
    frame = json.dumps(push("orders", changed(ORDER, **fields))).encode()
    with pytest.raises(UNREADABLE):
        list(connector._read(frame, set()))


# What is asked.


async def test_requests_are_signed():
    """The time in ISO 8601 with milliseconds, and the path with its query."""
    script = Script({"/api/v5/trade/order": [answer(ORDER)]})
    order = await account(script).order("BTC/USDT", "312269865356374016")
    assert order.status == "PARTIALLY_FILLED"
    [(path, query, headers, whole)] = script.asked
    assert query == {"instId": "BTC-USDT", "ordId": "312269865356374016"}
    stamp = "2026-11-20T07:56:00.598Z"
    text = f"{stamp}GET{whole}".encode()
    assert headers == {
        "OK-ACCESS-KEY": "the-key",
        "OK-ACCESS-PASSPHRASE": "the-passphrase",
        "OK-ACCESS-TIMESTAMP": stamp,
        "OK-ACCESS-SIGN": base64.b64encode(
            hmac.digest(SECRET.encode(), text, hashlib.sha256)
        ).decode(),
    }
    assert path == "/api/v5/trade/order"


async def test_an_order_that_is_gone():
    """The venue's code for it is no failure; others are."""
    path = "/api/v5/trade/order"
    script = Script({path: [answer(code="51603", msg="Order does not exist")]})
    assert await account(script).order("BTC/USDT", "1") is None
    script = Script({path: [answer(code="50026", msg="System error")]})
    with pytest.raises(ExchangeError, match="50026"):
        await account(script).order("BTC/USDT", "1")


async def test_open_orders_page_by_page():
    """Each page begins behind the last order of the one before."""
    path = "/api/v5/trade/orders-pending"
    first = [changed(ORDER, ordId=str(1000 - n)) for n in range(100)]
    swap = changed(ORDER, ordId="7", instType="SWAP")
    script = Script({path: [answer(*first), answer(ORDER, swap)]})
    orders = await account(script).open_orders()
    assert len(orders) == 101
    assert [query for _, query, *_ in script.asked] == [
        {"limit": "100"},
        {"limit": "100", "after": "901"},
    ]


FILL = {
    "instType": "SPOT",
    "instId": "BTC-USDT",
    "tradeId": "123",
    "ordId": "312269865356374016",
    "clOrdId": "",
    "billId": "1111",
    "fillPx": "999",
    "fillSz": "3",
    "side": "sell",
    "execType": "T",
    "feeCcy": "USDT",
    "fee": "-2.997",
    "ts": "1597026383090",
    "fillTime": "1597026383085",
}


async def test_fills():
    """Recent ones of all instruments; older ones have another path, and are asked for by type."""
    script = Script({"/api/v5/trade/fills": [answer(FILL)]})
    [fill] = await account(script).fills(Since(NOW_US - 5_000_000))
    assert (fill.side, fill.role, fill.fee, fill.fee_asset) == ("SELL", "TAKER", "2.997", "USDT")
    assert fill.traded_us == 1_597_026_383_085_000
    assert script.asked[0][1] == {"begin": str((NOW_US - 5_000_000) // 1000), "limit": "100"}
    script = Script({"/api/v5/trade/fills-history": [answer()]})
    assert await account(script).fills(Since(NOW_US - 5 * 86_400 * 10**6)) == []
    assert [q["instType"] for _, q, *_ in script.asked] == ["SPOT", "MARGIN"]


@pytest.mark.parametrize(
    ("status", "code"), [(401, "50111"), (401, "50113"), (200, "50105"), (401, "50102")]
)
async def test_requests_that_are_refused(status, code):
    """A key that is not accepted is told apart from all else."""
    script = Script({"/api/v5/account/balance": [(status, answer(code=code, msg="Invalid"))]})
    with pytest.raises(LoginError, match=code):
        await account(script).balances()


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"code":"0","data":{}}', b'{"code":0}'])
async def test_answers_of_another_shape(body):
    """They are a PayloadError."""
    with pytest.raises(PayloadError):
        await account(Script({"/api/v5/account/balance": [body]})).balances()


@pytest.mark.parametrize(
    ("perm", "may"),
    [
        ("read_only", {"read"}),
        ("read_only,trade", {"read", "trade"}),
        ("read_only, withdraw", {"read", "withdraw"}),
        ("", None),
    ],
)
async def test_permissions(perm, may):
    """What the key may do, as far as the venue tells."""
    script = Script({"/api/v5/account/config": [answer({"perm": perm})]})
    assert await account(script).permissions() == may


async def test_prices():
    """Of the assets that are traded against the currency."""
    rows = [{"instId": "BTC-USDT", "last": "42000.10"}, {"instId": "ETH-BTC", "last": "0.05"}]
    script = Script({"/api/v5/market/tickers": [answer(*rows)]})
    assert await account(script).prices(["BTC", "ETH"]) == {"BTC": "42000.10"}
