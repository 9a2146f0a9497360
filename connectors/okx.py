"""
OKX: tickers of the v5 public WebSocket.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-tickers-channel

A ticker is pushed on a trade or a change of the best bid or ask, at most every 100 ms. All numbers
are strings; one that OKX does not have is empty. An error names no argument of the request that it
answers, so each request has an `id` and, as far as the limit on requests allows, one argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec

from aggregator.api import (
    Acknowledged,
    ExchangeError,
    Field,
    Leaving,
    Output,
    PriceUpdate,
    Send,
    StreamConnector,
    StreamOptions,
    Unhandled,
    UnknownInstrument,
    WebSocketAddress,
    excerpt,
)

PUBLIC = "wss://ws.okx.com:443/ws/v5/public"
CHANNEL = "tickers"
MAX_REQUESTS = 100
"""A connection may send 480 in an hour, and `on_open` sends its requests at once."""

Milliseconds = Annotated[str, msgspec.Meta(max_length=13)]
"""Digits or nothing; with more of them it would be no time of this calendar."""


class TickerOptions(StreamOptions):
    """What the section of an `okx.ticker` feed may contain."""

    urls: Annotated[list[WebSocketAddress], Field(min_length=1)] = Field(default=[PUBLIC])
    """Addresses of the venue's WebSocket, tried in turn."""


class Arg(msgspec.Struct, gc=False):
    """What a frame is about."""

    channel: str = ""
    instId: str = ""


class Data(msgspec.Struct, gc=False):
    """A frame of which nothing but its data matters."""

    data: list[msgspec.Raw] | None = None


class Frame(msgspec.Struct, gc=False):
    """Any frame: data has `data`, everything else has `event`."""

    data: list[msgspec.Raw] | None = None
    arg: Arg | None = None
    event: str | None = None
    id: str | None = None
    code: str | None = None
    msg: str | None = None


class Row(msgspec.Struct, gc=False):
    """A ticker."""

    instId: str
    last: str
    instType: str = ""
    bidPx: str = ""
    askPx: str = ""
    vol24h: str = ""
    ts: Milliseconds = ""


TICKER = b'{"arg":{"channel":"tickers",'
"""How OKX begins a frame with tickers; one that begins otherwise takes the longer way."""
decode_data = msgspec.json.Decoder(Data).decode
decode_frame = msgspec.json.Decoder(Frame).decode
decode_row = msgspec.json.Decoder(Row).decode
MISSING_INSTRUMENT = re.compile(r"instId:([^,\s]+)")


class Ticker(StreamConnector):
    """Last price, best bid and ask, and volume of each instrument."""

    exchange = "okx"
    options_type = TickerOptions
    ping = "ping"
    pong = b"pong"

    def __init__(self, options: StreamOptions) -> None:
        super().__init__(options)
        self._instruments = {i.replace("/", "-"): i for i in options.instruments}
        ids = list(self._instruments)
        size = -(-len(ids) // MAX_REQUESTS)
        self._groups = {f"t{n}": ids[n : n + size] for n in range(0, len(ids), size)}
        self._keys = {inst_id: key for key, group in self._groups.items() for inst_id in group}
        self._unanswered = {key: set(group) for key, group in self._groups.items()}

    def on_open(self) -> Iterable[Send]:
        """Subscribe to every instrument."""
        for key, group in self._groups.items():
            args = [{"channel": CHANNEL, "instId": inst_id} for inst_id in group]
            request = {"id": key, "op": "subscribe", "args": args}
            yield Send(msgspec.json.encode(request).decode(), key=key)

    def on_frame(self, frame: bytes) -> Iterable[Output]:
        """Translate one frame."""
        rows = decode_data(frame).data if frame.startswith(TICKER) else None
        if not rows:
            message = decode_frame(frame)
            if not message.data:
                return self._event(message)
            if message.arg is None or message.arg.channel != CHANNEL:
                return [Unhandled("data of another channel")]
            rows = message.data
        # In line, without a call for each row: this is the way of nearly every frame.
        outputs: list[Output] = []
        for raw in rows:
            row = decode_row(raw)
            instrument = self._instruments.get(row.instId)
            if instrument is None:
                outputs.append(Unhandled("ticker of another instrument"))
                continue
            outputs.append(
                PriceUpdate(
                    instrument,
                    row.last,
                    raw,
                    int(row.ts) * 1000 if row.ts else None,
                    row.bidPx,
                    row.askPx,
                    # Derivatives count contracts here, not units of the base.
                    row.vol24h if row.instType == "SPOT" else None,
                )
            )
        return outputs

    def _event(self, message: Frame) -> Iterator[Output]:
        reason = excerpt((message.msg or "no reason given").encode())
        code = excerpt((message.code or "no code").encode())[:40]
        match message.event:
            case "subscribe":
                yield from self._answered(message.arg.instId if message.arg else "")
            case "error" if code == "60018":
                yield from self._unknown(message, reason)
            case "error":
                raise ExchangeError(f"{code}: {reason}")
            case "channel-conn-count-error":
                raise ExchangeError(f"channel-conn-count-error: {reason}")
            case "notice" if code == "64008":
                yield Leaving(reason)
            case "notice":
                yield Unhandled(f"notice {code}")
            case None | "":
                yield Unhandled("frame")
            case name:
                yield Unhandled(excerpt(name.encode())[:40])

    def _answered(self, inst_id: str) -> list[Output]:
        """Return the acknowledgement if this was the last argument of its request."""
        key = self._keys.get(inst_id)
        if key is None:
            return [Unhandled("subscribe")]
        unanswered = self._unanswered[key]
        unanswered.discard(inst_id)
        return [] if unanswered else [Acknowledged(key)]

    def _unknown(self, message: Frame, reason: str) -> Iterator[Output]:
        group = self._groups.get(message.id or "", [])
        named = MISSING_INSTRUMENT.search(message.msg or "")
        inst_id = group[0] if len(group) == 1 else named[1] if named else ""
        if inst_id not in self._instruments:
            raise ExchangeError(f"60018: {reason}")
        yield UnknownInstrument(self._instruments[inst_id], reason)
        yield from self._answered(inst_id)
