"""Section 5 of the conformance suite: messages in fragments."""

from __future__ import annotations

import pytest
from gateway.rfc6455.conversation import CHOPS, asking, by_frame, by_octet, command, fragments
from gateway.wsclient import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

TWO = fragments(command("two"), 15)
assert len(TWO) == 2
START, END = TWO
GO_ON = frame(b"", CONTINUATION, fin=False)
CONTINUED = frame(b"non-continuation", CONTINUATION)
CONTINUED_OPEN = frame(b"non-continuation", CONTINUATION, fin=False)

in_segments = pytest.mark.parametrize("chop", [by_frame, by_octet], ids=lambda chop: chop.__name__)

MESSAGES = {
    "two": TWO,
    "single octets": fragments(command("two"), 1),
    "empty at the beginning": [frame(b"", fin=False), frame(command("two"), CONTINUATION)],
    "empty at the end": [frame(command("two"), fin=False), frame(b"", CONTINUATION)],
    "empty between": [START, GO_ON, GO_ON, END],
    "pong between": [START, frame(b"x" * 125, PONG), END],
    "pongs everywhere": [frame(b"", PONG), START, frame(b"", PONG), GO_ON, frame(b"", PONG), END],
}


@pytest.mark.parametrize("frames", MESSAGES.values(), ids=MESSAGES)
async def test_message(talk, frames):
    """RFC 6455, 5.4: fragments, empty ones as well, are one message, and the next is another."""
    for chop in CHOPS:
        await talk.say(*frames, asking("a"), *frames, chop=chop)
        await talk.answers("two", "a", "two")
    await talk.ends_well()


@in_segments
async def test_ping_between(talk, chop):
    """RFC 6455, 5.4: it is answered at once, before the message is complete."""
    await talk.say(START, frame(b"p", PING), chop=chop)
    await talk.pongs(b"p")
    await talk.say(END, chop=chop)
    await talk.answers("two")
    await talk.say(START, frame(b"p", PING), END, chop=chop)
    await talk.pongs(b"p")
    await talk.answers("two")
    await talk.ends_well()


async def test_ping_between_in_one_piece(talk):
    """RFC 6455, 5.4: both are answered; of what came in one piece either may be first."""
    await talk.say(START, frame(b"p", PING), END)
    await talk.unordered(b"p", "two")
    await talk.ends_well()


@in_segments
async def test_pings_between_many_fragments(talk, chop):
    """RFC 6455, 5.4 and 5.5.2: each ping is answered before what follows it is sent."""
    parts = fragments(command("many"), 6)
    assert len(parts) >= 5
    for i, part in enumerate(parts[:-1]):
        await talk.say(part, frame(b"ping %d" % i, PING), chop=chop)
        await talk.pongs(b"ping %d" % i)
    await talk.say(parts[-1], chop=chop)
    await talk.answers("many")
    await talk.ends_well()


FAULTS = {
    # Control frames are not fragmented.
    "ping in fragments": ([frame(b"a", PING, fin=False), frame(b"b", CONTINUATION)], []),
    "pong in fragments": ([frame(b"a", PONG, fin=False), frame(b"b", CONTINUATION)], []),
    "close in fragments": ([frame(b"\x03", CLOSE, fin=False), frame(b"\xe8", CONTINUATION)], []),
    "empty ping, not final": ([frame(b"", PING, fin=False)], []),
    "ping in fragments within a message": ([START, frame(b"a", PING, fin=False), END], []),
    # There is nothing to continue.
    "continuation": ([CONTINUED], []),
    "open continuation": ([CONTINUED_OPEN], []),
    "empty continuation": ([frame(b"", CONTINUATION)], []),
    "continuation of a whole message": ([asking("a"), CONTINUED], ["a"]),
    "continuation of a control frame": ([frame(b"", PONG), CONTINUED], []),
    "continuation behind the last fragment": ([*TWO, CONTINUED], ["two"]),
    "open continuation behind the last fragment": ([*TWO, CONTINUED_OPEN], ["two"]),
    "open continuation before fragments": ([CONTINUED_OPEN, *TWO] * 2, []),
    "continuation before fragments": ([CONTINUED, *TWO] * 2, []),
    # Nothing else may start within a message.
    "text twice": ([frame(b"a", fin=False), frame(b"b")], []),
    "text twice, open": ([frame(b"a", fin=False), frame(b"b", fin=False)], []),
    "text in text of no octets": ([frame(b"", fin=False), asking("a")], []),
    "binary in text": ([START, frame(b"", BINARY), END], []),
    "text in binary": ([frame(b"a", BINARY, fin=False), asking("a")], []),
    "text behind a ping in text": ([START, frame(b"", PONG), asking("a"), END], []),
    "text behind a continuation": ([START, GO_ON, asking("a"), END], []),
}


@pytest.mark.parametrize(("frames", "ids"), FAULTS.values(), ids=FAULTS)
async def test_fault(talk, frames, ids):
    """RFC 6455, 5.4 and 5.5: it closes the connection; what was whole before it is answered."""
    for chop in CHOPS:
        await talk.say(*frames, asking("later"), frame(b"p", PING), chop=chop)
        await talk.answers(*ids)
        await talk.fails(1002)
        await talk.connect(chop)
    await talk.ends_well()


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_binary(talk, size):
    """RFC 6455, 5.4: the type is that of the first fragment, here one that is not accepted."""
    for chop in CHOPS:
        frames = fragments(command("b"), size, BINARY)
        await talk.say(asking("a"), *frames, asking("c"), chop=chop)
        await talk.answers("a")
        await talk.fails(1003)
        await talk.connect(chop)
    await talk.ends_well()


async def test_type_is_not_that_of_the_message_before(talk):
    """RFC 6455, 5.4: a message in fragments leaves nothing behind for the next one."""
    await talk.say(*TWO, asking("a"), *fragments(command("c"), 4, TEXT))
    await talk.answers("two", "a", "c")
    await talk.say(*fragments(b"c", 1, BINARY))
    await talk.fails(1003)
