"""What a client must have: each number of a channel once, or declared lost, and right books."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

Sides = tuple[list[list[str]], list[list[str]]]


class Wrong(AssertionError):  # noqa: N818 - it is what is wrong
    """Something is not as docs/protocol.md says."""


@dataclass(slots=True)
class Account:
    """
    One channel of one client.

    All up to `last` is accounted for. `behind` are later numbers that came, with how many older
    messages each stands for; `gaps` are later ones that were declared lost. It is `whole` once the
    snapshot has surely come: a message behind it has, and nothing is open.
    """

    epoch: str = ""
    last: int = 0
    whole: bool = False
    present: tuple[str, int] = ("", 0)
    snapshot: bool = True
    behind: dict[int, int] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)

    def begin(self, epoch: str, position: int, *, recovered: bool | None) -> None:
        """Take an acknowledgement; what came behind a hole comes again, with what is in that."""
        self.behind.clear()
        self.gaps.clear()
        self.present = epoch, position
        self.snapshot = not recovered
        self.whole = bool(recovered)
        if recovered is None:
            self.epoch, self.last = epoch, position
        elif recovered and epoch != self.epoch:
            raise Wrong(f"recovered of {self.epoch}, but this is {epoch}")

    def forgotten(self, first: int | None, upto: int | None) -> None:
        """Take a gap of the reason `history`: it ends where the acknowledgement says."""
        epoch, position = self.present
        begin = self.last + 1 if epoch == self.epoch else 1
        expected = (begin, position) if position else (None, None)
        if (first, upto) != expected:
            raise Wrong(f"a gap of {first} to {upto}, where {expected} are missing")
        self.epoch, self.last = epoch, position

    def lost(self, first: int, upto: int) -> None:
        """Take a gap of another reason."""
        if not self.last < first <= upto:
            raise Wrong(f"a gap of {first} to {upto} behind {self.last}")
        self.gaps.append((first, upto))
        self._settle()

    def came(self, seq: int, folded: int) -> None:
        """Take a message."""
        if self.epoch != self.present[0]:
            raise Wrong(f"of another run than {self.epoch}, and no word of what was lost")
        if seq <= max(self.behind, default=self.last):
            raise Wrong(f"{seq} twice, or out of order: {self.last}, {self.behind}")
        self.behind[seq] = folded
        self._settle()

    def _settle(self) -> None:
        newest = max([*self.behind, *(upto for _, upto in self.gaps)])
        declared = {n for first, upto in self.gaps for n in range(first, upto + 1)}
        missing = newest - self.last - len(declared | self.behind.keys())
        folded = sum(self.behind.values())
        # What a gap and a newer value both stand for is counted by both.
        if missing == folded or (self.gaps and missing < folded):
            self.last = newest
            self.whole = True
            self.behind.clear()
            self.gaps.clear()


class Book:
    """One order book, kept as docs/protocol.md says."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._sides: tuple[dict[Decimal, list[str]], ...] = ({}, {})

    def change(self, data: dict[str, Any]) -> None:
        """Set the size at each price, or remove it."""
        for side, name in zip(self._sides, ("bids", "asks"), strict=True):
            for price, size in data[name]:
                side[Decimal(price)] = [price, size]
                if not Decimal(size):
                    del side[Decimal(price)]
        self.number = data["sequence"]

    def sides(self) -> Sides:
        """Return all levels, the best first."""
        bids, asks = self._sides
        return [bids[p] for p in sorted(bids, reverse=True)], [asks[p] for p in sorted(asks)]


class Ledger:
    """All channels of one client, over all of its connections and all runs of the daemon."""

    def __init__(self, *, whole: bool) -> None:
        self.whole = whole
        """Whether it has whole channels; else there are holes by design."""
        self.accounts: dict[str, Account] = {}
        self.books: dict[tuple[str, str], Book] = {}
        self.reasons: dict[str, int] = defaultdict(int)
        self.messages = self.folded = self.recovered = 0

    def since(self, names: list[str]) -> dict[str, dict[str, object]]:
        """Return how far it has come, for `subscribe`, where there is something to go on from."""
        known = {name: self.accounts[name] for name in names if name in self.accounts}
        return {name: {"epoch": a.epoch, "seq": a.last} for name, a in known.items() if a.whole}

    def take(self, message: dict[str, Any]) -> None:
        """
        Check a message against all before it.

        Raises:
            Wrong: it is not as it should be.

        """
        self.messages += 1
        try:
            self._take(message)
        except Wrong as e:
            raise Wrong(f"{e}; {message}") from None

    def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "subscribed":
                recovered = message.get("recovered", {})
                self.recovered += sum(recovered.values())
                for name, at in message["positions"].items():
                    account = self.accounts.setdefault(name, Account())
                    account.begin(at["epoch"], at["seq"], recovered=recovered.get(name))
            case "gap" if message["reason"] != "upstream":
                self._gap(message)
            case "price_update" | "orderbook_update" | "trade_executed" | "gap":
                self._content(message)
            case "system_status" | "heartbeat":
                self._count(message)
            case other:
                raise Wrong(f"a message of type {other}")

    def _gap(self, message: dict[str, Any]) -> None:
        account, seqs = self.accounts[message["channel"]], (message["from_seq"], message["to_seq"])
        self.reasons[message["reason"]] += 1
        if message["reason"] == "history":
            account.forgotten(*seqs)
        else:
            account.lost(*seqs)

    def _content(self, message: dict[str, Any]) -> None:
        name, instrument = message["channel"], message["instrument"]
        self._count(message)
        if message["type"] == "gap":
            self.reasons["upstream"] += 1
            for key in list(self.books):
                if key[0] == name and instrument in {None, key[1]}:
                    del self.books[key]
        elif message["type"] == "orderbook_update":
            if message["action"] == "snapshot":
                self.books[name, instrument] = Book()
            elif (name, instrument) not in self.books:
                raise Wrong("a change of no book")
            self.books[name, instrument].change(message["data"])

    def _count(self, message: dict[str, Any]) -> None:
        account, seq = self.accounts[message["channel"]], message["seq"]
        folded = message.get("conflated", 0)
        self.folded += folded
        if account.snapshot and seq <= account.present[1]:
            return
        if "age_us" in message:
            raise Wrong("of a snapshot, but newer than that")
        if self.whole:
            account.came(seq, folded)
        elif seq <= account.last:
            raise Wrong(f"{seq} after {account.last}")
        else:
            account.last, account.whole = seq, True
