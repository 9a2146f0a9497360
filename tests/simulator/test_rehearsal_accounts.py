"""Accounts for rehearsals: what the simulator says of them, and the page, can be used as it is."""

import asyncio
import json
import re
import tomllib
from pathlib import Path

import pytest
from ingest.account_benches import PATIENCE_S, Undelayed

from aggregator import config, wire
from aggregator.hub import Hub
from aggregator.ingest.accounts import Accounts, warnings

PAGE = Path(__file__).parents[2] / "docs/operations.md"


def example(simulator):
    """Return the configuration of the page, at this simulator."""
    rehearsals = PAGE.read_text("utf-8").partition("\n## Rehearsals")[2].partition("\n## ")[0]
    behind = rehearsals.partition("\n### Accounts")[2]
    [text] = re.findall(r"```toml\n(.*?)```", behind, re.DOTALL)
    assert "localhost:9000" in text
    return text.replace("localhost:9000", f"127.0.0.1:{simulator.port}")


@pytest.fixture
def loaded(simulator, tmp_path):
    path = tmp_path / "rehearsal.toml"
    path.write_text("[feeds]\n" + example(simulator))
    return config.load(path, environ={})


def test_the_page_says_what_the_simulator_says(simulator):
    """Of each connector a section, with the addresses and the keys that are printed."""
    sections = tomllib.loads(example(simulator))["accounts"].values()
    shown = {section.pop("connector"): section for section in sections}
    for section in shown.values():
        del section["user"]
    assert shown == simulator.account_sections()


class Ear:
    """Hears of a user's balances, whatever the account."""

    size = 1

    def __init__(self, hub, user):
        self.accounts = set()
        hub.own("balances", user).listeners.add(self)

    def offer(self, message):
        self.accounts.add(json.loads(wire.payload_of(message.frame))["account"])


async def test_the_example_works(loaded):
    """All of its accounts are live, with keys that may only read, and their users are told."""
    hub = Hub()
    accounts = Accounts(hub, loaded, Undelayed())
    ears = [Ear(hub, 1001), Ear(hub, 1002)]
    assert await warnings(loaded) == []
    task = asyncio.create_task(accounts.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while {s.state for s in accounts.statuses.values()} != {"live"}:  # noqa: ASYNC110 - nobody is told of states
                await asyncio.sleep(0.005)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [ear.accounts for ear in ears] == [{"main", "savings"}, {"by_ccxt"}]
