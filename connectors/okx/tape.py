"""
OKX: what is known of the trades of one instrument, and what is told next.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history

Answers of REST come from many servers, some of which may be behind. So it is asked again after a
pause. It may also not answer at all: trades wait for it no longer than `PATIENCE_S`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from typing import Literal

import msgspec

from aggregator import api
from connectors.okx.public import Milliseconds

HISTORY = "/api/v5/market/history-trades"
PAGE = 100
PAUSES_S = (0.2, 0.5, 1.0)
"""Before REST, which was behind, is asked again."""
PATIENCE_S = 10.0
"""So long an answer may take, if a third of `stale_after_s` is not less."""
MAX_HELD = 10_000
"""Trades of an instrument that wait for older ones."""
RENUMBERED_US = 1_000_000
"""A number that falls, of a trade that is later by so much, is the first of a new count."""
ANEW = "the venue counts anew"


class Row(msgspec.Struct, gc=False):
    """A trade, or several at once; of REST, always one."""

    instId: str
    tradeId: str
    px: str
    sz: str
    side: Literal["buy", "sell"]
    ts: Milliseconds = ""
    count: str = "1"


class Tape:
    """
    The trades of one instrument.

    Those up to `known` were told, were told to be lost, or do not exist; -1 is before the first.
    While older ones are asked for, `_held` has what comes, with the first that each stands for, and
    `_found` what was fetched, the newest first.

    Args:
        inst_id: the venue's name of it.
        instrument: ours.
        max_backfill: how many trades to fetch.
        patience_s: how long an answer may take.

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
        "_patience_s",
        "_us",
        "known",
    )

    def __init__(
        self, inst_id: str, instrument: str, max_backfill: int, patience_s: float = PATIENCE_S
    ) -> None:
        self.known = -1
        # When the last that was told was made.
        self._us: int | None = None
        self._inst_id = inst_id
        self._instrument = instrument
        self._max_backfill = max_backfill
        self._patience_s = patience_s
        self._asked = 0
        self._newest: float = -1
        self._oldest: float = inf
        self._found: list[api.TradeExecuted] = []
        self._held: list[tuple[int, api.TradeExecuted]] = []

    def resume(self, seen: api.Seen) -> None:
        """Go on after this."""
        self.known, self._us = int(seen.id), seen.exchange_us

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
            return self._hold(first, event)
        if last <= self.known:
            if not self._is_later(event.exchange_us):
                return [api.Ignored("trade that was told before")]
            gap = self._begin_anew(first)
            self.known, self._us = last, event.exchange_us
            return [gap, event]
        if first > self.known + 1 and self.known >= 0:
            asked = self.ask() if self._max_backfill else []
            return [*asked, *self._hold(first, event)]
        self.known, self._us = last, event.exchange_us
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
            return [api.Ignored("answer that came too late")]
        ids = [int(row.tradeId) for row in rows]
        if self._oldest < inf:
            if ids and max(ids) != self._oldest - 1:
                # Its pages come from many places, some of which may be behind.
                return self.again("the venue's answers do not fit together")
        elif ids and max(ids) < self.known and self._is_later(self.read(rows[0]).exchange_us):
            return [self._begin_anew(None), *self._tell()]
        # All of them before anything is noted: one that can't be read makes the answer unreadable.
        until = min(self._until, self._oldest)
        news = [row for row, n in zip(rows, ids, strict=True) if self.known < n < until]
        self._found += [self.read(row, backfilled=True) for row in news]
        self._newest = max([self._newest, *ids])
        before, self._oldest = self._oldest, min([self._oldest, *ids])
        if self._oldest <= self.known + 1:
            return self._tell()
        missing = "the venue does not give them any more"
        if len(self._found) >= self._max_backfill:
            missing = f"max_backfill is {self._max_backfill}"
        elif self._oldest < before:
            return [self._request(after=self._oldest)]
        return self._tell(missing)

    def again(self, reason: str) -> Iterable[api.Output]:
        """Ask once more after a pause, unless that was done often enough."""
        if not 0 < self._asked <= len(PAUSES_S):
            return self.fail(reason)
        pause_s = PAUSES_S[self._asked - 1]
        self._asked += 1
        self._forget()
        return [self._request(pause_s)]

    def fail(self, reason: str) -> Iterable[api.Output]:
        """Go on without what could not be fetched."""
        return self._tell(reason) if self._asked else []

    @property
    def _until(self) -> float:
        """The first that is not missing, if one has come yet."""
        return self._held[0][0] if self._held else inf

    def _hold(self, first: int, event: api.TradeExecuted) -> Iterable[api.Output]:
        self._held.append((first, event))
        if not self._asked:
            return self._tell("max_backfill is 0")
        if len(self._held) > MAX_HELD:
            return self.fail("too many came meanwhile")
        return [api.Withheld(self._instrument)]

    def _is_later(self, us: int | None) -> bool:
        """Return whether a trade with a number of before is none of before."""
        return us is not None and self._us is not None and us - self._us > RENUMBERED_US

    def _begin_anew(self, before: int | None) -> api.Gap:
        after, self.known = self.known, -1
        data = api.Break(ANEW, after, before).data()
        return api.Gap(instrument=self._instrument, data=data)

    def _forget(self) -> None:
        self._found, self._newest, self._oldest = [], -1, inf

    def _request(self, delay_s: float = 0.0, **more: float) -> api.Fetch:
        limit = min(PAGE, self._max_backfill - len(self._found))
        params = {"instId": self._inst_id, "type": "1", "limit": str(limit)}
        params |= {key: str(value) for key, value in more.items()}
        request = api.Request(HISTORY, params, key=self._inst_id)
        return api.Fetch(request, delay_s, self._patience_s)

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
        if found:
            self._us = found[-1].exchange_us
        self.known = max([self.known, *(int(event.id) for event in found)])
        if -1 < self.known < until - 1 < inf and self._newest < until:
            # Where REST has newer ones, those in between do not exist; here it may be behind.
            yield from self.again(missing or "the venue does not give them")
            return
        if self.known > -1 and until < inf:
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
