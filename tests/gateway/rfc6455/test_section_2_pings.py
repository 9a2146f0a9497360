"""Section 2 of the conformance suite: pings and pongs."""

from __future__ import annotations

import pytest
from gateway.rfc6455.conversation import CHOPS, asking, by_frame, by_octet, whole
from gateway.wsclient import PING, PONG, frame

PAYLOADS = {
    "empty": b"",
    "text": b"Hello",
    "no UTF-8": b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
    "125, no UTF-8": b"\xfe" * 125,
    "125, all different": bytes(range(100, 225)),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_ping(talk, payload):
    """RFC 6455, 5.5.2 and 5.5.3: the pong has exactly the payload of the ping."""
    for chop in CHOPS:
        await talk.say(frame(payload, PING), chop=chop)
        await talk.pongs(payload)
        await talk.say(asking("a"), chop=chop)
        await talk.answers("a")
    await talk.ends_well()


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("size", [126, 127, 65_535, 65_536])
async def test_too_long(talk, size, opcode):
    """RFC 6455, 5.5: a control frame of more than 125 octets closes the connection."""
    for chop in (whole, by_frame):
        await talk.say(asking("a"), frame(b"\xfe" * size, opcode), asking("b"), chop=chop)
        await talk.answers("a")
        await talk.fails(1002)
        await talk.connect(chop)
    await talk.ends_well()


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_too_long_is_seen_in_the_second_octet(talk, opcode):
    """RFC 6455, 5.5: it is not waited for what such a control frame has announced."""
    await talk.say(frame(b"", opcode, size=126)[:2], chop=by_octet)
    await talk.fails(1002)


@pytest.mark.parametrize("chop", [by_frame, by_octet], ids=lambda chop: chop.__name__)
async def test_ten_pings(talk, chop):
    """RFC 6455, 5.5.3: pings that come one by one are all answered, in order."""
    payloads = [b"payload-%d" % i for i in range(10)]
    await talk.say(*(frame(payload, PING) for payload in payloads), chop=chop)
    await talk.pongs(*payloads)
    await talk.ends_well()


async def test_ten_pings_at_once(talk):
    """RFC 6455, 5.5.3: of those that come in one piece the last is answered, as it allows."""
    await talk.say(*(frame(b"payload-%d" % i, PING) for i in range(10)))
    await talk.pongs(b"payload-9")
    await talk.ends_well()


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_unsolicited_pong(talk, payload):
    """RFC 6455, 5.5.3: nobody has asked for it, and nothing is answered."""
    pong = frame(payload, PONG)
    for chop in CHOPS:
        await talk.say(pong, pong, frame(b"p", PING), pong, chop=chop)
        await talk.pongs(b"p")
        await talk.say(pong, asking("a"), pong, chop=chop)
        await talk.answers("a")
    await talk.ends_well()
