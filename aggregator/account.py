"""
The plugin kind for a user's own account at a venue: its orders, fills and balances.

A connector knows how this venue is asked and what it means by its answers. When it is asked, what
of the answers is news, and who is told, is its runner's (`aggregator.ingest.accounts`). Sockets
and requests are its runner's too: a connector gets an `Io` and needs no library for that.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Protocol, TypeVar, final

import msgspec
from pydantic import Field, SecretStr

from .connector import UNREADABLE, Ignored, Leaving, Unhandled, unreadable
from .errors import UnusableError
from .model import BalanceUpdate, Fill, OrderUpdate
from .options import HttpAddress, Seconds, Section, WebSocketAddress

T = TypeVar("T")

Secret = Annotated[SecretStr, Field(min_length=1)]
Amount = Annotated[str, msgspec.Meta(pattern=r"^-?[0-9]{1,40}(\.[0-9]{1,40})?$")]
"""A decimal number as text; anything else makes what it is in unreadable."""
MaybeAmount = Annotated[str, msgspec.Meta(pattern=r"^(-?[0-9]{1,40}(\.[0-9]{1,40})?)?$")]
"""The same, or empty."""
READ = "read"
"""The one permission that is needed."""


class LoginError(UnusableError):
    """The venue does not accept the key, and will go on not to."""


@final
@dataclass(frozen=True, slots=True)
class Subscribed:
    """From here on nothing of the account is missing in the stream."""


@final
@dataclass(frozen=True, slots=True)
class Unsure:
    """Something may have been missed: the venue should be asked for the whole state."""


Told = OrderUpdate | Fill | BalanceUpdate | Subscribed | Unsure | Leaving | Ignored | Unhandled
Tell = Callable[[Iterable[Told]], None]
"""Takes what one frame means; raises what ends the attempt."""


class AccountOptions(Section):
    """What every `[accounts.<name>]` section may contain, besides `connector`."""

    user: Annotated[int, Field(ge=1, le=2**53 - 1)]
    """Whose account it is: the number in `[tokens.<id>]`. No client names an account."""
    currency: Annotated[str, Field(pattern=r"^[A-Z0-9]{1,20}$")] = "USDT"
    """The asset that the portfolio is valued in."""
    portfolio_s: Seconds = 10.0
    """The least time between two messages about the portfolio."""
    reconcile_s: Seconds = 300.0
    """How often the venue is asked for the whole state, besides after each new connection."""
    lookback_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 300.0
    """Fills of so long before the start of the daemon are told as well."""
    max_backoff_s: Seconds = 60.0
    """The longest wait between two attempts."""


class NativeOptions(AccountOptions):
    """What the section of an account may contain whose connection is the daemon's own."""

    urls: Annotated[list[WebSocketAddress], Field(min_length=1)]
    """Addresses of the venue's WebSocket, tried in turn."""
    base_url: HttpAddress
    """Where the venue's REST interface is; the paths are appended."""
    api_key: Secret
    """The key; one that can only read is enough."""
    api_secret: Secret
    """The secret that requests are signed with."""
    timeout_s: Seconds = 8.0
    """How long one answer may take, whole."""
    ping_after_s: Seconds = 20.0
    """After this much silence a ping is sent."""
    pong_timeout_s: Seconds = 10.0
    """How long its answer may take."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer to a request: its HTTP status, and its body in valid UTF-8."""

    status: int
    body: bytes


class Socket(Protocol):
    """An open WebSocket. Pings, their answers and the end of it are the runner's."""

    async def send(self, frame: str) -> None:
        """Send a text frame."""

    async def receive(self) -> bytes:
        """Return the next text frame that is no answer to a ping."""


class Io(Protocol):
    """What a connector does its work with; all failures of the network are raised in it."""

    def now_us(self) -> int:
        """Return the wall clock in microseconds since the epoch."""

    async def get(self, path: str, headers: Mapping[str, str]) -> Response:
        """Make a GET request. `path` may have a query, and is sent as it is."""

    def connect(
        self, *, ping: str | None = None, pong: bytes | None = None
    ) -> AbstractAsyncContextManager[Socket]:
        """Open the WebSocket; `ping` and `pong` are for venues that want text for that."""


@dataclass(frozen=True, slots=True)
class Since:
    """
    Which fills are wanted: those from `us` on, in microseconds since the epoch.

    The others are for venues that have to be asked for each symbol by itself. `symbols` are those
    of open orders, `last` has the newest fill that is known of each. The balances of `assets` are
    not what they were; `None`: nothing was known before.
    """

    us: int
    symbols: frozenset[str] = frozenset()
    last: Mapping[str, str] = field(default_factory=dict)
    assets: frozenset[str] | None = None


class AccountConnector(ABC):
    """
    One account. An instance lives as long as the daemon.

    Args:
        name: the account's, as the operator calls it.
        options: those of its section.
        io: does requests and opens sockets.

    """

    exchange: ClassVar[str]
    """The venue's name, as it stands in the messages."""
    options_type: ClassVar[type[AccountOptions]] = NativeOptions
    library: ClassVar[str] = ""
    """A module that its runner imports before the first attempt, and only then."""
    install: ClassVar[str] = ""
    """What to install for it, as pip takes it."""

    def __init__(self, name: str, options: AccountOptions, io: Io) -> None:
        self.name = name
        self.options = options
        self.io = io

    @classmethod
    def exchange_of(cls, options: AccountOptions) -> str:
        """Return the venue's name in the messages of an account with these options."""
        del options
        return cls.exchange

    @abstractmethod
    async def stream(self, tell: Tell) -> None:
        """
        Connect, log in, subscribe, and tell what comes, each frame for itself, until it ends.

        One attempt. `Subscribed` has to be told once; until then nothing else is called but
        `permissions`. Cancelled or not, it leaves no connection and no task behind, and takes a
        second at most for that.

        Raises:
            LoginError: the venue does not accept the key.
            ConnectorError: why else it ended.

        """

    @abstractmethod
    async def open_orders(self) -> list[OrderUpdate]:
        """Return all orders that are open."""

    @abstractmethod
    async def order(self, symbol: str, order_id: str) -> OrderUpdate | None:
        """Return the state of one order; `None` if the venue says that it has none such."""

    @abstractmethod
    async def fills(self, since: Since) -> list[Fill]:
        """Return the fills from a time on, in any order; those of known orders may be left out."""

    @abstractmethod
    async def fills_of(self, symbol: str, order_id: str) -> list[Fill]:
        """Return the fills of one order."""

    @abstractmethod
    async def balances(self) -> list[BalanceUpdate]:
        """Return the balances; an asset that is not among them is nought."""

    async def permissions(self) -> frozenset[str] | None:
        """Return what the key may do, `READ` and others; `None` if the venue does not tell."""
        return None

    async def prices(self, assets: Collection[str]) -> Mapping[str, str]:
        """Return what assets cost in `options.currency`, of those that are traded against it."""
        del assets
        return {}


def lacks(cls: type[AccountConnector]) -> str:
    """Return what a connector needs and is not installed, for people; empty if nothing is."""
    package = cls.library.partition(".")[0]
    if not package or importlib.util.find_spec(package):
        return ""
    return f'needs {package}, which is not installed: pip install "{cls.install}"'


def read(body: bytes | msgspec.Raw, kind: type[T]) -> T:
    """
    Return what an answer says, decoded.

    Raises:
        PayloadError: it has not the documented shape.

    """
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE as e:
        raise unreadable(e) from e
