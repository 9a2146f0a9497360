"""
OKX: tickers.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-tickers-channel

A ticker is pushed on a trade or a change of the best bid or ask, at most every 100 ms.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from aggregator import api
from connectors.okx.public import Milliseconds, Public, beginning, decode_frame


class Data(msgspec.Struct, gc=False):
    """A frame of which nothing but its data matters."""

    data: list[msgspec.Raw] | None = None


class Row(msgspec.Struct, gc=False):
    """A ticker."""

    instId: str
    last: str
    instType: str = ""
    bidPx: str = ""
    askPx: str = ""
    vol24h: str = ""
    ts: Milliseconds = ""


TICKERS = beginning("tickers")
decode_data = msgspec.json.Decoder(Data).decode
decode_row = msgspec.json.Decoder(Row).decode


class Ticker(Public):
    """Last price, best bid and ask, and volume of each instrument."""

    channel = "tickers"

    def on_frame(self, frame: bytes) -> Iterable[api.Output]:
        """Translate one frame."""
        rows = decode_data(frame).data if frame.startswith(TICKERS) else None
        if not rows:
            other = self.other(frame)
            if other is not None:
                return other
            rows = decode_frame(frame).data or []
        # In line, without a call for each row: this is the way of nearly every frame.
        outputs: list[api.Output] = []
        for raw in rows:
            row = decode_row(raw)
            instrument = self.instruments.get(row.instId)
            if instrument is None:
                outputs.append(api.Unhandled("ticker of another instrument"))
                continue
            outputs.append(
                api.PriceUpdate(
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
