"""Accounts at the simulated venues: run, heard by their user, and compared with the truth."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from decimal import Decimal

import pytest

from aggregator import registry, wire
from aggregator.config import Account, Config
from aggregator.hub import Hub
from aggregator.ingest.accounts import Accounts
from aggregator.settings import Server
from aggregator.simulator import Simulator
from aggregator.simulator.keys import named
from aggregator.simulator.wanted import Wanted

USER = 1001
PATIENCE_S = 20
OPEN = ("NEW", "PARTIALLY_FILLED")
VENUES = ["okx", "binance"]
EVERY = [*VENUES, "ccxt-okx", "ccxt-binance"]


def options_of(simulator, kind, key="main", **given):
    """Return the section of an account that is at the simulator."""
    venue = kind.removeprefix("ccxt-")
    known = named(venue, key)
    section = {"user": USER, "api_key": known.api_key, "api_secret": known.secret}
    if known.passphrase:
        section["passphrase"] = known.passphrase
    if kind == "okx":
        section |= {"urls": [simulator.okx_private_url], "base_url": simulator.okx_rest_url}
    elif kind == "binance":
        section |= {"urls": [simulator.binance_ws_api_url], "base_url": simulator.binance_url}
    else:
        section |= {"exchange": venue, "urls": {"api": ccxt_urls(simulator, venue)}}
    return section | given


def ccxt_urls(simulator, venue):
    if venue == "okx":
        return {"rest": simulator.okx_rest_url, "ws": simulator.okx_private_url[: -len("/private")]}
    rest = f"{simulator.binance_url}/api/v3"
    sapi = f"{simulator.binance_url}/sapi/v1"
    ws = {"ws-api": {"spot": simulator.binance_ws_api_url}}
    return {"public": rest, "private": rest, "sapi": sapi, "ws": ws}


def account_of(simulator, kind, name="main", **given):
    """Return a configured account."""
    connector = f"{'ccxt' if kind.startswith('ccxt') else kind}.account"
    cls = registry.load_account(connector)
    return Account(name, connector, cls, cls.options_type(**options_of(simulator, kind, **given)))


class Client:
    """A user's view, built from the messages alone; each may come once, and none go back."""

    size = 1

    def __init__(self, hub, user=USER):
        self.messages = []
        self.orders = {}
        self.fills = {}
        self.balances = {}
        self.portfolio = None
        self._more = asyncio.Event()
        for name in ("orders", "fills", "balances", "portfolio"):
            hub.own(name, user).listeners.add(self)

    def offer(self, message):
        said = json.loads(wire.payload_of(message.frame))
        self.messages.append(said)
        data = said["data"]
        match said["type"]:
            case "order.update":
                before = self.orders.get(data["order_id"])
                if before is not None:
                    assert before["status"] in OPEN, (before, data)
                    assert Decimal(before["filled_quantity"]) <= Decimal(data["filled_quantity"])
                    assert before != data
                self.orders[data["order_id"]] = data
            case "trade":
                assert data["trade_id"] not in self.fills
                self.fills[data["trade_id"]] = data
            case "balance.update":
                before = self.balances.get(data["asset"])
                if before is not None:
                    total = sum(Decimal(before[n]) for n in ("available", "frozen"))
                    now = sum(Decimal(data[n]) for n in ("available", "frozen"))
                    assert Decimal(data["change"]) == now - total
                self.balances[data["asset"]] = data
            case "portfolio.update":
                self.portfolio = data
        self._more.set()

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._more.clear()
                await self._more.wait()

    def of(self, kind):
        return [m for m in self.messages if m["type"] == kind]


