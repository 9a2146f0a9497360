"""
Binance: the 24 h ticker, pushed once a second for each instrument that changes.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams

There is no stream with the whole ticker of all instruments any more (`!ticker@arr` ended in March
2026). With "all", as many instruments as a connection may have streams get one each; what is beyond
that comes from `!miniTicker@arr`, which has no best bid and ask and no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Annotated, Literal

from msgspec import Raw, Struct, json

from aggregator import api
from connectors.binance.listing import NAMES, read_names
from connectors.binance.stream import MAX_STREAMS, BinanceOptions, Milliseconds, Stream

MINI = "!miniTicker@arr"


class TickerOptions(BinanceOptions):
    """What the section of a `binance.ticker` feed may contain."""

    # Wider than elsewhere on purpose: who reads it there asks whether it is a list.
    instruments: (  # type: ignore[assignment]
        Annotated[api.Instruments, api.Field(max_length=MAX_STREAMS)] | Literal["all"]
    )
    """The instruments, as "BASE/QUOTE", 1,024 at most; or "all" that are trading."""


class Row(Struct, gc=False):
    """An event `24hrTicker`, or a row of `!miniTicker@arr`, which has no `b`, `a` and `P`."""

    s: str
    c: str
    E: Milliseconds
    b: str = ""
    a: str = ""
    v: str = ""
    P: str = ""


decode_row = json.Decoder(Row).decode
decode_rows = json.Decoder(list[Raw]).decode


class Ticker(Stream):
    """Last price, best bid and ask, volume and change; `data` is the venue's own event."""

    options_type = TickerOptions
    event = "24hrTicker"

    def __init__(self, options: TickerOptions) -> None:
        super().__init__(options)
        self._mini: dict[str, str] = {}

    def on_frame(self, frame: bytes) -> Iterable[api.Output]:
        """Translate one frame."""
        return self._array(frame) if frame.startswith(b"[") else super().on_frame(frame)

    def on_no_response(self, request: api.Request, reason: str) -> Iterable[api.Output]:
        """Give up if that leaves nothing to subscribe to."""
        if request.key == NAMES and not self._listed:
            raise api.ExchangeError(f"the names can't be fetched: {api.excerpt(reason.encode())}")
        return super().on_no_response(request, reason)

    def resubscribe(self, instrument: str) -> Iterator[api.Send]:
        """Have the stream of one instrument closed and opened again, if it has one of its own."""
        if instrument not in self._mini.values():
            yield from super().resubscribe(instrument)

    def _stream(self, symbol: str) -> str:
        return f"{symbol.lower()}@ticker"

    def _event(self, frame: bytes) -> Iterable[api.Output]:
        row = decode_row(frame)
        instrument = self._by_symbol.get(row.s)
        if instrument is None:
            return [api.Unhandled("ticker of another instrument")]
        return [_update(instrument, row, frame)]

    def _array(self, frame: bytes) -> Iterator[api.Output]:
        for raw in decode_rows(frame):
            row = decode_row(raw)
            instrument = self._mini.get(row.s)
            if instrument is not None:
                yield _update(instrument, row, raw)

    def _names(self, body: bytes) -> Iterable[api.Output]:
        if self._listed:
            return super()._names(body)
        trading = read_names(body, ()).trading
        self._by_symbol, self._mini = trading, {}
        streams = [self._stream(symbol) for symbol in trading]
        if len(streams) > MAX_STREAMS:
            streams[MAX_STREAMS - 1 :] = [MINI]
            self._mini = dict(islice(trading.items(), MAX_STREAMS - 1, None))
        known = api.KnownInstruments(frozenset(trading.values()))
        return [known, *self._subscribe_to(streams)]


def _update(instrument: str, row: Row, data: bytes | Raw) -> api.PriceUpdate:
    return api.PriceUpdate(instrument, row.c, data, row.E * 1000, row.b, row.a, row.v, row.P)
