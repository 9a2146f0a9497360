"""The runner of accounts, with a connector that does what a test says."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager

import pytest
from ingest.account_scripts import Script
from ingest.test_accounts_ledger import balance, fill, order

from aggregator.account import (
    AccountConnector,
    AccountOptions,
    LoginError,
    Subscribed,
    Unsure,
)
from aggregator.config import Account, Config
from aggregator.connector import Ignored, Leaving, Unhandled
from aggregator.errors import ExchangeError, PayloadError, ThrottledError, UnreachableError
from aggregator.hub import Hub
from aggregator.ingest import account_runner
from aggregator.ingest.account_runner import AccountRunner
from aggregator.ingest.account_status import AccountState, AccountStatus
from aggregator.ingest.accounts import Accounts, cleaner
from aggregator.ingest.failure import RateLimitedError, RefusedError, UpstreamError
from aggregator.settings import Server

SECRET = "planted-secret"
PATIENCE_S = 10


class Venue(AccountConnector):
    """Does the next of `acts` in each attempt, then waits; answers what it is told to."""

    exchange = "fake"
    options_type = AccountOptions

    def __init__(self, *acts, **options):
        given = {"user": 1, "portfolio_s": 0.01} | options
        super().__init__("main", AccountOptions(**given), Script())
        self.acts = list(acts)
        self.attempts = self.streams = self.asked = 0
        self.orders, self.states, self.found, self.held = [], {}, [], []
        self.fills_by_order = {}
        self.may = frozenset({"read"})
        self.price = {}
        self.failures = []

    async def stream(self, tell):
        self.attempts += 1
        self.streams += 1
        try:
            if self.acts:
                await self.acts.pop(0)(tell)
            else:
                tell([Subscribed()])
            await asyncio.Event().wait()
        finally:
            self.streams -= 1

    async def open_orders(self):
        self.asked += 1
        if self.failures:
            raise self.failures.pop(0)
        return list(self.orders)

    async def order(self, symbol, order_id):
        return self.states.get(order_id)

    async def fills(self, since):
        return [each for each in self.found if each.traded_us >= since.us]

    async def fills_of(self, symbol, order_id):
        answers = self.fills_by_order.get(order_id, [[]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async def balances(self):
        return list(self.held)

    async def permissions(self):
        if isinstance(self.may, Exception):
            raise self.may
        return self.may

    async def prices(self, assets):
        if isinstance(self.price, Exception):
            raise self.price
        return self.price


class AccountBench:
    """A runner. Its sleeps are noted, and take no time."""

    def __init__(self, venue):
        self.venue = venue
        self.told = []
        self.status = AccountStatus("main", cleaner([SECRET]))
        self.sleeps = []
        self.runner = AccountRunner(
            venue,
            self.status,
            lambda event, _: self.told.append(event),
            lambda: asyncio.sleep(0),
            sleep=self._sleep,
            uniform=lambda low, high: high,
        )
        self.counters = self.status.counters
        self.stop_at_sleep = False

    async def _sleep(self, seconds):
        self.sleeps.append(seconds)
        await (asyncio.Event().wait() if self.stop_at_sleep else asyncio.sleep(0))

    @asynccontextmanager
    async def running(self):
        before = asyncio.all_tasks()
        task = asyncio.create_task(self.runner.run())
        try:
            yield self
        finally:
            task.cancel()
            async with asyncio.timeout(1):
                with pytest.raises(asyncio.CancelledError):
                    await task
        assert self.venue.streams == 0
        assert asyncio.all_tasks() - before == set()

    async def live(self):
        await passes(lambda: self.status.state is AccountState.LIVE)

    async def to_the_end(self):
        """Run until the first attempt has ended."""
        self.stop_at_sleep = True
        async with self.running():
            await passes(lambda: self.sleeps)


async def passes(condition):
    """Let everybody have their turns until this holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - turns are what is counted here
            await asyncio.sleep(0)


def fails(error, *outputs):
    async def act(tell):
        if outputs:
            tell(outputs)
        raise error

    return act


def says(*frames):
    async def act(tell):
        tell([Subscribed()])
        for frame in frames:
            tell(frame)

    return act


