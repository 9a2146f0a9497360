"""What an address counts as, wherever there is a limit for each."""

from __future__ import annotations

import ipaddress

SUBNET_BITS = 64
"""Of an IPv6 address: whoever has one has all that begin with the same."""


def counted_as(address: str) -> str:
    """
    Return what counts in place of an address: of IPv6 its network, of IPv4 the address itself.

    Args:
        address: as the socket or a trusted proxy names it; what is none counts as it is.

    """
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    # As a socket for both versions names an address of version 4.
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((parsed, SUBNET_BITS), strict=False))
