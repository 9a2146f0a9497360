"""
The commands of clients and the answers to them, as bytes. No I/O.

The contract is docs/protocol.md. A command is checked as a whole before any of it is done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Literal

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    FailFast,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    TypeAdapter,
    ValidationError,
)

from aggregator.channel import Channel
from aggregator.tokens import MAX_BYTES


class Code(StrEnum):
    """Why a command was refused."""

    BAD_JSON = "bad_json"
    BAD_COMMAND = "bad_command"
    UNKNOWN_CHANNEL = "unknown_channel"
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions"
    RATE_LIMITED = "rate_limited"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"


class Close:
    """The codes that the daemon closes a connection with, besides those of RFC 6455."""

    GOING_AWAY = 1001
    UNSUPPORTED = 1003
    UNAUTHORIZED = 4001
    SLOW_CONSUMER = 4008
    NO_PONG = 4010


# Integers that every JSON reader keeps exact: RFC 8259, section 6.
_Int = Annotated[StrictInt, Field(ge=-(2**53) + 1, le=2**53 - 1)]
Id = _Int | Annotated[StrictStr, Field(max_length=128)] | None
Name = Annotated[StrictStr, Field(min_length=1, max_length=128)]
# Only the first fault is told: to collect 30,000 of them would hold up everybody.
Names = Annotated[list[Name], Field(min_length=1), FailFast()]


class _Command(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id = None


class Position(BaseModel):
    """A place on a channel: the number of a message in a run of the daemon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: Annotated[StrictStr, Field(max_length=64)]
    seq: Annotated[_Int, Field(ge=0)]


class Subscribe(_Command):
    """Send these channels from now on."""

    type: Literal["subscribe"]
    channels: Names
    max_hz: Annotated[float, Field(strict=True, ge=0.001, le=1000)] | None = None
    """How often each instrument's latest value is sent at most; `None` for every message."""
    raw: StrictBool = True
    """With the venue's own payload, `data`."""
    since: dict[Name, Position] = {}
    """Of channels by name: what the client has had last, so that it gets what came after."""


class Unsubscribe(_Command):
    """Send these channels no more."""

    type: Literal["unsubscribe"]
    channels: Names


class Ping(_Command):
    """Answer `pong`."""

    type: Literal["ping"]


class Auth(_Command):
    """Say who the client is."""

    type: Literal["auth"]
    token: Annotated[StrictStr, Field(min_length=1, max_length=MAX_BYTES, repr=False)]
    otp: Annotated[StrictStr, Field(max_length=16)] | None = Field(default=None, repr=False)
    """A one-time code, where the user requires one."""


