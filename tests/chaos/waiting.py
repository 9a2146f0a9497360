"""Waiting for what wakes nobody, with an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

PATIENCE_S = 50.0


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until it holds; there is no event for what a client or a kernel counts."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:g} s: {what}") from None


async def until_said(question: Callable[[], Awaitable[object]], what: str) -> None:
    """Ask until the answer is empty."""
    answer: object = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while answer := await question():  # noqa: ASYNC110 - it is asked of a process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_S:g} s: {what}: {answer}") from None
