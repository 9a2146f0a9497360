"""
Serves clients through aiohttp's own WebSocket, where `handoff` does not know this aiohttp.

Only what aiohttp promises is used: it parses what a client sends, and keeps the connection. All
else is the session's as ever: it writes finished frames, closes included, to the transport that
aiohttp has. What a transport would tell the session, as its protocol, is found out by looking.

A client costs some 14 KB more than after a hand-over. Compression is not negotiated. Two faults of
a client go unnoticed, since aiohttp lets them pass: a frame without a mask, and a message that
starts within another whose fragments are empty so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from aggregator.tokens import Identity

from . import handoff
from .access import SUBPROTOCOL
from .frames import CLOSE, ProtocolError, check_close, is_utf8
from .session import Session
from .sessions import RECEIVE_BYTES, Sessions

log = logging.getLogger(__name__)

SHORTEST_LOOK_S = 0.001
LONGEST_LOOK_S = 0.05
"""From one look to the next at whether a client has read on, or has gone."""
AT_ONCE_S = 1e-6
"""What comes within this came together: no more than one turn of the loop."""
HEADER_BYTES = 6
"""Of a client's short frames."""
_MORE_FOLLOWS = {WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG}


def warn(reason: str) -> None:
    """Say once, at the start, that clients are served in this way, and why."""
    log.warning(
        "aiohttp %s is not as this version knows it (%s): clients are served by its own WebSocket,"
        " at some 14 KB more for each, and without compression",
        aiohttp.__version__,
        reason,
    )


async def serve(
    request: web.BaseRequest,
    sessions: Sessions,
    address: str,
    identity: Identity | None = None,
    *,
    short: bool,
) -> web.StreamResponse:
    """
    Answer the handshake and serve the client to its end.

    Args:
        request: the handshake, checked.
        sessions: where the client belongs.
        address: the peer's address.
        identity: who it is, where it has said so.
        short: whether the short form of `/ws/ticker` is spoken.

    """
    transport = request.transport
    max_size = sessions.config.max_frame_bytes
    response = _WebSocket.made(max_size)
    session = sessions.create(address, short=short)
    session.identity = identity
    try:
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        handoff.limit_buffers(transport)
        await response.prepare(request)
    except ConnectionError:
        return handoff.HandedOver()  # the client has gone: nobody is left to answer
    link = Link(transport, session, max_size)
    # Once more: while earlier answers were unread, `prepare` has waited.
    if sessions.refusal(address):
        link.abort()
        return response
    sessions.add(session, link, b"")
    try:
        await link.read(response)
        # What ends it is under way: the client, or the session's own timer. aiohttp promises no
        # event for it.
        while request.transport is not None:  # noqa: ASYNC110
            await asyncio.sleep(LONGEST_LOOK_S)
    finally:
        link.lost()
    return response


class _WebSocket(web.WebSocketResponse):
    """aiohttp's WebSocket, for the handshake and for reading alone."""

    @classmethod
    def made(cls, max_size: int) -> _WebSocket:
        """Return one that does nothing by itself, and takes messages of up to this size."""
        return cls(
            autoclose=False,
            autoping=False,
            protocols=(SUBPROTOCOL,),
            compress=False,
            # aiohttp refuses messages of this size as well.
            max_msg_size=max_size + 1,
            decode_text=False,
        )

    async def close(self, *, code: int = 1000, message: bytes = b"", drain: bool = True) -> bool:
        """Do nothing: aiohttp closes after a fault and at the end, but the session does it."""
        del code, message, drain
        return False


