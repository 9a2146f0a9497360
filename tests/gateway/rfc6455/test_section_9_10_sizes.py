"""Sections 9 and 10 of the conformance suite: large messages, many messages, and the limit."""

from __future__ import annotations

import random

import pytest
from gateway.rfc6455.conversation import (
    asking,
    by,
    by_frame,
    by_octet,
    command,
    fragments,
    naming,
    sized,
    whole,
)
from gateway.wsclient import BINARY, CONTINUATION, PING, PONG, TEXT, frame

KB, MB = 1024, 1024 * 1024
MASK = b"\x9a\x01\xff\x3c"
SIZES = [64, KB, 4 * KB, 16 * KB, 128 * KB]


def large(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return what `frame` does, but faster."""
    body = bytearray(payload)
    for i, octet in enumerate(MASK):
        body[i::4] = payload[i::4].translate(bytes(n ^ octet for n in range(256)))
    return frame(b"", opcode, mask=MASK, size=len(payload)) + body


def test_large_frames_are_frames():
    """What makes them faster makes them the same."""
    payload = random.Random(1).randbytes(70_001)
    assert large(payload, BINARY) == frame(payload, BINARY, mask=MASK)


# 9.1 to 9.6: large.


@pytest.mark.parametrize("size", [64 * KB, 256 * KB, MB])
async def test_text(converse, size):
    """RFC 6455, 5.2 and 5.6: a large text in one frame arrives whole, and another after it."""
    talk = await converse(max_frame_bytes=size, max_subscriptions=10_000)
    payload, names = naming(size, "aß€𝄞")
    assert len(payload) == size
    await talk.say(large(payload), asking("a"))
    await talk.names(names)
    await talk.answers("a")
    await talk.ends_well()


@pytest.mark.parametrize("size", [4 * MB, 16 * MB])
async def test_largest_text(converse, size):
    """RFC 6455, 5.2: up to the largest limit that can be configured."""
    talk = await converse(max_frame_bytes=16 * MB)
    await talk.say(large(sized(size, "large")), asking("a"))
    await talk.answers("large", "a")
    await talk.ends_well()


@pytest.mark.parametrize("size", [64 * KB, 256 * KB, MB, 4 * MB])
async def test_binary(converse, size):
    """RFC 6455, 7.4.1: a large binary message, random octets, is not accepted either."""
    talk = await converse(max_frame_bytes=size)
    await talk.say(large(random.Random(size).randbytes(size), BINARY), asking("late"))
    await talk.fails(1003)


@pytest.mark.parametrize("size", SIZES)
async def test_text_in_fragments(converse, size):
    """RFC 6455, 5.4: in fragments of any size it is the same message."""
    talk = await converse(max_frame_bytes=128 * KB, max_subscriptions=10_000)
    payload, names = naming(128 * KB)
    await talk.say(*fragments(payload, size), asking("a"))
    await talk.names(names)
    await talk.answers("a")
    await talk.ends_well()


@pytest.mark.parametrize("size", SIZES)
async def test_binary_in_fragments(converse, size):
    """RFC 6455, 5.4 and 7.4.1: likewise; up to there pings are answered."""
    talk = await converse(max_frame_bytes=128 * KB)
    payload = random.Random(size).randbytes(128 * KB)
    *most, last = fragments(payload, size, BINARY)
    await talk.say(*most)
    await talk.say(frame(b"p", PING))
    await talk.pongs(b"p")
    await talk.say(last, asking("late"))
    await talk.fails(1003)


@pytest.mark.parametrize("size", [64, 512, 2 * KB])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
async def test_in_segments(talk, size, opcode):
    """RFC 6455, 5.4: neither does it matter in what pieces a frame is received."""
    payload, names = naming(64 * KB)
    await talk.say(large(payload, opcode), asking("a"), chop=by(size))
    if opcode == TEXT:
        await talk.names(names)
        await talk.answers("a")
        await talk.ends_well()
    else:
        await talk.fails(1003)


# 9.7 and 9.8: many.


@pytest.mark.parametrize("size", [0, 32, 64, 256, KB, 4 * KB])
async def test_many(talk, size):
    """RFC 6455, 5.6: each of many messages has its own answer, one after the other."""
    for i in range(100):
        if size:
            await talk.say(large(sized(size, str(i))))
            await talk.answers(str(i))
        else:
            await talk.say(frame(b""))
            await talk.refuses("bad_json")
    await talk.ends_well()


@pytest.mark.parametrize("chop", [whole, by(7), by(KB)], ids=lambda chop: chop.__name__)
async def test_many_at_once(talk, chop):
    """RFC 6455, 5.6: likewise where they come together, in the order in which they came."""
    ids = [str(i) for i in range(200)]
    await talk.say(*map(asking, ids), chop=chop)
    await talk.answers(*ids)
    await talk.ends_well()


# The limit.

LIMITS = [KB, 64 * KB]

OVER = {
    "text": lambda limit: [large(sized(limit + 1))],
    "binary": lambda limit: [large(bytes(limit + 1), BINARY)],
    "header": lambda limit: [frame(b"", size=limit + 1)],
    "first fragment": lambda limit: [frame(b"", size=limit + 1, fin=False)],
    "two fragments": lambda limit: fragments(bytes(limit + 1), limit),
    "many fragments": lambda limit: fragments(bytes(limit + 1), limit // 16),
    "fragments of binary": lambda limit: fragments(bytes(limit + 1), limit // 3, BINARY),
    "fragments without an end": lambda limit: [
        *fragments(bytes(limit + 1), limit // 2)[:-1],
        frame(b"x", CONTINUATION, fin=False),
    ],
    "header of a fragment": lambda limit: [
        frame(b"x", fin=False),
        frame(b"", CONTINUATION, size=limit),
    ],
}


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("messages", OVER.values(), ids=OVER)
async def test_over_the_limit(converse, limit, messages):
    """RFC 6455, 7.4.1 and 10.4: 1009 as soon as the length is known, all fragments together."""
    talk = await converse(max_frame_bytes=limit)
    await talk.say(asking("a"), *messages(limit))
    await talk.answers("a")
    await talk.fails(1009)


@pytest.mark.parametrize("limit", LIMITS)
async def test_at_the_limit(converse, limit):
    """RFC 6455, 10.4: what is as large as allowed passes; control frames between do not count."""
    talk = await converse(max_frame_bytes=limit)
    text = sized(limit, "large")
    await talk.say(large(text), large(text), asking("a"))
    await talk.answers("large", "large", "a")
    parts = fragments(text, limit // 3)
    pong = frame(b"x" * 125, PONG)
    await talk.say(*(part + pong * 20 for part in parts), frame(b"", PONG), asking("a"))
    await talk.answers("large", "a")
    await talk.say(*fragments(text, limit - 1), asking("a"))
    await talk.answers("large", "a")
    await talk.ends_well()


@pytest.mark.parametrize("size", [2**16, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
async def test_enormous(converse, size):
    """RFC 6455, 5.2: what is only announced costs nothing; no length is taken for another."""
    talk = await converse(max_frame_bytes=65_535)
    for opcode in (TEXT, BINARY, CONTINUATION):
        start = [frame(b"x", fin=False)] if opcode == CONTINUATION else []
        await talk.say(*start, frame(b"", opcode, size=size), chop=by_octet)
        await talk.fails(1009)
        await talk.connect(opcode)
    await talk.ends_well()


# 10: fragments that nobody has chosen.


@pytest.mark.parametrize("size", [1_300, 1_301, 125, 126, 127, 65_535])
async def test_automatic_fragments(talk, size):
    """RFC 6455, 5.4: a message of 65,536 octets, in fragments as a library makes them."""
    payload, names = naming(65_536)
    frames = fragments(payload, size)
    for chop in (whole, by_frame, by(1_448)):
        await talk.say(*frames, chop=chop)
        await talk.names(names)
    await talk.ends_well()


@pytest.mark.parametrize("seed", range(5))
async def test_any_fragments_in_any_segments(talk, seed):
    """RFC 6455, 5.4: messages, fragments, pongs and segments in whatever way they are cut."""
    chance = random.Random(seed)
    frames, ids = [], []
    for i in range(30):
        ids.append(f"{i}-€𝄞" * chance.randint(0, 15))
        text = command(ids[-1])
        for part in fragments(text, chance.choice([1, 2, 3, 10, 100, len(text)])):
            pong = frame(chance.randbytes(chance.randint(0, 125)), PONG)
            frames += [part, pong] if chance.random() < 0.2 else [part]
    data = b"".join(frames)
    while data:
        segment, data = data[: (size := chance.randint(1, 200))], data[size:]
        await talk.say(segment)
    await talk.answers(*ids)
    await talk.ends_well()
