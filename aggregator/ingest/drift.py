"""
Notices that a venue changes what it sends, before anything breaks by it.

The first payloads are looked at, then one in a thousand: fields that the venue does not document,
or no longer sends, or sends as another type, or as zero all the time; kinds of events that nobody
knows; addresses that have gone. Each is counted, and said once in the log for each connector. Data
that are good go on.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from aggregator.connector import Connector
from aggregator.documented import Row, is_zero

from .failure import printable

log = logging.getLogger(__name__)

FIRST = 20
"""Payloads that are all looked at, after a start or a reconnect."""
ONE_IN = 1000
LARGEST = 262_144
"""Bytes of a payload; to decode a larger one would keep everything else waiting."""
ZERO_AFTER = 200
"""Rows in which a field was zero each time, until that is a finding."""
MAX_NAMES = 100
"""Findings that are told apart; the rest counts as `other`."""
_decode = msgspec.json.Decoder().decode

TEXTS = {
    "unknown": "sends a field that is not documented",
    "missing": "no longer sends a field",
    "retyped": "sends a field as another type",
    "zero": "sends a field as zero all the time",
    "repeated": "says the same twice",
    "event": "sends something that the connector does not know",
    "endpoint": "has no such address any more",
}

Finding = tuple[str, str]
"""Its kind, one of `TEXTS`, and where: `row.field`, the event's name, the path."""


class Drift:
    """
    The findings of one feed.

    Args:
        feed: its name.
        connector: the connector's name; what was said of it is not said again by another feed.
        documented: the rows by name, as the connector declares them.
        said: what has been said of every connector; shared by all feeds.

    """

    __slots__ = (
        "_connector",
        "_documented",
        "_feed",
        "_first",
        "_left",
        "_previous",
        "_said",
        "_zeros",
        "counts",
    )

    def __init__(
        self,
        feed: str,
        connector: str,
        documented: Mapping[str, Row],
        said: set[tuple[str, Finding]],
    ) -> None:
        self._feed = feed
        self._connector = connector
        self._documented = documented
        self._said = said
        self._first, self._left = FIRST, 1
        self._previous = b""
        # Of each field that should not be zero: in how many rows it was so, one after the other.
        self._zeros: Counter[tuple[str, str]] = Counter()
        self.counts: Counter[Finding] = Counter()

    def due(self) -> bool:
        """Whether the payload at hand is one to look at. Called for each; as cheap as can be."""
        self._left -= 1
        if self._left > 0:
            return False
        self._first -= 1
        # Two in a row, or it would not be seen that a venue says the same twice.
        self._left = 1 if self._first > 0 or self._first % 2 else ONE_IN
        return True

    def again(self) -> None:
        """Look at all of the next payloads: a new connection may bring something new."""
        self._first, self._left = FIRST, 1

    def look(self, connector: Connector, payload: bytes, *, streamed: bool = False) -> None:
        """Look at a frame or an answer; one that is no JSON is noticed elsewhere."""
        if streamed and payload == self._previous:
            self.found("repeated", "frame")
        self._previous = payload
        if len(payload) > LARGEST:
            return
        try:
            self.rows(connector.rows(_decode(payload)))
        except (msgspec.DecodeError, RecursionError):
            pass
        except (LookupError, TypeError, ValueError, AttributeError):
            self.found("retyped", "payload")

    def rows(self, rows: Iterable[tuple[str, object]]) -> None:
        """Look at rows, each with the name under which it is documented."""
        for name, row in rows:
            documented = self._documented.get(name)
            if documented is None or not isinstance(row, Mapping):
                continue
            for kind, field in documented.faults(row):
                self.found(kind, f"{name}.{field}")
            for field in documented.suspects() & row.keys():
                self._zero(name, field, row[field])

    def _zero(self, name: str, field: str, value: object) -> None:
        place = (name, field)
        if not is_zero(value):
            # Seen once as something, it is not zero all the time; it is never looked at again.
            self._zeros[place] = -(2**62)
        elif self._zeros[place] >= 0:
            self._zeros[place] += 1
            if self._zeros[place] == ZERO_AFTER:
                self.found("zero", f"{name}.{field}")

    def found(self, kind: str, where: str) -> None:
        """Count a finding; say it, if nobody has said it of this connector."""
        where = printable(where, 80)
        finding = (kind, where)
        if finding not in self.counts and len(self.counts) >= MAX_NAMES:
            finding = (kind, "other")
        self.counts[finding] += 1
        told = (self._connector, finding)
        if told not in self._said:
            self._said.add(told)
            log.warning("feed %s: %s %s: %s", self._feed, self._connector, TEXTS[kind], where)
