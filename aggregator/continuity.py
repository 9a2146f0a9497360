"""
The venues' rules of continuity: whether an update of an order book follows what was taken before.

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
