"""Frames and payloads: exact digits, exact bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import wire
from aggregator.model import PriceUpdate, State, SystemStatus

NUMBERS = st.from_regex(r"\A-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?\Z")
NO_NUMBERS = [
    "", " ", "+1", "-", ".5", "1.", "01", "-01", "00", "1e", "1e+", "NaN", "Infinity", "-Infinity",
    "1,000", "1_000", "0x10", " 1", "1 ", "1\n", "\u0661", "\uff11", "1.2.3", "null", "true", "--",
    '1,"x":2', "9" * 65, "0." + "0" * 63, "1e1000", "1E-1000",
]  # fmt: skip


def encoder(instrument: str = "A/B") -> wire.PriceEncoder:
    return wire.PriceEncoder("feed", "venue", instrument)


def payload(event: PriceUpdate) -> bytes:
    frame = encoder(event.instrument).encode(event, 7, 11, 12)
    assert frame == wire.frame(wire.payload_of(frame))
    return wire.payload_of(frame)


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_frame_header(size, head):
    """RFC 6455, 5.2: the shortest form of the length; and `payload_of` is the way back."""
    body = b"x" * size
    assert wire.frame(body) == head + body
    assert wire.payload_of(wire.frame(body)) == body


@pytest.mark.parametrize("opcode", [wire.BINARY, wire.CLOSE, wire.PING, wire.PONG])
def test_frame_opcode(opcode):
    """The opcode is in the first byte, with the final bit."""
    assert wire.frame(b"", opcode) == bytes([0x80 | opcode, 0])


@pytest.mark.parametrize("size", [2, 100, 112, 113, 126, 65_500, 65_522, 65_523, 65_536])
def test_conflated_frame(size):
    """The count is added, whatever it does to the length of the header; the rest is unchanged."""
    text = b'{"a":"%b"}' % (b"x" * size)
    folded = wire.payload_of(wire.with_conflated(wire.frame(text), 3))
    assert folded == text[:-1] + b',"conflated":3}'
    assert wire.with_conflated(wire.frame(text), 3) == wire.frame(folded)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (999, "1970-01-01T00:00:00.000Z"),
        (1000, "1970-01-01T00:00:00.001Z"),
        (999_999, "1970-01-01T00:00:00.999Z"),
        (1_000_000, "1970-01-01T00:00:01.000Z"),
        (1_765_211_445_123_000, "2025-12-08T16:30:45.123Z"),
        (1_709_164_800_000_000, "2024-02-29T00:00:00.000Z"),
        (wire.END_OF_TIME_US - 1, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_iso(us, text):
    """Milliseconds are cut, not rounded."""
    assert wire.iso(us) == text


@given(st.lists(st.integers(0, wire.END_OF_TIME_US - 1), min_size=1, max_size=5))
def test_time_of_a_price_in_any_order(times):
    """The minute that is remembered never shows in another one, forwards or backwards."""
    prices = encoder()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for us in times:
        frame = prices.encode(PriceUpdate("A/B", "1", b"{}", us), 1, 2, 3)
        timestamp = json.loads(wire.payload_of(frame))["timestamp"]
        assert timestamp == wire.iso(us)
        back = datetime.fromisoformat(timestamp) - epoch
        assert round(back.total_seconds() * 1000) == us // 1000


@pytest.mark.parametrize("us", [None, -1, wire.END_OF_TIME_US, 10**30])
def test_time_of_a_price_without_a_usable_one(us):
    """The timestamp is then that of the receipt; what the venue said is passed on."""
    frame = encoder().encode(PriceUpdate("A/B", "1", b"{}", us), 1, 1_000_000, 3)
    sent = json.loads(wire.payload_of(frame))
    assert (sent["timestamp"], sent["exchange_us"]) == ("1970-01-01T00:00:01.000Z", us)


@given(NUMBERS)
def test_any_number_passes_unchanged(text):
    """Every JSON number stands in the message with exactly its digits."""
    assert wire.is_number(text)
    event = PriceUpdate("A/B", text, b"{}", None, text, text, text, text)
    sent = payload(event)
    assert sent.count(f":{text},".encode()) + sent.count(f":{text}}}".encode()) >= 5
    parsed = json.loads(sent, parse_float=Decimal, parse_int=Decimal)
    names = ("price", "bid", "ask", "volume_24h", "change_24h_pct")
    assert [str(parsed[name]) for name in names] == [str(Decimal(text))] * 5


@given(st.text())
def test_what_is_no_number_is_left_out(text):
    """`is_number` says what a strict JSON reader says, and the message is JSON whatever comes."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value = json.loads(text, parse_constant=refuse)
        number = isinstance(value, int | float) and not isinstance(value, bool)
    except (ValueError, RecursionError):
        number = False
    number = number and text == text.strip() and len(text) <= wire.LONGEST_NUMBER
    assert bool(wire.is_number(text)) == number
    event = PriceUpdate("A/B", "1", b"{}", None, text, text, text, text)
    assert ("bid" in json.loads(payload(event))) == number


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_no_numbers(text):
    """Text that is no JSON number is absent, each field for itself; without a price no message."""
    assert not wire.is_number(text)
    assert encoder().encode(PriceUpdate("A/B", text, b"{}"), 7, 11, 12) is None
    names = ("bid", "ask", "volume_24h", "change_24h_pct")
    for name in names:
        fields = dict.fromkeys(names, "2.50") | {name: text}
        sent = json.loads(payload(PriceUpdate("A/B", "1", b"{}", **fields)))
        assert {n for n in names if n in sent} == set(names) - {name}


