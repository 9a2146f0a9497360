"""What clients may send as bytes, and what they may not."""

from __future__ import annotations

import tracemalloc

import pytest
from gateway.wsclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.gateway.frames import ProtocolError, Reader

MAX = 65_536
masks = st.binary(min_size=4, max_size=4)


def read(*data: bytes, max_size: int = MAX) -> list[tuple[int, bytes]]:
    reader = Reader(max_size)
    messages = [message for piece in data for message in reader.feed(piece)]
    assert reader.idle
    return messages


def fault(data: bytes, max_size: int = MAX) -> int:
    """Return the code of the close, which must be the same when the bytes come one by one."""
    reader = Reader(max_size)
    with pytest.raises(ProtocolError) as whole:
        list(reader.feed(data))
    reader = Reader(max_size)
    with pytest.raises(ProtocolError) as bitwise:
        [list(reader.feed(data[i : i + 1])) for i in range(len(data))]
    assert whole.value.code == bitwise.value.code
    assert len(whole.value.reason.encode()) <= 123
    return whole.value.code


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x80\x7f\x00"])
def test_lengths_and_masks(size, mask):
    """Every form of the length, and masks whose bytes are zero."""
    payload = bytes(i % 128 for i in range(size))
    assert read(frame(payload, mask=mask)) == [(TEXT, payload)]
    assert read(frame(payload, BINARY, mask=mask)) == [(BINARY, payload)]


def test_lengths_in_a_longer_form_than_needed():
    """RFC 6455 demands the shortest form of the sender; to be liberal here harms nobody."""
    assert read(b"\x81\xfe\x00\x01" + b"\0\0\0\0" + b"x") == [(TEXT, b"x")]


def test_fragments_with_control_frames_between():
    """Control frames come through at once, and do not end a message in fragments."""
    data = (
        frame(b"a", TEXT, fin=False)
        + frame(b"p", PING)
        + frame(b"", CONTINUATION, fin=False)
        + frame(b"q", PONG)
        + frame(b"b", CONTINUATION)
        + frame(b"c", BINARY, fin=False)
        + frame(b"\xff", CONTINUATION)
    )
    expected = [(PING, b"p"), (PONG, b"q"), (TEXT, b"ab"), (BINARY, b"c\xff")]
    assert read(data) == expected
    assert read(*(data[i : i + 1] for i in range(len(data)))) == expected


def test_character_across_fragments():
    """UTF-8 is checked of the whole message, not of each fragment."""
    euro = "\u20ac".encode()
    assert read(frame(euro[:1], fin=False) + frame(euro[1:], CONTINUATION)) == [(TEXT, euro)]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("RSV1", frame(b"x", rsv=4)),
        ("RSV2", frame(b"x", rsv=2)),
        ("RSV3 of a ping", frame(b"", PING, rsv=1)),
        ("RSV1 of a continuation", frame(b"x", fin=False) + frame(b"x", CONTINUATION, rsv=4)),
        ("RSV1 of a ping", frame(b"", PING, rsv=4)),
        ("RSV1 of a close", frame(b"", CLOSE, rsv=4)),
        *((f"opcode {code}", frame(b"x", code)) for code in (*range(3, 8), *range(11, 16))),
        ("unmasked", frame(b"x", mask=None)),
        ("unmasked ping", frame(b"", PING, mask=None)),
        ("long ping", frame(b"x" * 126, PING)),
        ("long pong", frame(b"x" * 70_000, PONG)),
        ("huge ping", frame(b"", PING, size=2**63)),
        ("long close", frame(b"\x03\xe8" + b"x" * 124, CLOSE)),
        ("ping in fragments", frame(b"x", PING, fin=False)),
        ("close in fragments", frame(b"", CLOSE, fin=False)),
        ("continuation of nothing", frame(b"x", CONTINUATION)),
        ("continuation of nothing, open", frame(b"x", CONTINUATION, fin=False)),
        ("text within text", frame(b"x", fin=False) + frame(b"y")),
        ("binary within empty text", frame(b"", fin=False) + frame(b"y", BINARY)),
        ("continuation after the end", frame(b"x") + frame(b"y", CONTINUATION)),
        ("close of one byte", frame(b"\x03", CLOSE)),
        *(
            (f"close {code}", frame(code.to_bytes(2), CLOSE))
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
        ),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n"),
    ],
)
def test_faults(name, data):
    """RFC 6455, sections 5 and 7: each of these is closed with 1002."""
    assert fault(data) == 1002


