"""Binance's streams by name: which there are, and what each has to say after a step."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from aggregator.simulator import binance_shapes as shapes
from aggregator.simulator.candle_shapes import kline
from aggregator.simulator.candles import INTERVALS_MS
from aggregator.simulator.connection import Connection, frame
from aggregator.simulator.depth import Books
from aggregator.simulator.market import Instrument, Market

_STREAM = re.compile(
    r"(?P<symbol>[^@!]+)@(?P<kind>trade|aggTrade|ticker|miniTicker|bookTicker"
    r"|depth(?P<levels>5|10|20)?|kline_(?P<interval>\w+))(?P<speed>@100ms|@1000ms)?"
)
_ALL_MINI = "!miniTicker@arr"
_AT_ONCE = ("trade", "aggTrade", "bookTicker")


@dataclass(slots=True)
class Topic:
    """One stream that somebody reads."""

    name: str
    kind: str
    instrument: Instrument | None
    levels: int
    fast: bool
    interval: str = ""
    # Of candles: the beginning of the one that was sent last.
    sent_ms: int = 0
    peers: set[Connection] = field(default_factory=set)

    def push(self, event: Any) -> None:
        """Send an event to all who read this."""
        # Encoded once for all raw and once for all combined readers, and only if there are any.
        forms: dict[bool, tuple[bytes, bytes]] = {}
        channel = self.kind if self.instrument is not None else _ALL_MINI
        symbol = "" if self.instrument is None else self.instrument.symbol
        for connection in self.peers:
            combined = connection.state.combined
            if combined not in forms:
                payload = orjson.dumps({"stream": self.name, "data": event} if combined else event)
                forms[combined] = payload, frame(payload)
            connection.push(*forms[combined], channel, symbol)


def find(name: str, market: Market, books: Books) -> Topic | None:
    """Return the stream of this name; None = there is no such stream."""
    if name == _ALL_MINI:
        return Topic(name, "miniTicker", None, 0, fast=False)
    match = _STREAM.fullmatch(name)
    if match is None or match["symbol"] != match["symbol"].lower():
        return None
    kind = kind_of(name)
    one = market.by_symbol.get(match["symbol"].upper())
    if one is None or not one.trading or (match["speed"] and kind != "depth"):
        return None
    if kind == "kline" and match["interval"] not in INTERVALS_MS:
        return None
    if kind == "depth" and not match["levels"]:
        books.of(one).watch(name)
    levels, interval = int(match["levels"] or 0), match["interval"] or ""
    return Topic(name, kind, one, levels, match["speed"] == "@100ms", interval)


def kind_of(name: str) -> str:
    """Return what a stream is about, whatever its levels, interval and speed."""
    kind = name.partition("@")[2].partition("@")[0]
    return next((k for k in ("depth", "kline") if kind.startswith(k)), kind)


def events(
    topic: Topic, market: Market, books: Books, *, tenth: bool, second: bool
) -> Iterator[Any]:
    """Yield what a stream has to say after a step: `tenth` and `second` say whose turn it is."""
    one = topic.instrument
    due = topic.kind in _AT_ONCE or (tenth if topic.fast else second)
    if one is None:
        moved = [shapes.mini_ticker(each) for each in market if each.moved] if due else []
        yield from [moved] if moved else []
    elif topic.kind == "kline":
        yield from _klines(topic, one, market, due=due)
    elif due:
        event = _event(topic, one, books)
        yield from [] if event is None else [event]


def _event(topic: Topic, one: Instrument, books: Books) -> Any:
    if topic.kind == "depth":
        return _depth(topic, one, books)
    if topic.kind == "ticker":
        return shapes.ticker(one)
    if topic.kind == "miniTicker":
        return shapes.mini_ticker(one)
    if one.moved and topic.kind == "bookTicker":
        return shapes.book_ticker_event(books.of(one))
    form = shapes.trade if topic.kind == "trade" else shapes.agg_trade
    return form(one, one.recent[-1]) if one.moved else None


def _depth(topic: Topic, one: Instrument, books: Books) -> Any:
    book = books.of(one)
    if topic.levels:
        return shapes.depth(book, topic.levels)
    changes = book.take(topic.name)
    return shapes.depth_update(one, changes) if changes else None


def _klines(topic: Topic, one: Instrument, market: Market, *, due: bool) -> Iterator[Any]:
    """Yield how the last candle ended once there is another, and if it is time the present one."""
    interval_ms = INTERVALS_MS[topic.interval]
    candles = market.candles.of(one, interval_ms)
    newest_ms = candles[-1].start_ms if candles else 0
    ended = [c for c in candles if topic.sent_ms and topic.sent_ms <= c.start_ms < newest_ms]
    for candle in ended:
        yield kline(one, candle, topic.interval, interval_ms, closed=True)
    if candles and (due or ended):
        yield kline(one, candles[-1], topic.interval, interval_ms, closed=False)
        topic.sent_ms = newest_ms
