"""A WebSocket client of the tests' own: it reads only when asked, and can do everything wrong."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
PATIENCE_S = 20.0


def frame(
    payload: bytes = b"",
    opcode: int = TEXT,
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = b"\x12\x34\x56\x78",
    size: int | None = None,
) -> bytes:
    """Build a client's frame, right or wrong; `size` lies about the length."""
    length = len(payload) if size is None else size
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    masked = 0 if mask is None else 0x80
    if length < 126:
        head = struct.pack("!BB", first, masked | length)
    elif length < 65_536:
        head = struct.pack("!BBH", first, masked | 126, length)
    else:
        head = struct.pack("!BBQ", first, masked | 127, length)
    if mask is None:
        return head + payload
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + body


def handshake(path: str = "/ws", **changes: str | None) -> bytes:
    """Build an opening handshake; `changes` set headers (`_` for `-`) or, with None, drop them."""
    headers: dict[str, str | None] = {
        "Host": "127.0.0.1",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    }
    lower = {name.lower(): name for name in headers}
    for key, value in changes.items():
        name = key.replace("_", "-")
        headers[lower.get(name.lower(), name)] = value
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode("utf-8", "surrogateescape")


async def eventually(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Let the loop turn until a condition holds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event for most of these
            await asyncio.sleep(0.002)


class Gone(Exception):  # noqa: N818 - the connection ended, which most tests wait for
    """The server ended the connection."""


class Raw:
    """A TCP connection that reads only when asked."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()

    @classmethod
    async def open(cls, port: int, receive_buffer: int | None = None) -> Self:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)  # noqa: FBT003
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.sock.close()

    def reset(self) -> None:
        """End the connection with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def write(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def more(self, most: int = 262_144) -> int:
        """Read once."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                data = await asyncio.get_running_loop().sock_recv(self.sock, most)
            except ConnectionError as e:
                raise Gone from e
        if not data:
            raise Gone
        self.buffer += data
        return len(data)

    async def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            await self.more()
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read the head of an HTTP answer: status and headers."""
        while b"\r\n\r\n" not in self.buffer:
            await self.more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer[:] = rest
        first, *lines = head.decode().split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (s.partition(":") for s in lines)}
        return int(first.split()[1]), headers

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Read a whole HTTP answer with a Content-Length."""
        status, headers = await self.head()
        return status, headers, await self.read(int(headers.get("content-length", 0)))

    async def ended(self) -> None:
        """Wait for the server to end the connection; what still comes is dropped."""
        try:
            while True:
                await self.more()
        except Gone:
            return


class Client(Raw):
    """A WebSocket client on top."""

    pings = 0
    answers_pings = True

    @classmethod
    async def connect(
        cls,
        port: int,
        path: str = "/ws",
        *,
        receive_buffer: int | None = None,
        early: bytes = b"",
    ) -> Self:
        client = await cls.open(port, receive_buffer)
        try:
            await client.write(handshake(path) + early)
            status, headers = await client.head()
            assert status == 101
            assert headers["sec-websocket-accept"] == ACCEPT
        except BaseException:
            client.sock.close()
            raise
        return client

    async def send(self, message: object) -> None:
        """Send one message: bytes and text as they are, all else as JSON."""
        if isinstance(message, str):
            message = message.encode()
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        await self.write(frame(data, mask=os.urandom(4)))

    async def receive_frame(self) -> tuple[int, bytes]:
        first, second = await self.read(2)
        assert first & 0x80, "the server does not fragment"
        assert not first & 0x70, "no extension was agreed on"
        assert not second & 0x80, "a server's frame is not masked"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.read(2))
            assert size > 125
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.read(8))
            assert size > 65_535
        return first & 0x0F, await self.read(size)

    async def receive_text(self) -> str:
        while True:
            opcode, payload = await self.receive_frame()
            if opcode == PING:
                self.pings += 1
                if self.answers_pings:
                    await self.write(frame(payload, PONG))
            elif opcode == CLOSE:
                raise Gone(int.from_bytes(payload[:2]), payload[2:].decode())
            elif opcode == TEXT:
                return payload.decode()

    async def receive(self) -> dict[str, Any]:
        """Return the next message."""
        message = json.loads(await self.receive_text())
        assert isinstance(message, dict)
        return message

    async def ask(self, message: object) -> dict[str, Any]:
        """Send and return what comes next."""
        await self.send(message)
        return await self.receive()

    async def until(self, **fields: object) -> list[dict[str, Any]]:
        """Return all messages up to the first with these fields."""
        seen = []
        while True:
            message = await self.receive()
            seen.append(message)
            if all(message.get(key) == value for key, value in fields.items()):
                return seen

    async def subscribe(self, *channels: str) -> dict[str, Any]:
        answer = await self.ask({"type": "subscribe", "channels": channels})
        assert answer["type"] == "subscribed", answer
        return answer

    async def pinged(self) -> None:
        """Prove that the connection is open and in order."""
        assert (await self.ask({"type": "ping", "id": "alive"}))["id"] == "alive"

    async def closed(self) -> tuple[int, str]:
        """Wait for the close frame, answer it, wait for the end; return code and reason."""
        while True:
            opcode, payload = await self.receive_frame()
            if opcode == CLOSE:
                break
        await self.write(frame(payload, CLOSE))
        await self.ended()
        return int.from_bytes(payload[:2]), payload[2:].decode()
