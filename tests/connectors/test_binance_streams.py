"""Binance's streams: subscriptions, names, and that no trade is missing and none comes twice."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregator.connector import (
    Acknowledged,
    Fetch,
    KnownInstruments,
    Leaving,
    Request,
    Seen,
    Send,
    Unhandled,
    translate,
)
from aggregator.errors import ExchangeError, PayloadError
from aggregator.model import Gap, PriceUpdate, TradeExecuted
from connectors.binance import trades as trades_module
from connectors.binance.trades import LAST, OLDER, RECENT, Trades, TradesOptions

KINDS = {"binance.ticker": "ticker", "binance.trades": "trade"}


def frame(connector, **fields):
    return translate(lambda: connector.on_frame(json.dumps(fields).encode()))


def answer(connector, request, body):
    return translate(lambda: connector.on_response(request, json.dumps(body).encode()))


def params(sends):
    """Return the streams of all requests, each of which is short enough."""
    assert all(len(send.frame.encode()) <= 4096 for send in sends)
    return [stream for send in sends for stream in json.loads(send.frame)["params"]]


def market(name, status="TRADING"):
    base, _, quote = name.partition("/")
    return {"symbol": base + quote, "status": status, "baseAsset": base, "quoteAsset": quote}


def many(count):
    return [f"X{n:04d}/USDT" for n in range(count)]


@pytest.mark.parametrize("name", KINDS)
def test_subscribes_in_few_requests(build, name):
    """A thousand instruments are asked for in a few requests, each below 4,096 bytes."""
    connector = build(name, instruments=many(1024))
    *sends, fetch = connector.on_open()
    assert params(sends) == [f"x{n:04d}usdt@{KINDS[name]}" for n in range(1024)]
    assert len(sends) <= 6
    assert len({send.key for send in sends}) == len(sends)
    assert [json.loads(send.frame)["method"] for send in sends] == ["SUBSCRIBE"] * len(sends)
    assert (fetch.request.path, fetch.request.weight) == ("/api/v3/exchangeInfo", 20)
    for send in sends:
        number = json.loads(send.frame)["id"]
        assert frame(connector, result=None, id=number)[0] == Acknowledged(send.key)


@pytest.mark.parametrize("name", KINDS)
def test_no_more_than_a_connection_may_have(build, name):
    """More than 1,024 instruments are an error of the configuration."""
    with pytest.raises(ValidationError, match="1024"):
        build(name, instruments=many(1025))


@pytest.mark.parametrize("name", KINDS)
def test_resubscribe(build, name):
    """One instrument's stream is closed and opened again, each with a number of its own."""
    connector = build(name, instruments=["BTC/USDT", "ETH/USDT"])
    opened = [send.key for send in connector.on_open() if isinstance(send, Send)]
    sends = list(connector.resubscribe("ETH/USDT"))
    assert [json.loads(send.frame)["method"] for send in sends] == ["UNSUBSCRIBE", "SUBSCRIBE"]
    assert params(sends) == [f"ethusdt@{KINDS[name]}"] * 2
    assert len({*opened, *(send.key for send in sends)}) == len(opened) + 2
    assert list(connector.resubscribe("NO/SUCH")) == []


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("wrapped", [False, True])
def test_server_shutdown(build, name, wrapped):
    """The notice that the server goes away is understood in both of its forms."""
    event = {"e": "serverShutdown", "E": 1770123456789}
    message = {"stream": "!serverShutdown", "data": event} if wrapped else event
    connector = build(name, instruments=["BTC/USDT"])
    assert frame(connector, **message) == [Leaving("serverShutdown")]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "refusal", [{"code": 2, "msg": "no\nway", "id": 1}, {"error": {"code": 2, "msg": "no way"}}]
)
def test_a_refused_request_is_an_error(build, name, refusal):
    """What the venue refuses ends the connection, with its words on one line."""
    with pytest.raises(ExchangeError, match="2: no way"):
        frame(build(name, instruments=["BTC/USDT"]), **refusal)


