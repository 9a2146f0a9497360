"""The wall clock jumps while the daemon runs."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from chaos.clients import Raw
from chaos.sdk_clients import Python
from chaos.venues import SERVER, patient, sections, toml
from chaos.waiting import until, until_said

FEEDS = ["ticker", "okx_trades", "okx_books", "depth", "trades", "prices", "top"]
DAY_S = 86_400
ABSURD_S = 3600.0
"""No age of the feeds here can be as much."""
MORE = 20


async def ages(plant) -> dict[str, float]:
    """Return every age that the daemon tells: of channels, feeds and last values, in seconds."""
    found = {n: row["age_s"] for n, row in (await plant.channels()).items() if row["connector"]}
    _, text = await plant.get("/metrics")
    pattern = r"^(aggregator_feed_age_seconds\S*) (\S+)$"
    found |= {name: float(age) for name, age in re.findall(pattern, text, re.MULTILINE)}
    for name in FEEDS:
        _, latest = await plant.get(f"/latest/{name}")
        found |= {f"/latest {m['seq']}": m["age_us"] / 1e6 for m in latest["messages"]}
        _, why = await plant.get(f"/why/{name}")
        told = (fact for fact in numbers(why) if fact[0].endswith("age_s"))
        found |= {f"/why/{name} {key}": age for key, age in told}
    return {what: age for what, age in found.items() if age is not None}


def numbers(facts: Any) -> Iterator[tuple[str, float]]:
    """Yield key and value of every number in an answer, wherever it stands."""
    for key, value in facts.items() if isinstance(facts, dict) else ():
        if isinstance(value, int | float):
            yield key, value
        yield from numbers(value)


@pytest.mark.parametrize("jumps", [(-30,), (DAY_S,), (-DAY_S,), (3, -2, 3, -2)], ids=str)
async def test_the_clock_jumps(plant, venues, tmp_path, jumps):
    """
    Back, ahead, and to and fro: polls and streams go on, numbers go on, nobody is cut off, no feed
    is called late or worse, and no age is negative or absurd once each feed has spoken.
    """
    clock = tmp_path / "clock"
    server = {**SERVER, "pong_timeout_s": 60, "stalled_after_s": 60}
    plant.config.write_text(toml(plant.port, patient(sections(venues.simulator)), server))
    plant.environ = {"CHAOS_CLOCK": str(clock)}
    await plant.start()
    await until_said(plant.not_live, "all feeds are live")
    async with asyncio.TaskGroup() as group:
        raw = Raw("raw", plant.port, [*FEEDS, "system", "heartbeat"], Random(1))
        python = Python("python", plant.url, FEEDS, Random(2))
        tasks = [group.create_task(each.run(), name=each.name) for each in (raw, python)]
        await until(lambda: raw.ledger.messages > MORE and python.messages > MORE, "they follow")
        said = (await plant.channels())["system"]["seq"]
        for seconds in jumps:
            clock.write_text(str(seconds))
            plant.process.signal(signal.SIGUSR1)
            await until(lambda: not clock.exists(), "the clock has jumped")
            assert not {what: age for what, age in (await ages(plant)).items() if age < 0}
            channels = await plant.channels()
            targets = {n: (channels[n]["epoch"], channels[n]["seq"] + MORE) for n in FEEDS}
            await until(lambda t=targets: not raw.behind(t), "everything goes on")
            await until(lambda t=targets: not python.behind(t), "in the Python client too")
            now = await ages(plant)
            assert not {what: age for what, age in now.items() if not 0 <= age < ABSURD_S}
            assert await plant.not_live() == []
        assert (await plant.channels())["system"]["seq"] == said
        assert raw.connections == 1
        for task in tasks:
            task.cancel()
    assert await plant.stop() == 0
    assert plant.complaints() == []