async def test_the_state_at_the_start():
    """What is open and what there is; of fills those since the start of the time looked back."""
    venue = Venue(lookback_s=10)
    now_us = venue.io.now_us()
    venue.orders, venue.held = [order(at=now_us)], [balance(), balance("0", asset="ETH")]
    bench = AccountBench(venue)
    venue.found = [
        fill("old", at=1),
        fill("new", at=bench.runner.ledger.since(frozenset(), None).us),
    ]
    async with bench.running():
        await bench.live()
        assert bench.told[:3] == [venue.found[1], venue.orders[0], venue.held[0]]
    assert (bench.counters.reconciliations, bench.counters.recovered) == (1, 0)


async def test_what_comes_while_the_state_is_asked_for():
    """It waits, and then only what is news of it is told; balances of the stream go before."""

    async def act(tell):
        tell([order("PARTIALLY_FILLED", "0.1", at=5)])
        tell([balance("5", at=5)])
        tell([Subscribed()])
        tell([fill("2", at=6), order("PARTIALLY_FILLED", "0.2", at=6)])

    venue = Venue(act)
    venue.orders = [order("PARTIALLY_FILLED", "0.2", at=6)]
    venue.held = [balance("4", at=4), balance("7", asset="ETH")]
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        assert bench.told == [
            venue.orders[0],
            venue.held[1],
            balance("5", at=5),
            fill("2", at=6),
        ]


async def test_what_was_missed():
    """Fills in their order, each before the state it led to; vanished orders by their end."""
    venue = Venue()
    venue.orders = [order(), order(order_id="o2"), order(order_id="o3")]
    bench = AccountBench(venue)
    late_us = bench.runner.ledger.since(frozenset(), None).us + 10**9

    async def cut(tell):
        tell([Subscribed()])
        await lose.wait()
        raise UnreachableError("lost")

    lose = asyncio.Event()
    venue.acts = [cut]
    async with bench.running():
        await bench.live()
        before = len(bench.told)
        gone = order("CANCELED", "0.3", at=late_us + 40, order_id="o2")
        venue.orders = [order("PARTIALLY_FILLED", "0.2", at=late_us + 20)]
        venue.states = {"o2": gone}
        venue.found = [
            fill("9", "0.3", at=late_us + 30, order_id="o2"),
            fill("10", at=late_us + 20),
            fill("8", at=late_us + 10),
        ]
        lose.set()
        await passes(lambda: len(bench.told) >= before + 6)
        told = bench.told[before:]
        found = venue.found
        ended = order("CANCELED", order_id="o3")
        assert told == [ended, found[2], found[1], venue.orders[0], found[0], gone]
    assert bench.counters.recovered == 6
    assert bench.counters.errors == {"connection": 1}


async def test_a_vanished_order_that_nobody_knows():
    """With all of it filled it was filled; else it was cancelled."""
    venue = Venue()
    venue.orders = [order(), order(order_id="o2")]
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        start = bench.runner.ledger.since(frozenset(), None).us
        venue.orders, venue.found = [], [fill("1", "1.00", at=start, order_id="o2")]
        bench.runner._doubt.set()
        await passes(lambda: len(bench.told) >= 5)
        states = {each.order_id: each.status for each in bench.told if hasattr(each, "status")}
        assert states == {"o1": "CANCELED", "o2": "FILLED"}


async def test_fills_that_an_answer_is_behind_with():
    """They are asked for by the order, again after a pause, since its sum tells that they lack."""
    venue = Venue()
    venue.orders = [order()]
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        venue.orders = [order("PARTIALLY_FILLED", "0.2", at=9)]
        venue.fills_by_order = {"o1": [[fill("1")], [fill("1"), fill("2")]]}
        bench.runner._doubt.set()
        await passes(lambda: len(bench.told) >= 4)
        assert bench.told[1:] == [fill("1"), fill("2"), venue.orders[0]]
    assert bench.counters.unaccounted == 0
    assert [s for s in bench.sleeps if s in {0.0, 0.5, 2.0}] == [0.0, 0.5]


