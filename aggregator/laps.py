"""In which order audiences have their turn, when thousands of sessions are to be written to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from .audience import Audience
from .paced import PacedAudience

Waiting = Audience | PacedAudience


class Laps:
    """
    Goes round the audiences that have something to flush, lap after lap.

    Args:
        wake: called when something waits, at the first audience after a lap.

    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._next: list[Waiting] = []
        self._lap: deque[Waiting] = deque()
        self._number = 0
        self._busy = False

    @property
    def under_way(self) -> bool:
        """Whether a lap is not over."""
        return bool(self._lap)

    @property
    def waiting(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._next or self._lap)

    def add(self, audience: Waiting) -> None:
        """Let an audience have its turn: in this lap, unless it has had it."""
        if self._lap and audience.lap != self._number:
            # Next: a quiet channel need not wait for the fan-out of another.
            self._lap.appendleft(audience)
            return
        if not self._next:
            self._wake()
        self._next.append(audience)

    def turns(self, limit: int) -> Iterator[Waiting]:
        """Yield whose turn it is, with about `limit` sessions in all."""
        if not self._lap:
            self._lap, self._next = deque(self._next), []
            self._number += 1
            if not self._busy:
                # Nobody is always last. But where one lap follows another, who was first comes
                # first again, one lap later: to be last then would be to wait for two.
                self._lap.rotate(self._number)
        while self._lap and limit > 0:
            # Taken out first: after a bug in its `write` the others still have their turn.
            audience = self._lap.popleft()
            audience.lap = self._number
            limit -= audience.size
            yield audience
        self._busy = bool(self._next)
