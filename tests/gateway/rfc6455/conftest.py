"""A conversation with a running server; the event loops are those of the folder above."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from gateway.rfc6455.conversation import Conversation, Watched

Converse = Callable[..., Awaitable[Conversation]]


@pytest.fixture
async def converse(serve: Callable[..., Any], monkeypatch) -> AsyncIterator[Converse]:
    """Return a function that starts a daemon with this configuration and connects to it."""
    sessions: list[Watched] = []

    def watched(*args: Any, **options: Any) -> Watched:
        sessions.append(Watched(*args, **options))
        return sessions[-1]

    monkeypatch.setattr("aggregator.gateway.sessions.Session", watched)
    with contextlib.ExitStack() as stack:

        async def converse(**config: Any) -> Conversation:
            # How many commands a client may give is tested elsewhere.
            daemon = await serve(command_burst=100_000, **config)
            conversation = Conversation(daemon, sessions)
            stack.callback(conversation.end)
            await conversation.begin()
            return conversation

        yield converse


@pytest.fixture
async def talk(converse: Converse) -> Conversation:
    """Return a conversation with a daemon of the default configuration."""
    return await converse()
