"""
What a venue's documentation says its payloads look like, so that it is noticed when they change.

A row is written as one line, `"instId:text last:number vol24h:number0 extra:any?"`. The kinds:

* `text`, `bool`, `int`, `float`, `list`, `object`: JSON of that type; a `float` may be an integer
* `number`: a number written as text; `number0`: one that may well be zero or empty all the time
* `int0`, `float0`: likewise
* `any`: whatever it is

A question mark says that the field need not be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,),
    "number": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "list": (list,),
    "object": (dict,),
    "any": (object,),
}


class Kind(NamedTuple):
    """What a field has to be."""

    types: tuple[type, ...]
    is_number: bool
    may_be_zero: bool
    optional: bool

    def fits(self, value: object) -> bool:
        """Whether a value is of this kind; null fits a field that need not be there."""
        if value is None:
            return self.optional
        if isinstance(value, bool) and bool not in self.types and object not in self.types:
            return False
        if not isinstance(value, self.types):
            return False
        return not (self.is_number and isinstance(value, str)) or _is_number(value)


class Row:
    """
    A documented row.

    Args:
        line: its fields and their kinds, as above.

    """

    __slots__ = ("fields",)

    def __init__(self, line: str) -> None:
        self.fields: dict[str, Kind] = {}
        for part in line.split():
            name, _, kind = part.partition(":")
            optional = kind.endswith("?")
            kind = kind.removesuffix("?")
            may_be_zero = kind.endswith("0")
            kind = kind.removesuffix("0")
            types = _TYPES[kind]
            self.fields[name] = Kind(types, kind in _NUMBERS, may_be_zero, optional)

    def faults(self, row: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """Yield what differs: `unknown`, `missing` or `retyped`, and the field's name."""
        for name, value in row.items():
            kind = self.fields.get(name)
            if kind is None:
                yield "unknown", name
            elif not kind.fits(value):
                yield "retyped", name
        for name, kind in self.fields.items():
            if not kind.optional and name not in row:
                yield "missing", name

    def suspects(self) -> set[str]:
        """Return the fields that should not be zero all the time."""
        return {n for n, k in self.fields.items() if k.is_number and not k.may_be_zero}


_NUMBERS = {"number", "int", "float"}


def is_zero(value: object) -> bool:
    """Whether a value says nothing: zero in whatever spelling, empty, or null."""
    if isinstance(value, str):
        return not value.strip("0.-")
    return value is None or value == 0


def _is_number(text: str) -> bool:
    # Empty is how venues write that they have none.
    try:
        float(text or "0")
    except ValueError:
        return False
    return True
