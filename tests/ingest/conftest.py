from __future__ import annotations

import aiohttp
import pytest
from ingest.doubles import Clock, Venue


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def venue():
    async with Venue() as venue:
        yield venue


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session
