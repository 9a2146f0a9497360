"""Binance's account rows and events, by the shapes that its documentation shows."""

from __future__ import annotations

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from ingest.account_scripts import NOW_US, Script, streamed

from aggregator import registry
from aggregator.account import LoginError, Since, Subscribed
from aggregator.connector import UNREADABLE, Ignored, Leaving, Unhandled
from aggregator.errors import ExchangeError, PayloadError, ThrottledError
from aggregator.model import BalanceUpdate, Fill, OrderUpdate

# The example of the venue's documentation.
KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
MARKETS = {
    "symbols": [
        {"symbol": base + quote, "status": "TRADING", "baseAsset": base, "quoteAsset": quote}
        for base, quote in [("BTC", "USDT"), ("ETH", "USDT"), ("ETH", "BTC"), ("BNB", "USDT")]
    ]
}
DONE = {"id": "subscribe", "status": 200, "result": {"subscriptionId": 0}}
REPORT = {
    "e": "executionReport",
    "E": 1499405658658,
    "s": "ETHBTC",
    "c": "mine",
    "S": "BUY",
    "o": "LIMIT",
    "f": "GTC",
    "q": "1.00000000",
    "p": "0.10264410",
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "i": 4293153,
    "l": "0.25000000",
    "z": "0.75000000",
    "L": "0.10264400",
    "n": "0.00025000",
    "N": "ETH",
    "T": 1499405658657,
    "t": 77,
    "m": True,
    "C": "",
    "Z": "0.07698300",
}


def account(script=None, secret=SECRET, **given):
    cls = registry.load_account("binance.account")
    script = script or Script()
    script.answers.setdefault("/api/v3/exchangeInfo", [MARKETS])
    options = cls.options_type(user=1, api_key=KEY, api_secret=secret, **given)
    return cls("main", options, script)


async def known(answers, **given):
    """Return an account that knows the markets, and what it asks from now on."""
    script = Script(answers)
    connector = account(script, **given)
    await connector._look_up()
    script.asked.clear()
    return connector, script


def event(row, **fields):
    return {"subscriptionId": 0, "event": row | fields}


async def pushed(*frames):
    [first, *told] = await streamed(account(Script(frames=[DONE, *frames])))
    assert first == Subscribed()
    return told


def test_signature_by_hmac():
    """The documentation's example."""
    text = (
        f"apiKey={KEY}&price=52000.00&quantity=0.01000000&recvWindow=100&side=SELL&symbol=BTCUSDT"
        "&timeInForce=GTC&timestamp=1645423376532&type=LIMIT"
    )
    expected = "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"
    assert account()._sign(text) == expected


def pem(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def test_signature_by_ed25519():
    """A secret that is a PEM signs so; blank lines around it do not matter."""
    key = ed25519.Ed25519PrivateKey.generate()
    signed = account(secret=f"\n{pem(key)}\n")._sign("a=1&b=2")
    key.public_key().verify(base64.b64decode(signed), b"a=1&b=2")


@pytest.mark.parametrize("secret", ["rsa", "-----BEGIN PRIVATE KEY-----\nnonsense\n"])
def test_a_pem_of_something_else(secret):
    """It is refused, and the message has nothing of it."""
    text = pem(rsa.generate_private_key(65537, 2048)) if secret == "rsa" else secret
    with pytest.raises(LoginError) as caught:
        account(secret=text)
    assert "nonsense" not in str(caught.value)


async def test_subscription():
    """By a signed request; in JSON the time is a number."""
    script = Script(frames=[DONE])
    connector = account(script)
    assert await streamed(connector) == [Subscribed()]
    [sent] = script.sent
    assert sent["method"] == "userDataStream.subscribe.signature"
    assert sent["params"]["timestamp"] == NOW_US // 1000
    signed = f"apiKey={KEY}&timestamp={NOW_US // 1000}"
    assert sent["params"]["signature"] == connector._sign(signed)
    assert script.pings == (None, None)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, -2015, LoginError),
        (400, -1022, LoginError),
        (400, -1021, ExchangeError),
        (429, -1003, ThrottledError),
    ],
)
async def test_a_subscription_that_is_refused(status, code, kind):
    """A key that is not accepted is told apart."""
    error = {"code": code, "msg": "Invalid API-key, IP, or permissions for action."}
    frame = {"id": "subscribe", "status": status, "error": error}
    with pytest.raises(kind, match=str(code)):
        await streamed(account(Script(frames=[frame])))


