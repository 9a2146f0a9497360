"""CoinGecko: names, numbers, times, and which key goes where."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregator.connector import Budget, KnownInstruments, Request, Unhandled, translate
from aggregator.errors import PayloadError
from aggregator.model import PriceUpdate
from connectors.coingecko import Coin, _names

NAMES = ("coingecko.global", "coingecko.top", "coingecko.trending")


def coin(name, symbol, **fields):
    return {"id": name, "symbol": symbol, "current_price": 1} | fields


def coins_of(connector, body):
    """Return what comes of the rows; the names, which come before, are exactly theirs."""
    known, *outputs = translate(lambda: connector.on_response(Request("/"), body))
    instruments = [o.instrument for o in outputs if isinstance(o, PriceUpdate)]
    assert known == KnownInstruments(frozenset(instruments))
    assert len(known.instruments) == len(instruments)
    assert all(isinstance(o, PriceUpdate | Unhandled) for o in outputs)
    return outputs


def top(connector, *rows, raw=None):
    return coins_of(connector, raw if raw is not None else json.dumps(rows).encode())


def trending(connector, *items):
    return coins_of(connector, json.dumps({"coins": [{"item": item} for item in items]}).encode())


def global_market(connector, raw):
    return translate(lambda: connector.on_response(Request("/"), b'{"data":' + raw + b"}"))


def test_each_asks_for_its_page(build):
    """Each feed is one request of the documented path."""
    requests = [r for name in NAMES for r in build(name).requests()]
    assert [r.path for r in requests] == ["/global", "/coins/markets", "/search/trending"]
    assert requests[1].params == {
        "vs_currency": "usd",
        "order": "market_cap_desc",
        "per_page": "100",
        "page": "1",
    }
    assert all(not r.headers and r.weight == 1 for r in requests)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("https://api.coingecko.com/api/v3", "x-cg-demo-api-key"),
        ("https://pro-api.coingecko.com/api/v3", "x-cg-pro-api-key"),
        ("http://127.0.0.1:9/pro-api.", "x-cg-demo-api-key"),
    ],
)
def test_the_key_goes_into_the_header_of_its_plan(build, name, url, header):
    """The key is in the header that its host wants, and never in what is printed."""
    connector = build(name, api_key="secret-key", base_url=url)
    [request] = connector.requests()
    assert request.headers == {header: "secret-key"}
    assert "secret-key" not in repr(connector.options)


def test_the_limit_is_the_size_of_the_page(build):
    """`limit` goes up to what a page holds; other feeds have no such option."""
    [request] = build("coingecko.top", limit=250).requests()
    assert request.params["per_page"] == "250"
    for name, limit in (("coingecko.top", 251), ("coingecko.top", 0), ("coingecko.global", 5)):
        with pytest.raises(ValidationError):
            build(name, limit=limit)


def test_budget_and_instruments_are_declared(build):
    """30 requests a minute are the limit; only of the global market the instrument is known."""
    known = [type(c).instruments_of(c.options) for c in map(build, NAMES)]
    assert known == [{"GLOBAL/USD"}, None, None]
    assert {build(name).budget.per_minute for name in NAMES} == {30}


@pytest.mark.parametrize("name", NAMES)
def test_a_key_brings_the_month_of_the_demo_plan(build, name):
    """With a key the month has 10,000 calls, as the Demo plan; an empty key is none."""
    keyless, empty, keyed = build(name), build(name, api_key=""), build(name, api_key="secret")
    assert type(keyed).budget == Budget(per_minute=30)
    for connector in (keyless, empty):
        assert connector.budget_for(connector.options) == Budget(per_minute=30)
    assert keyed.budget_for(keyed.options) == Budget(per_minute=30, per_month=10_000)


@pytest.mark.parametrize(
    ("name", "ask"), [("coingecko.top", top), ("coingecko.trending", trending)]
)
def test_the_names_are_those_of_the_present_answer(build, name, ask):
    """Each answer names its own coins, so that one that left the list is known to have left."""
    connector = build(name)
    answers = [[coin("a", "x"), coin("b", "y")], [coin("b", "y"), coin("c", "z")]]
    instruments = [[e.instrument for e in ask(connector, *rows)] for rows in answers]
    assert instruments == [["X/USD", "Y/USD"], ["Y/USD", "Z/USD"]]
    # Not all of them at once: that would be the venue's mistake.
    with pytest.raises(PayloadError, match="without coins"):
        ask(connector)


def test_a_coin_without_a_price_is_still_listed(build):
    """What is in the list has not left it, whether or not there is a price."""
    [event] = top(build("coingecko.top"), coin("a", "b", current_price=None))
    assert (event.instrument, event.price) == ("B/USD", "")


def test_the_best_ranked_coin_has_the_name_of_the_symbol(build):
    """Of coins with the same symbol the best ranked one is named by it, the others by their ids."""
    rows = [coin("late", "abc", market_cap_rank=30), coin("early", "ABC", market_cap_rank=4)]
    rows += [coin("none", "abc", market_cap_rank=None), coin("other", "xyz", market_cap_rank=31)]
    expected = ["late/USD", "ABC/USD", "none/USD", "XYZ/USD"]
    assert [e.instrument for e in top(build("coingecko.top"), *rows)] == expected
    assert [e.instrument for e in trending(build("coingecko.trending"), *rows)] == expected


def test_without_ranks_the_first_listed_is_the_best(build):
    """Coins without a rank count in the order in which they are listed, after those with one."""
    rows = [coin("one", "abc"), coin("two", "abc"), coin("three", "x"), coin("four", "x")]
    rows[3]["market_cap_rank"] = 900
    events = top(build("coingecko.top"), *rows)
    assert [e.instrument for e in events] == ["ABC/USD", "two/USD", "three/USD", "X/USD"]


@pytest.mark.parametrize(
    "symbol", ["", " ", "a b", "a,b", "a:b", "*", 'a"', "a\\", "a/b", "a\u200b", "\n", "a\u00a0b"]
)
def test_an_unusable_symbol_gives_way_to_the_id(build, symbol):
    """A symbol that cannot stand in the name of a channel is not used."""
    [event] = top(build("coingecko.top"), coin("some-coin", symbol))
    assert event.instrument == "some-coin/USD"


def test_a_coin_without_any_usable_name_is_counted(build):
    """With neither a symbol nor an id, or with both taken, there is no message but a notice."""
    rows = [coin("", " "), coin("a", "5"), coin("5", "5"), coin("A", "a"), coin("A", "a")]
    outputs = top(build("coingecko.top"), *rows)
    nameless = Unhandled("coin without a name of its own")
    assert outputs[0] == outputs[2] == outputs[4] == nameless
    assert [outputs[1].instrument, outputs[3].instrument] == ["5/USD", "A/USD"]


def test_letters_of_other_scripts_are_names(build):
    """A symbol in any script is used as it is, in upper case."""
    [event] = top(build("coingecko.top"), coin("x", "б币"))
    assert event.instrument == "Б币/USD"


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.none() | st.integers(1, 5))))
def test_names_are_safe_and_unique(coins):
    """Whatever a venue calls its coins, no two have the same instrument, and each can be asked."""
    names = _names([Coin(*c) for c in coins])
    assert len(set(names.values())) == len(names)
    for place, name in names.items():
        text = name.removesuffix("/USD")
        assert text in (coins[place][1].upper(), coins[place][0])
        assert text.isprintable()
        assert not re.search(r'[\s,:*"\\/]', text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (b"42150", "42150"),
        (b"42150.50", "42150.50"),
        (b"1.52899720736006e+15", "1.52899720736006e+15"),
        (b"1E-8", "1E-8"),
        (b"-0.0", "-0.0"),
        (b"0.10000000000000000000000000000001", "0.10000000000000000000000000000001"),
        (b'"1.230"', "1.230"),
        (b"null", None),
        (b'""', None),
        (b'"$1.23"', None),
        (b'"1,000"', None),
        (b'"+1"', None),
        (b'"NaN"', None),
        (b"true", None),
        (b"[1]", None),
        (b'{"usd":1}', None),
    ],
)
def test_numbers_are_the_text_of_the_venue(build, number, text):
    """A number keeps its digits and notation; what is none is absent, and never zero."""
    row = b'[{"id":"a","symbol":"b","current_price":%b,"price_change_percentage_24h":%b}]'
    [event] = top(build("coingecko.top"), raw=row % (number, number))
    assert (event.price, event.change_24h_pct) == (text or "", text)
    raw = b'{"total_market_cap":{"usd":%b},"market_cap_change_percentage_24h_usd":%b}'
    [event] = global_market(build("coingecko.global"), raw % (number, number))
    assert (event.price, event.change_24h_pct) == (text or "", text)


@pytest.mark.parametrize(
    ("updated", "exchange_us"),
    [
        ("2025-12-08T16:30:45.123Z", 1765211445123000),
        ("2025-12-08T16:30:45Z", 1765211445000000),
        ("2025-12-08T16:30:45.1Z", 1765211445100000),
        ("2025-12-08T16:30:45.123456Z", 1765211445123456),
        ("2025-12-08T17:30:45.000001+01:00", 1765211445000001),
        ("1970-01-01T00:00:00Z", 0),
        (None, None),
    ],
)
def test_times_are_exact_to_the_microsecond(build, updated, exchange_us):
    """The venue's time keeps every digit, and is absent where the venue gives none."""
    [event] = top(build("coingecko.top"), coin("a", "b", last_updated=updated))
    assert event.exchange_us == exchange_us