async def test_fills_that_nobody_has(caplog):
    """It is said once, counted, and not asked for again and again."""
    venue = Venue()
    venue.orders = [order()]
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        venue.orders = [order("PARTIALLY_FILLED", "0.2", at=9)]
        for number in (2, 3):
            bench.runner._doubt.set()
            await passes(lambda n=number: bench.counters.reconciliations >= n)
    assert bench.counters.unaccounted == 1
    assert len([r for r in caplog.records if "are missing" in r.message]) == 1


async def test_assets_that_are_gone():
    """What an answer has no more is nought."""
    venue = Venue()
    venue.held = [balance("5")]
    bench = AccountBench(venue)
    async with bench.running():
        await bench.live()
        venue.held = []
        bench.runner._doubt.set()
        await passes(lambda: any(getattr(e, "change", None) == "-5" for e in bench.told))


@pytest.mark.parametrize(
    ("error", "state", "kind", "wait"),
    [
        (LoginError("60005: Invalid apiKey"), "refused", "login", 60.0),
        (ExchangeError("no such channel"), "down", "exchange", 1.0),
        (UnreachableError("can't connect"), "down", "connection", 1.0),
        (UpstreamError("no pong", "timeout"), "down", "timeout", 1.0),
        (RefusedError("HTTP 451", "http"), "down", "http", 60.0),
        (PayloadError("odd"), "down", "payload", 1.0),
        (ThrottledError("too many", 30.0), "limited", "rate_limited", 30.0),
        (RateLimitedError("HTTP 429", 7.0), "limited", "rate_limited", 7.0),
        (Leaving, "down", "connection", 1.0),
        (RuntimeError("a bug"), "down", "unexpected", 1.0),
    ],
)
async def test_ends_of_an_attempt(error, state, kind, wait, caplog):
    """Each has its state, its kind and its wait; a bug has a traceback."""
    act = fails(RuntimeError, Leaving("soon")) if error is Leaving else fails(error)
    bench = AccountBench(Venue(act))
    await bench.to_the_end()
    assert (bench.status.state, bench.counters.errors) == (state, {kind: 1})
    assert bench.sleeps == [wait]
    assert any(r.exc_info for r in caplog.records) == (kind == "unexpected")


async def test_no_secret_in_what_is_said(caplog):
    """A venue that repeats a key in its error does not get it into log or state."""
    bench = AccountBench(Venue(fails(LoginError(f"the key {SECRET} is not known"))))
    caplog.set_level(logging.DEBUG)
    await bench.to_the_end()
    assert bench.status.reason == "the key ******** is not known"
    assert SECRET not in caplog.text + bench.counters.last_error.text
    assert "account main is refused" in caplog.text


async def test_a_venue_that_leaves():
    """It is connected to again at once."""
    bench = AccountBench(Venue())

    async def leave(tell):
        tell([Subscribed()])
        await go.wait()
        tell([Leaving("upgrade")])

    go = asyncio.Event()
    bench.venue.acts = [leave]
    async with bench.running():
        await bench.live()
        go.set()
        await passes(lambda: bench.counters.reconciliations == 2)
    assert bench.sleeps[0] == 0.0
    assert bench.counters.errors == {}


async def test_back_off_grows_until_everything_is_compared():
    """What comes before that proves little."""
    lost = UnreachableError("lost")
    acts = [fails(lost), fails(lost, order()), fails(lost, Ignored("x"))]
    bench = AccountBench(Venue(*acts))
    async with bench.running():
        await bench.live()
    assert bench.sleeps == [1.0, 2.0, 4.0]
    assert bench.counters.reconnects == 3


async def test_a_turn(monkeypatch):
    """An attempt waits for its turn, however long that takes; that is no time of the venue's."""
    monkeypatch.setattr(account_runner, "SUBSCRIBE_S", 0.01)
    bench, turns = AccountBench(Venue()), []

    async def turn():
        turns.append(bench.venue.attempts)
        await asyncio.sleep(0.03)

    bench.runner._turn = turn
    async with bench.running():
        await bench.live()
    assert (turns, bench.counters.errors) == ([0], {})


