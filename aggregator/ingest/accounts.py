"""All accounts of the daemon: their states, and the tasks that run them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial

import aiohttp
from yarl import URL

from aggregator.account import AccountConnector, LoginError, NativeOptions, lacks
from aggregator.config import Account, Config
from aggregator.errors import UnusableError
from aggregator.hub import Hub
from aggregator.model import Event

from .account_io import AccountIo
from .account_runner import AccountRunner, warning_of
from .account_status import AccountState, AccountStatus
from .dial import DialLimiter
from .fetch import new_session

log = logging.getLogger(__name__)

MASK = "********"
REQUESTS = 8
"""Of one account at the same time, its WebSocket included."""
CHECK_S = 10.0
PART = 4
"""So many characters of a secret, at the end of a text that was cut, are too many."""


class Accounts:
    """
    The users' accounts at venues.

    Args:
        hub: publishes what is news to its user.
        config: has the accounts.
        dial: spreads out the attempts of everybody to connect.

    Attributes:
        statuses: how each account is doing, by its name.

    """

    def __init__(self, hub: Hub, config: Config, dial: DialLimiter | None = None) -> None:
        self._hub = hub
        self._accounts = config.accounts
        self._dial = dial or DialLimiter()
        clean = cleaner(config.secrets())
        self.statuses = {a.name: AccountStatus(a.name, clean) for a in config.accounts}

    async def run(self) -> None:
        """Run every account until cancelled; then connections are closed."""
        async with (
            new_session(max(1, len(self._accounts)) * REQUESTS) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for account in self._accounts:
                status = self.statuses[account.name]
                try:
                    connector = connector_of(account, http)
                except UnusableError as e:
                    refused = isinstance(e, LoginError)
                    state = AccountState.REFUSED if refused else AccountState.DOWN
                    status.change(state, str(e))
                    continue
                publish = partial(self._publish, connector.options.user)
                turn = partial(self._dial.turn, _host(connector))
                runner = AccountRunner(connector, status, publish, turn)
                tasks.create_task(runner.run(), name=f"account {account.name}")

    def _publish(self, user_id: int, event: Event, received_us: int) -> None:
        self._hub.publish_private(user_id, event, received_us)


def _host(connector: AccountConnector) -> str:
    """Return whose limit on connections an account is under."""
    options = connector.options
    url = options.urls[0] if isinstance(options, NativeOptions) else ""
    return URL(url).host or connector.exchange_of(options)


def cleaner(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that takes secrets out of a text, the last one also if it is cut off."""
    known = sorted(secrets, key=len, reverse=True)

    def clean(text: str) -> str:
        for secret in known:
            text = text.replace(secret, MASK)
        beginnings = (s[:size] for s in known for size in range(len(s) - 1, PART - 1, -1))
        cut = next((part for part in beginnings if text.endswith(part)), "")
        return text.removesuffix(cut) + MASK if cut else text

    return clean


def connector_of(account: Account, http: aiohttp.ClientSession) -> AccountConnector:
    """
    Return the connector of an account, which has yet to connect.

    Raises:
        UnusableError: it is broken, or something is not installed that it needs.

    """
    if account.cls is None or account.options is None:
        raise UnusableError(account.problem)
    if problem := lacks(account.cls):
        raise UnusableError(problem)
    io = AccountIo(account.cls.exchange_of(account.options), account.options, http)
    try:
        return account.cls(account.name, account.options, io)
    except UnusableError:
        raise
    except Exception as e:  # somebody else's code, before there is a runner around it
        log.exception("account %s can't be started", account.name)
        raise UnusableError(f"unexpected error: {type(e).__name__}") from None


async def warnings(config: Config) -> list[str]:
    """Ask the venues what the keys may do; return what is to be said of it. It takes seconds."""
    async with new_session(max(1, len(config.accounts)) * REQUESTS) as http:
        work = (_warning(account, http) for account in config.accounts)
        return [warning for warning in await asyncio.gather(*work) if warning]


async def _warning(account: Account, http: aiohttp.ClientSession) -> str:
    try:
        async with asyncio.timeout(CHECK_S):
            warning = await warning_of(connector_of(account, http))
    except (UnusableError, TimeoutError):
        # What is wrong with it is said elsewhere; that nobody answers is no fault of the file.
        warning = ""
    return f"accounts.{account.name}: {warning}" if warning else ""
