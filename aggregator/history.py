"""What was published on a channel lately, for clients that come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Generic, Protocol, TypeVar


class Numbered(Protocol):
    """A message, as seen from here."""

    @property
    def seq(self) -> int:
        """Its number: one more than that of the message before it."""

    @property
    def frame(self) -> bytes:
        """Its bytes."""

    @property
    def us(self) -> int:
        """When it was received, in microseconds since the epoch."""


M = TypeVar("M", bound=Numbered)


class History(Generic[M]):
    """
    The newest messages of a channel, without holes.

    Args:
        limit: how many are kept at most.

    """

    __slots__ = ("_messages", "append")

    def __init__(self, limit: int) -> None:
        self._messages: deque[M] = deque(maxlen=limit)
        # The deque's own, since it is called for every message that is published.
        self.append = self._messages.append

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[M]:
        return iter(self._messages)

    @property
    def first_seq(self) -> int | None:
        """The number of the oldest that is kept."""
        return self._messages[0].seq if self._messages else None

    def reaches(self, seq: int) -> bool:
        """Return whether all messages behind this number are kept, if it is one that was sent."""
        messages = self._messages
        return bool(messages) and messages[0].seq - 1 <= seq <= messages[-1].seq

    def after(self, seq: int, most: int) -> list[M]:
        """
        Return messages behind this number, oldest first.

        Args:
            seq: the number; where those behind it are not kept, the oldest that are come first.
            most: how many at most.

        """
        messages = self._messages
        start = max(0, seq + 1 - messages[0].seq) if messages else 0
        return list(islice(messages, start, start + most))

    def forget(self, before_us: int, max_bytes: int) -> None:
        """
        Forget the oldest.

        Args:
            before_us: those that were received before, in microseconds since the epoch.
            max_bytes: and so many that the others have about this size.

        """
        messages = self._messages
        while messages and messages[0].us < before_us:
            messages.popleft()
        if not messages:
            return
        # By a sample: to add up ten thousand sizes for each channel would hold up everybody.
        sample = [len(each.frame) for each in islice(messages, 0, None, len(messages) // 64 or 1)]
        most = max_bytes * len(sample) // sum(sample)
        while len(messages) > most:
            messages.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._messages.clear()
