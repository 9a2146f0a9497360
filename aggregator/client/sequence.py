"""
What has been had of a channel, by its numbers: nothing twice, and no hole unseen.

A client that reads slowly gets messages that stand for others. Which numbers those had is not
said, only how many they were, and the message that says so may come later than the hole. So holes
are counted, what stands for them is taken off, and what is left after some seconds is lost.
"""

from __future__ import annotations

from aggregator.messages import Gap, Position

from .buffer import Buffer
from .clock import now

REASON = "client"
GRACE_S = 2.0
"""So long after the last message that stands for others a hole is taken for a loss."""


class Sequence:
    """
    A channel, as far as its numbers go.

    `last` has the highest number that was had, by instrument (or what else messages are about).
    """

    __slots__ = (
        "_begun",
        "_gaps",
        "_since_s",
        "attached",
        "epoch",
        "hole",
        "last",
        "max_age_s",
        "missing",
        "name",
        "old_epoch",
        "routes",
        "seq",
        "strict",
    )

    def __init__(self, name: str, max_age_s: float | None) -> None:
        self.name = name
        self.max_age_s = max_age_s
        self.epoch: str | None = None
        self.old_epoch: str | None = None
        """The one before, for messages of it that nobody has taken yet."""
        self.seq = 0
        self.last: dict[str, int] = {}
        self.routes: dict[str, tuple[Buffer, ...]] = {}
        """By instrument, who gets it; a cache."""
        self.attached = False
        """Whether it was acknowledged on this connection."""
        self.strict = False
        """Whether all of its messages are sent to us, so that there are no holes by design."""
        self.missing = 0
        self.hole: tuple[int, int] | None = None
        self._gaps: list[tuple[int, int]] = []
        self._since_s = 0.0
        self._begun: int | None = None
        """Where the snapshot is from that may not have come yet."""

    @property
    def position(self) -> Position | None:
        """Up to where everything is accounted for."""
        return None if self.epoch is None else Position(self.epoch, self.seq)

    @property
    def whole(self) -> bool:
        """Whether all of the snapshot has come, as what was behind it has."""
        return self._begun is None or self.seq > self._begun

    def completed(self) -> None:
        """Note that something has come that was asked for after the acknowledgement."""
        if self.attached:
            self._begun = None

    def detach(self) -> Gap | None:
        """Note that the connection has gone; return what is lost for good."""
        lost = self._lost()
        if self.whole:
            self._begun = None
        self.attached = self.strict = False
        if self.epoch is None:
            # Without it numbers mean nothing on another connection.
            self.last.clear()
        self._gaps.clear()
        return lost

    def attach(self, position: Position, *, recovered: bool | None) -> Gap | None:
        """
        Take an acknowledgement; return what is lost, if the daemon does not say so itself.

        Args:
            position: where the channel is.
            recovered: whether what was missed follows; `None`: the daemon does not say.

        """
        if self.attached:
            return None
        self.attached = True
        before = self.position
        if before is not None and recovered:
            return None
        if before is not None and before.epoch != position.epoch:
            self.old_epoch = before.epoch
            self.last.clear()
        self.epoch, self.seq = position.epoch, position.seq
        self._begun = position.seq or None
        if before is None or recovered is not None:
            return None
        cause = "cut off before there was anything to go on from"
        first = before.seq + 1 if before.epoch == position.epoch else 1
        if first <= position.seq:
            return self._gap(first, position.seq, cause)
        # Of the run before nobody can say any more what was lost of it.
        return None if before.epoch == position.epoch else self._gap(None, None, cause)

    def be_strict(self, position: Position) -> None:
        """From this position on all messages of the channel come."""
        if not self.strict:
            self.strict = True
            # What lies before may have been left out by design.
            if self.epoch == position.epoch:
                self.seq = max(self.seq, position.seq)

    def skipped(self, seq: int, time_s: float) -> bool:
        """
        Note the hole before this number; return whether it is the first that is unaccounted for.

        What a `gap` has told of is none.
        """
        first, last = self.seq + 1, seq - 1
        told = sum(max(0, min(b, last) - max(a, first) + 1) for a, b in self._gaps)
        self._gaps = [gap for gap in self._gaps if gap[1] > last]
        count = last - first + 1 - told
        if count <= 0:
            return False
        is_first = not self.missing
        self.missing += count
        self.hole = (self.hole[0] if self.hole else first, last)
        self._since_s = time_s
        return is_first

    def stands_for(self, count: int, time_s: float) -> None:
        """Take off what a message stands for."""
        if self.missing:
            self.missing = max(0, self.missing - count)
            self._since_s = time_s
            if not self.missing:
                self.hole = None

    def told(self, gap: Gap) -> None:
        """Note what the daemon says is lost: a hole there is none of ours."""
        if gap.from_seq is not None and gap.to_seq is not None:
            self._gaps.append((gap.from_seq, gap.to_seq))

    def settled(self, time_s: float) -> tuple[bool, Gap | None]:
        """Return whether there is nothing more to wait for, and what was lost."""
        if not self.missing:
            return True, None
        if time_s - self._since_s < GRACE_S:
            return False, None
        return True, self._lost()

    def _lost(self) -> Gap | None:
        if not self.missing or self.hole is None:
            return None
        count, (first, last) = self.missing, self.hole
        self.missing, self.hole = 0, None
        return self._gap(first, last, f"{count} of these never came, and nothing stands for them")

    def _gap(self, first: int | None, last: int | None, cause: str) -> Gap:
        return Gap(
            channel=self.name,
            reason=REASON,
            timestamp=now(),
            from_seq=first,
            to_seq=last,
            data={"cause": cause},
        )
