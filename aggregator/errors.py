"""
The exceptions of the project.

* `AggregatorError`
  - `ConfigError`        the configuration cannot be used: start-up stops with exit code 78
  - `ConnectorError`     raised by a connector, handled by its runner
    - `PayloadError`     one frame or response is unreadable: counted, the connection stays
    - `ExchangeError`    the venue refused: the connection starts again, or the poll backs off
  - `CommandError`       a command can't go on: it ends with `exit_code`
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


class UnusableError(ExchangeError):
    """What the configuration asks for can't be had from this venue."""


class UnreachableError(ConnectorError):
    """
    The venue can't be reached, or was lost.

    `kind` is its name in the counters: `connection`, `timeout` or `http`.
    """

    def __init__(self, reason: str, kind: str = "connection") -> None:
        super().__init__(reason)
        self.kind = kind


class ThrottledError(ConnectorError):
    """The venue wants no request for `retry_after_s` seconds; `None`: it does not say how long."""

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class CommandError(AggregatorError):
    """A command of the command line can't go on; the text says why, for people."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
