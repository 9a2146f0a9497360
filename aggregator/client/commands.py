"""What is said to the daemon, and what its answers mean."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from aggregator.messages import Error, Message, Pong, Position, Subscribed

from .errors import RefusedError
from .intake import Intake
from .options import Options
from .readers import Readers
from .sequence import Sequence
from .subscription import Subscription, Terms

CHANNELS_PER_COMMAND = 200
"""The daemon counts large commands several times, and has a limit for their bytes."""
AUTHENTICATION_FAILED = 4001
RETRY_S = 1.0
"""A command that came too fast is sent again after this time."""
ASK_S = 0.5
"""So long after a `subscribe` it is asked for a sign that its snapshot has come."""

Command = dict[str, Any]


class Said(NamedTuple):
    """A command that was sent; the subscription that it is for, if it is a new one."""

    command: Command
    subscription: Subscription | None = None


class Commands:
    """
    Subscribes: on each connection anew, from where the last one ended.

    Args:
        readers: whose subscriptions they are.
        intake: gets what is found to be lost.
        options: with the token, if there is one.
        send: sends a command as soon as it can; after so many seconds if they are given.

    """

    def __init__(
        self,
        readers: Readers,
        intake: Intake,
        options: Options,
        send: Callable[[Command, float], None],
    ) -> None:
        self._readers = readers
        self._intake = intake
        self._options = options
        self._send = send
        self._auth: int | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[object, Said] = {}
        self.connected = False
        self._asked_s = -math.inf
        self.ponged = True
        """Whether the last ping was answered."""
        intake.on_answer = self.answered
        readers.on_end = self.unsubscribe

    def begin(self) -> None:
        """Subscribe on a new connection."""
        self.connected, self.ponged = True, True
        self._asked_s = -math.inf
        self._ids = itertools.count(1)
        self._waiting.clear()
        if self._options.token is not None:
            token = self._options.token
            self._authenticate(token() if callable(token) else token)
        by_terms: dict[Terms, list[str]] = {}
        for subscription in self._readers.subscriptions:
            if subscription.failure is None:
                by_terms.setdefault(subscription.terms, []).extend(subscription.channels)
        # Whole channels first: what is sent again by another command is not taken twice.
        for terms in sorted(by_terms, key=lambda terms: terms.max_hz is not None):
            self._subscribe(terms, dict.fromkeys(by_terms[terms]))

    def _authenticate(self, token: str) -> None:
        otp = self._options.otp
        code = otp() if callable(otp) else otp
        # Of a file, it ends with a line's end.
        command: Command = {"type": "auth", "token": token.strip()}
        self._auth = self._say(command | ({} if code is None else {"otp": code}))

    def lost(self) -> None:
        """Note that the connection has gone."""
        self.connected = False
        for sequence in self._readers.sequences.values():
            self._intake.lost(sequence.detach())

    def add(self, subscription: Subscription) -> None:
        """Subscribe on the connection that there is; if there is none, on the next."""
        if self.connected:
            channels = dict.fromkeys(subscription.channels)
            self._subscribe(subscription.terms, channels, subscription)

    def start_from(self, since: dict[str, Position]) -> None:
        """Resume these channels from elsewhere, as far as this client does not know them yet."""
        for name, position in since.items():
            sequence = self._readers.sequence(name)
            if sequence is not None and sequence.epoch is None:
                sequence.epoch, sequence.seq = position.epoch, position.seq

    def _subscribe(
        self, terms: Terms, channels: Iterable[str], subscription: Subscription | None = None
    ) -> None:
        command: Command = {"type": "subscribe"}
        if terms.max_hz is not None:
            command["max_hz"] = terms.max_hz
        if not terms.raw:
            command["raw"] = False
        wanted = list(channels)
        for start in range(0, len(wanted), CHANNELS_PER_COMMAND):
            some = wanted[start : start + CHANNELS_PER_COMMAND]
            since = self._since(some)
            more: Command = {"channels": some} | ({"since": since} if since else {})
            self._say(command | more, subscription)
        # Its answer comes behind the snapshots: then they are whole. One for all who subscribe now.
        now_s = time.monotonic()
        if now_s >= self._asked_s + ASK_S:
            self._asked_s = now_s
            self._say({"type": "ping"}, delay_s=ASK_S)

    def _since(self, channels: list[str]) -> dict[str, Position]:
        """Return the positions of what is not known on this connection but was on another."""
        names = {channel.partition(":")[0] for channel in channels}
        return {
            name: sequence.position
            for name, sequence in self._readers.sequences.items()
            if not sequence.attached
            and sequence.whole
            and sequence.position is not None
            and (name in names or "*" in names)
        }

    def unsubscribe(self, channels: list[str]) -> None:
        """Want these no more."""
        for sequence in list(self._readers.sequences.values()):
            if not any(s.wants(sequence.name, None) for s in self._readers.subscriptions):
                del self._readers.sequences[sequence.name]
        if channels and self.connected:
            self._say({"type": "unsubscribe", "channels": channels})

    def ping(self) -> None:
        """Ask whether the daemon is there."""
        self.ponged = False
        self._say({"type": "ping"})

    def _say(
        self, command: Command, subscription: Subscription | None = None, delay_s: float = 0.0
    ) -> int:
        id_ = next(self._ids)
        if command["type"] == "subscribe":
            self._waiting[id_] = Said(command, subscription)
        self._send(command | {"id": id_}, delay_s)
        return id_

    def answered(self, answer: Message, data: bytes) -> None:
        """Take an answer."""
        if isinstance(answer, Pong):
            self.ponged = True
            for sequence in self._readers.sequences.values():
                sequence.completed()
        elif isinstance(answer, Subscribed):
            # Kept: refusals of some of its channels may follow.
            self._subscribed(answer, self._waiting.get(answer.id))
        elif isinstance(answer, Error):
            self._refused(answer, data)

    def _subscribed(self, answer: Subscribed, said: Said | None) -> None:
        known = any(
            sequence.attached
            for name in answer.positions
            if (sequence := self._readers.sequence(name)) is not None
        )
        self._readers.priming = said.subscription if known and said is not None else None
        for name, position in answer.positions.items():
            sequence = self._readers.sequence(name)
            if sequence is not None:
                recovered = answer.recovered.get(name)
                self._intake.lost(sequence.attach(position, recovered=recovered))
                if name in answer.channels and answer.max_hz is None:
                    sequence.be_strict(self._beginning(sequence, position, recovered=recovered))

    @staticmethod
    def _beginning(sequence: Sequence, position: Position, *, recovered: bool | None) -> Position:
        """Return from where on all messages come: where a resumed channel was, or is now."""
        return (sequence.position if recovered else None) or position

    def _refused(self, error: Error, data: bytes) -> None:
        if error.id is not None and error.id == self._auth:
            raise RefusedError(f"authentication failed: {error.message}", AUTHENTICATION_FAILED)
        said = self._waiting.get(error.id)
        if error.code == "rate_limited" and said is not None:
            self._say(said.command, said.subscription, RETRY_S)
            return
        command = said.command if said is not None else {}
        channels = [error.channel] if error.channel else command.get("channels", [])
        self._intake.hand_out(self._readers.of(channels), error, data)
        if said is None:
            return
        for subscription in list(self._readers.subscriptions):
            if not set(channels).isdisjoint(subscription.channels) and not subscription.failure:
                failure = subscription.refuse(error)
                if failure is not None:
                    self._readers.fail(subscription, failure)
