"""
Binance: spot prices, order books and 24 h tickers over REST.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints

All numbers are strings. One symbol that the venue does not know makes it refuse the whole request
with HTTP 400 and code -1121, without a name: the names come from `exchangeInfo`, which is asked
for with `instruments = "all"`, and after such a refusal.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Raw, Struct, json

from aggregator import api
from connectors.binance.listing import (
    BASE_URL,
    BUDGET,
    NAMES,
    day_request,
    depth_request,
    names_request,
    read_names,
)

DAY_S = 86_400.0


class MarketOptions(api.PollOptions):
    """What the section of a Binance price feed may contain."""

    base_url: api.HttpAddress = BASE_URL
    """Where the venue's REST interface is; the paths are appended."""
    instruments: api.Instruments | Literal["all"] = api.Field(
        default=["BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "XRP/USDT"]
    )
    """The instruments, as "BASE/QUOTE", or "all" that are trading."""


class BookOptions(MarketOptions):
    """What the section of a Binance order book feed may contain."""

    instruments: api.Instruments | Literal["all"] = api.Field(default=["BTC/USDT", "ETH/USDT"])
    """The instruments, as "BASE/QUOTE", or "all" that are trading; each costs a request."""
    depth: Annotated[int, api.Field(ge=1, le=5000)] = 100
    """Levels of each side; a request weighs 5 up to 100 levels, 25, 50, and 250 above 1000."""


class Row(Struct, gc=False):
    """A row of `ticker/24hr`."""

    symbol: str
    lastPrice: str
    closeTime: Annotated[int, Meta(ge=0, lt=10**13)]
    bidPrice: str = ""
    askPrice: str = ""
    volume: str = ""
    priceChangePercent: str = ""


class Level(Struct, array_like=True, gc=False):
    """A level of a book; old answers have an empty third element."""

    price: str
    size: str


class Book(Struct):
    """The answer of `depth`: best levels first."""

    bids: list[Level]
    asks: list[Level]


INVALID_SYMBOL = re.compile(rb'"code"\s*:\s*-1121\b')
DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,40})?")


DOCUMENTED = MappingProxyType(
    {
        "ticker/24hr": api.Row(
            "symbol:text priceChange:number0 priceChangePercent:number0 weightedAvgPrice:number "
            "prevClosePrice:number lastPrice:number lastQty:number0 bidPrice:number "
            "bidQty:number0 askPrice:number askQty:number0 openPrice:number highPrice:number "
            "lowPrice:number volume:number quoteVolume:number openTime:int closeTime:int "
            "firstId:int0 lastId:int0 count:int0"
        ),
        "depth": api.Row("lastUpdateId:int bids:list asks:list"),
    }
)


