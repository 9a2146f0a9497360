"""
The daemon: all its parts, as `aggregator.app` wires them, without feeds; prices come from here.

Clients subscribe over its real server; each price is published with `hub.publish`, as the runners
of feeds do it. More commands on standard input: "stop" ends the publishing, "report" tells the
counters.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pace
import uvloop
from prices import CHANNEL, EXCHANGE, instrument, price

from aggregator.app import Daemon
from aggregator.collector import Collector
from aggregator.config import Config, Server


class Driver:
    """Publishes as ordered."""

    def __init__(self, given: pace.Orders) -> None:
        self._given = given
        server = Server(
            port=0,
            max_connections=100_000,
            max_connections_per_address=100_000,
            flush_window_s=given.window_s,
        )
        self.daemon = Daemon(Config("benchmarks/fanout.py", server, ()))
        names = [instrument(number) for number in range(given.instruments)]
        self._channel = self.daemon.hub.add_channel(CHANNEL, EXCHANGE, names)
        # The messages of all contestants have numbers of one length.
        self._channel.seq = pace.FIRST_SEQ
        self.published = 0

    def _publish(self, due_us: int) -> None:
        self.published += 1
        number = self.published % self._given.instruments
        self.daemon.hub.publish(self._channel, price(number), due_us)

    async def publish(self) -> None:
        """Publish for ever."""
        if not self._given.rate:
            await self._saturate()
        async for due_us in pace.due_times(self._given.rate):
            self._publish(due_us)

    async def _saturate(self) -> None:
        """
        Publish a burst for each flush.

        No client may be behind: what is published to one that is would be folded, and less would
        have to be sent.
        """
        hub, lagging = self.daemon.hub, self.daemon.sessions.lagging
        sessions = tuple(self.daemon.sessions)
        pressure = pace.Backpressure(sessions, lambda session: session.unsent)
        nap_s = min(pace.NAP_S, self._given.window_s)
        while True:
            await pace.until(lambda: not lagging and not pressure.full())
            target = hub.deliveries + self._given.burst * len(sessions)
            for _ in range(self._given.burst):
                self._publish(pace.wall_us())
            # Until it has been written to all of them, or waits for those that became slow.
            while hub.deliveries < target and not lagging:  # noqa: ASYNC110 - as in pace.until
                await asyncio.sleep(nap_s)

    def report(self) -> None:
        """Tell the counters."""
        outboxes = [session.held for session in self.daemon.sessions.lagging]
        pace.say(
            published=self.published,
            deliveries=self.daemon.hub.deliveries,
            folded=self.daemon.sessions.counters.folded,
            flushes=self.daemon.fanout.flushes,
            lagging=len(outboxes),
            held=sum(outboxes),
        )


async def serve(driver: Driver, report: Callable[[], None]) -> None:
    """Serve, and do what standard input says; "report" calls for a report."""
    commands = await pace.standard_input()
    # The collector as in `aggregator.app`.
    with Collector(asyncio.get_running_loop()):
        await _serve(driver, report, commands)


async def _serve(
    driver: Driver, report: Callable[[], None], commands: asyncio.StreamReader
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(driver.daemon.run(asyncio.Event()))
        await pace.until(lambda: driver.daemon.server.port != 0)
        pace.say(port=driver.daemon.server.port)
        publishing: asyncio.Task[None] | None = None
        while command := (await commands.readline()).decode().strip():
            if command == "go":
                publishing = tasks.create_task(driver.publish())
            elif command == "stop" and publishing is not None:
                publishing.cancel()
            elif command == "report":
                report()
        os._exit(0)  # without a farewell to thousands of clients


async def main() -> None:
    """Be the daemon of benchmarks/fanout.py."""
    driver = Driver(pace.orders())
    await serve(driver, driver.report)


if __name__ == "__main__":
    uvloop.run(main())
