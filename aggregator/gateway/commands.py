"""What a client may ask for, and what it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from aggregator import private, wire
from aggregator.channel import Channel
from aggregator.directory import EVERYWHERE, OWN, own_key
from aggregator.tokens import Identity, RejectedError

from . import protocol
from .access import MAX_FAILURES
from .delivery import Delivery
from .protocol import Close, Code, Refusal
from .resume import resume
from .subscriptions import ALL, Terms

if TYPE_CHECKING:
    from .sessions import Sessions


HEAVY_MESSAGES = 100
"""A `subscribe` counts once more for each so many messages that it is answered with."""


class Commands(Delivery):
    """
    The asking side of a session.

    Args:
        sessions: what all of them share: hub, limits, counters.
        address: the peer's address.
        deflate_bits: of the window that is agreed on for compression; 0 for none.
        short: whether the short form of `/ws/ticker` is spoken.

    """

    __slots__ = ("address", "identity", "short", "spent_until")

    def __init__(self, sessions: Sessions, address: str, deflate_bits: int, *, short: bool) -> None:
        super().__init__(sessions, deflate_bits)
        self.address = address
        self.short = short
        # Who the client is, once it has shown a token.
        self.identity: Identity | None = None
        # What its commands have cost so far, as a time: see `Session`.
        self.spent_until = 0.0

    def spend(self, weight: int) -> None:
        """Count what a command costs against the rate."""
        self.spent_until += weight / self._all.config.max_commands_per_s

    def command(self, text: bytes) -> None:
        """Do what a text asks for, or refuse it."""
        try:
            if self.short:
                self._short_form(text)
            else:
                self._long_form(text)
        except Refusal as refusal:
            self._all.counters.refused[refusal.code] += 1
            self.send(wire.frame(refusal.payload))

    def dismiss(self, name: str) -> None:
        """End what is subscribed to on a channel that is about to go, and say so."""
        terms = self.terms()
        gone = [want for want in terms if want.partition(":")[0] == name]
        if gone and not self._closing:
            left = {want: each for want, each in terms.items() if want not in gone}
            self.answer(left, [protocol.gone(want) for want in gone], ())

    def _long_form(self, text: bytes) -> None:
        command = protocol.decode(text)
        self._all.counters.commands[command.type] += 1
        if isinstance(command, protocol.Ping):
            self.send(wire.frame(protocol.pong(self._all.hub.now_iso(), command.id)))
        elif isinstance(command, protocol.Subscribe):
            self._subscribe(command)
        elif isinstance(command, protocol.Auth):
            self._authenticate(command)
        else:
            self._check_allowed(command.id)
            gone = dict.fromkeys(command.channels)
            keys = {self._key(want) for want in gone}
            terms = {want: each for want, each in self.terms().items() if want not in keys}
            self.answer(terms, [protocol.unsubscribed(gone, command.id)], ())

    def _authenticate(self, command: protocol.Auth) -> None:
        access = self._all.access
        try:
            identity = access.show(self.address, command.token, command.otp)
        except RejectedError as e:
            said = "a one-time code is needed" if e.reason == "otp_missing" else "not a good token"
            if access.failures(self.address) < MAX_FAILURES:
                # Also for those that it has sent already.
                pause_s = access.pause_s(self.address)
                self.spend(int(pause_s * self._all.config.max_commands_per_s))
                self._all.pause_reading(self.transport, pause_s)
                raise Refusal(Code.UNAUTHORIZED, said, id=command.id) from None
            self.close(Close.UNAUTHORIZED, "too many wrong tokens")
            return
        if self.identity is not None and identity.user_id != self.identity.user_id:
            raise Refusal(Code.FORBIDDEN, "this connection is another user's", id=command.id)
        self._all.know(self, identity)
        self.send(wire.frame(protocol.authenticated(identity.user_id, command.id)))

    def _subscribe(self, command: protocol.Subscribe) -> None:
        self._check_allowed(command.id)
        hub = self._all.hub
        wanted = dict.fromkeys(command.channels)
        if len(wanted) > self._all.config.max_subscriptions:
            self._too_many(command.id)  # also of unknown ones: each would be answered
        found = {want: self._find(want) for want in wanted}
        good = [want for want, channels in found.items() if channels]
        # A user's own channels by their keys, from here on.
        keys = [self._key(want) for want in good]
        asked = Terms(command.max_hz, command.raw)
        terms = self.terms() | {key: ALL if OWN in key else asked for key in keys}
        self._check_count(terms, command.id)
        positions = {c.name: c for want in good for c in found[want]}
        resumed = resume(hub, positions, command.since, frozenset(keys))
        replies = [protocol.subscribed(good, positions, command, resumed.recovered)] if good else []
        replies += [self._refused(want, command.id) for want in found if not found[want]]
        self._all.counters.resumed.update(resumed.recovered.values())
        snapshot = hub.snapshot(keys, but=resumed.missed)
        # Known only now: the next command pays for it.
        count = len(snapshot) + sum(map(len, resumed.missed.values()))
        self.spend(count // HEAVY_MESSAGES)
        self.answer(terms, [*replies, *resumed.gaps], snapshot, resumed.missed, frozenset(keys))

    def _key(self, want: str) -> str:
        """Return how the hub knows a subscription; empty for one that no client can have."""
        if OWN in want.partition(":")[0]:
            return ""
        if want in private.NAMES:
            return own_key(want, self.identity.user_id) if self.identity else ""
        return want

    def _find(self, want: str) -> list[Channel]:
        if want in private.NAMES and self.identity is not None:
            return [self._all.hub.own(want, self.identity.user_id)]
        return self._all.hub.find(self._key(want))

    def _refused(self, want: str, id_: protocol.Id) -> bytes:
        """Count and return the refusal of one subscription."""
        name = want.partition(":")[0]
        if name in private.NAMES and self.identity is None:
            self._all.counters.refused[Code.UNAUTHORIZED] += 1
            said = "say who you are first, with auth"
            return protocol.error(Code.UNAUTHORIZED, said, channel=want, id=id_)
        self._all.counters.refused[Code.UNKNOWN_CHANNEL] += 1
        return protocol.unknown_channel(want, id_)

    def _short_form(self, text: bytes) -> None:
        command = protocol.decode_short(text)
        self._all.counters.commands[command.action] += 1
        want = f"{EVERYWHERE}:{command.symbol}"
        answer = [protocol.short_answer(command.action, command.symbol)]
        terms = self.terms()
        self._check_allowed(None)
        if command.action == "unsubscribe":
            terms.pop(want, None)
            self.answer(terms, answer, ())
        elif not self._all.hub.find(want):
            raise Refusal(Code.UNKNOWN_CHANNEL, "no channel has this symbol")
        else:
            terms[want] = ALL
            self._check_count(terms, None)
            snapshot = self._all.hub.snapshot([want])
            self.answer(terms, answer, snapshot, asked=frozenset([want]))

    def _check_allowed(self, id_: protocol.Id) -> None:
        if self.identity is None and not self._all.config.anonymous:
            raise Refusal(Code.UNAUTHORIZED, "say who you are first, with auth", id=id_)

    def _check_count(self, terms: dict[str, Terms], id_: protocol.Id) -> None:
        if len(terms) > self._all.config.max_subscriptions:
            self._too_many(id_)

    def _too_many(self, id_: protocol.Id) -> NoReturn:
        message = f"a session may have {self._all.config.max_subscriptions} subscriptions"
        raise Refusal(Code.TOO_MANY_SUBSCRIPTIONS, message, id=id_)
