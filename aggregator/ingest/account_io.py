"""What a connector of accounts gets to do its work with: requests, and a WebSocket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import WSMsgType

from aggregator.account import AccountOptions, NativeOptions, Response
from aggregator.connector import Request

from .dial import connect
from .failure import UpstreamError, from_websocket
from .fetch import get
from .sender import SEND_TIMEOUT_S, Sender, WebSocket


class AccountSocket:
    """
    A WebSocket that says when it is dead. One task uses it.

    Args:
        ws: as `dial.connect` opens it.
        options: after how much silence there is a ping, and how long its answer may take.
        ping: the text of a ping; `None`: a ping of the WebSocket protocol.
        pong: the text that answers it.

    """

    def __init__(
        self, ws: WebSocket, options: NativeOptions, ping: str | None, pong: bytes | None
    ) -> None:
        self._ws = ws
        self._options = options
        self._ping = ping
        self._pong = pong

    async def send(self, frame: str) -> None:
        """
        Send a text frame.

        Raises:
            UpstreamError: the connection is lost, or takes nothing.

        """
        await self._send(WSMsgType.TEXT, frame.encode())

    async def receive(self) -> bytes:
        """
        Return the next text frame that is no pong.

        Raises:
            UpstreamError: the connection has ended, or nothing comes over it any more.

        """
        options, pinged = self._options, False
        while True:
            wait_s = options.pong_timeout_s if pinged else options.ping_after_s
            try:
                async with asyncio.timeout(wait_s):
                    message = await self._ws.receive()
            except TimeoutError:
                if pinged:
                    raise UpstreamError(f"no pong within {wait_s:g} s", "timeout") from None
                pinged = True
                await self._send_ping()
                continue
            pinged = False
            match message.type:
                case WSMsgType.TEXT if bytes(message.data) != self._pong:
                    return bytes(message.data)
                case WSMsgType.PING:
                    await self._send(WSMsgType.PONG, bytes(message.data))
                case WSMsgType.TEXT | WSMsgType.PONG:
                    continue
                case WSMsgType.BINARY:
                    raise UpstreamError("a binary frame", "payload")
                case kind:
                    raise from_websocket(kind, message.data, message.extra)

    async def _send_ping(self) -> None:
        if self._ping is None:
            await self._send(WSMsgType.PING, b"")
        else:
            await self._send(WSMsgType.TEXT, self._ping.encode())

    async def _send(self, kind: WSMsgType, frame: bytes) -> None:
        # After a send that was given up nothing else is sent: the connection ends.
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._ws.send_frame(frame, kind)
        except (aiohttp.ClientError, OSError):
            raise UpstreamError("connection lost while sending") from None


class AccountIo:
    """
    The I/O of one account; an `aggregator.account.Io`.

    Args:
        exchange: the venue's name, for people.
        options: those of the account.
        session: makes the requests and opens the sockets.

    """

    def __init__(
        self, exchange: str, options: AccountOptions, session: aiohttp.ClientSession
    ) -> None:
        self._exchange = exchange
        self._given = options
        self._session = session
        self._attempts = 0

    @property
    def _options(self) -> NativeOptions:
        if not isinstance(self._given, NativeOptions):
            raise TypeError("the options of this account have no addresses")
        return self._given

    def now_us(self) -> int:
        """Return the wall clock in microseconds since the epoch."""
        return time.time_ns() // 1000

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        """
        Make a GET request; `path` may have a query, and is sent as it is.

        Raises:
            UpstreamError: no answer came, or one that means the same at every venue.
            PayloadError: the body is too large, or no UTF-8.

        """
        options = self._options
        answer = await get(
            self._session,
            options.base_url,
            Request(path, headers=headers),
            venue=self._exchange,
            timeout_s=options.timeout_s,
        )
        return Response(answer.status, answer.body)

    @asynccontextmanager
    async def connect(
        self, *, ping: str | None = None, pong: bytes | None = None
    ) -> AsyncIterator[AccountSocket]:
        """
        Open the WebSocket, at another address each time.

        Raises:
            UpstreamError: it can't be opened.

        """
        options = self._options
        url = options.urls[self._attempts % len(options.urls)]
        self._attempts += 1
        ws = await connect(self._session, url, self._exchange)
        try:
            yield AccountSocket(ws, options, ping, pong)
        finally:
            await Sender(ws).close()
