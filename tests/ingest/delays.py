"""A way to a venue on which each connection takes a time of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Self


class Delays:
    """
    Passes TCP connections on to a port of loopback; what comes back is late.

    Args:
        port: where to.
        delay_s: returns by how many seconds what comes on the next connection is late.

    """

    def __init__(self, port: int, delay_s: Callable[[], float]) -> None:
        self._to = port
        self._delay_s = delay_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._pass_on(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, to = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_copy(reader, to, 0.0))
                tasks.create_task(_copy(back, writer, self._delay_s()))
        except* ConnectionError:
            pass
        finally:
            to.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Copy until the end, each piece late by `delay_s` seconds, in order."""
    loop = asyncio.get_running_loop()
    late: deque[bytes] = deque()

    def write() -> None:
        # Whichever timer this is of, the oldest is the next.
        if piece := late.popleft():
            writer.write(piece)
        else:
            writer.close()

    while True:
        late.append(await reader.read(65_536))
        loop.call_later(delay_s, write)
        if not late[-1]:
            return
