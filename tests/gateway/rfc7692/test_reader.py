"""RFC 7692, section 7.2.2: what is inflated, and that nothing else is."""

from __future__ import annotations

import time
import tracemalloc
import zlib

import pytest
from gateway.rfc7692.deflating import (
    EVERY_WINDOW,
    RSV1,
    TAIL,
    compressed,
    far_apart,
    in_fragments,
    packed,
)
from gateway.wsclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from hypothesis import given
from hypothesis import strategies as st

from aggregator.gateway.frames import ProtocolError, Reader

MAX = 65_536


def read(*data: bytes, max_size: int = MAX) -> list[tuple[int, bytes]]:
    reader = Reader(max_size, inflate=True)
    messages = [message for piece in data for message in reader.feed(piece)]
    assert reader.idle
    return messages


def fault(data: bytes, max_size: int = MAX, *, inflate: bool = True) -> int:
    """Return the code of the close, which must be the same when the bytes come one by one."""
    codes = set()
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        reader = Reader(max_size, inflate=inflate)
        with pytest.raises(ProtocolError) as raised:
            [list(reader.feed(piece)) for piece in pieces]
        assert 0 < len(raised.value.reason.encode()) <= 123
        codes.add(raised.value.code)
    [code] = codes
    return code


def message(data: bytes) -> bytes:
    """Return a frame of which this is what is compressed."""
    return frame(data, rsv=RSV1)


def stored(data: bytes, *, final: bool = False) -> bytes:
    """Return a block of its own, not compressed: RFC 1951, 3.2.4."""
    size = len(data)
    return (
        bytes([final]) + size.to_bytes(2, "little") + (size ^ 0xFFFF).to_bytes(2, "little") + data
    )


HELLO = {
    "one block": "f248cdc9c90700",
    "not compressed": "000500faff48656c6c6f00",
    "a final block": "f348cdc9c9070000",
    "a final block alone": "f348cdc9c90700",
    "two blocks": "f248050000 00ffff cac9c90700",
    "an empty block before": "00 0000ffff f248cdc9c90700",
    "many empty blocks": "000000ffff" * 50 + "f248cdc9c90700",
    "a final block not compressed": "010500faff48656c6c6f 00",
}
"""The examples of RFC 7692, 7.2.3, and others; all of them say "Hello"."""


@pytest.mark.parametrize("data", HELLO.values(), ids=HELLO)
def test_hello(data):
    """RFC 7692, 7.2.3: blocks of every kind, several of them, and a final one at the end."""
    data = bytes.fromhex(data)
    assert read(message(data) * 2 + frame(b"plain")) == [(TEXT, b"Hello")] * 2 + [(TEXT, b"plain")]
    for size in (1, 3, len(data)):
        assert read(*in_fragments(data, size), frame(b"p", PING)) == [
            (TEXT, b"Hello"),
            (PING, b"p"),
        ]


@pytest.mark.parametrize("data", [b"\0", b"\2\0", b"\3\0", b"\3\0\0"], ids=bytes.hex)
def test_empty(data):
    """RFC 7692, 7.2.3.6: an empty message is an empty block."""
    assert read(message(data), frame(data, BINARY, rsv=RSV1)) == [(TEXT, b""), (BINARY, b"")]


@pytest.mark.parametrize("bits", EVERY_WINDOW)
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_windows(bits, level):
    """RFC 7692, 7.1.2.2: the client may use any window, since none was agreed on for it."""
    payload = far_apart(MAX - 100)
    # What is not compressed is larger than the message.
    assert read(message(packed(payload, bits, level))) == [(TEXT, payload)]