def ticker(symbol, **more):
    fields = {"e": "24hrTicker", "E": 1672515782136, "s": symbol, "c": "1.50"}
    return fields | more


def test_all_that_trade_have_a_stream_each(build):
    """With "all" the names come first; each that trades gets a stream."""
    connector = build("binance.ticker", instruments="all")
    assert type(connector).instruments_of(connector.options) is None
    [fetch] = connector.on_open()
    body = {"symbols": [market("BTC/USDT"), market("OLD/USDT", "BREAK"), market("ETH/BTC")]}
    known, *sends = answer(connector, fetch.request, body)
    assert known == KnownInstruments(frozenset({"BTC/USDT", "ETH/BTC"}))
    assert params(sends) == ["btcusdt@ticker", "ethbtc@ticker"]
    assert [e.instrument for e in frame(connector, **ticker("ETHBTC"))] == ["ETH/BTC"]
    assert isinstance(frame(connector, **ticker("OLDUSDT"))[0], Unhandled)


def test_all_without_names_is_an_error(build):
    """With "all" there is nothing to do when the names can't be had."""
    connector = build("binance.ticker", instruments="all")
    [fetch] = connector.on_open()
    with pytest.raises(ExchangeError, match="the names can't be fetched: HTTP 451"):
        translate(lambda: connector.on_no_response(fetch.request, "HTTP 451"))


def test_what_is_beyond_the_limit_comes_from_the_stream_of_all(build):
    """Beyond 1,024 instruments the rest comes from the one stream of all; none comes twice."""
    connector = build("binance.ticker", instruments="all")
    [fetch] = connector.on_open()
    names = many(1500)
    known, *sends = answer(connector, fetch.request, {"symbols": [market(n) for n in names]})
    assert known.instruments == frozenset(names)
    streams = params(sends)
    assert streams == [f"x{n:04d}usdt@ticker" for n in range(1023)] + ["!miniTicker@arr"]
    row = {"e": "24hrMiniTicker", "E": 1672515782136, "c": "1.50", "v": "7.0"}
    rows = [row | {"s": f"X{n:04d}USDT"} for n in (1022, 1023, 1499)] + [row | {"s": "NEWUSDT"}]
    for body in (rows, {"stream": "!miniTicker@arr", "data": rows}):
        events = translate(lambda body=body: connector.on_frame(json.dumps(body).encode()))
        assert [e.instrument for e in events] == ["X1023/USDT", "X1499/USDT"]
        assert (events[0].price, events[0].volume_24h, events[0].bid) == ("1.50", "7.0", "")
        assert json.loads(bytes(events[0].data)) == rows[1]
    assert len(frame(connector, **ticker("X1022USDT"))) == 1
    assert params(list(connector.resubscribe("X1022/USDT"))) == ["x1022usdt@ticker"] * 2
    assert list(connector.resubscribe("X1023/USDT")) == []


def test_the_whole_array_or_nothing(build):
    """One bad row makes the array unreadable."""
    connector = build("binance.ticker", instruments="all")
    [fetch] = connector.on_open()
    answer(connector, fetch.request, {"symbols": [market(n) for n in many(1100)]})
    row = {"E": 1672515782136, "s": "X1090USDT", "c": "1"}
    body = json.dumps([row, row | {"E": "late"}]).encode()
    with pytest.raises(PayloadError):
        translate(lambda: connector.on_frame(body))


# Trades.


