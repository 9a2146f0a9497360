"""Where a connection puts its events, and what is held back of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from aggregator.model import Event

from .position import Position


class Held(NamedTuple):
    """An event that is held back; `us` is when it was received, in microseconds since the epoch."""

    event: Event
    us: int
    position: Position | None


@dataclass(slots=True, eq=False)
class Inlet:
    """
    Where a connection puts its events.

    Attributes:
        take: takes an event and when it was received, in microseconds since the epoch.
        leads: whether they are published.
        unpublished: how many of them were taken that are data, and were not published.
        opened: when the connection was open, on a monotonic clock in seconds, and `opened_us` by
            the wall clock.

    """

    take: Callable[[Event, int], None]
    leads: bool = False
    unpublished: int = 0
    opened: float | None = None
    opened_us: int = 0
    held: list[Held] = field(default_factory=list)
    first: dict[str, Position] = field(default_factory=dict)
    """By instrument, where what is held back begins."""
    waiting: dict[str, float] = field(default_factory=dict)
    """Since when the first of an instrument waits for the other connection to bring it too."""
    covered: set[str] = field(default_factory=set)
    """Instruments of which nothing is missing between the two connections."""
    cut: set[str] = field(default_factory=set)
    """Instruments of which trades were too many to be held back."""

    def open(self, now: float, now_us: int) -> None:
        """Take note that the connection is open."""
        self.opened, self.opened_us = now, now_us
