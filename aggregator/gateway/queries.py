"""
What is asked once, over HTTP: the last values, and what was published lately.

The messages are those of the socket, byte for byte. An answer has a weak `ETag` (RFC 9110, 8.8.3),
since all that can differ between two with the same tag is the age of the values.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Annotated

import orjson
from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aggregator import wire
from aggregator.channel import Channel, Message
from aggregator.hub import Hub

from . import resume
from .protocol import Position

MAX_BYTES = 1_048_576
"""Of the messages of one answer, about: a client that wants more asks again."""
NO_CHANNEL = "there is no such channel, or it has no such instrument"


class HistoryQuery(BaseModel):
    """The query of `GET /history/CHANNEL`."""

    model_config = ConfigDict(extra="forbid")

    since_seq: Annotated[int, Field(ge=0, le=2**53 - 1)] | None = None
    """The last number that the client has; without it the newest messages are meant."""
    epoch: Annotated[str, Field(max_length=64)] | None = None
    """Of the run of the daemon that gave that number."""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    """Messages in the answer, at most."""


class Queries:
    """
    Answers what is asked for once.

    Args:
        hub: has the values and histories.

    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def latest(self, request: web.Request) -> web.StreamResponse:
        """Answer the last value of each instrument of a channel."""
        channel = self._channel(request)
        messages = self._hub.snapshot([channel.name])
        payloads = [wire.payload_of(message.frame) for message in messages]
        fields = {"channel": channel.name, "epoch": channel.epoch, "seq": channel.seq}
        tag = f"{_tag(channel, messages)}-{channel.seq}"
        return _answer(request, _with_messages(fields, payloads), tag)

    async def latest_of(self, request: web.Request) -> web.StreamResponse:
        """Answer the last value of one instrument."""
        channel = self._channel(request)
        want = f"{channel.name}:{request.match_info['instrument']}"
        if not self._hub.find(want):
            raise web.HTTPNotFound(text=NO_CHANNEL)
        messages = self._hub.snapshot([want])
        if not messages:
            raise web.HTTPNotFound(text="there is no value yet")
        return _answer(request, wire.payload_of(messages[0].frame), _tag(channel, messages))

    async def history(self, request: web.Request) -> web.StreamResponse:
        """Answer what was published on a channel, from a number on or the newest."""
        channel = self._channel(request)
        try:
            query = HistoryQuery.model_validate(dict(request.query))
        except ValidationError as e:
            fault = e.errors(include_url=False, include_context=False, include_input=False)[0]
            known = [str(key) for key in fault["loc"] if key in HistoryQuery.model_fields]
            raise web.HTTPBadRequest(text=": ".join([*known, fault["msg"]])) from None
        kept = channel.history
        payloads = []
        since = query.since_seq
        if since is None:
            messages = list(kept)[-query.limit :]
            since = messages[0].seq - 1 if messages else channel.seq
        else:
            position = Position(epoch=query.epoch or channel.epoch, seq=since)
            first = kept.first_seq or channel.seq + 1
            if position.epoch != channel.epoch or not first - 1 <= since <= channel.seq:
                payloads.append(resume.gap(self._hub, channel, position, upto=first - 1))
                since = first - 1
            messages = kept.after(since, query.limit)
        messages = list(_within(messages, MAX_BYTES))
        until = messages[-1].seq if messages else since
        payloads += [wire.payload_of(message.frame) for message in messages]
        fields = {
            "channel": channel.name,
            "epoch": channel.epoch,
            "seq": channel.seq,
            "first_seq": kept.first_seq,
            "until_seq": until,
        }
        tag = f"{channel.epoch}-{channel.seq}-{kept.first_seq}-{until}-{len(payloads)}"
        return _answer(request, _with_messages(fields, payloads), tag)

    def _channel(self, request: web.Request) -> Channel:
        channel = self._hub.channels.get(request.match_info["channel"])
        if channel is None:
            raise web.HTTPNotFound(text=NO_CHANNEL)
        return channel


def _within(messages: Iterable[Message], most: int) -> Iterable[Message]:
    """Yield the first messages, until they have so many bytes."""
    for message in messages:
        yield message
        most -= len(message.frame)
        if most <= 0:
            return


def _tag(channel: Channel, messages: Iterable[Message]) -> str:
    """Return what differs whenever the messages do, but for their age."""
    said = [(m.seq, m.frame.endswith(b'"stale":true}')) for m in messages]
    return f"{channel.epoch}-{zlib.crc32(repr(said).encode()):08x}"


def _with_messages(fields: dict[str, object], payloads: list[bytes]) -> bytes:
    return orjson.dumps(fields)[:-1] + b',"messages":[' + b",".join(payloads) + b"]}"


def _answer(request: web.Request, body: bytes, tag: str) -> web.StreamResponse:
    """Return the answer, or that the client has it already."""
    headers = {hdrs.ETAG: f'W/"{tag}"', hdrs.CACHE_CONTROL: "no-cache"}
    if any(each.value in {tag, "*"} for each in request.if_none_match or ()):
        return web.Response(status=304, headers=headers)
    headers[hdrs.CONTENT_TYPE] = "application/json"
    return web.Response(body=body, headers=headers)
