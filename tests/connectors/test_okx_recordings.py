"""
OKX' books and trades on real traffic: every checksum, the one gap there is, and every digit.

The recordings with a live checksum are older than the numbers that updates have now, so these are
put in here: the books must be right all the same.
"""

import json
import zlib
from decimal import Decimal
from itertools import chain, count, zip_longest
from pathlib import Path

import msgspec
import pytest

from aggregator.connector import Send, translate
from aggregator.model import BookUpdate, Gap, TradeExecuted

ROOT = Path(__file__).parents[3] / "shared" / "recordings" / "okx"
CAPTURES = "cf-"
"""How the names of whole connections begin; the other files are single frames."""
pytestmark = pytest.mark.skipif(not ROOT.is_dir(), reason=f"no recordings at {ROOT}")


def recorded(*channels):
    """Return the data of these channels in all recordings: file, frame as text, and its content."""
    for path in sorted(ROOT.glob("*.ndjson")):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            if entry["dir"] != "in" or not entry["raw"].startswith("{"):
                continue
            message = json.loads(entry["raw"])
            if message.get("data") and message.get("arg", {}).get("channel") in channels:
                yield path.stem, entry["raw"], message


def name(row):
    """Return our name of what has this `instId`; options and futures have more parts."""
    return row["instId"].replace("-", "/", 1)


class Levels(dict):
    """One side of a book as a client keeps it, in the simplest way."""

    def make(self, changes):
        for level in changes:
            self[level.price] = level.size
            if not Decimal(level.size):
                del self[level.price]


class Client:
    """Keeps a book by what it is told."""

    def __init__(self):
        self.bids, self.asks = Levels(), Levels()

    def take(self, event):
        if event.whole:
            self.__init__()
        self.bids.make(event.bids)
        self.asks.make(event.asks)

    def top(self):
        bids = sorted(self.bids.items(), key=lambda level: -Decimal(level[0]))
        asks = sorted(self.asks.items(), key=lambda level: Decimal(level[0]))
        return bids, asks


def pairs(levels):
    return [(level.price, level.size) for level in levels]


def numbered(frames):
    """Put into each frame the numbers that it would have today."""
    last = {}
    numbers = count(1)
    for file, _, message in frames:
        if not file.startswith(CAPTURES):
            continue
        [row] = message["data"]
        key, row["seqId"] = (file, name(message["arg"])), next(numbers)
        row["prevSeqId"] = -1 if message["action"] == "snapshot" else last[key]
        last[key] = row["seqId"]
        message["arg"]["channel"] = "books"
        yield file, json.dumps(message, separators=(",", ":")).encode(), message


def checksum(bids, asks):
    """Return OKX' checksum of the best levels: bid and ask in turn, as long as there are any."""
    levels = filter(None, chain.from_iterable(zip_longest(bids[:25], asks[:25])))
    return zlib.crc32(":".join(":".join(level) for level in levels).encode())


@pytest.mark.parametrize("depth", [400, 25])
def test_every_checksum(build, depth):
    """
    All 1,794 checksums: of our book, and of what a client has that applies what it is told.

    With 25 levels the client has no more than the checksum is about.
    """
    files = {}
    for file, frame, message in numbered(recorded("books", "books-l2-tbt")):
        files.setdefault(file, []).append((frame, message))
    checked = 0
    for frames in files.values():
        instruments = sorted({name(message["arg"]) for _, message in frames})
        connector = build("okx.books", instruments=instruments, depth=depth)
        clients = {instrument: Client() for instrument in instruments}
        for frame, message in frames:
            [event] = translate(lambda frame=frame, c=connector: c.on_frame(frame))
            client = clients[event.instrument]
            client.take(event)
            bids, asks = map(pairs, event.book.top())
            assert checksum(bids, asks) == message["data"][0]["checksum"] % 2**32
            assert client.top() == (bids, asks)
            assert max(len(bids), len(asks)) <= depth
            checked += 1
    assert checked == 1794


def test_the_one_gap(build):
    """Of the three frames of July 2026 the last does not follow: it is a gap, and no update."""
    connector = build("okx.books", instruments=["BTC/USDT"])
    list(connector.on_open())
    translate(
        lambda: connector.on_frame(
            b'{"event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"}}'
        )
    )
    frames = [frame for file, *frame in recorded("books") if file.startswith("l2p-2026-07-11")]
    outputs = [translate(lambda raw=raw: connector.on_frame(raw.encode())) for raw, _ in frames]
    first, second, (gap, leave, back) = outputs
    assert [type(output) for output in (*first, *second)] == [BookUpdate, BookUpdate]
    rows = [message["data"][0] for _, message in frames]
    assert gap == Gap(
        instrument="BTC/USDT",
        data={
            "cause": f"the update follows {rows[2]['prevSeqId']}, not {rows[1]['seqId']}",
            "after": rows[1]["seqId"],
            "before": rows[2]["seqId"],
        },
    )
    assert rows[2]["prevSeqId"] != rows[1]["seqId"]
    assert all(isinstance(output, Send) for output in (leave, back))


def test_every_trade_digit_by_digit(build):
    """Every trade in every recording and example is told with the venue's own digits, in order."""
    trades = list(recorded("trades"))
    assert sum(len(message["data"]) for _, _, message in trades) > 100
    instruments = sorted({name(row) for _, _, message in trades for row in message["data"]})
    connector = build("okx.trades", instruments=instruments)
    for file, raw, message in trades:
        if not file.startswith(CAPTURES):
            # What was before it is not known.
            connector = build("okx.trades", instruments=instruments)
        rows = message["data"]
        events = translate(lambda raw=raw, c=connector: c.on_frame(raw.encode()))
        for event, row in zip(events, rows, strict=True):
            assert isinstance(event, TradeExecuted)
            assert event.instrument == name(row)
            assert (event.id, event.side) == (row["tradeId"], row["side"])
            assert (event.price, event.quantity) == (row["px"], row["sz"])
            assert str(event.exchange_us) == row["ts"] + "000"
            assert not event.backfilled


def test_the_best_bid_and_ask(build):
    """The recorded pushes of the best bid and ask are told as they are."""
    pushes = list(recorded("bbo-tbt"))
    for _, raw, message in pushes:
        connector = build("okx.bbo", instruments=[name(message["arg"])])
        events = translate(lambda raw=raw, c=connector: c.on_frame(raw.encode()))
        for event, row in zip(events, message["data"], strict=True):
            assert msgspec.to_builtins(event.bids) == [level[:2] for level in row["bids"]]
            assert msgspec.to_builtins(event.asks) == [level[:2] for level in row["asks"]]
            assert event.whole
