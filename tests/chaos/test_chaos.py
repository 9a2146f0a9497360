"""Everything goes wrong at the same time; then nothing is lost without a word, or left behind."""

# ruff: noqa: T201 - what has happened is shown with a failure, and with `pytest -s`

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from chaos.clients import Actor, Raw
from chaos.conftest import chaos_s
from chaos.plant import Plant
from chaos.schedule import Schedule
from chaos.sdk_clients import Python
from chaos.venues import BOOKS, DEPTH, STREAMS, TWO, Venues, sections
from chaos.waiting import until, until_said

WHOLE = ["ticker", "okx_trades", "okx_books", "depth", "trades", "prices", "top"]
GROWN_MB = 60.0
"""A daemon that has been through all of it may have so much more than at its start."""

pytestmark = pytest.mark.timeout(chaos_s() + 300)


def actors(plant: Plant, seed: int) -> list[Actor]:
    """Return clients of all kinds."""

    def raw(name: str, channels: list[str], **more: Any) -> Raw:
        return Raw(name, plant.port, channels, Random(f"{seed} {name}"), **more)

    def python(name: str, channels: list[str], **more: Any) -> Python:
        return Python(name, plant.url, channels, Random(f"{seed} {name}"), **more)

    everything = [*WHOLE, "comes_and_goes", "system", "heartbeat"]
    return [
        raw("raw", everything),
        raw("another raw", everything),
        raw("slow raw", everything, slow=True),
        raw("slow raw of books", list(BOOKS), slow=True),
        raw("raw of one instrument", ["*:BTC/USDT"], whole=False),
        python("python", WHOLE),
        python("another python", WHOLE),
        python("slow python", WHOLE, slow=True),
    ]


async def test_nothing_is_lost_without_a_word_or_left_behind(plant, venues, seed):
    """
    Faults of venues, kills of daemon and clients, other configurations, stalls.

    In the end, of each client and channel what was received and what was declared lost is all there
    was, nothing twice and nothing out of order; books are the venues'; all feeds are live; and the
    daemon has no socket, task or memory of what was, and has said of no error that it did not
    expect.
    """
    await plant.start()
    before = await Held.by(plant)
    everybody = actors(plant, seed)
    schedule = Schedule(seed, plant, venues, everybody, sections(venues.simulator))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(each.run(), name=each.name) for each in everybody]
            await schedule.run(chaos_s())
            await schedule.calm_down()
            await until_said(plant.not_live, "all feeds are live")
            await a_fresh_message(plant, everybody)
            await the_venues_books(venues, everybody)
            for task in tasks:
                task.cancel()
        await nothing_is_left(plant, venues, before)
        assert await plant.stop() == 0
        assert not unexpected(plant)
        all_there_is_was_seen(schedule, everybody)
    except BaseException:
        print(*schedule.story, sep="\n")
        for number, run in enumerate(plant.runs):
            print(f"run {number}:", *run.lines[-40:], sep="\n")
        raise
    finally:
        summary(schedule, everybody)


@dataclass(frozen=True)
class Held:
    """What a daemon holds that nobody is connected to."""

    tasks: Counter[str]
    files: int
    rss_mb: float

    @classmethod
    async def by(cls, plant: Plant) -> Held:
        """Ask a daemon all of whose feeds are live."""
        await until_said(plant.not_live, "all feeds are live")
        # What serves a request has only a number.
        named = (re.sub(r"\d+", "", name) for name in await plant.tasks())
        return cls(Counter(named), plant.files(), plant.rss_mb())


async def a_fresh_message(plant: Plant, everybody: Sequence[Actor]) -> None:
    """Wait until each client has had another message on each channel, without a hole before it."""
    names = [*WHOLE, "comes_and_goes", "heartbeat"]
    before = await plant.channels()
    targets = {name: (before[name]["epoch"], before[name]["seq"] + 1) for name in names}
    targets["system"] = before["system"]["epoch"], before["system"]["seq"]

    async def behind() -> dict[str, object]:
        for actor in everybody:
            wanted = {name: targets[name] for name in wants(actor)}
            if found := actor.behind(wanted):
                return {actor.name: found}
        return {}

    await until_said(behind, "each client has everything")


