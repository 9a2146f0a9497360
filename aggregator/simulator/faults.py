"""Faults on demand: what is wrong, where, for how many times or how long.

    faults.add(venue="okx", kind="mute", instrument="BTC-USDT", for_s=5)

| kind | does | parameters |
|---|---|---|
| mute | no data; pings, pongs and acknowledgements go on | |
| drop | loses a fraction of the data messages | fraction |
| delay | data and HTTP answers come late, in order | seconds |
| garbage | text that is no JSON instead of the data or the body | text |
| truncate | half a frame or half a body, then the TCP connection is closed | |
| duplicate | data messages come twice | |
| bom | a UTF-8 byte order mark before the data or the body | |
| status | HTTP answers (handshakes too) with this status | status, retry_after, body, code |
| html, empty | HTTP 200 with a page, or with nothing | |
| halfopen | nothing read, nothing written, nothing closed; cut off when it ends | |
| refuse | HTTP requests and handshakes are cut off | |
| noack | subscriptions are not acknowledged; with `data`, they still work | data |
| nopong | pings stay without an answer | |
| notice | OKX's 64008, then a close | after_s, code |
| shutdown | Binance's serverShutdown, then a close | after_s, code |
| close | closed at once with this code | code, reason |
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

VENUES = ("binance", "coingecko", "okx", "*")

_NUMBER = (int, float)
KINDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "mute": {},
    "drop": {"fraction": _NUMBER},
    "delay": {"seconds": _NUMBER},
    "garbage": {"text": str},
    "truncate": {},
    "duplicate": {},
    "bom": {},
    "status": {"status": int, "retry_after": (int, float, str), "body": str, "code": str},
    "html": {},
    "empty": {},
    "halfopen": {},
    "refuse": {},
    "noack": {"data": bool},
    "nopong": {},
    "notice": {"after_s": _NUMBER, "code": int},
    "shutdown": {"after_s": _NUMBER, "code": int},
    "close": {"code": int, "reason": str},
}

# Done to a connection once, the moment they are added or it is accepted.
IMMEDIATE = frozenset({"notice", "shutdown", "close"})
_OWN = {"notice": "okx", "shutdown": "binance"}
# About whole connections: an instrument or a channel would mean nothing.
_WHOLE = IMMEDIATE | {"halfopen", "refuse", "nopong"}


def plain(instrument: str) -> str:
    """One spelling for all: `btc-usdt`, `BTC/USDT` and `BTCUSDT` are `BTCUSDT`."""
    return instrument.replace("-", "").replace("/", "").replace("_", "").upper()


@dataclass(slots=True, eq=False)
class Fault:
    """One fault; `remaining` counts down from `count`, None = no end."""

    id: int
    venue: str
    kind: str
    instrument: str | None = None
    channel: str | None = None
    path: str | None = None
    count: int | None = None
    for_s: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    remaining: int | None = None

    def describe(self) -> dict[str, Any]:
        """Return the fault as it is listed by `GET /faults`."""
        names = ("id", "venue", "kind", "instrument", "channel", "path", "count", "for_s")
        return {name: getattr(self, name) for name in (*names, "remaining")} | self.parameters


def _check(kind: str, parameters: dict[str, Any]) -> None:
    allowed = KINDS[kind]
    for name, value in parameters.items():
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise ValueError(f"{kind}: unknown parameter {name!r} (known: {known})")
        # bool is an int in Python, but not what is meant by a number here.
        if not isinstance(value, allowed[name]) or (
            isinstance(value, bool) and allowed[name] is not bool
        ):
            raise ValueError(f"{kind}: {name} has the wrong type: {value!r}")
    if not 0 <= parameters.get("fraction", 0.5) <= 1:
        raise ValueError("drop: fraction must be within 0 and 1")
    for name in ("seconds", "after_s"):
        if parameters.get(name, 0) < 0:
            raise ValueError(f"{kind}: {name} must not be negative")
    if kind == "status" and not 200 <= parameters.get("status", 0) <= 599:
        raise ValueError("status: a status between 200 and 599 is required")
    if kind != "status" and not 1000 <= parameters.get("code", 1000) <= 4999:
        raise ValueError(f"{kind}: code must be a close code between 1000 and 4999")


def _check_scope(venue: str, kind: str, count: object, for_s: object, scope: list[object]) -> None:
    if venue not in VENUES:
        raise ValueError(f"unknown venue {venue!r} (known: {', '.join(VENUES)})")
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r} (known: {', '.join(sorted(KINDS))})")
    if venue not in (_OWN.get(kind, venue), "*"):
        raise ValueError(f"{kind} exists at {_OWN[kind]} alone")
    if any(part is not None and not isinstance(part, str) for part in scope):
        raise ValueError("instrument, channel and path must be text")
    if kind in _WHOLE and (scope[0] is not None or scope[1] is not None):
        raise ValueError(f"{kind} is about whole connections: no instrument, no channel")
    if count is not None and (type(count) is not int or count < 1):
        raise ValueError("count must be a positive whole number")
    if for_s is not None and (type(for_s) not in _NUMBER or not float(str(for_s)) > 0):
        raise ValueError("for_s must be a positive number of seconds")


class Faults:
    """The registry. Venues ask it before each message; it tells listeners what was added."""

    def __init__(self, seed: int = 0) -> None:
        # Not for secrets: the same seed must lose the same messages.
        self._rng = random.Random(seed)  # noqa: S311
        self._faults: dict[int, Fault] = {}
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._next_id = 1
        self._added: list[Callable[[Fault], None]] = []
        self._removed: list[Callable[[Fault], None]] = []
        self._venues: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._faults.values()))

    def __len__(self) -> int:
        return len(self._faults)

    def listen(self, added: Callable[[Fault], None], removed: Callable[[Fault], None]) -> None:
        """Call `added` and `removed` with each fault that comes or goes."""
        self._added.append(added)
        self._removed.append(removed)

    def add(
        self,
        *,
        venue: str,
        kind: str,
        instrument: str | None = None,
        channel: str | None = None,
        path: str | None = None,
        count: int | None = None,
        for_s: float | None = None,
        **parameters: Any,
    ) -> Fault:
        """Add a fault and return it; ValueError says what is wrong with the request."""
        _check_scope(venue, kind, count, for_s, [instrument, channel, path])
        _check(kind, parameters)
        name = None if instrument is None else plain(instrument)
        fault = Fault(
            self._next_id, venue, kind, name, channel, path, count, for_s, parameters, count
        )
        self._next_id += 1
        self._faults[fault.id] = fault
        if for_s is not None:
            loop = asyncio.get_running_loop()
            self._timers[fault.id] = loop.call_later(for_s, self.remove, fault.id)
        self._refresh()
        for tell in self._added:
            tell(fault)
        return fault

    def remove(self, fault_id: int) -> bool:
        """End one fault; false when there is none with this id."""
        fault = self._faults.pop(fault_id, None)
        if fault is None:
            return False
        if timer := self._timers.pop(fault_id, None):
            timer.cancel()
        self._refresh()
        for tell in self._removed:
            tell(fault)
        return True

    def clear(self) -> None:
        """End all faults."""
        for fault_id in list(self._faults):
            self.remove(fault_id)

    def touch(self, venue: str) -> bool:
        """Say whether any fault concerns `venue`: the quick question on the way of a message."""
        return venue in self._venues

    def take(
        self,
        kind: str,
        venue: str,
        *,
        instruments: frozenset[str] = frozenset(),
        channel: str | None = None,
        path: str | None = None,
    ) -> Fault | None:
        """Find the first fault of this kind that applies here and count it down; None = no such.

        `path` is given for HTTP requests and handshakes, `channel` for data messages.
        """
        for fault in self._faults.values():
            if (
                fault.kind == kind
                and fault.venue in (venue, "*")
                and fault.remaining != 0
                and (fault.instrument is None or fault.instrument in instruments)
                and (fault.channel is None or fault.channel == channel)
                and (fault.path is None or (path is not None and path.startswith(fault.path)))
                and (kind != "drop" or self._rng.random() < fault.parameters.get("fraction", 1.0))
            ):
                self.consume(fault)
                return fault
        return None

    def consume(self, fault: Fault) -> None:
        """Count one application of `fault`."""
        if fault.remaining is None:
            return
        fault.remaining -= 1
        # A used-up halfopen stays listed: removing it is what ends its connections.
        if fault.remaining == 0 and fault.kind != "halfopen":
            self.remove(fault.id)

    def _refresh(self) -> None:
        venues = {fault.venue for fault in self._faults.values()}
        self._venues = frozenset(VENUES if "*" in venues else venues)
