"""
Bad networks without any right: the kernel drops what comes in at a socket (SO_ATTACH_FILTER).

What is dropped is neither read nor acknowledged, so the other side sends it again after a while, as
on a line that loses packets. Source: socket(7); linux/filter.h.
"""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)
"""BPF_LD | BPF_W | BPF_ABS of SKF_AD_RANDOM."""
TAKE, DROP = (0x06, 0, 0, 0xFFFFFFFF), (0x06, 0, 0, 0)
JUMP_IF_AT_LEAST = 0x35


def lose(sock: socket.socket, fraction: float) -> None:
    """Lose this fraction of what comes in from now on; with 1 the line is cut, and nobody told."""
    threshold = min(int(fraction * 2**32), 2**32 - 1)
    program = [DROP] if fraction >= 1 else [LOAD_RANDOM, (JUMP_IF_AT_LEAST, 0, 1, threshold)]
    program += [] if fraction >= 1 else [TAKE, DROP]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    kept = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HL", len(program), ctypes.addressof(kept))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, head)


def mend(sock: socket.socket) -> None:
    """Lose nothing any more."""
    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