async def test_a_trade():
    """The fill first, then the state; the average is computed."""
    fill, order = await pushed(event(REPORT))
    assert fill == Fill(
        account="main",
        exchange="binance",
        trade_id="77",
        order_id="4293153",
        client_order_id="mine",
        symbol="ETH/BTC",
        side="BUY",
        price="0.10264400",
        quantity="0.25000000",
        fee="0.00025000",
        fee_asset="ETH",
        role="MAKER",
        traded_us=1_499_405_658_657_000,
    )
    assert order == OrderUpdate(
        account="main",
        exchange="binance",
        order_id="4293153",
        client_order_id="mine",
        symbol="ETH/BTC",
        side="BUY",
        type="LIMIT",
        status="PARTIALLY_FILLED",
        quantity="1.00000000",
        filled_quantity="0.75000000",
        price="0.10264410",
        avg_price="0.102644",
        updated_us=1_499_405_658_657_000,
    )


@pytest.mark.parametrize(
    ("kind", "state", "status"),
    [
        ("NEW", "NEW", "NEW"),
        ("CANCELED", "CANCELED", "CANCELED"),
        ("REJECTED", "REJECTED", "REJECTED"),
        ("EXPIRED", "EXPIRED", "EXPIRED"),
        ("TRADE_PREVENTION", "EXPIRED_IN_MATCH", "EXPIRED"),
        ("REPLACED", "NEW", "NEW"),
    ],
)
async def test_states(kind, state, status):
    """Each has its name; a cancellation's own name is not the order's."""
    fields = {"x": kind, "X": state, "c": "of the cancellation", "C": "mine", "t": -1, "N": None}
    [order] = await pushed(event(REPORT, **fields))
    assert (order.status, order.client_order_id) == (status, "mine")


async def test_an_order_for_an_amount_of_the_quote():
    """Without a quantity that is what it has filled; without a price there is none."""
    [_, order] = await pushed(event(REPORT, q="0.00000000", p="0.00000000", o="MARKET"))
    assert (order.quantity, order.price) == ("0.75000000", None)


async def test_balances_and_why_they_changed():
    """By the event before; a transfer is of its asset alone."""
    position = {
        "e": "outboundAccountPosition",
        "E": 1564034571105,
        "u": 1564034571073,
        "B": [{"a": "ETH", "f": "10.50", "l": "0.10"}, {"a": "BTC", "f": "1.00", "l": "0.00"}],
    }
    moved = {"e": "balanceUpdate", "E": 1, "a": "BTC", "d": "100.0", "T": 1}
    told = await pushed(event(REPORT), event(position), event(moved), event(position))
    one, other, third, fourth = told[2:]
    assert one == BalanceUpdate(
        account="main",
        exchange="binance",
        asset="ETH",
        available="10.50",
        frozen="0.10",
        updated_us=1_564_034_571_073_000,
        reason="trade",
    )
    assert [other.reason, third.reason, fourth.reason] == ["trade", None, "transfer"]


async def test_what_else_is_said():
    """Shutdowns, lists and what nobody knows."""
    frames = [{"e": "listStatus"}, {"e": "novel"}, {"e": "serverShutdown", "E": 1}]
    told = await pushed(*map(event, frames))
    leaving = Leaving("the venue's server is shutting down")
    assert told == [Ignored("listStatus"), Unhandled("novel"), leaving]
    with pytest.raises(ExchangeError):
        await pushed(event({"e": "eventStreamTerminated", "E": 1}))


async def test_a_key_that_is_revoked():
    """The session loses it."""
    error = {"code": -2015, "msg": "Invalid API-key"}
    with pytest.raises(LoginError):
        await pushed({"id": None, "status": 401, "error": error})


async def test_a_symbol_that_is_new():
    """The list is asked for again, before the event is told."""
    later = {"symbol": "NEWUSDT", "status": "TRADING", "baseAsset": "NEW", "quoteAsset": "USDT"}
    more = {"symbols": [*MARKETS["symbols"], later]}
    script = Script({"/api/v3/exchangeInfo": [MARKETS, more]}, [DONE, event(REPORT, s="NEWUSDT")])
    told = await streamed(account(script))
    assert told[1].symbol == "NEW/USDT"
    assert len(script.asked) == 2


@pytest.mark.parametrize("fields", [{"l": "1e5"}, {"X": "NOVEL"}, {"T": -1}, {"S": "HOLD"}])
async def test_events_of_another_shape(fields):
    """Nothing of them is told."""
    with pytest.raises(UNREADABLE):
        list(account()._read(json.dumps(event(REPORT, **fields)).encode()))


# What is asked.

ORDER = {
    "symbol": "ETHBTC",
    "orderId": 4293153,
    "clientOrderId": "mine",
    "price": "0.1",
    "origQty": "1.0",
    "executedQty": "0.0",
    "cummulativeQuoteQty": "0.0",
    "status": "NEW",
    "type": "LIMIT",
    "side": "SELL",
    "updateTime": 1499827319559,
}
TRADE = {
    "symbol": "ETHBTC",
    "id": 28457,
    "orderId": 100234,
    "price": "4.00000100",
    "qty": "12.00000000",
    "commission": "10.10000000",
    "commissionAsset": "BNB",
    "time": 1499865549590,
    "isBuyer": True,
    "isMaker": False,
}


