"""
What ccxt hears, as messages: frames in the forms of venues that no simulator speaks.

Kraken and Bitfinex send JSON numbers, the latter in arrays and with a sign for the side; Bybit
sends what has changed of a ticker.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from types import SimpleNamespace

import pytest
from ingest.ccxt_feeds import Bench
from pydantic import ValidationError

from aggregator.api import (
    BookUpdate,
    Candle,
    ExchangeError,
    Gap,
    Ignored,
    Level,
    PayloadError,
    PriceUpdate,
    ThrottledError,
    TradeExecuted,
    Unhandled,
    UnreachableError,
    UnusableError,
)
from aggregator.config import load
from connectors.any_exchange import digits
from connectors.any_exchange.exchange import closed, opened
from connectors.any_exchange.failures import meaning
from connectors.any_exchange.options import BookOptions, CcxtOptions

ccxt = pytest.importorskip("ccxt.pro", reason="ccxt is not installed: pip install '.[ccxt]'")


@pytest.fixture
async def bench():
    benches = []

    def build(*arguments, **options):
        benches.append(Bench(*arguments, **options))
        return benches[-1]

    yield build
    for each in benches:
        await closed(each.ccxt)


# Frames as the venues document them.

KRAKEN_TICKER = (
    '{"channel":"ticker","type":"snapshot","data":[{"symbol":"BTC/USD","bid":108359.80,'
    '"bid_qty":0.01362603,"ask":108359.90,"ask_qty":17.17988863,"last":108359.80,'
    '"volume":2158.32346720,"vwap":108894.5,"low":106824.0,"high":111300.0,'
    '"change":-2679.9,"change_pct":-2.410}]}'
)


async def test_json_numbers_keep_their_digits(bench):
    """Kraken's numbers are no text; what comes out has each digit of them all the same."""
    [update] = bench("ticker", "kraken").hears(KRAKEN_TICKER)
    assert isinstance(update, PriceUpdate)
    assert (update.price, update.bid, update.ask) == ("108359.80", "108359.80", "108359.90")
    assert (update.volume_24h, update.change_24h_pct) == ("2158.32346720", "-2.410")
    assert update.exchange_us is None
    row = KRAKEN_TICKER.partition('"data":[')[2].removesuffix("]}")
    assert bytes(update.data).decode() == row


async def test_numbers_with_exponents_and_many_digits(bench):
    """Neither a small number nor one with more digits than a float has is changed."""
    frame = KRAKEN_TICKER.replace("2158.32346720", "123456789012345.678901234567")
    [update] = bench("ticker", "kraken").hears(frame.replace("108359.80", "1.7420e-8"))
    assert (update.price, update.volume_24h) == ("1.7420e-8", "123456789012345.678901234567")


async def test_trades_of_kraken(bench):
    """Ids are numbers there, and times are text."""
    frame = (
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"sell",'
        '"price":108359.10,"qty":0.400,"ord_type":"market","trade_id":4665906,'
        '"timestamp":"2023-09-25T07:49:37.708706Z"},{"symbol":"BTC/USD","side":"buy",'
        '"price":108360.0,"qty":1.0,"ord_type":"limit","trade_id":4665907,'
        '"timestamp":"2023-09-25T07:49:37.709Z"}]}'
    )
    one, two = bench("trades", "kraken").hears(frame)
    assert isinstance(one, TradeExecuted)
    assert (one.id, one.side, one.price, one.quantity) == ("4665906", "sell", "108359.10", "0.400")
    assert Decimal(one.cost) == Decimal("108359.10") * Decimal("0.400")
    assert one.exchange_us == 1695628177708000
    assert (two.id, two.side, two.price, two.quantity) == ("4665907", "buy", "108360.0", "1.0")


