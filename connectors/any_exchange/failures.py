"""
What ccxt's errors mean, in the plugin API's words.

https://docs.ccxt.com/#/README?id=error-handling
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aggregator.api import (
    ConnectorError,
    ExchangeError,
    PayloadError,
    ThrottledError,
    UnreachableError,
    UnusableError,
    excerpt,
)

QUERY = re.compile(r"\?\S*")


async def call(exchange: Any, method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
    """
    Call a method of a tapped exchange.

    Raises:
        ConnectorError: for any error of ccxt's.

    """
    from ccxt.base.errors import BaseError  # noqa: PLC0415 - where a feed uses it

    try:
        return await method(*arguments)
    except BaseError as e:
        raise meaning(e, exchange) from e
    except asyncio.CancelledError:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        # Not we are: ccxt gives up all that waits for a connection so.
        raise UnreachableError("connection lost") from None
    # The parsers of a hundred exchanges: for odd data they may raise anything.
    except Exception as e:
        raise PayloadError(f"{type(e).__name__}: {str(e)[:200]}") from e


def meaning(error: BaseException, exchange: Any) -> ConnectorError:
    """
    Return what an error of ccxt's means.

    `exchange` is a tapped one: it knows the HTTP status and the headers of the last answer.
    """
    from ccxt.base import errors  # noqa: PLC0415 - where a feed uses it

    # Of a failed handshake aiohttp's error is within.
    inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    status = getattr(inner, "status", None) or exchange.status
    headers = getattr(inner, "headers", None) or exchange.last_response_headers or {}
    text = _text(error, inner)
    if isinstance(error, errors.RateLimitExceeded | errors.DDoSProtection) or status in {418, 429}:
        return ThrottledError(text, _seconds(headers))
    unusable = errors.AuthenticationError | errors.NotSupported | errors.ArgumentsRequired
    if status in {401, 403, 451} or isinstance(error, unusable | errors.RestrictedLocation):
        return UnusableError(text)
    if isinstance(error, errors.NetworkError):
        timed_out = isinstance(error, errors.RequestTimeout)
        answered = (status or 0) >= 400
        return UnreachableError(
            text, "timeout" if timed_out else "http" if answered else "connection"
        )
    return ExchangeError(text)


def _text(error: BaseException, inner: BaseException) -> str:
    """Return a short text without the query of an address."""
    cause = error.__cause__ or inner
    said = excerpt(QUERY.sub("", str(cause) or str(error)).encode())
    return f"{type(error).__name__}: {said}"


def _seconds(headers: Any) -> float | None:
    """Return what `Retry-After` says, in seconds."""
    found = (str(value) for name, value in headers.items() if name.lower() == "retry-after")
    text = next(found, "")
    return float(text[:9]) if text.isascii() and text.isdecimal() else None
