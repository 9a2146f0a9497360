"""The facts behind an answer to why a channel is as it is: sources, order books, losses."""

from __future__ import annotations

from typing import Any

import orjson

from aggregator import wire
from aggregator.channel import Channel, Message, Slot
from aggregator.decimals import crossing
from aggregator.model import Level

from .budget import Budget
from .connection import Connection
from .driver import Driver
from .failure import place
from .poller import Poller
from .streamer import Streamer

Facts = dict[str, Any]
GAP = b'{"type":"gap",'
BOOK = "orderbook_update"


def read(message: Message) -> Facts:
    """Return a message's content."""
    content: Facts = orjson.loads(wire.payload_of(message.frame))
    return content


def age_s(message: Message, now_us: int) -> float:
    """Return how old a message is, in seconds."""
    return max(0.0, (now_us - message.us) / 1e6)


def newest_gap(channel: Channel, slot: Slot | None) -> Message | None:
    """
    Return the last loss of a channel, or of one instrument.

    Of an instrument's, those that its order book ended with, and those that the history still has.
    """
    last = channel.last_gap
    if slot is None or last is None or last.place in {None, slot}:
        return last
    about = (m for m in reversed(list(channel.history)) if m.place in {None, slot})
    found = next((m for m in about if wire.payload_of(m.frame).startswith(GAP)), None)
    return max((m for m in (found, slot.lost) if m), key=lambda m: m.seq, default=None)


def gap_facts(gap: Message, now_us: int) -> Facts:
    """Return what is known of a loss."""
    message = read(gap)
    return {
        "seq": gap.seq,
        "age_s": age_s(gap, now_us),
        "instrument": message["instrument"],
        "data": message["data"],
    }


def last_facts(last: Message, now_us: int) -> Facts:
    """Return what is known of a value."""
    message = read(last)
    given = message.get("exchange_us")
    return {
        "type": message.get("type"),
        "seq": last.seq,
        "age_s": age_s(last, now_us),
        "lag_s": None if given is None else (last.us - given) / 1e6,
        "conflated": message.get("conflated", 0),
    }


def book_facts(slot: Slot, gap: Message | None, now_us: int) -> Facts | None:
    """
    Return how an instrument's order book is as clients have it; `None` where it has none.

    `gap` is the newest loss. What was told before it is not known any more.
    """
    last = slot.last
    if last is None or (gap is not None and gap.seq > last.seq):
        had_one = slot.lost is not None or (last is not None and read(last)["type"] == BOOK)
        if gap is None or not had_one:
            return None
        return {"state": "lost", "age_s": age_s(gap, now_us), **read(gap)["data"]}
    message = read(last)
    if message.get("type") != BOOK:
        return None
    sides = slot.book.top() if slot.book is not None else _levels(message["data"])
    best = [side[0] if side else None for side in sides]
    bid, ask = best
    return {
        "state": "known",
        "sequence": message["data"]["sequence"],
        "bids": len(sides[0]),
        "asks": len(sides[1]),
        "best_bid": None if bid is None else [bid.price, bid.size],
        "best_ask": None if ask is None else [ask.price, ask.size],
        "flag": crossing(bid.price, ask.price) if bid is not None and ask is not None else None,
    }


def _levels(data: Facts) -> tuple[list[Level], list[Level]]:
    bids, asks = ([Level(*level[:2]) for level in data[side]] for side in ("bids", "asks"))
    return bids, asks


def source_facts(runner: Streamer | Poller | Driver, now: float) -> Facts:
    """Return what there is to say of where a feed's data come from, at this monotonic time."""
    if isinstance(runner, Streamer):
        line = runner.line
        budget = runner.fetcher.budget if runner.fetcher is not None else None
        facts = {"kind": "stream", "connected": False, "rotating": runner.rotating}
        if line is not None:
            facts |= {"url": place(line.url)} | _connection_facts(line.connection, now)
        return facts | {"budget": _budget_facts(budget)}
    if isinstance(runner, Poller):
        wait_s = max(0.0, runner.not_before - now)
        facts = {"kind": "poll", "interval_s": runner.interval_s, "backing_off_s": wait_s}
        return facts | {"budget": _budget_facts(runner.budget)}
    return {"kind": "driver"} | runner.facts(now)


def _connection_facts(connection: Connection | None, now: float) -> Facts:
    if connection is None:
        return {}
    ages = {
        "age_s": connection.opened,
        "last_frame_age_s": connection.last_frame,
        "last_data_age_s": connection.last_data,
        "last_acknowledgement_age_s": connection.receipts.last,
    }
    return {
        "connected": True,
        **{name: None if at is None else now - at for name, at in ages.items()},
        "unacknowledged": sorted(connection.receipts.due),
        "leaving": connection.leaving,
    }


def _budget_facts(budget: Budget | None) -> Facts | None:
    if budget is None:
        return None
    blocked_s = budget.blocked_s
    return {
        "host": budget.host,
        "per_minute": budget.limits.per_minute,
        "left": budget.left,
        "blocked_s": blocked_s,
        "block_reason": budget.block_reason if blocked_s else None,
    }
