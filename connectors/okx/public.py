"""
OKX v5 public WebSocket: subscriptions, their answers, and everything else that is no data.

https://www.okx.com/docs-v5/en/#overview-websocket-subscribe

An error names no argument of the request that it answers, so each request has an `id` and, as far
as the limit on requests allows, one argument. A connection may send 480 of them in an hour, so what
is subscribed to anew again and again waits longer each time. All numbers are strings; one that OKX
does not have is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import msgspec

from aggregator import api

URLS = ("wss://ws.okx.com:443/ws/v5/public",)
MAX_REQUESTS = 100
"""So many does `on_open` send at once; of 480 in an hour, the limit of a connection."""
AT_ONCE, PER_HOUR = 60, 120
"""Subscriptions made anew, of two requests each: 100 + 2 x (60 + 120) is less than 480."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
"""Between two of one instrument, where it helps for no longer."""
TICK_S = 1.0
"""By which what has to wait is looked at."""

Milliseconds = Annotated[str, msgspec.Meta(max_length=13)]
"""Digits or nothing; with more of them it would be no time of this calendar."""


class PublicOptions(api.StreamOptions):
    """What the section of a feed of OKX may contain."""

    urls: Annotated[list[api.WebSocketAddress], api.Field(min_length=1)] = api.Field(
        default=list(URLS)
    )
    """Addresses of the venue's WebSocket, tried in turn."""


class Arg(msgspec.Struct, gc=False):
    """What a frame is about."""

    channel: str = ""
    instId: str = ""


class Frame(msgspec.Struct, gc=False):
    """Any frame: data has `data`, everything else has `event`."""

    data: list[msgspec.Raw] | None = None
    arg: Arg | None = None
    event: str | None = None
    id: str | None = None
    code: str | None = None
    msg: str | None = None


DOCUMENTED = MappingProxyType(
    {
        "tickers": api.Row(
            "instType:text instId:text last:number lastSz:number0 askPx:number askSz:number0 "
            "bidPx:number bidSz:number0 open24h:number high24h:number low24h:number "
            "sodUtc0:number sodUtc8:number volCcy24h:number0 vol24h:number0 ts:number"
        ),
        "trades": api.Row(
            "instId:text tradeId:number px:number sz:number side:text ts:number count:number? "
            "source:number0? seqId:int0?"
        ),
        # Deprecated, and zero since June 2026: "checksum".
        "books": api.Row(
            "asks:list bids:list ts:number checksum:int0? prevSeqId:int0? seqId:int? instId:text?"
        ),
        "bbo-tbt": api.Row("asks:list bids:list ts:number seqId:int? instId:text?"),
    }
)
decode_frame = msgspec.json.Decoder(Frame).decode
MISSING_INSTRUMENT = re.compile(r"instId:([^,\s]+)")


def beginning(channel: str) -> bytes:
    """Return how OKX begins a frame with data; one that begins otherwise takes a longer way."""
    return b'{"arg":{"channel":"%b",' % channel.encode()


def microseconds(ms: str) -> int | None:
    """Return a time since the epoch, where there is one."""
    return int(ms) * 1000 if ms else None


