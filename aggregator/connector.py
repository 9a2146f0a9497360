"""
The plugin API: what a connector is.

A connector is a translator. It is told what arrived and says what that means; it does no I/O,
reads no clock, starts no task, writes no log and catches nothing. Its runner in
`aggregator.ingest` owns sockets, deadlines, retries, limits, heartbeats, counters and logs.
The one exception is a driver, which stands around a library that does its own I/O.

One instance lives as long as one connection (of a polled feed: as long as the feed), so there is
no `reset()`.
"""

# The whole of it in one place, which takes a few more lines than 300.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import msgspec

from .documented import Row
from .errors import ExchangeError, PayloadError
from .model import Event
from .options import Options, PollOptions, StreamOptions


@dataclass(frozen=True, slots=True)
class Request:
    """
    An HTTP GET for the runner to do.

    `path` is appended to the feed's `base_url`. `key` is for the connector to know the answer by.
    `weight` is what the venue counts for it. With `max_age_s` the runner leaves the request out
    while its last good answer is younger than that: for reference data.
    """

    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = ""
    weight: int = 1
    max_age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Send:
    """A text frame to send; with a `key`, `Acknowledged(key)` is expected in time."""

    frame: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Fetch:
    """
    A request to do now; the answer goes to `on_response`, or its failure to `on_no_response`.

    Of a streamed connector: `delay_s` seconds from now, and given up when `within_s` seconds bring
    no answer.
    """

    request: Request
    delay_s: float = 0.0
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The venue confirmed the `Send` of that key."""

    key: str


@dataclass(frozen=True, slots=True)
class UnknownInstrument:
    """The venue does not know, or does not trade, this instrument; the feed's others go on."""

    instrument: str
    reason: str


@dataclass(frozen=True, slots=True)
class KnownInstruments:
    """All the instruments that the feed has, where they come from the venue."""

    instruments: frozenset[str]


@dataclass(frozen=True, slots=True)
class Leaving:
    """The venue said that it will soon close this connection."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unhandled:
    """Something that the connector has no use for, by name: the runner counts it."""

    name: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """Something that the connector knows well and rightly leaves out, by name: it is counted."""

    name: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """Data of this instrument came, and wait for what a `Fetch` brings: that is no silence."""

    instrument: str


class Seen(NamedTuple):
    """The newest trade of an instrument that was published, and when it was made."""

    id: str
    exchange_us: int | None = None


Notice = (
    Acknowledged | UnknownInstrument | KnownInstruments | Leaving | Unhandled | Ignored | Withheld
)
Output = Event | Send | Fetch | Notice


@dataclass(frozen=True, slots=True)
class Budget:
    """
    What a venue allows to one address.

    `per_minute`, `per_month` and `per_second` count weights; 0 means no limit known. The last is
    for what streamed feeds fetch, which is spread evenly. `used_header` names the response header
    that says how much of the minute is used, if there is one.
    """

    per_minute: int = 0
    per_month: int = 0
    used_header: str = ""
    per_second: int = 0


class Connector(ABC):
    """What every connector declares."""

    exchange: ClassVar[str]
    """The venue's name, as it stands in the messages."""
    options_type: ClassVar[type[Options]]
    """The schema of the feed's section: `PollOptions`, `StreamOptions` or a subclass."""
    budget: ClassVar[Budget] = Budget()
    """The venue's limit on requests; shared by the feeds of one venue and host."""
    documented: ClassVar[Mapping[str, Row]] = {}
    """What rows of the venue look like, by name, so that it is noticed when they change."""

    def rows(self, payload: Any) -> Iterable[tuple[str, object]]:
        """
        Yield the rows of a decoded frame or answer, each with its name in `documented`.

        Asked of few payloads. What a payload of another shape raises here is a finding by itself.
        """
        del payload
        return ()

    @classmethod
    def exchange_of(cls, options: Options) -> str:
        """Return the venue's name in the messages of a feed with these options."""
        del options
        return cls.exchange

    @classmethod
    def budget_for(cls, options: Options) -> Budget:
        """Return the limit for a feed with these options, where they matter: with a key, say."""
        del options
        return cls.budget

    @classmethod
    def instruments_of(cls, options: Options) -> frozenset[str] | None:
        """Return the instruments a feed with these options has, `None` if the venue will tell."""
        listed = getattr(options, "instruments", None)
        return frozenset(listed) if isinstance(listed, list) else None


