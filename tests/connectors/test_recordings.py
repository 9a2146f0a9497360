"""
The shipped connectors on real payloads: every digit arrives as the venue sent it.

What stands in a payload is read here a second time, by the standard library and as text.
"""

import json
from datetime import date
from pathlib import Path

import pytest

from aggregator.connector import (
    KnownInstruments,
    PollConnector,
    Request,
    StreamConnector,
    translate,
)
from aggregator.errors import ConnectorError
from aggregator.model import PriceUpdate

ROOT = Path(__file__).parents[3] / "shared" / "recordings"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recordings at {ROOT}")

CONNECTORS = {
    "binance.prices": {"instruments": "all"},
    "binance.24hr": {"instruments": "all"},
    "binance.orderbook": {"instruments": ["BTC/USDT"]},
    "binance.ticker": {"instruments": ["BTC/USDT"]},
    "binance.trades": {"instruments": ["BTC/USDT"]},
    "binance.depth": {"instruments": ["BTC/USDT"]},
    "coingecko.global": {},
    "coingecko.top": {},
    "coingecko.trending": {},
    "okx.ticker": {"instruments": ["BTC/USDT"]},
}


def found(pattern):
    """Return the recorded files of a name; without the folder there are none to run on."""
    return sorted(ROOT.glob(pattern))


def files(pattern):
    return pytest.mark.parametrize("path", found(pattern), ids=lambda p: p.stem)


def body_of(path):
    return json.loads(path.read_text())["body"].encode()


def as_text(payload):
    """Read JSON with every number as the text that stands there."""
    return json.loads(payload, parse_float=str, parse_int=str)


def answer(connector, body, key=""):
    return translate(lambda: connector.on_response(Request("", key=key), body))


