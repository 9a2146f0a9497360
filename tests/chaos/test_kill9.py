"""The daemon is killed under load, many times in quick succession; each time it comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from random import Random

import pytest
from chaos.clients import Raw
from chaos.sdk_clients import Python
from chaos.waiting import until_said

ROUNDS = 25 if os.environ.get("CI") == "true" else 8
FEEDS = ["ticker", "okx_trades", "okx_books", "depth", "trades", "prices"]
EARLY = 0.3
"""Of the runs end before they are known to listen."""
LATEST_S = 0.5


@pytest.mark.timeout(240)
async def test_killed_at_any_moment(plant, venues, seed):
    """
    SIGKILL before it listens, while it connects to venues and in the middle of its fan-outs: each
    client has or is told of every number, and the last run is as good as the first.
    """
    chance = Random(seed)
    raws = [Raw(f"raw {n}", plant.port, FEEDS, Random(n), slow=n == 2) for n in range(3)]
    python = Python("python", plant.url, FEEDS, Random(9))
    everybody = [*raws, python]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each.run(), name=each.name) for each in everybody]
        for _ in range(ROUNDS):
            await plant.begin()
            if chance.random() > EARLY:
                await plant.process.url()
            # At a random moment: there is no event for that.
            await asyncio.sleep(chance.uniform(0.0, LATEST_S))
            assert await plant.stop(signal.SIGKILL) == -signal.SIGKILL
        await plant.start()
        await until_said(plant.not_live, "all feeds are live")
        channels = await plant.channels()
        targets = {name: (channels[name]["epoch"], channels[name]["seq"] + 1) for name in FEEDS}

        async def behind() -> object:
            return [found for each in everybody if (found := each.behind(targets))]

        await until_said(behind, "each client has everything")
        for task in tasks:
            task.cancel()
    assert await plant.stop() == 0
    assert plant.complaints() == []
    assert all(each.connections > 1 for each in raws)