def test_each_by_itself():
    """RFC 7692, 7.1.1.2: what refers to the message before is broken: no context is taken over."""
    one = zlib.compressobj(6, zlib.DEFLATED, -15)
    first, second = (
        (one.compress(far_apart(500)) + one.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
        for _ in range(2)
    )
    assert read(message(first)) == [(TEXT, far_apart(500))]
    assert fault(message(first) + message(second)) == 1007


def test_plain_among_compressed():
    """RFC 7692, 6: a client may leave any message as it is, without RSV1."""
    data = (
        compressed(b"a" * 99) + frame(b"b") + compressed(b"c" * 99, BINARY) + frame(b"\xff", BINARY)
    )
    assert [payload[:1] for _, payload in read(data)] == [b"a", b"b", b"c", b"\xff"]
    plain = frame(b"b", fin=False) + frame(b"c", CONTINUATION)
    assert read(compressed(b"a") + plain + compressed(b"d"))[1] == (TEXT, b"bc")


def test_control_frames_between():
    """RFC 6455, 5.4: they come through at once, and they are never compressed."""
    first, second = in_fragments(packed(b"Hello" * 20), 9)
    data = first + frame(b"p", PING) + frame(b"q", PONG) + second + frame(b"", CLOSE)
    assert read(data) == [(PING, b"p"), (PONG, b"q"), (TEXT, b"Hello" * 20), (CLOSE, b"")]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *((f"{n} of a text", frame(packed(b"x"), rsv=n)) for n in (1, 2, 3, 5, 6, 7)),
        *((f"{n} of a ping", frame(b"", PING, rsv=n)) for n in range(1, 8)),
        ("pong", frame(packed(b"x"), PONG, rsv=RSV1)),
        ("close", frame(packed(b"\x03\xe8"), CLOSE, rsv=RSV1)),
        (
            "continuation",
            compressed(b"x")[:0]
            + in_fragments(packed(b"x" * 9), 2)[0]
            + frame(b"x", CONTINUATION, rsv=RSV1),
        ),
        (
            "continuation of a plain one",
            frame(b"x", fin=False) + frame(b"x", CONTINUATION, rsv=RSV1),
        ),
        ("continuation of nothing", frame(b"x", CONTINUATION, rsv=RSV1)),
        ("opcode 3", frame(b"x", 3, rsv=RSV1)),
        ("opcode 11", frame(b"x", 11, rsv=RSV1)),
        ("text within text", in_fragments(packed(b"x"), 1)[0] + compressed(b"y")),
    ],
)
def test_reserved_bits(name, data):
    """RFC 7692, 6: RSV1 stands on the first frame of a text or of binary data, and nowhere else."""
    assert fault(data) == 1002


@pytest.mark.parametrize("data", [compressed(b"Hello"), compressed(b"x", BINARY), message(b"")])
def test_nothing_was_agreed_on(data):
    """RFC 6455, 5.2: without the extension RSV1 is a fault like the other reserved bits."""
    assert fault(data, inflate=False) == 1002


