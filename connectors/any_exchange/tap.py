"""
An exchange of ccxt's that tells all that it hears.

https://github.com/ccxt/ccxt/wiki/ccxt.pro.manual

What `watch_*` returns is not enough: of the tickers that arrive together it hands out one and loses
the others. So the exchange's class gets a subclass, made when it is needed, that listens where
every handler of ccxt puts what it has parsed:

* tickers: the table `tickers`;
* trades: the caches in the table `trades`;
* order books and candles, which are kept up to date in place: what is resolved to who watches.

It also keeps the venue's digits, takes back what ccxt computes or invents (a percentage, a time),
and hears of a connection's end, which `watch_*` would hide by opening another one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol

import msgspec

from aggregator.api import PayloadError

from .digits import DECODER, LocalTime, Number, decimal_text

GIVEN = ("bid", "ask", "baseVolume", "percentage")
"""Of a ticker, what is passed on if the venue gives it, and not if ccxt computes it."""


class Listener(Protocol):
    """Who is told what an exchange hears."""

    @property
    def hears(self) -> Literal["tickers", "trades", "resolved"]:
        """Where to listen."""

    def frame(self, parse: Callable[[], list[Any]]) -> None:
        """Take one frame: `parse` returns what is in it, or raises a `PayloadError`."""

    def lost(self, error: BaseException) -> None:
        """Take note that a connection has ended, or can't be used."""


def tapped(cls: type[Any]) -> type[Any]:
    """Return a subclass of an exchange's class; it is made with ccxt's config and a `Listener`."""
    from ccxt.async_support.base.ws.client import Client  # noqa: PLC0415 - where a feed uses it

    line = type("Line", (_Line, Client), {})
    return type(cls.__name__, (_Tap, cls), {"plain_client": Client, "line": line})


class _Table(dict[str, Any]):
    """A table of ccxt's that also tells what is put into it."""

    def __init__(self, put: Callable[[Any], None]) -> None:
        super().__init__()
        self._put = put

    def __setitem__(self, symbol: str, value: Any) -> None:
        super().__setitem__(symbol, value)
        self._put(value)


class _Line:
    """Goes before ccxt's class of a connection; `tap` is the exchange that it is of."""

    tap: Any

    def handle_text_or_binary_message(self: Any, data: str | bytes) -> None:
        """Decode as ccxt does, but for the digits."""
        message: Any = data
        try:
            if self.decompressBinary and isinstance(data, bytes):
                message = data.decode()
            # What begins with none of these may be a pong; a page and a byte order mark are none.
            if isinstance(message, str) and message[:1] in {"{", "[", "<", "\ufeff"}:
                message = DECODER.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.tap.listener.frame(_no_json)
            return
        self.on_message_callback(self, message)

    def resolve(self: Any, result: Any, message_hash: Any) -> Any:
        """Hand a result to who watches, and to us."""
        self.tap.resolved(result)
        return super().resolve(result, message_hash)  # type: ignore[misc]

    def reject(self: Any, error: Any, message_hash: Any = None) -> Any:
        """Hand an error to who watches; one that is for all, to us."""
        if message_hash is None:
            self.tap.listener.lost(error)
        return super().reject(error, message_hash)  # type: ignore[misc]


