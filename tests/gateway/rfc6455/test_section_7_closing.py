"""Section 7 of the conformance suite: the closing handshake."""

from __future__ import annotations

import contextlib

import pytest
from gateway.rfc6455.conversation import (
    CHOPS,
    asking,
    by_frame,
    by_octet,
    command,
    naming,
    sized,
    whole,
)
from gateway.wsclient import BINARY, CLOSE, CONTINUATION, PING, PONG, frame

from aggregator.gateway.frames import ProtocolError, Reader

NORMAL = b"\x03\xe8"
BYE = frame(NORMAL, CLOSE)

every_chop = pytest.mark.parametrize("chop", CHOPS, ids=lambda chop: chop.__name__)

# The client closes first.


@every_chop
async def test_close(talk, chop):
    """RFC 6455, 5.5.1 and 7.1.1: the close is answered with one, and the server ends TCP."""
    await talk.say(BYE, chop=chop)
    await talk.closes(NORMAL)


@every_chop
async def test_message_before(talk, chop):
    """RFC 6455, 5.5.1: what was sent before the close is answered before it."""
    await talk.say(asking("a"), asking("b"), BYE, chop=chop)
    await talk.answers("a", "b")
    await talk.closes(NORMAL)


@pytest.mark.parametrize("chop", [by_frame, by_octet], ids=lambda chop: chop.__name__)
async def test_ping_before(talk, chop):
    """RFC 6455, 5.5.2: a ping that was received before the close is answered before it."""
    await talk.say(frame(b"p", PING), BYE, chop=chop)
    await talk.pongs(b"p")
    await talk.closes(NORMAL)


