"""The schema of the configuration, without the feeds' sections: those are their connectors'."""

from __future__ import annotations

import ipaddress
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .options import Origin, Seconds, Section
from .sources import Given

FeedName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
OptionalSecret = Annotated[SecretStr | None, BeforeValidator(lambda v: None if v == "" else v)]
"""An empty secret is none: it must not be one that everybody knows."""

TokenId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{1,32}$")]

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Weight = Annotated[int, Field(ge=0, le=1_000_000_000_000)]


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """
    Return what TLS is served with: version 1.2 or newer, and HTTP/1.1 alone.

    Args:
        certificate: a file with the certificate and those that lead to it, as PEM.
        key: one with its private key, as PEM without a password.

    Raises:
        ValueError: one of them can't be used; the text names it and has nothing of what is in it.

    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without an answer here OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as e:
        _check_certificate(certificate)
        if e.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{_file(key)} is not the key of {_file(certificate)}") from None
        raise ValueError(f"{_file(key)} is no private key as PEM, without a password") from None
    except OSError as e:
        _check_certificate(certificate)
        raise ValueError(f"{_file(key)} can't be read: {e.strerror}") from None
    return context


def _check_certificate(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise ValueError(f"{_file(path)} is no certificate as PEM") from None
    except OSError as e:
        raise ValueError(f"{_file(path)} can't be read: {e.strerror}") from None


def _file(path: Path) -> str:
    """Return what a file is called for people; a key that stands in place of one is not told."""
    text = str(path)
    is_name = text.isprintable() and "-----" not in text and len(text) <= 200
    return f"the file {text}" if is_name else "what stands here in place of a file's name"


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError('an address or a network is expected, like "10.0.0.0/8"') from None
    return text


Network = Annotated[str, AfterValidator(_network)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda v: None if v == "" else v)]


class Server(Section):
    """`[server]`: the side of the clients."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on; off loopback the orders of operators need `ops_token`."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port to listen on; 0 takes a free one and logs it."""
    allowed_origins: list[Origin] = Field(default=[])
    """Web pages from elsewhere that may connect, as "https://dashboard.example"; "*" for all."""
    tls_certificate: OptionalPath = None
    """File with the certificate and its chain, as PEM: with it TLS alone is served, https, wss."""
    tls_key: OptionalPath = Field(default=None, validate_default=True)
    """File with its private key, as PEM without a password."""
    trusted_proxies: list[Network] = Field(default=[])
    """Reverse proxies, as addresses or networks, that X-Forwarded-For is believed of."""
    anonymous: bool = True
    """Whether clients without a token get the public channels."""
    ops_token: OptionalSecret = None
    """What operators' orders want as `Authorization: Bearer`; better given as a credential."""
    publish_channels: list[FeedName] = Field(default=[])
    """Channels that trades of an engine of one's own may be published on, with POST /publish."""
    max_connections: Count = 10_000
    """WebSocket connections in all; more are refused with HTTP 503."""
    max_connections_per_address: Count = 100
    """WebSocket connections from one address, of IPv6 one /64; more are refused with HTTP 429."""
    max_http_connections: Count = 10_000
    """Other connections; more are closed at once. The limit for an address holds for them, too."""
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
    history_messages: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Messages of each channel that are kept for clients that come back."""
    history_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 300.0
    """Messages older than this are not kept."""
    history_bytes: Annotated[int, Field(ge=0, le=1_099_511_627_776)] = 4_194_304
    """Bytes of each channel that are kept, about."""
    compression: bool = True
    """Whether clients that ask for it get messages compressed (permessage-deflate)."""

    @field_validator("tls_certificate")
    @classmethod
    def _is_a_certificate(cls, path: Path | None) -> Path | None:
        if path is not None:
            _check_certificate(path)
        return path

    @field_validator("tls_key")
    @classmethod
    def _is_its_key(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        # Where the certificate has a fault of its own, there is no entry.
        certificate = info.data.get("tls_certificate", path)
        if (certificate is None) != (path is None):
            raise ValueError("server.tls_certificate and server.tls_key need one another")
        if certificate is not None and path is not None and "tls_certificate" in info.data:
            tls_context(certificate, path)
        return path


class BudgetLimits(Section):
    """`[budgets.<exchange>]`: what each host of a venue allows; a key replaces the connector's."""

    per_minute: Weight | None = None
    """Weight of the requests in any 60 s; 0 for no limit."""
    per_month: Weight | None = None
    """Weight of the requests in 30 days, paced evenly; 0 for no limit."""
    per_second: Weight | None = None
    """Weight per second of what streamed feeds fetch, paced evenly; 0 for no limit."""


class Token(Section):
    """`[tokens.<id>]`: a key that somebody may come with; `aggregator token create` makes one."""

    user: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Whose key it is."""
    role: Literal["reader", "ops", "admin"] = "reader"
    """reader: own streams; ops: besides, what operators may do; admin: besides, all the rest."""
    hash: Annotated[str, StringConstraints(pattern=r"^sha256\$[0-9a-f]{32,}\$[0-9a-f]{64}$")]
    """Of the key, salted."""


class User(Section):
    """`[users.<id>]`: what is asked of a user besides a token."""

    totp_secret: OptionalSecret = None
    """A one-time code by this secret, in base 32, 26 characters or more; better by a variable."""

    @field_validator("totp_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        text = "" if value is None else value.get_secret_value().replace(" ", "")
        # RFC 4226, section 4: 128 bits at least.
        if value is not None and not re.fullmatch(r"[A-Za-z2-7]{26,}=*", text):
            raise ValueError("has to be 26 or more characters of base 32 (A-Z, 2-7)")
        return value


class Jwt(Section):
    """`[jwt]`: JSON Web Tokens of somebody else; exp, nbf, aud and sub (the user) must be there."""

    algorithm: Literal["HS256", "RS256", "ES256", "EdDSA"] = "HS256"
    """How they are signed; no other is accepted."""
    secret: OptionalSecret = None
    """The secret of HS256, 32 bytes or more; better given by a variable."""
    public_key: str | None = None
    """The public key of the others, as PEM."""
    audience: Annotated[str, Field(min_length=1)]
    """What aud has to be, or contain."""
    issuer: str | None = None
    """What iss has to be, if anything."""

    def key(self) -> str:
        """Return what the signature is checked with."""
        return self.secret.get_secret_value() if self.secret else self.public_key or ""

    @model_validator(mode="after")
    def _has_its_key(self) -> Jwt:
        if self.algorithm == "HS256":
            if self.secret is None or len(self.secret.get_secret_value().encode()) < 32:
                raise ValueError("a secret of 32 bytes or more is needed for HS256")
        elif not (self.public_key or "").startswith("-----BEGIN "):
            raise ValueError(f"a public_key, as PEM, is needed for {self.algorithm}")
        return self


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
    """The whole configuration, before sections are checked by their connectors."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    server: Server = Server()
    budgets: dict[str, BudgetLimits] = {}
    tokens: dict[TokenId, Token] = {}
    users: dict[Annotated[int, Field(ge=1)], User] = {}
    jwt: Jwt | None = None
    credentials: dict[str, SecretStr] = {}
    feeds: dict[FeedName, dict[str, Any]] = {}
    accounts: dict[FeedName, dict[str, Any]] = {}

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
