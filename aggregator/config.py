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
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from . import driver, registry, sources
from .connector import Budget
from .driver import AnyConnector
from .errors import ConfigError
from .options import Options, Origin, Seconds, Section
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
RESERVED = {"system", "heartbeat"}
SECRET_WORDS = ("credential", "token", "key", "secret", "pass")
"""A fault in an option so named does not show the value."""

FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(lambda v: None if v == "" else v)]
"""An empty secret is none: it must not be one that everybody knows."""

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Server(Section):
    """`[server]`: the side of the clients."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on; off loopback the orders of operators need `ops_token`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port to listen on; 0 takes a free one and logs it."""
    allowed_origins: list[Origin] = Field(default=[])
    """Web pages from elsewhere that may connect, as "https://dashboard.example"; "*" for all."""
    ops_token: OptionalSecret = None
    """What operators' orders want as `Authorization: Bearer`; better given as a credential."""
    max_connections: Count = 10_000
    """WebSocket connections in all; more are refused with HTTP 503."""
    max_connections_per_address: Count = 100
    """WebSocket connections from one address; more are refused with HTTP 429."""
    max_subscriptions: Count = 1000
    """Subscriptions of one session."""
    max_commands_per_s: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = 20.0
    """Commands of one session per second, on the average."""
    command_burst: Count = 60
    """Commands of one session at once."""
    max_frame_bytes: Annotated[int, Field(ge=1024, le=16_777_216)] = 65_536
    """The largest message a client may send, and the largest body of `POST /ws/test`."""
    max_buffered_bytes: Annotated[int, Field(ge=1024, le=1_073_741_824)] = 4_194_304
    """Bytes that may wait for one session; twice as many close it at once with 4008."""
    slow_after_s: Seconds = 5.0
    """A session over `max_buffered_bytes` for this long is closed with 4008."""
    heartbeat_s: Seconds = 30.0
    """Time between two pings to a session, and between two messages on `heartbeat`."""
    pong_timeout_s: Seconds = 10.0
    """A session whose pong takes longer is closed with 4010."""
    stalled_after_s: Seconds = 120.0
    """A session that is behind and reads nothing for this long is closed with 4010."""
    flush_window_s: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.001
    """The least time from the end of one fan-out to the next; 0 sends each message at once."""
    compression: bool = True
    """Whether clients that ask for it get messages compressed (permessage-deflate)."""


class BudgetLimits(Section):
    """`[budgets.<exchange>]`: requests allowed to one venue; replaces what its connector says."""

    per_minute: Annotated[int, Field(ge=0)] | None = None
    """Request weight per minute; 0 for no limit."""
    per_month: Annotated[int, Field(ge=0)] | None = None
    """Request weight per month; 0 for no limit."""
    per_second: Annotated[int, Field(ge=0)] | None = None
    """Request weight per second that streamed feeds fetch, evenly; 0 for no limit."""


class _Document(PydanticBaseSettingsSource):
    """A dictionary as a source of settings."""

    def __init__(self, settings_cls: type[BaseSettings], document: dict[str, Any]) -> None:
        super().__init__(settings_cls)
        self._document = document

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._document.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return self._document


class Settings(BaseSettings):
    """The whole configuration, before the feeds' sections are checked by their connectors."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    server: Server = Server()
    budgets: dict[str, BudgetLimits] = {}
    credentials: dict[str, SecretStr] = {}
    feeds: dict[FeedName, dict[str, Any]] = {}

    @classmethod
    def settings_customise_sources(  # noqa: D102 - pydantic-settings' hook
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del env_settings, dotenv_settings, file_secret_settings
        documents: dict[str, dict[str, Any]] = init_settings()
        return tuple(_Document(settings_cls, documents[name]) for name in Given.STRENGTH)


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

    def secrets(self) -> frozenset[str]:
        """Return every secret there is, for who has to keep them out of what is said."""
        values = [*self.credentials.values(), self.server.ops_token]
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
        given.source, server, tuple(feeds), settings.budgets, credentials, tuple(warnings)
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
