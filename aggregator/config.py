"""
The configuration: one line of documentation per option, and an unknown key is an error.

What holds, from the strongest: flags of the command line; `AGGREGATOR_SERVER__PORT`-style
variables; the files in systemd's credentials directory (for `[credentials]`); the TOML file; the
defaults here. Without a `[feeds]` table the eight standard feeds are configured.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from . import registry
from .connector import Budget, Options, PollConnector, Seconds, StreamConnector
from .errors import ConfigError

PREFIX = "AGGREGATOR_"
PLACES = (Path("config/aggregator.toml"), Path("/etc/aggregator/aggregator.toml"))
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

FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Server(BaseModel):
    """`[server]`: the side of the clients."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on; anything but loopback makes `POST /ws/test` ask for `ops_token`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port to listen on; 0 takes a free one and logs it."""
    allowed_origins: list[str] = []
    """Web pages from elsewhere that may connect, as "https://dashboard.example"; "*" for all."""
    ops_token: SecretStr | None = None
    """What `POST /ws/test` wants as `Authorization: Bearer`; better given as a credential."""
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
    flush_window_s: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.001
    """The least time from the end of one fan-out to the next; 0 sends each message at once."""


class BudgetLimits(BaseModel):
    """`[budgets.<exchange>]`: requests allowed to one venue; replaces what its connector says."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    per_minute: Annotated[int, Field(ge=0)] | None = None
    """Request weight per minute; 0 for no limit."""
    per_month: Annotated[int, Field(ge=0)] | None = None
    """Request weight per month; 0 for no limit."""


class _Document(PydanticBaseSettingsSource):
    """A dictionary as a source of settings: the parsed file, or the credentials."""

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

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

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
        del dotenv_settings, file_secret_settings
        given: dict[str, Any] = init_settings()
        document = _Document(settings_cls, given.pop("file"))
        credentials = _Document(settings_cls, given.pop("secrets"))
        return _Document(settings_cls, given), env_settings, credentials, document


@dataclass(frozen=True, slots=True)
class Feed:
    """One configured feed: its connector and checked options, or what is wrong with those."""

    name: str
    connector: str
    cls: type[PollConnector | StreamConnector] | None
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

    def budget(self, cls: type[PollConnector | StreamConnector]) -> Budget:
        """Return what the venue of this connector allows, as configured or else as it declares."""
        limits = self.budgets.get(cls.exchange, BudgetLimits())
        default = cls.budget
        return Budget(
            default.per_minute if limits.per_minute is None else limits.per_minute,
            default.per_month if limits.per_month is None else limits.per_month,
            default.used_header,
        )


def load(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Config:
    """
    Read and check the configuration.

    Args:
        path: the TOML file; otherwise the first of `PLACES` that exists, or none.
        overrides: strongest of all, nested as in the file: what flags say.
        environ: the environment, where it is not this process's own.

    Raises:
        ConfigError: with every fault found: file, key, value and what was expected.

    """
    env = os.environ if environ is None else environ
    path = path or next((p for p in PLACES if p.is_file()), None)
    document = _read(path) if path else {}
    document.setdefault("feeds", STANDARD_FEEDS)
    source = str(path) if path else "built-in defaults"
    _known_variables(env)
    try:
        given: dict[str, Any] = {"file": document, "secrets": _credentials_directory(env)}
        settings = Settings(**given, **dict(overrides or {}))
    except ValidationError as e:
        raise ConfigError("\n".join(_faults(e, source, env))) from e
    except ValueError as e:  # pydantic-settings: a variable that should be JSON is none
        raise ConfigError(f"environment: {e}") from e
    feeds, faults, used = _feeds(settings, source, env)
    if faults:
        raise ConfigError("\n".join(faults))
    server = settings.server
    if server.ops_token is None and "ops_token" in settings.credentials:
        server = server.model_copy(update={"ops_token": settings.credentials["ops_token"]})
    unused = sorted(set(settings.credentials) - used - {"ops_token"})
    warnings = tuple(f"credential {name} is used by no feed" for name in unused)
    return Config(source, server, tuple(feeds), settings.budgets, settings.credentials, warnings)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: can't be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: is no TOML: {e}") from e


def _known_variables(env: Mapping[str, str]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in env:
        if name.upper().startswith(PREFIX) and name.upper().partition("__")[0] not in known:
            expected = ", ".join(sorted(f"{k}__..." for k in known))
            raise ConfigError(f"environment: {name}: unknown variable; expected {expected}")


def _credentials_directory(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the files that systemd's `LoadCredential=` put there, by name."""
    directory = env.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return {}
    try:
        files = {p.name: p.read_text("utf-8").strip() for p in Path(directory).iterdir()}
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"credentials directory: can't be read: {type(e).__name__}") from e
    return {"credentials": {name: text for name, text in files.items() if text}}


def _feeds(
    settings: Settings, source: str, env: Mapping[str, str]
) -> tuple[list[Feed], list[str], set[str]]:
    feeds, faults, used = [], [], set()
    for name, given in settings.feeds.items():
        section = dict(given)
        connector = section.pop("connector", None)
        where = f"{source}: feeds.{name}"
        if name in RESERVED:
            faults.append(f"{where}: the name is taken by the daemon's own channel")
            continue
        try:
            cls = registry.load(str(connector))
        except LookupError:
            expected = ", ".join(registry.names())
            faults.append(f"{where}.connector = {connector!r}: expected one of {expected}")
            continue
        except registry.BrokenConnectorError as e:
            feeds.append(Feed(name, str(connector), None, None, str(e)))
            continue
        for key, credential in _secrets(cls):
            used.add(credential)
            if credential in settings.credentials:
                section.setdefault(key, settings.credentials[credential])
        try:
            feeds.append(Feed(name, str(connector), cls, cls.options_type(**section)))
        except ValidationError as e:
            faults += _faults(e, source, env, ("feeds", name))
    return feeds, faults, used


def _secrets(cls: type[PollConnector | StreamConnector]) -> Iterator[tuple[str, str]]:
    """Yield the secret options of a connector, and the credential that fills each."""
    for key, option in cls.options_type.model_fields.items():
        if "SecretStr" in str(option.annotation):
            yield key, f"{cls.exchange}_{key}"


def _faults(
    error: ValidationError, source: str, env: Mapping[str, str], prefix: tuple[str, ...] = ()
) -> Iterator[str]:
    """Yield a line per fault: where it stands, key, value, and what was expected."""
    variables = {name.upper() for name in env}
    for fault in error.errors(include_url=False, include_context=False):
        keys = [str(key) for key in (*prefix, *fault["loc"])]
        names = (PREFIX + "__".join(keys[:n]).upper() for n in range(len(keys), 0, -1))
        variable = next((name for name in names if name in variables), None)
        where = f"environment: {variable}" if variable else source
        key = ".".join(keys)
        if fault["type"] == "extra_forbidden":
            yield f"{where}: {key}: unknown key"
        elif fault["type"] == "missing":
            yield f"{where}: {key}: is missing"
        else:
            secret = any(part in key for part in ("credentials", "token", "key", "secret"))
            value = "(secret)" if secret else repr(fault["input"])[:200]
            expected = fault["msg"].removeprefix("Value error, ")
            yield f"{where}: {key} = {value}: {expected[:1].lower()}{expected[1:]}"
