import json
from pathlib import Path

import aiohttp
import pytest

from aggregator.simulator import Simulator

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"


@pytest.fixture
async def simulator():
    """Start a simulator that walks only when told to: nothing in a test depends on time."""
    async with Simulator(ticks_per_s=0) as running:
        yield running


@pytest.fixture
async def client():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def recorded():
    """Read the body of a recorded HTTP response, or the frames of a recorded connection."""

    def read(name):
        path = RECORDINGS / name
        if not path.exists():
            pytest.skip(f"no recording {path}: the recordings are not part of the project")
        if path.suffix == ".ndjson":
            with path.open() as lines:
                return [json.loads(line)["raw"] for line in lines if '"dir":"in"' in line]
        return json.loads(json.loads(path.read_text())["body"])

    return read


@pytest.fixture
async def okx(simulator, client):
    """Connect to OKX."""
    async with client.ws_connect(simulator.okx_url, max_msg_size=0) as socket:
        yield socket


@pytest.fixture
def subscribe(okx):
    async def run(channel, instrument="BTC-USDT"):
        arg = {"channel": channel, "instId": instrument}
        await okx.send_json({"op": "subscribe", "args": [arg]})
        assert (await okx.receive_json())["arg"] == arg

    return run
