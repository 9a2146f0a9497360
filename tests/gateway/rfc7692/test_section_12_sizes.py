"""Section 12 of the conformance suite: messages of every size, compressed, in both directions."""

from __future__ import annotations

import json
import os

import pytest
from gateway.rfc6455.conversation import asking, by, by_frame, by_octet, naming, sized, whole
from gateway.rfc7692.deflating import EVERY_WINDOW, compressed, far_apart, in_fragments, packed
from gateway.wsclient import BINARY, PING, PONG, frame

KB = 1024
SMALL = [16, 64, 256]
LARGE = [KB, 4 * KB, 8 * KB, 16 * KB, 32 * KB, 64 * KB, 128 * KB]
FRAGMENTED = [
    *((size, 256) for size in (8 * KB, 16 * KB, 32 * KB, 64 * KB, 128 * KB)),
    *((128 * KB, fragment) for fragment in (KB, 4 * KB, 32 * KB)),
]
WIDE = {"max_frame_bytes": 128 * KB, "max_subscriptions": 10_000}

# In.


@pytest.mark.parametrize("bits", EVERY_WINDOW)
@pytest.mark.parametrize("size", SMALL)
async def test_small(talk, size, bits):
    """RFC 7692, 7.2: many compressed commands in a row, each of which is answered."""
    for i in range(50):
        payload = b"{}".rjust(size) if size < 32 else sized(size, str(i))
        await talk.say(compressed(payload, bits=bits))
        if size < 32:
            await talk.refuses("bad_command")
        else:
            await talk.answers(str(i))
    await talk.ends_well()


@pytest.mark.parametrize("bits", [9, 12, 15])
@pytest.mark.parametrize("size", LARGE)
async def test_large(converse, size, bits):
    """RFC 7692, 7.2: of a large compressed command every octet arrives."""
    talk = await converse(**WIDE)
    payload, names = naming(size, "aß€𝄞")
    for chop in (whole, by(1448)):
        await talk.say(compressed(payload, bits=bits), asking("a"), chop=chop)
        await talk.names(names)
        await talk.answers("a")
    await talk.ends_well()


@pytest.mark.parametrize("level", [0, 6])
@pytest.mark.parametrize(("size", "fragment"), FRAGMENTED)
async def test_in_fragments(converse, size, fragment, level):
    """RFC 7692, 6.1: what is cut into fragments is what is compressed; RSV1 stands on the first."""
    talk = await converse(**WIDE)
    payload, names = naming(size - 100)
    # With level 0 there are many fragments: all is as large as before, and a little more.
    await talk.say(*in_fragments(packed(payload, level=level), fragment), asking("a"))
    await talk.names(names)
    await talk.answers("a")
    await talk.ends_well()


@pytest.mark.parametrize("chop", [by_frame, by_octet], ids=lambda chop: chop.__name__)
async def test_ping_between(talk, chop):
    """RFC 6455, 5.4: between the fragments of a compressed message pings are answered at once."""
    first, *rest = in_fragments(packed(sized(300, "late")), 8)
    assert len(rest) > 2
    await talk.say(first, chop=chop)
    for part in rest:
        await talk.say(frame(b"p", PING), chop=chop)
        await talk.pongs(b"p")
        await talk.say(part, frame(b"", PONG), chop=chop)
    await talk.answers("late")
    await talk.ends_well()


@pytest.mark.parametrize(
    "mask", [bytes(4), b"\xff" * 4, b"\0\0\0\x80", os.urandom(4)], ids=["0", "ones", "last", "any"]
)
async def test_masks(talk, mask):
    """RFC 6455, 5.3: what is compressed is masked like all else."""
    for size in (64, 125, 126, 5000):
        await talk.say(compressed(sized(size, "a"), mask=mask), asking("b"), chop=by(3))
        await talk.answers("a", "b")
    await talk.ends_well()


async def test_some_compressed_some_not(talk):
    """RFC 7692, 6: the client chooses anew for each message."""
    await talk.say(*(f(sized(200, str(i))) for i, f in enumerate([frame, compressed] * 20)))
    await talk.answers(*map(str, range(40)))
    await talk.ends_well()


