"""
The configuration: one line of documentation per option, and an unknown key is an error.

What holds, from the strongest: flags of the command line; `AGGREGATOR_SERVER__PORT`-style
variables; the files in systemd's credentials directory (as `[credentials]`, and so for the options
that those fill); the TOML file; the defaults here. Without a `[feeds]` table the eight standard
feeds are configured.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from . import account, driver, private, registry, sections, sources
from .account import AccountConnector, AccountOptions
from .connector import Budget
from .driver import AnyConnector
from .errors import ConfigError
from .options import FetchOptions, Options, PollOptions, Section
from .sections import Sections
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
OF_THE_SERVER = {"ops_token", "tls_certificate", "tls_key"}
"""Credentials that no feed uses; of those for TLS only the paths are read, by `[server]`."""
UNGUESSABLE = 22
"""Characters of base 64 in 128 bits."""
KEY_LINE = 32
"""A part of a secret that is as long is as good as one."""


@dataclass(frozen=True, slots=True)
class Feed:
    """One configured feed: its connector and checked options, or what is wrong with those."""

    name: str
    connector: str
    cls: type[AnyConnector] | None
    options: Options | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Account:
    """One configured account: its connector and checked options, or what is wrong with those."""

    name: str
    connector: str
    cls: type[AccountConnector] | None
    options: AccountOptions | None
    problem: str = ""

    @property
    def trouble(self) -> str:
        """Why it can't be used; empty if it can."""
        return self.problem if self.cls is None else account.lacks(self.cls)


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
    accounts: tuple[Account, ...] = ()

    def secrets(self) -> frozenset[str]:
        """Return every secret there is, for who has to keep them out of what is said."""
        values = [*self.credentials.values(), self.server.ops_token]
        values += [user.totp_secret for user in self.users.values()]
        values += [self.jwt.secret] if self.jwt else []
        options: list[Section | None] = [each.options for each in self.feeds]
        options += [each.options for each in self.accounts]
        for each in options:
            values += [v for v in dict(each or ()).values() if isinstance(v, SecretStr)]
        texts = {v.get_secret_value() for v in values if v and v.get_secret_value()}
        # A line of a log has but one of a key's that has several.
        lines = {line for text in texts for line in text.split() if len(line) >= KEY_LINE}
        return frozenset(texts | lines)

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
        raise ConfigError("\n".join(sections.faults(e, given, Settings))) from None
    credentials = {n: s for n, s in settings.credentials.items() if s.get_secret_value()}
    feeds, of_feeds = _feeds(settings, credentials, given)
    accounts, of_accounts = _accounts(settings, credentials, given)
    faults = of_feeds.faults + of_accounts.faults
    for name in sorted({*settings.feeds, *RESERVED}.intersection(settings.server.publish_channels)):
        where = given.where("server", "publish_channels")
        faults.append(f"{where}: server.publish_channels: {name} is a channel already")
    if faults:
        raise ConfigError("\n".join(faults))
    server = settings.server
    token = credentials.get("ops_token")
    if token and given.credential_holds("ops_token", "server", "ops_token"):
        server = server.model_copy(update={"ops_token": token})
    unused = sorted(set(credentials) - of_feeds.used - of_accounts.used - OF_THE_SERVER)
    warnings = [f"credential {name} is used by no feed" for name in unused]
    warnings += _warnings(settings, server, feeds, accounts)
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
        tuple(accounts),
    )


def _warnings(
    settings: Settings, server: Server, feeds: list[Feed], accounts: list[Account]
) -> Iterator[str]:
    """Yield what is no fault, but can't be meant so."""
    if all(feed.cls for feed in feeds):
        # What neither polls nor fetches asks for nothing that a budget would hold for.
        asking = [feed for feed in feeds if isinstance(feed.options, PollOptions | FetchOptions)]
        unused = set(settings.budgets) - {feed.cls.exchange for feed in asking if feed.cls}
        yield from (f"budgets.{name} is used by no feed" for name in sorted(unused))
    if server.ops_token and len(server.ops_token.get_secret_value()) < UNGUESSABLE:
        yield f"server.ops_token can be guessed: give it {UNGUESSABLE} random characters"
    yield from (f"feeds.{f.name} {problem}" for f in feeds if (problem := driver.lacks(f.cls)))
    yield from (f"accounts.{a.name} {a.trouble}" for a in accounts if a.trouble)


def _feeds(
    settings: Settings, credentials: Mapping[str, SecretStr], given: Given
) -> tuple[list[Feed], Sections[AnyConnector]]:
    feeds: list[Feed] = []
    found = Sections("feeds", registry.load, registry.names, given, credentials)
    for name, options in settings.feeds.items():
        if name in RESERVED:
            where = given.where("feeds", name)
            text = f"{where}: feeds.{name}: the name is taken by the daemon's own channel"
            found.faults.append(text)
        elif checked := found.read(name, options):
            feeds.append(Feed(name, *checked))
    return feeds, found


def _accounts(
    settings: Settings, credentials: Mapping[str, SecretStr], given: Given
) -> tuple[list[Account], Sections[AccountConnector]]:
    accounts: list[Account] = []
    names = partial(registry.names, registry.ACCOUNTS)
    found = Sections("accounts", registry.load_account, names, given, credentials)
    taken = _credentials_of_feeds() if settings.accounts else {}
    for name, options in settings.accounts.items():
        if credential := taken.get(name.lower()):
            where = given.where("accounts", name)
            text = f"feeds of the exchange so named take the credential {credential}"
            found.faults.append(f"{where}: accounts.{name}: {text}; choose another name")
        # Two accounts at one venue have keys of their own.
        elif checked := found.read(name, options, name):
            accounts.append(Account(name, *checked))
    return accounts, found


def _credentials_of_feeds() -> dict[str, str]:
    """Return the first credential of each exchange whose feeds have any."""
    taken: dict[str, str] = {}
    for name in registry.names():
        # One that is broken is said where it is used.
        with contextlib.suppress(registry.BrokenConnectorError):
            cls = registry.load(name)
            for _, credential in sections.secrets_of(cls):
                taken.setdefault(cls.exchange.lower(), credential)
    return taken
