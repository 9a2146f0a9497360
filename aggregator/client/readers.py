"""Who gets a message: each subscription that is iterated over, and the inbox for the rest."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Self

from aggregator.messages import Message

from .buffer import KINDS, Buffer, Item, Text
from .callbacks import Callbacks
from .counters import Counters
from .errors import ClosedError, SubscriptionError
from .options import Options, Policy
from .sequence import Sequence
from .subscription import Subscription, Terms

Route = tuple[Buffer, ...]


class Iteration:
    """
    An iterator over messages that outlives a cancelled wait for one.

    A generator alone would be over after `asyncio.wait_for(anext(messages), 1)`; that would look
    like the end of the messages.

    Args:
        readers: take what there is, and call what is set for it.
        buffer: has the messages.

    """

    def __init__(self, readers: Readers, buffer: Buffer) -> None:
        self._readers = readers
        self._buffer = buffer
        self._is_over = False
        self._messages = self._generate()

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    def __anext__(self) -> Awaitable[Message]:
        """Return the next message."""
        if self._is_over:
            self._is_over = False
            self._messages = self._generate()
        return self._messages.__anext__()

    async def _generate(self) -> AsyncGenerator[Message]:
        buffer, readers = self._buffer, self._readers
        try:
            while await buffer.ready():
                # Looked at once for all that is there: it is more than the rest of the work.
                if readers.calls:
                    yield await readers.taken(buffer)
                    continue
                while buffer:
                    item = buffer.pop()
                    if isinstance(item, Exception):
                        raise item
                    yield item
        finally:
            self._is_over = True


class Readers:
    """
    All subscriptions of a client.

    What is for a subscription that nobody iterates over goes to the `inbox`, which `wait()` takes.
    """

    def __init__(self, options: Options, callbacks: Callbacks, counters: Counters) -> None:
        self._options = options
        self._callbacks = callbacks
        self._counters = counters
        self.inbox = self._buffer(options.policy, options.buffer)
        self.subscriptions: list[Subscription] = []
        self.sequences: dict[str, Sequence] = {}
        self.priming: Subscription | None = None
        """The newest: what it gets first others may have had already."""
        self.on_end: Callable[[list[str]], None] = lambda _channels: None
        """Called with subscriptions that nobody has any more."""

    def _buffer(self, policy: Policy, limit: int) -> Buffer:
        return KINDS[policy](limit, self._counters)

    def add(
        self, channels: tuple[str, ...], terms: Terms, policy: Policy | None, buffer: int | None
    ) -> Subscription:
        """Make a subscription."""
        if self.inbox.ended:
            raise ClosedError("the client is closed")
        own = self._buffer(policy or self._options.policy, buffer or self._options.buffer)
        subscription = Subscription(self, channels, terms, own)
        self.subscriptions.append(subscription)
        self._reroute()
        return subscription

    def _reroute(self) -> None:
        for sequence in self.sequences.values():
            sequence.routes.clear()

    def claim(self, subscription: Subscription) -> Buffer:
        """Let a subscription have messages of its own, as it is iterated over."""
        if not subscription.claimed:
            subscription.claimed = True
            self._reroute()
            others = [s for s in self.subscriptions if not s.claimed]

            def only_its(item: Item) -> bool:
                if not isinstance(item, Message):
                    return item is subscription.failure
                return wanted(item, subscription) and not any(wanted(item, s) for s in others)

            for item in self.inbox.remove(only_its):
                if isinstance(item, Message):
                    subscription.own.put(item)
            if subscription.failure is not None:
                subscription.own.end(subscription.failure)
        return subscription.own

    def end(self, subscription: Subscription) -> None:
        """Take a subscription away."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            subscription.own.end()
            self._reroute()
            left = {channel for each in self.subscriptions for channel in each.channels}
            self.on_end([channel for channel in subscription.channels if channel not in left])

    def sequence(self, channel: str) -> Sequence | None:
        """Return the numbers of a channel, if anybody wants anything of it."""
        found = self.sequences.get(channel)
        if found is None and any(s.wants(channel, None) for s in self.subscriptions):
            found = Sequence(channel, self._options.max_age_of(channel))
            self.sequences[channel] = found
        return found

    def route(self, sequence: Sequence, instrument: str | None) -> Route:
        """Return who gets a message, without doubles."""
        found = [s for s in self.subscriptions if s.wants(sequence.name, instrument)]
        route = tuple(dict.fromkeys(s.own if s.claimed else self.inbox for s in found))
        if instrument is not None:
            sequence.routes[instrument] = route
        return route

    def of(self, channels: list[str]) -> Route:
        """Return who has one of these subscriptions; if there are none, everybody."""
        found = [s for s in self.subscriptions if not set(channels).isdisjoint(s.channels)]
        return tuple(dict.fromkeys(s.own if s.claimed else self.inbox for s in found)) or (
            self.everyone()
        )

    def everyone(self) -> Route:
        """Return all that anybody reads from."""
        route = [s.own if s.claimed else self.inbox for s in self.subscriptions]
        return tuple(dict.fromkeys(route)) or (self.inbox,)

    def fail(self, subscription: Subscription, error: SubscriptionError) -> None:
        """Let the reader of a subscription know that nothing will come."""
        subscription.failure = error
        if subscription.claimed:
            subscription.own.end(error)
        elif all(s.failure is not None for s in self.subscriptions if not s.claimed):
            self.inbox.put(error)

    def close(self, error: Exception | None) -> None:
        """Nothing more comes, for anybody."""
        for buffer in (self.inbox, *(s.own for s in self.subscriptions)):
            buffer.end(error)

    def waiting(self, channel: str, left: Iterable[Item]) -> list[Message]:
        """Return the messages of a channel that nobody has taken yet, `left` first."""
        buffers = (self.inbox, *(s.own for s in self.subscriptions))
        items = [*left, *(item for buffer in buffers for item in buffer.all())]
        plain = [item.message if isinstance(item, Text) else item for item in items]
        return [m for m in plain if isinstance(m, Message) and getattr(m, "channel", "") == channel]

    def messages(self, buffer: Buffer) -> Iteration:
        """Iterate over what comes, having called what is set for it."""
        return Iteration(self, buffer)

    @property
    def calls(self) -> bool:
        """Whether anything is set to be called with messages."""
        return self._callbacks.any_set

    async def taken(self, buffer: Buffer) -> Message:
        """Return the next message, having called what is set for it; there has to be one."""
        item = buffer.pop()
        if isinstance(item, Exception):
            raise item
        if self.is_first(buffer, item):
            for result in self._callbacks.called(item):
                await result
        return item

    def is_first(self, buffer: Buffer, item: Item) -> bool:
        """Whether it is this reader's turn to call: a message is called out once."""
        message = item.message if isinstance(item, Text) else item
        sequence = self.sequences.get(getattr(message, "channel", None) or "")
        route = (
            self.everyone()
            if sequence is None
            else self.route(sequence, getattr(message, "instrument", ""))
        )
        return buffer is route[0] if buffer in route else True


def wanted(item: Message, subscription: Subscription) -> bool:
    """Whether a subscription is the reason for a message."""
    message = item.message if isinstance(item, Text) else item
    channel = getattr(message, "channel", None)
    if channel is None:
        return False
    return channel in subscription.channels or subscription.wants(
        channel, getattr(message, "instrument", "")
    )