async def test_a_book_of_kraken(bench):
    """Snapshot and update lead to the book, best levels first, with the venue's digits."""
    snapshot = (
        '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":'
        '[{"price":0.5666,"qty":4831.75496350},{"price":0.5665,"qty":6658.2}],"asks":'
        '[{"price":0.5668,"qty":4410.0},{"price":0.56690,"qty":4655.4}],"checksum":2439117997}]}'
    )
    update = (
        '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":'
        '[{"price":0.5666,"qty":0.00},{"price":0.5667,"qty":1.10}],"asks":'
        '[{"price":0.5668,"qty":5.0}],"checksum":1,"timestamp":"2023-10-06T17:35:55.440295Z"}]}'
    )
    first, second = bench("book", "kraken", depth=2).hears(snapshot, update)
    assert isinstance(first, BookUpdate)
    assert first.bids == [Level("0.5666", "4831.75496350"), Level("0.5665", "6658.2")]
    assert first.asks == [Level("0.5668", "4410.0"), Level("0.56690", "4655.4")]
    assert second.bids == [Level("0.5667", "1.10"), Level("0.5665", "6658.2")]
    assert second.asks == [Level("0.5668", "5.0"), Level("0.56690", "4655.4")]
    assert (second.whole, second.flag) == (True, None)
    assert second.exchange_us == 1696613755440000


@pytest.mark.parametrize(("bid", "flag"), [("0.5668", "locked"), ("0.5669", "crossed")])
async def test_a_book_that_is_crossed_or_locked(bench, bid, flag):
    """It is passed on, and says so."""
    frame = (
        '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD","bids":'
        f'[{{"price":{bid},"qty":1.0}}],"asks":[{{"price":0.56680,"qty":2.0}}]}}]}}'
    )
    [update] = bench("book", "kraken").hears(frame)
    assert update.flag == flag


async def test_a_book_without_a_level(bench):
    """It is more likely none than a market without an order: it is counted, not told."""
    frame = '{"channel":"book","type":"snapshot","data":[{"symbol":"BTC/USD"}]}'
    assert bench("book", "kraken").hears(frame) == [Unhandled("order book without a level")]


def kraken_candle(minute, close):
    start = f"2023-10-04T16:{minute:02}:00.000000000Z"
    return (
        '{"channel":"ohlc","type":"update","timestamp":"2023-10-04T16:26:30.5Z","data":'
        '[{"symbol":"BTC/USD","open":0.56240,"high":0.5628,"low":0.5622,'
        f'"close":{close},"trades":12,"volume":30927.680,"vwap":0.5626,'
        f'"interval_begin":"{start}","interval":1,"timestamp":"{start}"}}]}}'
    )


async def test_candles_of_kraken(bench):
    """A candle is closed, with its last state, when there is one after it."""
    frames = (kraken_candle(25, "0.56270"), kraken_candle(25, "0.56280"), kraken_candle(26, "1.0"))
    candles = bench("ohlcv", "kraken").hears(*frames)
    assert all(isinstance(candle, Candle) for candle in candles)
    assert [(c.close, c.closed) for c in candles] == [
        ("0.56270", False),
        ("0.56280", False),
        ("0.56280", True),
        ("1.0", False),
    ]
    assert candles[2].start_us == 1696436700000000
    assert (candles[2].open, candles[2].volume, candles[2].interval) == (
        "0.56240",
        "30927.680",
        "1m",
    )


async def test_arrays_with_signs(bench):
    """
    Bitfinex tells the side of a level by the sign of its size, which is not part of it.

    Where ccxt takes it away by computing, zeros at the end go with it.
    """
    book = bench("book", "bitfinex")
    book.line.subscriptions["7"] = {"channel": "book", "symbol": "tETHUSD", "prec": "P0"}
    frames = (
        "[7,[[7364.80,10,4.354800],[7364.70,1,0.00288831],[7364.90,3,-0.420],[7365.0,1,-0.25]]]",
        "[7,[7364.90,2,-0.1000]]",
        "[7,[7364.80,0,1]]",
    )
    *_, last = book.hears(*frames)
    assert last.bids == [Level("7364.70", "0.00288831")]
    assert last.asks == [Level("7364.90", "0.1"), Level("7365.0", "0.25")]


