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

import msgspec
import orjson

from .model import PriceUpdate, SystemStatus

END_OF_TIME_US = 253_402_300_800_000_000
"""The year 10000: no time at or after it can be written as ISO 8601."""

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA

_PRICE_UPDATE = b'{"type":"price_update",'

_SHORT = struct.Struct("!BB").pack
_MEDIUM = struct.Struct("!BBH").pack
_LONG = struct.Struct("!BBQ").pack

LONGEST_NUMBER = 64
"""Characters of a number. No venue has half as many; a hostile one might have millions."""
is_number = re.compile(
    rf"(?=.{{1,{LONGEST_NUMBER}}}\Z)-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{{1,3}})?"
).fullmatch
"""Whether a text is a JSON number in proportion; ASCII digits alone, unlike `\\d`."""

_five_numbers = msgspec.json.Decoder(
    tuple[float, float | None, float | None, float | None, float | None]
).decode

SECONDS = tuple(f"{second:02d}" for second in range(60))
MILLISECONDS = tuple(f".{ms:03d}Z" for ms in range(1000))


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


def with_age(framed: bytes, age_us: int, *, stale: bool) -> bytes:
    """Return the same message as part of a snapshot: how old it is, and whether too old."""
    flag = b"true" if stale else b"false"
    return frame(b'%b,"age_us":%d,"stale":%b}' % (payload_of(framed)[:-1], age_us, flag))


def without_data(framed: bytes) -> bytes:
    """
    Return a `price_update` without the venue's own payload; any other message as it is.

    Quotes inside of a JSON string are escaped, so the first `,"data":` and the last `,"channel":`
    are those of `PriceEncoder`, whatever instruments are called and venues send.
    """
    payload = payload_of(framed)
    if not payload.startswith(_PRICE_UPDATE):
        return framed
    return frame(payload[: payload.index(b',"data":')] + payload[payload.rindex(b',"channel":') :])


def gap(
    channel: str,
    seqs: tuple[int | None, int | None],
    reason: str,
    timestamp: str,
    data: dict[str, str] | None = None,
) -> bytes:
    """Return the payload of a `gap`: the messages with these numbers, both included, are lost."""
    fields = {"type": "gap", "channel": channel, "instrument": None, "from_seq": seqs[0]}
    fields |= {"to_seq": seqs[1], "reason": reason, "timestamp": timestamp}
    return orjson.dumps(fields if data is None else fields | {"data": data})


def minute_text(minute: int) -> str:
    """Return the beginning of an ISO 8601 time, up to the seconds, of a minute since the epoch."""
    return datetime.fromtimestamp(60 * minute, UTC).strftime("%Y-%m-%dT%H:%M:")


def iso(us: int) -> str:
    """
    Return e.g. `2025-12-08T16:30:45.123Z`, of microseconds since the epoch.

    Milliseconds are cut, not rounded. `us` is within 0 and `END_OF_TIME_US`.
    """
    second, rest = divmod(us, 1_000_000)
    minute, second = divmod(second, 60)
    return minute_text(minute) + SECONDS[second] + MILLISECONDS[rest // 1000]


class PriceEncoder:
    """
    Encodes the price updates of one instrument on one channel.

    Args:
        channel: its name, which is also the `connector_id`.
        exchange: the venue's name.
        instrument: any text.

    """

    __slots__ = ("_head", "_minute", "_minute_text", "_tail")

    def __init__(self, channel: str, exchange: str, instrument: str) -> None:
        fields = {
            "type": "price_update",
            "connector_id": channel,
            "exchange": exchange,
            "instrument": instrument,
        }
        self._head = orjson.dumps(fields)[:-1] + b',"price":'
        self._tail = f',"channel":"{channel}","seq":'
        self._minute = -1
        self._minute_text = ""

    # With the clock in line: this runs once for each message, and each call more would be felt.
    # That is why it has more lines than other functions.
    def encode(
        self, event: PriceUpdate, seq: int, received_us: int, published_us: int
    ) -> bytes | None:
        """
        Return the finished frame of a `price_update`, or `None` where the price is no number.

        Other fields that are no number are left out, each for itself.
        """
        price, bid, ask = event.price, event.bid, event.ask
        volume, change = event.volume_24h, event.change_24h_pct
        text = f"[{price},{bid or 'null'},{ask or 'null'},{volume or 'null'},{change or 'null'}]"
        try:
            # All at once, as five numbers or nulls exactly: a third of what looking at each costs.
            _, has_bid, has_ask, has_volume, has_change = _five_numbers(text)
            # JSON allows white space around a number, which is none of the number; and with an
            # exponent one may be out of all proportion.
            regular = len(text.split()) == 1 and "e" not in text and "E" not in text
            if len(text) > LONGEST_NUMBER:
                regular = regular and max(map(len, text[1:-1].split(","))) <= LONGEST_NUMBER
        except msgspec.DecodeError:
            regular = False
        if not regular:
            # One by one, also for numbers that are too large for a double.
            if not is_number(price):
                return None
            has_bid, has_ask, has_volume, has_change = (
                None if field is None or not is_number(field) else 0.0
                for field in (bid, ask, volume, change)
            )
        if has_bid is None or has_ask is None or has_volume is None:
            optional = "" if has_bid is None else f',"bid":{bid}'
            optional += "" if has_ask is None else f',"ask":{ask}'
            optional += "" if has_volume is None else f',"volume_24h":{volume}'
        else:
            optional = f',"bid":{bid},"ask":{ask},"volume_24h":{volume}'
        if has_change is not None:
            optional = f'{optional},"change_24h_pct":{change}'
        time_us = exchange_us = event.exchange_us
        if time_us is None or not 0 <= time_us < END_OF_TIME_US:
            time_us = received_us
        second, rest = divmod(time_us, 1_000_000)
        minute = second // 60
        if minute != self._minute:
            self._minute, self._minute_text = minute, minute_text(minute)
        before = (
            f'{price},"timestamp":"{self._minute_text}{SECONDS[second - 60 * minute]}'
            f'{MILLISECONDS[rest // 1000]}","data":'
        )
        after = (
            f'{self._tail}{seq},"exchange_us":{"null" if exchange_us is None else exchange_us},'
            f'"received_us":{received_us},"published_us":{published_us}{optional}}}'
        )
        payload = b"".join((self._head, before.encode(), event.data, after.encode()))
        size = len(payload)
        # Nearly all are of this size.
        return _MEDIUM(0x81, 126, size) + payload if 126 <= size < 65_536 else frame(payload)


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
