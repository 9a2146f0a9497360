"""
What a client and the server agree on about compression, by the headers of the handshake.

There is no context takeover in either direction, whatever was offered: each message is compressed
by itself, so one compressed message serves many clients, and a client at rest costs no window.

Source: RFC 6455, section 9.1 (the header); RFC 7692, sections 5 and 7.1 (permessage-deflate).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

NAME = "permessage-deflate"
MAX_LENGTH = 2048
"""Characters of all offers together; a longer list is not looked at. Browsers send some 50."""
WINDOWS = (12, 9)
"""Bits that are used. A larger window makes our messages no smaller (`benchmarks/deflate.py`), and
the fewer there are, the more clients share what was compressed once."""


class Agreement(NamedTuple):
    """What is agreed on; without compression, `NO_COMPRESSION`."""

    bits: int
    """The server compresses with a window of 2 ** `bits` bytes: never a larger one than agreed."""
    header: str
    """The value of `Sec-WebSocket-Extensions` in the answer."""


NO_COMPRESSION = Agreement(0, "")

_ALLOWED: dict[str, set[str | None]] = {
    "server_no_context_takeover": {None},
    "client_no_context_takeover": {None},
    # Not 8: neither zlib nor ISA-L can compress raw DEFLATE with a window of 256 bytes.
    "server_max_window_bits": {str(bits) for bits in range(9, 16)},
    # What the client means to keep to. It is not answered: any window can be read.
    "client_max_window_bits": {None, *(str(bits) for bits in range(8, 16))},
}

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105 - of RFC 7230, section 3.2.6
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_SPACE = r"[ \t]*"
_PARAMETER = rf"{_SPACE};{_SPACE}({_TOKEN})(?:{_SPACE}={_SPACE}({_TOKEN}|{_QUOTED}))?"
_parameters = re.compile(_PARAMETER).findall
# An element of the list: an extension, or nothing, up to the comma or the end.
_element = re.compile(
    rf"{_SPACE}(?:(?P<name>{_TOKEN})(?P<parameters>(?:{_PARAMETER})*){_SPACE})?(?:,|\Z)"
).match

Parameters = list[tuple[str, str | None]]


def negotiate(offers: Iterable[str]) -> Agreement | None:
    """
    Accept the first offer of permessage-deflate that can be kept.

    Args:
        offers: the values of the request's `Sec-WebSocket-Extensions` headers, in order.

    Returns:
        What is agreed on; `None` where no offer can be kept, where there is none, and where the
        headers do not have the form of RFC 6455, section 9.1.

    """
    for name, parameters in _extensions(",".join(offers)):
        if name == NAME and (agreement := _accept(parameters)) is not None:
            return agreement
    return None


def _accept(parameters: Parameters) -> Agreement | None:
    """Accept one offer, unless RFC 7692, section 7, demands to decline it."""
    given = dict(parameters)
    known = all(value in _ALLOWED.get(name, ()) for name, value in parameters)
    if not known or len(given) < len(parameters):
        return None
    header = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
    asked = given.get("server_max_window_bits")
    if asked is None:
        return Agreement(WINDOWS[0], header)
    bits = next(bits for bits in WINDOWS if bits <= int(asked))
    return Agreement(bits, f"{header}; server_max_window_bits={asked}")


def _extensions(text: str) -> list[tuple[str, Parameters]]:
    """Take the list apart; a single fault makes it empty."""
    found: list[tuple[str, Parameters]] = []
    position = 0
    while position < len(text) <= MAX_LENGTH:
        element = _element(text, position)
        if element is None:
            return []
        position = element.end()
        if element["name"] is not None:
            pairs = _parameters(element["parameters"])
            found.append((element["name"], [(name, _value(value)) for name, value in pairs]))
    return found


def _value(text: str) -> str | None:
    """Return a parameter's value without quotes, `None` where it has none."""
    if text.startswith('"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text or None
