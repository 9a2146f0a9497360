"""Section 6 of the conformance suite: what is UTF-8, and what is not, however it is cut."""

from __future__ import annotations

import pytest
from gateway.rfc6455.conversation import (
    CHOPS,
    by,
    by_frame,
    by_octet,
    command,
    fragments,
    naming,
    whole,
)
from gateway.wsclient import BINARY, CONTINUATION, PING, PONG, frame

WORDS = "κόσμε-µ@ßöäüàá-€𝄞"

VALID = {
    "words": [WORDS, "hello$world", "hello¢world", "hello€world", "hello𤭢world"],
    "first and last of each length": [*"\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff"],
    "beside the surrogates": [*"\ud7ff\ue000"],
    "specials": [*"\ufff9\ufffa\ufffb\ufffc\ufffd\ufeff\u2028\u2029\x85"],
    "no characters": [
        *"\ufdd0\ufdef",
        *(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)),
    ],
    "each first octet": [
        *map(chr, range(0x80, 0x800, 0x40)),
        *map(chr, (0x800, *range(0x1000, 0x10000, 0x1000))),
        *map(chr, (0x10000, *range(0x40000, 0x110000, 0x40000))),
    ],
}


def by_hand(code_point: int, length: int) -> bytes:
    """Encode in so many octets, whether that is allowed or not."""
    lead = 0xFF00 >> length & 0xFF
    octets = [0x80 | code_point >> 6 * i & 0x3F for i in reversed(range(length - 1))]
    return bytes([lead | code_point >> 6 * (length - 1), *octets])


def cut_off(text: str) -> list[bytes]:
    """Return all true beginnings of the last character, behind the others."""
    rest, last = text[:-1].encode(), text[-1].encode()
    return [rest + last[:i] for i in range(1, len(last))]


HIGH, LOW = (0xD800, 0xDB7F, 0xDB80, 0xDBFF), (0xDC00, 0xDF80, 0xDFFF)
INCOMPLETE = [by_hand(n, length)[:-1] for length in (2, 3, 4) for n in (0x7F, 0x7FF)]

INVALID = {
    "stray continuations": [
        *(bytes([n]) for n in range(0x80, 0xC0, 9)),
        *(b"\x80\xbf" * n for n in (1, 2, 3)),
        bytes(range(0x80, 0xC0)),
        b"\xc2\xa2\xa2",
    ],
    "lonely beginnings": [
        *(bytes([n, 0x20]) for n in (0xC2, 0xDF, 0xE0, 0xEF, 0xF0, 0xF4)),
        b"".join(bytes([n, 0x20]) for n in range(0xC0, 0xFE)),
    ],
    "octets that never are": [bytes([n]) for n in (0xC0, 0xC1, *range(0xF5, 0x100))],
    "cut off at the end": [
        cut for text in ("x¢", "x€", "x𝄞", "κόσμε", "x\U0010ffff") for cut in cut_off(text)
    ],
    "cut off in the middle": [cut + b"abc" for text in ("x¢", "x€", "x𝄞") for cut in cut_off(text)],
    "several cut off": [b"".join(INCOMPLETE), *INCOMPLETE],
    "longer than needed": [
        by_hand(n, length)
        for length in range(2, 7)
        for n in (0, ord("/"), (0x7F, 0x7FF, 0xFFFF, 0x1FFFFF, 0x3FFFFFF)[length - 2])
    ],
    "surrogates": [by_hand(n, 3) for n in (*HIGH, *LOW)],
    "pairs of surrogates": [
        by_hand(high, 3) + by_hand(low, 3) for high in HIGH for low in LOW[::2]
    ],
    "beyond Unicode": [
        *(by_hand(n, 4) for n in (0x110000, 0x13FFFF, 0x1FFFFF)),
        *(by_hand(n, 5) for n in (0x200000, 0x3FFFFFF)),
        *(by_hand(n, 6) for n in (0x4000000, 0x7FFFFFFF)),
    ],
}


def one_frame(payload: bytes) -> list[bytes]:
    return [frame(payload)]


def octets(payload: bytes) -> list[bytes]:
    return fragments(payload, 1)


def with_pongs(payload: bytes) -> list[bytes]:
    pong = frame(b"\xff", PONG)
    return [pong + fragment + pong for fragment in octets(payload)]


WAYS = {
    "at once": (one_frame, whole),
    "segments of an octet": (one_frame, by_octet),
    "fragments in their segments": (with_pongs, by_frame),
}
every_way = pytest.mark.parametrize(("split", "chop"), WAYS.values(), ids=WAYS)


@every_way
@pytest.mark.parametrize("texts", VALID.values(), ids=VALID)
async def test_valid(talk, texts, split, chop):
    """RFC 6455, 8.1 and 5.6: what is UTF-8 arrives as it is, wherever a character is cut."""
    for text in (*texts, "".join(texts)):
        await talk.say(*split(command(text)), chop=chop)
        await talk.answers(text)
    await talk.ends_well()


