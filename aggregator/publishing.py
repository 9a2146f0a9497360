"""
Events of an engine of one's own, put on the daemon's channels: checked whole, and each just once.

A user's own events go to that user, trades to a channel of `server.publish_channels`, states to
`system`.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Container, Iterable, Mapping
from datetime import datetime
from typing import Any

import orjson

from .errors import AggregatorError
from .hub import Hub
from .model import (
    BalanceUpdate,
    Event,
    Fill,
    Holding,
    OrderUpdate,
    PortfolioUpdate,
    SystemStatus,
    TradeExecuted,
)
from .outlet import Published
from .publications import (
    Keyed,
    Private,
    Publication,
    PublishBalance,
    PublishFill,
    PublishOrder,
    PublishStatus,
    PublishTrade,
)

MAX_STATES = 100
"""Of others than feeds, that `system` keeps."""
MAX_KEYS = 10_000
"""Keys that are remembered; one that is older is taken as new."""


class ConflictError(AggregatorError):
    """It can't be published: not under this key, or not on this channel."""


class Publisher:
    """
    Publishes what an engine of one's own has done.

    Args:
        hub: has the channels.
        channels: those that trades may be published on; they are created here.
        feeds: whether a name is that of a feed of the daemon, whose states nobody else may tell.

    """

    def __init__(self, hub: Hub, channels: Iterable[str], feeds: Container[str]) -> None:
        self._hub = hub
        self._channels = {name: hub.add_channel(name, name, open_to_all=True) for name in channels}
        self._feeds = feeds
        self._told: set[str] = set()
        self._seen: OrderedDict[str, tuple[bytes, Published]] = OrderedDict()

    def publish(self, content: bytes | Mapping[str, Any]) -> Published:
        """
        Publish an event, unless one with its key was published before.

        Args:
            content: as JSON, or decoded; docs/protocol.md, "POST /publish".

        Raises:
            pydantic.ValidationError: it is no such event.
            TypeError: it can't be written as JSON.
            ConflictError: the key is another event's, or the channel is not open for this.

        """
        # As JSON in any case, so that both ways take the same.
        text = content if isinstance(content, bytes) else orjson.dumps(content)
        asked = Publication.model_validate_json(text).root
        if asked.key is None:
            return self._publish(asked)
        digest = hashlib.sha256(asked.model_dump_json().encode()).digest()
        before = self._seen.get(asked.key)
        if before is not None:
            if before[0] != digest:
                raise ConflictError("another event was published with this key")
            return before[1]._replace(duplicate=True)
        published = self._publish(asked)
        self._seen[asked.key] = (digest, published)
        if len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)
        return published

    def _publish(self, asked: Keyed) -> Published:
        now_us = self._hub.now_us()
        event: Event
        if isinstance(asked, Private):
            event = _private_event(asked)
            channel = self._hub.publish_private(asked.user_id, event, now_us)
            return Published(channel.name, channel.seq, duplicate=False)
        if isinstance(asked, PublishTrade):
            if asked.channel not in self._channels:
                raise ConflictError("the channel is none of server.publish_channels")
            channel = self._channels[asked.channel]
            time_us = None if asked.timestamp is None else _us(asked.timestamp)
            trade = asked.data.model_dump()
            event = TradeExecuted(instrument=asked.instrument, exchange_us=time_us, **trade)
        else:
            assert isinstance(asked, PublishStatus)  # noqa: S101 - the only one that is left
            feed, channel = asked.data.feed, self._hub.system
            if feed in self._feeds:
                raise ConflictError("the daemon itself tells how this feed is doing")
            self._told.add(feed)
            if len(self._told) > MAX_STATES:
                self._told.discard(feed)
                raise ConflictError(f"states of {MAX_STATES} others have been told already")
            event = SystemStatus(**asked.data.model_dump(), since_us=now_us)
        before = channel.seq
        self._hub.publish(channel, event, now_us)
        if channel.seq == before:
            raise ConflictError("it can't be published as it is")
        return Published(channel.name, channel.seq, duplicate=False)


def _private_event(asked: Private) -> Event:
    data: dict[str, Any] = asked.data.model_dump()  # type: ignore[attr-defined]
    owner: dict[str, Any] = {"account": asked.account, "exchange": asked.exchange}
    match asked:
        case PublishOrder():
            return OrderUpdate(**owner, updated_us=_us(data.pop("updated_at")), **data)
        case PublishFill():
            return Fill(**owner, traded_us=_us(data.pop("traded_at")), **data)
        case PublishBalance():
            return BalanceUpdate(**owner, updated_us=_us(data.pop("updated_at")), **data)
    data["positions"] = [Holding(**each) for each in data["positions"]]
    return PortfolioUpdate(**owner, updated_us=_us(data.pop("updated_at")), **data)


def _us(time: datetime) -> int:
    """Return microseconds since the epoch."""
    return int(time.timestamp()) * 1_000_000 + time.microsecond
