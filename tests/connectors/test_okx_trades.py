"""OKX' trades: whatever gets lost, each trade is told once, in order, or told to be lost."""

from __future__ import annotations

import json
from collections import deque
from itertools import pairwise
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.connector import Fetch, Ignored, Seen, Withheld, translate
from aggregator.errors import PayloadError
from aggregator.model import Gap, TradeExecuted
from connectors.okx import tape as module
from connectors.okx.tape import Tape
from connectors.okx.trades import Trades

HISTORY = "/api/v5/market/history-trades"
PAGE = 3


def row(number, **fields):
    return {
        "instId": "BTC-USDT",
        "tradeId": str(number),
        "px": "1.5",
        "sz": "2",
        "side": "buy",
        "ts": "1765211445123",
        **fields,
    }


def push(*rows):
    return {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": list(rows)}


def acknowledged(inst_id="BTC-USDT"):
    return {"event": "subscribe", "arg": {"channel": "trades", "instId": inst_id}}


class World:
    """A venue whose pushes get lost or come late, whose REST is behind or ahead; and who reads."""

    def __init__(self, *, remembered: int, max_backfill: int) -> None:
        self.options = Trades.options_type(instruments=["BTC/USDT"], max_backfill=max_backfill)
        self.remembered = remembered
        self.newest = 0
        # The last number of each push, by which REST may be behind, and what each stands for.
        self.ends = [0]
        self.first: dict[int, int] = {}
        self.wire: deque[int] = deque()
        self.asked: deque[Fetch] = deque()
        self.told: list[Gap | TradeExecuted] = []
        self.seen: dict[str, Seen] = {}
        self.connect()

    def connect(self) -> None:
        self.asked.clear()
        self.wire.clear()
        self.connector = Trades(self.options)
        self.connector.resume(self.seen)
        list(self.connector.on_open())
        self.frame(acknowledged())

    def frame(self, message) -> None:
        self.take(translate(lambda: self.connector.on_frame(json.dumps(message).encode())))

    def take(self, outputs) -> None:
        for output in outputs:
            if isinstance(output, Fetch):
                self.asked.append(output)
            elif isinstance(output, Gap | TradeExecuted):
                self.told.append(output)
                if isinstance(output, TradeExecuted):
                    self.seen["BTC/USDT"] = Seen(output.id, output.exchange_us)

    def push(self, count: int, fate: str) -> None:
        first, self.newest = self.newest + 1, self.newest + count
        self.first[self.newest] = first
        self.ends.append(self.newest)
        if fate != "lost":
            self.wire.append(self.newest)
        if fate == "at once":
            while self.wire:
                self.deliver(twice=False)

    def deliver(self, *, twice: bool) -> None:
        if self.wire:
            last = self.wire[0] if twice else self.wire.popleft()
            self.frame(push(row(last, count=str(last - self.first[last] + 1))))

    def answer(self, behind: int) -> None:
        if self.asked:
            request = self.asked.popleft().request
            newest = self.ends[max(0, len(self.ends) - 1 - behind)]
            after = int(request.params.get("after", newest + 1))
            oldest = max(1, self.newest - self.remembered + 1)
            limit = int(request.params["limit"])
            assert 0 < limit <= PAGE
            numbers = range(min(newest, after - 1), oldest - 1, -1)[:limit]
            body = {"code": "0", "msg": "", "data": [row(number) for number in numbers]}
            data = json.dumps(body).encode()
            self.take(translate(lambda: self.connector.on_response(request, data)))

    def fail(self, *, by_code: bool) -> None:
        if self.asked:
            request = self.asked.popleft().request
            if by_code:
                body = b'{"code":"50026","msg":"System error","data":[]}'
                outputs = translate(lambda: self.connector.on_response(request, body))
            else:
                outputs = translate(lambda: self.connector.on_no_response(request, "HTTP 503"))
            self.take(outputs)

    def do(self, name, *given):
        match name:
            case "push":
                self.push(*given)
            case "deliver":
                self.deliver(twice=given[0])
            case "answer":
                self.answer(given[0])
            case "fail":
                self.fail(by_code=given[0])
            case "connect":
                self.connect()

    def settle(self) -> None:
        """Let everything arrive."""
        for _ in range(3):
            self.push(1, "at once")
            while self.wire or self.asked:
                self.deliver(twice=False)
                self.answer(0)

    def spans(self):
        """Return the numbers that each message stands for, both included."""
        for message in self.told:
            if isinstance(message, Gap):
                yield message.data["after"] + 1, message.data["before"] - 1
            else:
                number = int(message.id)
                yield (number if message.backfilled else self.first[number]), number


STEPS = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 4), st.sampled_from(["at once", "late", "lost"])),
    st.tuples(st.just("deliver"), st.booleans()),
    st.tuples(st.just("answer"), st.integers(0, 2)),
    st.tuples(st.just("fail"), st.booleans()),
    st.tuples(st.just("connect")),
)


