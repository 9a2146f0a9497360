"""What a feed has called of ccxt, for who asks why nothing comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class Calls:
    """When ccxt was called last, and when that worked last."""

    def __init__(self) -> None:
        self._name = ""
        self._began: float | None = None
        self._succeeded: float | None = None
        self._under_way = 0

    async def noted(self, name: str, work: Awaitable[T]) -> T:
        """Await a call, and take note of it."""
        clock = asyncio.get_running_loop().time
        self._name, self._began = name, clock()
        self._under_way += 1
        try:
            result = await work
        finally:
            self._under_way -= 1
        self._succeeded = clock()
        return result

    def facts(self) -> dict[str, object]:
        """Return what operators may want to know, with ages in seconds."""
        now = asyncio.get_running_loop().time()
        return {
            "last_call": self._name or None,
            "last_call_age_s": None if self._began is None else now - self._began,
            "last_success_age_s": None if self._succeeded is None else now - self._succeeded,
            "calls_under_way": self._under_way,
        }
