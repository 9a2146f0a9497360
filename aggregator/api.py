"""
All that a connector may import: this module, `msgspec` and the standard library's pure parts.

`Field` and `SecretStr` are pydantic's, for options of its own; `translate` is for its tests.

See `connector` for what to implement, `model` for what to return, `errors` for what to raise.
"""

from pydantic import Field, SecretStr

from .connector import (
    Acknowledged,
    Budget,
    Connector,
    Fetch,
    KnownInstruments,
    Leaving,
    Output,
    PollConnector,
    Request,
    Send,
    StreamConnector,
    Unhandled,
    UnknownInstrument,
    excerpt,
    translate,
)
from .errors import ConnectorError, ExchangeError, PayloadError
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

__all__ = [
    "Acknowledged",
    "BookUpdate",
    "Budget",
    "Candle",
    "Connector",
    "ConnectorError",
    "Event",
    "ExchangeError",
    "Fetch",
    "FetchOptions",
    "Field",
    "Gap",
    "HttpAddress",
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
    "Request",
    "Seconds",
    "SecretStr",
    "Send",
    "StreamConnector",
    "StreamOptions",
    "TradeExecuted",
    "Unhandled",
    "UnknownInstrument",
    "WebSocketAddress",
    "excerpt",
    "translate",
]