class Link(asyncio.Transport):
    """
    The transport as a session knows it, on one whose protocol is aiohttp's.

    Args:
        transport: the connection.
        session: told what comes, when it has to pause and when it can go on.
        max_size: bytes that a message may have.

    """

    __slots__ = ("_look_s", "_looking", "_max_size", "_reading", "_session", "_socket")

    def __init__(self, transport: asyncio.Transport, session: Session, max_size: int) -> None:
        super().__init__()
        self._socket = transport
        self._session = session
        self._max_size = max_size
        self._reading = True
        self._looking: asyncio.TimerHandle | None = None
        self._look_s = SHORTEST_LOOK_S

    # To the client.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send; raises nothing but RuntimeError, as transports do that are closing."""
        self._socket.write(data)
        if self._looking is None and self.get_write_buffer_size() > handoff.HIGH_WATER_BYTES:
            self._look_s = SHORTEST_LOOK_S
            self._look_later()
            self._session.pause_writing()

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._look_s, self._look)
        self._look_s = min(2 * self._look_s, LONGEST_LOOK_S)

    def _look(self) -> None:
        """Let the session go on, if the kernel has taken everything."""
        self._looking = None
        if self.is_closing():
            return
        if self.get_write_buffer_size() > handoff.HIGH_WATER_BYTES:
            self._look_later()
        else:
            self._session.resume_writing()

    def get_write_buffer_size(self) -> int:
        """Return the bytes that the kernel has not taken yet."""
        try:
            return self._socket.get_write_buffer_size()
        except AttributeError:  # asyncio's for TLS, once it was closed twice, knows nothing
            return 0

    def can_write_eof(self) -> bool:
        """Whether this side alone can be shut."""
        return self._socket.can_write_eof()

    def write_eof(self) -> None:
        """Shut this side, if it is not yet."""
        if not self.is_closing():
            self._socket.write_eof()

    # From the client.

    async def read(self, response: web.WebSocketResponse) -> None:
        """Pass on what aiohttp has parsed, until nothing more can come."""
        more = True
        while more:
            messages = await _together(response)
            # aiohttp reads on until its own queue is full, and so notices when the client goes.
            while not (self._reading or self.is_closing()):  # noqa: ASYNC110 - nor is that an event
                await asyncio.sleep(LONGEST_LOOK_S)
            if self.is_closing():
                return
            self._session.take(_checked(messages, self._max_size))
            more = messages[-1].type in _MORE_FOLLOWS
            await asyncio.sleep(0)  # aiohttp does not wait while it has more

    def pause_reading(self) -> None:
        """Pass nothing on."""
        self._reading = False

    def resume_reading(self) -> None:
        """Pass on again."""
        self._reading = True

    def is_reading(self) -> bool:
        """Whether what comes is passed on."""
        return self._reading

    # The end.

    def is_closing(self) -> bool:
        """Whether the connection has ended or is about to."""
        return self._socket.is_closing()

    def close(self) -> None:
        """End the connection when all is sent."""
        self._socket.close()

    def abort(self) -> None:
        """Cut the connection, unless all is sent and it is closing."""
        # Then it ends by itself; and asyncio's, once it has, would raise.
        if self.get_write_buffer_size() or not self.is_closing():
            self._socket.abort()

    def lost(self) -> None:
        """Let the session know that the connection is gone."""
        if self._looking is not None:
            self._looking.cancel()
        self.abort()
        self._session.connection_lost(None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows of the connection."""
        return self._socket.get_extra_info(name, default)


async def _together(response: web.WebSocketResponse) -> list[aiohttp.WSMessage]:
    """Return the next message, and those that have come with it: so a transport would tell them."""
    messages = [await response.receive()]
    size = 0
    with contextlib.suppress(TimeoutError):
        while messages[-1].type in _MORE_FOLLOWS and size < RECEIVE_BYTES:
            size += HEADER_BYTES + len(messages[-1].data)
            messages.append(await response.receive(timeout=AT_ONCE_S))
    return messages


def _checked(messages: list[aiohttp.WSMessage], max_size: int) -> Iterator[tuple[int, bytes]]:
    """
    Yield messages as `Reader` would.

    Raises:
        ProtocolError: aiohttp has found a fault, or one is here that it does not look for.

    """
    for kind, payload, reason in messages:
        if kind is WSMsgType.ERROR:
            # Without a code it is aiohttp itself that has failed.
            raise ProtocolError(getattr(payload, "code", 1011), str(payload))
        if kind is WSMsgType.CLOSE:
            # Without a code aiohttp says 0.
            whole = payload.to_bytes(2) + (reason or "").encode() if payload else b""
            check_close(whole)
            yield CLOSE, whole
        elif kind in _MORE_FOLLOWS:
            if len(payload) > max_size:
                raise ProtocolError(1009, f"a message may have {max_size} bytes")
            if kind is WSMsgType.TEXT and not is_utf8(payload):
                raise ProtocolError(1007, "text is not UTF-8")
            yield kind, payload
