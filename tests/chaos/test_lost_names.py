"""A venue whose name can't be resolved."""

from __future__ import annotations

import re

from chaos.venues import sections, toml
from chaos.waiting import until_said

LOST = "nowhere.invalid"
"""RFC 6761: there never is such a host, with or without a network."""


async def test_a_name_that_cannot_be_resolved_hurts_nobody_else(plant, venues):
    """
    The feed is down, says so, and is tried again and again; the others are live; with a good
    address it is so too, without a restart.
    """
    good = sections(venues.simulator)
    bad = sections(venues.simulator)
    bad["ticker"]["urls"] = [f"ws://{LOST}:1/ws"]
    bad["prices"]["base_url"] = f"http://{LOST}:1"
    plant.config.write_text(toml(plant.port, bad))
    # Where there is a name server that does not answer, nobody waits for it for long.
    plant.environ = {"RES_OPTIONS": "timeout:1 attempts:1"}
    await plant.start()

    async def not_as_expected() -> object:
        rows = (await plant.channels()).values()
        states = {row["channel"]: row["state"] for row in rows if row["connector"]}
        dead = {name: states.pop(name) for name in ("ticker", "prices")}
        alive = all(state in {"live", "limited"} for state in states.values())
        return [] if alive and set(dead.values()) == {"down"} else (states, dead)

    async def hardly_tried() -> object:
        _, text = await plant.get("/metrics")
        pattern = r'aggregator_feed_errors_total\{feed="(\w+)",kind="connection"\} (\S+)'
        counts = {feed: float(count) for feed, count in re.findall(pattern, text)}
        return [] if all(counts.get(name, 0) >= 4 for name in ("ticker", "prices")) else counts

    await until_said(not_as_expected, "two are down, the others live")
    await until_said(hardly_tried, "both are tried again")
    await until_said(not_as_expected, "still two are down, the others live")
    status, body = await plant.get("/why/ticker")
    assert status == 200
    assert LOST in str(body)
    await plant.reload(good)
    await until_said(plant.not_live, "all feeds are live")
    assert await plant.stop() == 0
    assert plant.complaints() == []
