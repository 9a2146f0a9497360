"""
The one place that touches what aiohttp does not promise: a connection changes hands.

aiohttp does routing, limits and the parsing of the request; then the transport is given to a
protocol of our own, and everything that aiohttp holds for a connection (request, task, parser,
handler: some 14 KB) is let go. `tests/gateway/test_handoff.py` fails loudly when a new aiohttp
changes what is relied on here; until that is mended clients are served by `fallback`. A daemon
finds that out before it listens: it hands a connection over to itself.

Source: RFC 6455, section 4.2 (the server's side of the opening handshake).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import socket
from types import FunctionType, MemberDescriptorType

from aiohttp import HttpVersion11, hdrs, web

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SEND_BUFFER_BYTES = 131_072
"""Of the kernel, per client: with the default a stalled one is noticed only after 4 MB."""
HIGH_WATER_BYTES = 0
"""
Of the transport: above this a session is told to pause. With 0 that is what the kernel does not
take, and uvloop writes at once: else it would put the write off to the end of the loop's turn, for
all clients together, so that the first waits for the last and the end of a fan-out is unknown.
"""
_NOBODY = asyncio.Protocol()

INTERNALS = {
    "_message_tail": MemberDescriptorType,
    "_upgraded": MemberDescriptorType,
    "transport": MemberDescriptorType,
    "writing_paused": property,
    "connection_lost": FunctionType,
}
"""Relied on of aiohttp's handler of a connection, and what each is: a slot can be set."""


def missing() -> list[str]:
    """Return what `take_over` needs and is not there, or not as it was."""
    handler = getattr(web, "RequestHandler", None)
    names = [n for n, kind in INTERNALS.items() if not isinstance(getattr(handler, n, None), kind)]
    if not isinstance(getattr(web.BaseRequest, "protocol", None), property):
        names.append("protocol")
    if not hasattr(asyncio.Transport, "set_protocol"):
        names.append("set_protocol")
    return names


