"""There is no room for the log: the daemon goes on without it."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from gateway.wsclient import Client

LITTLE = 4096
"""Bytes that the file of the log may have."""


@asynccontextmanager
async def logging_to(plant, path: Path, *, limited: bool):
    """Run the daemon with its log in a file that has no room, or next to none."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (LITTLE, LITTLE))

    command = [sys.executable, "-m", "aggregator", "run", "--config", str(plant.config)]
    with path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(*command, "--log-level", "debug"),
            cwd=path.parent if limited else None,
            stderr=log,
            preexec_fn=limit if limited else None,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def follows(plant) -> Client:
    """Connect as soon as it listens, which the log can't say; subscribe."""
    while True:
        try:
            client = await Client.connect(plant.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
        else:
            await client.subscribe("ticker", "system")
            return client


@pytest.mark.parametrize("limited", [False, True], ids=["nothing", "little"])
async def test_it_goes_on_without_a_log(plant, venues, tmp_path, limited):
    """
    Each line of the log fails (ENOSPC), or all after the first few (EFBIG): clients are served,
    states of feeds go on to change, and it ends as it should.
    """
    path = tmp_path / "log" if limited else Path(os.devnull).with_name("full")
    async with logging_to(plant, path, limited=limited) as process:
        client = await follows(plant)
        async with client:
            for round_ in range(3):
                # Each is several lines of the log.
                venues.simulator.faults.add(venue="okx", kind="close")
                await client.until(type="system_status")
                messages = await client.until(type="price_update")
                assert messages, round_
            process.send_signal(signal.SIGHUP)
            await client.until(type="price_update")
            process.send_signal(signal.SIGTERM)
            assert (await client.closed())[0] == 1001
        assert await process.wait() == 0
    if limited:
        assert path.stat().st_size <= LITTLE
