"""
Order books: levels in the order of their prices, and what clients have to change to hold exactly
the best of them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from decimal import Decimal
from math import inf
from typing import Any

from .decimals import SAFE_DIGITS, Flag, confusable, crossing, exactly
from .model import Level

Sides = tuple[list[Level], list[Level]]
"""Bids and asks."""
Key = Any
"""What prices are compared by: floats, or `Decimal` where floats could confuse two prices."""
Were = tuple[list[Level | None], list[Level | None]]
"""What was at the prices of changes, of bids and asks."""
Update = tuple[list[Level], list[Level], Were, int | None]
"""An update that was made, and the number of the state before it."""


class _Side:
    """
    The bids or the asks of a book.

    Args:
        sign: of the keys: -1.0 for bids, so that on both sides the best level has the least key.
        depth: how many levels clients hold; `None`: all.
        levels: what it begins with, in any order.

    """

    __slots__ = ("depth", "exact", "held", "levels", "order", "sign")

    def __init__(self, sign: float, depth: int | None, levels: list[Level]) -> None:
        self.sign = sign
        self.depth: int | None = None
        self.exact = False
        self.levels: dict[Key, Level] = {}
        self.order: list[Key] = []
        self.held: set[Key] = set()
        self.apply(levels, [])
        if depth is not None:
            self.depth = depth
            self.held.update(self.order[:depth])

    def best(self, depth: int | None) -> dict[Key, Level]:
        """Return the best levels by what they are compared by, the best first."""
        levels = self.levels
        return {key: levels[key] for key in self.order[:depth]}

    def apply(self, changes: list[Level], were: list[Level | None]) -> list[Level]:
        """
        Make the venue's changes; return those that clients have to make.

        What was at the price of each goes to `were`. After an error, and whenever nobody has been
        told yet, `undo` takes back what was made.
        """
        sign, exact, order, levels = self.sign, self.exact, self.order, self.levels
        # What clients hold has keys up to this; they are not to be told more than that has changed.
        bound = None if self.depth is None else self._bound(self.depth)
        near: dict[Key, Level] = {}
        for level in changes:
            price = level.price
            key: Key = sign * float(price)
            if exact or (len(price) > SAFE_DIGITS and confusable(price)):
                if not exact:
                    exact = True
                    order, levels = self._be_exact()
                    bound = None if bound is None else exactly(bound)
                    near = {exactly(key): level for key, level in near.items()}
                key = self._exact_key(price)
            size = float(level.size)
            if 0.0 < size < inf:
                old = levels.get(key)
                if old is None:
                    if not -inf < key < inf:
                        raise ValueError("a price is no number")
                    insort(order, key)
                levels[key] = level
            elif size == 0.0:
                old = levels.pop(key, None)
                if old is not None:
                    del order[bisect_left(order, key)]
            else:
                raise ValueError("a size is negative, or no number")
            were.append(old)
            if bound is not None and key <= bound:
                near[key] = level
        return changes if self.depth is None else self._told(near, bound, self.depth)

    def undo(self, changes: list[Level], were: list[Level | None]) -> None:
        """Take back the last changes, as many of them as were made."""
        order, levels = self.order, self.levels
        for change, old in reversed(list(zip(changes, were, strict=False))):
            key = self._exact_key(change.price) if self.exact else self.sign * float(change.price)
            if levels.pop(key, None) is not None:
                del order[bisect_left(order, key)]
            if old is not None:
                levels[key] = old
                insort(order, key)
        if self.depth is not None:
            self.held = set(order[: self.depth])

    def _exact_key(self, price: str) -> Decimal:
        key = Decimal(price)
        # Without the rounding that a minus sign would bring.
        return key if self.sign > 0 else key.copy_negate()

    def _be_exact(self) -> tuple[list[Key], dict[Key, Level]]:
        self.exact = True
        self.levels = {exactly(key): level for key, level in self.levels.items()}
        self.order = [exactly(key) for key in self.order]
        self.held = {exactly(key) for key in self.held}
        return self.order, self.levels

    def _bound(self, depth: int) -> Key:
        return self.order[depth - 1] if len(self.order) >= depth else inf

    def _told(self, near: dict[Key, Level], before: Key, depth: int) -> list[Level]:
        """Return the changes of what clients hold: also what entered or left in consequence."""
        order, levels, held = self.order, self.levels, self.held
        after = self._bound(depth)
        told = []
        for key, change in near.items():
            level = levels.get(key)
            if level is not None and key <= after:
                held.add(key)
                told.append(level)
            elif key in held:
                held.remove(key)
                told.append(Level(change.price, "0"))
        if before < after:
            entered = order[bisect_right(order, before) : depth]
            held.update(entered)
            told += [levels[key] for key in entered]
        elif after < before:
            for key in order[depth : bisect_right(order, before)]:
                if key in held:
                    held.remove(key)
                    told.append(Level(levels[key].price, "0"))
        return told


class Book:
    """
    The book of one instrument, and which of its changes clients are told; a `model.Top`.

    A book does not outlive a break: with the venue's next snapshot a new one begins.

    Args:
        bids, asks: the venue's snapshot, in any order.
        depth: so many of the best levels of each side clients hold; `None`: all that there are, and
            the venue's changes are theirs as they come.
        sequence: the venue's number of this state.
        name: what errors call it: the instrument.
        undoable: whether `undo` can take back an update.

    Raises:
        ValueError: a price or a size is no number, or a size is negative.

    """

    __slots__ = ("_asks", "_bids", "_last", "_name", "_undoable", "depth", "sequence")

    def __init__(
        self,
        bids: list[Level],
        asks: list[Level],
        *,
        depth: int | None = None,
        sequence: int | None = None,
        name: str = "",
        undoable: bool = False,
    ) -> None:
        try:
            self._bids = _Side(-1.0, depth, bids)
            self._asks = _Side(1.0, depth, asks)
        except (ValueError, ArithmeticError) as e:
            raise ValueError(f"{name}: {e}" if name else str(e)) from e
        self.depth = depth
        self.sequence = sequence
        self._name = name
        self._undoable = undoable
        self._last: Update = [], [], ([], []), sequence

    def apply(self, bids: list[Level], asks: list[Level], sequence: int | None = None) -> Sides:
        """
        Make the venue's changes: the new size at each price, zero in any spelling removes it.

        Args:
            bids, asks: the changes, in any order.
            sequence: the venue's number of the state after them.

        Returns:
            The changes for clients. Who makes them on the best `depth` levels has the best `depth`
            levels: a level that enters or leaves because of another one is among them.

        Raises:
            ValueError: a price or a size is no number, or a size is negative. The book is as it was
                before; since `sequence` stays, the next update is a break.

        """
        were: Were = [], []
        try:
            told = (
                self._bids.apply(bids, were[0]) if bids else bids,
                self._asks.apply(asks, were[1]) if asks else asks,
            )
        except (ValueError, ArithmeticError) as e:
            self._take_back(bids, asks, were)
            raise ValueError(f"{self._name}: {e}" if self._name else str(e)) from e
        if self._undoable:
            self._last = bids, asks, were, self.sequence
        self.sequence = sequence
        return told

    def undo(self) -> None:
        """Take back the last update, of which nobody was told, as if it had not come."""
        bids, asks, were, self.sequence = self._last
        self._take_back(bids, asks, were)

    def _take_back(self, bids: list[Level], asks: list[Level], were: Were) -> None:
        self._bids.undo(bids, were[0])
        self._asks.undo(asks, were[1])

    def top(self) -> Sides:
        """Return bids and asks as they are now, the best first, as many as clients hold."""
        return self.best(self.depth)

    def best(self, depth: int | None) -> Sides:
        """Return the best levels of each side, the best first."""
        bids, asks = self.sides(depth)
        return list(bids.values()), list(asks.values())

    def sides(self, depth: int | None) -> tuple[dict[Key, Level], dict[Key, Level]]:
        """Return the best levels of each side by keys that tell equal prices."""
        return self._bids.best(depth), self._asks.best(depth)

    def reach(self, depth: int) -> tuple[float, float]:
        """Return the prices of the `depth`th bid and ask; 0 and infinity where there are fewer."""
        bids, asks = self._bids.order, self._asks.order
        return (
            -float(bids[depth - 1]) if len(bids) >= depth else 0.0,
            float(asks[depth - 1]) if len(asks) >= depth else inf,
        )

    @property
    def flag(self) -> Flag | None:
        """Whether the best prices are equal, or the bid is above the ask, as in an auction."""
        bids, asks = self._bids, self._asks
        if not (bids.order and asks.order):
            return None
        bid, ask = bids.order[0], asks.order[0]
        if bids.exact or asks.exact:
            return crossing(bids.levels[bid].price, asks.levels[ask].price)
        # The key of a bid is its negative price; a sum of floats has the right sign, if no more.
        spread: float = bid + ask
        return None if spread > 0 else "crossed" if spread < 0 else "locked"


class Conflated:
    """
    What clients hold of a book whose changes they are told together, from time to time.

    Args:
        book: with a `depth` of `None`; it goes on, while this stays as it is between two calls.
        depth: how many of the best levels of each side clients hold; `None`: all.

    """

    __slots__ = ("_book", "_depth", "_held")

    def __init__(self, book: Book, depth: int | None) -> None:
        self._book = book
        self._depth = depth
        self._held = book.sides(depth)

    def top(self) -> Sides:
        """Return bids and asks as clients hold them, the best first."""
        bids, asks = self._held
        return list(bids.values()), list(asks.values())

    def catch_up(self) -> Sides:
        """Return the changes that clients have to make to hold the book as it is now."""
        held, self._held = self._held, self._book.sides(self._depth)
        bids, asks = (
            # Removals first: the same price may come again in another spelling.
            [Level(old[key].price, "0") for key in old.keys() - new.keys()]
            + [level for key, level in new.items() if old.get(key) != level]
            for old, new in zip(held, self._held, strict=True)
        )
        return bids, asks
