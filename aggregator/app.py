"""
The composition root: the one place that knows every part.

Start: hub, sessions, server (from then on clients are served), ingest, ready.
Stop: no new clients, ingest, the sessions with 1001, HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from . import __version__, outlet
from .collector import Collector
from .config import Config
from .errors import AggregatorError
from .gateway.fanout import Fanout
from .gateway.server import Server
from .gateway.sessions import Sessions
from .hub import Hub
from .ingest.accounts import Accounts
from .ingest.feeds import Ingest
from .ingest.learned import Learned
from .model import Heartbeat, State
from .publishing import Publisher
from .reload import Reload
from .telemetry import logs
from .telemetry.metrics import Metrics
from .telemetry.systemd import Notifier, Watchdog, listening, state_directory
from .tokens import Keyring

log = logging.getLogger(__name__)

EXIT_UNAVAILABLE = 69
INGEST_STOP_S = 1.5
SESSIONS_STOP_S = 1.5
FORGET_S = 1.0
STATUS_S = 5.0
"""Between two lines of state to systemd."""


class ListenError(AggregatorError):
    """The address can't be listened on."""


class Daemon:
    """
    All parts, wired.

    Args:
        config: the effective configuration.
        notifier: tells systemd.
        sockets: those that systemd listens on.
        again: reads the configuration again, for `reload`.
        state: a directory to keep there what was learned.

    """

    def __init__(
        self,
        config: Config,
        notifier: Notifier | None = None,
        sockets: Sequence[socket.socket] = (),
        again: Callable[[], Config] | None = None,
        state: Path | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        as_read = config
        self.config = config = _listening_at(sockets, config)
        self._notifier = notifier or Notifier()
        self._watchdog = Watchdog(self._notifier, loop.time)
        self.hub = Hub(history=config.server.history_messages)
        self.keyring = Keyring(config.tokens, config.users, config.jwt)
        self.sessions = Sessions(self.hub, config.server, loop.time, self.keyring)
        self.fanout = Fanout(self.hub, config.server.flush_window_s, self._watchdog.moved)
        self.ingest = Ingest(self.hub, config, Learned(state))
        self.accounts = Accounts(self.hub, config, self.ingest.dial)
        feeds = self.ingest.statuses.keys()
        self.publisher = Publisher(self.hub, config.server.publish_channels, feeds)
        self.server = Server(
            self.hub,
            self.sessions,
            channels=lambda: list(self.channels()),
            unready=lambda: list(self.unready()),
            metrics=lambda: metrics.page(),  # noqa: PLW0108 - it has yet to be made
            why=self.ingest.why.explain,
            rotate=self.ingest.rotate,
            publisher=self.publisher,
            sockets=sockets,
        )
        parts = (self.keyring, self.sessions, self.fanout, self.ingest, self._notifier)
        self.reload = Reload(as_read, again, *parts, self.server.renew)
        metrics = Metrics(
            self.hub, self.sessions, self.fanout, self.ingest, self.server, self.accounts
        )

    async def run(self, stop: asyncio.Event) -> None:
        """
        Serve until `stop` is set.

        Raises:
            ListenError: the address can't be had.

        """
        server = self.config.server
        try:
            await self.server.start()
        except OSError as e:
            where = f"{server.host}:{server.port}"
            raise ListenError(f"can't listen on {where}: {e.strerror or e}") from e
        outlet.opened(self.publisher.publish)
        try:
            await self._serve(stop)
        finally:
            outlet.closed(self.publisher.publish)

    async def _serve(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            own = [
                tasks.create_task(self.sessions.run(), name="sessions"),
                tasks.create_task(self._heartbeats(), name="heartbeats"),
                tasks.create_task(self._pulse(), name="pulse"),
                tasks.create_task(self._status(), name="status"),
                tasks.create_task(self._forget(), name="history"),
                tasks.create_task(self.accounts.run(), name="accounts"),
            ]
            reload = tasks.create_task(self.reload.run(), name="reload")
            ingest = tasks.create_task(self.ingest.run(), name="ingest")
            self._announce()
            await stop.wait()
            log.info("stopping")
            self._notifier.send(STOPPING="1")
            reload.cancel()  # a feed that it adds from now on would have nobody to run it
            await self._stop(ingest)
            for task in own:
                task.cancel()
        log.info("stopped")

    async def _stop(self, ingest: asyncio.Task[None]) -> None:
        # Who connects from now on waits for the next process, or else is told that there is none.
        self.sessions.stopping = not self.server.hand_back()
        ingest.cancel()
        await asyncio.wait([ingest], timeout=INGEST_STOP_S)
        self.fanout.stop()
        await self.sessions.stop(SESSIONS_STOP_S)
        await self.server.stop()

    def _announce(self) -> None:
        host = self.config.server.host
        shown = f"[{host}]" if ":" in host else host
        log.info("aggregator %s, configured by %s", __version__, self.config.source)
        scheme = "wss" if self.config.server.tls_certificate else "ws"
        log.info("listening on %s://%s:%d/ws", scheme, shown, self.server.port)
        for warning in self.config.warnings:
            log.warning("%s", warning)
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - it is looked up
        url = f"{scheme}://{anywhere.get(host, shown)}:{self.server.port}/ws"
        option = "" if url == "ws://127.0.0.1:8000/ws" else f" --url {url}"
        names = [feed.name for feed in self.config.feeds]
        first = "bitcoinprice" if "bitcoinprice" in names else (*names, "system")[0]
        # Where it is not on the path, as it was called.
        called = sys.argv[0]
        on_path = shutil.which("aggregator") or not called.endswith("/aggregator")
        command = "aggregator" if on_path else called
        log.info("try: %s watch %s%s", command, first, option)
        self._notifier.send(READY="1", STATUS="started")

    # Timers.

    async def _heartbeats(self) -> None:
        now = asyncio.get_running_loop().time
        last = now()
        while True:
            # In steps: a reload may have made it shorter.
            while (left := last + self.sessions.config.heartbeat_s - now()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(min(left, STATUS_S))
            last = now()
            self.hub.publish(self.hub.heartbeat, Heartbeat(), self.hub.now_us())

    async def _pulse(self) -> None:
        """
        Have a flush done when nothing else is published.

        The watchdog is fed by flushes alone; this only makes sure that there are some.
        """
        interval = self._watchdog.interval_s
        while interval:
            await asyncio.sleep(interval)
            self.fanout.wake()

    async def _status(self) -> None:
        """Say how it goes, when that has changed."""
        before = ""
        while True:
            statuses = self.ingest.statuses.values()
            ready = sum(status.ready for status in statuses)
            text = f"{ready} of {len(statuses)} feeds live, {len(self.sessions)} clients"
            if text != before:
                self._notifier.send(STATUS=text)
                before = text
            await asyncio.sleep(STATUS_S)

    async def _forget(self) -> None:
        while True:
            await asyncio.sleep(FORGET_S)
            server = self.sessions.config
            for _ in self.hub.forget_old(server.history_s, server.history_bytes):
                await asyncio.sleep(0)

    # What operators ask.

    def channels(self) -> Iterator[dict[str, object]]:
        """Yield what `GET /channels` shows."""
        now_us = self.hub.now_us()
        connectors = {feed.name: feed.connector for feed in self.ingest.feeds}
        for name, channel in self.hub.channels.items():
            status = self.ingest.statuses.get(name)
            instruments = self.ingest.instruments.get(name)
            values = channel.values()
            yield {
                "channel": name,
                "exchange": channel.exchange or None,
                "connector": connectors.get(name),
                "state": status.state if status else None,
                "since_us": status.since_us if status else None,
                "reason": status.reason if status else None,
                "instruments": sorted(
                    {name for name, slot in channel.slots.items() if slot.last is not None}
                    | (channel.instruments or set())
                )
                if channel.exchange
                else [],
                "not_live": list(instruments.not_live()) if instruments else [],
                "seq": channel.seq,
                "epoch": channel.epoch,
                "age_s": max(0, now_us - values[-1].us) / 1e6 if values else None,
                "subscribers": self.hub.subscribers(channel),
            }

    def unready(self) -> Iterator[dict[str, object]]:
        """Yield the feeds that are not live."""
        for name, status in self.ingest.statuses.items():
            if not status.ready:
                state: State = status.state
                yield {"feed": name, "state": state, "reason": status.reason}


def _listening_at(sockets: Sequence[socket.socket], config: Config) -> Config:
    """Return the configuration with the address that is listened on already, if there is one."""
    if not sockets:
        return config
    host, port = sockets[0].getsockname()[:2]
    server = config.server.model_copy(update={"host": host, "port": port})
    return replace(config, server=server)


def run(config: Config, log_level: str, again: Callable[[], Config] | None = None) -> None:
    """
    Run the daemon until SIGINT or SIGTERM; exits with 69 where it can't listen.

    Args:
        config: the effective configuration.
        log_level: how much to log.
        again: reads the configuration again, for SIGHUP.

    """
    logs.set_up(log_level, secrets=config.secrets())
    with logs.in_background():
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_until_signalled(config, again))
        except ListenError as e:
            log.critical("%s", e)
            sys.exit(EXIT_UNAVAILABLE)
        except Exception:  # as one line with its priority, and without secrets
            log.critical("the daemon has ended by an error", exc_info=True)
            sys.exit(1)


async def _until_signalled(config: Config, again: Callable[[], Config] | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    daemon = Daemon(config, sockets=listening(), again=again, state=state_directory())
    loop.add_signal_handler(signal.SIGHUP, daemon.reload.want)
    with Collector(loop):
        await daemon.run(stop)
