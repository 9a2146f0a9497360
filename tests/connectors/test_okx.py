"""OKX: subscriptions and their answers, tickers, and what else the venue says."""

import json

import pytest
from pydantic import ValidationError

from aggregator.connector import Acknowledged, Leaving, Unhandled, UnknownInstrument, translate
from aggregator.errors import ExchangeError, PayloadError
from aggregator.model import PriceUpdate


def ticker(*rows, channel="tickers"):
    rows = [{"instType": "SPOT", "instId": "BTC-USDT", "last": "1.50"} | row for row in rows]
    return {"arg": {"channel": channel, "instId": "BTC-USDT"}, "data": rows}


def frame(connector, message):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return translate(lambda: connector.on_frame(body))


def acknowledged(inst_id, **fields):
    return {"event": "subscribe", "arg": {"channel": "tickers", "instId": inst_id}} | fields


def refused(msg="", code="60018", **fields):
    return {"event": "error", "code": code, "msg": msg, "connId": "a4d3ae55"} | fields


def many(count):
    return [f"X{n}/USDT" for n in range(count)]


@pytest.fixture
def two(build):
    return build("okx.ticker", instruments=["BTC/USDT", "ETH/USDT"])


@pytest.fixture
def grouped(build):
    """Three instruments to a request, in the order of their numbers."""
    return build("okx.ticker", instruments=many(300))


@pytest.mark.parametrize(
    ("count", "requests", "largest"),
    [
        (1, 1, 1),
        (2, 2, 1),
        (100, 100, 1),
        (101, 51, 2),
        (200, 100, 2),
        (201, 67, 3),
        (999, 100, 10),
    ],
)
def test_at_most_a_hundred_requests(build, count, requests, largest):
    """Each instrument has a request of its own as far as 100 go; keys are as the venue wants."""
    sends = list(build("okx.ticker", instruments=many(count)).on_open())
    frames = [json.loads(send.frame) for send in sends]
    assert len(sends) == requests
    assert max(len(f["args"]) for f in frames) == largest
    assert [f["id"] for f in frames] == [s.key for s in sends]
    assert all(s.key.isalnum() and s.key.isascii() and len(s.key) <= 32 for s in sends)
    args = [arg for f in frames for arg in f["args"]]
    assert args == [{"channel": "tickers", "instId": f"X{n}-USDT"} for n in range(count)]


def test_the_options_have_the_public_address(two):
    """The address is that of the port 443, pings are text, and instruments have to be named."""
    assert two.options.urls == ["wss://ws.okx.com:443/ws/v5/public"]
    assert (two.ping, two.pong) == ("ping", b"pong")
    for options in ({}, {"instruments": ["BTC/USDT"], "urls": []}):
        with pytest.raises(ValidationError):
            type(two).options_type.model_validate(options)


def test_a_ticker_is_a_message(two):
    """The fields of a ticker are the venue's text, its payload the venue's bytes."""
    row = b'{ "instType":"SPOT", "instId":"BTC-USDT", "last":"42150.50", "bidPx":"42150.4",'
    row += b'"askPx":"42150.6", "vol24h":"18234.50", "volCcy24h":"9", "ts":"1765211445123" }'
    [event] = frame(two, b'{"arg":{"channel":"tickers"},"data":[' + row + b"]}")
    assert bytes(event.data) == row
    assert event == PriceUpdate(
        "BTC/USDT", "42150.50", event.data, 1765211445123000, "42150.4", "42150.6", "18234.50"
    )


def test_empty_numbers_stay_empty(two):
    """What OKX leaves empty is no number and no time, and no zero."""
    [event] = frame(two, ticker({"last": "", "bidPx": "", "askPx": "", "vol24h": "", "ts": ""}))
    assert (event.price, event.bid, event.ask, event.volume_24h) == ("", "", "", "")
    assert event.exchange_us is None


def test_the_volume_of_a_derivative_is_left_out(two):
    """Contracts are not units of the base."""
    [event] = frame(two, ticker({"instType": "SWAP", "vol24h": "5"}))
    assert event.volume_24h is None


def test_the_row_says_the_instrument(two):
    """Where a frame's argument and its rows differ, the rows count; one not asked for is none."""
    outputs = frame(two, ticker({"instId": "ETH-USDT"}, {"instId": "XRP-USDT"}, {}))
    assert [outputs[0].instrument, outputs[2].instrument] == ["ETH/USDT", "BTC/USDT"]
    assert outputs[1] == Unhandled("ticker of another instrument")


def test_data_of_another_channel_is_no_price(two):
    """Only the channel that was asked for gives messages."""
    expected = [Unhandled("data of another channel")]
    assert frame(two, ticker({}, channel="index-tickers")) == expected
    assert frame(two, {"data": [{"instId": "BTC-USDT", "last": "1"}]}) == expected


