"""One message that stands for two: what a slow reader gets in place of both."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeVar

from msgspec.structs import replace

from aggregator.messages import (
    BookLevels,
    Candle,
    Level,
    Message,
    OrderbookUpdate,
    PriceUpdate,
    SystemStatus,
)

Key = tuple[type[Message], str, str]
Replaceable = TypeVar("Replaceable", PriceUpdate, Candle, SystemStatus, OrderbookUpdate)


def key_of(message: Message) -> Key | None:
    """Return what a later message has to have in common to replace it; `None`: nothing does."""
    match message:
        case PriceUpdate() | OrderbookUpdate():
            return type(message), message.channel, message.instrument
        case Candle():
            return Candle, message.channel, f"{message.instrument} {message.data.interval}"
        case SystemStatus():
            about = f"{message.data.feed} {message.data.instrument}"
            return SystemStatus, message.channel, about
        case _:
            return None


def fold(old: Message, new: Message) -> Message:
    """Return the newer of two with one key, as one that stands for both."""
    if isinstance(old, OrderbookUpdate) and isinstance(new, OrderbookUpdate):
        return _counted(old, _folded(old, new))
    if isinstance(old, PriceUpdate) and isinstance(new, PriceUpdate):
        return _counted(old, new)
    if isinstance(old, Candle) and isinstance(new, Candle):
        return _counted(old, new)
    if isinstance(old, SystemStatus) and isinstance(new, SystemStatus):
        return _counted(old, new)
    raise TypeError("these have no key in common")


def _counted(old: Replaceable, new: Replaceable) -> Replaceable:
    return replace(new, conflated=old.conflated + new.conflated + 1)


def _folded(old: OrderbookUpdate, new: OrderbookUpdate) -> OrderbookUpdate:
    """Return both changes of a book as one; of a whole book and a change, the whole book."""
    if new.action == "snapshot":
        return new
    whole = old.action == "snapshot"
    levels = BookLevels(
        bids=_levels(old.data.bids, new.data.bids, whole=whole, best=-1),
        asks=_levels(old.data.asks, new.data.asks, whole=whole, best=1),
        sequence=new.data.sequence,
        flag=new.data.flag,
    )
    return replace(new, action=old.action, data=levels)


def _levels(old: list[Level], new: list[Level], *, whole: bool, best: int) -> list[Level]:
    merged: dict[Decimal, Level] = {level.price: level for level in [*old, *new]}
    if not whole:
        return list(merged.values())
    left = (level for level in merged.values() if level.size)
    return sorted(left, key=lambda level: best * level.price)
