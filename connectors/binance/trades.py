"""
Binance: every trade, and after a loss those that are missing, over REST.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams#trade-streams

A symbol's trades are numbered one by one, so what is missing between two of them is known. It is
asked for with `trades`, the newest thousand, which every host has; where that does not reach back,
with `historicalTrades`, which the hosts for market data alone do not have. Neither wants a key.
Meanwhile newer trades of the instrument wait. What nobody has any more is told as a gap, and so is
what is not given in time: trades are not held up for long. After the venue has begun to count anew,
so do we.

After a reconnect an instrument may be silent for long, so the last trade of each is asked for too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

from msgspec import Meta, Struct, json

from aggregator import api
from connectors.binance.listing import day_request
from connectors.binance.stream import BinanceOptions, Milliseconds, Stream

RECENT = "/api/v3/trades"
OLDER = "/api/v3/historicalTrades"
LAST = "last trades"
"""The key of the request for them."""
PAGE = 1000
WEIGHT = 25
PAUSES_S = (0.2, 0.5, 1.0)
"""Before `trades`, which was behind the stream, is asked again."""
PATIENCE_S = 10.0
"""So long an answer may take, if a third of `stale_after_s` is not less."""
RENUMBERED_US = 1_000_000
"""A number that falls, of a trade that is later by so much, is the first of a new count."""
ANEW = "the venue counts anew"
MAX_HELD = 10_000
"""Trades of an instrument that wait for older ones."""

Id = Annotated[int, Meta(ge=0, lt=10**18)]


class TradesOptions(BinanceOptions):
    """What the section of a `binance.trades` feed may contain."""

    max_backfill: Annotated[int, api.Field(ge=0, le=1_000_000)] = 10_000
    """Trades of an instrument fetched after a loss; of a longer one, the newest."""


class Trade(Struct, gc=False):
    """An event `trade`."""

    s: str
    t: Id
    p: str
    q: str
    T: Milliseconds
    m: bool


class Row(Struct, gc=False):
    """A row of `trades` and `historicalTrades`."""

    id: Id
    price: str
    qty: str
    time: Milliseconds
    isBuyerMaker: bool


class Last(Struct, gc=False):
    """A row of `ticker/24hr`; without a trade the number is -1."""

    symbol: str
    lastId: int


class Tape:
    """
    What is known of the trades of one instrument.

    Every trade up to `known` has been told, has been told to be lost, or does not exist; -1 is
    before the first. While those up to `until` are `asked` for, later ones are `held`. The last
    that was told was made at `us`.
    """

    __slots__ = ("asked", "held", "instrument", "known", "out_of_reach", "symbol", "until", "us")

    def __init__(self, symbol: str, instrument: str) -> None:
        self.symbol = symbol
        self.instrument = instrument
        self.known = -1
        self.us: int | None = None
        self.until = -1
        self.asked = 0
        self.out_of_reach = False
        self.held: list[tuple[int, api.TradeExecuted]] = []


decode_trade = json.Decoder(Trade).decode
decode_rows = json.Decoder(list[Row]).decode
decode_last = json.Decoder(list[Last]).decode


class Trades(Stream):
    """Every trade, in the order of its number."""

    options_type = TradesOptions
    options: TradesOptions
    event = "trade"

    def __init__(self, options: TradesOptions) -> None:
        super().__init__(options)
        self._patience_s = min(PATIENCE_S, options.stale_after_s / 3)
        self._tapes = {s: Tape(s, i) for s, i in self._by_symbol.items()}

    def resume(self, seen: Mapping[str, api.Seen]) -> None:
        """Go on after these."""
        for tape in self._tapes.values():
            if (last := seen.get(tape.instrument)) is not None:
                tape.known, tape.us = int(last.id), last.exchange_us

    def on_response(self, request: api.Request, body: bytes) -> Iterable[api.Output]:
        """Translate names, last trades, or missing trades."""
        if request.key == LAST:
            return self._missing(decode_last(body))
        tape = self._tapes.get(request.key)
        if tape is None or request.path not in {RECENT, OLDER}:
            return super().on_response(request, body)
        return self._filled(tape, request.path, decode_rows(body))

    def on_no_response(self, request: api.Request, reason: str) -> Iterable[api.Output]:
        """Tell what is lost, or look for it at the other place."""
        tape = self._tapes.get(request.key)
        if tape is None or not tape.asked:
            return super().on_no_response(request, reason)
        if request.path == OLDER:
            return [self._recent(tape, out_of_reach=True)]
        return self._lost(tape, "the request for them failed")

    def _stream(self, symbol: str) -> str:
        return f"{symbol.lower()}@trade"

    def _acknowledged(self) -> Iterable[api.Output]:
        symbols = [s for s, tape in self._tapes.items() if tape.known >= 0]
        return [api.Fetch(day_request(symbols, LAST))] if symbols else []

    def _event(self, frame: bytes) -> Iterable[api.Output]:
        trade = decode_trade(frame)
        api.require_numbers(trade.p, trade.q)
        tape = self._tapes.get(trade.s)
        if tape is None:
            return [api.Unhandled("trade of another instrument")]
        event = api.TradeExecuted(
            instrument=tape.instrument,
            id=str(trade.t),
            side="sell" if trade.m else "buy",
            price=trade.p,
            quantity=trade.q,
            exchange_us=trade.T * 1000,
        )
        if not tape.asked and (trade.t == tape.known + 1 or tape.known < 0):
            tape.known, tape.us = trade.t, event.exchange_us
            return [event]
        return self._out_of_turn(tape, trade.t, event)

    def _out_of_turn(
        self, tape: Tape, number: int, event: api.TradeExecuted
    ) -> Iterable[api.Output]:
        if not tape.asked and number <= tape.known:
            if not _is_later(tape, event.exchange_us):
                return [api.Ignored("trade that was told before")]
            gap = _gap(tape, number, ANEW)
            tape.known, tape.us = number, event.exchange_us
            return [gap, event]
        tape.held.append((number, event))
        if not tape.asked:
            return [*self._ask(tape, number - 1), api.Withheld(tape.instrument)]
        if len(tape.held) > MAX_HELD:
            return self._lost(tape, "too many came while they were asked for")
        return [api.Withheld(tape.instrument)]

    def _missing(self, rows: list[Last]) -> Iterator[api.Output]:
        for row in rows:
            tape = self._tapes.get(row.symbol)
            if tape is not None and not tape.asked and 0 <= tape.known < row.lastId:
                yield from self._ask(tape, row.lastId)

    def _ask(self, tape: Tape, until: int) -> Iterator[api.Output]:
        tape.until = until
        most = self.options.max_backfill
        if until - tape.known > most:
            yield _gap(tape, until - most + 1, f"max_backfill is {most}")
        if most:
            yield self._recent(tape)
        else:
            yield from self._release(tape)

    def _recent(self, tape: Tape, *, out_of_reach: bool = False, delay_s: float = 0.0) -> api.Fetch:
        tape.asked += 1
        tape.out_of_reach = out_of_reach
        params = {"symbol": tape.symbol, "limit": str(PAGE)}
        request = api.Request(RECENT, params, key=tape.symbol, weight=WEIGHT)
        return api.Fetch(request, delay_s, self._patience_s)

    def _older(self, tape: Tape) -> api.Fetch:
        params = {"symbol": tape.symbol, "fromId": str(tape.known + 1), "limit": str(PAGE)}
        request = api.Request(OLDER, params, key=tape.symbol, weight=WEIGHT)
        return api.Fetch(request, within_s=self._patience_s)

    def _filled(self, tape: Tape, path: str, rows: list[Row]) -> Iterator[api.Output]:
        if not tape.asked:
            yield api.Ignored("answer that came too late")
            return
        rows.sort(key=lambda row: row.id)
        until = _until(tape)
        if rows and rows[-1].id < tape.known and _is_later(tape, rows[-1].time * 1000):
            yield _gap(tape, None, ANEW)
            yield from self._release(tape)
            return
        # All of them before anything is noted: one that can't be read makes the answer unreadable.
        found = [_backfilled(tape, row) for row in rows if tape.known < row.id <= until]
        if rows and rows[0].id > tape.known + 1:
            if path == RECENT and not tape.out_of_reach:
                yield self._older(tape)
                return
            yield _gap(tape, min(rows[0].id, until + 1), "the venue does not give them any more")
        yield from found
        before, tape.known = tape.known, max([tape.known, *(int(event.id) for event in found)])
        tape.us = found[-1].exchange_us if found else tape.us
        if rows and rows[-1].id >= until:
            # What is not among them does not exist.
            tape.known = max(tape.known, until)
            yield from self._release(tape)
        elif path == OLDER:
            yield (
                self._older(tape) if tape.known > before else self._recent(tape, out_of_reach=True)
            )
        elif tape.asked <= len(PAUSES_S):
            pause_s = PAUSES_S[tape.asked - 1]
            yield self._recent(tape, out_of_reach=tape.out_of_reach, delay_s=pause_s)
        else:
            yield from self._lost(tape, "the venue does not give them")

    def _lost(self, tape: Tape, cause: str) -> Iterator[api.Output]:
        until = _until(tape)
        if until > tape.known:
            yield _gap(tape, until + 1, cause)
        yield from self._release(tape)

    def _release(self, tape: Tape) -> Iterator[api.Output]:
        """Tell the trades that waited, up to the next hole."""
        held, tape.held = tape.held, []
        tape.asked, tape.out_of_reach = 0, False
        for n, (number, event) in enumerate(held):
            if -1 < tape.known < number - 1:
                tape.held = held[n:]
                yield from self._ask(tape, number - 1)
                return
            if number <= tape.known:
                if not _is_later(tape, event.exchange_us):
                    continue
                yield _gap(tape, number, ANEW)
            tape.known, tape.us = number, event.exchange_us
            yield event


def _is_later(tape: Tape, us: int | None) -> bool:
    """Return whether a trade with a number of before is none of before."""
    return us is not None and tape.us is not None and us - tape.us > RENUMBERED_US


def _until(tape: Tape) -> int:
    """Return the last trade that is missing: that before the first of those that came meanwhile."""
    return tape.held[0][0] - 1 if tape.held else tape.until


def _gap(tape: Tape, before: int | None, cause: str) -> api.Gap:
    after, tape.known = tape.known, -1 if before is None else before - 1
    data = api.Break(cause, after, before).data()
    return api.Gap(instrument=tape.instrument, data=data)


def _backfilled(tape: Tape, row: Row) -> api.TradeExecuted:
    api.require_numbers(row.price, row.qty)
    return api.TradeExecuted(
        instrument=tape.instrument,
        id=str(row.id),
        side="sell" if row.isBuyerMaker else "buy",
        price=row.price,
        quantity=row.qty,
        exchange_us=row.time * 1000,
        backfilled=True,
    )
