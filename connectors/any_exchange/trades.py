"""
Trades of any exchange.

https://docs.ccxt.com/#/README?id=public-trades

Whether an exchange's ids follow one another differs, and so does whether the ids of its stream are
those of its REST interface. So what was missed between two streams is fetched, and taken if the
answer has the last trade before the break and the first one after it; if not, a gap says that some
may be missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

from aggregator.api import (
    ConnectorError,
    Gap,
    Ignored,
    Options,
    Output,
    TradeExecuted,
    Unhandled,
)

from .digits import decimal_text, microseconds
from .feed import CcxtFeed
from .options import ListedOptions

REMEMBERED = 1000
"""Ids of each instrument, to leave out what comes again."""
MAX_HELD = 10_000
"""Trades of one instrument that wait while what was missed before them is fetched."""
ATTEMPTS = 3
AGAIN_S = 1.0
"""How often the REST interface is asked if it is behind the stream, and how long after."""


class Tape:
    """What is known of the trades of one instrument; `held` is `None` while there is no break."""

    __slots__ = ("fetching", "held", "known", "newest")

    def __init__(self) -> None:
        self.known: dict[str, None] = {}
        self.newest: dict[str, Any] | None = None
        self.held: list[dict[str, Any]] | None = None
        self.fetching = False

    def add(self, trade: dict[str, Any]) -> bool:
        """Remember a trade; false if it was told before."""
        key = key_of(trade)
        if key in self.known:
            return False
        self.known[key] = None
        if len(self.known) > REMEMBERED:
            del self.known[next(iter(self.known))]
        if self.newest is None or (trade["timestamp"] or 0) >= (self.newest["timestamp"] or 0):
            self.newest = trade
        return True


class Trades(CcxtFeed):
    """Trades of any exchange that ccxt knows."""

    options_type = ListedOptions
    what = "trades"
    watching = ("watchTradesForSymbols", "watchTrades")
    fetching = ("fetchTrades",)
    hears = "trades"
    sparse = True

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._tapes: dict[str, Tape] = {}

    def begin(self) -> None:
        """Take note that something may have been missed since the stream before."""
        for tape in self._tapes.values():
            tape.held = None if tape.newest is None else []
            tape.fetching = False

    def translate(self, heard: Any) -> Iterator[Output]:
        """Translate one trade of a stream."""
        symbol = heard["symbol"]
        if symbol not in self.symbols:
            yield Unhandled("trade of another instrument")
            return
        tape = self._tape(symbol)
        if tape.held is None:
            yield from self._told(tape, [heard])
        elif not tape.fetching and tape.newest and _goes_on(tape.newest, heard):
            tape.held = None
            yield from self._told(tape, [heard])
        elif key_of(heard) in tape.known:
            # Some exchanges begin a stream with what was before.
            yield Ignored("trade that was told before")
        else:
            tape.held.append(heard)
            if not tape.fetching:
                tape.fetching = True
                self.spawn(self._catch_up(symbol, tape), f"trades {symbol}")
            elif len(tape.held) > MAX_HELD:
                yield from self._resumed(symbol, tape, [])

    async def fetch(self, symbol: str) -> None:
        """Fetch the newest trades of one instrument, and tell those that are new."""
        rows = await self.fetched(self.ccxt.fetch_trades, symbol)
        self.tell(self._polled(symbol, self._tape(symbol), rows))

    def _tape(self, symbol: str) -> Tape:
        return self._tapes.get(symbol) or self._tapes.setdefault(symbol, Tape())

    def _polled(self, symbol: str, tape: Tape, rows: list[dict[str, Any]]) -> Iterator[Output]:
        rows = _sorted(rows)
        newest = tape.newest
        if newest is None:
            # What was before the start is history; its last is the state of things.
            for trade in rows[:-1]:
                tape.add(trade)
            rows = rows[-1:]
        elif rows and not _has(rows, newest) and _time(rows[-1]) >= _time(newest):
            yield _gap(
                symbol, "more came between two polls than the exchange tells", newest, rows[0]
            )
        rows = [t for t in rows if not newest or _time(t) >= _time(newest)]
        yield from self._told(tape, [t for t in rows if key_of(t) not in tape.known])

    async def _catch_up(self, symbol: str, tape: Tape) -> None:
        rows: list[dict[str, Any]] = []
        for _ in range(ATTEMPTS if self.has("fetchTrades") else 0):
            try:
                rows = await self.fetched(self.ccxt.fetch_trades, symbol)
            except ConnectorError:
                # The stream works: that some may be missing is said, and it goes on.
                break
            # Without the last one before the break another answer will not have it either.
            if not tape.held or not _has(rows, tape.newest) or _has(rows, tape.held[0]):
                break
            await asyncio.sleep(AGAIN_S)
        self.tell(self._resumed(symbol, tape, rows))

    def _resumed(self, symbol: str, tape: Tape, rows: list[dict[str, Any]]) -> Iterator[Output]:
        """Tell what was missed, or that something was, and then what was held."""
        held, tape.held = tape.held, None
        newest = tape.newest
        if not held or newest is None:
            return
        if _has(rows, newest) and _has(rows, held[0]):
            live = {key_of(trade) for trade in held}
            missed = (t for t in rows if _time(newest) <= _time(t) <= _time(held[0]))
            missed = (t for t in missed if key_of(t) not in live | tape.known.keys())
            yield from self._told(tape, _sorted(missed), backfilled=True)
        else:
            yield _gap(
                symbol, "what came during a break can't be told from others", newest, held[0]
            )
        yield from self._told(tape, held)

    @staticmethod
    def _told(
        tape: Tape, trades: Iterable[dict[str, Any]], *, backfilled: bool = False
    ) -> Iterator[Output]:
        for trade in trades:
            if not tape.add(trade):
                yield Ignored("trade that was told before")
                continue
            price, quantity = decimal_text(trade["price"]), decimal_text(trade["amount"])
            if trade["side"] not in {"buy", "sell"} or not price or not quantity:
                yield Unhandled("trade without a side, a price or an amount")
                continue
            yield TradeExecuted(
                instrument=trade["symbol"],
                id=str(trade["id"] or ""),
                side=trade["side"],
                price=price,
                quantity=quantity,
                cost=decimal_text(trade["cost"]) or "",
                exchange_us=microseconds(trade["timestamp"]),
                backfilled=backfilled,
            )


def key_of(trade: dict[str, Any]) -> str:
    """Return what a trade is known by: its id, or where there is none all of it."""
    if trade["id"]:
        return str(trade["id"])
    return "/".join(str(trade[name]) for name in ("timestamp", "side", "price", "amount"))


def _has(rows: Iterable[dict[str, Any]], trade: dict[str, Any] | None) -> bool:
    return trade is not None and any(key_of(row) == key_of(trade) for row in rows)


def _goes_on(newest: dict[str, Any], heard: dict[str, Any]) -> bool:
    """Whether nothing is missing: it is the same trade, or the ids leave no room for another."""
    if key_of(newest) == key_of(heard):
        return True
    ids = [str(trade["id"]) for trade in (newest, heard)]
    return all(i.isascii() and i.isdecimal() for i in ids) and int(ids[0]) + 1 == int(ids[1])


def _time(trade: dict[str, Any]) -> int:
    return int(trade["timestamp"] or 0)


def _sorted(trades: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return trades by time and number; ccxt sorts ids as text."""
    return sorted(trades, key=lambda t: (_time(t), len(str(t["id"])), str(t["id"])))


def _gap(symbol: str, cause: str, before: dict[str, Any], after: dict[str, Any]) -> Gap:
    """Return what is told of a hole behind one trade and before another."""
    data = {"cause": cause, "after": before["id"], "before": after["id"]}
    return Gap(instrument=symbol, data=data)
