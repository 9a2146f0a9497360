"""
An account at any exchange: what ccxt's `watch_orders`, `watch_my_trades` and `watch_balance` bring.

https://docs.ccxt.com/#/README?id=order-structure

As with feeds, nothing is taken from what those calls return: of what comes together that would be
a part. What an exchange can't stream is asked for every `interval_s`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from aggregator import api

from .account_pages import for_each, open_orders, strict, trades
from .account_shapes import account_of, fill_of, order_of
from .exchange import closed, opened, with_markets
from .failures import call, meaning
from .options import ExchangeName, WithoutKeys

WATCHING = ("watchOrders", "watchMyTrades", "watchBalance")
NEEDED = ("fetchBalance", "fetchOpenOrders", "fetchOrder", "fetchMyTrades")
SETTLE_S = 1.0
"""ccxt does not tell when a subscription is confirmed: so long after the first frame it should."""
SILENT_S = 5.0
"""After this there need be no frame."""
AGAIN_S = 1.0
"""From one `watch_*` to the next; it subscribes again if need be, and raises what went wrong."""
SURE_S = 5.0
"""After this the state is asked for once more, since the first time may have been too early."""


class Options(api.AccountOptions):
    """What the section of a `ccxt.account` may contain."""

    exchange: ExchangeName
    """The exchange, by its name in ccxt, as "kraken"."""
    api_key: api.Secret
    """The key; one that can only read is enough."""
    api_secret: api.Secret
    """The secret that requests are signed with."""
    passphrase: api.Secret | None = None
    """What some exchanges want besides; ccxt calls it password."""
    instruments: list[api.Instrument] = api.Field(default=[])
    """Whose orders and fills are asked for, at exchanges that tell of one at a time alone."""
    interval_s: api.Seconds = 10.0
    """How often the exchange is asked for what it can't stream."""
    timeout_s: api.Seconds = 8.0
    """How long one answer may take, whole."""
    sandbox: bool = False
    """Whether to use the exchange's test environment, if it has one."""
    urls: dict[str, Any] = api.Field(default={})
    """Other addresses of the exchange, as ccxt's `urls`."""
    ccxt_options: Annotated[dict[str, Any], WithoutKeys] = api.Field(default={})
    """What else ccxt's exchange takes when it is made, as `{options = {...}}`; no keys."""


