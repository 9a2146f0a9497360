"""How a client gets its messages: with the venue's payload or without, compressed or not."""

from __future__ import annotations

from . import wire
from .deflate import deflated


class Shape:
    """
    One way to send a message; there is one object for each, in `SHAPES`.

    Args:
        raw: with `data`, the venue's own payload of a price update.
        bits: of the window that is agreed on for compression; 0 for none.

    """

    __slots__ = ("bits", "raw")

    def __init__(self, *, raw: bool, bits: int) -> None:
        self.raw = raw
        self.bits = bits

    def apply(self, frame: bytes) -> bytes:
        """Return the frame in this shape, of one that `wire.frame` made."""
        if not self.raw:
            frame = wire.without_data(frame)
        return deflated(frame, self.bits) if self.bits else frame


SHAPES = {(raw, bits): Shape(raw=raw, bits=bits) for raw in (True, False) for bits in (0, 9, 12)}
WHOLE = SHAPES[True, 0]
"""As it was published."""
