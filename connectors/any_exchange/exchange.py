"""
How an exchange of ccxt's is made, and how it is closed.

https://docs.ccxt.com/#/README?id=instantiation
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from typing import Any, Literal

from aggregator.api import PayloadError, UnusableError

from .failures import call
from .options import CcxtOptions
from .tap import Listener, tapped

CLOSE_S = 0.3
"""For a polite end, and once more for an impolite one."""
LINGER_MS = 50
"""ccxt's own wait for TLS, after everything is closed."""


def opened(options: CcxtOptions, listener: Listener) -> Any:
    """
    Return the exchange of a feed. It connects when it is first used.

    Raises:
        UnusableError: there is no such test environment.

    """
    ccxt = importlib.import_module("ccxt.pro")
    name = options.exchange
    cls = getattr(ccxt, name, None)
    # ccxt.pro has those alone that can stream.
    cls = cls or getattr(importlib.import_module("ccxt.async_support"), name)
    config = ccxt.Exchange.deep_extend(
        _preset(name),
        options.ccxt_options,
        {"urls": options.urls, "timeout": round(options.timeout_s * 1000)},
        {"enableRateLimit": True},
    )
    exchange = tapped(cls)(config, listener)
    exchange.timeout_on_exit = LINGER_MS
    if options.sandbox:
        if not exchange.urls.get("test"):
            raise UnusableError(f"ccxt knows no test environment of {name}")
        exchange.set_sandbox_mode(True)
    # Other markets have no names here, and to look them up takes long.
    markets = exchange.options.get("fetchMarkets")
    if isinstance(markets, dict) and "spot" in markets.get("types", ()):
        markets["types"] = ["spot"]
    return exchange


def _preset(name: str) -> dict[str, Any]:
    """Return what is set for single exchanges; the options of a feed go before it."""
    if name != "binance":
        return {}
    # The stream with all fields, and of the fetched trades those with the ids of the stream.
    tickers, trades = {"name": "ticker"}, "publicGetTrades"
    return {"options": {"watchTickers": tickers, "fetchTradesMethod": trades}}


async def with_markets(options: CcxtOptions) -> Any:
    """
    Return an exchange that is closed again, but knows its markets.

    To parse those of a large exchange takes half a second, in which nobody else would have a turn.
    So it is done on a loop of its own, in a thread.

    Raises:
        ConnectorError: they can't be had.

    """
    loop, running = asyncio.new_event_loop(), asyncio.get_running_loop()
    task = loop.create_task(_look_up(options), name="ccxt markets")

    def work() -> Any:
        try:
            return loop.run_until_complete(task)
        finally:
            loop.close()

    done = running.run_in_executor(None, work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if not done.done():
            loop.call_soon_threadsafe(task.cancel)
            await asyncio.wait([done], timeout=2 * CLOSE_S)
        raise


class _Deaf:
    """Who listens to an exchange that has nothing to say."""

    hears: Literal["resolved"] = "resolved"

    def frame(self, parse: Callable[[], list[Any]]) -> None:
        """Take no frame."""

    def lost(self, error: BaseException) -> None:
        """Take no note."""


async def _look_up(options: CcxtOptions) -> Any:
    exchange = opened(options, _Deaf())
    try:
        await call(exchange, exchange.load_markets)
        if not exchange.markets:
            raise PayloadError("no market in the answer")
    finally:
        await closed(exchange)
    return exchange


async def closed(exchange: Any) -> None:
    """Close an exchange within a second: politely, and where nobody answers, by force."""
    lines = list(exchange.clients.values())
    for throttler in (exchange.throttler, *(line.throttle for line in lines)):
        # Nobody would let these go on.
        for turn, _ in throttler.queue:
            turn.cancel()
    for task in list(exchange.tasks):
        task.cancel()
    # The only way to the transports: aiohttp waits long for an answer to its goodbye.
    handles = [line.connection._conn for line in lines if line.connection is not None]  # noqa: SLF001
    transports = [handle.transport for handle in handles if handle is not None]
    closing = asyncio.ensure_future(exchange.close())
    try:
        await asyncio.wait([closing], timeout=CLOSE_S)
    finally:
        for transport in transports:
            if transport is not None:
                transport.abort()
        await asyncio.wait([closing], timeout=CLOSE_S)
    if closing.done() and not closing.cancelled():
        closing.exception()  # taken note of: there is nothing left to be done about it
