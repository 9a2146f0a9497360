"""What the kernel knows of a client's connection; nothing, where it does not tell."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios

_ACKNOWLEDGED = struct.Struct("=120xQ")
"""Of Linux's `struct tcp_info` the field `tcpi_bytes_acked`."""


def acknowledged(transport: asyncio.Transport) -> int:
    """Return how many bytes the client's kernel has taken since the connection began."""
    sock = transport.get_extra_info("socket")
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKNOWLEDGED.size)
        count: int = _ACKNOWLEDGED.unpack(info)[0]
    except (OSError, AttributeError, struct.error):
        return 0
    return count


def outstanding(transport: asyncio.Transport) -> int:
    """Return how many bytes our kernel keeps that the client's has not taken yet."""
    sock = transport.get_extra_info("socket")
    try:
        # TIOCOUTQ is SIOCOUTQ for a socket.
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
    except (OSError, AttributeError, ValueError):
        return 0
