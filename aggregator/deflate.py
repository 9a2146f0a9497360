"""
A finished frame, compressed: permessage-deflate without context takeover.

Every message is compressed by itself, so one compressed frame serves all clients that agreed on
the same window; a compressor for each client would cost its memory, and the same work again.

The library is ISA-L: on our messages two to three times as fast as zlib, at the same size
(`benchmarks/deflate.py`). A new compressor for each message is nearly as fast as one that is kept
and flushed, and nothing can get from one message into another.

Source: RFC 7692, sections 6 and 7.2.1; RFC 1951 (DEFLATE).
"""

from __future__ import annotations

from isal import isal_zlib

from . import wire

LEVEL = 1
"""Of 0 to 3. 0 hardly makes small messages smaller; 2 and 3 gain next to nothing."""

_RSV1 = 0x40


def deflated(frame: bytes, bits: int) -> bytes:
    """
    Return the same message as a compressed frame, or the frame itself.

    Args:
        frame: an unmasked, final frame that `wire.frame` made.
        bits: the window has 2 ** `bits` bytes, 9 to 15.

    Returns:
        A frame with RSV1 (RFC 7692, section 6); the frame itself where compressing does not make
        it smaller, and for control frames, which are never compressed (section 6.1).

    """
    first = frame[0]
    if first & 0x0F >= wire.CLOSE:
        return frame
    compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -bits)
    data = compressor.compress(wire.payload_of(frame)) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
    # The last four octets are those of an empty block, which are not sent. No final block: many
    # clients do not understand one.
    smaller = wire.frame(data[:-4], _RSV1 | first & 0x0F)
    return smaller if len(smaller) < len(frame) else frame