async def test_right_behind_the_handshake(talk):
    """RFC 6455, 4.2.2: the first message may be compressed, and come before the answer is there."""
    await talk.ends_well()
    data = compressed(sized(500, "a")) + asking("b")
    for cut in (0, 1, 20, len(data)):
        await talk.connect(cut, early=data[:cut])
        await talk.say(data[cut:])
        await talk.answers("a", "b")
        await talk.ends_well()


async def test_binary(talk):
    """RFC 6455, 7.4.1: a compressed binary message is not accepted either."""
    await talk.say(asking("a"), compressed(sized(500, "a"), BINARY), asking("late"))
    await talk.answers("a")
    await talk.fails(1003)


# Out.


@pytest.mark.parametrize("bits", EVERY_WINDOW)
@pytest.mark.parametrize("size", [16, 64, 256, KB, 4 * KB, 16 * KB, 128 * KB])
async def test_published(converse, size, bits):
    """RFC 7692, 7.1.2.1: what is published arrives whole, with a window no larger than agreed."""
    talk = await converse(f"permessage-deflate; server_max_window_bits={bits}")
    assert talk.client.bits == bits
    await talk.client.subscribe("others")
    data = far_apart(size)
    for price in range(5):
        talk.daemon.publish(price, channel=talk.daemon.other, data=data)
        message = json.loads(await talk.client.receive_text())
        assert (message["price"], message["data"]) == (price, json.loads(data))
    await talk.ends_well()


@pytest.mark.parametrize("bits", EVERY_WINDOW)
async def test_answers(converse, bits):
    """RFC 7692, 7.1.2.1: likewise what is answered, be it short or long."""
    offered = f"permessage-deflate; server_max_window_bits={bits}"
    talk = await converse(offered, **WIDE)
    for id_ in ("a", "b" * 100, "ß€𝄞" * 20):
        await talk.say(asking(id_))
        await talk.answers(id_)
    instruments = [f"C{i:04}/USD" for i in range(300)]
    names = [f"all:{name}" for name in instruments]
    answer = await talk.client.subscribe(*names)
    assert answer["channels"] == names
    await talk.ends_well()


async def test_different_windows_at_once(converse):
    """RFC 7692, 7.1.2.1: who has agreed on what is not mixed up; who has not gets it plain."""
    talk = await converse()
    clients = []
    for offer in (*(f"permessage-deflate; server_max_window_bits={b}" for b in EVERY_WINDOW), None):
        client, _ = await type(talk.client).offer(talk.daemon.port, offer)
        clients.append(client)
    try:
        for client in clients:
            await client.subscribe("others")
        for price in range(3):
            talk.daemon.publish(price, channel=talk.daemon.other, data=far_apart(40_000))
            for client in clients:
                assert (await client.receive())["price"] == price
        assert clients[-1].inflated == 0
    finally:
        for client in clients:
            client.sock.close()


async def test_what_is_sent_to_a_client_that_agreed_is_compressed(talk):
    """
    RFC 7692, 6: a price update, a snapshot and a long answer come with RSV1.

    This needs the sending side (`delivery`, `outbox`, `audience`), not only the agreement.
    """
    publish, other = talk.daemon.publish, talk.daemon.other
    publish(1, channel=other, data=far_apart(500))
    await talk.say(asking("x" * 100))
    await talk.answers("x" * 100)
    assert talk.client.inflated == 1, "the answer"
    await talk.client.subscribe("others")
    before = talk.client.inflated
    assert (await talk.client.receive())["price"] == 1
    assert talk.client.inflated == before + 1, "the snapshot"
    publish(2, channel=other, data=far_apart(500))
    assert (await talk.client.receive())["price"] == 2
    assert talk.client.inflated == before + 2, "what is published"
    talk.daemon.sessions.broadcast("y" * 500)
    assert (await talk.client.receive())["message"] == "y" * 500
    assert talk.client.inflated == before + 3, "what is broadcast"