class Venue:
    """
    The trades of one symbol, `1` to `newest`, and what REST tells of them.

    `recent` is how many `trades` reaches back, `kept` how many `historicalTrades` does; `missing`
    numbers do not exist. What REST tells may be `behind` the stream.
    """

    def __init__(self, recent=1000, kept=10**9, missing=(), page=1000):
        self.newest = 0
        self.behind = 0
        self.recent = recent
        self.kept = kept
        self.missing = frozenset(missing)
        self.page = page
        self.fails = False

    def next(self):
        self.newest += 1
        while self.newest in self.missing:
            self.newest += 1
        return self.newest

    def row(self, number):
        side = number % 2 == 0
        return {
            "id": number,
            "price": f"{number}.50",
            "qty": "0.10",
            "time": 1,
            "isBuyerMaker": side,
        }

    def answer(self, request):
        """Return the rows, or None where the request fails."""
        if self.fails or (request.path == OLDER and not self.kept):
            return None
        shown = self.newest - self.behind
        exists = [n for n in range(1, shown + 1) if n not in self.missing]
        if request.path == RECENT:
            return [self.row(n) for n in exists[-self.recent :]]
        since = max(int(request.params["fromId"]), shown - self.kept + 1)
        return [self.row(n) for n in exists if n >= since][: self.page]


class Client:
    """A connector, what it asks for, and what comes out of it."""

    def __init__(self, venue, seen=None, **options):
        self.venue = venue
        self.connector = Trades(TradesOptions(instruments=["X/Y"], **options))
        self.connector.resume({"X/Y": Seen(str(seen))} if seen else {})
        self.requests = []
        self.events = []
        self.asked = []
        self._take(list(self.connector.on_open())[:1])
        self._take(frame(self.connector, result=None, id=1))

    def hear(self, number):
        """Receive a trade by the stream."""
        row = self.venue.row(number)
        fields = {"e": "trade", "s": "XY", "t": number, "p": row["price"], "q": row["qty"]}
        self._take(frame(self.connector, **fields, T=1, m=row["isBuyerMaker"]))

    def live(self, count=1):
        for _ in range(count):
            self.hear(self.venue.next())

    def lose(self, count):
        for _ in range(count):
            self.venue.next()

    def fetch(self):
        """Have the oldest request answered."""
        request = self.requests.pop(0)
        if request.key == LAST:
            body = [{"symbol": "XY", "lastId": self.venue.newest - self.venue.behind}]
        else:
            body = self.venue.answer(request)
        if body is None:
            self._take(translate(lambda: self.connector.on_no_response(request, "HTTP 404")))
        else:
            self._take(answer(self.connector, request, body))

    def fetch_all(self):
        for _ in range(200):
            if self.requests:
                self.fetch()
        assert not self.requests, "it asks without end"

    def _take(self, outputs):
        for output in outputs:
            if isinstance(output, Fetch):
                self.requests.append(output.request)
                self.asked.append(output.request.path)
            elif isinstance(output, TradeExecuted | Gap):
                self.events.append(output)

    @property
    def told(self):
        """Return the numbers in order, those that were fetched as negative ones."""
        return [
            (-1 if e.backfilled else 1) * int(e.id)
            for e in self.events
            if isinstance(e, TradeExecuted)
        ]

    @property
    def gaps(self):
        return [(e.data["after"], e.data["before"]) for e in self.events if isinstance(e, Gap)]


def test_a_trade(build):
    """The taker's side, the number, exact digits, and the trade's own time."""
    connector = build("binance.trades", instruments=["BTC/USDT"])
    fields = {"e": "trade", "E": 1672515782139, "s": "BTCUSDT", "t": 28457, "p": "67012.50000000"}
    fields |= {"q": "0.00012000", "T": 1672515782136, "m": True, "M": True}
    assert frame(connector, **fields) == [
        TradeExecuted(
            instrument="BTC/USDT",
            id="28457",
            side="sell",
            price="67012.50000000",
            quantity="0.00012000",
            exchange_us=1672515782136000,
        )
    ]


def test_nothing_missing_asks_for_nothing():
    """As long as the numbers follow one another nothing is asked for."""
    client = Client(Venue())
    client.live(5)
    assert client.told == [1, 2, 3, 4, 5]
    assert client.asked == []


def test_a_hole_is_filled_before_what_came_after_it():
    """Later trades wait for those that are missing; all are told in order, once."""
    client = Client(Venue())
    client.live(3)
    client.lose(4)
    client.live(2)
    assert client.told == [1, 2, 3]
    client.fetch()
    client.live()
    assert client.told == [1, 2, 3, -4, -5, -6, -7, 8, 9, 10]
    assert client.asked == [RECENT]


