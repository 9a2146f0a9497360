"""The schema of the configuration, without the feeds' sections: those are their connectors'."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, SecretStr, StringConstraints
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from .options import Origin, Seconds, Section
from .sources import Given

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
    history_messages: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """Messages of each channel that are kept for clients that come back."""
    history_s: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = 300.0
    """Messages older than this are not kept."""
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
