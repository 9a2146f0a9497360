"""Runs one account: keeps it connected, compares it with the venue, and tells its user the news."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import random
import zlib
from collections.abc import Awaitable, Callable, Iterable

import aiohttp

from aggregator.account import READ, AccountConnector, Subscribed, Told, Unsure
from aggregator.connector import UNREADABLE, Ignored, Leaving, Unhandled, unreadable
from aggregator.errors import ConnectorError, PayloadError
from aggregator.model import BalanceUpdate, Event

from .account_ledger import Ledger
from .account_reconciliation import Reconciliation
from .account_status import AccountState, AccountStatus, asked, innermost
from .account_value import valued
from .backoff import Backoff, Uniform
from .failure import LeavingError, UpstreamError, printable

log = logging.getLogger(__name__)

SUBSCRIBE_S = 30.0
"""From the beginning of an attempt until everything is subscribed to."""
DOUBT_S = 5.0
"""Where something may have been missed the venue is asked for everything, but not sooner again."""
MAX_HELD = 10_000
"""Events that wait while the venue is asked for everything."""


class AccountRunner:
    """
    One account; its connector lives as long as it.

    Args:
        connector: speaks with the venue.
        status: how the account is doing.
        publish: takes what is news, and when it arrived, in microseconds since the epoch.
        turn: waits until an attempt is in order.
        sleep: waits between two attempts.
        uniform: the back-off's random numbers.

    """

    def __init__(
        self,
        connector: AccountConnector,
        status: AccountStatus,
        publish: Callable[[Event, int], None],
        turn: Callable[[], Awaitable[object]],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        uniform: Uniform = random.uniform,
    ) -> None:
        self.name = connector.name
        self.status = status
        self.counters = status.counters
        self._connector = connector
        self._options = connector.options
        self._publish = publish
        self._turn = turn
        self._sleep = sleep
        self._backoff = Backoff(self._options.max_backoff_s, uniform=uniform)
        start_us = connector.io.now_us() - round(self._options.lookback_s * 1e6)
        self.ledger = Ledger(self._tell, start_us)
        self._received_us = 0
        self._known = False
        self._imported = not connector.library
        self._permissions_said = False
        # Of one attempt. What comes before everything was compared has to wait for that.
        self._held: list[Event] | None = []
        self._touched: set[str] = set()
        # Assets of which the stream brought a balance since the last comparison, breaks included:
        # a fill of theirs may have been lost, though the balance is known.
        self._stirred: set[str] = set()
        self._subscribed = asyncio.Event()
        self._doubt = asyncio.Event()
        self._moved = asyncio.Event()

    async def run(self) -> None:
        """Keep the account connected until cancelled; then its connection is closed."""
        while True:
            wait_s = await self._once()
            # On Python 3.11 a TaskGroup forgets that it was cancelled if a task of it failed too.
            if (task := asyncio.current_task()) and task.cancelling():
                raise asyncio.CancelledError
            self.counters.reconnects += 1
            await self._sleep(wait_s)

    async def _once(self) -> float:
        """Hold one attempt to its end; return how many seconds to wait before the next."""
        failure: BaseException = UpstreamError("connection lost")
        try:
            await self._attempt()
        # The one broad except of this runner: a bug in one connector must not stop the others.
        except* Exception as group:  # noqa: BLE001
            failure = innermost(group)
        return self.status.failed(failure, self._backoff, was_live=self._held is None)

    async def _attempt(self) -> None:
        if not self._imported:
            await self._import()
        await self._turn()
        self._held, self._touched = [], set()
        for event in (self._subscribed, self._doubt, self._moved):
            event.clear()
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(self._keep_true(), name=f"account {self.name} reconciliation"),
                tasks.create_task(self._keep_valued(), name=f"account {self.name} portfolio"),
            ]
            stream = self._connector.stream(self._take)
            streaming = tasks.create_task(stream, name=f"account {self.name} stream")
            try:
                await asyncio.wait([streaming])
            finally:
                # Before the connection is closed: nobody is to ask over it any more.
                for task in beside:
                    task.cancel()

    async def _import(self) -> None:
        """Import what the connector stands around, beside the loop: it may take seconds."""
        await asyncio.to_thread(importlib.import_module, self._connector.library)
        # ccxt brings another one for the whole process, with twice the memory for a connection.
        aiohttp.set_zlib_backend(zlib)
        self._imported = True

    # What the stream brings.

    def _take(self, outputs: Iterable[Told]) -> None:
        """Take what one frame means: all of it or nothing."""
        self.counters.received += 1
        self._received_us = self._connector.io.now_us()
        try:
            outputs = list(outputs)
        except (PayloadError, *UNREADABLE) as e:
            error = e if isinstance(e, PayloadError) else unreadable(e)
            self.counters.error("payload", str(error))
            # It may have been a fill.
            self._doubt.set()
            text = self.status.clean(str(error))
            log.debug("account %s: unreadable: %s", self.name, printable(text))
            return
        for output in outputs:
            match output:
                case Event():
                    self._take_event(output)
                case Subscribed():
                    self._subscribed.set()
                case Unsure():
                    self._doubt.set()
                case Leaving(reason):
                    raise LeavingError(printable(reason))
                case Ignored(name):
                    self.counters.leave_out(printable(name, 60))
                case Unhandled(name):
                    self._leave(printable(name, 60))

    def _leave(self, name: str) -> None:
        """Count something that nothing is done with, and say so once."""
        known = len(self.counters.unhandled)
        self.counters.ignore(name)
        if len(self.counters.unhandled) > known:
            text = self.status.clean(name)
            log.warning("account %s: nothing is done with: %s", self.name, text)

    def _take_event(self, event: Event) -> None:
        if isinstance(event, BalanceUpdate):
            self._touched.add(event.asset)
            self._stirred.add(event.asset)
        if self._held is None:
            self._enter(event)
        elif len(self._held) < MAX_HELD:
            self._held.append(event)
        else:
            raise UpstreamError(f"{MAX_HELD:,} events came while the state was asked for")

    def _enter(self, event: Event) -> None:
        if self.ledger.take(event) and isinstance(event, BalanceUpdate):
            self._moved.set()

    def _tell(self, event: Event) -> None:
        kind = type(event).__name__
        self.counters.events += 1
        self.counters.told[kind] = self.counters.told.get(kind, 0) + 1
        self._publish(event, self._received_us)

    # Comparing.

    async def _keep_true(self) -> None:
        """Compare with the venue once everything is subscribed to, and again from time to time."""
        try:
            async with asyncio.timeout(SUBSCRIBE_S):
                await self._subscribed.wait()
        except TimeoutError:
            raise UpstreamError(f"not subscribed within {SUBSCRIBE_S:g} s", "timeout") from None
        await self._ask_for_permissions()
        await self._reconcile()
        self._go_live()
        clock = asyncio.get_running_loop().time
        while True:
            compared = clock()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._options.reconcile_s):
                    await self._doubt.wait()
                    await self._sleep(max(0.0, compared + DOUBT_S - clock()))
            self._doubt.clear()
            try:
                await self._reconcile()
            except* (ConnectorError, UpstreamError) as group:
                # The stream goes on, and the venue is asked again.
                self.status.error(innermost(group))

    async def _reconcile(self) -> None:
        asked_us, newest = self._connector.io.now_us(), self.ledger.newest()
        work = Reconciliation(
            self._connector, self.ledger, first=not self._known, sleep=self._sleep
        )
        if self._held is None:
            self._touched.clear()
        stirred, self._stirred = self._stirred, set()
        try:
            await asked(work.ask(stirred))
        except BaseException:
            self._stirred |= stirred
            raise
        self._received_us = self._connector.io.now_us()
        work.tell(self._touched)
        self.ledger.reconciled(asked_us, newest)
        self.counters.reconciliations += 1
        self.counters.unaccounted += len(work.unaccounted)
        if self._known:
            self.counters.recovered += work.told
        self._known = True
        self._moved.set()

    def _go_live(self) -> None:
        """Tell what has waited, and from now on everything at once."""
        held, self._held = self._held or [], None
        for event in held:
            self._enter(event)
        self._backoff.reset()
        self.status.change(AccountState.LIVE, "its state is known")

    async def _ask_for_permissions(self) -> None:
        if self._permissions_said:
            return
        self._permissions_said = True
        if warning := await warning_of(self._connector):
            log.warning("account %s: %s", self.name, warning)

    async def _keep_valued(self) -> None:
        """Tell what the account is worth when a balance has changed."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            balances = self.ledger.balances
            others = sorted(balances.keys() - {self._options.currency})
            try:
                prices = await asked(self._connector.prices(others)) if others else {}
            except* (ConnectorError, UpstreamError) as group:
                self.status.error(innermost(group))
                self._moved.set()
            else:
                self._received_us = self._connector.io.now_us()
                portfolio = valued(
                    balances.values(), prices, self._options.currency, self._received_us
                )
                if portfolio is not None:
                    self.ledger.take(portfolio)
            await asyncio.sleep(self._options.portfolio_s)


async def warning_of(connector: AccountConnector) -> str:
    """Return what a key may do that it need not; empty if it can read alone, or who knows."""
    try:
        permissions = await asked(connector.permissions())
    except* (ConnectorError, UpstreamError):
        # Some keys may not even ask for that.
        permissions = None
    more = sorted((permissions or frozenset()) - {READ})
    return f"its key may {' and '.join(more)}; one that can only read is enough" if more else ""
