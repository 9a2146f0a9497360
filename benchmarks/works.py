"""What the contestants of benchmarks/fanout.py have to do, and what is to be reached."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contestants import (
    AIOHTTP_DEFLATED,
    ALL_THE_SAME,
    BROKERS_16,
    EACH_HIS_OWN,
    EVERYBODY,
    LIMIT1,
    LIMIT16,
    NOT_SLOW,
    OURS,
    OURS_DEFLATED,
    OURS_ONE,
    PEERS_ONE,
    SLOW,
    UWS16,
    UWS16_DEFLATED,
    WEBSOCKETS_DEFLATED,
)
from peers import prices

INSTRUMENTS = 50
MANY_INSTRUMENTS = 500

Medians = dict[str, dict[str, float]]
"""By contestant and figure."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be reached, and what was."""

    what: str
    reached: float
    at_least: float | None = None
    at_most: float | None = None

    def row(self) -> list[str]:
        """Return a row of the last table."""
        if self.at_least is not None:
            good, bound = self.reached >= self.at_least, f"at least {self.at_least:,.2f}"
        else:
            assert self.at_most is not None
            good, bound = self.reached <= self.at_most, f"at most {self.at_most:,.2f}"
        return [self.what, bound, f"{self.reached:,.2f}", "yes" if good else "NO"]


@dataclass(frozen=True, slots=True)
class Work:
    """
    One thing that all contestants in it do.

    `sample`: clients look at the times of one message in so many; `deflate`: to be compared is also
    what is sent and held for each client.
    """

    title: str
    contestants: tuple[str, ...]
    clients: int
    goals: Callable[[Medians], list[Goal]]
    rate: float = 0.0
    instruments: int = INSTRUMENTS
    idle: bool = False
    deflate: bool = False
    slow_bytes_per_s: int = 0
    sample: int = 17


def saturating_goals(of_limit16: float, *, ahead: bool) -> Callable[[Medians], list[Goal]]:
    """Return the goals of a saturating work."""

    def goals(medians: Medians) -> list[Goal]:
        found = [ratio("of limit16", medians, "rate_cpu", OURS, LIMIT16, at_least=of_limit16)]
        if ahead:
            what = "times uWebSockets at 16 per tick"
            found.append(ratio(what, medians, "rate_cpu", OURS, UWS16, at_least=1.0))
        return [goal for goal in found if goal is not None]

    return goals


def ratio(
    what: str, medians: Medians, figure: str, one: str, other: str, **bound: float
) -> Goal | None:
    """Return the goal that one contestant's figure has this ratio to another's."""
    if one not in medians or other not in medians:
        return None
    return Goal(what, medians[one][figure] / medians[other][figure], **bound)


def single_goals(medians: Medians) -> list[Goal]:
    """Return the goals of one message at a time."""
    goal = ratio("of limit1", medians, "rate_cpu", OURS_ONE, LIMIT1, at_least=0.84)
    return [goal] if goal else []


def deflate_goals(medians: Medians) -> list[Goal]:
    """Return the goals of clients that all get compressed messages."""
    found = [
        ratio(what, medians, "rate_cpu", OURS_DEFLATED, other, at_least=bound)
        for what, other, bound in (
            ("deliveries per CPU second, of not deflated", OURS, 0.9),
            ("times aiohttp's own deflate", AIOHTTP_DEFLATED, 10.0),
        )
    ]
    return [goal for goal in found if goal]


def rate1000_goals(medians: Medians) -> list[Goal]:
    """Return the goals of a million deliveries a second."""
    mine = medians[OURS]
    return [
        # Within what two clocks differ in: what is lost ends the run anyway.
        Goal("million deliveries a second", mine["rate"] / 1e6, at_least=0.999),
        Goal("% of one core", mine["cpu_percent"], at_most=85.0),
        Goal("p99, ms from due", mine["received_p99"], at_most=8.0),
        Goal("p99, ms from published", mine["published_p99"], at_most=8.0),
    ]


def rate100_goals(medians: Medians) -> list[Goal]:
    """Return the goals of 100 messages a second."""
    found = [
        ratio(f"{name} from due, times limit1's", medians, key, OURS, LIMIT1, at_most=1.2)
        for name, key in (("p50", "received_p50"), ("p99", "received_p99"))
    ]
    return [goal for goal in found if goal]


