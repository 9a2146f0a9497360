"""
All messages but price updates, which are in `wire`.

Of order books, trades and candles `data` is the message's own content, with numbers as text:
exactly the venue's digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import orjson

from . import wire
from .decimals import product
from .model import (
    BookUpdate,
    Candle,
    Event,
    Gap,
    Heartbeat,
    Level,
    SystemStatus,
    TradeExecuted,
)

_levels = msgspec.json.Encoder().encode


class Envelope(NamedTuple):
    """What is around the content of a message; times in microseconds since the epoch."""

    channel: str
    exchange: str
    seq: int
    received_us: int
    published_us: int


class MarketEncoder:
    """
    Encodes what happens to one instrument on one channel; what never changes is prepared.

    Args:
        channel: its name, which is also the `connector_id`.
        exchange: the venue's name.
        instrument: any text.

    """

    __slots__ = ("_change", "_minute", "_minute_text", "_trade", "_whole")

    def __init__(self, channel: str, exchange: str, instrument: str) -> None:
        fields = {"instrument": instrument, "channel": channel, "connector_id": channel}
        fields["exchange"] = exchange
        # Without the closing brackets: more follows.
        book = orjson.dumps({"type": "orderbook_update"} | fields)[:-1]
        self._whole = book + b',"action":"snapshot","data":{"bids":'
        self._change = book + b',"action":"delta","data":{"bids":'
        self._trade = orjson.dumps({"type": "trade_executed"} | fields)[:-1]
        self._minute = -1
        self._minute_text = ""

    def orderbook_update(
        self, event: BookUpdate, seq: int, received_us: int, published_us: int
    ) -> bytes:
        """Return the finished frame of an `orderbook_update`."""
        sequence = "null" if event.sequence is None else event.sequence
        flag = f',"flag":"{event.flag}"' if event.flag else ""
        end = self._end(event.exchange_us, seq, received_us, published_us)
        parts = (
            self._whole if event.whole else self._change,
            _levels(event.bids),
            b',"asks":',
            _levels(event.asks),
            f',"sequence":{sequence}{flag}{end}'.encode(),
        )
        return wire.frame(b"".join(parts))

    def trade_executed(
        self, event: TradeExecuted, seq: int, received_us: int, published_us: int
    ) -> bytes | None:
        """Return the finished frame of a `trade_executed`; none if it has no price or quantity."""
        cost = event.cost
        if cost is None:
            try:
                cost = product(event.price, event.quantity)
            except (ValueError, ArithmeticError):
                return None
        content = orjson.dumps(
            {
                "id": event.id,
                "side": event.side,
                "price": event.price,
                "quantity": event.quantity,
                "cost": cost,
            }
        )
        data = b',"backfilled":true,"data":' if event.backfilled else b',"data":'
        end = self._end(event.exchange_us, seq, received_us, published_us)
        return wire.frame(b"".join((self._trade, data, content[:-1], end.encode())))

    def _end(self, exchange_us: int | None, seq: int, received_us: int, published_us: int) -> str:
        """Return what follows the content of `data`, from its closing bracket on."""
        time_us = exchange_us
        if time_us is None or not 0 <= time_us < wire.END_OF_TIME_US:
            time_us = received_us
        second, rest = divmod(time_us, 1_000_000)
        minute = second // 60
        if minute != self._minute:
            self._minute, self._minute_text = minute, wire.minute_text(minute)
        return (
            f'}},"timestamp":"{self._minute_text}{wire.SECONDS[second - 60 * minute]}'
            f'{wire.MILLISECONDS[rest // 1000]}","seq":{seq},'
            f'"exchange_us":{"null" if exchange_us is None else exchange_us},'
            f'"received_us":{received_us},"published_us":{published_us}}}'
        )


def whole_book(payload: bytes, bids: list[Level], asks: list[Level]) -> bytes:
    """Return the state after an `orderbook_update`, in the same envelope, as a snapshot."""
    message = orjson.loads(payload)
    message["action"] = "snapshot"
    message["data"] |= {"bids": bids, "asks": asks}
    return msgspec.json.encode(message)


def candle(event: Candle, envelope: Envelope) -> bytes:
    """Return the payload of a `candle`; its `timestamp` is the beginning of the interval."""
    data: dict[str, Any] = {
        "interval": event.interval,
        "start_us": event.start_us,
        "open": event.open,
        "high": event.high,
        "low": event.low,
        "close": event.close,
        "volume": event.volume,
        "closed": event.closed,
    }
    head = {"type": "candle", "instrument": event.instrument}
    return _payload(head, envelope, data, event.start_us)


def upstream_gap(event: Gap, envelope: Envelope) -> bytes:
    """Return the payload of a `gap` that the venue, or the way from there, is the cause of."""
    return orjson.dumps(
        {
            "type": "gap",
            "channel": envelope.channel,
            "instrument": event.instrument,
            "from_seq": None,
            "to_seq": None,
            "reason": "upstream",
            "timestamp": wire.iso(envelope.received_us),
            "data": event.data,
            "seq": envelope.seq,
        }
    )


def _payload(
    head: dict[str, Any], envelope: Envelope, data: dict[str, Any], exchange_us: int | None
) -> bytes:
    channel, exchange, seq, received_us, published_us = envelope
    time_us = exchange_us
    if time_us is None or not 0 <= time_us < wire.END_OF_TIME_US:
        time_us = received_us
    return orjson.dumps(
        {
            **head,
            "channel": channel,
            "connector_id": channel,
            "exchange": exchange,
            "data": data,
            "timestamp": wire.iso(time_us),
            "seq": seq,
            "exchange_us": exchange_us,
            "received_us": received_us,
            "published_us": published_us,
        }
    )


def _system_status(event: SystemStatus, envelope: Envelope) -> bytes:
    timestamp = wire.iso(envelope.received_us)
    return wire.system_status(envelope.channel, event, envelope.seq, timestamp)


def _heartbeat(event: Heartbeat, envelope: Envelope) -> bytes:
    del event
    return wire.heartbeat(envelope.channel, envelope.seq, wire.iso(envelope.received_us))


ENCODERS: dict[type[Event], Callable[[Any, Envelope], bytes]] = {
    Candle: candle,
    Gap: upstream_gap,
    SystemStatus: _system_status,
    Heartbeat: _heartbeat,
}
