"""A conversation with compression agreed on, with a running server on both event loops."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from gateway.rfc6455.conversation import Watched
from gateway.rfc7692.deflating import Compressed

Converse = Callable[..., Awaitable[Compressed]]


@pytest.fixture
async def converse(serve: Callable[..., Any], monkeypatch) -> AsyncIterator[Converse]:
    """Return a function that starts a daemon with this configuration and connects to it."""
    sessions: list[Watched] = []

    def watched(*args: Any, **options: Any) -> Watched:
        sessions.append(Watched(*args, **options))
        return sessions[-1]

    monkeypatch.setattr("aggregator.gateway.sessions.Session", watched)
    with contextlib.ExitStack() as stack:

        async def converse(offered: str | None = "permessage-deflate", **config: Any) -> Compressed:
            daemon = await serve(command_burst=100_000, **config)
            conversation = Compressed(daemon, sessions)
            conversation.offered = offered
            stack.callback(conversation.end)
            await conversation.begin()
            return conversation

        yield converse


@pytest.fixture
async def talk(converse: Converse) -> Compressed:
    """Return a conversation with a daemon of the default configuration."""
    return await converse()