class _Markets(api.PollConnector):
    """What the three share: the instruments, by the venue's names."""

    exchange = "binance"
    documented = DOCUMENTED
    options_type: ClassVar[type[MarketOptions]] = MarketOptions
    options: MarketOptions
    budget = BUDGET

    def __init__(self, options: MarketOptions) -> None:
        super().__init__(options)
        self._listed = () if options.instruments == "all" else tuple(options.instruments)
        self._by_symbol = {i.replace("/", ""): i for i in self._listed}
        self._asks_names = not self._listed
        self._refused = False

    def requests(self) -> Iterator[api.Request]:
        """Ask for the names if they are in question, then for the data."""
        self._refused = False
        if self._asks_names:
            yield names_request(DAY_S)
        yield from self._data_requests()

    def on_response(self, request: api.Request, body: bytes) -> Iterable[api.Output]:
        """Translate names or data."""
        return self._names(body) if request.key == NAMES else self._data(request, body)

    def rows(self, payload: Any) -> Iterable[tuple[str, object]]:
        """Yield the rows of tickers, or a book; of the names nothing more is used."""
        if isinstance(payload, list):
            return [("ticker/24hr", row) for row in payload]
        return [("depth", payload)] if "lastUpdateId" in payload else []

    def on_refusal(self, request: api.Request, status: int, body: bytes) -> Iterable[api.Output]:
        """Look for the instrument that the venue does not know, if that is what it says."""
        if status == 400 and request.key != NAMES and INVALID_SYMBOL.search(body):
            return self._invalid(request)
        return super().on_refusal(request, status, body)

    @abstractmethod
    def _data_requests(self) -> Iterable[api.Request]: ...

    @abstractmethod
    def _data(self, request: api.Request, body: bytes) -> Iterable[api.Output]: ...

    def _invalid(self, request: api.Request) -> Iterable[api.Output]:
        del request
        self._asks_names = self._refused = True
        return [api.Fetch(names_request(0.0))]

    def _names(self, body: bytes) -> Iterator[api.Output]:
        trading, unknown = read_names(body, self._listed)
        refused, self._refused = self._refused, False
        if refused and trading == self._by_symbol:
            # To ask again would be refused again, without end.
            raise api.ExchangeError("-1121: invalid symbol, but all are listed as trading")
        self._by_symbol = trading
        if not self._listed:
            yield api.KnownInstruments(frozenset(trading.values()))
        yield from unknown
        if refused:
            yield from map(api.Fetch, self._data_requests())


class Day(_Markets):
    """The 24 h ticker; `data` is the venue's own row."""

    def _data_requests(self) -> Iterator[api.Request]:
        if not self._listed:
            yield day_request(None)
        elif self._by_symbol:
            yield day_request(self._by_symbol)

    def _data(self, request: api.Request, body: bytes) -> Iterator[api.Output]:
        del request
        for raw in json.decode(body, type=list[Raw]):
            row = json.decode(raw, type=Row)
            instrument = self._by_symbol.get(row.symbol)
            if instrument is not None:
                yield api.PriceUpdate(
                    instrument,
                    row.lastPrice,
                    self._payload(row, raw),
                    row.closeTime * 1000,
                    row.bidPrice,
                    row.askPrice,
                    row.volume,
                    row.priceChangePercent,
                )

    def _payload(self, row: Row, raw: Raw) -> bytes | Raw:
        del row
        return raw


class Prices(Day):
    """
    The current price; `data` has the three fields that the protocol names.

    `ticker/price` would have two of them, and no time.
    """

    def _payload(self, row: Row, raw: Raw) -> bytes | Raw:
        del raw
        price = {"symbol": row.symbol, "price": row.lastPrice}
        return json.encode(price | {"priceChangePercent": row.priceChangePercent})


class OrderBook(_Markets):
    """The order book; `data` is the venue's answer, `price` the mid."""

    options_type = BookOptions
    options: BookOptions

    def _data_requests(self) -> Iterator[api.Request]:
        for symbol in self._by_symbol:
            yield depth_request(symbol, self.options.depth)

    def _invalid(self, request: api.Request) -> Iterable[api.Output]:
        self._asks_names = True
        rest = {s: i for s, i in self._by_symbol.items() if s != request.key}
        gone, self._by_symbol = self._by_symbol.get(request.key), rest
        return [api.UnknownInstrument(gone, "-1121: invalid symbol")] if gone else []

    def _data(self, request: api.Request, body: bytes) -> Iterator[api.Output]:
        book = json.decode(body, type=Book)
        bid, ask = (side[0].price if side else "" for side in (book.bids, book.asks))
        name = self._by_symbol.get(request.key)
        if name is not None:
            yield api.PriceUpdate(name, _mid(bid, ask), body, None, bid or None, ask or None)


def _mid(bid: str, ask: str) -> str:
    """Return the exact middle, or nothing where a side is missing or no plain number."""
    if not (DECIMAL.fullmatch(bid) and DECIMAL.fullmatch(ask)):
        return ""
    exact = Context(prec=100)
    return format(exact.divide(exact.add(Decimal(bid), Decimal(ask)), Decimal(2)), "f")
