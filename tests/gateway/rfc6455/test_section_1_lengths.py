"""Section 1 of the conformance suite: messages of every form of the length, cut anyhow."""

from __future__ import annotations

import os

import pytest
from gateway.rfc6455.conversation import (
    asking,
    by,
    by_octet,
    command,
    naming,
    whole,
)
from gateway.wsclient import BINARY, frame

SMALL = [125, 126, 127, 128]
LARGE = [65_535, 65_536]
CUTS = [
    *((size, chop) for size in (0, *SMALL) for chop in (whole, by_octet)),
    *((size, chop) for size in LARGE for chop in (whole, by(997), by(16_385))),
]
every_cut = pytest.mark.parametrize(
    ("size", "chop"), CUTS, ids=lambda v: v if isinstance(v, int) else v.__name__
)


def of_size(size: int) -> tuple[bytes, str]:
    """Return a command that has no octet which its answer does not show."""
    id_ = "".join(chr(ord("a") + i % 26) for i in range(size - len(command(""))))
    assert len(command(id_)) == size
    return command(id_), id_


@every_cut
async def test_text(talk, size, chop):
    """RFC 6455, 5.2: the payload arrives whole, in each of the three forms of the length."""
    for _ in range(2):
        if size == 0:
            await talk.say(frame(b""), chop=chop)
            await talk.refuses("bad_json")
        elif size in SMALL:
            payload, id_ = of_size(size)
            await talk.say(frame(payload), chop=chop)
            await talk.answers(id_)
        else:
            payload, names = naming(size)
            assert len(payload) == size
            await talk.say(frame(payload), chop=chop)
            await talk.names(names)
    await talk.ends_well()


@every_cut
async def test_binary(talk, size, chop):
    """RFC 6455, 5.6 and 7.4.1: a binary message is understood as one, and not accepted."""
    await talk.say(asking("a"), frame(bytes(size), BINARY), asking("b"), chop=chop)
    await talk.answers("a")
    await talk.fails(1003)


@pytest.mark.parametrize(
    "mask",
    [bytes(4), b"\xff" * 4, b"\0\0\0\x80", b"\x01\0\0\0", b'{"ty', os.urandom(4)],
    ids=["zero", "ones", "last", "first", "like the text", "random"],
)
async def test_masks(talk, mask):
    """RFC 6455, 5.3: whatever the mask is, it is taken off; each frame has its own."""
    for size in SMALL:
        payload, id_ = of_size(size)
        await talk.say(frame(payload, mask=mask), asking("b"), chop=by(3))
        await talk.answers(id_, "b")
    await talk.ends_well()


@pytest.mark.parametrize("size", [0, 125, 126, 65_536])
async def test_unmasked(talk, size):
    """RFC 6455, 5.1: a client's frame without a mask closes the connection."""
    await talk.say(asking("a"), frame(bytes(size), mask=None), asking("b"))
    await talk.answers("a")
    await talk.fails(1002)


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 40, 10_000])
async def test_right_behind_the_handshake(talk, cut):
    """RFC 6455, 4.2.2: what comes in the same segment as the handshake, or half, is not lost."""
    await talk.ends_well()
    small, (large, names) = asking("a"), naming(10_000)
    data = small + frame(large) + asking("b")
    await talk.connect(early=data[:cut])
    await talk.say(data[cut:])
    await talk.answers("a")
    await talk.names(names)
    await talk.answers("b")
    await talk.ends_well()
