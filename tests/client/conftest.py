"""A daemon that is none, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from client.daemons import PATIENCE_S, FakeDaemon

from aggregator.client import Client, Options


@pytest.fixture
async def daemon() -> AsyncIterator[FakeDaemon]:
    daemon = FakeDaemon()
    await daemon.start()
    yield daemon
    for socket in daemon.sockets:
        socket._req.transport.abort()
    await daemon.stop()


@pytest.fixture
async def open_client(daemon):
    """Return a function that opens a client; it is closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_client(**changes: Any) -> Client:
            # No test waits for a back-off.
            options = {"first_wait_s": 0.01, "max_wait_s": 0.05, "start_timeout_s": 0.0} | changes
            return await stack.enter_async_context(Client(daemon.url, Options(**options)))

        yield open_client


@pytest.fixture
async def hanging_url() -> AsyncIterator[str]:
    """Return the address of a server that takes connections, and says nothing."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
    server.close()


@pytest.fixture
def take():
    """Return a function that takes so many messages of something that can be iterated over."""

    async def take(source: Any, number: int) -> list:
        found = []
        async with asyncio.timeout(PATIENCE_S):
            async for message in source:
                found.append(message)
                if len(found) == number:
                    return found
        return found

    return take