class _Tap:
    """Goes before the class of an exchange."""

    number = Number
    plain_client: type[Any]
    line: type[Any]

    def __init__(self: Any, config: dict[str, Any], listener: Listener) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        super().__init__(config)  # type: ignore[call-arg]
        self.listener = listener
        self.heard: list[Any] = []
        self.parsing = False
        self.status: int | None = None
        self.unreadable = 0
        if listener.hears == "tickers":
            self.tickers = _Table(self.heard.append)
        elif listener.hears == "trades":
            self.trades = _Table(self.listen_to)

    # Listening.

    def client(self: Any, url: str) -> Any:
        """Return the connection to an address."""
        client = super().client(url)  # type: ignore[misc]
        if type(client) is self.plain_client:
            client.__class__ = self.line
            client.tap = self
            client.open = self.kept(client.open)
            client.throttle.looper = self.kept(client.throttle.looper)
        return client

    def handle_message(self: Any, client: Any, message: Any) -> None:
        """Have a message parsed, and tell what was in it."""
        self.listener.frame(lambda: self.parsed(client, message))

    def parsed(self: Any, client: Any, message: Any) -> list[Any]:
        """Return what is in a message."""
        self.parsing = True
        try:
            super().handle_message(client, message)  # type: ignore[misc]
        # The parsers of a hundred exchanges: for odd data they may raise anything.
        except Exception as e:
            raise PayloadError(f"{type(e).__name__}: {str(e)[:200]}") from e
        finally:
            self.parsing = False
        taken: list[Any] = self.taken()
        return taken

    def taken(self: Any) -> list[Any]:
        """Return what was heard since the last call."""
        taken: list[Any] = self.heard[:]
        self.heard.clear()
        return taken

    def resolved(self: Any, result: Any) -> None:
        """Take note of what was resolved, once."""
        if self.listener.hears != "resolved":
            return
        if type(result) is list and len(result) == 3:
            # Candles, behind the names of their instrument and timeframe.
            result = result[2]
        if not any(result is each for each in self.heard):
            self.heard.append(result)
        if not self.parsing:
            # A book whose snapshot came over REST.
            self.listener.frame(self.taken)

    def listen_to(self: Any, cache: Any) -> None:
        """Take note of the trades that are in a cache, and that will be."""
        if "append" in vars(cache):
            return
        self.heard.extend(cache)
        append = cache.append

        def heard(trade: Any) -> None:
            append(trade)
            self.heard.append(trade)

        cache.append = heard

    def parse_json(self: Any, body: Any) -> Any:
        """Decode an answer; count what is no JSON, of which ccxt makes something all the same."""
        decoded = super().parse_json(body)  # type: ignore[misc]
        self.unreadable += decoded is None
        return decoded

    def on_rest_response(self: Any, code: int, *others: Any) -> Any:
        """Take note of the HTTP status of the last answer."""
        self.status = code
        return super().on_rest_response(code, *others)  # type: ignore[misc]

    # Tasks that ccxt forgets; who closes the exchange ends them.

    def kept(self: Any, work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Return work that is known, as a task, while it goes on."""

        async def run(*arguments: Any) -> Any:
            task = asyncio.current_task()
            self.tasks.add(task)
            try:
                return await work(*arguments)
            finally:
                self.tasks.discard(task)

        return run

    def spawn(self: Any, work: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        """Do something beside."""
        return super().spawn(self.kept(work), *arguments)  # type: ignore[misc]

    def init_throttler(self: Any, cost: Any = None) -> None:
        """Make what keeps the exchange's limits."""
        super().init_throttler(cost)  # type: ignore[misc]
        self.throttler.looper = self.kept(self.throttler.looper)

    # Digits and times.

    @staticmethod
    def on_json_response(body: str) -> Any:
        """Decode an answer with all digits."""
        try:
            return DECODER.decode(body)
        except msgspec.DecodeError as e:
            raise ValueError(str(e)) from e

    @staticmethod
    def safe_string(dictionary: Any, key: Any, default_value: Any = None) -> Any:
        """Return a text, or a number's."""
        # ccxt's parsers call nothing more often: no further call is made here.
        try:
            value = dictionary[key]
        except (LookupError, TypeError):
            return default_value
        kind = type(value)
        if kind is str:
            return value or default_value
        return str(value) if kind is Number or kind is int or kind is float else default_value

    @staticmethod
    def safe_string_2(dictionary: Any, key1: Any, key2: Any, default_value: Any = None) -> Any:
        """Return the first text that there is, or a number's."""
        found = _Tap.safe_string(dictionary, key1)
        return found or _Tap.safe_string(dictionary, key2, default_value)

    @staticmethod
    def safe_string_n(dictionary: Any, keys: Any, default_value: Any = None) -> Any:
        """Return the first text that there is, or a number's."""
        found = (_Tap.safe_string(dictionary, key) for key in keys)
        return next((text for text in found if text), default_value)

    @staticmethod
    def safe_float(dictionary: Any, key: Any, default_value: Any = None) -> Any:
        """Return a number with its digits."""
        try:
            return Number(dictionary[key])
        except (LookupError, TypeError, ValueError):
            return default_value

    @classmethod
    def safe_float_2(cls, dictionary: Any, key1: Any, key2: Any, default_value: Any = None) -> Any:
        """Return the first number that there is, with its digits."""
        return cls.safe_float(dictionary, key1, cls.safe_float(dictionary, key2, default_value))

    @classmethod
    def safe_float_n(cls, dictionary: Any, keys: Any, default_value: Any = None) -> Any:
        """Return the first number that there is, with its digits."""
        found = (cls.safe_float(dictionary, key) for key in keys)
        return next((number for number in found if number is not None), default_value)

    def milliseconds(self: Any) -> int:
        """Return the time of this machine, marked as such."""
        return LocalTime(super().milliseconds())  # type: ignore[misc]

    def safe_ticker(self: Any, ticker: dict[str, Any], market: Any = None) -> dict[str, Any]:
        """
        Return a ticker as the venue gave it.

        What ccxt makes of it besides (a percentage, an average) takes it half of its time, and is
        not passed on. As with ccxt a price of zero is none.
        """
        del market
        given = {key: decimal_text(ticker.get(key)) for key in GIVEN}
        last = decimal_text(ticker.get("last")) or decimal_text(ticker.get("close"))
        prices = {"bid": given["bid"], "ask": given["ask"], "last": last}
        none = {key: None for key, text in prices.items() if text is not None and not float(text)}
        return ticker | given | prices | none


def _no_json() -> list[Any]:
    raise PayloadError("a frame that is no JSON")
