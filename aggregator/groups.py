"""Audiences by what they have in common, each of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from .audience import Key, Session, Wants

SESSIONS = 250
"""The most of one audience: to write to them takes some 1 ms, then the venues have their turn."""


class Group(Protocol):
    """An audience of either kind."""

    @property
    def key(self) -> Key:
        """What its sessions have in common."""

    @property
    def size(self) -> int:
        """How many sessions it has."""

    def add(self, session: Session) -> None:
        """Let a session have everything that is offered from now on."""


A = TypeVar("A", bound=Group)


class Groups(Generic[A]):
    """
    All audiences of one kind. What it costs to join or leave is independent of how many there are.

    Args:
        create: makes an audience.
        enter: told of a new one, so that messages are offered to it from then on.
        withdraw: told of one that nobody is in any more.

    """

    def __init__(
        self,
        create: Callable[[Key], A],
        enter: Callable[[A, Wants], None],
        withdraw: Callable[[A, Wants], None],
    ) -> None:
        self._create = create
        self._enter = enter
        self._withdraw = withdraw
        self._all: dict[A, None] = {}
        # Those that are not full.
        self._open: dict[Key, dict[A, None]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[A]:
        return iter(self._all)

    def join(self, session: Session, key: Key) -> A:
        """Put a session into an audience of those who want the same."""
        room = self._open.setdefault(key, {})
        if room:
            audience = next(iter(room))
        else:
            audience = self._create(key)
            self._all[audience] = room[audience] = None
            self._enter(audience, key.wants)
        audience.add(session)
        if audience.size >= SESSIONS:
            del room[audience]
            if not room:
                del self._open[key]
        return audience

    def left(self, audience: A) -> None:
        """Take note that a session has left an audience."""
        room = self._open.setdefault(audience.key, {})
        room[audience] = None
        if audience.size:
            return
        del self._all[audience]
        del room[audience]
        if not room:
            del self._open[audience.key]
        self._withdraw(audience, audience.key.wants)