async def test_nobody_subscribes(monkeypatch):
    """A venue that does not confirm is given up."""
    monkeypatch.setattr(account_runner, "SUBSCRIBE_S", 0.01)
    bench = AccountBench(Venue(fails(asyncio.CancelledError)))

    async def wait(_):
        await asyncio.Event().wait()

    bench.venue.acts = [wait]
    await bench.to_the_end()
    assert bench.counters.errors == {"timeout": 1}


async def test_too_much_while_the_state_is_asked_for(monkeypatch):
    """What waits is bounded."""
    monkeypatch.setattr(account_runner, "MAX_HELD", 2)
    bench = AccountBench(Venue(says([order(), order("FILLED", "1.0"), fill()])))
    await bench.to_the_end()
    assert "2 events came" in bench.status.reason


@pytest.mark.parametrize("doubt", ["unreadable", "unsure"])
async def test_doubts(doubt):
    """After an unreadable frame, or when a connector asks for it, everything is compared."""

    def unreadable():
        yield fill("never")
        raise KeyError("no such")

    bench = AccountBench(Venue(says(unreadable() if doubt == "unreadable" else [Unsure()])))
    async with bench.running():
        await passes(lambda: bench.counters.reconciliations == 2)
        assert bench.venue.attempts == 1
    assert bench.told == []
    assert bench.counters.errors == ({"payload": 1} if doubt == "unreadable" else {})


async def test_a_later_comparison_that_fails():
    """The stream goes on, and the venue is asked again."""
    bench = AccountBench(Venue(reconcile_s=0.01))
    async with bench.running():
        await bench.live()
        bench.venue.failures = [ExchangeError("busy"), KeyError("odd")]
        await passes(lambda: bench.counters.reconciliations >= 3)
        assert bench.venue.attempts == 1
    assert bench.counters.errors == {"exchange": 1, "payload": 1}


@pytest.mark.parametrize(
    ("may", "warning"),
    [
        (frozenset({"read"}), None),
        (None, None),
        (ExchangeError("not for you"), None),
        (frozenset({"read", "trade"}), "its key may trade; one that can only read is enough"),
        (frozenset({"trade", "withdraw"}), "its key may trade and withdraw"),
    ],
)
async def test_permissions(may, warning, caplog):
    """A key that may more than it need is warned about, once, and used."""
    bench = AccountBench(Venue(says([Leaving("x")]), says()))
    bench.venue.may = may
    async with bench.running():
        await bench.live()
    said = [r.message for r in caplog.records if "its key may" in r.message]
    assert len(said) == (warning is not None)
    assert not warning or warning in said[0]


async def test_the_portfolio():
    """It is told when a balance has changed, and not with prices that could not be had."""
    bench = AccountBench(Venue(says([Unhandled("x")])))
    bench.venue.held = [balance("2"), balance("5", asset="USDT")]
    bench.venue.price = ExchangeError("busy")
    async with bench.running():
        await passes(lambda: bench.counters.errors.get("exchange", 0) > 1)
        assert "PortfolioUpdate" not in bench.counters.told
        bench.venue.price = {"BTC": "100.5"}
        await passes(lambda: "PortfolioUpdate" in bench.counters.told)
        assert bench.told[-1].total_asset == "206"


# All of them.


def config_of(*accounts):
    return Config("test", Server(), (), accounts=accounts)


class Broken(Venue):
    """It can't even be made."""

    def __init__(self, name, options, io):
        raise RuntimeError("a bug")


class Foreign(Broken):
    """It needs what is not installed."""

    library = "no_such_library.pro"
    install = "no-such-library"


@pytest.mark.parametrize(
    ("cls", "reason"),
    [
        (Broken, "unexpected error: RuntimeError"),
        (Foreign, 'needs no_such_library, which is not installed: pip install "no-such-library"'),
        (None, "no module"),
    ],
)
async def test_an_account_that_can_not_be_run(cls, reason):
    """It is down, and says why; others and the daemon go on."""
    options = AccountOptions(user=1) if cls else None
    account = Account("main", "x.account", cls, options, "" if cls else "no module")
    accounts = Accounts(Hub(), config_of(account))
    await accounts.run()
    assert (accounts.statuses["main"].state, accounts.statuses["main"].reason) == ("down", reason)
