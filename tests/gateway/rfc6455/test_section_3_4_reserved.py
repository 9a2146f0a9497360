"""Sections 3 and 4 of the conformance suite: reserved bits and reserved opcodes."""

from __future__ import annotations

import pytest
from gateway.rfc6455.conversation import CHOPS, asking, command
from gateway.wsclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

OPCODES = {
    "text": (TEXT, b"x"),
    "binary": (BINARY, b"x"),
    "continuation": (CONTINUATION, b"x"),
    "close": (CLOSE, b"\x03\xe8"),
    "ping": (PING, b"x"),
    "pong": (PONG, b"x"),
}


@pytest.mark.parametrize("chop", CHOPS, ids=lambda chop: chop.__name__)
@pytest.mark.parametrize(("opcode", "payload"), OPCODES.values(), ids=OPCODES)
async def test_reserved_bits(talk, opcode, payload, chop):
    """
    RFC 6455, 5.2: without an extension any reserved bit closes the connection.

    What is before is answered, what is behind is not; a close with such a bit is none.
    """
    start = [frame(b"x", fin=False)] if opcode == CONTINUATION else []
    for rsv in range(1, 8):
        bad = frame(payload, opcode, rsv=rsv)
        await talk.say(asking("a"), *start, bad, frame(b"p", PING), asking("b"), chop=chop)
        await talk.answers("a")
        await talk.fails(1002)
        await talk.connect(rsv)
    await talk.ends_well()


@pytest.mark.parametrize("rsv", range(1, 8))
async def test_reserved_bits_of_a_fragment(talk, rsv):
    """RFC 6455, 5.2: they may be set neither in the first nor in any other frame of a message."""
    text = command("b")
    for bad in range(3):
        parts = [
            frame(text[:5], fin=False, rsv=rsv if bad == 0 else 0),
            frame(text[5:9], CONTINUATION, fin=False, rsv=rsv if bad == 1 else 0),
            frame(text[9:], CONTINUATION, rsv=rsv if bad == 2 else 0),
        ]
        for chop in CHOPS:
            await talk.say(asking("a"), *parts, chop=chop)
            await talk.answers("a")
            await talk.fails(1002)
            await talk.connect((bad, chop))
    await talk.ends_well()


@pytest.mark.parametrize("opcode", [*range(3, 8), *range(11, 16)])
async def test_reserved_opcodes(talk, opcode):
    """RFC 6455, 5.2: an opcode that means nothing closes the connection, wherever it stands."""
    kinds = [
        frame(b"", opcode),
        frame(command("c"), opcode),
        frame(b"", opcode, fin=False),
        frame(command("c")[:5], fin=False) + frame(command("c")[5:], opcode),
    ]
    for chop in CHOPS:
        for bad in kinds:
            await talk.say(asking("a"), bad, frame(b"p", PING), asking("b"), chop=chop)
            await talk.answers("a")
            await talk.fails(1002)
            await talk.connect((chop, bad))
    await talk.ends_well()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(b"x", rsv=4), 1002),
        (frame(b"", 3), 1002),
        (frame(b"", 11), 1002),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"x", CONTINUATION), 1002),
        (frame(b"\xff"), 1007),
        (frame(b"", BINARY), 1003),
        (frame(b"", size=65_537), 1009),
    ],
    ids=["bit", "opcode", "control opcode", "ping", "continuation", "text", "binary", "size"],
)
async def test_fault_right_behind_the_handshake(talk, bad, code):
    """RFC 6455, 7.1.7: the connection has just been made, and fails in the same way."""
    await talk.ends_well()
    await talk.connect(early=asking("a") + bad + asking("b"))
    await talk.answers("a")
    await talk.fails(code)