BEHIND = {
    "close": [BYE],
    "another close": [frame(b"\x03\xe9again", CLOSE)],
    "ping": [frame(b"p", PING)],
    "pong": [frame(b"p", PONG)],
    "message": [asking("late")],
    "binary": [frame(b"x", BINARY)],
    "part of a frame": [asking("late")[:9]],
    "fault": [frame(b"x", 3)],
    "no UTF-8": [frame(b"\xff")],
    "no frames": [b"\r\n" * 20],
    "much": [asking("late")] * 200,
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
async def test_data_behind(talk, behind):
    """RFC 6455, 1.4 and 5.5.1: nothing that follows a close is answered, done or held against."""
    for chop in CHOPS:
        await talk.say(BYE, *behind, chop=chop)
        await talk.closes(NORMAL)
        await talk.connect(chop)
    await talk.ends_well()


@every_chop
async def test_between_fragments(talk, chop):
    """RFC 6455, 5.4: a close may come within a message, which then is never complete."""
    text = command("never")
    await talk.say(frame(text[:7], fin=False), BYE, frame(text[7:], CONTINUATION), chop=chop)
    await talk.closes(NORMAL)


@pytest.mark.parametrize("behind", [b"", frame(b"p", PING)], ids=["nothing", "ping"])
async def test_behind_a_large_message(converse, behind):
    """RFC 6455, 5.5.1: a large message is still answered, and then the close."""
    talk = await converse(max_frame_bytes=262_144)
    await talk.say(frame(sized(262_144, "large")), BYE, behind)
    await talk.answers("large")
    await talk.closes(NORMAL)


async def test_behind_a_large_answer(talk):
    """RFC 6455, 5.5.1 and 7.1.1: no frame that was begun is cut short by the close."""
    text, names = naming(65_536)
    await talk.say(frame(text))
    await talk.say(BYE)
    await talk.names(names)
    await talk.closes(NORMAL)


async def test_right_behind_the_handshake(talk):
    """RFC 6455, 7.1.2: a connection may be closed as soon as it is there."""
    for early in (BYE, asking("a") + BYE, BYE + asking("a"), BYE + BYE):
        await talk.ends_well()
        await talk.connect(early, early=early)
        if early.startswith(asking("a")):
            await talk.answers("a")
        await talk.closes(NORMAL)
        await talk.connect()
    await talk.ends_well()


async def test_subscriber(talk):
    """RFC 6455, 5.5.1: nothing is published any more to the one whose close was answered."""
    await talk.client.subscribe("prices")
    await talk.say(BYE)
    await talk.closes(NORMAL)


# The server closes first.


async def test_server_first(talk):
    """RFC 6455, 5.5.1 and 7.1.1: it says nothing more, waits for the answer, and ends TCP."""
    talk.session.close(1001, "going")
    talk.session.close(4008, "again")
    talk.session.ping()
    assert await talk.client.receive_frame() == (CLOSE, b"\x03\xe9going")
    assert not talk.session.ended
    await talk.say(frame(b"\x03\xe9", CLOSE))
    await talk.is_over()


async def test_server_first_and_data_before_the_answer(talk):
    """RFC 6455, 5.5.1: the client may not have seen it yet: what it sends meets silence."""
    talk.session.close(1001, "going")
    await talk.say(asking("late"), frame(b"p", PING), frame(b"p", PONG), frame(b"x", BINARY))
    assert await talk.client.receive_frame() == (CLOSE, b"\x03\xe9going")
    assert not talk.session.ended
    await talk.say(BYE)
    await talk.is_over()


async def test_both_at_once(talk):
    """RFC 6455, 7.1.2: closes that cross are each other's answer; there is one from each side."""
    talk.session.close(1001, "going")
    await talk.client.write(BYE)  # before it has read what the server said
    assert await talk.client.receive_frame() == (CLOSE, b"\x03\xe9going")
    await talk.is_over()


async def test_server_closes_behind_the_client(talk):
    """RFC 6455, 5.5.1: where a close was answered the server does not send another."""
    await talk.say(BYE)
    talk.session.close(1001, "going")
    talk.session.ping()
    await talk.closes(NORMAL)


# What a close contains.

VALID_CODES = [*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 1, 999, *range(1004, 1007), 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65_535]


@every_chop
async def test_no_code(talk, chop):
    """RFC 6455, 5.5.1: a close without a code is answered with one without a code."""
    await talk.say(frame(b"", CLOSE), chop=chop)
    await talk.closes(b"")


@pytest.mark.parametrize("code", VALID_CODES)
async def test_valid_code(talk, code):
    """RFC 6455, 5.5.1 and 7.4: a code that may be sent is sent back, whatever the reason is."""
    for reason in (b"", b"a reason", b"x" * 123):
        await talk.say(frame(code.to_bytes(2) + reason, CLOSE))
        await talk.closes(code.to_bytes(2))
        await talk.connect(reason)
    await talk.ends_well()


@pytest.mark.parametrize("code", INVALID_CODES)
async def test_invalid_code(talk, code):
    """RFC 6455, 7.4: a code that may not be sent, or that nobody has given out, is a fault."""
    for reason in (b"", b"a reason"):
        await talk.say(frame(code.to_bytes(2) + reason, CLOSE))
        await talk.fails(1002)
        await talk.connect(reason)
    await talk.ends_well()


def test_every_code():
    """RFC 6455, 7.4: of all that two octets can be these are accepted, and no other."""
    accepted = []
    for code in range(65_536):
        payload = code.to_bytes(2)
        with contextlib.suppress(ProtocolError):
            accepted += Reader(1024).feed(frame(payload, CLOSE))
    codes = [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]
    assert accepted == [(CLOSE, code.to_bytes(2)) for code in codes]


@every_chop
@pytest.mark.parametrize("payload", [b"\x03", b"\x00", NORMAL + b"x" * 124], ids=["1", "0", "126"])
async def test_wrong_size(talk, payload, chop):
    """RFC 6455, 5.5 and 5.5.1: a code has two octets, and a control frame at most 125."""
    await talk.say(frame(payload, CLOSE), asking("late"), chop=chop)
    await talk.fails(1002)


REASONS = {
    "all lengths": "aß€𝄞",
    "boundaries": "\0\x7f\x80\u07ff\u0800\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff",
    "123 octets": "€" * 41,
}
BAD_REASONS = {
    "stray": b"\x80",
    "never": b"abc\xff",
    "cut off": "€".encode()[:2],
    "cut off at the limit": b"x" * 121 + "€".encode()[:2],
    "longer than needed": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "in the middle": "κόσμε".encode() + b"\xed\xa0\x80edited",
}


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
async def test_reason(talk, reason):
    """RFC 6455, 5.5.1: any UTF-8 will do; it need not be sent back."""
    for chop in (whole, by_octet):
        await talk.say(frame(NORMAL + reason.encode(), CLOSE), chop=chop)
        await talk.closes(NORMAL)
        await talk.connect(chop)
    await talk.ends_well()


@pytest.mark.parametrize("reason", BAD_REASONS.values(), ids=BAD_REASONS)
async def test_bad_reason(talk, reason):
    """RFC 6455, 5.5.1 and 8.1: a reason that is no UTF-8 is a fault of the data."""
    for chop in (whole, by_octet):
        await talk.say(frame(NORMAL + reason, CLOSE), asking("late"), chop=chop)
        await talk.fails(1007)
        await talk.connect(chop)
    await talk.ends_well()


async def test_bad_reason_of_a_bad_code(talk):
    """RFC 6455, 7.4: where both are wrong, the code is what counts."""
    await talk.say(frame((1005).to_bytes(2) + b"\xff", CLOSE))
    await talk.fails(1002)
