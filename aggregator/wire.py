"""
A message's bytes on the wire: JSON payloads, and the WebSocket frame around them.

Encoding happens once per message, however many clients want it. Numbers are passed on as the text
that the venue sent, `data` as its bytes.

Source: RFC 6455, section 5.2 (frames); RFC 8259, section 6 (numbers).
"""

from __future__ import annotations

import re
import struct
from datetime import UTC, datetime

import orjson

from .model import PriceUpdate, SystemStatus

END_OF_TIME_US = 253_402_300_800_000_000
"""The year 10000: no time at or after it can be written as ISO 8601."""

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack

is_number = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
"""Whether a text is a JSON number; ASCII digits alone, unlike `\\d`."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return one final, unmasked WebSocket frame with this payload."""
    size = len(payload)
    if size < 126:
        return _SHORT(0x80 | opcode, size) + payload
    if size < 65_536:
        return _MEDIUM(0x80 | opcode, 126, size) + payload
    return _LONG(0x80 | opcode, 127, size) + payload


def payload_of(framed: bytes) -> bytes:
    """Return the payload of a frame that `frame` made."""
    length = framed[1]
    return framed[2 if length < 126 else 4 if length == 126 else 10 :]


def with_conflated(framed: bytes, count: int) -> bytes:
    """Return the same message, saying that it stands for `count` older ones as well."""
    return frame(b'%b,"conflated":%d}' % (payload_of(framed)[:-1], count))


class Clock:
    """Formats microseconds since the epoch as ISO 8601, UTC, with milliseconds."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def iso(self, us: int) -> str:
        """
        Return e.g. `2025-12-08T16:30:45.123Z`; milliseconds are cut, not rounded.

        `us` is within 0 and `END_OF_TIME_US`.
        """
        second, rest = divmod(us, 1_000_000)
        if second != self._second:
            self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = second
        return f"{self._text}.{rest // 1000:03d}Z"


def price_update_head(connector_id: str, exchange: str, instrument: str) -> bytes:
    """Return the part of a `price_update` that is the same in each message of an instrument."""
    fields = {
        "type": "price_update",
        "connector_id": connector_id,
        "exchange": exchange,
        "instrument": instrument,
    }
    return orjson.dumps(fields)[:-1] + b',"price":'


def price_update(  # noqa: PLR0917 - the hot path: positional arguments are cheaper
    head: bytes,
    channel: str,
    event: PriceUpdate,
    seq: int,
    timestamp: str,
    received_us: int,
    published_us: int,
) -> bytes:
    """Return the payload of a `price_update`; `event.price` has been found to be a number."""
    optional = ""
    if event.bid is not None and is_number(event.bid):
        optional = f',"bid":{event.bid}'
    if event.ask is not None and is_number(event.ask):
        optional += f',"ask":{event.ask}'
    if event.volume_24h is not None and is_number(event.volume_24h):
        optional += f',"volume_24h":{event.volume_24h}'
    if event.change_24h_pct is not None and is_number(event.change_24h_pct):
        optional += f',"change_24h_pct":{event.change_24h_pct}'
    exchange_us = "null" if event.exchange_us is None else event.exchange_us
    before = f'{event.price},"timestamp":"{timestamp}","data":'
    after = (
        f',"channel":"{channel}","seq":{seq},"exchange_us":{exchange_us},'
        f'"received_us":{received_us},"published_us":{published_us}{optional}}}'
    )
    return b"".join((head, before.encode(), event.data, after.encode()))


def system_status(channel: str, event: SystemStatus, seq: int, timestamp: str) -> bytes:
    """Return the payload of a `system_status`."""
    data: dict[str, object] = {
        "feed": event.feed,
        "instrument": event.instrument,
        "state": event.state,
        "since_us": event.since_us,
        "reason": event.reason,
    }
    if event.detail is not None:
        data["detail"] = event.detail
    message = {"type": "system_status", "channel": channel, "seq": seq, "timestamp": timestamp}
    return orjson.dumps(message | {"data": data})


def heartbeat(channel: str, seq: int, timestamp: str) -> bytes:
    """Return the payload of a `heartbeat`."""
    message = {"type": "heartbeat", "status": "ok", "timestamp": timestamp}
    return orjson.dumps(message | {"channel": channel, "seq": seq})


def test_message(text: str, timestamp: str) -> bytes:
    """Return the payload of a `test_message`, which `POST /ws/test` sends to everybody."""
    return orjson.dumps({"type": "test_message", "message": text, "timestamp": timestamp})
