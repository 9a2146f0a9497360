"""
Binance's streams on real traffic: books that agree with the venue's best prices, and every digit.

What stands in a frame is read here a second time, by the standard library.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from aggregator.connector import Acknowledged, Leaving, Request, Unhandled, translate
from aggregator.errors import ConnectorError
from aggregator.model import BookUpdate, Event, Gap, PriceUpdate, TradeExecuted
from connectors.binance.depth import Depth, DepthOptions

ROOT = Path(__file__).parents[3] / "shared" / "recordings" / "binance"
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recordings at {ROOT}")

CAPTURES = {
    "cf-2021-04-04-dot-btc-eth-usdt": "2021-04-04",
    "cf-2021-04-17-ten-symbols": "2021-04-17",
    "cf-us-2021-04-17-ten-symbols": "2021-04-17-us",
    "cf-usdm-2021-07-22": "2021-07-22-usdm",
    "hft-2024-08-08-btcusdt": "2024-08-08-hft",
}


def frames(name):
    """Return time, text and content of the frames of a capture that came in."""
    entries = [json.loads(line) for line in (ROOT / f"{name}.ndjson").read_text().splitlines()]
    return [(e["t"], e["raw"], json.loads(e["raw"])) for e in entries if e["dir"] == "in"]


def instrument(symbol):
    """Return a name that leads to this symbol."""
    return f"{symbol[0]}/{symbol[1:]}"


class Rebuilt:
    """
    The books of one capture.

    The snapshots arrive when they did (`in_time`), or all before the first frame: then each change
    is told by itself.
    """

    def __init__(self, name, *, in_time):
        self.outputs = Counter()
        self.applied = self.agreements = 0
        self.books = {}
        self.snapshots = {}
        for path in (ROOT / "http").glob(f"depth-*-{CAPTURES[name]}.json"):
            record = json.loads(path.read_text())
            self.snapshots[path.stem.split("-")[1]] = record["t"], record["body"].encode()
        self.numbers = {
            symbol: json.loads(body)["lastUpdateId"] for symbol, (_, body) in self.snapshots.items()
        }
        recorded = frames(name)
        messages = [message["data"] for _, _, message in recorded]
        # One that comes a little later than the diff of the same number is as good.
        self.tickers = {(m["s"], m["u"]): m for m in messages if "B" in m and "u" in m}
        names = [instrument(symbol) for symbol in sorted(self.snapshots)]
        self.connector = Depth(DepthOptions(instruments=names, depth=1000, limit=5000))
        list(self.connector.on_open())
        self.take(b'{"result":null,"id":1}')
        self.answer(0 if in_time else 10**12)
        for at, raw, message in recorded:
            self.answer(at if in_time else 0)
            self.frame(raw, message["data"])

    def answer(self, until):
        """Let the snapshots that were there by then arrive."""
        for symbol in [s for s, (t, _) in self.snapshots.items() if t <= until]:
            _, body = self.snapshots.pop(symbol)
            self.count(self.connector.on_response(Request("/api/v3/depth", key=symbol), body))

    def frame(self, raw, data):
        if "pu" in data:
            # Futures say what they follow in a field of its own; spot says it with `U`.
            raw = json.dumps({"data": data | {"U": data["pu"] + 1}})
        self.take(raw.encode())
        if data.get("e") != "depthUpdate":
            return
        # Of futures the event of the snapshot's own number counts as well.
        self.applied += data["u"] >= self.numbers[data["s"]] + ("pu" not in data)
        book = self.books.get(data["s"])
        ticker = self.tickers.get((data["s"], data["u"]))
        if ticker and book and book.sequence == data["u"] > self.numbers[data["s"]]:
            bids, asks = book.best(1)
            assert (bids[0].price, bids[0].size) == (ticker["b"], ticker["B"])
            assert (asks[0].price, asks[0].size) == (ticker["a"], ticker["A"])
            self.agreements += 1

    def take(self, frame):
        self.count(self.connector.on_frame(frame))

    def count(self, outputs):
        for output in outputs:
            self.outputs[type(output)] += 1
            if isinstance(output, BookUpdate):
                assert output.flag is None
                self.books[output.instrument.replace("/", "")] = output.book


@pytest.fixture(scope="module")
def rebuilt():
    return {name: Rebuilt(name, in_time=False) for name in CAPTURES}


def test_every_book_is_rebuilt(rebuilt):
    """5,392 changes of 28 symbols are applied without a hole, as the recordings' readme says."""
    assert sum(one.applied for one in rebuilt.values()) == 5392
    assert sum(len(one.books) for one in rebuilt.values()) == 28
    assert not any(one.outputs[Gap] for one in rebuilt.values())


def test_best_prices_agree_with_the_book_tickers(rebuilt):
    """Where a book ticker has the number of a change, best prices and sizes are the same: 533."""
    assert sum(one.agreements for one in rebuilt.values()) == 533


