"""
All that a connector may import: this module, `msgspec` and the standard library's pure parts.

`Field` and `SecretStr` are pydantic's, for options of its own; `translate` is for its tests.

See `connector` for what to implement, `model` for what to return, `errors` for what to raise.
"""

from pydantic import Field, SecretStr

from .book import Book, Conflated, Sides
from .connector import (
    Acknowledged,
    Budget,
    Connector,
    Fetch,
    Ignored,
    KnownInstruments,
    Leaving,
    Output,
    PollConnector,
    Request,
    Seen,
    Send,
    StreamConnector,
    Unhandled,
    UnknownInstrument,
    Withheld,
    excerpt,
    translate,
)
from .continuity import Break, Retries, chained, spanned
from .decimals import crossing, product, require_numbers
from .documented import Row
from .driver import DriverConnector, Emit
from .errors import (
    ConnectorError,
    ExchangeError,
    PayloadError,
    ThrottledError,
    UnreachableError,
    UnusableError,
)
from .model import BookUpdate, Candle, Event, Gap, Level, PriceUpdate, TradeExecuted
from .options import (
    FetchOptions,
    HttpAddress,
    Instrument,
    Instruments,
    Options,
    PollOptions,
    Seconds,
    StreamOptions,
    WebSocketAddress,
)
from .outlet import Published, publish

__all__ = [
    "Acknowledged",
    "Book",
    "BookUpdate",
    "Break",
    "Budget",
    "Candle",
    "Conflated",
    "Connector",
    "ConnectorError",
    "DriverConnector",
    "Emit",
    "Event",
    "ExchangeError",
    "Fetch",
    "FetchOptions",
    "Field",
    "Gap",
    "HttpAddress",
    "Ignored",
    "Instrument",
    "Instruments",
    "KnownInstruments",
    "Leaving",
    "Level",
    "Options",
    "Output",
    "PayloadError",
    "PollConnector",
    "PollOptions",
    "PriceUpdate",
    "Published",
    "Request",
    "Retries",
    "Row",
    "Seconds",
    "SecretStr",
    "Seen",
    "Send",
    "Sides",
    "StreamConnector",
    "StreamOptions",
    "ThrottledError",
    "TradeExecuted",
    "Unhandled",
    "UnknownInstrument",
    "UnreachableError",
    "UnusableError",
    "WebSocketAddress",
    "Withheld",
    "chained",
    "crossing",
    "excerpt",
    "product",
    "publish",
    "require_numbers",
    "spanned",
    "translate",
]
