"""`api.publish`: for programs that run the daemon in their own process, beside their own engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Published(NamedTuple):
    """Where an event went."""

    channel: str
    seq: int
    duplicate: bool
    """It had been published before, then: nothing was published now."""


Publish = Callable[[Mapping[str, Any]], Published]
_running: list[Publish] = []


def publish(event: Mapping[str, Any]) -> Published:
    """
    Publish an event of an engine of one's own, as `POST /publish` does.

    To be called in the thread of the daemon's event loop, from others by
    `loop.call_soon_threadsafe`. It does not wait.

    Args:
        event: what the body of `POST /publish` is, decoded: docs/protocol.md.

    Raises:
        RuntimeError: no daemon runs in this process.
        ValueError: it is no such event (pydantic's ValidationError is one).
        TypeError: it can't be written as JSON.
        ConflictError: another event has its key, or the channel is not open for it.

    """
    if not _running:
        raise RuntimeError("no daemon runs in this process")
    return _running[-1](event)


def opened(to: Publish) -> None:
    """Let `publish` lead to a daemon from now on."""
    _running.append(to)


def closed(to: Publish) -> None:
    """Let it lead there no more."""
    _running.remove(to)
