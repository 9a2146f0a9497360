"""Finds connectors by their entry points and checks them; a broken one is no crash."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from pydantic import BaseModel

from .account import AccountConnector, AccountOptions
from .connector import Connector, PollConnector, StreamConnector
from .driver import AnyConnector, DriverConnector
from .errors import AggregatorError
from .options import Options, PollOptions, StreamOptions

GROUP = "aggregator.connectors"
ACCOUNTS = "aggregator.accounts"
"""The group of those that are for users' accounts."""
OPTIONS: dict[type[Connector], type[Options]] = {
    PollConnector: PollOptions,
    StreamConnector: StreamOptions,
    DriverConnector: Options,
}
"""What the options of each kind of connector are at least."""


class BrokenConnectorError(AggregatorError):
    """A connector is installed but can't be used."""


class Found(NamedTuple):
    """One installed connector: either `cls`, or what is wrong with it."""

    name: str
    distribution: str
    cls: type[Connector] | None
    problem: str


def names(group: str = GROUP) -> list[str]:
    """Return the names of the installed connectors, without importing them."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load(name: str) -> type[AnyConnector]:
    """
    Import one connector and check that it keeps the contract.

    Raises:
        LookupError: no connector of that name is installed.
        BrokenConnectorError: it can't be imported, or is none; the text says why.

    """
    return _checked(_imported(GROUP, name))


def load_account(name: str) -> type[AccountConnector]:
    """
    Import one connector of accounts and check that it keeps the contract.

    Raises:
        LookupError: none of that name is installed.
        BrokenConnectorError: it can't be imported, or is none; the text says why.

    """
    cls = _imported(ACCOUNTS, name)
    if not (isinstance(cls, type) and issubclass(cls, AccountConnector)):
        raise BrokenConnectorError(f"{cls!r} is no AccountConnector")
    _check_finished(cls, AccountOptions)
    return cls


def _imported(group: str, name: str) -> object:
    """Return what an entry point leads to."""
    found = list(entry_points(group=group, name=name))
    if not found:
        raise LookupError(name)
    if len({entry.value for entry in found}) > 1:
        where = " and ".join(sorted(_distribution(entry) for entry in found))
        raise BrokenConnectorError(f"two connectors have this name, from {where}")
    try:
        loaded: object = found[0].load()
    # Somebody else's module may raise anything while it is imported, and may try to exit.
    except (Exception, SystemExit) as e:
        raise BrokenConnectorError(_one_line(f"{type(e).__name__}: {e}")) from e
    return loaded


def everything() -> list[Found]:
    """Import all installed connectors and say of each whether it works."""
    found = []
    for name in names():
        entries = list(entry_points(group=GROUP, name=name))
        try:
            found.append(Found(name, _distribution(entries[0]), load(name), ""))
        except BrokenConnectorError as e:
            found.append(Found(name, _distribution(entries[0]), None, str(e)))
    return found


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "?"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:500]


def _checked(cls: object) -> type[AnyConnector]:
    if not (isinstance(cls, type) and issubclass(cls, AnyConnector)):
        kinds = "PollConnector, StreamConnector nor DriverConnector"
        raise BrokenConnectorError(f"{cls!r} is neither a {kinds}")
    _check_finished(cls, next(w for kind, w in OPTIONS.items() if issubclass(cls, kind)))
    return cls


def _check_finished(cls: type[Connector | AccountConnector], wanted: type[BaseModel]) -> None:
    """Check what every kind has to have; its options are at least the `wanted`."""
    if unfinished := sorted(getattr(cls, "__abstractmethods__", ())):
        raise BrokenConnectorError(f"{cls.__name__} does not define {', '.join(unfinished)}")
    exchange: object = getattr(cls, "exchange", "")
    if not (isinstance(exchange, str) and exchange):
        raise BrokenConnectorError(f"{cls.__name__}.exchange is not set")
    options_type: object = cls.options_type
    if not (isinstance(options_type, type) and issubclass(options_type, wanted)):
        raise BrokenConnectorError(f"{cls.__name__}.options_type is no {wanted.__name__}")
