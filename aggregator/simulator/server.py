"""The simulator as a whole: one server on one port, a walk in the background, faults."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from aggregator.simulator.addresses import Addresses
from aggregator.simulator.binance_rest import BinanceRest
from aggregator.simulator.binance_ws import BinanceStreams
from aggregator.simulator.coingecko import CoinGecko
from aggregator.simulator.connection import Connection
from aggregator.simulator.control import Control
from aggregator.simulator.depth import Books
from aggregator.simulator.faults import Faults
from aggregator.simulator.http_faults import HttpFaults
from aggregator.simulator.journal import Command, Journal, Request
from aggregator.simulator.market import Market
from aggregator.simulator.okx_rest import OkxRest
from aggregator.simulator.okx_ws import OkxPublic
from aggregator.simulator.private import Private
from aggregator.simulator.sockets import Sockets

# Behind by more than this, steps are skipped rather than made up for.
_MAX_LAG_S = 1.0
_SHUTDOWN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All settings but the address; the defaults are the venues' own numbers."""

    seed: int = 7
    ticks_per_s: float = 5.0  # 0: no walk of its own, `Simulator.tick` makes each step
    extra_instruments: int = 0
    trades_kept: int = 1_000  # of each instrument, for REST
    cache_s: int = 5
    coingecko_calls_per_minute: int = 30
    coingecko_api_key: str | None = None
    binance_weight_limit: int = 6_000
    binance_ban_after: int = 5
    binance_ban_s: float = 120.0
    binance_ping_s: float = 20.0
    binance_pong_timeout_s: float = 60.0
    binance_messages_per_s: int = 5
    okx_idle_s: float = 30.0
    okx_requests_per_hour: int = 480
    okx_account_push_s: float = 5.0  # the whole account, besides what changes; 0: never
    okx_connections_per_channel: int = 30
    book_levels: int = 450  # 400 are shown; the walk eats up to 50 before they grow again
    max_buffered_bytes: int = 4 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{name}: {value} is negative")


