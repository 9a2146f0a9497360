"""What a session knows of its client's end: the transport, and how far the kernel has come."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from . import kernel

if TYPE_CHECKING:
    from .sessions import Sessions


class Peer:
    """
    The client's end.

    Args:
        sessions: what all sessions share: hub, limits, counters.

    """

    __slots__ = ("_all", "_closing", "_slowed", "transport")

    def __init__(self, sessions: Sessions) -> None:
        self._all = sessions
        self.transport: asyncio.Transport
        self._slowed = False
        self._closing = False

    def write(self, data: bytes) -> None:
        """Pass whole frames to the client. Never raises."""
        try:
            self.transport.write(data)
            self._all.hub.sent_bytes += len(data)
        except RuntimeError:
            # uvloop raises where asyncio is silent: the transport is closing.
            self._all.hub.failed_writes += 1

    @property
    def unsent(self) -> int:
        """Bytes in the transport that the kernel has not taken yet."""
        return self.transport.get_write_buffer_size()

    @property
    def behind(self) -> bool:
        """Whether the client has been slow since its last pong."""
        return self._slowed or kernel.outstanding(self.transport) > 0

    @property
    def progress(self) -> int:
        """Bytes that the client's kernel has taken: it takes no more when the client reads none."""
        return kernel.acknowledged(self.transport)

    def abort(self) -> None:
        """Cut the connection."""
        self.transport.abort()