class ShortForm(BaseModel):
    """A command of `/ws/ticker`: `symbol` stands for the channel `*:symbol`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["subscribe", "unsubscribe"]
    symbol: Name


class _WithId(BaseModel):
    id: Id = None


Command = Subscribe | Unsubscribe | Ping | Auth
_KINDS: tuple[type[BaseModel], ...] = (Subscribe, Unsubscribe, Ping, Auth, ShortForm)
_COMMAND: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])
_SHORT_FORM = TypeAdapter(ShortForm)
_WITH_ID = TypeAdapter(_WithId)


class Refusal(Exception):  # noqa: N818 - it is an answer, not a fault of ours
    """A command that is not carried out; `frame` is the payload of the answer."""

    def __init__(self, code: Code, message: str, **extra: object) -> None:
        super().__init__(message)
        self.code = code
        self.payload = error(code, message, **extra)


def decode(text: bytes) -> Command:
    """
    Decode a command of `/ws`.

    Raises:
        Refusal: it is no JSON, or no command.

    """
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as e:
        raise _refusal(text, e) from None


def decode_short(text: bytes) -> ShortForm:
    """
    Decode a command of `/ws/ticker`.

    Raises:
        Refusal: it is no JSON, or no command.

    """
    try:
        return _SHORT_FORM.validate_json(text)
    except ValidationError as e:
        raise _refusal(text, e) from None


def rate_limited(text: bytes) -> Refusal:
    """Return the refusal of a command that came too soon."""
    return Refusal(Code.RATE_LIMITED, "too many commands; slow down", id=_id_of(text))


def dropped(count: int) -> bytes:
    """Return the payload of the refusal of so many more commands that came too soon."""
    return error(Code.RATE_LIMITED, "more commands came too soon", dropped=count)


def _id_of(text: bytes) -> Id:
    try:
        return _WITH_ID.validate_json(text).id
    except ValidationError:
        return None


def _refusal(text: bytes, e: ValidationError) -> Refusal:
    fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
    if fault["type"] == "json_invalid":
        return Refusal(Code.BAD_JSON, "a frame must be one JSON object")
    # Where it went wrong is said in the daemon's own words: what the client sent is not echoed.
    place = ".".join(str(key) for key in fault["loc"] if isinstance(key, int) or key in _FIELDS)
    message = f"{place}: {fault['msg']}" if place else _MESSAGES.get(fault["type"], fault["msg"])
    return Refusal(Code.BAD_COMMAND, message, id=_id_of(text))


_FIELDS = {name for kind in _KINDS for name in kind.model_fields} | {"epoch", "seq"}
_MESSAGES = {
    "union_tag_invalid": "type must be subscribe, unsubscribe, ping or auth",
    "union_tag_not_found": "type is missing: subscribe, unsubscribe, ping or auth",
    "dict_type": "a command is a JSON object",
    "model_type": "a command is a JSON object",
    "extra_forbidden": "unknown field",
}


def error(code: Code, message: str, **extra: object) -> bytes:
    """Return the payload of a refusal; `extra` fields that are `None` are left out."""
    fields = {"type": "error", "code": code, "message": message}
    return orjson.dumps(fields | {key: value for key, value in extra.items() if value is not None})


def subscribed(
    channels: Iterable[str],
    positions: Mapping[str, Channel],
    command: Subscribe,
    recovered: Mapping[str, bool],
) -> bytes:
    """Return the payload of the acknowledgement of a `subscribe`; it repeats the terms asked."""
    places = {name: {"epoch": c.epoch, "seq": c.seq} for name, c in positions.items()}
    fields = {"type": "subscribed", "channels": list(channels), "positions": places}
    terms = command.model_dump(include={"max_hz", "raw"}, exclude_defaults=True)
    if recovered:
        terms["recovered"] = recovered
    return _with_id(fields | terms, command.id)


def unsubscribed(channels: Iterable[str], id_: Id) -> bytes:
    """Return the payload of the acknowledgement of an `unsubscribe`."""
    return _with_id({"type": "unsubscribed", "channels": list(channels)}, id_)


def pong(timestamp: str, id_: Id) -> bytes:
    """Return the payload of the answer to a `ping`."""
    return _with_id({"type": "pong", "timestamp": timestamp}, id_)


def authenticated(user_id: int, id_: Id) -> bytes:
    """Return the payload of the answer to an `auth` whose token is good."""
    return _with_id({"type": "auth.success", "user_id": user_id}, id_)


def short_answer(action: str, symbol: str) -> bytes:
    """Return the payload of the acknowledgement of a command of `/ws/ticker`."""
    return orjson.dumps({"status": f"{action}d", "symbol": symbol})


def unknown_channel(name: str, id_: Id) -> bytes:
    """Return the payload of the refusal of one channel."""
    message = "there is no such channel, or it has no such instrument"
    return error(Code.UNKNOWN_CHANNEL, message, channel=name, id=id_)


def gone(name: str) -> bytes:
    """Return what ends a subscription to a channel that there was."""
    return error(Code.UNKNOWN_CHANNEL, "the channel is no longer configured", channel=name)


def _with_id(fields: Mapping[str, object], id_: Id) -> bytes:
    return orjson.dumps(fields if id_ is None else {**fields, "id": id_})
