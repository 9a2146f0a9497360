from __future__ import annotations

import ssl
from datetime import UTC, datetime
from email.utils import format_datetime

import aiohttp
import pytest
from multidict import CIMultiDict

from aggregator.errors import ConnectorError, ExchangeError, PayloadError
from aggregator.ingest.failure import (
    LONGEST_RETRY_AFTER_S,
    RateLimitedError,
    RefusedError,
    UpstreamError,
    from_network,
    kind_of,
    place,
    printable,
    refusal,
    retry_after_s,
)

NOW = 1_785_050_009.0


def now() -> float:
    return NOW


def in_100_s() -> str:
    return format_datetime(datetime.fromtimestamp(NOW + 100, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("35", 35),
        ("0", 1),
        ("9" * 5000, LONGEST_RETRY_AFTER_S),
        (in_100_s(), 100),
        (in_100_s().replace("GMT", "-0000"), 100),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 1),
        ("Fri, 31 Dec 9999 23:59:59 -2359", LONGEST_RETRY_AFTER_S),
        ("", 65),
        ("soon", 65),
        ("-5", 65),
        ("١٢", 65),
    ],
)
def test_retry_after(text, expected):
    """Seconds and dates are honoured; what is missing or nonsense is a minute and some jitter."""
    headers = CIMultiDict({"retry-after": text} if text else {})

    assert retry_after_s(headers, b"", now, lambda low, high: high / 2) == expected


def test_ban_in_the_body():
    """Binance says in the body until when it bans."""
    body = b'{"code":-1003,"msg":"Way too much; IP banned until 1785050129644. Please"}'
    error = refusal("binance", 418, {}, body, now)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after_s == pytest.approx(120.644)
    assert str(error) == "HTTP 418: binance wants no request for 121 s"


@pytest.mark.parametrize("status", [200, 400, 429])
def test_50011(status):
    """OKX's 50011 means too many requests with any status; the same digits in data do not."""
    body = b'{"msg":"Too Many Requests","code":"50011"}'

    assert isinstance(refusal("okx", status, {}, body), RateLimitedError)
    assert refusal("okx", 200, {}, body + b" " * 1024) is None
    assert refusal("okx", 200, {}, b'{"price":"50011"}') is None


@pytest.mark.parametrize(
    ("status", "headers", "body", "cls", "text"),
    [
        (451, {}, b"{}", RefusedError, "HTTP 451: x refuses this location; try another base_url"),
        (403, {}, b"<HTML>", RefusedError, "HTTP 403: x or its firewall refuses this address"),
        (301, {"Location": "https://h/p?key=secret"}, b"", RefusedError, "HTTP 301: moved to h/p"),
        (302, {"Location": "http://[/"}, b"", RefusedError, "moved to an address that is none"),
        (307, {}, b"", RefusedError, "moved to nowhere"),
        (500, {}, b'{"msg":"busy"}', UpstreamError, 'HTTP 500: {"msg":"busy"}'),
        (502, {}, b" <html>", UpstreamError, "HTTP 502"),
        (503, {}, b"", UpstreamError, "HTTP 503"),
    ],
)
def test_status(status, headers, body, cls, text):
    """Statuses that mean the same everywhere say it in words, without queries or pages."""
    error = refusal("x", status, headers, body)

    assert type(error) is cls
    assert text in str(error)
    assert "secret" not in str(error)
    assert error.kind == "http"


@pytest.mark.parametrize("status", [200, 204, 400, 404, 408])
def test_status_for_the_connector(status):
    """What is left is the connector's to judge."""
    assert refusal("x", status, {}, b"{}") is None


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (TimeoutError(), "timeout", "no answer within 8 s"),
        (aiohttp.ServerTimeoutError(), "timeout", "no answer within 8 s"),
        (aiohttp.ServerDisconnectedError(), "connection", "ServerDisconnectedError"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection", "reset by peer"),
        (ConnectionError(), "connection", "ConnectionError"),
        (aiohttp.ClientPayloadError("?key=secret"), "connection", "broke off"),
        (aiohttp.InvalidURL("http://h/?key=secret"), "connection", "InvalidUrl"),
        (ssl.SSLError(1, "bad certificate"), "connection", "bad certificate"),
    ],
)
def test_network(error, kind, text):
    """An error of the network is named; the address, which may hold a key, is not."""
    upstream = from_network(error, 8)

    assert kind == upstream.kind
    assert text.lower() in str(upstream).lower()
    assert "secret" not in str(upstream)


def test_connectors_errors():
    """A name that can't be resolved, and a host that refuses, are told apart."""
    key = aiohttp.client_reqrep.ConnectionKey("h.example", 443, *[True] * 2, *[None] * 3)
    cause = OSError(111, "Connection refused")

    assert str(from_network(aiohttp.ClientConnectorDNSError(key, cause), 8)) == (
        "the name h.example can't be resolved"
    )
    assert str(from_network(aiohttp.ClientConnectorError(key, cause), 8)) == (
        "can't connect: Connection refused"
    )
    expired = ssl.SSLCertVerificationError("certificate has expired")
    error = aiohttp.ClientConnectorCertificateError(key, expired)
    assert "certificate has expired" in str(from_network(error, 8))


def test_kinds():
    """Every failure has its name in the counters."""
    errors = [
        PayloadError(),
        ExchangeError(),
        ConnectorError(),
        UpstreamError("", "http"),
        ValueError(),
    ]

    assert list(map(kind_of, errors)) == ["payload", "exchange", "exchange", "http", "unexpected"]


def test_texts_of_venues_are_bounded_and_printable():
    """Nothing of a venue breaks a line of the log, or fills it."""
    assert printable("a\nb\x1b[31m" + "x" * 1000) == "a b [31m" + "x" * 192
    assert place("wss://user:password@host:8443/ws?token=secret") == "host:8443/ws"
