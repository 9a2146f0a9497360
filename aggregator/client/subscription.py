"""A subscription: what is asked for, and the messages that come of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from aggregator.messages import Error, Message

from .buffer import Buffer
from .errors import SubscriptionError

if TYPE_CHECKING:
    from .readers import Readers


class Terms(NamedTuple):
    """How much is wanted of each message and how often; see docs/protocol.md."""

    max_hz: float | None = None
    raw: bool = True


class Subscription:
    """
    Messages of some channels: iterate over it, or leave them to `wait()` of the client.

    It keeps messages of its own from when you begin to iterate. You may stop, and go on later.
    """

    def __init__(
        self, readers: Readers, channels: tuple[str, ...], terms: Terms, buffer: Buffer
    ) -> None:
        self.channels = channels
        self.terms = terms
        self.own = buffer
        """Its messages, if it is iterated over."""
        self.claimed = False
        self.refused: dict[str, Error] = {}
        self.failure: SubscriptionError | None = None
        self._readers = readers

    def wants(self, channel: str, instrument: str | None) -> bool:
        """Whether a message is for it; an instrument that is `None` stands for any."""
        for each in self.channels:
            name, _, only = each.partition(":")
            if name in {channel, "*"} and (not only or instrument in {None, only}):
                return True
        return False

    def refuse(self, error: Error) -> SubscriptionError | None:
        """Note a refusal; return the exception if nothing is left."""
        for channel in [error.channel] if error.channel in self.channels else self.channels:
            self.refused[channel] = error
        if self.refused.keys() < set(self.channels):
            return None
        return SubscriptionError(list({id(e): e for e in self.refused.values()}.values()))

    def __aiter__(self) -> AsyncIterator[Message]:
        """Return an iterator over the messages; it ends when the client is closed."""
        return self._readers.messages(self._readers.claim(self))

    async def __anext__(self) -> Message:
        """Return the next message."""
        buffer = self._readers.claim(self)
        if not await buffer.ready():
            raise StopAsyncIteration
        return await self._readers.taken(buffer)

    def unsubscribe(self) -> None:
        """Want it no more: the iteration ends behind what has come already."""
        self._readers.end(self)


def is_text(value: object) -> bool:
    """Return whether something can be a channel, whatever a program passes."""
    return isinstance(value, str) and value != ""
