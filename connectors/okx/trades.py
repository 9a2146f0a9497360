"""
OKX: trades, and after a loss those that are missing, over REST.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-trades-channel
https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history

An instrument's trades are numbered one by one. A push stands for `count` of them, of one taker
order at one price, and has the number of the last. So what is missing before a push is known. It is
asked for from the newest trade back, page by page; meanwhile newer trades of the instrument wait.
REST tells each trade by itself. What it has no more is told as a gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf
from typing import Annotated, Literal

import msgspec

from aggregator import api
from connectors.okx.public import Milliseconds, Public, PublicOptions, beginning

HISTORY = "/api/v5/market/history-trades"
PAGE = 100
ATTEMPTS = 3
"""How often REST may be behind the channel."""
MAX_HELD = 10_000
"""Trades of an instrument that wait for older ones."""


class TradesOptions(PublicOptions, api.FetchOptions):
    """What the section of an `okx.trades` feed may contain."""

    base_url: api.HttpAddress = "https://openapi.okx.com"
    """Where the venue's REST interface is; the paths are appended."""
    max_backfill: Annotated[int, api.Field(ge=0, le=1_000_000)] = 10_000
    """Trades of an instrument fetched after a loss; of a longer one, the newest."""


class Row(msgspec.Struct, gc=False):
    """A trade, or several at once; of REST, always one."""

    instId: str
    tradeId: str
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: Milliseconds = ""
    count: str = "1"


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


class Tape:
    """
    What is known of the trades of one instrument, and what is told next.

    Those up to `known` were told, were told to be lost, or do not exist; -1 is before the first.
    While older ones are asked for, `_held` has what comes, with the first that each stands for, and
    `_found` what was fetched, the newest first.

    Args:
        inst_id: the venue's name of it.
        instrument: ours.
        max_backfill: how many trades to fetch.

    """

    __slots__ = (
        "_asked",
        "_found",
        "_held",
        "_inst_id",
        "_instrument",
        "_max_backfill",
        "_newest",
        "_oldest",
        "known",
    )

    def __init__(self, inst_id: str, instrument: str, max_backfill: int) -> None:
        self.known = -1
        self._inst_id = inst_id
        self._instrument = instrument
        self._max_backfill = max_backfill
        self._asked = 0
        self._newest: float = -1
        self._oldest: float = inf
        self._found: list[api.TradeExecuted] = []
        self._held: list[tuple[int, api.TradeExecuted]] = []

    def read(self, row: Row, *, backfilled: bool = False) -> api.TradeExecuted:
        """Translate a row."""
        api.require_numbers(row.px, row.sz)
        return api.TradeExecuted(
            instrument=self._instrument,
            id=row.tradeId,
            side=row.side,
            price=row.px,
            quantity=row.sz,
            exchange_us=int(row.ts) * 1000 if row.ts else None,
            backfilled=backfilled,
        )

    def take(self, first: int, last: int, event: api.TradeExecuted) -> Iterable[api.Output]:
        """Tell what came and stands for these numbers, or hold it while one before is missing."""
        if self._asked:
            self._held.append((first, event))
            return self.fail("too many came meanwhile") if len(self._held) > MAX_HELD else []
        if last <= self.known:
            return [api.Unhandled("trade that was told before")]
        if first > self.known + 1 and self.known >= 0:
            self._held.append((first, event))
            return self.ask()
        self.known = last
        return [event]

    def ask(self) -> Iterable[api.Output]:
        """Ask for all that is newer than what is known, unless that is done already."""
        if self.known < 0 or self._asked:
            return []
        if not self._max_backfill:
            return self._tell("max_backfill is 0")
        self._asked = 1
        return [self._request()]

    def page(self, rows: list[Row]) -> Iterable[api.Output]:
        """Take what was fetched, the newest first; tell it if it is all."""
        if not self._asked:
            return [api.Unhandled("answer that came too late")]
        ids = [int(row.tradeId) for row in rows]
        if ids and self._oldest < inf and max(ids) != self._oldest - 1:
            # Its pages come from many places, some of which may be behind.
            return self.again("the venue's answers do not fit together")
        # All of them before anything is noted: one that can't be read makes the answer unreadable.
        until = min(self._until, self._oldest)
        news = [row for row, n in zip(rows, ids, strict=True) if self.known < n < until]
        self._found += [self.read(row, backfilled=True) for row in news]
        self._newest = max([self._newest, *ids])
        before, self._oldest = self._oldest, min([self._oldest, *ids])
        if self._oldest <= self.known + 1:
            return self._tell()
        if len(self._found) >= self._max_backfill:
            return self._tell(f"max_backfill is {self._max_backfill}")
        if self._oldest < before:
            return [self._request(after=self._oldest)]
        return self._tell("the venue does not give them any more")

    def again(self, reason: str) -> Iterable[api.Output]:
        """Ask once more, unless that was done often enough."""
        if not 0 < self._asked < ATTEMPTS:
            return self.fail(reason)
        self._asked += 1
        self._forget()
        return [self._request()]

    def fail(self, reason: str) -> Iterable[api.Output]:
        """Go on without what could not be fetched."""
        return self._tell(reason) if self._asked else []

    @property
    def _until(self) -> float:
        """The first that is not missing, if one has come yet."""
        return self._held[0][0] if self._held else inf

    def _forget(self) -> None:
        self._found, self._newest, self._oldest = [], -1, inf

    def _request(self, **more: float) -> api.Fetch:
        limit = min(PAGE, self._max_backfill - len(self._found))
        params = {"instId": self._inst_id, "type": "1", "limit": str(limit)}
        params |= {key: str(value) for key, value in more.items()}
        return api.Fetch(api.Request(HISTORY, params, key=self._inst_id))

    def _tell(self, missing: str = "") -> Iterator[api.Output]:
        """
        Tell what was found, and then what was held, if nothing is missing in between.

        Args:
            missing: why not all was found that is older.

        """
        until = self._until
        found = [event for event in reversed(self._found) if int(event.id) < until]
        before = int(found[0].id) if found else until
        if missing and before < inf:
            yield from self._lost(int(before), missing)
        yield from found
        self.known = max([self.known, *(int(event.id) for event in found)])
        if self.known < until - 1 < inf and self._newest < until:
            # Where REST has newer ones, those in between do not exist; here it may be behind.
            yield from self.again(missing or "the venue does not give them")
            return
        if until < inf:
            self.known = max(self.known, int(until) - 1)
        self._forget()
        self._asked, held, self._held = 0, self._held, []
        for first, event in held:
            yield from self.take(first, int(event.id), event)

    def _lost(self, before: int, cause: str) -> Iterable[api.Output]:
        if before <= self.known + 1:
            return []
        after, self.known = self.known, before - 1
        data = api.Break(cause, after, before).data()
        return [api.Gap(instrument=self._instrument, data=data)]


class Trades(Public):
    """Every trade, in the order of its number."""

    channel = "trades"
    options_type = TradesOptions
    options: TradesOptions

    def __init__(self, options: TradesOptions) -> None:
        super().__init__(options)
        self._tapes = {
            inst_id: Tape(inst_id, instrument, options.max_backfill)
            for inst_id, instrument in self.instruments.items()
        }

    def resume(self, seen: Mapping[str, str]) -> None:
        """Go on after these."""
        for inst_id, tape in self._tapes.items():
            tape.known = int(seen.get(self.instruments[inst_id], "-1"))

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
