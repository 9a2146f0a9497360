"""From the bytes of a message to the buffers of those who want it: decoded, checked, in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from aggregator.messages import (
    AnyMessage,
    AuthSuccess,
    BalanceUpdate,
    Error,
    Gap,
    Heartbeat,
    Message,
    Numbered,
    OrderUpdate,
    OwnTrade,
    Pong,
    PortfolioUpdate,
    PriceUpdate,
    Subscribed,
    SystemStatus,
    TestMessage,
    TradeExecuted,
    Unsubscribed,
)

from .buffer import Text
from .callbacks import Callbacks, Invalid
from .clock import now
from .counters import Counters
from .options import Options
from .readers import Readers, Route
from .sequence import REASON, Sequence

logger = logging.getLogger("aggregator.client")

BEGINNING = datetime(2009, 1, 3, tzinfo=UTC)
"""Of the first block of Bitcoin: no price is older."""

_AGING = (PriceUpdate, TradeExecuted)
_ANSWERS = (Subscribed, Unsubscribed, Pong, Error, AuthSuccess)


class _Head(msgspec.Struct):
    """What can be read of a message that is not known, or not valid."""

    type: str
    channel: str | None = None
    instrument: object = None
    seq: int | None = None


_OF_NO_INSTRUMENT = (SystemStatus, Heartbeat, OrderUpdate, OwnTrade, BalanceUpdate, PortfolioUpdate)
_SUBJECTS: dict[type[Message], Callable[[Any], str]] = {
    SystemStatus: lambda m: f"{m.data.feed} {m.data.instrument}",
    OrderUpdate: lambda m: f"{m.account} {m.data.order_id}",
    BalanceUpdate: lambda m: f"{m.account} {m.data.asset}",
    PortfolioUpdate: lambda m: m.account,
    OwnTrade: lambda _: "",
    Heartbeat: lambda _: "",
}
"""By what the numbers of a channel are kept where it is not by instrument."""

_decode = msgspec.json.Decoder(AnyMessage, float_hook=Decimal).decode
_head = msgspec.json.Decoder(_Head).decode
_known = {kind.__struct_config__.tag for kind in AnyMessage.__args__}
_UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)


class Intake:
    """Takes what the daemon sends."""

    def __init__(
        self, options: Options, readers: Readers, callbacks: Callbacks, counters: Counters
    ) -> None:
        self._readers = readers
        self._sequences = readers.sequences
        self._callbacks = callbacks
        self._counters = counters
        self._ahead = timedelta(seconds=options.max_ahead_s)
        self._latest = BEGINNING
        """No `timestamp` may be later; found anew when one is."""
        self._with_text = options.text
        self.crowded: Route = ()
        """Buffers that are full: read no more until they have room."""
        self.on_answer: Callable[[Message, bytes], None] = lambda _answer, _data: None
        self.on_hole: Callable[[Sequence], None] = lambda _sequence: None

    # In one piece, with more lines than other functions: it runs for each message.
    def take(self, data: bytes) -> None:  # noqa: C901 - see above
        """Take a message's text."""
        try:
            message = _decode(data)
        except _UNREADABLE as e:
            self._unreadable(data, e)
            return
        if message.__class__ is PriceUpdate:
            about = instrument = message.instrument
        else:
            found = self._about(message, data)
            if found is None:
                return
            message, about, instrument = found
        channel = message.channel
        sequence = self._sequences.get(channel) or self._readers.sequence(channel)
        if sequence is None:
            self._counters.unknown += 1
            return
        seq = message.seq
        if seq <= sequence.last.get(about, -1):
            self._again(message, instrument, data)
            return
        sequence.last[about] = seq
        if seq > sequence.seq:
            if sequence.strict and seq != sequence.seq + 1:
                self._skipped(sequence, seq)
            sequence.seq = seq
        # The rest is looked at without a call where all is well.
        if (
            not BEGINNING <= message.timestamp <= self._latest
            or sequence.max_age_s is not None
            or message.__class__ is not PriceUpdate
            or message.conflated
            or not message.price.is_finite()
        ) and not self._passes(sequence, message, data):
            return
        item = Text(data, message) if self._with_text else message
        self._counters.messages += 1
        for buffer in sequence.routes.get(instrument) or self._readers.route(sequence, instrument):
            buffer.put(item)
            if buffer.full:
                self.crowded = (*self.crowded, buffer)

    def _about(self, message: AnyMessage, data: bytes) -> tuple[Numbered, str, str] | None:
        """
        Return a numbered message, what it is about, and whom it is for; see to all others.

        The second is by what numbers are kept, the third an instrument, or empty.
        """
        if isinstance(message, _OF_NO_INSTRUMENT):
            return message, _SUBJECTS[type(message)](message), ""
        if isinstance(message, _ANSWERS):
            self.on_answer(message, data)
        elif isinstance(message, TestMessage):
            self.hand_out(self._readers.everyone(), message, data)
        elif isinstance(message, Gap):
            sequence = self._readers.sequence(message.channel)
            if sequence is not None and message.seq is None:
                self._counters.gaps += 1
                sequence.told(message)
                self.hand_out(self._readers.route(sequence, message.instrument), message, data)
            elif message.seq is not None:
                self._numbered_gap(message, data)
        else:
            return message, message.instrument, message.instrument
        return None

    def _numbered_gap(self, gap: Gap, data: bytes) -> None:
        """Hand out what the venue lost: a message of the channel, perhaps for all of it."""
        if self._is_new(gap.channel, gap.instrument or "", gap.seq or 0):
            self._counters.gaps += 1
            sequence = self._sequences[gap.channel]
            self.hand_out(self._readers.route(sequence, gap.instrument), gap, data)

    def _is_new(self, channel: str, about: str, seq: int) -> bool:
        """Note a number of a channel that somebody wants; whether it was not had before."""
        sequence = self._readers.sequence(channel)
        if sequence is None:
            self._counters.unknown += 1
            return False
        if seq <= sequence.last.get(about, -1):
            self._counters.duplicates += 1
            return False
        sequence.last[about] = seq
        if seq > sequence.seq:
            if sequence.strict and seq != sequence.seq + 1:
                self._skipped(sequence, seq)
            sequence.seq = seq
        return True

    def _again(self, message: Numbered, instrument: str, data: bytes) -> None:
        """Drop a message, unless a new subscription is the reason that it comes once more."""
        newest = self._readers.priming
        of_snapshot = isinstance(message, SystemStatus) or getattr(message, "age_us", None)
        if newest is None or not newest.claimed or of_snapshot is None:
            self._counters.duplicates += 1
        elif newest.wants(message.channel, instrument):
            self.hand_out((newest.own,), message, data)

    def _skipped(self, sequence: Sequence, seq: int) -> None:
        if sequence.skipped(seq, time.monotonic()):
            self.on_hole(sequence)

    def _passes(self, sequence: Sequence, message: Numbered, data: bytes) -> bool:
        """Look at what is not as usual; whether the message may be handed out."""
        conflated = getattr(message, "conflated", 0)
        if conflated:
            sequence.stands_for(conflated, time.monotonic())
        time_now = now()
        self._latest = time_now + self._ahead
        timestamp: datetime = message.timestamp
        reason, is_old = "", False
        if not BEGINNING <= timestamp <= self._latest:
            reason = f"the timestamp is absurd: {timestamp.isoformat()}"
        elif isinstance(message, PriceUpdate) and not message.price.is_finite():
            reason = f"the price is no number: {message.price}"
        elif sequence.max_age_s is not None and isinstance(message, _AGING):
            age_s = (time_now - timestamp).total_seconds()
            is_old = age_s > sequence.max_age_s
            if is_old:
                reason = f"{age_s:.1f} s old, more than {sequence.max_age_s:g} s"
        if not reason:
            return True
        self.invalid(Invalid(reason, data, message))
        if not is_old:
            self._lost_one(message.channel, getattr(message, "instrument", None), message.seq, data)
        return False

    def lost(self, gap: Gap | None) -> None:
        """Hand out a gap that the client has found itself, if it is one."""
        if gap is not None:
            self._counters.gaps += 1
            sequence = self._readers.sequence(gap.channel)
            if sequence is not None:
                route = self._readers.route(sequence, gap.instrument)
                self.hand_out(route, gap, msgspec.json.encode(gap))

    def hand_out(self, route: Route, message: Message, data: bytes) -> None:
        """Put a message into these buffers."""
        self._counters.messages += 1
        item = Text(data, message) if self._with_text else message
        for buffer in route:
            buffer.put(item)
            if buffer.full:
                self.crowded = (*self.crowded, buffer)

    def _unreadable(self, data: bytes, error: Exception) -> None:
        """See to what can't be decoded: of a type that is not known, or not as it should be."""
        try:
            head = _head(data)
        except _UNREADABLE:
            head = _Head("")
        # Its number is no hole.
        instrument = head.instrument if isinstance(head.instrument, str) else None
        channel, about, seq = head.channel, instrument or head.type, head.seq
        if channel is not None and seq is not None and not self._is_new(channel, about, seq):
            return
        if head.type and head.type not in _known:
            self._counters.unknown += 1
        else:
            self.invalid(Invalid(str(error) or type(error).__name__, data, None))
            if channel is not None and seq is not None:
                self._lost_one(channel, instrument, seq, data)
                return
        if self._with_text:
            for buffer in self._readers.everyone():
                buffer.put(Text(data, None))

    def _lost_one(self, channel: str, instrument: str | None, seq: int, data: bytes) -> None:
        """Hand out a gap in place of what is not valid; or its text, to who wants that."""
        if not self._with_text:
            self.lost(_without(channel, instrument, seq))
        elif (sequence := self._readers.sequence(channel)) is not None:
            for buffer in self._readers.route(sequence, instrument):
                buffer.put(Text(data, None))

    def invalid(self, invalid: Invalid) -> None:
        """Say that something is not handed out; the log is told less and less often."""
        self._counters.invalid += 1
        if self._callbacks.on_invalid is not None:
            self._callbacks.on_invalid(invalid)
        elif not self._with_text and self._counters.invalid.bit_count() == 1:
            text = invalid.text[:200].decode(errors="replace")
            logger.warning(
                "not handed out (%d so far): %s: %s", self._counters.invalid, invalid.reason, text
            )


def _without(channel: str, instrument: str | None, seq: int) -> Gap:
    return Gap(
        channel=channel,
        instrument=instrument,
        from_seq=seq,
        to_seq=seq,
        reason=REASON,
        timestamp=now(),
        data={"cause": "the message was not valid"},
    )
