"""Whose web pages may connect, and which hosts are this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def origin_allowed(origin: str | None, host: str, allowed: list[str]) -> bool:
    """
    Whether a page from `origin` may connect: one of this host, or one that is configured.

    A browser always sends the header, and other programs can send what they like; so its absence
    is no fault. `null`, which any sandboxed page can send, has to be configured like any other.
    """
    if (
        origin is None
        or "*" in allowed
        or origin.lower() in (o.lower().rstrip("/") for o in allowed)
    ):
        return True
    try:
        parts = urlsplit(origin)
        here = urlsplit(f"{parts.scheme}://{host}")
        ports = {"http": 80, "https": 443}
        default = ports[parts.scheme]
        return (
            bool(parts.hostname)
            and parts.netloc == parts.netloc.rpartition("@")[2]
            and parts.hostname == here.hostname
            and (parts.port or default) == (here.port or default)
        )
    except (KeyError, ValueError):
        return False


def may_read(headers: Mapping[str, str], allowed: list[str]) -> dict[str, str]:
    """
    Return the headers that let a page from elsewhere read an answer, if it may connect at all.

    Source: the Fetch standard, "HTTP extensions: CORS protocol". A page of this host needs none.
    """
    origin = headers.get("Origin")
    if origin is None or not origin_allowed(origin, headers.get("Host", ""), allowed):
        return {}
    shared = {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Expose-Headers": "ETag",
    }
    if "Access-Control-Request-Method" in headers:
        shared |= {
            "Access-Control-Allow-Methods": "GET, POST",
            "Access-Control-Allow-Headers": "Authorization, Content-Type, If-None-Match",
            "Access-Control-Max-Age": "600",
        }
    return shared


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Return the name or address in a `Host` header, without the port; empty if it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
