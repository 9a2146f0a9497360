"""Messages as a table of pandas or polars, where one of them is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec.structs import fields

from aggregator.messages import Message

from .buffer import Text

Library = Literal["pandas", "polars"]
LIBRARIES: tuple[Library, ...] = ("pandas", "polars")


def to_dataframe(
    messages: Iterable[Message], library: Library | None = None, *, exact: bool = False
) -> Any:
    """
    Return a table with a row for each message.

    What messages have in `data` (trades, candles, states) gets columns of its own; the payload of
    venues is left out. What a message lacks is null.

    Args:
        messages: of any types.
        library: the one to use; else the first that is installed.
        exact: numbers as `Decimal`, with all digits; else as floats.

    Raises:
        ModuleNotFoundError: neither is installed.

    """
    rows = [_row(message, exact=exact) for message in messages]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    for each in [library] if library else LIBRARIES:
        try:
            found = importlib.import_module(each)
        except ModuleNotFoundError:
            continue
        return found.DataFrame(columns)
    raise ModuleNotFoundError(f"to_dataframe needs {library or 'pandas or polars'} installed")


def _row(message: Message, *, exact: bool) -> dict[str, Any]:
    if isinstance(message, Text):
        return {} if message.message is None else _row(message.message, exact=exact)
    row: dict[str, Any] = {"type": message.__struct_config__.tag}
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, msgspec.Raw):
            continue
        if field.name == "data" and isinstance(value, msgspec.Struct):
            parts = {f.name: getattr(value, f.name) for f in fields(value)}
            row |= {
                name: part for name, part in parts.items() if part is not None or not row.get(name)
            }
        else:
            row[field.name] = value
    if not exact:
        row = {k: float(v) if isinstance(v, Decimal) else v for k, v in row.items()}
    return row
