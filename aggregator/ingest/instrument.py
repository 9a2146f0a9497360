"""What is known of one instrument, where silences are judged."""

from __future__ import annotations

from aggregator.channel import Message
from aggregator.model import State

from .rhythm import Rhythm

Row = dict[str, object]


class Instrument(Rhythm):
    """What is known of one instrument; times are those of its feed's `Instruments`."""

    __slots__ = ("at", "due", "last", "reason", "state")

    def __init__(self, floor_s: float, look_s: float, at: float) -> None:
        super().__init__(floor_s, look_s)
        # What the stream or the polls brought last; nothing yet: `None`.
        self.last: Message | None = None
        # When the last look was that found something new, and when to judge a silence.
        self.at = at
        self.due = at
        self.state = State.LIVE
        self.reason = ""


def row(name: str, state: State, reason: str, age_s: float | None) -> Row:
    """Return what operators are told of an instrument that is not live."""
    return {"instrument": name, "state": state, "age_s": age_s, "reason": reason}
