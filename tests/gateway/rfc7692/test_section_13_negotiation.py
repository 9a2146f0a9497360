"""Section 13 of the conformance suite: what is offered, what is answered, and that it is kept."""

from __future__ import annotations

import itertools
import json

import pytest
from gateway.rfc6455.conversation import command
from gateway.rfc7692.deflating import (
    EVERY_WINDOW,
    Deflating,
    compressed,
    far_apart,
    in_fragments,
    packed,
)
from gateway.wsclient import CLOSE, frame

NAME = "permessage-deflate"
TAKEOVER = "server_no_context_takeover; client_no_context_takeover"
SERVER_WINDOWS = [None, *(f"server_max_window_bits={bits}" for bits in range(8, 16))]
OTHERS = list(
    itertools.product(
        [None, "server_no_context_takeover"],
        [None, "client_no_context_takeover"],
        [None, "client_max_window_bits", *(f"client_max_window_bits={n}" for n in range(8, 16))],
    )
)


async def check(daemon, client: Deflating) -> None:
    """Send a compressed command, in one frame and in two; be sent a message with far repeats."""
    for data in (compressed(command("one")), *in_fragments(packed(command("two")), 9)):
        await client.write(data)
    assert [(await client.receive())["id"] for _ in range(2)] == ["one", "two"]
    await client.subscribe("prices")
    data = far_apart(3000)
    daemon.publish(1, data=data)
    while (message := await client.receive())["seq"] != daemon.channel.seq:
        pass
    assert message["data"] == json.loads(data)
    assert client.inflated


async def agreed(daemon, offer: str, path: str = "/ws") -> str | None:
    """Connect with an offer; see that what is answered is kept; return the answer."""
    client, answer = await Deflating.offer(daemon.port, offer, path)
    async with client:
        if answer is not None:
            await check(daemon, client)
        else:
            await client.pinged()
            assert not client.inflated
            await client.write(compressed(command()))
            opcode, payload = await client.receive_frame()
            assert (opcode, payload[:2]) == (CLOSE, (1002).to_bytes(2))
    return answer


@pytest.mark.parametrize("window", SERVER_WINDOWS)
async def test_matrix(serve, window):
    """RFC 7692, 7.1: every combination of all parameters is answered properly, and kept."""
    daemon = await serve()
    for others in OTHERS:
        parameters = [p for p in (*others, window) if p is not None]
        answer = await agreed(daemon, "; ".join([NAME, *parameters]))
        if window == "server_max_window_bits=8":
            assert answer is None
        else:
            assert answer == "; ".join([NAME, TAKEOVER, *([window] if window else [])]), parameters


SUITE = {
    "13.1": (NAME, None),
    "13.2": (f"{NAME}; server_no_context_takeover; client_no_context_takeover", None),
    "13.3": (f"{NAME}; client_max_window_bits; server_max_window_bits=9", 9),
    "13.4": (f"{NAME}; client_max_window_bits; server_max_window_bits=15", 15),
    "13.5": (f"{NAME}; server_no_context_takeover; server_max_window_bits=9", 9),
    "13.6": (f"{NAME}; server_no_context_takeover; server_max_window_bits=15", 15),
    "13.7": (f"{NAME}; server_max_window_bits=9, {NAME}; server_no_context_takeover, {NAME}", 9),
    "the first can't be kept": (f"{NAME}; server_max_window_bits=8, {NAME}", None),
    "nor the second": (f"{NAME}; x, {NAME}; x=1, {NAME}; server_max_window_bits=11", 11),
    "others as well": (f"foo, {NAME}; server_max_window_bits=10; y, bar, {NAME}", None),
    "several headers": (
        f"{NAME}; x\r\nsec-websocket-extensions: {NAME}; server_max_window_bits=13",
        13,
    ),
}


@pytest.mark.parametrize(("offer", "bits"), SUITE.values(), ids=SUITE)
@pytest.mark.parametrize("path", ["/ws", "/ws/ticker"])
async def test_offers(daemon, offer, bits, path):
    """RFC 7692, 5: the first of several offers that can be kept is the one that is answered."""
    window = "" if bits is None else f"; server_max_window_bits={bits}"
    client, answer = await Deflating.offer(daemon.port, offer, path)
    async with client:
        assert answer == f"{NAME}; {TAKEOVER}{window}"
        if path == "/ws":
            await check(daemon, client)
        else:
            await client.write(compressed(b'{"action":"subscribe","symbol":"BTC/USDT"}'))
            assert (await client.receive())["status"] == "subscribed"


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "x-webkit-deflate-frame",
        "permessage-bzip2",
        f"{NAME}; server_max_window_bits=8",
        f"{NAME}; server_max_window_bits",
        f"{NAME}; server_max_window_bits=16",
        f"{NAME}; unknown",
        f"{NAME}; client_max_window_bits; client_max_window_bits",
        f"{NAME};",
        f'{NAME}; client_max_window_bits="',
        f"{NAME}, {NAME}=1",
        f"{NAME}, " * 200,
        "\udcff\udcfe",
    ],
)
async def test_declined(daemon, offer):
    """RFC 7692, 5.1: there is no answer to what can't be kept; the connection is as without it."""
    assert await agreed(daemon, offer) is None
    assert daemon.counters.protocol_errors == 1


@pytest.mark.parametrize("path", ["/ws", "/ws/ticker"])
async def test_switched_off(serve, path):
    """With `compression = false` nothing is agreed on, whatever is offered."""
    daemon = await serve(compression=False)
    for offer in (NAME, f"{NAME}; client_max_window_bits"):
        client, answer = await Deflating.offer(daemon.port, offer, path)
        async with client:
            assert answer is None
            await client.write(compressed(command()))
            assert (await client.receive_frame())[1][:2] == (1002).to_bytes(2)


async def test_sessions_know(daemon):
    """The session knows the window: none larger than agreed, few different ones, 0 for none."""
    known = set()
    for bits in (0, *EVERY_WINDOW):
        offer = f"{NAME}; server_max_window_bits={bits}" if bits else None
        client, _ = await Deflating.offer(daemon.port, offer)
        async with client:
            await client.pinged()
            [session] = [s for s in daemon.sessions if not s._closing]
            assert session.deflate_bits <= bits
            known.add(session.deflate_bits)
            await client.write(frame(b"", CLOSE))
            await client.ended()
    assert known == {0, 9, 12}


FAULTS = {
    "a bomb": (compressed(bytes(60_000_000)), 1009),
    "a byte too many": (compressed(b" " * 65_537), 1009),
    "too large as it is": (frame(b"", rsv=4, size=65_537), 1009),
    "broken": (frame(b"\xff" * 50, rsv=4), 1007),
    "no UTF-8": (compressed(b'{"type":"\xff"}'), 1007),
    "the other bits": (frame(packed(b"x"), rsv=6), 1002),
    "a compressed ping": (frame(packed(b"x"), 9, rsv=4), 1002),
    "a compressed continuation": (
        frame(b"x", fin=False) + frame(packed(b"x"), 0, rsv=4),
        1002,
    ),
}


@pytest.mark.parametrize(("data", "code"), FAULTS.values(), ids=FAULTS)
async def test_faults(talk, data, code):
    """RFC 6455, 7.1.7: what is before is answered, what is behind is not; nobody else notices."""
    await talk.say(compressed(command("a")), data, compressed(command("late")))
    await talk.answers("a")
    await talk.fails(code)


@pytest.mark.parametrize("way", ["fallback"], indirect=True)
async def test_fallback(daemon):
    """Where clients are not taken over from aiohttp nothing is agreed on."""
    assert await agreed(daemon, NAME) is None
