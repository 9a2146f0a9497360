"""
The messages, and what each field means.

* Prices, sizes and percentages are the venue's own decimal text, digit for digit. `None`, or text
  that is no JSON number, means that the venue does not give it; zero means zero.
* Times are integers: microseconds since the epoch, UTC. A time the venue does not give is `None`.
* `data` is JSON text exactly as the venue sent it.
* A message never changes after its creation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

Json = bytes | bytearray | memoryview | msgspec.Raw
"""JSON text as bytes; `msgspec.Raw` is a view into the frame that it came in."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Base of what can be published on a channel."""


class PriceUpdate(Event, frozen=True, gc=False):
    """
    The price of one instrument.

    `instrument` is `BASE/QUOTE` in upper case. `price` is the last trade's price; of an order
    book, its mid. `volume_24h` counts in units of the base. `change_24h_pct` is in per cent.
    """

    instrument: str
    price: str
    data: Json
    exchange_us: int | None = None
    bid: str | None = None
    ask: str | None = None
    volume_24h: str | None = None
    change_24h_pct: str | None = None


class State(StrEnum):
    """How a feed, or one instrument of it, is doing."""

    CONNECTING = "connecting"
    LIVE = "live"
    LATE = "late"
    STALE = "stale"
    DOWN = "down"
    LIMITED = "limited"
    UNKNOWN_INSTRUMENT = "unknown_instrument"


class SystemStatus(Event, frozen=True, gc=False, kw_only=True):
    """
    A change of state. `instrument` is `None` for the whole feed.

    `since_us` is when the state began; `reason` is for a person to read.
    """

    feed: str
    state: State
    since_us: int
    reason: str
    instrument: str | None = None
    detail: dict[str, int | float | str | None] | None = None


class Heartbeat(Event, frozen=True, gc=False):
    """The daemon is alive; published every `heartbeat_s`."""

    instrument: ClassVar[None] = None
