"""Trades whose numbers begin anew, and REST that is behind: of OKX and of Binance."""

from __future__ import annotations

import json

import pytest

from aggregator.connector import Fetch, Ignored, Seen, Withheld, translate
from aggregator.model import Gap, TradeExecuted

MS = 1_765_211_445_123
SEEN = {"BTC/USDT": Seen("1000", MS * 1000)}
ANEW = "the venue counts anew"


class Okx:
    name = "okx.trades"

    def push(self, number, ms):
        row = {"instId": "BTC-USDT", "tradeId": str(number), "px": "1.5", "sz": "2", "side": "buy"}
        arg = {"channel": "trades", "instId": "BTC-USDT"}
        return {"arg": arg, "data": [row | {"ts": str(ms), "count": "1"}]}

    def body(self, numbers, ms):
        rows = [self.push(number, ms)["data"][0] for number in sorted(numbers, reverse=True)]
        return {"code": "0", "msg": "", "data": rows}


class Binance:
    name = "binance.trades"

    def push(self, number, ms):
        fields = {"e": "trade", "E": ms, "s": "BTCUSDT", "t": number, "p": "1.5", "q": "2"}
        return fields | {"T": ms, "m": False, "M": True}

    def body(self, numbers, ms):
        row = {"price": "1.5", "qty": "2", "time": ms, "isBuyerMaker": False}
        return [{"id": number, **row} for number in sorted(numbers)]


@pytest.fixture(params=[Okx(), Binance()], ids=["okx", "binance"])
def venue(request):
    return request.param


@pytest.fixture
def connector(build, venue):
    connector = build(venue.name, instruments=["BTC/USDT"])
    connector.resume(SEEN)
    list(connector.on_open())
    return connector


def hear(connector, frame):
    return translate(lambda: connector.on_frame(json.dumps(frame).encode()))


def answer(connector, fetch, body):
    return translate(lambda: connector.on_response(fetch.request, json.dumps(body).encode()))


def told(outputs):
    """Return the numbers of the trades, and for a gap those on both sides of it."""
    return [
        (each.data["after"], each.data["before"]) if isinstance(each, Gap) else each.id
        for each in outputs
        if isinstance(each, TradeExecuted | Gap)
    ]


def test_numbers_that_begin_anew(connector, venue):
    """A lower number of a clearly later trade is a gap and a new beginning; all goes on from it."""
    first = hear(connector, venue.push(5, MS + 60_000))
    assert told(first) == [(1000, 5), "5"]
    assert first[0].data["cause"] == ANEW
    assert told(hear(connector, venue.push(6, MS + 60_001))) == ["6"]
    [fetch, _] = hear(connector, venue.push(8, MS + 60_002))
    outputs = answer(connector, fetch, venue.body([6, 7, 8], MS + 60_002))
    assert told(outputs) == ["7", "8"]


def test_told_before(connector, venue):
    """A lower number of a trade that is not later was told before: known, and left out."""
    for ms in (MS - 60_000, MS, MS + 900):
        again = Ignored("trade that was told before")
        assert hear(connector, venue.push(999, ms)) == [again]


def test_without_a_time(build, venue):
    """Where the last trade had no time, a lower number is one that was told before."""
    connector = build(venue.name, instruments=["BTC/USDT"])
    connector.resume({"BTC/USDT": Seen("1000")})
    assert told(hear(connector, venue.push(5, MS))) == []


def test_anew_while_trades_are_asked_for(connector, venue):
    """Neither the trades of before nor those of the new count get stuck where one was missing."""
    [fetch, _] = hear(connector, venue.push(1005, MS + 10))
    assert hear(connector, venue.push(3, MS + 60_000)) == [Withheld("BTC/USDT")]
    outputs = answer(connector, fetch, venue.body(range(1000, 1006), MS + 5))
    assert told(outputs) == ["1001", "1002", "1003", "1004", "1005", (1005, 3), "3"]
    assert told(hear(connector, venue.push(4, MS + 60_001))) == ["4"]


def test_rest_counts_anew(connector, venue):
    """Where the newest of REST is lower and later, what was missing is lost; what waits goes on."""
    [fetch, _] = hear(connector, venue.push(1005, MS + 10))
    outputs = answer(connector, fetch, venue.body([3, 4], MS + 60_000))
    assert told(outputs) == [(1000, None), "1005"]
    assert outputs[0].data["cause"] == ANEW
    assert told(hear(connector, venue.push(1006, MS + 11))) == ["1006"]


def test_rest_that_is_behind_has_its_time(connector, venue):
    """It is asked again after a fifth, a half and a whole second; only then there is a gap."""
    [fetch, waits] = hear(connector, venue.push(1003, MS + 10))
    assert waits == Withheld("BTC/USDT")
    pauses = []
    for _ in range(3):
        assert isinstance(fetch, Fetch)
        [fetch] = answer(connector, fetch, venue.body([999, 1000], MS))
        pauses.append(fetch.delay_s)
    assert pauses == [0.2, 0.5, 1.0]
    assert told(answer(connector, fetch, venue.body([999, 1000], MS))) == [(1000, 1003), "1003"]


def test_rest_that_has_caught_up(connector, venue):
    """What REST did not have at first is told when it has it, without a gap."""
    [fetch, _] = hear(connector, venue.push(1003, MS + 10))
    [fetch] = answer(connector, fetch, venue.body([999, 1000], MS))
    outputs = answer(connector, fetch, venue.body([1000, 1001, 1002], MS + 5))
    outputs += answer(connector, fetch, venue.body([1001, 1002, 1003], MS + 5)) if outputs else []
    assert told(outputs) == ["1001", "1002", "1003"]


@pytest.mark.parametrize(("stale_after_s", "within_s"), [(30, 10), (6, 2), (3600, 10)])
def test_an_answer_has_to_come_in_time(build, venue, stale_after_s, within_s):
    """What is asked for is waited for a third of `stale_after_s`, and 10 s at most."""
    options = {"instruments": ["BTC/USDT"], "stale_after_s": stale_after_s}
    connector = build(venue.name, **options)
    connector.resume(SEEN)
    [fetch, _] = hear(connector, venue.push(1003, MS + 10))
    assert fetch.within_s == within_s