BROKEN = {
    "nothing": b"",
    "noise": b"\xff" * 20,
    "text": b'{"type":"ping"}',
    "gzip": b"\x1f\x8b\x08" + packed(b"x"),
    "zlib": zlib.compress(b"x"),
    "reserved block type": b"\6",
    "too far back": bytes.fromhex("4a04426200"),
    "wrong length": b"\0\5\0\5\0Hello",
    "cut off in a block": packed(far_apart(300))[:-40],
    "cut off in a header": packed(far_apart(300))[:20],
    "cut off in a stored block": stored(b"x" * 60)[:30],
    "cut off so that the end fits": stored(b"x" * 6, final=True)[:5],
    "cut off so that the end fits, not final": stored(b"x" * 6)[:5],
    "without an end": packed(b"Hello")[:-1],
    "garbage behind a final block": bytes.fromhex("f348cdc9c90700") + b"x",
    "zeros behind a final block": bytes.fromhex("f348cdc9c90700") + b"\0\0",
    "a block behind a final block": bytes.fromhex("f348cdc9c90700") + packed(b"Hello"),
    "two final blocks": bytes.fromhex("f348cdc9c90700") * 2,
    "the end behind a final block": bytes.fromhex("f348cdc9c90700") + TAIL,
    "the end is not left out": packed(b"Hello") + TAIL[:2],
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken(data):
    """RFC 6455, 7.4.1: data that are not what they say they are: 1007."""
    assert fault(message(data)) == 1007
    assert fault(b"".join(in_fragments(data, 3))) == 1007
    assert fault(frame(data, BINARY, rsv=RSV1)) == 1007


def test_utf8_is_that_of_the_message():
    """RFC 6455, 8.1: it is checked when the message is inflated, and only of a text."""
    euros = "\u20ac".encode() * 30
    assert read(compressed(euros), *in_fragments(packed(euros), 1)) == [(TEXT, euros)] * 2
    for bad in (b"\xff", euros[:-1], b"\xed\xa0\x80"):
        assert fault(compressed(bad)) == 1007
        assert read(compressed(bad, BINARY)) == [(BINARY, bad)]


@pytest.mark.parametrize("size", [1, 10, 4096, MAX])
def test_limit(size):
    """RFC 6455, 10.4: the limit is that of the message, not only of its compressed form."""
    assert read(compressed(b"x" * size), max_size=max(size, 4)) == [(TEXT, b"x" * size)]
    if size > 4:
        assert fault(compressed(b"x" * size), max_size=size - 1) == 1009


def test_limit_of_what_is_compressed():
    """RFC 6455, 10.4: as before, from the header alone, fragments added up."""
    data = stored(b"x" * 100) * 4
    assert fault(message(data), max_size=300) == 1009
    assert fault(b"".join(in_fragments(data, 100)), max_size=300) == 1009
    assert fault(frame(b"", size=2**40, rsv=RSV1), max_size=300) == 1009


def bomb(size: int) -> bytes:
    return compressed(bytes(size))


@pytest.mark.parametrize("size", [MAX + 1, 10_000_000, 60_000_000])
def test_bombs(size):
    """Of a message that inflates to a thousand times its size only what is allowed is inflated."""
    data = bomb(size)
    assert len(data) < MAX
    reader = Reader(MAX, inflate=True)
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ProtocolError) as raised:
            list(reader.feed(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert raised.value.code == 1009
    assert peak < 12 * MAX
    assert time.process_time() - start < 0.1


def test_at_rest_nothing_is_held():
    """A client that has sent compressed messages costs as little as one that has sent none."""
    reader = Reader(MAX, inflate=True)
    tracemalloc.start()
    try:
        for _ in range(20):
            list(reader.feed(compressed(far_apart(9000))))
        assert tracemalloc.get_traced_memory()[0] < 2048
    finally:
        tracemalloc.stop()
    assert reader.idle


@given(st.lists(st.tuples(st.text(max_size=300), st.booleans()), max_size=5), st.data())
def test_any_split_gives_the_same(messages, data):
    """However valid frames are fragmented and cut, the same messages come out, in order."""
    sent, expected = bytearray(), []
    for text, is_compressed in messages:
        payload = text.encode() * data.draw(st.integers(1, 20))
        if is_compressed:
            whole = packed(payload, data.draw(st.sampled_from(EVERY_WINDOW)))
            size = data.draw(st.integers(1, len(whole)))
            for part in in_fragments(whole, size):
                sent += part
                if data.draw(st.booleans()) and len(expected) < 20:
                    sent += frame(b"", PONG)
        else:
            sent += frame(payload)
        expected.append((TEXT, payload))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    pieces = [bytes(sent[a:b]) for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    got = [(opcode, payload) for opcode, payload in read(*pieces) if opcode != PONG]
    assert got == expected


@given(st.binary(max_size=60), st.integers(0, 60), st.sampled_from([b"Hello" * 9, b"", b"\xff"]))
def test_any_bytes_at_all(noise, cut, payload):
    """Noise is inflated as zlib does it, or it is 1007 or 1009; never anything else."""
    data = packed(payload)[:cut] + noise
    seen: list[object] = []
    try:
        seen += Reader(1000, inflate=True).feed(frame(data, BINARY, rsv=RSV1))
    except ProtocolError as e:
        seen.append(e.code)
    if seen not in ([1007], [1009]):
        assert seen == [(BINARY, zlib.decompressobj(-15).decompress(data + TAIL))]
