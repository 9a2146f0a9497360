"""
The venues' rules of continuity: whether an update of an order book follows what was taken before,
and when one that was lost is asked for again.

Sources: OKX v5, "Order book channel" (`prevSeqId`, `seqId`); Binance spot, "How to manage a local
order book correctly" (`U`, `u`).
"""

from __future__ import annotations

from typing import NamedTuple


class Break(NamedTuple):
    """
    A hole in the venue's numbers.

    `after` is the last number that was taken, `before` the first that came behind the hole.
    """

    cause: str
    after: int | None
    before: int | None

    def data(self) -> dict[str, int | str | None]:
        """Return what a `Gap` says of it."""
        return self._asdict()


def chained(last: int | None, previous: int, sequence: int) -> Break | None:
    """
    Return the break before an update that says which one it follows, as OKX' do (`prevSeqId`).

    Equality alone counts. A number may repeat (nothing has changed) and fall (the venue counts anew
    after its maintenance): 10, 10>15, 15>15, 15>3, 3>5 is a chain.

    Args:
        last: the number of the last update.
        previous: the number that this one says it follows.
        sequence: its own number.

    """
    if previous == last:
        return None
    return Break(f"the update follows {previous}, not {last}", last, sequence)


def spanned(last: int, first: int, final: int) -> Break | bool:
    """
    Return the break before an update that spans numbers, as Binance's do (`U` to `u`), else whether
    it is news.

    Args:
        last: the last number that was taken: `lastUpdateId` of the snapshot, then each `u`.
        first: its first number.
        final: its last number.

    """
    if first > last + 1:
        return Break(f"the update begins with {first}, not {last + 1}", last, first)
    return final > last


class Retries:
    """
    When what was lost is asked for again: at once, then after pauses that double while it is lost
    again soon. What held for twice the last pause begins anew.

    All together they keep to a share of what the venue allows. Times are seconds of any clock.

    Args:
        at_once: how many requests may go at the same time.
        per_s: how many a second may follow.
        first_s, longest_s: the pauses.

    """

    __slots__ = ("_first_s", "_free", "_longest_s", "_pauses", "_per_s", "_spare_s")

    def __init__(self, at_once: int, per_s: float, *, first_s: float, longest_s: float) -> None:
        self._per_s = per_s
        self._spare_s = (at_once - 1) / per_s
        self._first_s = first_s
        self._longest_s = longest_s
        # When the next would be in turn if all were spread evenly.
        self._free = 0.0
        # By name: the last pause, and when it is over.
        self._pauses: dict[str, tuple[float, float]] = {}

    def turn(self, now: float) -> float:
        """Take a turn for what was not lost; return in how many seconds it is."""
        free = max(self._free, now)
        self._free = free + 1 / self._per_s
        return max(0.0, free - self._spare_s - now)

    def again(self, name: str, now: float) -> float:
        """Take a turn for what was lost; return in how many seconds it is."""
        pause_s, over = self._pauses.get(name, (0.0, now))
        if now >= over + pause_s:
            pause_s = 0.0
        wait_s = max(over - now, self.turn(now))
        pause_s = min(max(2 * pause_s, self._first_s), self._longest_s)
        self._pauses[name] = pause_s, now + wait_s + pause_s
        return wait_s