@pytest.mark.parametrize(
    "text",
    [
        b"\xff",
        b"abc\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"\xf8\x88\x80\x80\x80",
    ],
)
def test_bad_utf8(text):
    """Stray, overlong, surrogate, too large, cut short: 1007, in a text and in a close."""
    assert fault(frame(text)) == 1007
    assert fault(frame(text[:1], fin=False) + frame(text[1:], CONTINUATION)) == 1007
    assert fault(frame(b"\x03\xe8" + text, CLOSE)) == 1007
    assert read(frame(text, BINARY)) == [(BINARY, text)]


@pytest.mark.parametrize(
    "payload", [b"", b"\x03\xe8", b"\x03\xf6", b"\x0b\xb8x", b"\x13\x87" + b"\xe2\x82\xac" * 41]
)
def test_good_closes(payload):
    """Empty, or a code that may be sent and up to 123 bytes of UTF-8."""
    assert read(frame(payload, CLOSE)) == [(CLOSE, payload)]


@pytest.mark.parametrize(
    "data",
    [
        frame(b"x" * 11),
        frame(b"x" * 11, BINARY),
        frame(b"x" * 6, fin=False) + frame(b"x" * 5, CONTINUATION),
        frame(b"x" * 10, fin=False) + frame(b"", CONTINUATION, fin=False) + frame(b"x", 0),
        frame(b"", size=2**31),
        frame(b"", size=2**63 - 1),
        frame(b"", size=2**63),
        frame(b"", size=2**64 - 1),
    ],
)
def test_over_the_limit(data):
    """1009, from the header alone, fragments added up."""
    assert fault(data, max_size=10) == 1009


def test_just_within_the_limit():
    """Exactly the limit passes, in one or in fragments; and the next message starts anew."""
    parts = frame(b"x" * 6, fin=False) + frame(b"x" * 4, CONTINUATION)
    assert read(frame(b"x" * 10) + parts + parts, max_size=10) == [(TEXT, b"x" * 10)] * 3


def test_fragments_cost_no_more_than_their_bytes():
    """10,000 empty fragments are free; 32,768 of two bytes take little more than one message."""
    reader = Reader(MAX)
    list(reader.feed(frame(b"", fin=False)))
    empty, small = frame(b"", CONTINUATION, fin=False), frame(b"ab", CONTINUATION, fin=False)
    tracemalloc.start()
    try:
        for _ in range(10_000):
            assert not list(reader.feed(empty))
        assert tracemalloc.get_traced_memory()[0] < 4096
        for _ in range(MAX // 2):
            assert not list(reader.feed(small))
        assert tracemalloc.get_traced_memory()[0] < 4 * MAX
    finally:
        tracemalloc.stop()
    assert not reader.idle
    assert list(reader.feed(frame(b"", CONTINUATION))) == [(TEXT, b"ab" * (MAX // 2))]
    assert reader.idle


def test_after_a_close_nothing_is_read():
    """The one who stops asking after a close has lost the rest, and may throw the reader away."""
    reader = Reader(MAX)
    messages = reader.feed(frame(b"", CLOSE) + frame(b"x"))
    assert next(messages) == (CLOSE, b"")
    messages.close()


messages_ = st.lists(
    st.one_of(
        st.tuples(st.just(TEXT), st.lists(st.text(max_size=40), min_size=1, max_size=4)),
        st.tuples(st.just(BINARY), st.lists(st.binary(max_size=300), min_size=1, max_size=4)),
        st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)),
    ),
    max_size=6,
)


@settings(max_examples=150, deadline=None)
@given(messages_, masks, st.data())
def test_any_split_gives_the_same(messages, mask, data):
    """However the bytes of valid frames are cut, the same messages come out, in order."""
    sent, expected, total = bytearray(), [], bytearray()
    for opcode, content in messages:
        if opcode in {PING, PONG}:
            sent += frame(content, opcode, mask=mask)
            expected.append((opcode, content))
            continue
        parts = [p.encode() if isinstance(p, str) else p for p in content]
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            sent += frame(part, opcode if i == 0 else CONTINUATION, fin=last, mask=mask)
            if not last and data.draw(st.booleans()):
                sent += frame(b"!", PING, mask=mask)
                expected.append((PING, b"!"))
        expected.append((opcode, b"".join(parts)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    pieces = [bytes(sent[a:b]) for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert read(*pieces) == expected
    assert read(bytes(sent), bytes(total)) == expected


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_at_all(data, cut):
    """Noise gives messages, or waits for more, or is a named fault; never anything else."""

    def run(*pieces: bytes) -> list[object]:
        reader, seen = Reader(100), []
        try:
            for piece in pieces:
                seen.extend(reader.feed(piece))
        except ProtocolError as e:
            seen.append(e.code)
        return seen

    seen = run(data)
    assert seen == run(data[:cut], data[cut:])
    assert {item for item in seen if isinstance(item, int)} <= {1002, 1007, 1009}
