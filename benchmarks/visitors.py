"""
Cheap WebSocket clients for benchmarks/hour.py and benchmarks/restart.py: many in one process.

They look for the few fields that they need, instead of decoding each message. The mask of their
frames is zero, which changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, cast

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
PRICE = b'{"type":"price_update"'
AGED = b',"age_us":'


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a client's frame."""
    size = len(payload)
    head = bytes([128 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([128 | opcode]) + head + bytes(4) + payload


def number(text: bytes, key: bytes) -> int:
    """Return the integer behind a key; 0 where there is none."""
    begin = text.find(key) + len(key)
    if begin < len(key):
        return 0
    end = begin
    while text[end : end + 1].isdigit():
        end += 1
    return int(text[begin:end] or 0)


class Visitor(asyncio.Protocol):
    """
    One connection.

    Args:
        command: what is sent after the handshake.
        said: gets each message's text.
        gone: gets the close code or the HTTP status that it ended with, or 0.

    Attributes:
        transport: of the connection, while it is open.

    """

    def __init__(
        self,
        command: dict[str, Any],
        said: Callable[[bytes], None],
        gone: Callable[[int], None],
    ) -> None:
        self._command = json.dumps(command).encode()
        self._said = said
        self._gone = gone
        self._data = bytearray()
        self._shaken = False
        self._code = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Shake hands."""
        # Those of uvloop are of no common type.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(HANDSHAKE)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        """Say so."""
        self.transport = None
        self._gone(self._code)

    def leave(self) -> None:
        """Go, without a farewell."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take whole frames."""
        self._data += data
        if not self._shaken and not self._shake():
            return
        at, whole = 0, bytes(self._data)
        while (taken := self._take(whole, at)) > at:
            at = taken
        del self._data[:at]

    def _shake(self) -> bool:
        head, end, _ = bytes(self._data).partition(b"\r\n\r\n")
        if not end or self.transport is None:
            return False
        status = int(head.split(b" ", 2)[1])
        if status != 101:
            self._code = status
            self.transport.abort()
            return False
        self._shaken = True
        del self._data[: len(head) + 4]
        self.transport.write(frame(self._command))
        return True

    def _take(self, data: bytes, at: int) -> int:
        """Take the frame that begins here, if it is whole; return where the next one does."""
        if len(data) < at + 2:
            return at
        size, begin = data[at + 1], at + 2
        if size > 125:
            length = 2 if size == 126 else 8
            if len(data) < begin + length:
                return at
            size, begin = int.from_bytes(data[begin : begin + length]), begin + length
        if len(data) < begin + size:
            return at
        payload, opcode = data[begin : begin + size], data[at] & 15
        if opcode == TEXT:
            self._said(payload)
        elif opcode == CLOSE:
            self._code = int.from_bytes(payload[:2])
        if self.transport is not None and opcode in {PING, CLOSE}:
            self.transport.write(frame(payload, PONG if opcode == PING else CLOSE))
        return begin + size


class Numbers:
    """
    What one client must get: of each of its instruments every number, where number n is of
    instrument n modulo `instruments`.

    Attributes:
        lost: how many numbers did not come, and nobody told.
        told: how many the daemon has told to be lost, or to be replaced by newer ones.
        twice: how many came twice, or out of order.
        messages: how many came.
        recovered: how often it got all that it had missed.

    """

    def __init__(self, instruments: int, wanted: list[int]) -> None:
        self._instruments = instruments
        self._wanted = wanted
        self._due: dict[int, int] = {}
        self.epoch = ""
        self._position = 0
        self.last = 0
        self.lost = self.told = self.twice = self.messages = self.recovered = 0

    def take(self, text: bytes) -> int:
        """
        Take a message; return the microseconds since it was published.

        0 if it is no price, or one that was published while the client was away.
        """
        if not text.startswith(PRICE):
            self._other(json.loads(text))
            return 0
        if AGED in text[-64:]:
            return 0
        seq = number(text, b'"seq":')
        instrument = seq % self._instruments
        due = self._due[instrument]
        if seq < due:
            self.twice += 1
            return 0
        missed = (seq - due) // self._instruments
        folded = number(text[-64:], b'"conflated":')
        self.told += folded
        self.lost += missed - folded
        self._due[instrument] = seq + self._instruments
        self.last = max(self.last, seq)
        self.messages += 1
        if seq <= self._position:
            return 0
        return max(1, time.time_ns() // 1000 - number(text, b'"published_us":'))

    def _other(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed":
                ((name, place),) = message["positions"].items()
                whole = message.get("recovered", {}).get(name, False)
                self.recovered += whole
                self.epoch, self._position = place["epoch"], place["seq"]
                if not whole:
                    self._begin(place["seq"])
            case "gap":
                first, upto = message["from_seq"], message["to_seq"]
                self._begin(upto)
                self.told += (upto - first + 1) * len(self._wanted) // self._instruments
            case other:
                raise AssertionError(f"unexpected: {other}: {message}")

    def _begin(self, position: int) -> None:
        """Expect of each instrument the first number behind this one."""
        self.last = position
        first = position + 1
        self._due = {n: first + (n - first) % self._instruments for n in self._wanted}