@settings(max_examples=1500, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=60),
    remembered=st.sampled_from([2, 10, 1000]),
    max_backfill=st.sampled_from([0, 4, 1000]),
)
def test_every_trade_is_told_once_or_lost(steps, remembered, max_backfill):
    """
    Trades and gaps follow each other without a hole and without an overlap, whatever is lost,
    late, refused or cut off; and in the end the newest trade is told.
    """
    world = World(remembered=remembered, max_backfill=max_backfill)
    with mock.patch.object(module, "PAGE", PAGE):
        for step in steps:
            world.do(*step)
        world.settle()
    spans = list(world.spans())
    for (_, end), (begin, last) in pairwise(spans):
        assert begin == end + 1
        assert last >= begin
    assert spans[-1][1] == world.newest
    if remembered == max_backfill == 1000 and not any(name == "fail" for name, *_ in steps):
        # Nothing that could be had is given up, as long as REST is not behind for too long.
        late = sum(name == "answer" and number[0] > 0 for name, *number in steps)
        assert late or not any(isinstance(message, Gap) for message in world.told)


@pytest.fixture
def one(build):
    connector = build("okx.trades", instruments=["BTC/USDT"])
    connector.resume({"BTC/USDT": Seen("10")})
    return connector


def given_frame(connector, message):
    return translate(lambda: connector.on_frame(json.dumps(message).encode()))


def numbers(outputs):
    return [output.id for output in outputs if isinstance(output, TradeExecuted)]


def test_several_trades_of_one_push(one):
    """A push of `count` trades has the number of the last; the next follows that."""
    assert numbers(given_frame(one, push(row(13, count="3")))) == ["13"]
    assert numbers(given_frame(one, push(row(14), row(16, count="2")))) == ["14", "16"]
    # One before is missing.
    fetch, waits = given_frame(one, push(row(20, count="3")))
    assert waits == Withheld("BTC/USDT")
    assert (fetch.request.path, fetch.request.key) == (HISTORY, "BTC-USDT")
    assert fetch.request.params == {"instId": "BTC-USDT", "type": "1", "limit": "100"}


def test_fetched_trades_end_where_a_push_begins(one):
    """Trades that a waiting push stands for are not told a second time, one by one."""
    given_frame(one, push(row(15, count="3")))
    rows = [row(number) for number in (15, 14, 13, 12, 11, 10)]
    outputs = one.on_response(
        module.api.Request(HISTORY, key="BTC-USDT"),
        json.dumps({"code": "0", "data": rows}).encode(),
    )
    assert [(o.id, o.backfilled) for o in outputs] == [("11", True), ("12", True), ("15", False)]


def test_numbers_that_do_not_exist(one):
    """Where REST knows of newer trades and has none in between, nothing is lost."""
    given_frame(one, push(row(15)))
    rows = [row(number) for number in (15, 12, 10)]
    body = json.dumps({"code": "0", "data": rows}).encode()
    outputs = list(one.on_response(module.api.Request(HISTORY, key="BTC-USDT"), body))
    assert numbers(outputs) == ["12", "15"]
    assert not any(isinstance(output, Gap) for output in outputs)


def test_a_bad_row_leaves_no_trace(one):
    """A frame of which one row can't be read tells nothing, and nothing is taken as told."""
    with pytest.raises(PayloadError):
        given_frame(one, push(row(11), row(12, px="free")))
    assert numbers(given_frame(one, push(row(11)))) == ["11"]


