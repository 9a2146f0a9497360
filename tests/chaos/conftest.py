"""The daemon as a process, simulated venues in this one."""

from __future__ import annotations

import os
import secrets
import socket

import aiohttp
import pytest
from chaos.plant import Plant
from chaos.venues import Venues, sections, toml

from aggregator.simulator import Simulator

DEFAULT_S, CI_S = 15.0, 60.0


def chaos_s() -> float:
    """Return how many seconds things shall go wrong."""
    default = CI_S if os.environ.get("CI") == "true" else DEFAULT_S
    return float(os.environ.get("CHAOS_SECONDS", default))


@pytest.fixture
def seed() -> int:
    """Return what all chance is drawn from; it is shown when a test fails."""
    seed = int(os.environ.get("CHAOS_SEED", secrets.randbelow(10**6)))
    print(f"CHAOS_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    return seed


@pytest.fixture
def port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def venues(session):
    """Return the simulated venues; time goes on there."""
    limits = {"binance_weight_limit": 10**9, "coingecko_calls_per_minute": 10**6, "cache_s": 1}
    # Few enough levels for the venues to show all of them.
    async with Simulator(ticks_per_s=0, book_levels=200, **limits) as simulator:
        venues = Venues(simulator, session)
        venues.walk()
        yield venues
        await venues.stand_still()


@pytest.fixture
async def plant(start, tmp_path, port, session, venues) -> Plant:
    """Return a daemon with feeds of all kinds, which has yet to be started."""
    plant = Plant(start, tmp_path, port, session)
    plant.config.write_text(toml(port, sections(venues.simulator)))
    return plant
