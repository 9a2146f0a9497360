"""
The exceptions of the project.

* `AggregatorError`
  - `ConfigError`        the configuration cannot be used: start-up stops with exit code 78
  - `ConnectorError`     raised by a connector, handled by its runner
    - `PayloadError`     one frame or response is unreadable: counted, the connection stays
    - `ExchangeError`    the venue refused: the connection starts again, or the poll backs off
"""

from __future__ import annotations


class AggregatorError(Exception):
    """Base of every exception defined here."""


class ConfigError(AggregatorError):
    """The configuration cannot be used; the text says file, key, value and what was expected."""


class ConnectorError(AggregatorError):
    """Base of what a connector may raise."""


class PayloadError(ConnectorError):
    """One frame or response does not have the documented shape."""


class ExchangeError(ConnectorError):
    """The venue answered with an error of its own."""
