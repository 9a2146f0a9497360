"""
OKX: trades, and after a loss those that are missing, over REST.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel
https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history

An instrument's trades are numbered one by one. A push stands for `count` of them, of one taker
order at one price, and has the number of the last. So what is missing before a push is known. It is
asked for from the newest trade back, page by page; meanwhile newer trades of the instrument wait.
REST tells each trade by itself. What it has no more is told as a gap, and so is what it does not
give in time: trades are not held up for long. After the venue has begun to count anew, so do we.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec

from aggregator import api
from connectors.okx.public import Public, PublicOptions, beginning
from connectors.okx.tape import PATIENCE_S, Row, Tape


class TradesOptions(PublicOptions, api.FetchOptions):
    """What the section of an `okx.trades` feed may contain."""

    base_url: api.HttpAddress = "https://openapi.okx.com"
    """Where the venue's REST interface is; the paths are appended."""
    max_backfill: Annotated[int, api.Field(ge=0, le=1_000_000)] = 10_000
    """Trades of an instrument fetched after a loss; of a longer one, the newest."""


class TradesFrame(msgspec.Struct, gc=False):
    """A frame of `trades`."""

    data: list[Row] | None = None


class Answer(msgspec.Struct, gc=False):
    """An answer of REST; the newest trade is the first."""

    code: str
    data: list[Row]
    msg: str = ""


TRADES = beginning("trades")
decode_trades = msgspec.json.Decoder(TradesFrame).decode
decode_answer = msgspec.json.Decoder(Answer).decode


class Trades(Public):
    """Every trade, in the order of its number."""

    channel = "trades"
    options_type = TradesOptions
    options: TradesOptions

    def __init__(self, options: TradesOptions) -> None:
        super().__init__(options)
        patience_s = min(PATIENCE_S, options.stale_after_s / 3)
        self._tapes = {
            inst_id: Tape(inst_id, instrument, options.max_backfill, patience_s)
            for inst_id, instrument in self.instruments.items()
        }

    def resume(self, seen: Mapping[str, api.Seen]) -> None:
        """Go on after these."""
        for inst_id, tape in self._tapes.items():
            if (last := seen.get(self.instruments[inst_id])) is not None:
                tape.resume(last)

    def subscribed(self, inst_id: str) -> Iterable[api.Output]:
        """Ask for what was missed: from here on nothing can be."""
        return self._tapes[inst_id].ask()

    def on_frame(self, frame: bytes) -> Iterable[api.Output]:
        """Translate one frame."""
        rows = decode_trades(frame).data if frame.startswith(TRADES) else None
        if not rows:
            other = self.other(frame)
            if other is not None:
                return other
            rows = decode_trades(frame).data or []
        row = rows[0] if len(rows) == 1 else None
        if row is not None and (tape := self._tapes.get(row.instId)) is not None:
            # Nearly every frame is so; the longer way would cost it a fifth more.
            last = int(row.tradeId)
            first = last if row.count == "1" else last - max(1, int(row.count)) + 1
            return tape.take(first, last, tape.read(row))
        # All of them before anything is noted: one that can't be read makes the frame unreadable.
        trades = []
        outputs: list[api.Output] = []
        for row in rows:
            tape = self._tapes.get(row.instId)
            if tape is None:
                outputs.append(api.Unhandled("trade of another instrument"))
            else:
                last = int(row.tradeId)
                trades.append((tape, last - max(1, int(row.count)) + 1, last, tape.read(row)))
        for tape, first, last, event in trades:
            outputs += tape.take(first, last, event)
        return outputs

    def on_response(self, request: api.Request, body: bytes) -> Iterable[api.Output]:
        """Translate a page of older trades."""
        tape = self._tapes.get(request.key)
        if tape is None:
            return super().on_response(request, body)
        answer = decode_answer(body)
        if answer.code != "0":
            return tape.again(api.excerpt(f"{answer.code}: {answer.msg}".encode()))
        return tape.page(answer.data)

    def on_no_response(self, request: api.Request, reason: str) -> Iterable[api.Output]:
        """Tell what is lost."""
        tape = self._tapes.get(request.key)
        return tape.fail(reason) if tape else super().on_no_response(request, reason)
