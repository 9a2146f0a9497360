"""What a client has counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """
    Numbers since the client was made.

    Args:
        messages: handed to the buffers.
        duplicates: had already, and dropped.
        invalid: not handed out; see `Invalid`.
        unknown: of a type that this version does not know, or of a channel that nobody wants.
        gaps: losses, of whatever reason.
        dropped: that a full buffer had no room for.
        folded: replaced by newer ones in a buffer.
        connections: that were made.
        failures: attempts that brought no connection, and connections that were lost.

    """

    messages: int = 0
    duplicates: int = 0
    invalid: int = 0
    unknown: int = 0
    gaps: int = 0
    dropped: int = 0
    folded: int = 0
    connections: int = 0
    failures: int = 0