def instruments_goals(medians: Medians) -> list[Goal]:
    """Return the goal of thousands of audiences."""
    what = "deliveries per CPU second, of all the same"
    goal = ratio(what, medians, "rate_cpu", EACH_HIS_OWN, ALL_THE_SAME, at_least=0.6)
    return [goal] if goal else []


def idle_goals(medians: Medians) -> list[Goal]:
    """Return the goals of idle connections."""
    mine = medians[OURS]
    return [
        Goal("bytes resident per connection", mine["bytes_per_client"], at_most=2048.0),
        Goal("seconds to connect them all", mine["connect_s"], at_most=10.0),
    ]


def slow_goals(medians: Medians) -> list[Goal]:
    """Return the goals of a slow reader among others."""
    p99 = ratio("others' p99", medians, "received_p99", SLOW, NOT_SLOW, at_most=1.1)
    with_it = medians[SLOW]
    # The history of the channel grows either way.
    grown = with_it["grown_mb"] - medians.get(NOT_SLOW, {}).get("grown_mb", 0.0)
    return [
        *([p99] if p99 else []),
        Goal("MB by which memory grew more than without", grown, at_most=1.0),
        # Anything else would have ended the run.
        Goal("published - delivered - folded", with_it["slow_missing"], at_most=0.0),
    ]


WORKS = {
    "saturate1000": Work(
        "saturating, 1,000 clients", EVERYBODY, 1000, saturating_goals(0.86, ahead=True)
    ),
    "saturate5000": Work(
        "saturating, 5,000 clients", EVERYBODY, 5000, saturating_goals(0.80, ahead=False)
    ),
    "deflate1000": Work(
        "saturating, 1,000 clients with permessage-deflate",
        (OURS_DEFLATED, OURS, AIOHTTP_DEFLATED, WEBSOCKETS_DEFLATED, UWS16_DEFLATED),
        1000,
        deflate_goals,
        deflate=True,
    ),
    "single": Work(
        "one message at a time, window off, 1,000 clients",
        (OURS_ONE, LIMIT1, *PEERS_ONE),
        1000,
        single_goals,
    ),
    "rate1000": Work(
        "1,000 messages/s to 1,000 clients",
        (OURS, LIMIT1, *PEERS_ONE, *BROKERS_16),
        1000,
        rate1000_goals,
        rate=1000,
    ),
    "rate100": Work(
        "100 messages/s to 1,000 clients",
        (OURS, LIMIT1, *PEERS_ONE, *BROKERS_16),
        1000,
        rate100_goals,
        rate=100,
        sample=1,
    ),
    "instruments": Work(
        "5,000 messages/s in, 1,000 clients with 5 of 500 instruments each",
        (EACH_HIS_OWN, ALL_THE_SAME),
        1000,
        instruments_goals,
        rate=5000,
        instruments=MANY_INSTRUMENTS,
        sample=1,
    ),
    "idle": Work(
        "idle, 10,000 clients", (OURS, *PEERS_ONE, *BROKERS_16), 10_000, idle_goals, idle=True
    ),
    "slow": Work(
        "1,000 messages/s to 200 clients, and one that reads 1 KB/s",
        (NOT_SLOW, SLOW),
        200,
        slow_goals,
        rate=1000,
        slow_bytes_per_s=1024,
        sample=1,
    ),
}


def wishes(name: str, clients: int) -> list[Sequence[int] | None]:
    """Return which instruments each client wants; `None` is the whole channel."""
    if name == EACH_HIS_OWN:
        dice = random.Random(clients)
        return [dice.sample(range(MANY_INSTRUMENTS), 5) for _ in range(clients)]
    if name == ALL_THE_SAME:
        return [range(0, MANY_INSTRUMENTS, MANY_INSTRUMENTS // 5)] * clients
    return [None] * clients


def matching(published: int, numbers: Sequence[int] | None) -> int:
    """Return how many of the messages 1 to `published` are of these instruments."""
    if numbers is None:
        return published
    cycles, rest = divmod(published, MANY_INSTRUMENTS)
    return sum(cycles + (1 <= number <= rest) for number in numbers)


def subscribe(numbers: Sequence[int] | None) -> str:
    """Return the command for these instruments."""
    wants = [prices.CHANNEL]
    if numbers is not None:
        wants = [f"{prices.CHANNEL}:{prices.instrument(number)}" for number in numbers]
    return json.dumps({"type": "subscribe", "channels": wants})
