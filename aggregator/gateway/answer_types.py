"""What is answered besides messages, as types: for `documents`, whose tests hold them true."""

from __future__ import annotations

import msgspec

from aggregator.messages import AnyMessage


class Health(msgspec.Struct):
    """The daemon is alive."""

    status: str


class Unready(msgspec.Struct):
    """A feed that is not ready."""

    feed: str
    state: str
    reason: str


class Readiness(msgspec.Struct):
    """Whether every feed is live."""

    status: str
    feeds: list[Unready]


class NotLive(msgspec.Struct):
    """An instrument that is late, stale or unknown, or without any data yet."""

    instrument: str
    state: str
    age_s: float | None
    reason: str


class Channel(msgspec.Struct):
    """A channel; what a venue has is null for the daemon's own."""

    channel: str
    exchange: str | None
    connector: str | None
    state: str | None
    since_us: int | None
    reason: str | None
    instruments: list[str]
    not_live: list[NotLive]
    seq: int
    epoch: str
    age_s: float | None
    subscribers: int


class Channels(msgspec.Struct):
    """All channels."""

    channels: list[Channel]


class Why(msgspec.Struct):
    """Why a channel is as it is: one line for people, and facts; there may be more of them."""

    verdict: str


class Latest(msgspec.Struct):
    """The last values of a channel, and the position that they belong to."""

    channel: str
    epoch: str
    seq: int
    messages: list[AnyMessage]


class History(msgspec.Struct):
    """Messages of a channel up to `until_seq`; a `gap` in front says what is not kept."""

    channel: str
    epoch: str
    seq: int
    first_seq: int | None
    until_seq: int
    messages: list[AnyMessage]


class TestResponse(msgspec.Struct):
    """A test message was sent to so many clients."""

    __test__ = False  # it is no test, whatever pytest may think

    type: str
    message: str
    timestamp: str
    clients: int


class RotateResponse(msgspec.Struct):
    """A second connection is being opened."""

    type: str
    message: str
    timestamp: str
    feed: str


class PublishResponse(msgspec.Struct):
    """Where an event went; with `duplicate` it had been published before, then."""

    type: str
    channel: str
    seq: int
    duplicate: bool
    timestamp: str


class ShortAnswer(msgspec.Struct):
    """The answer to a command of the short form."""

    status: str
    symbol: str
