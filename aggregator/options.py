"""
What the sections of feeds may contain: the options that every connector has, and their types.

The line under an option is its documentation, wherever options are shown.
"""

from __future__ import annotations

from typing import Annotated, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)


def _instrument(text: str) -> str:
    base, slash, quote = text.partition("/")
    good = base and slash and quote and text == text.upper() and text.isprintable()
    if not good or any(c in text for c in ' ,:*"\\') or "/" in quote:
        raise ValueError('an instrument is written "BASE/QUOTE" in upper case, like "BTC/USDT"')
    return text


Instrument = Annotated[str, AfterValidator(_instrument)]


def _distinct(instruments: list[str]) -> list[str]:
    if len(set(instruments)) < len(instruments):
        raise ValueError("an instrument is named twice")
    return instruments


Instruments = Annotated[list[Instrument], Field(min_length=1), AfterValidator(_distinct)]


def _address(*schemes: str, query: bool = False) -> AfterValidator:
    def check(text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in schemes or not parts.hostname or text != text.strip():
            raise ValueError(f"an address begins with {' or '.join(s + '://' for s in schemes)}")
        if "@" in parts.netloc or parts.fragment or (parts.query and not query):
            parts_not = "user or fragment" if query else "user, query or fragment"
            raise ValueError(f"an address here has no {parts_not}; keys are credentials")
        return text

    return AfterValidator(check)


def _origin(text: str) -> str:
    parts = urlsplit(text)
    plain = parts.path in {"", "/"} and not (parts.query or parts.fragment or "@" in parts.netloc)
    if text not in {"*", "null"} and not (parts.scheme and parts.hostname and plain):
        raise ValueError('an origin is written "https://dashboard.example", or is "*" or "null"')
    return text


Origin = Annotated[str, AfterValidator(_origin)]
HttpAddress = Annotated[str, _address("https", "http")]
WebSocketAddress = Annotated[str, _address("wss", "ws", query=True)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the configuration: unknown keys are errors, and a boolean is no number."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        kind = cls.model_fields[str(info.field_name)].annotation
        # One that may be left out is of several kinds, each maybe with its bounds.
        kinds = get_args(kind) if type(None) in get_args(kind) else (kind,)
        numbers = {int, float}.intersection(getattr(each, "__origin__", each) for each in kinds)
        if isinstance(value, bool) and numbers:
            raise ValueError("a number is expected")
        return value


class Options(Section):
    """What every `[feeds.<name>]` section may contain, besides `connector`."""

    stale_after_s: Seconds = 30.0
    """Without data for this long the feed is called stale."""
    max_backoff_s: Seconds = 60.0
    """The longest wait between two attempts."""


class PollOptions(Options):
    """What the section of a polled feed may contain."""

    base_url: HttpAddress
    """Where the venue's REST interface is; the paths are appended."""
    interval_s: Seconds = 10.0
    """Time from poll to poll."""
    timeout_s: Seconds = 8.0
    """How long one answer may take, whole."""


class StreamOptions(Options):
    """What the section of a streamed feed may contain."""

    instruments: Instruments
    """The instruments, as "BASE/QUOTE"."""
    urls: Annotated[list[WebSocketAddress], Field(min_length=1)]
    """Addresses of the venue's WebSocket, tried in turn."""
    ping_after_s: Seconds = 20.0
    """After this much silence a ping is sent."""
    pong_timeout_s: Seconds = 10.0
    """How long its answer may take."""
    ack_timeout_s: Seconds = 10.0
    """How long a subscription's acknowledgement may take."""
    max_age_s: Seconds = 82_800.0
    """At this age, or up to a tenth earlier, a connection is replaced; venues cut it at 24 h."""


class FetchOptions(StreamOptions):
    """What the section of a streamed feed may contain that makes HTTP requests as well."""

    base_url: HttpAddress
    """Where the venue's REST interface is; the paths are appended."""
    timeout_s: Seconds = 8.0
    """How long one answer may take, whole."""
