"""What can be chosen about a client."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

Policy = Literal["block", "drop_oldest", "conflate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    How a client behaves. Durations are in seconds.

    Args:
        policy: what happens when you take messages more slowly than they come. `block`: nothing
            more is read, and the daemon sends the newest values as soon as you are back.
            `drop_oldest`: the oldest go, and a `Gap` says which. `conflate`: the newest of each
            channel and instrument stays, with `conflated` counted up; what can't be replaced is
            dropped as before.
        buffer: how many messages may wait for you, of each subscription that you iterate over.
        max_age_s: a message whose `timestamp` is older is not handed out but `Invalid`; one
            number for all channels, or one for each.
        max_ahead_s: nor one whose `timestamp` is so far ahead of this machine's clock.
        connect_timeout_s: for one attempt to connect.
        start_timeout_s: how long to go on trying at the start; 0 is one attempt. The last one is
            let come to its end.
        first_wait_s: before connecting again it waits at random, up to so long at first, ...
        max_wait_s: ... twice as long each time, and so long at most.
        breaker_failures: after so many failures in a row ...
        breaker_s: ... it does not try at all for so long.
        ping_after_s: when nothing has come for so long, it asks whether the daemon is there.
        pong_timeout_s: how long the answer may take, before it connects anew.
        close_timeout_s: how long a farewell may take.
        compress: ask for compression: fewer bytes, more work.
        headers: for the handshake.
        token: says who you are; for your own channels, and where nobody may come without one. Or
            a function that gives one, called on each connection.
        otp: a one-time code, or a function that gives one, where the user requires it.
        text: hand out `Text`, the message and its text as it came; also of what is not known or
            not valid.

    """

    policy: Policy = "block"
    buffer: int = 10_000
    max_age_s: float | Mapping[str, float] | None = None
    max_ahead_s: float = 3600.0
    connect_timeout_s: float = 10.0
    start_timeout_s: float = 10.0
    first_wait_s: float = 1.0
    max_wait_s: float = 5.0
    breaker_failures: int = 20
    breaker_s: float = 30.0
    ping_after_s: float = 20.0
    pong_timeout_s: float = 10.0
    close_timeout_s: float = 2.0
    compress: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    token: str | Callable[[], str] | None = field(default=None, repr=False)
    otp: str | Callable[[], str] | None = field(default=None, repr=False)
    text: bool = False

    def __post_init__(self) -> None:
        if self.policy not in {"block", "drop_oldest", "conflate"}:
            raise ValueError(f"policy is block, drop_oldest or conflate, not {self.policy!r}")
        if self.buffer < 1:
            raise ValueError("buffer is at least 1")
        ages = self.max_age_s.values() if isinstance(self.max_age_s, Mapping) else [self.max_age_s]
        durations = [getattr(self, each.name) for each in fields(self) if each.type == "float"]
        for value in (*durations, *ages):
            if value is not None and not (isinstance(value, int | float) and 0 <= value < math.inf):
                raise ValueError(f"a duration is a number of seconds, not {value!r}")
        if self.breaker_failures < 1:
            raise ValueError("breaker_failures is at least 1")
        if self.text and self.policy == "conflate":
            raise ValueError("text can't be conflated")

    def max_age_of(self, channel: str) -> float | None:
        """Return the age limit of a channel."""
        if isinstance(self.max_age_s, Mapping):
            return self.max_age_s.get(channel)
        return self.max_age_s
