"""
All that a connector may import: this module, `msgspec` and the standard library's pure parts.

See `connector` for what to implement, `model` for what to return, `errors` for what to raise.
"""

from .connector import (
    Acknowledged,
    Budget,
    Connector,
    Fetch,
    Instrument,
    Instruments,
    KnownInstruments,
    Leaving,
    Options,
    Output,
    PollConnector,
    PollOptions,
    Request,
    Seconds,
    Send,
    StreamConnector,
    StreamOptions,
    Unhandled,
    UnknownInstrument,
    excerpt,
)
from .errors import ConnectorError, ExchangeError, PayloadError
from .model import Event, PriceUpdate

__all__ = [
    "Acknowledged",
    "Budget",
    "Connector",
    "ConnectorError",
    "Event",
    "ExchangeError",
    "Fetch",
    "Instrument",
    "Instruments",
    "KnownInstruments",
    "Leaving",
    "Options",
    "Output",
    "PayloadError",
    "PollConnector",
    "PollOptions",
    "PriceUpdate",
    "Request",
    "Seconds",
    "Send",
    "StreamConnector",
    "StreamOptions",
    "Unhandled",
    "UnknownInstrument",
    "excerpt",
]
