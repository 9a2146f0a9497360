"""Compressed frames: each by itself, with a window of the size that was agreed on."""

from __future__ import annotations

import random
import zlib

import pytest
from gateway.rfc7692.deflating import EVERY_WINDOW, TAIL, far_apart, unpacked
from hypothesis import given
from hypothesis import strategies as st
from isal import isal_zlib

from aggregator import wire
from aggregator.deflate import deflated

every_window = pytest.mark.parametrize("bits", EVERY_WINDOW)

UPDATE = (
    b'{"type":"price_update","connector_id":"bitcoinprice","exchange":"okx","instrument":"BTC/USDT"'
    b',"price":30236,"timestamp":"2022-05-13T16:27:04.956Z","data":{"instType":"SPOT","instId":'
    b'"BTC-USDT","last":"30236","lastSz":"0.0002","askPx":"30228.7","askSz":"1.55896972","bidPx":'
    b'"30228.6","bidSz":"0.23393","open24h":"29700.4","high24h":"31073","low24h":"28020.3","sodUtc'
    b'0":"29028.8","sodUtc8":"30337.7","volCcy24h":"525802090.62716611","vol24h":"17602.13085371",'
    b'"ts":"1652459224956"},"channel":"bitcoinprice","seq":7,"exchange_us":1652459224956000,'
    b'"received_us":1652459225001002,"published_us":1652459225001159,"bid":30228.6,"ask":30228.7,'
    b'"volume_24h":17602.13085371}'
)


def message_of(frame: bytes, bits: int) -> tuple[int, bytes]:
    """Return opcode and payload of a frame, whether it is compressed or not."""
    assert frame[0] & 0xB0 == 0x80, "final, and no other reserved bit"
    assert frame == wire.frame(wire.payload_of(frame), frame[0] & 0x4F), "the shortest length"
    payload = wire.payload_of(frame)
    return frame[0] & 0x0F, unpacked(payload, bits) if frame[0] & 0x40 else payload


def test_inflating_here_is_strict():
    """The tests' own inflater sees it when a window is used that is larger than agreed."""
    unique = random.Random(1).randbytes(600)
    one = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = one.compress(unique + unique[:50]) + one.flush(zlib.Z_SYNC_FLUSH)
    assert unpacked(data.removesuffix(TAIL), 10) == unique + unique[:50]
    with pytest.raises(zlib.error, match="too far back"):
        unpacked(data.removesuffix(TAIL), 9)


@every_window
def test_price_update(bits):
    """RFC 7692, 6 and 7.2.1: a message of the usual size is smaller by a third, with RSV1 set."""
    frame = deflated(wire.frame(UPDATE), bits)
    assert frame[0] == 0xC1
    assert len(frame) < 0.67 * len(UPDATE)
    assert not frame.endswith(TAIL)
    assert message_of(frame, bits) == (wire.TEXT, UPDATE)


@every_window
@pytest.mark.parametrize("size", [300, 1000, 5000, 40_000, 100_000])
def test_windows(bits, size):
    """RFC 7692, 7.1.2.1: nothing refers farther back than the window that was agreed on reaches."""
    payload = far_apart(size)
    frame = deflated(wire.frame(payload), bits)
    assert frame[0] == 0xC1
    assert message_of(frame, bits) == (wire.TEXT, payload)


def test_windows_are_used():
    """A larger window finds more; a message that fits into a smaller one is the same with both."""
    sizes = [len(deflated(wire.frame(far_apart(40_000)), bits)) for bits in EVERY_WINDOW]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)
    assert len({deflated(wire.frame(UPDATE), bits) for bits in range(10, 16)}) == 1


@every_window
def test_independent(bits):
    """RFC 7692, 7.1.1.1: what was compressed before changes nothing, not even by one octet."""
    frame = wire.frame(UPDATE)
    alone = deflated(frame, bits)
    for before in (UPDATE, b"", far_apart(70_000), random.Random(2).randbytes(3000), b"x" * 99):
        deflated(wire.frame(before), bits)
        assert deflated(frame, bits) == alone


@pytest.mark.parametrize("opcode", [wire.CLOSE, wire.PING, wire.PONG])
def test_control_frames(opcode):
    """RFC 7692, 6.1: control frames are never compressed."""
    frame = wire.frame(b"x" * 125, opcode)
    assert deflated(frame, 15) is frame


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", b"{}", b'{"type":"pong"}', random.Random(3).randbytes(126), bytes(range(256))],
    ids=len,
)
def test_nothing_gained(payload):
    """Where it would not be smaller the message stays as it is: the same frame."""
    frame = wire.frame(payload)
    assert deflated(frame, 15) is frame


def test_not_final():
    """RFC 7692, 7.2.3.4: there is no final block, though one is allowed: clients choke on them."""
    one = zlib.decompressobj(-15)
    one.decompress(wire.payload_of(deflated(wire.frame(UPDATE), 15)) + TAIL)
    assert not one.eof
    assert not one.unused_data


@pytest.mark.parametrize("size", [100, 130, 200, 70_000, 200_000])
def test_every_form_of_the_length(size):
    """RFC 6455, 5.2: the length is that of the compressed payload, in its shortest form."""
    payload = random.Random(size).randbytes(size // 2).hex().encode()
    frame = deflated(wire.frame(payload), 15)
    assert frame[0] & 0x40
    assert message_of(frame, 15) == (wire.TEXT, payload)


def test_binary():
    """RFC 7692, 6.1: the opcode is that of the message."""
    frame = deflated(wire.frame(UPDATE, wire.BINARY), 15)
    assert message_of(frame, 15) == (wire.BINARY, UPDATE)


def test_a_window_of_256_bytes_can_not_be_had():
    """Neither library compresses raw DEFLATE with 8 bits, so `negotiate` declines them."""
    with pytest.raises(ValueError, match="Invalid initialization option"):
        zlib.compressobj(1, zlib.DEFLATED, -8)
    with pytest.raises((ValueError, isal_zlib.error), match="Invalid wbits"):
        isal_zlib.compressobj(1, isal_zlib.DEFLATED, -8)


texts = st.lists(
    st.tuples(st.sampled_from([UPDATE, b'"price":', b"0", b"\xff\0"]), st.integers(1, 60))
    | st.tuples(st.binary(max_size=700), st.integers(1, 3)),
    max_size=5,
).map(lambda parts: b"".join(part * times for part, times in parts))


@given(st.lists(texts, min_size=1, max_size=3), st.integers(9, 15))
def test_any_messages(payloads, bits):
    """RFC 7692, 7.2: whatever comes in whatever order, each inflates alone, and none is larger."""
    for payload in payloads:
        whole = wire.frame(payload)
        frame = deflated(whole, bits)
        assert frame is whole or len(frame) < len(whole)
        if len(payload) < 3000:
            assert message_of(frame, bits) == (wire.TEXT, payload)
        elif frame is not whole:
            data = wire.payload_of(frame) + TAIL
            assert zlib.decompressobj(-bits).decompress(data) == payload
