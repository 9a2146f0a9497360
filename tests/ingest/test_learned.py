"""What was learned of rhythms, over a restart."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from contextlib import asynccontextmanager

import pytest
from ingest.test_instruments import World

from aggregator import config
from aggregator.app import Daemon
from aggregator.ingest.learned import FILE, OLDEST_S, Learned, rhythms_of
from aggregator.simulator import Simulator

NOW = 1_000_000.0
RARE_S = 60
CONFIG = """
[server]
port = 0
[feeds.ticks]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
stale_after_s = 1
urls = ["{}"]
"""


def at(now=NOW):
    return lambda: now


def rhythms(world, connector="fake.stream"):
    return lambda: iter([rhythms_of(connector, world.status, world.instruments, NOW)])


async def written(folder, tell) -> None:
    """Have it written, as when the daemon ends."""
    keeping = asyncio.create_task(Learned(folder, at()).keep(tell))
    await asyncio.sleep(0)
    keeping.cancel()
    await asyncio.wait([keeping])


@pytest.fixture
def experienced():
    """Return a feed that knows an instrument which trades once a minute."""
    world = World()
    for _ in range(60):
        world.run(RARE_S, "BTC/USDT")
        world.data("ETH/USDT")
    return world


def restarted(folder, connector="fake.stream", now=NOW):
    world = World()
    Learned(folder, at(now)).recall(connector, world.status, world.instruments)
    return world


async def test_who_has_gone_silent_at_the_restart_is_found(experienced, tmp_path):
    """What traded once a minute and does not after the restart is late, then stale, as usual."""
    await written(tmp_path, rhythms(experienced))
    world = restarted(tmp_path)
    world.run(3600, "BTC/USDT")
    assert world.states("ETH/USDT") == ["late", "stale"]
    assert all(said["reason"].endswith("usual 30 s") for said in world.said("ETH/USDT"))
    world.data("ETH/USDT")
    world.look()
    assert world.states("ETH/USDT") == ["late", "stale", "live"]
    assert world.states("BTC/USDT") == []


async def test_who_is_as_ever_is_called_nothing(experienced, tmp_path):
    """A usual silence is none, from the first minute on."""
    await written(tmp_path, rhythms(experienced))
    world = restarted(tmp_path)
    for _ in range(60):
        world.run(RARE_S, "BTC/USDT")
        world.data("ETH/USDT")
    assert world.states("ETH/USDT") == []


async def test_it_outlives_many_restarts(experienced, tmp_path):
    """What did not speak between two of them is still known after the second."""
    await written(tmp_path, rhythms(experienced))
    before = (tmp_path / FILE).read_bytes()
    await written(tmp_path, rhythms(restarted(tmp_path)))
    assert json.loads((tmp_path / FILE).read_bytes()) == json.loads(before)


@pytest.mark.parametrize(
    ("connector", "now"),
    [("other.stream", NOW), ("fake.stream", NOW + OLDEST_S + 1), ("fake.stream", 0.0)],
    ids=["another connector", "too old", "a clock that went back"],
)
async def test_what_may_not_hold_any_more(experienced, tmp_path, connector, now):
    """Is not taken for true."""
    await written(tmp_path, rhythms(experienced))
    assert restarted(tmp_path, connector, now).instruments.recalled == {}


@pytest.mark.parametrize("seed", range(30))
async def test_a_damaged_file(experienced, tmp_path, caplog, seed):
    """Whatever stands there is either sound or said to be unreadable; nothing fails by it."""
    await written(tmp_path, rhythms(experienced))
    chance = random.Random(seed)
    data = bytearray((tmp_path / FILE).read_bytes())
    for _ in range(3):
        data[chance.randrange(len(data))] = chance.choice(b'\x00\xff-"{}[],0e9')
    (tmp_path / FILE).write_bytes(bytes(data[: chance.randrange(len(data) + 1)]))
    caplog.clear()
    world = restarted(tmp_path)
    assert world.instruments.recalled == {} or not caplog.messages[1:]
    world.run(120, "BTC/USDT", "ETH/USDT")
    assert world.states("BTC/USDT") == []


@pytest.mark.parametrize(
    "sums", [[0, 1, 1, 1], [1, -1, 1, 1], [1, 1, 1, 1e300], [1, 1, 1], [1, 1, 1, None]], ids=str
)
def test_impossible_numbers(tmp_path, caplog, sums):
    """Are refused with a line of the log."""
    row = {"name": "quotes", "connector": "fake.stream", "learned_at": NOW, "feed": None}
    (tmp_path / FILE).write_text(json.dumps(row | {"instruments": {"ETH/USDT": sums}}))
    assert restarted(tmp_path).instruments.recalled == {}
    [message] = caplog.messages
    assert "can't be read" in message


async def test_no_directory_and_one_that_can_not_be_written(experienced, tmp_path, caplog):
    """Without one nothing is kept; one that is gone is said once, and all goes on."""
    caplog.set_level(logging.INFO)
    await written(None, rhythms(experienced))
    learned = Learned(tmp_path / "gone", at())
    learned._write(tmp_path / "gone" / FILE, [b"{}"], ".part")
    learned._write(tmp_path / "gone" / FILE, [b"{}"], ".part")
    [message] = caplog.messages
    assert message.endswith("No such file or directory")


async def test_a_daemon_knows_it_after_its_restart(tmp_path):
    """What its feeds learned is written at its end, and known at the next start."""
    async with Simulator(ticks_per_s=20) as simulator:
        path = tmp_path / "aggregator.toml"
        path.write_text(CONFIG.format(simulator.okx_url))
        found = config.load(path, environ={})
        async with running(Daemon(found, state=tmp_path)) as first:
            instruments = first.ingest.instruments["ticks"]
            # There is no event for what is learned.
            while not any(each.known for each in instruments.watched.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    second = Daemon(found, state=tmp_path)
    assert list(second.ingest.instruments["ticks"].recalled) == ["BTC/USDT"]
    assert second.ingest.statuses["ticks"].rhythm.known
    assert {each.name for each in tmp_path.iterdir()} == {path.name, FILE}


@asynccontextmanager
async def running(daemon):
    stop = asyncio.Event()
    task = asyncio.create_task(daemon.run(stop))
    yield daemon
    stop.set()
    await task
