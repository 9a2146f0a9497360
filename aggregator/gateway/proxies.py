"""
Whose request it is that a reverse proxy passes on.

One header counts, `X-Forwarded-For`, and only from a peer that is configured as a proxy: each proxy
appends whom it was asked by, so what stands to the right of the first address that is no proxy's
was written by proxies, and what stands to the left of it by anybody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

from aiohttp import web

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

FORWARDED_FOR = "X-Forwarded-For"
SIGNS = (FORWARDED_FOR, "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
"""Headers that proxies add, each by its own custom."""


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[str]) -> str:
    """
    Return the address that a request came from.

    Args:
        peer: the address that the connection came from.
        forwarded: the values of `X-Forwarded-For`, as often as the request has it.
        trusted: addresses and networks of proxies.

    Returns:
        From a proxy, the rightmost of these addresses that is no proxy's, or the leftmost one if
        all are; the peer's own if there are none, or where what stands there is no address.

    """
    if not is_trusted(peer, trusted):
        return peer
    found = peer
    for text in reversed(",".join(forwarded).split(",")):
        address = _address(text)
        if address is None:
            return peer
        found = str(address)
        if not is_trusted(found, trusted):
            break
    return found


def of_client(request: web.Request, trusted: Sequence[str]) -> web.Request:
    """Return a request as of the client that a trusted proxy passes on."""
    peer = request.remote or ""
    address = client_address(peer, request.headers.getall(FORWARDED_FOR, ()), trusted)
    return request if address == peer else request.clone(remote=address)


def is_trusted(address: str, trusted: Sequence[str]) -> bool:
    """Whether an address is one of a proxy."""
    parsed = _address(address) if trusted else None
    return parsed is not None and any(parsed in network for network in _networks(tuple(trusted)))


def is_forwarded(headers: Mapping[str, str]) -> bool:
    """Whether a request says that it has come through a proxy, trusted or not."""
    return any(name in headers for name in SIGNS)


@lru_cache(maxsize=4)
def _networks(trusted: tuple[str, ...]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(text) for text in trusted]


def _address(text: str) -> Address | None:
    """Return an address as proxies write it, maybe with a port; `None` if it is none."""
    host = text.strip()
    if host.startswith("["):
        host, bracket, port = host[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # As a socket for both versions names an address of version 4.
    return getattr(address, "ipv4_mapped", None) or address


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit()