async def test_trades_in_arrays(bench):
    """Those before the start, which Bitfinex sends first, and then one more."""
    trades = bench("trades", "bitfinex")
    trades.line.subscriptions["9"] = {"channel": "trades", "symbol": "tETHUSD"}
    frames = (
        "[9,[[1128060675,1654701572690,0.002170,1815.30],[1128060665,1654701551231,-0.0028,1814]]]",
        '[9,"te",[1128060969,1654702500098,0.00325130,1818.50]]',
        '[9,"tu",[1128060969,1654702500098,0.00325130,1818.50]]',
    )
    outputs = trades.hears(*frames)
    assert [(t.id, t.side, t.price, t.quantity) for t in outputs] == [
        ("1128060665", "sell", "1814", "0.0028"),
        ("1128060675", "buy", "1815.30", "0.00217"),
        ("1128060969", "buy", "1818.50", "0.0032513"),
    ]


async def test_what_changed_of_a_ticker(bench):
    """Bybit sends all of it once, and then changes; each message is the whole ticker."""
    snapshot = (
        '{"topic":"tickers.BTCUSDT","ts":1673853746002,"type":"snapshot","cs":2,"data":'
        '{"symbol":"BTCUSDT","lastPrice":"21109.770","highPrice24h":"21426.99",'
        '"lowPrice24h":"20575","prevPrice24h":"20704.93","volume24h":"6780.866843",'
        '"turnover24h":"141946527.2","price24hPcnt":"0.0196","usdIndexPrice":"21120.24"}}'
    )
    delta = (
        '{"topic":"tickers.BTCUSDT","ts":1673853746102,"type":"delta","cs":3,"data":'
        '{"symbol":"BTCUSDT","bid1Price":"21109.70","ask1Price":"21109.80",'
        '"usdIndexPrice":"21120.25"}}'
    )
    first, second = bench("ticker", "bybit").hears(snapshot, delta)
    assert (first.price, first.bid, first.exchange_us) == ("21109.770", None, 1673853746002000)
    assert (second.price, second.bid, second.ask) == ("21109.770", "21109.70", "21109.80")
    assert (second.volume_24h, second.exchange_us) == ("6780.866843", 1673853746102000)


async def test_ids_that_are_no_numbers(bench):
    """Bybit's are UUIDs; what comes twice is known by them."""
    frame = (
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":'
        '1672304486865,"s":"BTCUSDT","S":"Buy","v":"0.0010","p":"16578.50","L":"PlusTick",'
        '"i":"20f43950-d8dd-5b31-9112-a178eb6023af","BT":false}]}'
    )
    trade, again = bench("trades", "bybit").hears(frame, frame)
    assert (trade.id, trade.side) == ("20f43950-d8dd-5b31-9112-a178eb6023af", "buy")
    assert again == Ignored("trade that was told before")


async def test_texts_and_pongs_are_no_data(bench):
    """What is no JSON object or array goes to ccxt, which knows its exchange's pongs."""
    kraken = bench("ticker", "kraken")
    assert kraken.hears("pong", b"", '{"channel":"heartbeat"}', '{"method":"pong"}') == []


async def test_bad_frames(bench):
    """Half a frame, no UTF-8, or what ccxt's parser stumbles over is a payload error."""
    kraken = bench("ticker", "kraken")
    for frame in (KRAKEN_TICKER[:50], b'{"a":"\xff"}'):
        with pytest.raises(PayloadError, match="no JSON"):
            kraken.hears(frame)
    broken = bench("trades", "kraken")
    with pytest.raises(PayloadError, match="symbol"):
        broken.hears('{"channel":"trade","type":"update","data":[{"symbol":"NO/SUCH"}]}')


# Trades after a break.


