"""
Why a venue can't be used just now, in words for people and names for counters.

* `UpstreamError`          something between us and the venue's data failed
  - `RateLimitedError`     the venue wants no request for a while: the whole host waits
  - `RefusedError`         it refuses this address or location: an early retry is pointless
  - `StaleError`           the connection is up, but no data come
  - `LeavingError`         the venue said that it will close the connection
  - `NothingKnownError`    it knows none of the feed's instruments

No text here has a header, a key, or the query of an address.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
from yarl import URL

from aggregator.connector import excerpt
from aggregator.errors import (
    AggregatorError,
    ConnectorError,
    PayloadError,
    ThrottledError,
    UnreachableError,
)

RETRY_AFTER_S = 60.0
"""How long to leave a venue alone that says "too many" but not for how long."""
RETRY_JITTER_S = 10.0
LONGEST_RETRY_AFTER_S = 3 * 86_400.0
"""Binance bans for up to three days; more than that is nonsense."""
SHORT_BODY = 1024
"""An error's body is short; data that merely contain "50011" are not."""

TOO_MANY_AT_OKX = re.compile(rb'"code"\s*:\s*"?50011\b')
BANNED_UNTIL = re.compile(rb"banned until (\d{13})\b")


class UpstreamError(AggregatorError):
    """Something between us and the venue's data failed; `kind` is its name in the counters."""

    def __init__(self, reason: str, kind: str = "connection") -> None:
        super().__init__(reason)
        self.kind = kind


class RateLimitedError(UpstreamError):
    """The venue wants no request for `retry_after_s` seconds."""

    def __init__(self, reason: str, retry_after_s: float) -> None:
        super().__init__(reason, "rate_limited")
        self.retry_after_s = retry_after_s


class RefusedError(UpstreamError):
    """The venue refuses this address or location, and will go on to."""


class StaleError(UpstreamError):
    """The connection is up, but no data come."""


class LeavingError(UpstreamError):
    """The venue said that it will soon close the connection."""


class NothingKnownError(UpstreamError):
    """The venue knows none of the feed's instruments."""


def kind_of(error: BaseException) -> str:
    """Return the name under which an error is counted."""
    if isinstance(error, UpstreamError | UnreachableError):
        return error.kind
    if isinstance(error, ThrottledError):
        return "rate_limited"
    if isinstance(error, PayloadError):
        return "payload"
    return "exchange" if isinstance(error, ConnectorError) else "unexpected"


def printable(text: str, size: int = 200) -> str:
    """Return a text that may come from a venue as one bounded, printable line."""
    return "".join(c if c.isprintable() else " " for c in text[: 2 * size])[:size].strip()


def place(url: str | URL) -> str:
    """Return host and path of an address: without user, password and query."""
    parsed = URL(url)
    port = "" if parsed.explicit_port is None else f":{parsed.explicit_port}"
    return printable(f"{parsed.host or ''}{port}{parsed.path}")


def from_network(error: Exception, deadline_s: float) -> UpstreamError:
    """Say what a `TimeoutError`, `OSError` or `aiohttp.ClientError` means."""
    if isinstance(error, TimeoutError):
        return UpstreamError(f"no answer within {deadline_s:g} s", "timeout")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return UpstreamError(f"the name {printable(error.host)} can't be resolved")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamError(f"can't connect: {_cause(error.os_error)}")
    if isinstance(error, OSError):
        return UpstreamError(f"connection lost: {_cause(error)}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UpstreamError("the answer broke off")
    # The text of others may contain the whole address.
    return UpstreamError(f"connection failed: {type(error).__name__}")


def from_websocket(kind: aiohttp.WSMsgType, data: Any, extra: str | None) -> UpstreamError:
    """Say what a message means that ends a WebSocket, by what aiohttp makes of it."""
    if kind is aiohttp.WSMsgType.CLOSE:
        return UpstreamError(printable(f"closed by the venue: {data} {extra or ''}"))
    if kind is aiohttp.WSMsgType.ERROR:
        return UpstreamError(printable(f"the WebSocket protocol was violated: {data}"))
    return UpstreamError("connection lost")


def _cause(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error)) or type(error).__name__


def refusal(
    venue: str,
    status: int,
    headers: Mapping[str, str],
    body: bytes = b"",
    wall_s: Callable[[], float] = time.time,
) -> UpstreamError | None:
    """
    Return what an HTTP status means if it means the same at every venue, else `None`.

    `wall_s` returns the wall clock, in seconds since the epoch. Names of `headers` are found
    whatever their case if it is one of aiohttp's mappings.
    """
    short = body if len(body) <= SHORT_BODY else b""
    if status in {418, 429} or TOO_MANY_AT_OKX.search(short):
        wait_s = retry_after_s(headers, short, wall_s)
        text = f"HTTP {status}: {venue} wants no request for {wait_s:.0f} s"
        return RateLimitedError(text, wait_s)
    if status == 451:
        text = f"HTTP 451: {venue} refuses this location; try another base_url"
        return RefusedError(text, "http")
    if status == 403:
        text = f"HTTP 403: {venue} or its firewall refuses this address; try another base_url"
        return RefusedError(text, "http")
    if 300 <= status < 400:
        # Not followed: a key in a header of our own would go along to whoever is named there.
        return RefusedError(f"HTTP {status}: moved to {_target(headers)}", "http")
    if status >= 500:
        said = "" if body.lstrip()[:1] in {b"", b"<"} else f": {excerpt(body)}"
        return UpstreamError(f"HTTP {status}{said}", "http")
    return None


def _target(headers: Mapping[str, str]) -> str:
    try:
        return place(headers.get("Location", "")) or "nowhere"
    except ValueError:
        return "an address that is none"


def retry_after_s(
    headers: Mapping[str, str],
    body: bytes = b"",
    wall_s: Callable[[], float] = time.time,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Return for how many seconds the venue wants to be left alone."""
    waits = []
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        waits.append(float(text[:9]))
    elif text:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            moment = None
        if moment is not None:
            moment = moment.replace(tzinfo=moment.tzinfo or UTC)
            waits.append(moment.timestamp() - wall_s())
    if banned := BANNED_UNTIL.search(body):
        waits.append(int(banned[1]) / 1000 - wall_s())
    if not waits:
        return RETRY_AFTER_S + uniform(0, RETRY_JITTER_S)
    return min(max(1.0, *waits), LONGEST_RETRY_AFTER_S)
