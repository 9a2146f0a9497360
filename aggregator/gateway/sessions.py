"""All sessions, and what they share: limits, counters, heartbeats, the end."""

from __future__ import annotations

import asyncio
import itertools
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from aggregator import wire
from aggregator.hub import Hub
from aggregator.settings import Server
from aggregator.tokens import Identity, Keyring

from .access import Access
from .addresses import counted_as
from .commands import Commands
from .delivery import Delivery
from .heartbeats import AT_ONCE, Heartbeats, Pinged
from .protocol import Close
from .session import Session

log = logging.getLogger(__name__)

ANONYMOUS_S = 10.0
"""Within this a client has to say who it is, where `server.anonymous` is off."""
RECEIVE_BYTES = 16_384
"""Read from one client at once; the buffer is shared, since it is used up at once."""


@dataclass(slots=True)
class Counters:
    """What has happened since the start, for the metrics."""

    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    closed: Counter[int] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    resumed: Counter[bool] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    http_errors: Counter[int] = field(default_factory=Counter)
    protocol_errors: int = 0
    read_pauses: int = 0
    folded: int = 0
    lost: int = 0
    gaps: int = 0
    broadcasts: int = 0


class Sessions:
    """
    Every connected client.

    Args:
        hub: what they subscribe to.
        config: `[server]`.
        now: a monotonic clock, in seconds.
        keyring: the tokens that clients may show.

    """

    def __init__(
        self,
        hub: Hub,
        config: Server,
        now: Callable[[], float],
        keyring: Keyring | None = None,
    ) -> None:
        self.hub = hub
        self.config = config
        self.now = now
        # Not `or`: one that is empty yet may be filled, by a reload.
        self.access = Access(Keyring({}, {}, None) if keyring is None else keyring, now)
        # Who has said who it is; and until when the others may wait, the first one first.
        self._known: dict[Commands, None] = {}
        self._nameless: dict[Delivery, float] = {}
        self.counters = Counters()
        self.receive_buffer = bytearray(RECEIVE_BYTES)
        self.heartbeats = Heartbeats(
            config.heartbeat_s,
            config.pong_timeout_s,
            config.stalled_after_s,
            dead=self._no_pong,
            now=now,
        )
        self.lagging: dict[Delivery, None] = {}
        self._everybody: set[Session] = set()
        self._per_address: Counter[str] = Counter()
        self._gone = asyncio.Event()
        self._timers: set[asyncio.TimerHandle] = set()
        self.stopping = False

    def __len__(self) -> int:
        return len(self._everybody)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._everybody)

    def refusal(self, address: str) -> tuple[int, str, str] | None:
        """Return HTTP status, code and text if one more from this address is to be refused."""
        if self.stopping:
            self.counters.rejected["stopping"] += 1
            return 503, "stopping", "the daemon is stopping"
        if len(self._everybody) >= self.config.max_connections:
            self.counters.rejected["max_connections"] += 1
            return 503, "too_many_connections", "all connections are taken"
        if self._per_address[counted_as(address)] >= self.config.max_connections_per_address:
            self.counters.rejected["max_connections_per_address"] += 1
            return 429, "too_many_connections", "too many connections from one address"
        return None

    def create(self, address: str, *, short: bool, deflate_bits: int = 0) -> Session:
        """Create a session; `add` follows when its transport is its own."""
        # One string for all sessions of an address.
        return Session(self, sys.intern(address), short=short, deflate_bits=deflate_bits)

    def add(self, session: Session, transport: asyncio.Transport, early: bytes) -> None:
        """Count a session in and let it begin."""
        self.counters.accepted += 1
        self._everybody.add(session)
        self._per_address[counted_as(session.address)] += 1
        self.heartbeats.add(session)
        if session.identity is not None:
            self._known[session] = None
        elif not self.config.anonymous:
            self._nameless[session] = self.now() + ANONYMOUS_S
        session.start(transport, early)

    def may_listen(self, session: Delivery) -> bool:
        """Whether a session gets what is sent to everybody: not while it has to say who it is."""
        return session not in self._nameless

    def know(self, session: Commands, identity: Identity) -> None:
        """Take note of who a session is."""
        session.identity = identity
        self._known[session] = None
        self._nameless.pop(session, None)
        session.listen()

    def forget(self, session: Session) -> None:
        """Count a session out."""
        if session not in self._everybody:
            return
        self._everybody.discard(session)
        key = counted_as(session.address)
        self._per_address[key] -= 1
        if not self._per_address[key]:
            del self._per_address[key]
        self.heartbeats.remove(session)
        self._known.pop(session, None)
        self._nameless.pop(session, None)
        if not self._everybody:
            self._gone.set()

    def broadcast(self, text: str) -> int:
        """Send a `test_message` to everybody; return how many they are."""
        self.counters.broadcasts += 1
        return self.hub.broadcast(wire.test_message(text, self.hub.now_iso()))

    async def dismiss(self, name: str) -> None:
        """End all subscriptions to a channel that is about to go; others have their turn."""
        for number, session in enumerate(tuple(self._everybody), 1):
            session.dismiss(name)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)

    def reconfigure(self, config: Server) -> None:
        """Go over to other limits; who is connected stays."""
        before, self.config = self.config.anonymous, config
        if before and not config.anonymous:
            late = self.now() + ANONYMOUS_S
            self._nameless = {s: late for s in self._everybody if s.identity is None}
        elif config.anonymous and not before:
            nameless, self._nameless = tuple(self._nameless), {}
            for session in nameless:
                session.listen()
        self.heartbeats.reconfigure(
            config.heartbeat_s, config.pong_timeout_s, config.stalled_after_s
        )

    # Time.

    async def run(self) -> None:
        """Ping, and watch the slow, until cancelled."""
        while True:
            config = self.config
            shortest = min(config.heartbeat_s, config.pong_timeout_s, config.slow_after_s)
            await asyncio.sleep(min(1.0, shortest / 4))
            while self.heartbeats.tick():  # noqa: ASYNC110 - so that all else has its turn
                await asyncio.sleep(0)
            self.close_slow()
            self.close_unknown()

    def close_unknown(self) -> None:
        """Close whose token is no longer good, and who has not shown one in time."""
        good = self.access.keyring.still_good
        for session in [s for s in self._known if s.identity and not good(s.identity)]:
            session.close(Close.UNAUTHORIZED, "the token is no longer good")
        now = self.now()
        late = itertools.takewhile(lambda each: each[1] <= now, self._nameless.items())
        for nameless in [session for session, _ in late]:
            nameless.close(Close.UNAUTHORIZED, "no token was shown in time")

    def close_slow(self) -> None:
        """Close who has been over `max_buffered_bytes` for `slow_after_s`."""
        config = self.config
        now = self.now()
        for session in tuple(self.lagging):
            held = session.held
            if held <= config.max_buffered_bytes:
                session.over_since = None
                continue
            since = session.over_since = now if session.over_since is None else session.over_since
            if now - since >= config.slow_after_s or held > 2 * config.max_buffered_bytes:
                log.info("closed a slow client: %d bytes waited for it", held)
                session.close(Close.SLOW_CONSUMER, "slow consumer")

    def _no_pong(self, session: Pinged) -> None:
        assert isinstance(session, Session)  # noqa: S101 - only sessions are added
        session.close(Close.NO_PONG, "no pong in time")

    def pause_reading(self, transport: asyncio.Transport, seconds: float) -> None:
        """Read nothing from a client for a while."""
        if not transport.is_closing() and transport.is_reading():
            self.counters.read_pauses += 1
            transport.pause_reading()
            self._later(seconds, lambda: _resume_reading(transport))

    def abort_later(self, session: Delivery, seconds: float) -> None:
        """Cut a connection that does not end by itself."""

        def abort() -> None:
            # Not one that has ended: asyncio's transport has nothing left to abort then.
            if session in self._everybody:
                session.abort()

        self._later(seconds, abort)

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        def run() -> None:
            self._timers.discard(handle)
            call()

        handle = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(handle)

    # The end.

    async def stop(self, seconds: float) -> None:
        """Close every session with 1001, and cut off after `seconds` who is left then."""
        self.stopping = True
        self._gone.clear()
        for session in tuple(self._everybody):
            session.close(Close.GOING_AWAY, "the daemon stops")
        if self._everybody:
            try:
                async with asyncio.timeout(seconds):
                    await self._gone.wait()
            except TimeoutError:
                log.info("%d clients did not answer the close", len(self._everybody))
        for session in tuple(self._everybody):
            session.abort()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _resume_reading(transport: asyncio.Transport) -> None:
    if not transport.is_closing():
        transport.resume_reading()
