"""An order book, kept from its messages."""

from __future__ import annotations

from decimal import Decimal

from aggregator.messages import Gap, Level, Message, OrderbookUpdate


class Book:
    """
    The book of one instrument on one channel.

    Give it every message of them: `update` takes what concerns it. After a gap it is not known,
    until the next snapshot.

    Args:
        channel: of order books.
        instrument: `BASE/QUOTE`.

    """

    def __init__(self, channel: str, instrument: str) -> None:
        self.channel = channel
        self.instrument = instrument
        self.known = False
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}

    def update(self, message: Message) -> bool:
        """Take a message; return whether it was about this book."""
        if isinstance(message, Gap):
            return self._lost(message)
        if not isinstance(message, OrderbookUpdate):
            return False
        if (message.channel, message.instrument) != (self.channel, self.instrument):
            return False
        if message.action == "snapshot":
            self.known = True
            self._bids, self._asks = {}, {}
        if self.known:
            _change(self._bids, message.data.bids)
            _change(self._asks, message.data.asks)
        return True

    def _lost(self, gap: Gap) -> bool:
        if gap.channel != self.channel or gap.instrument not in {None, self.instrument}:
            return False
        self.known = False
        self._bids, self._asks = {}, {}
        return True

    @property
    def bids(self) -> list[Level]:
        """The best first."""
        return [Level(price, self._bids[price]) for price in sorted(self._bids, reverse=True)]

    @property
    def asks(self) -> list[Level]:
        """The best first."""
        return [Level(price, self._asks[price]) for price in sorted(self._asks)]

    @property
    def best(self) -> tuple[Level | None, Level | None]:
        """The best bid and ask, where there are any."""
        bid, ask = max(self._bids, default=None), min(self._asks, default=None)
        return (
            None if bid is None else Level(bid, self._bids[bid]),
            None if ask is None else Level(ask, self._asks[ask]),
        )


def _change(side: dict[Decimal, Decimal], levels: list[Level]) -> None:
    for level in levels:
        if level.size:
            side[level.price] = level.size
        else:
            side.pop(level.price, None)