class PollConnector(Connector):
    """A connector whose data are fetched over REST."""

    options_type: ClassVar[type[PollOptions]] = PollOptions

    def __init__(self, options: PollOptions) -> None:
        self.options = options

    @abstractmethod
    def requests(self) -> Iterable[Request]:
        """Return what to fetch in this poll, in order."""

    @abstractmethod
    def on_response(self, request: Request, body: bytes) -> Iterable[Output]:
        """Translate one good answer (HTTP 200). A generator is taken in slices by the runner."""

    def on_refusal(self, request: Request, status: int, body: bytes) -> Iterable[Output]:
        """
        Translate an answer with another HTTP status than 200.

        The runner deals with 403, 418, 429, 451 and 5xx before it asks.
        """
        del request
        raise ExchangeError(f"HTTP {status}: {excerpt(body)}")


class StreamConnector(Connector):
    """A connector whose data are pushed over a WebSocket."""

    options_type: ClassVar[type[StreamOptions]] = StreamOptions
    ping: ClassVar[str | None] = None
    """The text frame to send after silence; `None`: a ping of the WebSocket protocol."""
    pong: ClassVar[bytes | None] = None
    """The text frame that answers `ping`; never given to `on_frame`."""

    silence_s: ClassVar[float | None] = None
    """How long the venue promises not to be silent about an instrument; `None`: no promise."""
    sends_per_s: ClassVar[int | None] = None
    """How many frames a second the venue takes at most; what is more waits. `None`: any number."""

    def __init__(self, options: StreamOptions) -> None:
        self.options = options
        self.tick_s: float | None = None
        """How often `on_tick` is called, in seconds; `None`: never."""

    def resume(self, seen: Mapping[str, Seen]) -> None:
        """
        Take note of what was published before this connection, to fetch what is missing since.

        Called before `on_open`. `seen` has the newest `TradeExecuted` by instrument.
        """
        del seen

    @abstractmethod
    def on_open(self) -> Iterable[Send | Fetch]:
        """Return the subscriptions to send, and what to fetch at once."""

    @abstractmethod
    def on_frame(self, frame: bytes) -> Iterable[Output]:
        """Translate one frame. It is valid UTF-8."""

    def on_tick(self) -> Iterable[Output]:
        """Return what was gathered since the last call, by a connector that sends less often."""
        return ()

    def on_response(self, request: Request, body: bytes) -> Iterable[Output]:
        """Translate the good answer (HTTP 200) to a `Fetch`."""
        del body
        return [Unhandled(f"answer to {request.path}")]

    def on_no_response(self, request: Request, reason: str) -> Iterable[Output]:
        """Say what it means that a `Fetch` has failed for good, after the runner's attempts."""
        del reason
        return [Unhandled(f"no answer to {request.path}")]

    def resubscribe(self, instrument: str) -> Iterable[Send]:
        """Return what to send to have one silent instrument again; nothing: it can't be done."""
        del instrument
        return ()


def translate(call: Callable[[], Iterable[Output]]) -> list[Output]:
    """
    Call a connector for one payload: all of its outputs or none.

    Runners and tests come through here, so that a connector decodes without catching anything.

    Raises:
        PayloadError: the payload does not have the documented shape.
        ExchangeError: the venue says that something is wrong.

    """
    try:
        return list(call())
    except UNREADABLE as e:
        raise unreadable(e) from e


UNREADABLE = (msgspec.DecodeError, LookupError, ValueError, ArithmeticError, RecursionError)
"""What decoding a payload of another shape than documented may raise in a connector."""


def unreadable(error: Exception) -> PayloadError:
    """Return the `PayloadError` for one of `UNREADABLE`; its text has no line of the payload."""
    return PayloadError(f"{type(error).__name__}: {str(error)[:200]}")


def excerpt(body: bytes) -> str:
    """Return the beginning of a body for an error message: one printable line."""
    text = body[:300].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else " " for c in text)[:160].strip() or "empty body"


def slices(outputs: Iterable[Output], size: int) -> Iterator[list[Output]]:
    """Cut a connector's outputs into lists of at most `size`, translating as `translate` does."""
    iterator = iter(outputs)
    while True:
        part: list[Output] = []
        try:
            for output in iterator:
                part.append(output)
                if len(part) == size:
                    break
        except UNREADABLE as e:
            raise unreadable(e) from e
        if part:
            yield part
        if len(part) < size:
            return
