"""
The configuration: one line of documentation per option, and an unknown key is an error.

What holds, from the strongest: flags of the command line; `AGGREGATOR_SERVER__PORT`-style
variables; the files in systemd's credentials directory (as `[credentials]`, and so for the options
that those fill); the TOML file; the defaults here. Without a `[feeds]` table the eight standard
feeds are configured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from . import driver, private, registry, sources
from .connector import Budget
from .driver import AnyConnector
from .errors import ConfigError
from .options import Options
from .settings import BudgetLimits, Jwt, Server, Settings, Token, User
from .sources import Given

STANDARD_FEEDS: dict[str, dict[str, Any]] = {
    "binance_prices": {"connector": "binance.prices"},
    "binance_orderbook": {"connector": "binance.orderbook"},
    "binance_24hr": {"connector": "binance.24hr"},
    "coingecko_global": {"connector": "coingecko.global"},
    "coingecko_top": {"connector": "coingecko.top"},
    "coingecko_trending": {"connector": "coingecko.trending"},
    "bitcoinprice": {"connector": "okx.ticker", "instruments": ["BTC/USDT"]},
    "ethprice": {"connector": "okx.ticker", "instruments": ["ETH/USDT"]},
}
RESERVED = {"system", "heartbeat", *private.NAMES}
SECRET_WORDS = ("credential", "token", "key", "secret", "pass")
"""A fault in an option so named does not show the value."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One configured feed: its connector and checked options, or what is wrong with those."""

    name: str
    connector: str
    cls: type[AnyConnector] | None
    options: Options | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration."""

    source: str
    server: Server
    feeds: tuple[Feed, ...]
    budgets: Mapping[str, BudgetLimits] = field(default_factory=dict)
    credentials: Mapping[str, SecretStr] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tokens: Mapping[str, Token] = field(default_factory=dict)
    users: Mapping[int, User] = field(default_factory=dict)
    jwt: Jwt | None = None

    def secrets(self) -> frozenset[str]:
        """Return every secret there is, for who has to keep them out of what is said."""
        values = [*self.credentials.values(), self.server.ops_token]
        values += [user.totp_secret for user in self.users.values()]
        values += [self.jwt.secret] if self.jwt else []
        for feed in self.feeds:
            values += [v for v in dict(feed.options or ()).values() if isinstance(v, SecretStr)]
        return frozenset(v.get_secret_value() for v in values if v and v.get_secret_value())

    def budget(self, feed: Feed) -> Budget:
        """Return what the venue of a feed allows, as configured or else as its connector says."""
        if feed.cls is None or feed.options is None:
            return Budget()
        default = feed.cls.budget_for(feed.options)
        limits = self.budgets.get(feed.cls.exchange, BudgetLimits())
        return replace(default, **limits.model_dump(exclude_none=True))


def load(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """
    Read and check the configuration.

    Args:
        path: the TOML file; otherwise the first of `sources.PLACES` that exists, or none.
        overrides: strongest of all, nested as in the file: what flags say.
        environ: the environment, where it is not this process's own.

    Raises:
        ConfigError: with every fault found: file, key, value and what was expected.

    """
    given = sources.gather(path, overrides or {}, environ, Settings.model_fields)
    given.document.setdefault("feeds", STANDARD_FEEDS)
    try:
        settings = Settings(**{name: getattr(given, name) for name in given.STRENGTH})
    except ValidationError as e:
        raise ConfigError("\n".join(_faults(e, given, Settings))) from None
    credentials = {n: s for n, s in settings.credentials.items() if s.get_secret_value()}
    feeds, faults, used = _feeds(settings.feeds, credentials, given)
    for name in sorted({*settings.feeds, *RESERVED}.intersection(settings.server.publish_channels)):
        where = given.where("server", "publish_channels")
        faults.append(f"{where}: server.publish_channels: {name} is a channel already")
    if faults:
        raise ConfigError("\n".join(faults))
    server = settings.server
    token = credentials.get("ops_token")
    if token and given.credential_holds("ops_token", "server", "ops_token"):
        server = server.model_copy(update={"ops_token": token})
    unused = sorted(set(credentials) - used - {"ops_token"})
    warnings = [f"credential {name} is used by no feed" for name in unused]
    exchanges = {feed.cls.exchange for feed in feeds if feed.cls}
    if all(feed.cls for feed in feeds):
        unused = sorted(set(settings.budgets) - exchanges)
        warnings += [f"budgets.{name} is used by no feed" for name in unused]
    warnings += [f"feeds.{f.name} {problem}" for f in feeds if (problem := driver.lacks(f.cls))]
    return Config(
        given.source,
        server,
        tuple(feeds),
        settings.budgets,
        credentials,
        tuple(warnings),
        settings.tokens,
        settings.users,
        settings.jwt,
    )


def _feeds(
    sections: Mapping[str, dict[str, Any]], credentials: Mapping[str, SecretStr], given: Given
) -> tuple[list[Feed], list[str], set[str]]:
    feeds, faults, used = [], [], set()
    for name, options in sections.items():
        section = dict(options)
        connector = section.pop("connector", None)
        if name in RESERVED:
            where = given.where("feeds", name)
            faults.append(f"{where}: feeds.{name}: the name is taken by the daemon's own channel")
            continue
        try:
            cls = registry.load(str(connector))
        except LookupError:
            where = given.where("feeds", name, "connector")
            is_what = "is missing" if connector is None else f"= {connector!r}"
            expected = ", ".join(registry.names())
            faults.append(f"{where}: feeds.{name}.connector {is_what}: expected one of {expected}")
            continue
        except registry.BrokenConnectorError as e:
            feeds.append(Feed(name, str(connector), None, None, str(e)))
            continue
        for key, credential in _secrets(cls):
            used.add(credential)
            if credential in credentials and given.credential_holds(credential, "feeds", name, key):
                section[key] = credentials[credential]
        try:
            feeds.append(Feed(name, str(connector), cls, cls.options_type(**section)))
        except ValidationError as e:
            faults += _faults(e, given, cls.options_type, ("feeds", name))
        except Exception as e:  # noqa: BLE001 - somebody else's validator may raise anything
            problem = f"{type(e).__name__} while its options were checked"
            feeds.append(Feed(name, str(connector), None, None, problem))
    return feeds, faults, used


def _secrets(cls: type[AnyConnector]) -> Iterator[tuple[str, str]]:
    """Yield the secret options of a connector, and the credential that fills each."""
    for key, option in cls.options_type.model_fields.items():
        if "SecretStr" in str(option.annotation):
            yield key, f"{cls.exchange}_{key}".lower()


def _faults(
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