class HandedOver(web.StreamResponse):
    """What a handler returns after a hand-over: aiohttp has nothing left to send."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""


def accept_key(request: web.BaseRequest, *, promised_only: bool = False) -> str:
    """
    Check the opening handshake; with `promised_only`, by what aiohttp promises alone.

    Returns:
        The value of `Sec-WebSocket-Accept`.

    Raises:
        web.HTTPException: 400 or 426, where it is none.

    """
    headers = request.headers
    if headers.get(hdrs.UPGRADE, "").lower().strip() != "websocket":
        raise web.HTTPUpgradeRequired(
            text="this is a WebSocket; connect with ws:// or wss://\n",
            headers={hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "Upgrade"},
        )
    tokens = ",".join(headers.getall(hdrs.CONNECTION, ())).lower().split(",")
    if "upgrade" not in (token.strip() for token in tokens):
        raise web.HTTPBadRequest(text="Connection must contain Upgrade\n")
    if headers.get(hdrs.SEC_WEBSOCKET_VERSION) != "13":
        raise web.HTTPUpgradeRequired(
            text="Sec-WebSocket-Version must be 13\n", headers={hdrs.SEC_WEBSOCKET_VERSION: "13"}
        )
    keys = headers.getall(hdrs.SEC_WEBSOCKET_KEY, ())
    key = keys[0].strip() if keys else ""
    try:
        good = len(keys) == 1 and len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        good = False
    if not good:
        raise web.HTTPBadRequest(text="Sec-WebSocket-Key must be 16 bytes in base64\n")
    # aiohttp's parser has stopped only behind a request without a body, or with a whole one.
    stopped = not request.body_exists if promised_only else request.protocol._upgraded  # noqa: SLF001
    if request.version < HttpVersion11 or not stopped:
        raise web.HTTPBadRequest(text="the handshake must be HTTP/1.1, without a body\n")
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def take_over(
    request: web.BaseRequest,
    protocol: asyncio.BaseProtocol,
    accept: str,
    extensions: str = "",
    subprotocol: str = "",
) -> tuple[asyncio.Transport, bytes]:
    """
    Answer the handshake and make `protocol` the transport's own.

    Args:
        request: the handshake.
        protocol: who has the transport from now on.
        accept: what `accept_key` returned.
        extensions: the value of `Sec-WebSocket-Extensions`; without one there is no such header.
        subprotocol: likewise, of `Sec-WebSocket-Protocol`.

    Returns:
        The transport, and what the client sent right behind its request.

    Raises:
        ConnectionResetError: the client has gone in the meantime.

    """
    handler = request.protocol
    transport = handler.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    early: bytes = handler._message_tail  # noqa: SLF001
    handler._message_tail = b""  # noqa: SLF001
    # Before the answer: one that uvloop has put off would count as a client that does not read.
    limit_buffers(transport)
    transport.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: "
        + accept.encode()
        + (b"\r\nSec-WebSocket-Extensions: " + extensions.encode() if extensions else b"")
        + (b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode() if subprotocol else b"")
        + b"\r\n\r\n"
    )
    # uvloop, told of a buffered protocol, remembers the one before it as well: so let that be one
    # that costs nothing.
    transport.set_protocol(_NOBODY)
    transport.set_protocol(protocol)
    # What the transport has told aiohttp, it does not tell again: earlier answers are unread, or
    # aiohttp has stopped reading, since much came right behind the handshake.
    if handler.writing_paused:
        protocol.pause_writing()
    transport.resume_reading()
    # Without its transport the handler can't close it; with "the connection lost" it lets go.
    handler.transport = None
    handler.connection_lost(None)
    return transport, early


def limit_buffers(transport: asyncio.Transport) -> None:
    """Let no more be written ahead of a client than `HIGH_WATER_BYTES` and `SEND_BUFFER_BYTES`."""
    # TLS counts what is under way in a layer of its own, and would call that too much with 0 bytes.
    tls = transport.get_extra_info("sslcontext") is not None
    transport.set_write_buffer_limits(high=max(HIGH_WATER_BYTES, 1) if tls else HIGH_WATER_BYTES)
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


async def rehearse() -> str:
    """
    Take a connection of our own over from aiohttp, by the functions that serve clients.

    Returns:
        What is not as it should be; empty where all is.

    """
    if absent := missing():
        return f"without {', '.join(absent)}"
    ours, theirs = socket.socketpair()
    taken = _Taken()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        _, early = take_over(request, taken, accept_key(request))
        taken.data_received(early)
        return HandedOver()

    loop = asyncio.get_running_loop()
    theirs.settimeout(0)
    server = web.Server(handle, access_log=None)
    transport, _ = await loop.connect_accepted_socket(server, ours)
    try:
        async with asyncio.timeout(REHEARSAL_S):
            await loop.sock_sendall(theirs, _HANDSHAKE + b"early")
            await taken.until(b"early")
            await loop.sock_sendall(theirs, b"late")
            await taken.until(b"earlylate")
            transport.close()
            answer = b""
            while more := await loop.sock_recv(theirs, 4096):
                answer += more
    except (TimeoutError, OSError) as e:
        return f"a connection of its own: {type(e).__name__}"
    finally:
        transport.abort()
        await server.shutdown(0)
        theirs.close()
    head, end, rest = answer.partition(b"\r\n\r\n")
    return "" if head.startswith(b"HTTP/1.1 101 ") and end and not rest else "another answer"


REHEARSAL_S = 2.0
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: rehearsal\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class _Taken(asyncio.Protocol):
    """Collects what a connection receives after it was taken over."""

    def __init__(self) -> None:
        self._data = b""
        self._more = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self._data += data
        self._more.set()

    async def until(self, data: bytes) -> None:
        """Wait for just this."""
        while self._data != data:
            self._more.clear()
            await self._more.wait()
