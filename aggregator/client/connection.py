"""One WebSocket connection: commands out, messages in, and whether it is alive."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import aiohttp
import msgspec
from aiohttp.http import WSMessageTextBytes

from .commands import AUTHENTICATION_FAILED, Command, Commands
from .errors import ClientError, RefusedError
from .intake import Intake
from .options import Options

Socket = aiohttp.ClientWebSocketResponse[bool]

COMPRESSION_BITS = 15
TOO_MANY = 429
GRACE_S = 1.0


async def dial(session: aiohttp.ClientSession, url: str, options: Options) -> Socket:
    """
    Connect.

    Raises:
        RefusedError: the daemon does not want this client, now or later.
        aiohttp.ClientError, OSError, TimeoutError: it did not work this time.

    """
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            return await session.ws_connect(
                url,
                max_msg_size=0,
                compress=COMPRESSION_BITS if options.compress else 0,
                headers=options.headers,
                timeout=aiohttp.ClientWSTimeout(ws_close=options.close_timeout_s),
                decode_text=False,
            )
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as e:
        raise ClientError(f"can't reach {url}: that is no address") from e
    except aiohttp.WSServerHandshakeError as e:
        if 400 <= e.status < 500 and e.status != TOO_MANY:
            raise RefusedError(f"{url} answers HTTP {e.status}: {e.message}", e.status) from e
        raise


class Connection:
    """
    A conversation with the daemon.

    Args:
        ws: the WebSocket.
        intake: takes what comes.
        commands: says what is to be sent.
        options: of the client.

    """

    def __init__(self, ws: Socket, intake: Intake, commands: Commands, options: Options) -> None:
        self._ws = ws
        self._intake = intake
        self._commands = commands
        self._options = options
        self._outgoing: deque[Command] = deque()
        self._more = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self._heard = False
        self._blocked = False
        self._silence: TimeoutError | None = None

    def send(self, command: Command, delay_s: float) -> None:
        """Send a command soon, in order."""
        if delay_s:
            self._later(delay_s, lambda: self.send(command, 0.0))
            return
        self._outgoing.append(command)
        self._more.set()

    def _later(self, delay_s: float, what: object) -> None:
        assert callable(what)  # noqa: S101

        def run() -> None:
            self._timers.discard(handle)
            what()

        handle = asyncio.get_running_loop().call_later(delay_s, run)
        self._timers.add(handle)

    async def run(self) -> str:
        """Converse until the end; return why it ended."""
        reader = asyncio.create_task(self._read(), name="client reader")
        writer = asyncio.create_task(self._write(), name="client writer")
        self._watch(reader, quiet=0)
        try:
            self._commands.begin()
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in (reader, writer):
                task.cancel()
            await asyncio.wait({reader, writer})
            self._commands.lost()
            await self._hang_up()
        if self._silence is not None:
            return str(self._silence)
        for task in (reader, writer):
            if not task.cancelled() and (error := task.exception()) is not None:
                if not isinstance(error, aiohttp.ClientError | OSError):
                    raise error
                return str(error) or type(error).__name__
        return "" if reader.cancelled() else reader.result()

    async def _read(self) -> str:
        receive, intake, text = self._ws.receive, self._intake, aiohttp.WSMsgType.TEXT
        while True:
            received = await receive()
            if received.type is not text:
                return self._farewell(received)
            self._heard = True
            intake.take(received.data)
            if intake.crowded:
                await self._until_there_is_room()

    async def _until_there_is_room(self) -> None:
        """Read nothing: the daemon sees that, and sends the newest values afterwards."""
        self._blocked = True
        try:
            for buffer in self._intake.crowded:
                await buffer.room()
        finally:
            self._intake.crowded = ()
            self._blocked = False

    def _farewell(self, received: aiohttp.WSMessage | WSMessageTextBytes) -> str:
        code = self._ws.close_code
        if code == AUTHENTICATION_FAILED:
            raise RefusedError("the daemon closes with 4001: authentication failed", code)
        if received.type is aiohttp.WSMsgType.BINARY:
            return "a binary frame came; the daemon sends none"
        if received.type is aiohttp.WSMsgType.ERROR:
            return f"the connection broke: {received.data}"
        return f"the daemon has closed the connection ({code})"

    async def _write(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._outgoing:
                command = self._outgoing.popleft()
                await self._ws.send_str(msgspec.json.encode(command).decode())

    def _watch(self, reader: asyncio.Task[str], quiet: int) -> None:
        """Ask whether the daemon is there when nothing comes; without an answer, end it."""
        options, looks = self._options, 2
        if self._heard or self._blocked:
            self._heard, quiet = False, 0
            self._commands.ponged = True
        if not self._commands.ponged and quiet:
            self._silence = TimeoutError(f"no answer for {options.pong_timeout_s:g} s")
            reader.cancel()
        elif quiet >= looks:
            self._commands.ping()
            self._later(options.pong_timeout_s, lambda: self._watch(reader, quiet))
        else:
            self._later(options.ping_after_s / looks, lambda: self._watch(reader, quiet + 1))

    async def _hang_up(self) -> None:
        """Close; from who does not answer not even that is waited for, or not for long."""
        patience_s = 0.0 if self._silence is not None else self._options.close_timeout_s
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(patience_s):
                await self._ws.close()
