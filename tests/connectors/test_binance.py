"""Binance: names, weights, refusals, and what a book's price is."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregator.connector import (
    Fetch,
    KnownInstruments,
    Request,
    UnknownInstrument,
    slices,
    translate,
)
from aggregator.errors import ExchangeError, PayloadError
from connectors.binance.rest import _mid

INVALID = b'{"code":-1121,"msg":"Invalid symbol."}'
TICKERS = ("binance.prices", "binance.24hr")


def names(*markets):
    """Return an answer of exchangeInfo; a market is BASE/QUOTE, with a status if not trading."""
    rows = []
    for market in markets:
        name, _, status = market.partition(" ")
        base, _, quote = name.partition("/")
        row = {"symbol": base + quote, "baseAsset": base, "quoteAsset": quote}
        rows.append(row | {"status": status or "TRADING"})
    return json.dumps({"symbols": rows}).encode()


def ticker(symbol, **fields):
    row = {"symbol": symbol, "lastPrice": "1.5", "closeTime": 1765211445123}
    return json.dumps([row | fields]).encode()


def book(bids, asks):
    return json.dumps({"lastUpdateId": 1, "bids": bids, "asks": asks}).encode()


def answer(connector, body, key=""):
    return translate(lambda: connector.on_response(Request("/", key=key), body))


def refuse(connector, body=INVALID, key="", status=400):
    return translate(lambda: connector.on_refusal(Request("/", key=key), status, body))


def many(count):
    return [f"X{n}/USDT" for n in range(count)]


@pytest.mark.parametrize("name", TICKERS)
@pytest.mark.parametrize(
    ("count", "weight", "named"),
    [(1, 2, True), (20, 2, True), (21, 40, True), (100, 40, True), (101, 80, False)],
)
def test_tickers_weigh_what_the_table_says(build, name, count, weight, named):
    """Up to 100 instruments are asked for by name, with the documented weight, beyond: all."""
    connector = build(name, instruments=many(count))
    [request] = connector.requests()
    assert request.path == "/api/v3/ticker/24hr"
    assert request.weight == weight
    symbols = [f"X{n}USDT" for n in range(count)]
    expected = {"symbols": json.dumps(symbols, separators=(",", ":"))} if named else {}
    assert request.params == expected


@pytest.mark.parametrize(
    ("depth", "weight"),
    [(1, 5), (100, 5), (101, 25), (500, 25), (501, 50), (1000, 50), (1001, 250), (5000, 250)],
)
def test_books_weigh_what_the_table_says(build, depth, weight):
    """A book is one request for each instrument, weighed by its depth."""
    connector = build("binance.orderbook", depth=depth)
    requests = list(connector.requests())
    assert [r.key for r in requests] == ["BTCUSDT", "ETHUSDT"]
    assert {r.weight for r in requests} == {weight}
    assert requests[0].params == {"symbol": "BTCUSDT", "limit": str(depth)}


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"depth": 5001},
        {"instruments": "some"},
        {"instruments": []},
        {"instruments": ["BTCUSDT"]},
        {"instruments": ["BTC/USDT", "BTC/USDT"]},
        {"depht": 5},
    ],
)
def test_bad_options_are_refused(build, options):
    """A wrong value or an unknown key is an error of the configuration."""
    with pytest.raises(ValidationError):
        build("binance.orderbook", **options)


@pytest.mark.parametrize("name", [*TICKERS, "binance.orderbook"])
def test_defaults_ask_the_market_data_host(build, name):
    """Without options a feed has the usual instruments, and the limit that the venue documents."""
    connector = build(name)
    assert connector.options.base_url == "https://data-api.binance.vision"
    assert "BTC/USDT" in type(connector).instruments_of(connector.options)
    assert connector.budget.per_minute == 6000
    assert connector.budget.used_header == "X-MBX-USED-WEIGHT-1M"


@pytest.mark.parametrize("name", TICKERS)
def test_all_asks_for_the_names_first(build, name):
    """With "all" the names come first and once a day, and rows wait until they are known."""
    connector = build(name, instruments="all")
    assert type(connector).instruments_of(connector.options) is None
    first, second = connector.requests()
    assert (first.path, first.key, first.weight) == ("/api/v3/exchangeInfo", "names", 20)
    assert first.params == {"showPermissionSets": "false"}
    assert first.max_age_s == 86_400
    assert (second.params, second.weight) == ({}, 80)
    assert answer(connector, ticker("BTCUSDT")) == []
    body = names("BTC/USDT", "ETH/BTC HALT", "btc/eur", "X Y/USDT", "A:B/USDT", "A\u200b/USDT")
    assert answer(connector, body, "names") == [
        KnownInstruments(frozenset({"BTC/USDT", "BTC/EUR"}))
    ]
    assert [e.instrument for e in answer(connector, ticker("BTCUSDT"))] == ["BTC/USDT"]
    assert answer(connector, ticker("ETHBTC")) == []


def test_all_books_are_asked_for_one_by_one(build):
    """With "all" there is a request for each name, as soon as the names are there."""
    connector = build("binance.orderbook", instruments="all")
    asked = iter(connector.requests())
    assert next(asked).key == "names"
    answer(connector, names("BTC/USDT", "ETH/BTC"), "names")
    assert [r.key for r in asked] == ["BTCUSDT", "ETHBTC"]


def test_names_may_change_while_a_poll_is_going_on(build):
    """An instrument that is refused in the middle of a poll does not disturb the others."""
    connector = build("binance.orderbook", instruments=["A/X", "B/X", "C/X"])
    asked = []
    for request in connector.requests():
        asked.append(request.key)
        if request.key == "BX":
            assert refuse(connector, key="BX")[0].instrument == "B/X"
    assert asked == ["AX", "BX", "CX"]


@pytest.mark.parametrize("name", TICKERS)
def test_an_unknown_instrument_is_found_and_left_out(build, name):
    """Refused with -1121, a feed looks the names up, says which are wrong, and goes on."""
    connector = build(name, instruments=["BTC/USDT", "OLD/USDT", "SLOW/USDT"])
    [fetch] = refuse(connector)
    assert isinstance(fetch, Fetch)
    assert (fetch.request.key, fetch.request.weight) == ("names", 20)
    *unknown, again = answer(connector, names("BTC/USDT", "SLOW/USDT BREAK"), "names")
    assert [u.instrument for u in unknown] == ["OLD/USDT", "SLOW/USDT"]
    assert "not listed" in unknown[0].reason
    assert "BREAK" in unknown[1].reason
    assert again.request.params == {"symbols": '["BTCUSDT"]'}
    assert [r.key for r in connector.requests()] == ["names", ""]


@pytest.mark.parametrize("name", TICKERS)
def test_a_feed_recovers_when_its_instruments_are_listed(build, name):
    """With all instruments unknown only the names are asked for; listed again, they come back."""
    connector = build(name, instruments=["NEW/USDT"])
    refuse(connector)
    assert answer(connector, names("BTC/USDT"), "names") == [
        UnknownInstrument("NEW/USDT", "not listed by the venue")
    ]
    [request] = connector.requests()
    assert (request.key, request.max_age_s) == ("names", 86_400)
    assert answer(connector, names("NEW/USDT"), "names") == []
    assert [r.key for r in connector.requests()] == ["names", ""]
    assert len(answer(connector, ticker("NEWUSDT"))) == 1


def test_a_refusal_without_an_unknown_name_is_an_error(build):
    """Refused although all is listed, a feed does not ask again and again."""
    connector = build("binance.prices", instruments=["BTC/USDT"])
    refuse(connector)
    with pytest.raises(ExchangeError, match="-1121"):
        answer(connector, names("BTC/USDT"), "names")
    assert answer(connector, names("BTC/USDT"), "names") == []


def test_a_new_poll_forgets_a_refusal(build):
    """When the names could not be fetched, the next poll asks for names and data once each."""
    connector = build("binance.prices", instruments=["BTC/USDT", "OLD/USDT"])
    refuse(connector)
    assert [r.key for r in connector.requests()] == ["names", ""]
    [unknown] = answer(connector, names("BTC/USDT"), "names")
    assert unknown.instrument == "OLD/USDT"


def test_a_symbol_of_another_market_is_unknown(build):
    """`AB/C` is not the `A/BC` that the venue has, though both are written `ABC`."""
    connector = build("binance.prices", instruments=["AB/C", "BTC/USDT"])
    refuse(connector)
    unknown, again = answer(connector, names("A/BC", "BTC/USDT"), "names")
    assert unknown.instrument == "AB/C"
    assert again.request.params == {"symbols": '["BTCUSDT"]'}


def test_a_refused_book_names_its_instrument(build):
    """Of a book the refusal says which one; it comes back when the names say that it trades."""
    connector = build("binance.orderbook", instruments=["BTC/USDT", "OLD/USDT"])
    [unknown] = refuse(connector, key="OLDUSDT")
    assert unknown.instrument == "OLD/USDT"
    assert refuse(connector, key="OLDUSDT") == []
    assert [r.key for r in connector.requests()] == ["names", "BTCUSDT"]
    assert answer(connector, book([], []), "OLDUSDT") == []
    assert answer(connector, names("BTC/USDT", "OLD/USDT"), "names") == []
    assert [r.key for r in connector.requests()] == ["names", "BTCUSDT", "OLDUSDT"]


@pytest.mark.parametrize(
    ("status", "body", "key"),
    [
        (400, b'{"code":-1100,"msg":"Illegal characters"}', ""),
        (400, b'{"code":-11210,"msg":"Other"}', ""),
        (404, INVALID, ""),
        (400, INVALID, "names"),
        (400, b"<html>", ""),
    ],
)
def test_another_refusal_is_an_error(build, status, body, key):
    """Only -1121 of HTTP 400, for data, is about an instrument."""
    with pytest.raises(ExchangeError, match=f"HTTP {status}"):
        refuse(build("binance.prices"), body, key, status)


def test_the_data_of_a_price_is_safe(build):
    """`data` is JSON whatever the venue puts into a name or a number."""
    connector = build("binance.prices", instruments="all")
    answer(connector, names('"X/USDT', "BTC/USDT"), "names")
    [event] = answer(connector, ticker("BTCUSDT", lastPrice='1","a":"2', priceChangePercent='"'))
    assert json.loads(event.data) == {
        "symbol": "BTCUSDT",
        "price": '1","a":"2',
        "priceChangePercent": '"',
    }


def test_one_bad_row_is_a_bad_answer(build):
    """A row of wrong types makes the whole answer unreadable, also in slices."""
    connector = build("binance.24hr", instruments=["BTC/USDT"])
    body = ticker("BTCUSDT")[:-1] + b',{"symbol":"BTCUSDT","lastPrice":1,"closeTime":1}]'
    with pytest.raises(PayloadError):
        answer(connector, body)
    parts = slices(connector.on_response(Request("/"), body), 1)
    assert len(next(parts)) == 1
    with pytest.raises(PayloadError):
        next(parts)


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [
        ([["1.00", "5"]], [["1.01", "5"]], ("1.005", "1.00", "1.01")),
        ([["0.00000001", "5"]], [["0.00000002", "5"]], ("0.000000015", "0.00000001", "0.00000002")),
        ([["2", "5", []]], [["4", "5", []]], ("3", "2", "4")),
        ([], [["4", "5"]], ("", None, "4")),
        ([["2", "5"]], [], ("", "2", None)),
        ([], [], ("", None, None)),
        ([["", "5"]], [["4", "5"]], ("", None, "4")),
        ([["NaN", "5"]], [["4", "5"]], ("", "NaN", "4")),
        ([["1e999999999", "5"]], [["4", "5"]], ("", "1e999999999", "4")),
    ],
)
def test_the_price_of_a_book_is_its_mid(build, bids, asks, expected):
    """The mid is exact and plainly written; without two plain numbers there is none."""
    body = book(bids, asks)
    [event] = answer(build("binance.orderbook"), body, "BTCUSDT")
    assert (event.price, event.bid, event.ask) == expected
    assert (event.data, event.exchange_us) == (body, None)


NUMBERS = st.from_regex(r"(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?", fullmatch=True)


@given(NUMBERS, NUMBERS)
def test_the_mid_is_exact(bid, ask):
    """Twice the mid is the sum of both sides, to the last digit, without an exponent."""
    mid = _mid(bid, ask)
    assert "E" not in mid
    assert scaled(mid) * 2 == scaled(bid) + scaled(ask)


def scaled(text):
    """Return a decimal text times 10**50 as a whole number."""
    sign, digits, exponent = Decimal(text).as_tuple()
    assert sign == 0
    return int("".join(map(str, digits))) * 10 ** (50 + exponent)