def test_after_a_reconnect_without_a_new_trade():
    """The last trade is asked for as soon as the stream is open, and what is missing up to it."""
    venue = Venue()
    venue.newest = 9
    client = Client(venue, seen=5)
    client.fetch_all()
    assert client.told == [-6, -7, -8, -9]
    client.live()
    assert client.told[-1] == 10
    assert client.asked[1:] == [RECENT]


def test_after_a_reconnect_without_a_loss():
    """Where no trade was missed, only the cheap question for the last one is asked."""
    venue = Venue()
    venue.newest = 5
    client = Client(venue, seen=5)
    client.fetch_all()
    client.live()
    assert client.told == [6]
    assert len(client.asked) == 1


def test_what_came_meanwhile_was_not_fetched():
    """Of the trades up to the last one, those that the stream brought itself are not marked."""
    venue = Venue()
    venue.newest = 9
    client = Client(venue, seen=5)
    client.fetch()
    client.hear(8)
    client.hear(9)
    client.fetch_all()
    client.live()
    assert client.told == [-6, -7, 8, 9, 10]
    assert len(client.asked) == 2


def test_a_long_loss_goes_back_page_by_page():
    """Where the newest thousand do not reach back, older ones are asked for by number."""
    venue = Venue(recent=10, page=20)
    client = Client(venue)
    client.live(2)
    client.lose(50)
    client.live()
    client.fetch_all()
    assert client.told == [1, 2, *(-n for n in range(3, 53)), 53]
    assert client.asked == [RECENT, OLDER, OLDER, OLDER]
    assert client.gaps == []


@pytest.mark.parametrize("kept", [0, 15])
def test_what_is_out_of_reach_is_a_gap(kept):
    """What the venue no longer has is told as a gap with the numbers on both sides."""
    venue = Venue(recent=10, kept=kept)
    client = Client(venue)
    client.live(2)
    client.lose(50)
    client.live(2)
    client.fetch_all()
    first = 54 - max(kept, 10) + 1
    assert client.gaps == [(2, first)]
    assert client.told == [1, 2, *(-n for n in range(first, 53)), 53, 54]


@pytest.mark.parametrize("most", [0, 5, 20])
def test_a_loss_beyond_the_limit_is_a_gap(most):
    """Of a loss of more than `max_backfill` the newest so many are fetched."""
    client = Client(Venue(recent=10), max_backfill=most)
    client.live(2)
    client.lose(50)
    client.live(2)
    client.fetch_all()
    client.live()
    assert client.gaps == [(2, 53 - most)]
    assert client.told == [1, 2, *(-n for n in range(53 - most, 53)), 53, 54, 55]
    assert client.asked == {0: [], 5: [RECENT], 20: [RECENT, OLDER]}[most]
    assert f"max_backfill is {most}" in client.events[2].data["cause"]


def test_no_answer_is_a_gap():
    """Where nothing can be fetched, the gap says so, and the live trades go on."""
    venue = Venue()
    client = Client(venue)
    client.live(2)
    client.lose(3)
    venue.fails = True
    client.live(2)
    client.fetch_all()
    client.live()
    assert client.told == [1, 2, 6, 7, 8]
    assert client.gaps == [(2, 6)]
    assert client.events[2].data["cause"] == "the request for them failed"


def test_rest_may_be_behind():
    """Where REST does not show them yet, it is asked again, but not without end."""
    venue = Venue()
    client = Client(venue)
    client.live(2)
    client.lose(3)
    client.live()
    venue.behind = 3
    client.fetch()
    assert client.told == [1, 2, -3]
    venue.behind = 0
    client.fetch_all()
    assert client.told == [1, 2, -3, -4, -5, 6]
    venue.behind = 10**6
    client.lose(2)
    client.live()
    client.fetch_all()
    assert client.gaps == [(6, 9)]
    assert client.told[-1] == 9


