"""Whose web pages may connect, and which hosts are this machine."""

from __future__ import annotations

import ipaddress
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