@every_way
@pytest.mark.parametrize("sequences", INVALID.values(), ids=INVALID)
async def test_invalid(talk, sequences, split, chop):
    """RFC 6455, 8.1: what is no UTF-8 closes the connection with 1007, and is not looked at."""
    for sequence in sequences:
        with pytest.raises(UnicodeDecodeError):
            sequence.decode()
        await talk.say(*split(command("a")), *split(sequence), *split(command("b")), chop=chop)
        await talk.answers("a")
        await talk.fails(1007)
        await talk.connect(sequence)
    await talk.ends_well()


@pytest.mark.parametrize("sequences", INVALID.values(), ids=INVALID)
async def test_invalid_within_a_command(talk, sequences):
    """RFC 6455, 8.1: likewise where it is but a part of something that can be understood."""
    before, after = command("<>").split(b"<>")
    for sequence in sequences:
        await talk.say(*octets(before + sequence + after), frame(b"", PING))
        await talk.fails(1007)
        await talk.connect(sequence)
    await talk.ends_well()


@every_way
async def test_every_beginning_of_a_text(talk, split, chop):
    """RFC 6455, 8.1: it is valid where a character ends, and only there."""
    text = "κόσμε€𝄞".encode()
    for end in range(len(text) + 1):
        await talk.say(*split(text[:end]), chop=chop)
        if text[:end].decode(errors="ignore").encode() == text[:end]:
            await talk.refuses("bad_json")
        else:
            await talk.fails(1007)
            await talk.connect(end)
    await talk.ends_well()


@pytest.mark.parametrize("character", [*"\0\t\x1f"], ids=repr)
async def test_control_characters(talk, character):
    """RFC 6455, 8.1: they are UTF-8 (though no JSON), so the connection stays."""
    for way in (one_frame, octets):
        await talk.say(*way(command().replace(b"id", character.encode(), 1)))
        await talk.refuses("bad_json")
    await talk.ends_well()


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b"", b""],
        [b"", b"text", b""],
    ],
    ids=["one", "three", "all but the middle"],
)
async def test_empty(talk, frames):
    """RFC 6455, 5.4 and 5.6: a text without octets is a text, and gets its one answer."""
    parts = [
        frame(part, CONTINUATION if i else 1, fin=i == len(frames) - 1)
        for i, part in enumerate(frames)
    ]
    for chop in CHOPS:
        await talk.say(*parts, chop=chop)
        await talk.refuses("bad_json")
    await talk.ends_well()


BEFORE, BAD, AFTER = "κόσμε".encode(), b"\xf4\x90\x80\x80", b"edited"


@pytest.mark.parametrize(
    "parts",
    [
        [BEFORE, BAD, AFTER],
        [BEFORE + BAD[:1], BAD[1:2], BAD[2:] + AFTER],
        [BEFORE + BAD[:1], BAD[1:], AFTER],
    ],
    ids=["between", "to the octet", "across"],
)
@pytest.mark.parametrize("fragmented", [True, False], ids=["fragments", "segments"])
async def test_fails_at_the_latest_at_the_end(talk, parts, fragmented):
    """RFC 6455, 8.1: when a message is whole, at the latest, a fault anywhere in it is seen."""
    if fragmented:
        frames = [frame(parts[0], fin=False), frame(parts[1], CONTINUATION, fin=False)]
        frames.append(frame(parts[2], CONTINUATION))
        await talk.say(*frames, chop=by_frame)
    else:
        await talk.say(frame(b"".join(parts)), chop=by(6 + len(parts[0])))
    await talk.fails(1007)


async def test_character_across_messages(talk):
    """RFC 6455, 8.1: each message is valid by itself; two halves do not add up."""
    euro = "€".encode()
    await talk.say(frame(euro[:1]), frame(euro[1:]))
    await talk.fails(1007)


async def test_character_around_a_ping(talk):
    """RFC 6455, 5.4 and 8.1: a ping within a character, itself no UTF-8, does not touch it."""
    text = command("€")
    cut = text.index("€".encode()) + 1
    await talk.say(frame(text[:cut], fin=False), frame(b"\xe2\xff", PING), chop=by_frame)
    await talk.pongs(b"\xe2\xff")
    await talk.say(frame(text[cut:], CONTINUATION))
    await talk.answers("€")
    await talk.ends_well()


async def test_binary_is_not_looked_at(talk):
    """RFC 6455, 5.6: what is in a binary message need not be UTF-8: it fails as binary."""
    await talk.say(*fragments(b"\xff\xfe", 1, BINARY))
    await talk.fails(1003)


@pytest.mark.parametrize("size", [1, 3, 1_300, 8_192])
async def test_large(talk, size):
    """RFC 6455, 5.4: characters of all lengths, cut at all places, come through."""
    text, names = naming(8_192, "aß€𝄞")
    await talk.say(*fragments(text, size), chop=by(1_021))
    await talk.names(names)
    await talk.say(*fragments(text[:-2] + b"\xe2" + b"}", size), chop=by(1_021))
    await talk.fails(1007)
