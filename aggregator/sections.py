"""Sections of the configuration that belong to connectors, and what is wrong with any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from . import registry
from .account import AccountConnector
from .connector import Connector
from .settings import BudgetLimits, Server
from .sources import Given

SECRET_WORDS = ("credential", "token", "key", "secret", "pass")
"""A fault in an option so named does not show the value."""

C = TypeVar("C", bound=Connector | AccountConnector)


class Checked(NamedTuple, Generic[C]):
    """A section: its connector and checked options, or what is wrong with the connector."""

    connector: str
    cls: type[C] | None
    options: Any = None
    problem: str = ""


class Sections(Generic[C]):
    """
    Reads the sections of one table.

    Args:
        table: its name.
        load: returns the connector of a name, as `registry.load`.
        names: returns those that there are.
        given: where everything comes from.
        credentials: those that are not empty.

    Attributes:
        faults: a line for each that was found.
        used: the credentials that fill an option.

    """

    def __init__(
        self,
        table: str,
        load: Callable[[str], type[C]],
        names: Callable[[], list[str]],
        given: Given,
        credentials: Mapping[str, SecretStr],
    ) -> None:
        self._table = table
        # To look one up takes milliseconds, and there may be a thousand feeds of it.
        self._load = cache(load)
        self._names = names
        self._given = given
        self._credentials = credentials
        self.faults: list[str] = []
        self.used: set[str] = set()

    def read(self, name: str, options: Mapping[str, Any], owner: str = "") -> Checked[C] | None:
        """
        Return a checked section; `None` if it has faults.

        The names of credentials that fill its secret options begin with `owner`, or else with
        that of the exchange.
        """
        section = dict(options)
        connector = section.pop("connector", None)
        try:
            cls = self._load(str(connector))
        except LookupError:
            where = self._given.where(self._table, name, "connector")
            is_what = "is missing" if connector is None else f"= {connector!r}"
            expected = f"expected one of {', '.join(self._names())}"
            self.faults.append(f"{where}: {self._table}.{name}.connector {is_what}: {expected}")
            return None
        except registry.BrokenConnectorError as e:
            return Checked(str(connector), None, problem=str(e))
        for key, credential in secrets_of(cls, owner):
            self._fill(section, name, key, credential)
        try:
            return Checked(str(connector), cls, cls.options_type(**section))
        except ValidationError as e:
            self.faults += faults(e, self._given, cls.options_type, (self._table, name))
            return None
        except Exception as e:  # noqa: BLE001 - somebody else's validator may raise anything
            problem = f"{type(e).__name__} while its options were checked"
            return Checked(str(connector), None, problem=problem)

    def _fill(self, section: dict[str, Any], name: str, key: str, credential: str) -> None:
        self.used.add(credential)
        holds = self._given.credential_holds(credential, self._table, name, key)
        if credential in self._credentials and holds:
            section[key] = self._credentials[credential]


def secrets_of(cls: type[C], owner: str = "") -> Iterator[tuple[str, str]]:
    """Yield the secret options of a connector, and the credential that fills each."""
    for key, option in cls.options_type.model_fields.items():
        if "SecretStr" in str(option.annotation):
            yield key, f"{owner or cls.exchange}_{key}".lower()


def faults(
    error: ValidationError, given: Given, model: type[BaseModel], prefix: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield a line per fault: where it stands, key, value, and what was expected."""
    for fault in error.errors(include_url=False, include_context=False):
        # pydantic also names the steps of its own that have no place in the file.
        loc = [str(key) for key in fault["loc"] if not set(str(key)) & set("[(")]
        keys = [*prefix, *loc]
        where = given.where(*keys)
        key = ".".join(key if key.isprintable() else repr(key) for key in keys)
        if fault["type"] == "extra_forbidden":
            tables: dict[str, type[BaseModel]] = {"server": Server, "budgets": BudgetLimits}
            table = tables.get(loc[0], model) if len(loc) > 1 else model
            expected = ", ".join(table.model_fields)
            yield f"{where}: {key}: unknown key; expected one of {expected}"
        elif fault["type"] == "missing":
            yield f"{where}: {key}: is missing"
        else:
            expected = fault["msg"].removeprefix("Value error, ")
            value = _shown(keys, fault["input"])
            yield f"{where}: {key} = {value}: {expected[:1].lower()}{expected[1:]}"


def _shown(keys: list[str], value: object) -> str:
    """Return a value for an error message, unless there may be a secret in it."""
    in_address = isinstance(value, str) and "@" in value
    if in_address or any(word in key.lower() for key in keys for word in SECRET_WORDS):
        return "(secret)"
    nested = isinstance(value, list) and any(isinstance(v, dict | list) for v in value)
    if nested or isinstance(value, dict):
        return "(table)" if isinstance(value, dict) else "(list)"
    return repr(value)[:200]