@pytest.mark.parametrize(
    "row", [{"last": 1.5}, {"last": None}, {"ts": "soon"}, {"ts": "1" * 14}, {"instId": 5}]
)
def test_one_bad_row_is_a_bad_frame(two, row):
    """A row of another form makes the whole frame unreadable."""
    with pytest.raises(PayloadError):
        frame(two, ticker({}, row))


def test_an_acknowledgement_answers_its_request(two):
    """It is known by its instrument, with an id and without, and may come again."""
    assert frame(two, acknowledged("BTC-USDT", id="t0")) == [Acknowledged("t0")]
    assert frame(two, acknowledged("ETH-USDT")) == [Acknowledged("t1")]
    assert frame(two, acknowledged("ETH-USDT")) == [Acknowledged("t1")]


def test_a_group_is_acknowledged_with_its_last(grouped):
    """A request of several arguments is answered when all of them are, refused ones too."""
    assert frame(grouped, acknowledged("X3-USDT", id="t3")) == []
    assert frame(grouped, acknowledged("X3-USDT", id="t3")) == []
    message = refused("channel:tickers,instId:X4-USDT doesn't exist.", id="t3")
    [unknown] = frame(grouped, message)
    assert unknown == UnknownInstrument("X4/USDT", message["msg"])
    assert frame(grouped, acknowledged("X5-USDT")) == [Acknowledged("t3")]


def test_a_group_may_end_with_a_refusal(grouped):
    """The last answer of a request may be a refusal."""
    frame(grouped, acknowledged("X0-USDT"))
    frame(grouped, acknowledged("X1-USDT"))
    _, last = frame(grouped, refused("instId:X2-USDT doesn't exist."))
    assert last == Acknowledged("t0")


@pytest.mark.parametrize(
    "message",
    [
        refused("Wrong URL or channel", id="t1"),
        refused("channel:tickers,instId:ETH-USDT doesn't exist"),
        refused("channel:tickers,instId:ETH-USDT doesn't exist", id="strange"),
        refused("channel:tickers,instId:BTC-USDT doesn't exist", id="t1"),
    ],
)
def test_an_unknown_instrument_is_named(two, message):
    """A refusal is attributed by its id, else by what it says; the request counts as answered."""
    assert frame(two, message) == [
        UnknownInstrument("ETH/USDT", message["msg"]),
        Acknowledged("t1"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        refused("Wrong URL or channel"),
        refused("instId:XRP-USDT doesn't exist"),
        refused("Requests too frequent", "60014"),
        refused("Too Many Requests", "50011"),
        refused("instId:BTC-USDT", "60012", id="t0"),
        refused(code=None),
        {"event": "channel-conn-count-error", "channel": "account", "connCount": "20"},
    ],
)
def test_another_error_ends_the_connection(two, message):
    """What cannot be put to one instrument is an error of the venue, with its code."""
    with pytest.raises(ExchangeError, match=message.get("code") or "no code|conn-count"):
        frame(two, message)


def test_an_error_of_a_group_that_names_none_ends_the_connection(grouped):
    """The id of a request of several arguments does not say which of them is wrong."""
    with pytest.raises(ExchangeError, match="60018"):
        frame(grouped, refused("Wrong URL or channel", id="t3"))


def test_a_service_upgrade_is_announced(two):
    """Notice 64008 says that the connection will be closed; another one is counted."""
    text = "The connection will soon be closed for a service upgrade. Please reconnect."
    notice = {"event": "notice", "code": "64008", "msg": text}
    assert frame(two, notice) == [Leaving(text)]
    assert frame(two, notice | {"code": "1234"}) == [Unhandled("notice 1234")]
    assert frame(two, notice | {"code": "1" * 500}) == [Unhandled("notice " + "1" * 40)]


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ({"event": "unsubscribe", "arg": {"channel": "tickers"}}, "unsubscribe"),
        (acknowledged("XRP-USDT", id="t0"), "subscribe"),
        ({"event": "subscribe"}, "subscribe"),
        ({"event": "channel-conn-count", "connCount": "1"}, "channel-conn-count"),
        ({"event": "login", "code": "0"}, "login"),
        ({"event": "brand\nnew " + "x" * 500}, "brand new " + "x" * 30),
        ({}, "frame"),
        ({"event": "", "data": None}, "frame"),
        ({"code": "51001", "data": [], "msg": "no"}, "frame"),
    ],
)
def test_what_has_no_use_is_counted_by_name(two, message, name):
    """Anything else is named, shortly and printably, and does no harm."""
    assert frame(two, message) == [Unhandled(name)]