@pytest.mark.parametrize("name", CAPTURES)
def test_changes_that_wait_for_the_snapshot(rebuilt, name):
    """With each snapshot at its own time the books are the same in the end."""
    in_time = Rebuilt(name, in_time=True)
    assert in_time.outputs[Gap] == 0
    for symbol, book in rebuilt[name].books.items():
        assert in_time.books[symbol].sequence == book.sequence
        assert in_time.books[symbol].top() == book.top()


def test_a_lost_change_is_noticed(rebuilt):
    """Without one of the recorded changes there is exactly one gap, with the numbers around it."""
    name = "hft-2024-08-08-btcusdt"
    whole = rebuilt[name]
    connector = Depth(DepthOptions(instruments=["BTC/USDT"]))
    list(connector.on_open())
    connector.on_frame(b'{"result":null,"id":1}')
    [path] = (ROOT / "http").glob(f"depth-*-{CAPTURES[name]}.json")
    body = json.loads(path.read_text())["body"].encode()
    connector.on_response(Request("/api/v3/depth", key="BTCUSDT"), body)
    diffs = [(raw, m["data"]) for _, raw, m in frames(name) if m["data"].get("e") == "depthUpdate"]
    fresh = [d for d in diffs if d[1]["u"] > whole.numbers["BTCUSDT"]]
    lost = fresh.pop(300)[1]
    outputs = [
        o for raw, _ in fresh for o in translate(lambda r=raw: connector.on_frame(r.encode()))
    ]
    [gap] = [o for o in outputs if isinstance(o, Gap)]
    assert (gap.data["after"], gap.data["before"]) == (lost["U"] - 1, lost["u"] + 1)


def by_kind(kind):
    """Return every recorded frame with an event of this kind, with the event."""
    found = []
    for path in sorted(ROOT.glob("*.ndjson")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["dir"] == "in" and f'"{kind}"' in entry["raw"].replace(" ", ""):
                content = json.loads(entry["raw"])
                data = content.get("data", content) if isinstance(content, dict) else content
                if isinstance(data, dict) and data.get("e") == kind:
                    found.append((entry["raw"], data))
    return found


def test_trades_keep_every_digit(build):
    """Every recorded trade gives a message of the venue's digits, and none is missing."""
    recorded = [(raw, trade) for raw, trade in by_kind("trade") if "x" not in trade]
    assert len(recorded) > 1380
    symbols = {trade["s"] for _, trade in recorded}
    connector = build("binance.trades", instruments=[instrument(s) for s in sorted(symbols)])
    told = 0
    for raw, trade in recorded:
        outputs = translate(lambda raw=raw: connector.on_frame(raw.encode()))
        for event in outputs:
            # Examples and captures lie years apart: what is between them is asked for.
            if isinstance(event, TradeExecuted):
                told += 1
                assert event.instrument == instrument(trade["s"])
                assert (event.id, event.price) == (str(trade["t"]), trade["p"])
                assert (event.quantity, event.exchange_us) == (trade["q"], trade["T"] * 1000)
                assert event.side == ("sell" if trade["m"] else "buy")
                assert not event.backfilled
    assert told >= 1381


def test_tickers_keep_every_digit(build):
    """Every recorded ticker gives a message of the venue's digits, with its event as it came."""
    recorded = [(raw, t) for raw, t in by_kind("24hrTicker")]
    assert len(recorded) == 4
    symbols = sorted({ticker["s"] for _, ticker in recorded})
    connector = build("binance.ticker", instruments=[instrument(s) for s in symbols])
    for raw, ticker in recorded:
        [event] = translate(lambda raw=raw: connector.on_frame(raw.encode()))
        assert isinstance(event, PriceUpdate)
        assert event.instrument == instrument(ticker["s"])
        # One of them is of futures, which have no best prices in it.
        assert event.price == ticker["c"]
        assert (event.bid, event.ask) == (ticker.get("b", ""), ticker.get("a", ""))
        assert (event.volume_24h, event.change_24h_pct) == (ticker["v"], ticker["P"])
        assert event.exchange_us == ticker["E"] * 1000
        assert bytes(event.data).decode() in raw
        assert json.loads(bytes(event.data)) == ticker


@pytest.mark.parametrize(
    ("name", "kind"),
    [("binance.ticker", PriceUpdate), ("binance.trades", TradeExecuted), ("binance.depth", Gap)],
)
def test_every_recorded_frame_is_survived(build, name, kind):
    """No recorded frame of any stream is an accident; an answer acknowledges, a notice is one."""
    connector = build(name, instruments=["BTC/USDT"])
    found = set()
    for path in sorted(ROOT.glob("*.ndjson")):
        for line in path.read_text().splitlines():
            raw = json.loads(line)["raw"]
            try:
                outputs = translate(lambda raw=raw: connector.on_frame(raw.encode()))
            except ConnectorError as e:
                outputs = [e]
            found |= {type(output) for output in outputs}
            assert all(isinstance(o, kind) for o in outputs if isinstance(o, Event))
            if '"serverShutdown"' in raw:
                assert outputs == [Leaving("serverShutdown")]
    assert {Acknowledged, Leaving, Unhandled} <= found
