"""A client that has agreed on permessage-deflate, and is strict about what it has agreed on."""

from __future__ import annotations

import itertools
import random
import re
import zlib
from typing import Self

from gateway.rfc6455.conversation import Conversation, pieces
from gateway.wsclient import ACCEPT, BINARY, CONTINUATION, TEXT, Client, frame, handshake

RSV1 = 4
TAIL = b"\0\0\xff\xff"
EVERY_WINDOW = range(9, 16)


def packed(payload: bytes, bits: int = 15, level: int = 6) -> bytes:
    """Compress as a client does: RFC 7692, 7.2.1."""
    one = zlib.compressobj(level, zlib.DEFLATED, -bits)
    return (one.compress(payload) + one.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def unpacked(payload: bytes, bits: int) -> bytes:
    """
    Inflate with a window of exactly this size.

    Byte by byte, since zlib finds in its output whatever is still there, however far back it is.
    """
    one = zlib.decompressobj(-bits)
    rest, found = payload + TAIL, bytearray()
    while piece := one.decompress(rest, 1):
        found += piece
        rest = one.unconsumed_tail
    assert not rest
    assert not one.eof, "a final block, which many clients do not understand"
    return bytes(found)


def compressed(
    payload: bytes, opcode: int = TEXT, *, bits: int = 15, mask: bytes | None = b"\x12\x34\x56\x78"
) -> bytes:
    """Return a compressed message in one frame."""
    return frame(packed(payload, bits), opcode, rsv=RSV1, mask=mask)


def in_fragments(data: bytes, size: int, opcode: int = TEXT) -> list[bytes]:
    """Return the frames of a message of which this is what is compressed: RFC 7692, 6.1."""
    parts = pieces(data, size)
    last = len(parts) - 1
    start = frame(parts[0], opcode, fin=last == 0, rsv=RSV1)
    rest = [frame(p, CONTINUATION, fin=i == last) for i, p in enumerate(parts[1:], 1)]
    return [start, *rest]


def far_apart(size: int) -> bytes:
    """Return a JSON text of this size whose parts come again at every distance there may be."""
    chance = random.Random(size)
    words = [f"{chance.getrandbits(48):012x}" for _ in range(40)]
    distances = itertools.cycle([200, 500, 700, 1500, 3000, 6000, 12_000, 20_000, 30_000])
    text = bytearray(b'{"x":"')
    while len(text) < size - 2:
        back = next(distances)
        text += text[-back:][:40] if len(text) > back + 6 else chance.choice(words).encode()
        text += b"%x" % chance.getrandbits(24)
    return bytes(text[: size - 2].replace(b'"', b"'").replace(b"{'x':'", b'{"x":"', 1)) + b'"}'


class Deflating(Client):
    """A client that compresses, and can read what is compressed."""

    bits = 15
    """Of the window that it has to read with."""
    inflated = 0
    """Messages that came compressed."""

    @classmethod
    async def offer(
        cls, port: int, offer: str | None, path: str = "/ws", early: bytes = b""
    ) -> tuple[Self, str | None]:
        """Connect; return also what the server has answered to the offer."""
        client = await cls.open(port)
        try:
            await client.write(handshake(path, Sec_WebSocket_Extensions=offer) + early)
            status, headers = await client.head()
            assert (status, headers["sec-websocket-accept"]) == (101, ACCEPT)
        except BaseException:
            client.sock.close()
            raise
        answer = headers.get("sec-websocket-extensions")
        if found := re.search(r"server_max_window_bits=(\d+)", answer or ""):
            client.bits = int(found[1])
        return client, answer

    async def receive_frame(self) -> tuple[int, bytes]:
        """Read a frame; inflate it if RSV1 says that it is compressed."""
        while not self.buffer:
            await self.more()
        first = self.buffer[0]
        self.buffer[0] &= ~(RSV1 << 4)
        opcode, payload = await super().receive_frame()
        if not first & RSV1 << 4:
            return opcode, payload
        assert opcode in {TEXT, BINARY}, "control frames are not compressed"
        self.inflated += 1
        return opcode, unpacked(payload, self.bits)


class Compressed(Conversation):
    """A conversation with compression agreed on."""

    offered: str | None = "permessage-deflate"

    async def connect(self, case: object = None, early: bytes = b"") -> None:
        assert self.client is None or self.session.ended, "the client before was not looked at"
        self._case, self._sent = case, 0
        self.client, answer = await Deflating.offer(self.daemon.port, self.offered, early=early)
        assert (answer is None) == (self.offered is None)
        self.session = self._sessions[-1]