def trade(number, *, ms=None, symbol="BTC/USD"):
    return {
        "id": None if number is None else str(number),
        "symbol": symbol,
        "timestamp": 1_700_000_000_000 + (number if ms is None else ms),
        "side": "buy",
        "price": digits.Number("1.50"),
        "amount": digits.Number("2.0"),
        "cost": digits.Number("3.0"),
    }


async def resumed(bench, before, heard, fetched):
    """Return what is told after a break: `heard` on the new stream, `fetched` over REST."""
    feed = bench("trades", "kraken").feed
    outputs = []
    feed._emit = outputs.extend
    answers = [fetched] if not fetched or isinstance(fetched[0], dict) else list(fetched)

    async def fetch_trades(_symbol):
        return answers.pop(0) if len(answers) > 1 else answers[0]

    feed.ccxt.fetch_trades = fetch_trades
    for each in before:
        outputs += feed.translate(each)
    feed.begin()
    async with asyncio.TaskGroup() as feed._tasks:
        for each in heard:
            outputs += feed.translate(each)
    return outputs[len(before) :]


def told(outputs):
    return [(int(o.id), o.backfilled) if isinstance(o, TradeExecuted) else o for o in outputs]


async def test_missed_trades_are_told_first(bench):
    """In order and marked; what was heard meanwhile comes after them, unmarked."""
    outputs = await resumed(
        bench,
        before=[trade(8), trade(9)],
        heard=[trade(13), trade(14)],
        fetched=[trade(n) for n in range(7, 16)],
    )
    assert told(outputs) == [(10, True), (11, True), (12, True), (13, False), (14, False)]


async def test_missed_trades_of_one_millisecond(bench):
    """They are told in the order of their numbers, though ccxt sorts ids as text."""
    rows = [trade(n, ms=5) for n in (10, 11, 8, 9)]
    outputs = await resumed(
        bench, before=[trade(8, ms=5)], heard=[trade(12, ms=6)], fetched=[*rows, trade(12, ms=6)]
    )
    assert told(outputs) == [(9, True), (10, True), (11, True), (12, False)]


async def test_nothing_was_missed(bench):
    """The next number, or a stream that begins with the last trade, leaves nothing to ask for."""
    assert told(await resumed(bench, [trade(9)], [trade(10)], [])) == [(10, False)]
    outputs = await resumed(bench, [trade(8), trade(9)], [trade(8), trade(9), trade(12)], [])
    twice = Ignored("trade that was told before")
    assert told(outputs) == [twice, twice, (12, False)]


async def test_an_answer_that_is_behind_the_stream(bench, monkeypatch):
    """It is asked for again, until it has the first trade of the new stream."""
    monkeypatch.setattr("connectors.any_exchange.trades.AGAIN_S", 0.0)
    behind = [trade(n) for n in range(7, 12)]
    outputs = await resumed(
        bench, [trade(9)], [trade(13)], [behind, [trade(n) for n in range(7, 14)]]
    )
    assert told(outputs) == [(10, True), (11, True), (12, True), (13, False)]


@pytest.mark.parametrize(
    "fetched",
    [[], [trade(n) for n in range(11, 15)], [trade(n + 5_000_000) for n in range(9, 14)]],
    ids=["nothing", "too late", "other ids"],
)
async def test_what_is_not_known_is_a_gap(bench, fetched):
    """An answer without the last trade before the break, or with other ids, proves nothing."""
    outputs = await resumed(bench, [trade(9)], [trade(13)], fetched)
    gap, *others = told(outputs)
    assert others == [(13, False)]
    assert (gap.instrument, gap.data["after"], gap.data["before"]) == ("BTC/USD", "9", "13")


async def test_too_many_wait(bench, monkeypatch):
    """What waits is bounded: then a gap is told, and what waited."""
    monkeypatch.setattr("connectors.any_exchange.trades.MAX_HELD", 3)
    heard = [trade(n) for n in range(13, 18)]
    outputs = await resumed(bench, [trade(9)], heard, [trade(n) for n in range(7, 16)])
    assert isinstance(outputs[0], Gap)
    assert told(outputs)[1:] == [(n, False) for n in range(13, 18)]


