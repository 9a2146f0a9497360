"""The daemon against simulated venues: a child process plays Binance, CoinGecko and OKX."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import click

from .config import Config, Feed
from .simulator import Options, Simulator, serve

Venues = dict[str, dict[str, object]]
"""By exchange, the options that point a feed at the simulated one."""


@contextlib.contextmanager
def simulated_venues(seed: int) -> Iterator[Venues]:
    """Run the simulator in a child process, which ends when this process does, however it ends."""
    command = [sys.executable, "-m", "aggregator", "simulator", "--port", "0"]
    command += ["--seed", str(seed), "--for-parent"]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stdout is not None  # noqa: S101 - it is a pipe
        try:
            line = child.stdout.readline()
            if not line:
                raise click.ClickException("the simulator did not start")
            yield json.loads(line)
        finally:
            child.terminate()


def pointed_at(config: Config, venues: Venues) -> Config:
    """Return the configuration with every feed of a simulated venue pointed at it."""
    where = urlsplit(str(venues["binance"]["base_url"]))
    return dataclasses.replace(
        config,
        source=f"{config.source}; venues simulated at {where.scheme}://{where.netloc}/",
        feeds=tuple(_pointed_at(feed, venues) for feed in config.feeds),
        # A rehearsal has no business at anybody's real account.
        accounts=(),
    )


def _pointed_at(feed: Feed, venues: Venues) -> Feed:
    if feed.cls is None or feed.options is None or feed.cls.exchange not in venues:
        return feed
    update = {
        key: value
        for key, value in venues[feed.cls.exchange].items()
        if key in type(feed.options).model_fields
    }
    return dataclasses.replace(feed, options=feed.options.model_copy(update=update))


def run_simulator(host: str, port: int, options: Options, *, for_parent: bool) -> None:
    """
    Run the simulator until SIGINT or SIGTERM.

    With `for_parent` it prints one line of JSON, `Venues`, and ends when standard input closes.
    """

    def on_ready(simulator: Simulator) -> None:
        venues: Venues = {
            "binance": {
                "base_url": simulator.binance_url,
                "urls": [f"{simulator.binance_ws_url}/ws"],
            },
            "coingecko": {"base_url": simulator.coingecko_url},
            "okx": {"base_url": simulator.okx_rest_url, "urls": [simulator.okx_url]},
        }
        if for_parent:
            click.echo(json.dumps(venues))
            return
        click.echo(f"simulated venues at http://{host}:{simulator.port}/ (GET it for the list)")
        for name, update in {**venues, **simulator.account_sections()}.items():
            click.echo(f"  {name}: {json.dumps(update)}")

    def on_input(task: asyncio.Task[None]) -> None:
        if not os.read(0, 1):
            # Once: an end of file is there for ever, and cancelling again would cut the clean-up.
            asyncio.get_running_loop().remove_reader(0)
            task.cancel()

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(
            serve(host, port, on_ready=on_ready, **dataclasses.asdict(options)), name="simulator"
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        if for_parent:
            loop.add_reader(0, on_input, task)
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(until_told())