@pytest.mark.parametrize("updated", ["2025-12-08T16:30:45", "yesterday", "", 1765211445, "2025"])
def test_a_time_of_another_form_is_a_bad_answer(build, updated):
    """A time without its zone, or that is none, is not guessed at."""
    with pytest.raises(PayloadError):
        top(build("coingecko.top"), coin("a", "b", last_updated=updated))


@pytest.mark.parametrize("updated", [b"-1", b"10000000000", b"1765211445123", b"1.5", b'"1"'])
def test_a_time_out_of_this_calendar_is_a_bad_answer(build, updated):
    """Seconds are whole seconds; milliseconds in their place are noticed."""
    with pytest.raises(PayloadError):
        global_market(
            build("coingecko.global"), b'{"total_market_cap":{},"updated_at":' + updated + b"}"
        )


def test_volumes_in_usd_are_left_to_the_data(build):
    """A volume that does not count in the base is in `data` only."""
    [event] = top(build("coingecko.top"), coin("a", "b", total_volume=5))
    assert event.volume_24h is None
    assert json.loads(bytes(event.data))["total_volume"] == 5


def test_a_trending_coin_without_a_price_in_usd_has_none(build):
    """Answers of old have no `data`; a price in BTC does not take its place."""
    items = [{"id": "a", "symbol": "a", "price_btc": 1e-8}, {"id": "b", "symbol": "b", "data": {}}]
    events = trending(build("coingecko.trending"), *items)
    assert [(e.price, e.change_24h_pct, e.exchange_us) for e in events] == [("", None, None)] * 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [b"{}", b'{"coins":null}', b'{"data":null}', b'[{"id":"a"}]'])
def test_an_answer_of_another_shape_is_an_error(build, name, body):
    """What is not the documented answer is unreadable, not empty."""
    connector = build(name)
    with pytest.raises(PayloadError):
        translate(lambda: connector.on_response(Request("/"), body))
