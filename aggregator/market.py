"""
The payloads of all messages but price updates, whose hot path is in `wire`.

Of order books, trades and candles `data` is the message's own content, with numbers as text:
exactly the venue's digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from . import wire
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


class Envelope(NamedTuple):
    """What is around the content of a message; times in microseconds since the epoch."""

    channel: str
    exchange: str
    seq: int
    received_us: int
    published_us: int


def orderbook_update(event: BookUpdate, envelope: Envelope) -> bytes:
    """Return the payload of an `orderbook_update`."""
    data: dict[str, Any] = {"bids": event.bids, "asks": event.asks, "sequence": event.sequence}
    if event.flag is not None:
        data["flag"] = event.flag
    action = "snapshot" if event.whole else "delta"
    head = {"type": "orderbook_update", "instrument": event.instrument, "action": action}
    return _payload(head, envelope, data, event.exchange_us)


def whole_book(payload: bytes, bids: list[Level], asks: list[Level]) -> bytes:
    """Return the state after an `orderbook_update`, in the same envelope, as a snapshot."""
    message = orjson.loads(payload)
    message["action"] = "snapshot"
    message["data"] |= {"bids": bids, "asks": asks}
    return orjson.dumps(message)


def trade_executed(event: TradeExecuted, envelope: Envelope) -> bytes:
    """Return the payload of a `trade_executed`."""
    data: dict[str, Any] = {
        "id": event.id,
        "side": event.side,
        "price": event.price,
        "quantity": event.quantity,
        "cost": event.cost,
    }
    head: dict[str, Any] = {"type": "trade_executed", "instrument": event.instrument}
    if event.backfilled:
        head["backfilled"] = True
    return _payload(head, envelope, data, event.exchange_us)


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
    BookUpdate: orderbook_update,
    TradeExecuted: trade_executed,
    Candle: candle,
    Gap: upstream_gap,
    SystemStatus: _system_status,
    Heartbeat: _heartbeat,
}