class Account(api.AccountConnector):
    """Orders, fills and balances of one account."""

    exchange = "ccxt"
    options_type = Options
    library = "ccxt.pro"
    install = "exchange-aggregator[ccxt]"
    hears: Literal["resolved"] = "resolved"
    options: Options

    def __init__(self, name: str, options: api.AccountOptions, io: api.Io) -> None:
        super().__init__(name, options, io)
        self.ccxt: Any = None
        self._markets: Any = None
        self._tell: api.Tell
        self._lost: asyncio.Future[BaseException]
        self._spoken: asyncio.Event
        # What was put into ccxt's caches, and not told yet.
        self._new: list[Any] = []
        self._had: dict[str, tuple[str, str]] = {}

    @classmethod
    def exchange_of(cls, options: api.AccountOptions) -> str:
        """Return the exchange's name in ccxt."""
        return options.exchange if isinstance(options, Options) else cls.exchange

    # The stream.

    async def stream(self, tell: api.Tell) -> None:
        """Open the exchange, and tell what it hears until it is lost."""
        self._tell, self._lost = tell, asyncio.get_running_loop().create_future()
        self._spoken = asyncio.Event()
        self._new.clear()
        self._had.clear()
        options: Any = self.options
        self.ccxt = opened(options, self)
        try:
            if self._markets is None:
                self._markets = await with_markets(options)
            self._prepare()
            missing = [name for name in WATCHING if not self.ccxt.has.get(name)]
            async with asyncio.TaskGroup() as tasks:
                for name in WATCHING:
                    if name not in missing:
                        tasks.create_task(self._watch(_snake(name)), name=f"ccxt {name}")
                tasks.create_task(self._pace(polls=bool(missing)), name="ccxt pace")
                # Not left to the group: on Python 3.11 it forgets then that its task goes on.
                raise self._meaning(await self._lost)
        finally:
            await closed(self.ccxt)

    def _prepare(self) -> None:
        exchange, options = self.ccxt, self.options
        exchange.set_markets_from_exchange(self._markets)
        if lacks := [name for name in NEEDED if not exchange.has.get(name)]:
            raise api.UnusableError(f"ccxt has no {', '.join(lacks)} of {options.exchange}")
        exchange.apiKey = options.api_key.get_secret_value()
        exchange.secret = options.api_secret.get_secret_value()
        exchange.password = options.passphrase and options.passphrase.get_secret_value()
        exchange.options["warnOnFetchOpenOrdersWithoutSymbol"] = False
        strict(exchange)

    async def _watch(self, name: str) -> None:
        while True:
            await self._asked(name)
            await asyncio.sleep(AGAIN_S)

    async def _pace(self, *, polls: bool) -> None:
        """Have the state asked for when the stream has begun, and where there is none."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SILENT_S):
                await self._spoken.wait()
        await asyncio.sleep(SETTLE_S)
        self._tell([api.Subscribed()])
        await asyncio.sleep(SURE_S)
        self._tell([api.Unsure()])
        while polls:
            await asyncio.sleep(self.options.interval_s)
            self._tell([api.Unsure()])

    # The exchange tells.

    def frame(self, parse: Callable[[], list[Any]]) -> None:
        """Tell what a frame means. It is called by ccxt, which may catch no error."""
        self._spoken.set()
        try:
            self._tell(self._heard(parse))
        # Whatever it is, it ends this attempt and not ccxt's receiving alone, which nobody notices.
        except Exception as e:  # noqa: BLE001
            self.lost(e)

    def lost(self, error: BaseException) -> None:
        """Take note that a connection has ended, or can't be used."""
        if not self._lost.done():
            self._lost.set_result(error)

    def _heard(self, parse: Callable[[], list[Any]]) -> Iterator[api.Told]:
        for heard in parse():
            if heard is self.ccxt.orders or heard is self.ccxt.myTrades:
                self._listen_to(heard)
            elif isinstance(heard, dict) and "free" in heard and "used" in heard:
                yield from self._balances(heard, changed=True)
        new, self._new = self._new, []
        # A fill before the state that it led to.
        for each in sorted(new, key=_is_order):
            if _is_order(each):
                yield order_of(self.name, self.options.exchange, each, self.io.now_us())
            elif each.get("order"):
                yield fill_of(self.name, self.options.exchange, each, self.io.now_us())
            else:
                yield api.Unsure()

    def _listen_to(self, cache: Any) -> None:
        """Take note of what is in a cache of ccxt's, and will be."""
        if "append" in vars(cache):
            return
        self._new.extend(cache)
        append = cache.append

        def appended(item: Any) -> None:
            append(item)
            # What it was merged into, if there was something before.
            self._new.append(cache[-1])

        cache.append = appended

    def _balances(self, told: Mapping[str, Any], *, changed: bool) -> Iterator[api.BalanceUpdate]:
        """Yield the balances in a structure of ccxt's, or of them those that have changed."""
        for asset in told["free"]:
            have = account_of(told, asset)
            if have is None or (changed and self._had.get(asset) == have):
                continue
            if changed:
                self._had[asset] = have
            yield api.BalanceUpdate(
                account=self.name,
                exchange=self.options.exchange,
                asset=asset,
                available=have[0],
                frozen=have[1],
                # Few exchanges tell a time, and not always the same one.
                updated_us=self.io.now_us(),
            )

    # What is asked.

    async def open_orders(self) -> list[api.OrderUpdate]:
        """Return all orders that are open."""
        rows = await for_each(self.options.instruments, self._open_orders)
        return [self._order(row) for row in rows]

    async def _open_orders(self, symbol: str | None) -> list[Any]:
        asking = partial(self._asked, "fetch_open_orders")
        rows, may_be_more = await open_orders(self.ccxt, asking, symbol)
        if may_be_more:
            self._tell([api.Unhandled("open orders behind the first page, if there are any")])
        return rows

    async def order(self, symbol: str, order_id: str) -> api.OrderUpdate | None:
        """Return the state of one order."""
        try:
            return self._order(await self._asked("fetch_order", order_id, symbol))
        except api.ConnectorError as e:
            if type(e.__cause__).__name__ == "OrderNotFound":
                return None
            raise

    async def fills(self, since: api.Since) -> list[api.Fill]:
        """Return the fills from a time on."""
        names = {*since.symbols, *since.last, *self.options.instruments}
        for market in self.ccxt.markets.values() if since.assets else ():
            if market.get("spot") and {market["base"], market["quote"]} <= (since.assets or set()):
                names.add(market["symbol"])
        asking, begin = partial(self._asked, "fetch_my_trades"), since.us // 1000
        rows = await for_each(names, lambda symbol: trades(self.ccxt, asking, symbol, begin))
        return [self._fill(row) for row in rows if row.get("order")]

    async def fills_of(self, symbol: str, order_id: str) -> list[api.Fill]:
        """Return the fills of one order."""
        if not self.ccxt.has.get("fetchOrderTrades"):
            return []
        rows = await self._asked("fetch_order_trades", order_id, symbol)
        # Some leave out in the answer what was in the question.
        return [self._fill(row | {"order": order_id}) for row in rows]

    async def balances(self) -> list[api.BalanceUpdate]:
        """Return the balances."""
        return list(self._balances(await self._asked("fetch_balance"), changed=False))

    async def prices(self, assets: Collection[str]) -> Mapping[str, str]:
        """Return the last prices of assets."""
        markets = {f"{asset}/{self.options.currency}": asset for asset in assets}
        known = [name for name in markets if name in self.ccxt.markets]
        if not known or not self.ccxt.has.get("fetchTickers"):
            return {}
        rows = await self._asked("fetch_tickers", known)
        last = {name: rows[name]["last"] for name in known if name in rows}
        return {markets[name]: str(price) for name, price in last.items() if price}

    async def _asked(self, name: str, *arguments: Any) -> Any:
        method: Callable[..., Awaitable[Any]] = getattr(self.ccxt, name)
        try:
            return await call(self.ccxt, method, *arguments)
        except api.UnusableError as e:
            raise self._meaning(e.__cause__ or e) from e.__cause__

    def _meaning(self, error: BaseException) -> Exception:
        """Return what an error means; one about the key is told apart."""
        from ccxt.base.errors import AuthenticationError, BaseError  # noqa: PLC0415 - it is there

        if not isinstance(error, BaseError):
            return error if isinstance(error, Exception) else api.UnreachableError("lost")
        meant = meaning(error, self.ccxt)
        return api.LoginError(str(meant)) if isinstance(error, AuthenticationError) else meant

    def _order(self, row: Any) -> api.OrderUpdate:
        return order_of(self.name, self.options.exchange, row, self.io.now_us())

    def _fill(self, row: Any) -> api.Fill:
        return fill_of(self.name, self.options.exchange, row, self.io.now_us())


def _is_order(row: Any) -> bool:
    return "takerOrMaker" not in row


def _snake(name: str) -> str:
    """Return ccxt's method of a capability: `watchMyTrades` is `watch_my_trades`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