class Simulator(Addresses):
    """Venues on loopback; `async with` starts and stops them.

    `options` are the fields of `Options`. Between start and stop `port` and the URLs hold.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, **options: Any) -> None:
        self.host = host
        self.port = port
        self.options = given = Options(**options)
        self.faults = Faults(given.seed)
        self.market = market = Market(given.seed, given.extra_instruments, given.trades_kept)
        self._journal = Journal()
        self._books = (
            Books(given.seed, "binance", given.book_levels, lambda _: 0),
            Books(given.seed, "okx", given.book_levels, lambda one: one.okx_offset),
        )
        self._binance_rest = self._binance_side()
        self._private = self._private_side()
        self.engine = self._private.engine
        self._binance = BinanceStreams(
            market,
            self._books[0],
            self.faults,
            ping_s=given.binance_ping_s,
            pong_timeout_s=given.binance_pong_timeout_s,
            messages_per_s=given.binance_messages_per_s,
        )
        self._okx = OkxPublic(
            market,
            self._books[1],
            self.faults,
            idle_s=given.okx_idle_s,
            requests_per_hour=given.okx_requests_per_hour,
        )
        self._sockets = Sockets(
            self._okx,
            self._binance,
            self._private,
            self.faults,
            self._journal,
            max_buffered_bytes=given.max_buffered_bytes,
        )
        self._http_faults = HttpFaults(self.faults, self._journal.request)
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None

    def _binance_side(self) -> BinanceRest:
        given = self.options
        return BinanceRest(
            self.market,
            self._books[0],
            weight_limit=given.binance_weight_limit,
            ban_after=given.binance_ban_after,
            ban_s=given.binance_ban_s,
        )

    def _private_side(self) -> Private:
        given = self.options
        return Private(
            self.market,
            {"binance": self._books[0], "okx": self._books[1]},
            self.faults,
            self._binance_rest,
            seed=given.seed,
            okx_idle_s=given.okx_idle_s,
            okx_requests_per_hour=given.okx_requests_per_hour,
            okx_account_push_s=given.okx_account_push_s,
            okx_connections_per_channel=given.okx_connections_per_channel,
            binance_weight_limit=given.binance_weight_limit,
            binance_ping_s=given.binance_ping_s,
            binance_pong_timeout_s=given.binance_pong_timeout_s,
        )

    async def __aenter__(self) -> Self:
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        self._tasks.append(asyncio.create_task(self._watch(), name="simulator watch"))
        if self.options.ticks_per_s > 0:
            self._tasks.append(asyncio.create_task(self._walk(), name="simulator walk"))
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._http_faults.release()
        self._sockets.abort()
        self.faults.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for result in ended:
            # A walk that failed would otherwise look like a very quiet market.
            if isinstance(result, Exception) and error is None:
                raise result

    async def run(self) -> None:
        """Until cancelled, or until the walk fails."""
        await asyncio.gather(*self._tasks)

    def tick(self, steps: int = 1) -> None:
        """Walk `steps` steps now and write what they bring to all connections."""
        per_second = self.options.ticks_per_s or 1.0
        tenth, second = max(1, round(per_second / 10)), max(1, round(per_second))
        for _ in range(steps):
            self.market.step()
            for books in self._books:
                books.advance()
            number = self.market.steps
            self._binance.publish(tenth=number % tenth == 0, second=number % second == 0)
            self._okx.publish(tenth=number % tenth == 0)
            self.engine.advance()
            self._sockets.flush()

    @property
    def requests(self) -> deque[Request]:
        """The last requests and handshakes, oldest first."""
        return self._journal.requests

    @property
    def commands(self) -> deque[Command]:
        """The last text messages that clients sent over WebSockets, oldest first."""
        return self._journal.commands

    def connections(self, venue: str) -> int:
        """How many WebSockets of `venue` are open."""
        return self._sockets.count(venue)

    async def wait_for_request(self, venue: str, path: str) -> Request:
        """Return the next request to `venue` whose path and query begin with `path`."""

        def wanted(event: object) -> bool:
            return (
                isinstance(event, Request)
                and event.venue == venue
                and event.path_qs.startswith(path)
            )

        found: Request = await self._journal.wait(wanted)
        return found

    async def wait_for_command(self, venue: str, text: str) -> Command:
        """Return the next text message from a client of `venue` that contains `text`."""

        def wanted(event: object) -> bool:
            return isinstance(event, Command) and event.venue == venue and text in event.text

        found: Command = await self._journal.wait(wanted)
        return found

    async def wait_for_connection(self, venue: str) -> Connection:
        """Return the next WebSocket that `venue` accepts."""

        def wanted(event: object) -> bool:
            return isinstance(event, Connection) and event.venue == venue

        found: Connection = await self._journal.wait(wanted)
        return found

    def _application(self) -> web.Application:
        given = self.options
        coingecko = CoinGecko(
            self.market,
            cache_s=given.cache_s,
            calls_per_minute=given.coingecko_calls_per_minute,
            api_key=given.coingecko_api_key,
        )
        application = web.Application(middlewares=[self._http_faults.middleware()])
        application.add_routes(Control(self.faults, self.urls).routes())
        application.add_routes(self._private.routes())
        application.add_routes(self._binance_rest.routes("/binance/api/v3"))
        application.add_routes(coingecko.routes("/coingecko/api/v3"))
        application.add_routes(OkxRest(self.market, self._books[1]).routes("/okx/api/v5"))
        application.add_routes(self._sockets.routes())
        return application

    async def _walk(self) -> None:
        loop = asyncio.get_running_loop()
        interval = 1.0 / self.options.ticks_per_s
        # Real feeds do not keep time; prices have generators of their own.
        jitter = random.Random(self.options.seed)  # noqa: S311
        due = loop.time()
        while True:
            due += interval * jitter.uniform(0.8, 1.2)
            now = loop.time()
            if now - due > _MAX_LAG_S:
                due = now
            await asyncio.sleep(max(0.0, due - now))
            self.tick()

    async def _watch(self) -> None:
        given = self.options
        shortest = min(given.okx_idle_s, given.binance_ping_s, given.binance_pong_timeout_s)
        shortest = min(shortest, given.okx_account_push_s or shortest)
        period = min(max(shortest / 10, 0.02), 1.0)
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(period)
            self._sockets.watch(loop.time())


async def serve(
    host: str,
    port: int,
    *,
    on_ready: Callable[[Simulator], None] | None = None,
    **options: Any,
) -> None:
    """Run a simulator until cancelled; `on_ready` is called once it listens."""
    async with Simulator(host=host, port=port, **options) as simulator:
        if on_ready is not None:
            on_ready(simulator)
        await simulator.run()
