"""What has come and was not taken yet: bounded, by a policy."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

from aggregator.messages import Gap, Message

from .clock import now
from .counters import Counters
from .fold import fold, key_of
from .options import Policy

REASON = "buffer"


class Text(Message, frozen=True, gc=False):
    """A message's text as it came; `message` is `None` where it is not known or not valid."""

    text: bytes
    message: Message | None


Item = Message | Exception
"""What can wait: an exception is raised when its turn comes."""


class Buffer:
    """
    A queue for one reader; the policy is `block`: the writer stops while it is `full`.

    Args:
        limit: how many may wait.
        counters: where to count what is lost.

    """

    def __init__(self, limit: int, counters: Counters) -> None:
        self._limit = limit
        self._counters = counters
        self._waiter: asyncio.Future[bool] | None = None
        self._room: asyncio.Future[None] | None = None
        self._ended = False
        self._error: Exception | None = None
        self.items: deque[Item] = deque()
        self.full = False

    def put(self, item: Item) -> None:
        """Add one."""
        items = self.items
        items.append(item)
        if self._waiter is not None:
            self._wake()
        if len(items) >= self._limit:
            self._over()

    def _over(self) -> None:
        """There are as many as may wait."""
        self.full = True

    def pop(self) -> Item:
        """Remove and return the oldest; there has to be one."""
        item = self.items.popleft()
        if self.full and len(self.items) <= self._limit // 2:
            self._make_room()
        return item

    def _make_room(self) -> None:
        self.full = False
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def all(self) -> list[Item]:
        """Return what waits, without taking it."""
        return list(self.items)

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Remove and return what this holds of, in order."""
        gone = [item for item in self.items if unwanted(item)]
        if gone:
            self.items = deque(item for item in self.items if not unwanted(item))
            self._make_room()
        return gone

    async def room(self) -> None:
        """Wait until it is not full any more."""
        while self.full and not self._ended:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    async def ready(self, timeout_s: float | None = None) -> bool:
        """Wait until there is something; false at the end, after this time, or when nudged."""
        while not self:
            if self._error is not None:
                raise self._error
            if self._ended:
                return False
            if self._waiter is not None:
                raise RuntimeError("another task is taking these messages already")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout_s):
                    if not await self._waiter:
                        break
            except TimeoutError:
                break
            finally:
                self._waiter = None
        return bool(self)

    def nudge(self) -> None:
        """Let the reader look up, though there may be nothing for it."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def end(self, error: Exception | None = None) -> None:
        """Let the reader come to its end when it has taken what is left; with an error, if any."""
        if not self._ended:
            self._ended, self._error = True, error
            self._make_room()
            self._wake()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self._ended

    def __len__(self) -> int:
        return len(self.items)


class DroppingBuffer(Buffer):
    """When it is full the oldest go; a `Gap` for each channel says which."""

    def __init__(self, limit: int, counters: Counters) -> None:
        super().__init__(limit, counters)
        self._gaps: dict[str, Gap] = {}

    def _over(self) -> None:
        if len(self.items) <= self._limit:
            return
        self._lose(self.items.popleft())

    def _lose(self, item: Item) -> None:
        """Keep in mind that it is lost."""
        message = item.message if isinstance(item, Text) else item
        channel = getattr(message, "channel", None)
        self._counters.dropped += 1
        if channel is not None:
            if channel not in self._gaps:
                self._counters.gaps += 1
            self._gaps[channel] = _grown(self._gaps.get(channel), channel, message)

    def pop(self) -> Item:
        """Remove and return the oldest; before it, what was lost."""
        if self._gaps:
            return self._gaps.pop(next(iter(self._gaps)))
        return super().pop()

    def __len__(self) -> int:
        return len(self.items) + len(self._gaps)


class ConflatingBuffer(DroppingBuffer):
    """
    The newest of each channel and instrument stays; what can't be replaced is dropped when full.

    Its place is that of the newer one, so that numbers never go back.
    """

    def __init__(self, limit: int, counters: Counters) -> None:
        super().__init__(limit, counters)
        self._entries: OrderedDict[object, Item] = OrderedDict()
        self._number = 0
        self._kept = 0

    def put(self, item: Item) -> None:
        """Add one, in place of the one that it replaces."""
        key: object = key_of(item) if isinstance(item, Message) else None
        old = None if key is None else self._entries.pop(key, None)
        if key is None:
            self._number += 1
            key = self._number
            self._kept += 1
        if isinstance(old, Message) and isinstance(item, Message):
            item = fold(old, item)
            self._counters.folded += 1
        self._entries[key] = item
        self._wake()
        if self._kept > self._limit:
            self._drop()

    def _drop(self) -> None:
        key = next(key for key in self._entries if isinstance(key, int))
        self._kept -= 1
        self._lose(self._entries.pop(key))

    def pop(self) -> Item:
        """Remove and return the oldest; before it, what was lost."""
        if self._gaps:
            return self._gaps.pop(next(iter(self._gaps)))
        key, item = self._entries.popitem(last=False)
        self._kept -= isinstance(key, int)
        return item

    def all(self) -> list[Item]:
        """Return what waits, without taking it."""
        return list(self._entries.values())

    def remove(self, unwanted: Callable[[Item], bool]) -> list[Item]:
        """Remove and return what this holds of, in order."""
        gone = {key: item for key, item in self._entries.items() if unwanted(item)}
        for key in gone:
            del self._entries[key]
            self._kept -= isinstance(key, int)
        return list(gone.values())

    def __len__(self) -> int:
        return len(self._entries) + len(self._gaps)


def _grown(gap: Gap | None, channel: str, lost: object) -> Gap:
    """Return the gap, with one more message in it."""
    first = getattr(lost, "from_seq", None) or getattr(lost, "seq", None)
    last = getattr(lost, "to_seq", None) or getattr(lost, "seq", None)
    if gap is not None:
        first = first if gap.from_seq is None else gap.from_seq
        last = gap.to_seq if last is None else last
    count = 1 if gap is None or gap.data is None else gap.data["messages"] + 1
    return Gap(
        channel=channel,
        reason=REASON,
        timestamp=now(),
        from_seq=first,
        to_seq=last,
        data={"cause": "the client's buffer was full", "messages": count},
    )


KINDS: dict[Policy, type[Buffer]] = {
    "block": Buffer,
    "drop_oldest": DroppingBuffer,
    "conflate": ConflatingBuffer,
}