async def test_trades_without_ids(bench):
    """They are told with an empty id, and are known by what they are."""
    kraken = bench("trades", "kraken").feed
    one, other = trade(None, ms=1), trade(None, ms=2)
    outputs = [o for each in (one, other, one) for o in kraken.translate(each)]
    assert [getattr(o, "id", o) for o in outputs] == [
        "",
        "",
        Ignored("trade that was told before"),
    ]


async def test_trades_without_a_side(bench):
    """They can't be told; they are counted."""
    kraken = bench("trades", "kraken").feed
    assert list(kraken.translate(trade(1) | {"side": None})) == [
        Unhandled("trade without a side, a price or an amount")
    ]


# Digits, times, options and errors.


@pytest.mark.parametrize("text", ["67012.50", "0.00000001742", "1e-8", "-0.0", "7", "123456789.10"])
def test_numbers_remember_their_text(text):
    """They compute as floats, and are written as they were; their opposite too."""
    number = digits.Number(text)
    assert (number, str(number), digits.decimal_text(number)) == (float(text), text, text)
    assert str(-number) == (text[1:] if text[0] == "-" else f"-{text}")
    assert digits.Number(str(-number)) == -number
    assert digits.json_bytes({"a": [number]}).decode() == f'{{"a":[{text}]}}'


def test_numbers_that_are_computed():
    """They are written without an exponent, as decimal text; none stays none."""
    values = (0.00000001, 1.5, 12, "7.10", "", None)
    texts = ["0.00000001", "1.5", "12", "7.10", None, None]
    assert [digits.decimal_text(v) for v in values] == texts


async def test_a_time_that_ccxt_invents_is_none(bench):
    """It puts this machine's clock where some venues give no time; that is no venue's time."""
    kraken = bench("ticker", "kraken").ccxt
    now = kraken.milliseconds()
    assert digits.microseconds(now) is None
    assert digits.microseconds(now - 1) == (now - 1) * 1000
    assert digits.microseconds(None) is None
    assert kraken.iso8601(now).endswith("Z")