def test_numbers_that_do_not_exist_are_no_loss():
    """A number that REST does not have between two others was never given."""
    venue = Venue(missing={4, 5, 7})
    client = Client(venue)
    client.live(6)
    client.fetch_all()
    assert client.told == [1, 2, 3, 6, 8, 9]
    assert client.gaps == []


def test_what_waits_is_bounded(monkeypatch):
    """Where the answer takes too long, what waits is told after a gap, and the answer is late."""
    monkeypatch.setattr(trades_module, "MAX_HELD", 5)
    client = Client(Venue())
    client.live(2)
    client.lose(1)
    client.live(6)
    assert client.gaps == [(2, 4)]
    client.fetch_all()
    assert client.told == [1, 2, *range(4, 10)]


def test_an_unreadable_row_loses_nothing():
    """An answer with one bad row is unreadable as a whole; asked again, it brings everything."""
    client = Client(Venue())
    client.live(2)
    client.lose(2)
    client.live()
    rows = [client.venue.row(3), client.venue.row(4) | {"qty": "much"}]
    with pytest.raises(PayloadError):
        answer(client.connector, Request(RECENT, key="XY"), rows)
    client.fetch_all()
    assert client.told == [1, 2, -3, -4, 5]


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["live", "lose"]), st.integers(1, 12)),
            st.tuples(
                st.sampled_from(["fetch", "again", "fail", "behind", "reconnect"]), st.just(1)
            ),
        ),
        max_size=40,
    ),
    seed=st.integers(0, 99),
    reach=st.sampled_from([(1000, 1000), (5, 1000), (5, 0), (8, 12)]),
)
def test_none_is_missing_and_none_twice(steps, seed, reach):
    """Whatever is lost and fails: in order, each once, and each that is missing is in a gap."""
    rng = random.Random(seed)
    recent, kept = reach
    venue = Venue(recent, kept, missing=rng.sample(range(2, 200), 15), page=7)
    client = Client(venue)
    earlier = []
    for step, count in steps:
        if step in {"live", "lose"}:
            getattr(client, step)(count)
        elif step == "again" and venue.newest:
            client.hear(rng.randint(max(1, venue.newest - 3), venue.newest))
        elif step == "reconnect":
            earlier += client.events
            ids = [e.id for e in earlier if isinstance(e, TradeExecuted)]
            client = Client(venue, seen=int(ids[-1]) if ids else None)
        elif client.requests:
            venue.fails, venue.behind = step == "fail", 2 * (step == "behind")
            client.fetch()
    venue.fails, venue.behind = False, 0
    client.live(1)
    client.fetch_all()
    client.live(1)
    client.fetch_all()
    check([*earlier, *client.events], venue)


def check(events, venue):
    """Hold the trades and gaps against what there was."""
    numbers = [int(e.id) for e in events if isinstance(e, TradeExecuted)]
    assert numbers == sorted(set(numbers))
    lost = set()
    newest = 0
    for event in events:
        if isinstance(event, Gap):
            after, before = event.data["after"], event.data["before"]
            assert newest <= after < before - 1
            lost |= set(range(after + 1, before))
        else:
            newest = int(event.id)
            # The next connection may well find what the last one could not fetch.
            lost.discard(newest)
    there = set(range(numbers[0], venue.newest + 1)) - venue.missing
    assert there - set(numbers) <= lost
    for event in events:
        if isinstance(event, TradeExecuted):
            assert event.price == f"{event.id}.50"


def test_prices_of_the_ticker(build):
    """The ticker has the fields of the polled one, and the venue's event as data."""
    connector = build("binance.ticker", instruments=["BTC/USDT"])
    fields = ticker("BTCUSDT", b="1.49", a="1.51", v="20.00", P="-0.125")
    [update] = frame(connector, **fields)
    assert update == PriceUpdate(
        "BTC/USDT",
        "1.50",
        json.dumps(fields).encode(),
        1672515782136000,
        "1.49",
        "1.51",
        "20.00",
        "-0.125",
    )