def test_a_venue_that_ignores_where_to_go_on(one):
    """The same page again and again is asked for four times over, and not for ever."""
    tape = Tape("BTC-USDT", "BTC/USDT", 1000)
    tape.known = 10
    [fetch, _] = tape.take(20, 20, tape.read(module.Row("BTC-USDT", "20", "1", "1", "buy")))
    rows = [module.Row("BTC-USDT", str(n), "1", "1", "buy") for n in (19, 18)]
    asked = []
    for _ in range(7):
        [fetch] = tape.page(rows)
        asked.append((fetch.request.params.get("after"), fetch.delay_s))
    first = ("18", 0.0)
    assert asked == [first, (None, 0.2), first, (None, 0.5), first, (None, 1.0), first]
    gap, *trades = tape.page(rows)
    cause = "the venue's answers do not fit together"
    assert gap.data == {"cause": cause, "after": 10, "before": 18}
    assert numbers(trades) == ["18", "19", "20"]


def test_too_many_wait(one, monkeypatch):
    """Trades that wait for older ones are bounded: then the older ones are given up."""
    monkeypatch.setattr(module, "MAX_HELD", 3)
    outputs = given_frame(one, push(*(row(number) for number in range(20, 24))))
    assert isinstance(outputs[0], Fetch)
    outputs = [output for output in outputs if not isinstance(output, Withheld)]
    assert outputs[1].data == {"cause": "too many came meanwhile", "after": 10, "before": 20}
    assert numbers(outputs) == ["20", "21", "22", "23"]
    # The answer comes to late.
    request = outputs[0].request
    late = one.on_response(request, b'{"code":"0","data":[]}')
    assert list(late) == [Ignored("answer that came too late")]


def test_resubscribe(one):
    """An instrument is left and subscribed to again; what was missed meanwhile is fetched."""
    assert list(one.resubscribe("BTC/USDT")) == []
    [_, first] = given_frame(one, acknowledged())
    assert isinstance(first, Fetch)
    one.on_no_response(first.request, "HTTP 503")
    leave, back = (json.loads(send.frame) for send in one.resubscribe("BTC/USDT"))
    assert (leave["op"], back["op"]) == ("unsubscribe", "subscribe")
    assert leave["args"] == back["args"] == [{"channel": "trades", "instId": "BTC-USDT"}]
    assert given_frame(one, acknowledged() | {"event": "unsubscribe"}) == []


def page(*found):
    return [module.Row("BTC-USDT", str(number), "1", "1", "buy") for number in found]


@pytest.fixture
def tape():
    """Return a tape that knows 10 and waits for 11 to 19."""
    tape = Tape("BTC-USDT", "BTC/USDT", 9)
    tape.known = 10
    [fetch, _] = tape.take(20, 20, tape.read(*page(20)))
    assert fetch.request.params["limit"] == "9"
    return tape


def test_what_waits_does_not_count(tape):
    """Only what is missing counts for `max_backfill`, not what REST has besides."""
    [fetch] = tape.page(page(25, 24, 23, 22, 21, 20, 19, 18, 17))
    assert fetch.request.params == {
        "instId": "BTC-USDT",
        "type": "1",
        "limit": "6",
        "after": "17",
    }
    told = tape.page(page(16, 15, 14, 13, 12, 11))
    assert numbers(told) == [str(number) for number in range(11, 21)]


def test_no_page_too_many():
    """Where the first that is missing is there, nothing older is asked for."""
    tape = Tape("BTC-USDT", "BTC/USDT", 100)
    tape.known = 10
    list(tape.take(20, 20, tape.read(*page(20))))
    outputs = list(tape.page(page(20, 19, 18, 17, 16, 15, 14, 13, 12, 11)))
    assert numbers(outputs) == [str(number) for number in range(11, 21)]
    assert len(outputs) == 10


def test_rest_that_has_half_of_a_push():
    """Of what a push stands for nothing is told besides, whichever of the two is there first."""
    tape = Tape("BTC-USDT", "BTC/USDT", 100)
    tape.known = 10
    [fetch] = tape.ask()
    [fetch] = tape.page(page(15, 14))
    assert fetch.request.params["after"] == "14"
    assert list(tape.take(14, 16, tape.read(*page(16)))) == [Withheld("BTC/USDT")]
    assert numbers(tape.page(page(13, 12, 11))) == ["11", "12", "13", "16"]


def test_nothing_was_missed():
    """What waits while nothing is missing is told without a word, also if REST does not answer."""
    tape = Tape("BTC-USDT", "BTC/USDT", 100)
    tape.known = 10
    list(tape.ask())
    list(tape.take(11, 11, tape.read(*page(11))))
    [event] = tape.fail("HTTP 503")
    assert event.id == "11"
