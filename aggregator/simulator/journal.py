"""What clients did: requests, commands, connections; and waiting for the next of them."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

_REMEMBERED = 10_000


class Request(NamedTuple):
    """One HTTP request or handshake; `path_qs` is what stood behind the venue's prefix."""

    venue: str
    method: str
    path_qs: str
    at: float


class Command(NamedTuple):
    """One text message that a client sent over a WebSocket."""

    venue: str
    text: str
    at: float


class Journal:
    """Bounded records, and futures for what has not happened yet."""

    def __init__(self) -> None:
        self.requests: deque[Request] = deque(maxlen=_REMEMBERED)
        self.commands: deque[Command] = deque(maxlen=_REMEMBERED)
        self._waiting: dict[asyncio.Future[Any], Callable[[Any], bool]] = {}

    def request(self, venue: str, method: str, path_qs: str) -> None:
        """Record a request that has arrived."""
        entry = Request(venue, method, path_qs, time.monotonic())
        self.requests.append(entry)
        self.happened(entry)

    def command(self, venue: str, text: str) -> None:
        """Record a text message that has arrived."""
        entry = Command(venue, text, time.monotonic())
        self.commands.append(entry)
        self.happened(entry)

    def happened(self, event: Any) -> None:
        """Wake all who wait for this event."""
        for future, wanted in self._waiting.items():
            if not future.done() and wanted(event):
                future.set_result(event)

    async def wait(self, wanted: Callable[[Any], bool]) -> Any:
        """Wait for the next event for which `wanted` is true."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[future] = wanted
        try:
            return await future
        finally:
            del self._waiting[future]
