"""Lines that lose packets or are cut without a word, on both sides of the daemon."""

from __future__ import annotations

import asyncio
import re
from random import Random

import pytest
from chaos.clients import Raw
from chaos.lossy import lose, mend
from chaos.waiting import until, until_said
from ingest.delays import Delays

FEEDS = ["ticker", "okx_trades", "okx_books", "depth", "trades"]
ENOUGH = 400
LATE_S = 0.05

GIVEN_UP = 'aggregator_connections_closed_total{code="4010"}'


async def less(plant, metric: str, number: int) -> object:
    """Return how much a metric is, as long as that is less."""
    _, text = await plant.get("/metrics")
    found = re.search(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
    count = 0.0 if found is None else float(found[1])
    return f"{metric} {count}" if count < number else ""


async def test_lines_of_clients_that_lose_packets(plant, venues):
    """
    Of three clients, two lose every fifth packet and one is 50 ms away: each has every number, once
    and in order, or is told; whoever is not concerned notices nothing.
    """
    await plant.start()
    await until_said(plant.not_live, "all feeds are live")
    async with Delays(plant.port, lambda: LATE_S) as far, asyncio.TaskGroup() as group:
        ports = {"near": plant.port, "lossy": plant.port, "slow and lossy": plant.port}
        ports["far"] = far.port
        raws = {n: Raw(n, p, FEEDS, Random(n), slow="slow" in n) for n, p in ports.items()}
        tasks = [group.create_task(each.run(), name=each.name) for each in raws.values()]
        await until(lambda: all(each.connected for each in raws.values()), "all are connected")
        for name in ("lossy", "slow and lossy"):
            lose(raws[name].socket, 0.2)
        await until(
            lambda: all(each.ledger.messages > ENOUGH for each in raws.values()), "they follow"
        )
        assert [each.connections for each in raws.values()] == [1, 1, 1, 1]
        assert not raws["near"].ledger.folded
        for name in ("lossy", "slow and lossy"):
            mend(raws[name].socket)
            raws[name].calm = True
        channels = await plant.channels()
        targets = {name: (channels[name]["epoch"], channels[name]["seq"] + 1) for name in FEEDS}

        async def behind() -> object:
            return [found for each in raws.values() if (found := each.behind(targets))]

        await until_said(behind, "each client has everything")
        for task in tasks:
            task.cancel()


@pytest.mark.timeout(120)
async def test_a_client_whose_line_is_cut(plant, venues):
    """
    Nothing comes through, nobody says so: the daemon gives it up for want of a pong and lets go of
    its socket; on a new line the client gets what it has missed.
    """
    await plant.start()
    await until_said(plant.not_live, "all feeds are live")
    async with asyncio.TaskGroup() as group:
        raw = Raw("raw", plant.port, FEEDS, Random(1))
        task = group.create_task(raw.run(), name="raw")
        await until(lambda: raw.ledger.messages > ENOUGH, "it follows")
        raw.deaf = True
        lose(raw.socket, 1)
        await until_said(lambda: less(plant, GIVEN_UP, 1), "the daemon gives it up")
        raw.kill()
        await until(lambda: raw.connections == 2 and raw.connected, "it has come back")
        raw.deaf = False
        channels = await plant.channels()
        targets = {name: (channels[name]["epoch"], channels[name]["seq"] + 1) for name in FEEDS}
        await until(lambda: not raw.behind(targets), "it has everything")
        # Who asks is connected as well.
        await until(lambda: plant.clients() == 2, "the daemon lets go of the first socket")
        task.cancel()
    assert plant.complaints() == []


async def test_a_venue_whose_line_is_cut(plant, venues):
    """The venue acknowledges nothing any more: feeds notice, connect anew, and books are whole."""
    await plant.start()
    await until_said(plant.not_live, "all feeds are live")
    async with asyncio.TaskGroup() as group:
        raw = Raw("raw", plant.port, [*FEEDS, "system"], Random(1))
        task = group.create_task(raw.run(), name="raw")
        await until(lambda: raw.ledger.messages > ENOUGH, "it follows")
        for each in venues.simulator._sockets._open:
            lose(each._transport.get_extra_info("socket"), 1)
        for feed in FEEDS:
            name = f'aggregator_feed_reconnects_total{{feed="{feed}"}}'
            await until_said(lambda name=name: less(plant, name, 1), f"{feed} gives it up")
        await until_said(plant.not_live, "all feeds are live again")
        channels = await plant.channels()
        targets = {name: (channels[name]["epoch"], channels[name]["seq"] + 1) for name in FEEDS}
        await until(lambda: not raw.behind(targets), "it has everything")
        task.cancel()
    assert plant.complaints() == []
