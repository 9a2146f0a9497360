"""
What a session asks of its subscriptions: how often, and with the venue's payload or without.

Each message goes to a session once, however many of its subscriptions it matches. So that the
numbers of a channel never go back, one rate holds for all of a channel: the highest of the
session's subscriptions that touch it. `*:BTC/USDT` touches every channel of prices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aggregator.audience import Wants
from aggregator.channel import Channel, Message, Slot
from aggregator.directory import EVERYWHERE


class Terms(NamedTuple):
    """What was asked for besides the channel."""

    max_hz: float | None = None
    """How often each instrument's latest value is sent at most; `None` for every message."""
    raw: bool = True
    """With `data` in price updates."""

    def union(self, other: Terms) -> Terms:
        """Return what satisfies both."""
        rates = (self.max_hz, other.max_hz)
        known = [rate for rate in rates if rate is not None]
        return Terms(max(known) if len(known) == 2 else None, self.raw or other.raw)


ALL = Terms()
"""Every message, whole."""
_NONE: Wants = frozenset()


class Plan:
    """
    The subscriptions of a session, where some have terms of their own.

    Args:
        terms: of each subscription.
        channel: finds one by its key.

    """

    __slots__ = ("_groups", "_starred", "parts", "terms")

    def __init__(
        self, terms: Mapping[str, Terms], channel: Callable[[str], Channel | None]
    ) -> None:
        self.terms = terms
        self._starred = any(want.partition(":")[0] == EVERYWHERE for want in terms)
        self._groups: dict[str, Terms] = {}
        names: dict[str, str] = {}
        for want, each in terms.items():
            name = names[want] = self._group(channel(want.partition(":")[0]))
            self._groups[name] = each.union(self._groups.get(name, each))
        parts: dict[Terms, set[str]] = {}
        for want, name in names.items():
            parts.setdefault(self._groups[name], set()).add(want)
        self.parts: dict[Terms, Wants] = {each: frozenset(some) for each, some in parts.items()}

    def _group(self, channel: Channel | None) -> str:
        """Return what stands for a channel: with a star, one for all channels of prices."""
        if channel is None or (self._starred and channel.exchange):
            return EVERYWHERE
        return channel.name

    def part(self, terms: Terms) -> Wants:
        """Return the subscriptions on just these terms."""
        return self.parts.get(terms, _NONE)

    def of(self, channel: Channel) -> Terms:
        """Return the terms on which messages of a channel are sent."""
        return self._groups.get(self._group(channel), ALL)


def latest(missed: list[Message]) -> list[Message]:
    """Return of messages each instrument's latest, in the place of that; the rest as it is."""
    found: dict[Slot | int, Message] = {}
    for message in missed:
        key = message.slot or message.seq
        found.pop(key, None)
        found[key] = message
    return [message.settled() for message in found.values()]
