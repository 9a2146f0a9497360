"""How an account is doing, and what is counted of it: for the log and the metrics, nobody else."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TypeVar

from aggregator.account import LoginError
from aggregator.connector import UNREADABLE, unreadable
from aggregator.errors import ConnectorError, ThrottledError

from .backoff import Backoff
from .counters import MAX_NAMES, OTHER, FeedCounters
from .failure import (
    LeavingError,
    RateLimitedError,
    RefusedError,
    UpstreamError,
    kind_of,
    printable,
    retry_after_s,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


class AccountState(StrEnum):
    """How an account is doing; `REFUSED`: the venue does not accept the key."""

    CONNECTING = "connecting"
    LIVE = "live"
    DOWN = "down"
    LIMITED = "limited"
    REFUSED = "refused"


class AccountCounters(FeedCounters):
    """
    What is counted of an account, besides what is counted of every feed.

    `told` events by their kind, `recovered` those that were missed and found, `reconciliations`,
    `unaccounted` orders with fills that the venue does not tell.
    """

    __slots__ = ("reconciliations", "recovered", "told", "unaccounted")

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, int] = {}
        self.recovered = 0
        self.reconciliations = 0
        self.unaccounted = 0

    def ignore(self, name: str) -> None:
        """Count something that the connector has no use for."""
        if name not in self.unhandled and len(self.unhandled) >= MAX_NAMES:
            name = OTHER
        self.unhandled[name] = self.unhandled.get(name, 0) + 1


class AccountStatus:
    """
    The state of one account.

    Args:
        name: the account's.
        clean: takes secrets out of a text.

    """

    def __init__(self, name: str, clean: Callable[[str], str] = str) -> None:
        self.name = name
        self.clean = clean
        self.state = AccountState.CONNECTING
        self.reason = "not connected yet"
        self.counters = AccountCounters()

    def failed(self, failure: BaseException, backoff: Backoff, *, was_live: bool) -> float:
        """Take the end of an attempt for a state; return how many seconds to wait for the next."""
        if isinstance(failure, LeavingError) and was_live:
            self.change(AccountState.CONNECTING, str(failure))
            return 0.0
        self.error(failure)
        if isinstance(failure, RateLimitedError | ThrottledError):
            told_s = failure.retry_after_s
            self.change(AccountState.LIMITED, str(failure))
            return max(retry_after_s({}) if told_s is None else told_s, backoff.next())
        if isinstance(failure, LoginError):
            self.change(AccountState.REFUSED, str(failure))
        elif isinstance(failure, UpstreamError | ConnectorError):
            self.change(AccountState.DOWN, str(failure))
        elif self.change(AccountState.DOWN, f"unexpected error: {type(failure).__name__}"):
            log.error("account %s: unexpected error", self.name, exc_info=failure)
        is_final = isinstance(failure, LoginError | RefusedError)
        return backoff.longest() if is_final else backoff.next()

    def error(self, failure: BaseException) -> None:
        """Count a failure."""
        kind = "login" if isinstance(failure, LoginError) else kind_of(failure)
        self.counters.error(kind, self.clean(str(failure)))

    def change(self, state: AccountState, reason: str) -> bool:
        """Take another state, and say so in the log, once; return whether it is another."""
        changed = state is not self.state
        self.state, self.reason = state, printable(self.clean(reason))
        if changed:
            good = state in {AccountState.LIVE, AccountState.CONNECTING}
            level = logging.INFO if good else logging.WARNING
            log.log(level, "account %s is %s: %s", self.name, state, self.reason)
        return changed


async def asked(answer: Awaitable[T]) -> T:
    """
    Return what a connector has asked its venue for.

    Raises:
        PayloadError: it has not the documented shape.

    """
    try:
        return await answer
    except* UNREADABLE as group:
        raise unreadable(innermost(group)) from None


def innermost(error: BaseException) -> Exception:
    """Return the first exception of a group, or the exception that is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if not isinstance(error, Exception):
        raise error
    return error
