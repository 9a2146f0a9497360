"""
SIGHUP: going over to another configuration while clients and feeds go on.

Only what is different is touched. A configuration that can't be used changes nothing, and the log
says why; so it does of what needs a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from .config import Config
from .errors import ConfigError
from .gateway.fanout import Fanout
from .gateway.sessions import Sessions
from .ingest.feeds import Ingest
from .settings import Server
from .telemetry import logs
from .telemetry.systemd import Notifier
from .tokens import Keyring

log = logging.getLogger(__name__)

AT_START = ("host", "port", "max_frame_bytes", "history_messages", "publish_channels")
"""Keys of `[server]` that are read at the start alone."""


class Reload:
    """
    Goes over to another configuration, whenever it is wanted.

    Args:
        config: what holds at the start.
        again: reads the configuration again, if there is one; in a thread, since files and
            connectors may take long.
        keyring: the tokens.
        sessions: the clients, with `[server]` as it holds now.
        fanout: the flush window.
        ingest: the feeds.
        notifier: tells systemd.
        renew: reads the certificate again; raises ConfigError where that can't be used.

    """

    def __init__(  # noqa: PLR0917 - what can change
        self,
        config: Config,
        again: Callable[[], Config] | None,
        keyring: Keyring,
        sessions: Sessions,
        fanout: Fanout,
        ingest: Ingest,
        notifier: Notifier,
        renew: Callable[[Server], None],
    ) -> None:
        self._config = config
        self._at_start = config.server
        self._again = again
        self._keyring = keyring
        self._sessions = sessions
        self._fanout = fanout
        self._ingest = ingest
        self._notifier = notifier
        self._renew = renew
        self._wanted = asyncio.Event()

    def want(self) -> None:
        """Have it read soon; while it is being read, once more."""
        self._wanted.set()

    async def run(self) -> None:
        """Reload whenever it is wanted, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            # sd_notify(3): systemd wants to know when it began.
            began = str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
            self._notifier.send(RELOADING="1", MONOTONIC_USEC=began)
            try:
                await self._read()
            except ConfigError as e:
                log.error("the configuration is not taken over: %s", e)  # noqa: TRY400 - it is told
            self._notifier.send(READY="1")

    async def _read(self) -> None:
        if self._again is not None:
            await self._go_over(await asyncio.to_thread(self._again))
            return
        self._renew(self._config.server)
        log.info("SIGHUP: the certificate is read again, if there is one; no configuration is")

    async def _go_over(self, config: Config) -> None:
        # What can fail comes first.
        self._check_names(config)
        self._renew(config.server)
        logs.hide(config.secrets())
        self._keyring.replace(config.tokens, config.users, config.jwt)
        log.info("tokens read again: %d keys", len(config.tokens))
        left = self._limits(config.server)
        if config.accounts != self._config.accounts:
            left.append("accounts")
            config = replace(config, accounts=self._config.accounts)
        await self._ingest.reload(config, self._sessions.dismiss)
        self._config = config
        for warning in config.warnings:
            log.warning("%s", warning)
        if left:
            log.warning("to take effect these need a restart: %s", ", ".join(left))
        log.info("configuration read again, from %s", config.source)

    def _check_names(self, config: Config) -> None:
        """Refuse a feed whose channel is one of `publish_channels` until the next start."""
        names = {feed.name for feed in config.feeds}
        if taken := sorted(names.intersection(self._sessions.config.publish_channels)):
            text = "until a restart its channel is one of server.publish_channels"
            raise ConfigError(f"{config.source}: feeds.{taken[0]}: {text}")

    def _limits(self, server: Server) -> list[str]:
        """Go over to another `[server]`; return the keys that stay as they are, and should not."""
        present, read = self._sessions.config, self._at_start
        different = [key for key in AT_START if getattr(server, key) != getattr(read, key)]
        kept = {key: getattr(present, key) for key in AT_START}
        self._sessions.reconfigure(server.model_copy(update=kept))
        self._fanout.window_s = server.flush_window_s
        return [f"server.{key}" for key in different]