def frames(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def names_for(rows):
    """Return an answer of exchangeInfo in which every symbol of the rows is trading."""
    markets = [
        {"symbol": s, "status": "TRADING", "baseAsset": f"X{n}", "quoteAsset": "Y"}
        for n, s in enumerate(row["symbol"] for row in rows)
    ]
    return json.dumps({"symbols": markets}).encode()


@files("binance/http/*ticker-24hr*.json")
@pytest.mark.parametrize("name", ["binance.prices", "binance.24hr"])
def test_binance_tickers_keep_every_digit(build, path, name):
    """Every row of every recorded 24 h ticker gives a message of the venue's own digits."""
    body = body_of(path)
    # Asked for one symbol, the venue answers with the row itself; connectors ask for a list.
    body = body if body.lstrip().startswith(b"[") else b"[" + body + b"]"
    rows = as_text(body)
    connector = build(name, instruments="all")
    answer(connector, names_for(rows), "names")
    events = answer(connector, body)
    assert len(events) == len(rows) > 0
    for n, (event, row) in enumerate(zip(events, rows, strict=True)):
        assert event.instrument == f"X{n}/Y"
        assert (event.price, event.bid, event.ask) == tuple(
            row[key] for key in ("lastPrice", "bidPrice", "askPrice")
        )
        assert event.volume_24h == row["volume"]
        assert event.change_24h_pct == row["priceChangePercent"]
        assert str(event.exchange_us) == row["closeTime"] + "000"
        if name == "binance.24hr":
            assert bytes(event.data) in body
            assert as_text(bytes(event.data)) == row
        else:
            data = {"symbol": row["symbol"], "price": row["lastPrice"]}
            data["priceChangePercent"] = row["priceChangePercent"]
            assert bytes(event.data) == json.dumps(data, separators=(",", ":")).encode()


@files("binance/http/depth-*.json")
def test_binance_books_keep_every_digit(build, path):
    """Every recorded book passes untouched, with its best prices and a mid that lies between."""
    body = body_of(path)
    book = as_text(body)
    connector = build("binance.orderbook", instruments=["X/Y"])
    [event] = answer(connector, body, "XY")
    assert event.data == body
    assert event.bid == (book["bids"][0][0] if book["bids"] else None)
    assert event.ask == (book["asks"][0][0] if book["asks"] else None)
    if book["bids"] and book["asks"]:
        assert twice(event.price) == units(event.bid) + units(event.ask)
    else:
        assert event.price == ""


def units(text, factor=1):
    """Return a decimal text as a whole number of 10**-20, without any rounding."""
    whole, _, fraction = text.partition(".")
    assert len(fraction) <= 20
    return int(whole + fraction.ljust(20, "0")) * factor


def twice(text):
    return units(text, 2)


@files("binance/http/exchangeInfo*.json")
def test_binance_names_are_all_there(build, path):
    """All symbols of the recorded exchangeInfo that trade become instruments."""
    markets = json.loads(body_of(path))["symbols"]
    trading = {f"{m['baseAsset']}/{m['quoteAsset']}" for m in markets if m["status"] == "TRADING"}
    [known] = answer(build("binance.prices", instruments="all"), body_of(path), "names")
    assert known.instruments == trading
    assert "ETH/BTC" in trading


@files("coingecko/http/*global*.json")
def test_coingecko_global_keeps_every_digit(build, path):
    """The market capitalisation and its change are the venue's digits."""
    body = body_of(path)
    data = as_text(body)["data"]
    [event] = answer(build("coingecko.global"), body)
    assert event.price == data["total_market_cap"]["usd"]
    assert event.change_24h_pct == data["market_cap_change_percentage_24h_usd"]
    assert str(event.exchange_us) == data["updated_at"] + "000000"
    assert bytes(event.data) in body
    assert as_text(bytes(event.data)) == data


@files("coingecko/http/*coins-markets*.json")
def test_coingecko_coins_keep_every_digit(build, path):
    """Every coin gives a message of the venue's digits, under a name of its own."""
    body = body_of(path)
    rows = as_text(body)
    known, *events = answer(build("coingecko.top"), body)
    assert known == KnownInstruments(frozenset(event.instrument for event in events))
    assert len(events) == len(rows) > 0
    assert len({event.instrument for event in events}) == len(rows)
    for event, row in zip(events, rows, strict=True):
        assert event.instrument in (f"{row['symbol'].upper()}/USD", f"{row['id']}/USD")
        assert event.price == (row["current_price"] or "")
        assert event.change_24h_pct == row["price_change_percentage_24h"]
        assert same_time(event.exchange_us, row["last_updated"])
        assert bytes(event.data) in body
        assert as_text(bytes(event.data)) == row


def same_time(exchange_us, text):
    """Compare microseconds with ISO 8601 without the arithmetic of the connector."""
    seconds, _, rest = text.rstrip("Z").partition(".")
    days = date.fromisoformat(seconds[:10]).toordinal() - 719163
    hours, minutes, secs = map(int, seconds[11:].split(":"))
    total = ((days * 24 + hours) * 60 + minutes) * 60 + secs
    return exchange_us == total * 1_000_000 + int(rest.ljust(6, "0"))


@files("coingecko/http/search-trending*.json")
def test_coingecko_trending_keeps_every_digit(build, path):
    """Every trending coin gives a message; one without a price in USD has none."""
    body = body_of(path)
    items = [row["item"] for row in as_text(body)["coins"]]
    known, *events = answer(build("coingecko.trending"), body)
    assert known == KnownInstruments(frozenset(event.instrument for event in events))
    assert len(events) == len(items) > 0
    assert len({event.instrument for event in events}) == len(items)
    for event, item in zip(events, items, strict=True):
        data = item.get("data", {})
        assert event.price == data.get("price", "")
        assert event.change_24h_pct == data.get("price_change_percentage_24h", {}).get("usd")
        assert event.exchange_us is None
        assert bytes(event.data) in body
        assert as_text(bytes(event.data)) == item


def recorded_tickers():
    """Return the text of every recorded ticker frame, with its rows."""
    raws = [f["raw"] for p in found("okx/*.ndjson") for f in frames(p) if f["dir"] == "in"]
    # The documented answers of REST have the same rows; in a frame they stand under `arg`.
    for path in found("okx/http/*GetTicker*.json"):
        body = body_of(path).decode().strip()
        raws.append('{"arg":{"channel":"tickers"},' + body[body.index('"data"') :])
    for raw in raws:
        content = as_text(raw) if raw.startswith("{") else {}
        if content.get("arg", {}).get("channel") == "tickers" and content.get("data"):
            yield raw, content["data"]


def test_okx_tickers_keep_every_digit(build):
    """Every ticker in every recording, fixture and example gives the venue's own digits."""
    recorded = list(recorded_tickers())
    assert len(recorded) > 50
    instruments = {row["instId"].replace("-", "/", 1) for _, rows in recorded for row in rows}
    connector = build("okx.ticker", instruments=sorted(instruments))
    for raw, rows in recorded:
        events = translate(lambda raw=raw: connector.on_frame(raw.encode()))
        for event, row in zip(events, rows, strict=True):
            assert event.instrument == row["instId"].replace("-", "/", 1)
            assert (event.price, event.bid, event.ask) == (row["last"], row["bidPx"], row["askPx"])
            assert event.volume_24h == (row["vol24h"] if row["instType"] == "SPOT" else None)
            assert str(event.exchange_us) == row["ts"] + "000"
            assert event.change_24h_pct is None
            assert bytes(event.data).decode() in raw
            assert as_text(bytes(event.data)) == row


def test_okx_survives_every_recorded_frame(build):
    """No recorded frame of any channel is an accident, and only tickers become messages."""
    connector = build("okx.ticker", instruments=["BTC/USDT", "ETH/USDT"])
    for path in found("okx/*.ndjson"):
        for frame in frames(path):
            outputs = given(connector, frame["raw"].encode(), 200)
            if '"tickers"' not in frame["raw"]:
                assert not any(isinstance(o, PriceUpdate) for o in outputs)


def recorded_errors():
    """Return name, status and body of everything recorded that went wrong."""
    for path in found("errors/*.json"):
        record = json.loads(path.read_text())
        yield path.stem, record["status"], record["body"].encode()
    for path in found("errors/*.ndjson"):
        for n, frame in enumerate(frames(path)):
            yield f"{path.stem}-{n}", 200, frame["raw"].encode()


def given(connector, body, status):
    """Give a connector a body as a runner would; an error of a connector counts as an output."""
    request = Request("/", key="BTCUSDT")
    try:
        if isinstance(connector, StreamConnector):
            return translate(lambda: connector.on_frame(body))
        if status == 200:
            return translate(lambda: connector.on_response(request, body))
        return translate(lambda: connector.on_refusal(request, status, body))
    except ConnectorError as e:
        return [e]


@pytest.mark.parametrize("name", CONNECTORS)
def test_every_recorded_error_has_a_name(build, name):
    """What went wrong at some venue is an error or a notice at every connector, and no message."""
    for case, status, body in recorded_errors():
        connector = build(name, **CONNECTORS[name])
        outputs = given(connector, body, status)
        assert outputs, case
        assert not any(isinstance(o, PriceUpdate) for o in outputs), case
        if isinstance(connector, PollConnector) and "1121" not in case:
            assert isinstance(outputs[0], ConnectorError), case
