"""
The venue's digits, through a library that computes with floats.

https://docs.ccxt.com/#/README?id=numbers: "number" is what ccxt makes of each number it parses.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Self

import msgspec


class Number(float):
    """A float that remembers the text that it was made of, so that no digit is lost."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, value: float | str) -> Self:  # noqa: D102 - as float's
        number = float.__new__(cls, value)
        number.text = str(value)
        return number

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__

    def __neg__(self) -> Self:
        """Return the opposite; some exchanges tell the side of a level by its sign."""
        return type(self)(self.text[1:] if self.text.startswith("-") else f"-{self.text}")


class LocalTime(int):
    """Milliseconds since the epoch by this machine's clock: no time that the venue gave."""


DECODER = msgspec.json.Decoder(float_hook=Number)
"""Decodes any JSON, numbers with a fraction or an exponent as `Number`."""


def decimal_text(value: Any) -> str | None:
    """Return a number as decimal text: the venue's, where it has one. `None` stays `None`."""
    if value is None or type(value) is str:
        return value or None
    if type(value) is Number:
        return value.text
    # Something that ccxt has computed.
    return format(Decimal(str(value)), "f")


def microseconds(milliseconds: Any) -> int | None:
    """Return a time that the venue gave, in microseconds since the epoch; `None`: it gave none."""
    if milliseconds is None or isinstance(milliseconds, LocalTime):
        return None
    return int(milliseconds) * 1000


def json_bytes(value: Any) -> bytes:
    """Return a payload that `DECODER` made as JSON again, each number with its own digits."""
    return msgspec.json.encode(value, enc_hook=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, float | int):
        return msgspec.Raw(str(value).encode())
    return str(value)