async def test_what_ccxt_computes_is_not_passed_on(bench):
    """A percentage, a last price or a volume that the venue does not give is absent."""
    kraken = bench("ticker", "kraken").ccxt
    given = {"symbol": "BTC/USD", "open": "100", "average": "105", "vwap": "1", "info": {}}
    ticker = kraken.safe_ticker(given)
    assert {
        k: ticker[k] for k in ("last", "bid", "ask", "baseVolume", "percentage")
    } == dict.fromkeys(("last", "bid", "ask", "baseVolume", "percentage"))
    assert kraken.safe_ticker(given | {"close": "101.50", "bid": "0"})["last"] == "101.50"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"exchange": "krakn"}, "ccxt has no exchange of this name; did you mean kraken"),
        ({"exchange": "../../etc"}, "ccxt has no exchange of this name"),
        ({"ccxt_options": {"apiKey": "x", "secret": "y"}}, "apiKey, secret: public data need no"),
        ({"mode": "push"}, "'auto', 'stream' or 'poll'"),
        ({"instruments": []}, "at least 1 item"),
        ({"instruments": ["btc"]}, "an instrument is written"),
        ({"urls": "https://kraken.example"}, "valid dictionary"),
        ({"api_key": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_options_are_checked(options, problem):
    """A fault in a section is told when the configuration is read."""
    given = {"exchange": "kraken", "instruments": ["BTC/USD"]} | options
    with pytest.raises(ValidationError, match=problem):
        CcxtOptions(**given)


def test_without_ccxt(monkeypatch, tmp_path):
    """The configuration is good all the same; a warning says what to install."""
    monkeypatch.setitem(sys.modules, "ccxt", None)
    path = tmp_path / "aggregator.toml"
    path.write_text(
        '[feeds.any]\nconnector = "ccxt.ticker"\nexchange = "whatever"\ninstruments = ["BTC/USD"]'
    )
    config = load(path, environ={})
    assert config.feeds[0].problem == ""
    install = 'needs ccxt, which is not installed: pip install "exchange-aggregator[ccxt]"'
    assert config.warnings == (f"feeds.any {install}",)


def test_ccxt_is_imported_where_a_feed_uses_it():
    """To know all connectors, and to check a feed's options, takes nothing of it."""
    code = (
        "import sys, aggregator.app, aggregator.registry as r; r.everything();"
        "r.load('ccxt.ticker').options_type(exchange='kraken', instruments=['BTC/USD']);"
        "print('ccxt' in sys.modules)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout == "False\n"


def test_all_is_for_tickers_alone():
    """Of everything else a feed names its instruments."""
    assert CcxtOptions(exchange="kraken", instruments="all").instruments == "all"
    with pytest.raises(ValidationError):
        BookOptions(exchange="kraken", instruments="all")


async def test_options_reach_the_exchange():
    """What is given to ccxt arrives, and its rate limiter stays on."""
    options = CcxtOptions(
        exchange="binance",
        instruments=["BTC/USDT"],
        urls={"api": {"public": "http://127.0.0.1:1/api/v3"}},
        timeout_s=3,
        ccxt_options={
            "httpsProxy": "http://127.0.0.1:2",
            "enableRateLimit": False,
            "options": {"watchTickers": {"name": "miniTicker"}},
        },
    )
    exchange = opened(options, SimpleNamespace(hears="resolved"))
    assert exchange.urls["api"]["public"] == "http://127.0.0.1:1/api/v3"
    assert exchange.urls["api"]["ws"]["spot"].startswith("wss://stream.binance.com")
    assert (exchange.timeout, exchange.httpsProxy) == (3000, "http://127.0.0.1:2")
    assert exchange.enableRateLimit is True
    assert exchange.options["watchTickers"]["name"] == "miniTicker"
    assert exchange.options["fetchMarkets"]["types"] == ["spot"]
    await closed(exchange)


async def test_sandbox():
    """The exchange's test environment takes the place of the real one."""
    options = CcxtOptions(exchange="binance", instruments=["BTC/USDT"], sandbox=True)
    exchange = opened(options, SimpleNamespace(hears="resolved"))
    assert "testnet" in exchange.urls["api"]["public"]
    await closed(exchange)


@pytest.mark.parametrize(
    ("name", "kind", "more"),
    [
        ("RateLimitExceeded", ThrottledError, {"retry_after_s": 7.0}),
        ("DDoSProtection", ThrottledError, {"retry_after_s": 7.0}),
        ("AuthenticationError", UnusableError, {}),
        ("RestrictedLocation", UnusableError, {}),
        ("NotSupported", UnusableError, {}),
        ("ExchangeNotAvailable", UnreachableError, {"kind": "connection"}),
        ("NetworkError", UnreachableError, {"kind": "connection"}),
        ("RequestTimeout", UnreachableError, {"kind": "timeout"}),
        ("BadSymbol", ExchangeError, {}),
        ("ExchangeError", ExchangeError, {}),
        ("BadResponse", ExchangeError, {}),
    ],
)
async def test_errors_of_ccxt(bench, name, kind, more):
    """Each has its meaning; nobody is told the query of an address."""
    exchange = bench("ticker", "kraken").ccxt
    exchange.last_response_headers = {"retry-after": "7"}
    error = getattr(ccxt, name)("kraken GET https://kraken.example/t?key=secret 500 {}")
    found = meaning(error, exchange)
    assert type(found) is kind
    assert {key: getattr(found, key) for key in more} == more
    assert "secret" not in str(found)
    assert str(found).startswith(f"{name}: kraken GET https://kraken.example/t")