async def test_requests_are_signed():
    """All of the query but the signature, which is last; the key goes as a header."""
    connector, script = await known({"/api/v3/order": [ORDER]})
    order = await connector.order("ETH/BTC", "4293153")
    assert (order.status, order.avg_price, order.symbol) == ("NEW", None, "ETH/BTC")
    [(_, query, headers, whole)] = script.asked
    assert query["symbol"] == "ETHBTC"
    assert headers == {"X-MBX-APIKEY": KEY}
    signed, _, signature = whole.partition("?")[2].rpartition("&signature=")
    assert signature == connector._sign(signed)


async def test_an_order_that_is_gone():
    """The venue's code for it is no failure; others are."""
    gone = (400, {"code": -2013, "msg": "Order does not exist."})
    connector, _ = await known({"/api/v3/order": [gone, (400, {"code": -1100, "msg": "x"})]})
    assert await connector.order("ETH/BTC", "1") is None
    with pytest.raises(ExchangeError, match="-1100"):
        await connector.order("ETH/BTC", "1")


async def test_fills_at_the_start():
    """Of the symbols with open orders and those of the configuration, from a time on."""
    connector, script = await known({"/api/v3/myTrades": [[]]}, instruments=["BTC/USDT"])
    await connector.fills(Since(5_000_000, frozenset({"ETH/USDT"})))
    asked = [(q["symbol"], q["startTime"]) for _, q, *_ in script.asked]
    assert asked == [("BTCUSDT", "5000"), ("ETHUSDT", "5000")]


async def test_fills_after_a_break():
    """Of the symbols both of whose assets are not what they were, behind the last known one."""
    connector, script = await known({"/api/v3/myTrades": [[TRADE], []]})
    since = Since(
        5_000_000,
        symbols=frozenset({"BNB/USDT"}),
        last={"ETH/BTC": "28000"},
        assets=frozenset({"ETH", "BTC", "USDC"}),
    )
    [fill] = await connector.fills(since)
    [(_, query, *_)] = script.asked
    assert (query["symbol"], query["fromId"]) == ("ETHBTC", "28001")
    assert (fill.side, fill.role, fill.fee_asset) == ("BUY", "TAKER", "BNB")


async def test_pages_of_fills():
    """Each page begins behind the last fill of the one before."""
    rows = [TRADE | {"id": number} for number in range(1000)]
    connector, script = await known({"/api/v3/myTrades": [rows, [TRADE]]})
    fills = await connector.fills_of("ETH/BTC", "100234")
    assert len(fills) == 1001
    assert [q.get("fromId") for _, q, *_ in script.asked] == [None, "1000"]
    assert {q["orderId"] for _, q, *_ in script.asked} == {"100234"}


async def test_balances():
    """As the account has them."""
    row = {"updateTime": 123456789, "balances": [{"asset": "BTC", "free": "1.5", "locked": "0.5"}]}
    connector, _ = await known({"/api/v3/account": [row]})
    [balance] = await connector.balances()
    assert (balance.available, balance.frozen, balance.updated_us) == ("1.5", "0.5", 123456789000)


async def test_permissions():
    """What the key may do."""
    path = "/sapi/v1/account/apiRestrictions"
    rows = [
        {"enableReading": True},
        {"enableSpotAndMarginTrading": True, "enableWithdrawals": True},
        {"permitsUniversalTransfer": True},
    ]
    connector, _ = await known({path: rows})
    may = [await connector.permissions() for _ in rows]
    assert may == [{"read"}, {"read", "trade", "withdraw"}, {"read", "transfer"}]


async def test_prices():
    """Of the assets that are traded against the currency; without any nothing is asked."""
    row = {"symbol": "BTCUSDT", "price": "42000.10000000"}
    connector, script = await known({"/api/v3/ticker/price": [[row]]})
    assert await connector.prices(["BTC", "XYZ"]) == {"BTC": "42000.10000000"}
    assert await connector.prices(["XYZ"]) == {}
    assert len(script.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[1]"])
async def test_answers_of_another_shape(body):
    """They are a PayloadError."""
    connector, _ = await known({"/api/v3/openOrders": [body]})
    with pytest.raises(PayloadError):
        await connector.open_orders()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, b'{"code":-2014,"msg":"API-key format invalid."}', LoginError),
        (404, b"<html>not found</html>", ExchangeError),
        (400, b'{"code":-1102,"msg":"Mandatory parameter"}', ExchangeError),
    ],
)
async def test_requests_that_are_refused(status, body, kind):
    """By what the venue says, if it says anything."""
    connector, _ = await known({"/api/v3/account": [(status, body)]})
    with pytest.raises(kind):
        await connector.balances()