def test_price_update_in_full():
    """Every field of docs/protocol.md, in its order and byte for byte."""
    data = b'{"symbol":"BTCUSDT",  "price":"42150.50"}'
    us = 1_765_211_445_123_000
    event = PriceUpdate(
        "BTC/USDT", "42150.50", data, us, "42150.49", "42150.51", "18234.5", "-2.45"
    )
    assert payload(event) == (
        b'{"type":"price_update","connector_id":"feed","exchange":"venue",'
        b'"instrument":"BTC/USDT","price":42150.50,"timestamp":"2025-12-08T16:30:45.123Z",'
        b'"data":'
        + data
        + b',"channel":"feed","seq":7,"exchange_us":1765211445123000,"received_us":11,'
        b'"published_us":12,"bid":42150.49,"ask":42150.51,"volume_24h":18234.5,'
        b'"change_24h_pct":-2.45}'
    )


def test_price_update_with_the_least():
    """What the venue does not give is left out, but for its time, which is null."""
    sent = json.loads(payload(PriceUpdate("A/B", "1", b"null")))
    assert sent["exchange_us"] is None
    assert not {"bid", "ask", "volume_24h", "change_24h_pct"} & set(sent)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a" : 1.50 , "b":[ ]}',
        bytearray(b"[1e400, 0.10]"),
        memoryview(b'"\xe2\x82\xac"'),
        msgspec.Raw(b'{"\\u0041":1}'),
    ],
)
def test_data_is_passed_on_untouched(data):
    """The venue's own bytes, spaces and escapes and all, from whatever kind of buffer."""
    assert b'"data":' + bytes(data) + b',"channel"' in payload(PriceUpdate("A/B", "1", data))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_instruments_are_escaped(name):
    """An instrument with quotes, backslashes, control or any other characters stays itself."""
    assert json.loads(payload(PriceUpdate(name, "1", b"{}")))["instrument"] == name


def test_system_status():
    """The shape of docs/protocol.md; the detail only where there is one."""
    status = SystemStatus(feed="f", state=State.STALE, since_us=1, reason='no "data"')
    sent = json.loads(wire.system_status("system", status, 7, "T"))
    assert sent == {
        "type": "system_status",
        "channel": "system",
        "seq": 7,
        "timestamp": "T",
        "data": {
            "feed": "f",
            "instrument": None,
            "state": "stale",
            "since_us": 1,
            "reason": 'no "data"',
        },
    }
    status = SystemStatus(
        feed="f", state=State.LIVE, since_us=1, reason="", instrument="A/B", detail={"x": 1.5}
    )
    data = json.loads(wire.system_status("system", status, 7, "T"))["data"]
    assert (data["instrument"], data["detail"]) == ("A/B", {"x": 1.5})


def test_heartbeat():
    """The shape of docs/protocol.md, in the envelope of its channel."""
    assert json.loads(wire.heartbeat("heartbeat", 3, "T")) == {
        "type": "heartbeat",
        "status": "ok",
        "timestamp": "T",
        "channel": "heartbeat",
        "seq": 3,
    }


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_test_message(text):
    """Any text comes out as it went in."""
    expected = {"type": "test_message", "message": text, "timestamp": "T"}
    assert json.loads(wire.test_message(text, "T")) == expected