class Public(api.StreamConnector):
    """One channel, of each instrument."""

    exchange = "okx"
    # Of `history-trades`, 20 in any 2 s.
    budget = api.Budget(per_second=9)
    options_type: ClassVar[type[api.StreamOptions]] = PublicOptions
    ping = "ping"
    pong = b"pong"
    documented = DOCUMENTED
    channel: ClassVar[str]
    """OKX' name of it."""

    def __init__(self, options: api.StreamOptions) -> None:
        super().__init__(options)
        self.instruments = {i.replace("/", "-"): i for i in options.instruments}
        ids = list(self.instruments)
        size = -(-len(ids) // MAX_REQUESTS)
        self._requests = {f"t{n}": ids[n : n + size] for n in range(0, len(ids), size)}
        self._unanswered = {key: set(group) for key, group in self._requests.items()}
        # By instrument, the request that subscribed to it last.
        self._keys = {inst_id: key for key, group in self._requests.items() for inst_id in group}
        self._left: set[str] = set()
        self._numbers = {name: n for n, name in enumerate(options.instruments)}
        # What is to be subscribed to anew, and when, by the clock of the ticks.
        self._due: dict[str, float] = {}
        self._recovered: set[str] = set()
        self._retries = api.Retries(
            AT_ONCE, PER_HOUR / 3600, first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S
        )
        self._time = 0.0
        self.tick_s = TICK_S

    def on_open(self) -> Iterator[api.Send]:
        """Subscribe to every instrument."""
        for key, group in self._requests.items():
            yield self._request("subscribe", group, key)

    def on_tick(self) -> Iterator[api.Output]:
        """Subscribe anew to those whose turn it is."""
        self._time += self.tick_s or TICK_S
        for instrument in [name for name, at in self._due.items() if at <= self._time]:
            del self._due[instrument]
            if instrument in self._recovered:
                self._recovered.discard(instrument)
            else:
                yield from self._anew(instrument)

    def resubscribe(self, instrument: str) -> Iterable[api.Send]:
        """Leave the channel of one instrument and subscribe to it again: now, or when it may be."""
        self._recovered.discard(instrument)
        if instrument not in self._numbers or instrument in self._due or self._is_new(instrument):
            return []
        wait_s = self._retries.again(instrument, self._time)
        if wait_s > 0:
            self._due[instrument] = self._time + wait_s
            return []
        return self._anew(instrument)

    def recovered(self, instrument: str) -> None:
        """Take note that an instrument need not be subscribed to anew, unless it is lost again."""
        if instrument in self._due:
            self._recovered.add(instrument)

    def rows(self, payload: Any) -> Iterable[tuple[str, object]]:
        """Yield the rows of a frame with data."""
        return [(payload["arg"]["channel"], row) for row in payload.get("data") or ()]

    def other(self, frame: bytes) -> Iterable[api.Output] | None:
        """Translate a frame without data of the channel; with such data, return `None`."""
        message = decode_frame(frame)
        if not message.data:
            return self._event(message)
        if message.arg is None or message.arg.channel != self.channel:
            return [api.Unhandled("data of another channel")]
        return None

    def subscribed(self, inst_id: str) -> Iterable[api.Output]:
        """Return what there is to do when a subscription is confirmed."""
        del inst_id
        return ()

    def _is_new(self, instrument: str) -> bool:
        """Return whether a subscription is not acknowledged yet, and so as good as new."""
        inst_id = instrument.replace("/", "-")
        return inst_id in self._unanswered[self._keys[inst_id]]

    def _anew(self, instrument: str) -> list[api.Send]:
        if self._is_new(instrument):
            return []
        inst_id = instrument.replace("/", "-")
        key = self._keys[inst_id] = f"r{self._numbers[instrument]}"
        self._requests[key], self._unanswered[key] = [inst_id], {inst_id}
        self._left.add(inst_id)
        return [
            self._request("unsubscribe", [inst_id]),
            self._request("subscribe", [inst_id], key),
        ]

    def _request(self, op: str, ids: list[str], key: str = "") -> api.Send:
        args = [{"channel": self.channel, "instId": inst_id} for inst_id in ids]
        request = ({"id": key} if key else {}) | {"op": op, "args": args}
        return api.Send(msgspec.json.encode(request).decode(), key=key)

    def _event(self, message: Frame) -> Iterator[api.Output]:
        reason = api.excerpt((message.msg or "no reason given").encode())
        code = api.excerpt((message.code or "no code").encode())[:40]
        inst_id = message.arg.instId if message.arg else ""
        match message.event:
            case "subscribe":
                yield from self._answered(inst_id)
                if inst_id in self.instruments:
                    yield from self.subscribed(inst_id)
            case "unsubscribe" if inst_id in self._left:
                self._left.discard(inst_id)
            case "error" if code == "60018":
                yield from self._unknown(message, reason)
            case "error":
                raise api.ExchangeError(f"{code}: {reason}")
            case "channel-conn-count-error":
                raise api.ExchangeError(f"channel-conn-count-error: {reason}")
            case "notice" if code == "64008":
                yield api.Leaving(reason)
            case "notice":
                yield api.Unhandled(f"notice {code}")
            case None | "":
                yield api.Unhandled("frame")
            case name:
                yield api.Unhandled(api.excerpt(name.encode())[:40])

    def _answered(self, inst_id: str) -> list[api.Output]:
        """Return the acknowledgement if this was the last argument of its request."""
        key = self._keys.get(inst_id)
        if key is None:
            return [api.Unhandled("subscribe")]
        unanswered = self._unanswered[key]
        unanswered.discard(inst_id)
        return [] if unanswered else [api.Acknowledged(key)]

    def _unknown(self, message: Frame, reason: str) -> Iterator[api.Output]:
        group = self._requests.get(message.id or "", [])
        named = MISSING_INSTRUMENT.search(message.msg or "")
        inst_id = group[0] if len(group) == 1 else named[1] if named else ""
        if inst_id not in self.instruments:
            raise api.ExchangeError(f"60018: {reason}")
        yield api.UnknownInstrument(self.instruments[inst_id], reason)
        yield from self._answered(inst_id)
