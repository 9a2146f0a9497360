"""
What a stream has fetched: data like all others, but no sign that the stream itself is alive.

A venue may answer every request while its WebSocket says nothing any more. So what a fetch brings
is published, and told apart here where silences are judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aggregator.channel import Channel, Message
from aggregator.model import TradeExecuted


class Fetched:
    """
    Which of the last messages of a feed were fetched.

    Args:
        channel: the feed's channel.

    """

    __slots__ = ("_channel", "_found")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        # By instrument: what was fetched, and the last that the stream brought before it.
        self._found: dict[str, tuple[Message, Message | None]] = {}

    def lasts(self, names: Iterable[str]) -> dict[str, Message | None]:
        """Return the last messages of these instruments, for `note` to know what is new."""
        slots = self._channel.slots
        return {name: slots[name].last if name in slots else None for name in names}

    def note(self, before: Mapping[str, Message | None]) -> bool:
        """Take note that whatever came since `lasts` was fetched; return whether anything did."""
        news = False
        for name, was in before.items():
            slot = self._channel.slots.get(name)
            if slot is None or slot.last is None or slot.last is was:
                continue
            if was is not None and slot.stale is was:
                slot.stale = slot.last
            self._found[name] = (slot.last, self.heard(name, was))
            news = True
        return news

    def heard(self, name: str, last: Message | None) -> Message | None:
        """Return the last message that the stream brought; `last` is the last of all."""
        if name not in self._found:
            return last
        message, before = self._found[name]
        if message is last:
            return before
        del self._found[name]
        return last


def is_backfilled(event: object) -> bool:
    """Return whether this is a trade that was missed, and fetched afterwards."""
    return isinstance(event, TradeExecuted) and event.backfilled
