"""
What the feeds by ccxt share: an exchange is opened, its markets are looked up, it is watched or
polled, and closed again whatever happens.

https://docs.ccxt.com
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any, ClassVar, Literal, TypeVar

from aggregator.api import (
    DriverConnector,
    Emit,
    ExchangeError,
    KnownInstruments,
    Leaving,
    Options,
    Output,
    PayloadError,
    UnknownInstrument,
    UnusableError,
)

from .calls import Calls
from .exchange import closed, opened, with_markets
from .failures import call, meaning
from .options import CcxtOptions

MARKETS_S = 86_400.0
"""How often the list of markets is looked up again."""
AGAIN_S = 1.0
"""
From one `watch_*` to the next. It subscribes again if that is needed, and raises what went wrong;
what arrives is heard without it.
"""
TOGETHER = 100
"""Instruments in one call that takes several, and messages between two turns for others."""
CONCURRENCY = 8

T = TypeVar("T")


class CcxtFeed(DriverConnector):
    """One feed; a subclass for each kind of data."""

    exchange = "ccxt"
    options_type: ClassVar[type[Options]] = CcxtOptions
    library = "ccxt.pro"
    install = "exchange-aggregator[ccxt]"

    what: ClassVar[str]
    """The kind of data, for people."""
    watching: ClassVar[tuple[str, str]]
    """What ccxt calls to watch many and to watch one."""
    fetching: ClassVar[tuple[str, ...]]
    """What ccxt calls to fetch: for one, and if there is such a thing for many."""
    hears: ClassVar[Literal["tickers", "trades", "resolved"]] = "resolved"

    options: CcxtOptions

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.ccxt: Any = None
        """The exchange of this attempt."""
        self.symbols: dict[str, None] = {}
        """The instruments that the exchange trades, in order."""
        self._calls = Calls()
        self._watching = 0
        self._emit: Emit
        self._lost: asyncio.Future[BaseException]
        self._tasks: asyncio.TaskGroup
        # A closed one, of which nothing is used but that it knows the markets.
        self._markets: Any = None
        self._looked_up = float("-inf")

    @classmethod
    def exchange_of(cls, options: Options) -> str:
        """Return the exchange's name in ccxt."""
        return options.exchange if isinstance(options, CcxtOptions) else cls.exchange

    async def run(self, emit: Emit) -> None:
        """Open the exchange and bring its data until something ends it."""
        self._emit, self.interval_s = emit, 0.0
        self._lost = asyncio.get_running_loop().create_future()
        self.ccxt = opened(self.options, self)
        try:
            if asyncio.get_running_loop().time() - self._looked_up > MARKETS_S:
                await self._look_up()
            self.ccxt.set_markets_from_exchange(self._markets)
            self._choose(emit)
            self.check()
            self.interval_s = self.options.interval_s if self._polls() else 0.0
            async with asyncio.TaskGroup() as self._tasks:
                self.spawn(self._follow_markets(), "markets")
                if self.interval_s:
                    self.spawn(self._poll(), "poll")
                else:
                    self.begin()
                    for number, watch in enumerate(self._watches()):
                        self.spawn(self._watch(watch), f"watch {number}")
                # Not left to the group: on Python 3.11 it forgets then that its task goes on.
                await self._until_lost()
        finally:
            await closed(self.ccxt)

    def facts(self) -> Mapping[str, object]:
        """Return how it gets its data, and what it has called of ccxt."""
        mode = "poll" if self.interval_s else "stream" if self.symbols else None
        lines = getattr(self.ccxt, "clients", {}).values()
        return {
            "library": self.library,
            "mode": mode,
            **self._calls.facts(),
            "watch_tasks": self._watching,
            "connections": sum(line.connection is not None for line in lines),
        }

    # What a kind of data says of itself.

    def check(self) -> None:
        """Check the options against the exchange; raises an `UnusableError`."""

    def begin(self) -> None:
        """Prepare for a stream that begins, maybe after another one."""

    @abstractmethod
    def translate(self, heard: Any) -> Iterator[Output]:
        """Translate one thing that was heard on a stream."""

    @abstractmethod
    async def fetch(self, symbol: str) -> None:
        """Fetch and tell what is new of one instrument."""

    def arguments(self, symbols: list[str], *, many: bool) -> tuple[Any, ...]:
        """Return what the calls of `watching` take for these instruments."""
        return (symbols,) if many else (symbols[0],)

    async def poll(self) -> None:
        """Fetch everything once."""
        for symbols in batches(self.symbols, CONCURRENCY):
            async with asyncio.TaskGroup() as tasks:
                for symbol in symbols:
                    tasks.create_task(self.fetch(symbol), name=f"ccxt {symbol}")

    # What they use.

    def has(self, name: str) -> bool:
        """Whether ccxt can do this with the exchange."""
        return bool(self.ccxt.has.get(name))

    async def fetched(self, method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """
        Call ccxt for what one request brings.

        Raises:
            ConnectorError: for any error of its, and for an answer that is no JSON.

        """
        before = self.ccxt.unreadable
        work = call(self.ccxt, method, *arguments)
        result = await self._calls.noted(getattr(method, "__name__", "call"), work)
        if self.ccxt.unreadable > before:
            raise PayloadError(f"no {self.what} in the answer: it is no JSON")
        return result

    def tell(self, outputs: Iterable[Output]) -> None:
        """Tell what an answer means."""
        self._emit(outputs)

    def spawn(self, work: Any, name: str) -> None:
        """Do something beside, as long as this attempt lasts."""
        self._tasks.create_task(work, name=f"ccxt {self.options.exchange} {name}")

    # The exchange tells.

    def frame(self, parse: Callable[[], list[Any]]) -> None:
        """Tell what a frame means. It is called by ccxt, which may catch no error."""
        try:
            self._emit(self._translated(parse))
        # Whatever it is, it ends this attempt and not ccxt's receiving alone, which nobody notices.
        except Exception as e:  # noqa: BLE001
            self.lost(e)

    def _translated(self, parse: Callable[[], list[Any]]) -> Iterator[Output]:
        for heard in parse():
            yield from self.translate(heard)

    def lost(self, error: BaseException) -> None:
        """Take note that a connection has ended, or can't be used."""
        if not self._lost.done():
            self._lost.set_result(error)

    # Inside.

    async def _look_up(self) -> None:
        self._markets = await with_markets(self.options)
        self._looked_up = asyncio.get_running_loop().time()

    def _choose(self, emit: Emit) -> None:
        """Find the instruments among the markets."""
        known, outputs = self._known()
        emit(outputs)
        self.symbols = dict.fromkeys(known)
        if not known:
            raise ExchangeError("the exchange trades none of the instruments")

    def _known(self) -> tuple[list[str], list[Output]]:
        markets = self.ccxt.markets
        listed = self.options.instruments
        if listed == "all":
            found = [s for s in markets if _named(s) and _trading(markets[s])]
            return found, [KnownInstruments(frozenset(found))]
        known = [s for s in listed if s in markets and _trading(markets[s])]
        missing = (s for s in listed if s not in known)
        reasons = {True: "not traded now", False: "not listed by the exchange"}
        return known, [UnknownInstrument(s, reasons[s in markets]) for s in missing]

    def _polls(self) -> bool:
        """Whether to poll."""
        mode = self.options.mode
        streams = any(map(self.has, self.watching))
        fetches = any(map(self.has, self.fetching))
        if not {"stream": streams, "poll": fetches, "auto": streams or fetches}[mode]:
            lack = {"stream": "has no stream of", "poll": "can't fetch", "auto": "has no"}[mode]
            raise UnusableError(f"ccxt {lack} {self.what} of {self.options.exchange}")
        return mode == "poll" or not streams

    def _watches(self) -> Iterator[Callable[[], Awaitable[Any]]]:
        """Yield calls that subscribe to everything."""
        many = self.has(self.watching[0])
        method = getattr(self.ccxt, _snake(self.watching[not many]))
        for symbols in batches(self.symbols, TOGETHER if many else 1):
            yield partial(call, self.ccxt, method, *self.arguments(symbols, many=many))

    async def _watch(self, watch: Callable[[], Awaitable[Any]]) -> None:
        name = _snake(self.watching[not self.has(self.watching[0])])
        self._watching += 1
        try:
            while True:
                await self._calls.noted(name, watch())
                await asyncio.sleep(AGAIN_S)
        finally:
            self._watching -= 1

    async def _poll(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            await self.poll()
            await asyncio.sleep(max(0.0, started + self.interval_s - clock()))

    async def _until_lost(self) -> None:
        from ccxt.base.errors import BaseError  # noqa: PLC0415 - where a feed uses it

        error = await self._lost
        raise meaning(error, self.ccxt) if isinstance(error, BaseError) else error

    async def _follow_markets(self) -> None:
        """Begin anew when other markets are traded than at the start."""
        while True:
            await asyncio.sleep(MARKETS_S)
            await self._look_up()
            self.ccxt.set_markets_from_exchange(self._markets)
            if set(self._known()[0]) != self.symbols.keys():
                self._emit([Leaving("other markets are traded than before")])


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of at most `size`."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _named(symbol: str) -> bool:
    """Whether a market can be an instrument: derivatives have a `:` in their names."""
    return symbol.count("/") == 1 and symbol.isprintable() and not set(' ,:*"\\') & set(symbol)


def _trading(market: Any) -> bool:
    return market.get("active") is not False


def _snake(name: str) -> str:
    """Return ccxt's method of a capability: `watchOHLCV` is `watch_ohlcv`."""
    name = name.replace("OHLCV", "Ohlcv")
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)
