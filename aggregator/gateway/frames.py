"""
What a client sends, as bytes in and whole messages out. No I/O.

Source: RFC 6455; RFC 7692 where compression is agreed on. What this reader demands of a client's
frames, and how it closes otherwise:

* no reserved opcode (5.2), every frame masked (5.1): 1002
* no reserved bit (5.2), but RSV1 of a compressed message's first frame (7692, 6): 1002
* control frames are final and carry at most 125 bytes (5.5): 1002
* a continuation continues something, and nothing else starts meanwhile (5.4): 1002
* the payload of a close is empty, or a sendable code and UTF-8 (5.5.1, 7.4): 1002, 1007
* what is compressed is whole DEFLATE blocks, a final one at most at the end (7692, 7.2): 1007
* text is UTF-8 (8.1), after inflating: 1007
* a message, fragments added up, is at most as large as agreed (10.4), inflated as well: 1009

Binary messages are passed on; that they are not spoken here is the session's business.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from aggregator.errors import AggregatorError
from aggregator.wire import BINARY, CLOSE, PING, PONG, TEXT

CONTINUATION = 0x0
RSV1 = 0x40
_TAIL = b"\0\0\xff\xff"
"""Of every compressed message; it is not sent (RFC 7692, 7.2.1)."""
_FINAL_BLOCK = b"\3\0"
"""Empty."""
SENDABLE_CODES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


class ProtocolError(AggregatorError):
    """The client broke the protocol; the connection is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Reader:
    """
    Reads the frames of one client.

    Args:
        max_size: bytes that a message may have, its fragments added up; compressed and inflated.
        inflate: whether messages may be compressed, each by itself (RFC 7692, 7.1.1.2).

    """

    __slots__ = ("_buffer", "_compressed", "_inflate", "_max_size", "_message", "_opcode", "frames")

    def __init__(self, max_size: int, *, inflate: bool = False) -> None:
        self._max_size = max_size
        self._inflate = inflate
        self._buffer = bytearray()
        self._opcode = 0
        self._compressed = False
        self.frames = 0
        # Of the fragments so far; in one piece, since a list of tiny ones costs many times more.
        self._message = bytearray()

    @property
    def idle(self) -> bool:
        """Whether nothing is incomplete, so that the reader may be thrown away."""
        return not self._buffer and not self._opcode

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """
        Yield `(opcode, payload)` of every message that these bytes complete.

        What is not asked for any more (after a close, say) is lost.

        Raises:
            ProtocolError: at the first fault; nothing may be fed after it.

        """
        self._buffer += data
        while (frame := self._frame()) is not None:
            self.frames += 1
            first, payload = frame
            opcode = first & 0x0F
            if opcode >= CLOSE:
                if opcode == CLOSE:
                    check_close(payload)
                yield opcode, payload
                continue
            self._message += payload
            if opcode != CONTINUATION:
                self._opcode, self._compressed = opcode, first & RSV1 != 0
            if first >= 0x80:
                yield self._finish()

    def _finish(self) -> tuple[int, bytes]:
        """Return the message whose last fragment is there."""
        opcode, message = self._opcode, bytes(self._message)
        self._opcode, self._message = 0, bytearray()
        if self._compressed:
            message = inflated(message, self._max_size)
        if opcode == TEXT and not is_utf8(message):
            raise ProtocolError(1007, "text is not UTF-8")
        return opcode, message

    def _frame(self) -> tuple[int, bytes] | None:
        """Cut one frame off the buffer, if it is there whole: its first byte and its payload."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, size, start = first & 0x0F, second & 0x7F, 2
        self._check(first, second, opcode)
        if size == 126:
            start, size = 4, int.from_bytes(buffer[2:4])
        elif size == 127:
            start, size = 10, int.from_bytes(buffer[2:10])
        if len(buffer) < start:
            return None
        if opcode < CLOSE and len(self._message) + size > self._max_size:
            raise ProtocolError(1009, f"a message may have {self._max_size} bytes")
        end = start + 4 + size
        if len(buffer) < end:
            return None
        payload = unmask(buffer[start + 4 : end], buffer[start : start + 4])
        del buffer[:end]
        return first, payload

    def _check(self, first: int, second: int, opcode: int) -> None:
        allowed = RSV1 if self._inflate and opcode in {TEXT, BINARY} else 0
        if first & 0x70 & ~allowed:
            raise ProtocolError(1002, "a reserved bit is set")
        if not second & 0x80:
            raise ProtocolError(1002, "a client's frame must be masked")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise ProtocolError(1002, "unknown opcode")
            if first < 0x80:
                raise ProtocolError(1002, "a control frame may not be fragmented")
            if second & 0x7F > 125:
                raise ProtocolError(1002, "a control frame may have 125 bytes")
        elif opcode > BINARY:
            raise ProtocolError(1002, "unknown opcode")
        elif (opcode == CONTINUATION) != (self._opcode != 0):
            raise ProtocolError(1002, "a fragment is missing or out of place")


def unmask(payload: bytearray, mask: bytearray) -> bytes:
    """Apply a mask of four bytes (RFC 6455, 5.3); as one large integer, which is fast."""
    size = len(payload)
    pattern = bytes(mask) * (size // 4 + 1)
    return (int.from_bytes(payload) ^ int.from_bytes(pattern[:size])).to_bytes(size)


def inflated(data: bytes, max_size: int) -> bytes:
    """
    Inflate the payload of a message that was compressed by itself (RFC 7692, 7.2.2).

    Raises:
        ProtocolError: it has more than `max_size` bytes, of which no more than that are inflated;
            or it is no whole DEFLATE blocks, or goes on behind a final one.

    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        message = inflater.decompress(data + _TAIL, max_size + 1)
        if len(message) > max_size:
            raise ProtocolError(1009, f"a message may have {max_size} bytes")
        if inflater.eof:
            # A final block, and the empty one behind it of section 7.2.3.4; many leave that out.
            whole = inflater.unused_data in {_TAIL, b"\0" + _TAIL}
        else:
            # Only behind a whole block this is a block.
            whole = not inflater.decompress(_FINAL_BLOCK, 1) and inflater.eof
    except zlib.error:
        whole = False
    if not whole:
        raise ProtocolError(1007, "the message is not compressed as agreed")
    return message


def is_utf8(data: bytes) -> bool:
    """Whether the bytes are UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def check_close(payload: bytes) -> None:
    """
    Check the payload of a close frame.

    Raises:
        ProtocolError: it has one byte, a code that may not be sent, or a reason that is no UTF-8.

    """
    if not payload:
        return
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not (code in SENDABLE_CODES or 3000 <= code <= 4999):
        raise ProtocolError(1002, "no valid close code")
    if not is_utf8(payload[2:]):
        raise ProtocolError(1007, "the reason of a close is not UTF-8")


__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "ProtocolError", "Reader"]