class Bench:
    """A running account, its user's client, and the venue's side of it."""

    def __init__(self, simulator, kind, accounts, hub):
        self.simulator = simulator
        self.kind = kind
        self.venue = kind.removeprefix("ccxt-")
        self.accounts = accounts
        self.hub = hub
        self.client = Client(hub)
        self.status = accounts.statuses["main"]
        self.engine = simulator.engine
        self.truth = self.engine.accounts.of(self.venue, "main")

    def place(
        self, side="buy", size="0.1", price=None, *, held=True, instrument="BTC/USDT", **more
    ):
        one = self.engine.instrument(self.venue, instrument)
        given = {"price": None if price is None else Decimal(price), "held": held and bool(price)}
        given["size"] = None if size is None else Decimal(size)
        given |= {"type": "limit" if price else "market"} | more
        return self.engine.place(self.truth, Wanted(instrument=one, side=side, **given))

    def fill(self, order, size=None):
        return self.engine.fill(self.truth, order, None if size is None else Decimal(size))

    def agrees(self):
        """Return what of the client's view is not as it truly is; empty if nothing."""
        return [*self._orders_differ(), *self._fills_differ(), *self._balances_differ()]

    def _orders_differ(self):
        for order in self.truth.open.values():
            told = self.client.orders.get(str(order.id))
            if told is None or told["status"] not in OPEN:
                yield ("not open", order.id, told)
        for told in self.client.orders.values():
            true = self.truth.find(int(told["order_id"]), "")
            given = (Decimal(told["filled_quantity"]), told["status"] in OPEN)
            if given != (true.filled, true.working):
                yield ("order", told, true.describe())
            if true.filled and told["avg_price"]:
                error = abs(Decimal(told["avg_price"]) / true.average() - 1)
                yield from [("average", told)] if error > Decimal("1e-7") else []

    def _fills_differ(self):
        true_fills = {str(fill.id): fill for fill in self.truth.fills}
        if missing := true_fills.keys() - self.client.fills.keys():
            yield ("fills missing", sorted(missing))
        for key, told in self.client.fills.items():
            true = true_fills[key]
            given = (told["order_id"], told["symbol"], told["side"], told["fee_asset"])
            given += tuple(Decimal(told[name]) for name in ("price", "quantity", "fee"))
            name = f"{true.instrument.base}/{true.instrument.quote}"
            real = (str(true.order_id), name, true.side.upper(), true.fee_currency)
            if given != (*real, true.price, true.size, true.fee):
                yield ("fill", told, true.describe())

    def _balances_differ(self):
        for asset, true in self.truth.balances.items():
            told = self.client.balances.get(asset, {"available": "0", "frozen": "0"})
            have = tuple(Decimal(told[name]) for name in ("available", "frozen"))
            if have != (true.available, true.frozen):
                yield ("balance", asset, told, str(true))

    async def settled(self):
        """Wait until the client's view is the truth, and check that."""
        try:
            await self.client.until(lambda: not self.agrees())
        except TimeoutError:
            raise AssertionError(self.agrees()) from None

    async def reached(self, state):
        async with asyncio.timeout(PATIENCE_S):
            while self.status.state != state:  # noqa: ASYNC110 - nobody is told of states
                await asyncio.sleep(0.005)

    async def live(self):
        await self.reached("live")


@asynccontextmanager
async def running(kind="okx", **given):
    """Run an account at a simulated venue; afterwards nothing of it is left."""
    # What Binance allows in a minute the tests of kills use up in a second.
    async with (
        Simulator(ticks_per_s=0, binance_weight_limit=10**9) as simulator,
        running_at(simulator, kind, **given) as bench,
    ):
        yield bench


@asynccontextmanager
async def running_at(simulator, kind, **given):
    """Run an account at the venue of this simulator."""
    hub = Hub()
    account = account_of(simulator, kind, **given)
    config = Config("test", Server(), (), accounts=(account,))
    accounts = Accounts(hub, config, Undelayed())
    bench = Bench(simulator, kind, accounts, hub)
    before = asyncio.all_tasks()
    task = asyncio.create_task(accounts.run())
    try:
        yield bench
    finally:
        task.cancel()
        async with asyncio.timeout(3):
            with pytest.raises(asyncio.CancelledError):
                await task
    for _ in range(5):
        await asyncio.sleep(0)
    # Not the simulator's own.
    left = {t for t in asyncio.all_tasks() - before if "aiohttp/web_" not in repr(t)}
    assert left == set(), left


class Undelayed:
    """A limiter of attempts that limits nothing."""

    class Turn:
        def made(self):
            pass

    async def turn(self, host):
        return self.Turn()
