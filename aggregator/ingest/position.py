"""
Whether an event is newer than what was published of its instrument.

Prices are told apart by the venue's time and their content, trades by their id, order books by
their sequence, candles by their beginning. What was published is read from the message itself,
since it is asked for when connections change, and not on the way of each message.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple
from zlib import crc32

import msgspec

from aggregator import wire
from aggregator.channel import Message
from aggregator.model import BookUpdate, Candle, Event, PriceUpdate, TradeExecuted

RENUMBERED_US = 1_000_000
"""What is later by so much is newer, whatever its number: the venue has begun to count anew."""
MAX_DIGITS = 40
"""Of an id that is a number; one with more is a name."""
NOTHING = msgspec.Raw()
PRICE, TRADE, BOOK, CANDLE = "price_update", "trade_executed", "orderbook_update", "candle"


class Relation(Enum):
    """How an event stands to what was published last of its instrument."""

    OLDER = auto()
    SAME = auto()
    ALIKE = auto()
    """Another price with the same time: which was first is not known."""
    UNTOLD = auto()
    """Another price, and one of them has no time."""
    NEWER = auto()


class Position(NamedTuple):
    """
    What orders the events of an instrument.

    `number` grows from event to event; `us` is the venue's time, in microseconds since the epoch;
    `content` tells those of one number apart.
    """

    kind: str
    number: int | None
    us: int | None
    content: tuple[object, ...]

    @property
    def id(self) -> str | None:
        """The id of a trade."""
        return str(self.content[0]) if self.kind == TRADE else None


class _Published(msgspec.Struct):
    """What matters here of a message's payload."""

    type: str
    data: msgspec.Raw
    exchange_us: int | None = None
    price: msgspec.Raw = NOTHING
    bid: msgspec.Raw = NOTHING
    ask: msgspec.Raw = NOTHING


class _Data(msgspec.Struct):
    """What matters of its `data`, where that is not the venue's own."""

    id: str = ""
    sequence: int | None = None
    start_us: int = 0
    open: str = ""
    high: str = ""
    low: str = ""
    close: str = ""
    volume: str | None = None
    closed: bool = False


_published = msgspec.json.Decoder(_Published).decode
_data = msgspec.json.Decoder(_Data).decode


def position(event: Event) -> Position | None:
    """Return an event's position; `None` if it has none."""
    match event:
        case PriceUpdate(price=price, exchange_us=us):
            content = (price, _number(event.bid), _number(event.ask), crc32(event.data))
            return Position(PRICE, us, us, content)
        case TradeExecuted(id=name, exchange_us=us):
            return _of_trade(name, us)
        case BookUpdate(sequence=sequence, exchange_us=us):
            return Position(BOOK, sequence, us, ())
        case Candle():
            return _of_candle(event)
    return None


def published(message: Message) -> Position | None:
    """Return the position of a message that was published; `None` if it has none."""
    last = _published(wire.payload_of(message.frame))
    us = last.exchange_us
    if last.type == PRICE:
        numbers = (bytes(raw).decode() for raw in (last.price, last.bid, last.ask))
        return Position(PRICE, us, us, (*numbers, crc32(last.data)))
    if last.type not in {TRADE, BOOK, CANDLE}:
        return None
    data = _data(last.data)
    if last.type == TRADE:
        return _of_trade(data.id, us)
    return _of_candle(data) if last.type == CANDLE else Position(BOOK, data.sequence, us, ())


def relation(event: Position | None, last: Position | None) -> Relation:
    """Return how an event stands to the last that was published; `NEWER` if there is no such."""
    if event is None or last is None or event.kind != last.kind:
        return Relation.NEWER
    number, before = event.number, last.number
    same = event.content == last.content
    if number is None or before is None:
        if same and event.content:
            return Relation.SAME
        return Relation.UNTOLD if event.kind == PRICE else Relation.NEWER
    if number == before:
        if same or event.kind not in {PRICE, CANDLE}:
            return Relation.SAME
        # A candle is told again and again until it is closed.
        return Relation.ALIKE if event.kind == PRICE else Relation.NEWER
    return Relation.NEWER if number > before or _later(event, last) else Relation.OLDER


def _later(event: Position, last: Position) -> bool:
    return None not in {event.us, last.us} and (event.us or 0) - (last.us or 0) > RENUMBERED_US


def _number(text: str | None) -> str:
    """Return a number as it is published; empty if it is none, and so is not."""
    return text if text and wire.is_number(text) else ""


def _of_trade(name: str, us: int | None) -> Position:
    is_number = name.isascii() and name.isdecimal() and len(name) <= MAX_DIGITS
    return Position(TRADE, int(name) if is_number else None, us, (name,))


def _of_candle(candle: Candle | _Data) -> Position:
    content = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.closed)
    return Position(CANDLE, candle.start_us, None, content)