def wants(actor: Actor) -> list[str]:
    """Return the channels that a client has whole."""
    if isinstance(actor, Python):
        return WHOLE
    return [each for each in actor._channels if ":" not in each]


async def the_venues_books(venues: Venues, everybody: Sequence[Actor]) -> None:
    """Have time stand still: then each client holds the venues' books, level by level."""
    for actor in everybody:
        for key in itertools.product(set(BOOKS) & set(wants(actor)), TWO):
            # What was configured last may need another connection.
            await until(lambda a=actor, k=key: deep(a.book(*k)[1]), f"{actor.name}: depth of {key}")
    await venues.stand_still()
    for channel, venue in BOOKS.items():
        for instrument in TWO:
            number, sides = await venues.book(venue, instrument, DEPTH)
            for actor in everybody:
                if channel not in wants(actor):
                    continue
                key = channel, instrument
                await until(
                    lambda actor=actor, key=key, number=number: actor.book(*key)[0] == number,
                    f"{actor.name} has {key} of {number}",
                )
                assert levels(actor.book(*key)[1]) == levels(sides), (actor.name, key)


def deep(sides: Any) -> bool:
    """Whether a book is as deep as configured."""
    return sides is not None and all(len(side) == DEPTH for side in levels(sides))


def levels(sides: Any) -> list[list[tuple[Decimal, Decimal]]]:
    """Return both sides as numbers, however a client keeps them."""
    if not isinstance(sides, tuple):
        return [[(level.price, level.size) for level in side] for side in (sides.bids, sides.asks)]
    return [[(Decimal(price), Decimal(size)) for price, size in side] for side in sides]


async def nothing_is_left(plant: Plant, venues: Venues, before: Held) -> None:
    """Once all clients have gone: no session, socket, task or memory more than without them."""
    venues.walk()

    async def left() -> object:
        counted = ("sessions", "sessions_lagging", "audiences", "http_connections")
        found = {name: await plant.metric(f"aggregator_{name}") for name in counted}
        # Who asks is connected as well.
        found["http_connections"] -= 1
        after = await Held.by(plant)
        found["tasks"] = after.tasks - before.tasks
        found["files"] = after.files - before.files
        found["sockets of clients"] = plant.clients() - 1
        for venue, streams in STREAMS.items():
            found[f"connections to {venue}"] = venues.simulator.connections(venue) - streams
        return {what: more for what, more in found.items() if more}

    await until_said(left, "nothing is left of the clients")
    assert plant.rss_mb() < before.rss_mb + GROWN_MB


def unexpected(plant: Plant) -> list[str]:
    """Return what the daemon should not have said."""
    bad = [line for line in plant.complaints() if "the configuration is not taken over" not in line]
    told = len(plant.complaints()) - len(bad)
    return bad or ([] if told == plant.refused else [f"{told} of {plant.refused} refusals"])


def all_there_is_was_seen(schedule: Schedule, everybody: Sequence[Actor]) -> None:
    """Hold that things went wrong indeed: else it would prove nothing."""
    assert {"kill", "stop", "reload", "stall", "kill_client", "leave"} <= schedule.done.keys()
    raws = [each for each in everybody if isinstance(each, Raw)]
    assert all(each.connections > 2 for each in raws)
    assert sum(each.ledger.recovered for each in raws)
    assert {"history", "upstream"} <= {r for each in raws for r in each.ledger.reasons}


def summary(schedule: Schedule, everybody: Sequence[Actor]) -> None:
    """Print what has happened."""
    print(dict(schedule.done))
    for actor in everybody:
        print(actor)
