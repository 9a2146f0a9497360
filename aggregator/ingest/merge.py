"""
One sequence of events out of a feed's connections: none missing, none twice, none out of order.

One connection leads: what it brings is published. What a second one brings is held back until it
leads instead; then goes out what is newer than what was published. Each may be ahead of the other
or behind it, and stay so: of one that is behind, what was published already is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import msgspec

from aggregator import wire
from aggregator.channel import Channel
from aggregator.connector import Seen
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Event, Gap, PriceUpdate, TradeExecuted

from .failure import printable
from .fetched import is_backfilled
from .inlet import Held, Inlet
from .position import BOOK, PRICE, Position, Relation, position, published, relation

MAX_HELD = 10_000
"""Events that are held back."""
RECENT_US = 60_000_000
"""A second connection is to bring every instrument that had data within this time."""
WAIT_S = 20.0
"""How long it is given for that."""
OVERLAP_S = 1.0
"""How long both are open at least: what the first is behind, of whatever trades rarely, comes."""
SKEW_S = 5.0
"""What the first has not brought so long after the second, it has lost."""
MAX_NAMED = 3


class Merge:
    """
    Publishes what the connections of one feed bring.

    Args:
        hub: publishes it.
        channel: where.

    """

    def __init__(self, hub: Hub, channel: Channel) -> None:
        self._channel = channel
        self._publish: Callable[[Event, int], None] = functools.partial(hub.publish, channel)
        self._leader: Inlet | None = None
        # Where the leader has to get beyond, by instrument, before it brings news again.
        self._behind: dict[str, Position] = {}

    def seen(self) -> dict[str, Seen]:
        """Return the newest trade that was published, by instrument."""
        return {n: Seen(last.id, last.us) for n, last in self._published().items() if last.id}

    def inlet(self) -> Inlet:
        """Return where a new connection puts its events; they are held back until it leads."""
        inlet = Inlet(_nowhere)
        inlet.take = functools.partial(self._hold, inlet)
        return inlet

    def lead(self, inlet: Inlet) -> int:
        """
        Publish what comes by this inlet: first what was held back, as far as it is news.

        Returns:
            How many trades among that were missed, and fetched afterwards.

        """
        if self._leader is not None:
            self._leader.take, self._leader.leads = _nowhere, False
        last = self._published()
        begin, matched = self._begin(inlet, last)
        news = list(self._news(inlet, last, begin))
        self._behind = {n: p for n, p in last.items() if _can_lag(n, p, inlet.first, matched)}
        self._leader = inlet
        inlet.take, inlet.leads = functools.partial(self._catch_up, inlet), True
        inlet.held, inlet.first, inlet.waiting = [], {}, {}
        inlet.covered, inlet.cut = set(), set()
        for event, received_us, _ in news:
            self._behind.pop(_instrument(event), None)
            self._publish(event, received_us)
        return sum(is_backfilled(event) for event, *_ in news)

    def _published(self) -> dict[str, Position]:
        """Return the position of what was published last, by instrument."""
        slots = self._channel.slots.items()
        last = {name: published(slot.last) for name, slot in slots if slot.last is not None}
        return {name: position for name, position in last.items() if position is not None}

    def _catch_up(self, inlet: Inlet, event: Event, received_us: int) -> None:
        """Publish an event of the leader, unless that was done already."""
        name = _instrument(event)
        last = self._behind.get(name)
        if last is None or isinstance(event, Gap):
            self._publish(event, received_us)
        elif (how := relation(position(event), last)) in {Relation.NEWER, Relation.UNTOLD}:
            del self._behind[name]
            # The changes of a book are not those of the one that was published.
            self._publish(_whole(event), received_us)
        else:
            inlet.unpublished += 1
            if how is Relation.SAME and not isinstance(event, BookUpdate):
                del self._behind[name]
        if not self._behind:
            inlet.take = self._publish

    # From another connection.

    def _hold(self, inlet: Inlet, event: Event, received_us: int) -> None:
        if isinstance(event, PriceUpdate) and not wire.is_number(event.price):
            return
        name, where = _instrument(event), position(event)
        # That something is lost is no data.
        inlet.unpublished += not isinstance(event, Gap)
        inlet.held.append(Held(event, received_us, where))
        if where is not None:
            inlet.first.setdefault(name, where)
        elif name in inlet.first and inlet.first[name].kind == BOOK:
            # It has lost its book, and has to bring another.
            del inlet.first[name]
            inlet.covered.discard(name)
        if len(inlet.held) > MAX_HELD:
            self._thin(inlet)

    @staticmethod
    def _begin(inlet: Inlet, last: Mapping[str, Position]) -> tuple[dict[str, int], set[str]]:
        """Return where news begin in what is held back, and of what the published was there."""
        begin: dict[str, int] = {}
        matched: set[str] = set()
        for n, (event, _, where) in enumerate(inlet.held):
            name = _instrument(event)
            how = relation(where, last.get(name))
            if how is Relation.SAME:
                matched.add(name)
            if how in {Relation.SAME, Relation.OLDER} or (
                how is Relation.ALIKE and name not in matched
            ):
                begin[name] = n + 1
            elif how is Relation.UNTOLD and name not in matched:
                # Without a time the newest is all that is surely news.
                begin[name] = n
        return begin, matched

    @staticmethod
    def _news(
        inlet: Inlet, last: Mapping[str, Position], begin: Mapping[str, int]
    ) -> Iterator[Held]:
        """Yield what of the events held back is newer than what was published, in order."""
        final = {_instrument(held.event): n for n, held in enumerate(inlet.held)}
        books = {e.instrument for e, *_ in inlet.held if isinstance(e, BookUpdate) and e.book}
        cut = inlet.cut - begin.keys()
        for n, held in enumerate(inlet.held):
            name = _instrument(held.event)
            if n < begin.get(name, 0):
                continue
            if name in cut and held.position is not None:
                cut.discard(name)
                yield Held(_loss(name, last.get(name), held.position), held.us, None)
            # Of a book its present state is told, or that it is lost; not how it came to that.
            if name not in books or n == final[name] or _is_complete(held.event):
                yield held._replace(event=_whole(held.event))

    def _thin(self, inlet: Inlet) -> None:
        """Make room: drop what was published meanwhile, then what newer events stand for."""
        cut, inlet.cut = inlet.cut, set()
        last = self._published()
        begin, _ = self._begin(inlet, last)
        inlet.held = held = list(self._news(inlet, last, begin))
        inlet.cut = cut
        excess = len(held) - MAX_HELD // 2
        if excess <= 0:
            return
        final = {_instrument(each.event): n for n, each in enumerate(held)}
        inlet.held = []
        for n, each in enumerate(held):
            name = _instrument(each.event)
            in_order = isinstance(each.event, TradeExecuted | Gap)
            if in_order and excess > 0:
                excess -= 1
                cut.add(name)
            elif in_order or n == final[name]:
                inlet.held.append(each)

    # Whether another connection can lead.

    def verdict(self, inlet: Inlet, now: float, unknown: Collection[str] = ()) -> str | None:
        """
        Say whether a connection could lead with nothing lost.

        Args:
            inlet: where its events go.
            now: on the monotonic clock.
            unknown: instruments that it will not bring.

        Returns:
            An empty text: it can; `None`: that has to be waited for; else why it can't.

        """
        if inlet.opened is None or now < inlet.opened + OVERLAP_S:
            return None
        slots = self._channel.slots.items()
        last_us = {name: slot.last.us for name, slot in slots if slot.last is not None}
        recent_us = inlet.opened_us - RECENT_US
        wanted = {name for name, us in last_us.items() if us >= recent_us and name not in unknown}
        missing = {name for name in wanted - inlet.covered if not self._covers(inlet, name, now)}
        inlet.covered |= wanted - missing
        if inlet.first and not missing:
            return ""
        if now < inlet.opened + WAIT_S:
            return None
        # Of what trades rarely there may have been nothing to bring, here as there.
        since_us = inlet.opened_us + round(WAIT_S / 2 * 1e6)
        silent = sorted(n for n in missing - inlet.first.keys() if last_us[n] >= since_us)
        return f"no data of {_listed(silent)} for {WAIT_S:g} s" if silent else ""

    def _covers(self, inlet: Inlet, name: str, now: float) -> bool:
        """Whether nothing is missing between what was published and what is held back."""
        first, last = inlet.first.get(name), self._channel.slots[name].last
        if first is None or last is None or first.kind == BOOK:
            return first is not None
        how = relation(first, published(last))
        if how in {Relation.NEWER, Relation.ALIKE}:
            return now - inlet.waiting.setdefault(name, now) >= SKEW_S
        return True


def _nowhere(event: Event, received_us: int) -> None:
    """Take what nobody wants any more."""


def _instrument(event: Event) -> str:
    """Return the instrument; empty for a gap of the whole channel."""
    return getattr(event, "instrument", None) or ""


def _whole(event: Event) -> Event:
    """Return the state of a book after an update, and any other event as it is."""
    if not isinstance(event, BookUpdate) or event.whole or event.book is None:
        return event
    bids, asks = event.book.top()
    return msgspec.structs.replace(event, bids=bids, asks=asks, whole=True)


def _can_lag(name: str, last: Position, first: Collection[str], matched: Collection[str]) -> bool:
    """Whether what a new leader brings may be older than, or the same as, what was published."""
    if last.kind == BOOK:
        # One that it has yet to bring is the only one there is then, whatever its sequence.
        return name in first
    # A price that comes again without a time is not the same again.
    return name not in matched and (last.kind != PRICE or last.number is not None)


def _is_complete(event: Event) -> bool:
    """Whether it is a book by itself, without others before it."""
    return isinstance(event, BookUpdate) and event.book is None


def _loss(instrument: str, last: Position | None, first: Position) -> Gap:
    """Return what is said of trades in between that were too many to be held back."""
    data: dict[str, int | str | None] = {"cause": "more came than could be held back"}
    for side, of in (("after", last), ("before", first)):
        data[side] = None if of is None else of.id if of.number is None else of.number
    return Gap(instrument=instrument, data=data)


def _listed(names: Iterable[str]) -> str:
    shown = [printable(name, 40) for name in names]
    more = f" and {len(shown) - MAX_NAMED:,} more" * (len(shown) > MAX_NAMED)
    return ", ".join(shown[:MAX_NAMED]) + more
