"""
Which channels there are, and who listens to what.

A subscription is written as clients write it: `binance_prices`, `binance_prices:BTC/USDT`, or
`*:BTC/USDT` for an instrument on every channel of a venue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator
from operator import attrgetter

from .audience import Wants
from .channel import Channel, Listener, Message, Slot

EVERYWHERE = "*"
OWN = "@"


def own_key(name: str, user_id: int) -> str:
    """Return what a user's own channel is found by; no client may write such a name."""
    return f"{name}{OWN}{user_id}"


class Directory:
    """
    Channels by name, and the listeners of each.

    Args:
        epoch: names this run of the daemon; new at each start, so that a sequence number
            together with it is never used twice.
        clock_ns: the wall clock, in nanoseconds since the epoch.
        history: how many messages of each channel are kept for clients that come back.

    """

    def __init__(
        self, epoch: str, clock_ns: Callable[[], int] = time.time_ns, history: int = 0
    ) -> None:
        self.epoch = epoch
        self._history = history
        self._clock_ns = clock_ns
        self.channels: dict[str, Channel] = {}
        # Of users, by the key that `own_key` makes; never looked up by what a client writes.
        self._private: dict[str, Channel] = {}
        self._anywhere: dict[str, set[Listener]] = {}
        # Of channels that have gone: where the numbers go on if one comes back.
        self._numbers: dict[str, int] = {}

    def now_us(self) -> int:
        """Return the wall clock in microseconds since the epoch."""
        return self._clock_ns() // 1000

    def add_channel(
        self,
        name: str,
        exchange: str,
        instruments: Iterable[str] | None = None,
        *,
        open_to_all: bool = False,
    ) -> Channel:
        """Create a channel; its arguments are those of `Channel`."""
        channel = self.channels[name] = Channel(
            name,
            exchange,
            self.epoch,
            instruments,
            history=self._history,
            open_to_all=open_to_all,
            seq=self._numbers.pop(name, 0),
        )
        return channel

    def remove_channel(self, name: str) -> None:
        """Forget a channel of a venue; nobody may be subscribed to it by its name any more."""
        channel = self.channels.pop(name)
        self._numbers[name] = channel.seq
        for instrument, slot in channel.slots.items():
            slot.forget()
            self._tidy(instrument)
        channel.slots.clear()
        channel.history.clear()

    def own(self, name: str, user_id: int) -> Channel:
        """Return the channel of this name that belongs to a user alone."""
        key = own_key(name, user_id)
        channel = self._private.get(key)
        if channel is None:
            channel = self._private[key] = Channel(
                name, "", self.epoch, (), history=self._history, key=key
            )
        return channel

    def channel(self, key: str) -> Channel | None:
        """Return a channel, one of a user's included."""
        return self.channels.get(key) or self._private.get(key)

    def slot(self, channel: Channel, instrument: str) -> Slot:
        """Create the place of an instrument that has none yet."""
        anywhere = self._anywhere.setdefault(instrument, set()) if channel.exchange else set()
        slot = channel.slots[instrument] = Slot(channel, instrument, anywhere)
        return slot

    def find(self, want: str) -> list[Channel]:
        """Return the public channels that a subscription names; none, where there are none."""
        name, colon, instrument = want.partition(":")
        if name == EVERYWHERE:
            found = (c for c in self.channels.values() if c.exchange and not c.closed)
            return [channel for channel in found if channel.has(instrument)]
        channel = self.channels.get(name)
        if channel is None or channel.closed:
            return []
        if colon and not (channel.exchange and channel.may_have(instrument)):
            return []
        return [channel]

    def subscribers(self, channel: Channel) -> int:
        """Return how many sessions want a channel, or an instrument of it."""
        slots = channel.slots.values()
        groups = (channel.listeners, *(s.listeners for s in slots), *(s.anywhere for s in slots))
        return sum(listener.size for listener in set[Listener]().union(*groups))

    def concerns(self, message: Message, wants: Wants) -> bool:
        """Return whether a message is about an instrument of these subscriptions, or about all."""
        place = message.slot or message.place
        return place is None or self.wanted(place, wants)

    def forget_old(self, seconds: float, max_bytes: int) -> Iterator[None]:
        """Let go of what is older in the histories, or too much; a step for each channel."""
        before_us = self.now_us() - int(seconds * 1e6)
        for channel in (*self.channels.values(), *self._private.values()):
            channel.history.forget(before_us, max_bytes)
            yield

    def snapshot(self, wants: Iterable[str], but: Container[str] = ()) -> list[Message]:
        """
        Return the last values of these subscriptions, each once, oldest first.

        None of the channels in `but`. For who subscribes: those of venues say how old they are,
        exact to `channel.SNAPSHOT_US`.
        """
        now_us = self.now_us()
        found: dict[Slot, None] = {}
        for want in wants:
            _, colon, instrument = want.partition(":")
            own = self._private.get(want)
            for channel in self.find(want) if own is None else [own]:
                if channel.name in but:
                    continue
                if not colon:
                    found.update(dict.fromkeys(channel.slots.values()))
                elif slot := channel.slots.get(instrument):
                    found[slot] = None
        messages = (slot.snapshot(now_us) for slot in found)
        return sorted((each for each in messages if each is not None), key=attrgetter("seq"))

    def wanted(self, slot: Slot, wants: Wants) -> bool:
        """Return whether the messages of a place belong to these subscriptions."""
        name, everywhere = slot.channel.key, EVERYWHERE if slot.channel.exchange else ""
        ways = {name, f"{name}:{slot.instrument}", f"{everywhere}:{slot.instrument}"}
        return not wants.isdisjoint(ways)

    def enter(self, listener: Listener, wants: Wants) -> None:
        """Offer to a listener, from now on, what is published of these subscriptions."""
        for want in wants:
            self._listeners(want).add(listener)

    def withdraw(self, listener: Listener, wants: Wants) -> None:
        """Stop offering to it; `wants` are those that it entered with."""
        for want in wants:
            self._listeners(want).discard(listener)
            name, _, instrument = want.partition(":")
            channel = self.channel(name)
            slot = channel is not None and channel.slots.get(instrument)
            if slot and slot.last is None and not slot.listeners:
                del slot.channel.slots[instrument]
            self._tidy(instrument)

    def _tidy(self, instrument: str) -> None:
        """Forget who wants an instrument everywhere, if nobody does and no slot refers to it."""
        slots = (c.slots for c in self.channels.values() if c.exchange)
        if not self._anywhere.get(instrument, True) and not any(instrument in s for s in slots):
            del self._anywhere[instrument]

    def _listeners(self, want: str) -> set[Listener]:
        name, colon, instrument = want.partition(":")
        if name == EVERYWHERE:
            return self._anywhere.setdefault(instrument, set())
        channel = self.channel(name)
        if channel is None:
            raise LookupError(name)
        if not colon:
            return channel.listeners
        return (channel.slots.get(instrument) or self.slot(channel, instrument)).listeners
