"""
What was learned of rhythms, kept over a restart.

Otherwise nobody could tell after each restart, for hours, whether an instrument that trades rarely
has gone silent. It is one file of JSON lines in the directory that systemd has for the daemon's
state; without such a directory nothing is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec

from .freshness import FeedStatus
from .instruments import Instruments

log = logging.getLogger(__name__)

FILE = "rhythms.jsonl"
EVERY_S = 600.0
OLDEST_S = 7 * 86_400.0
"""What was learned longer ago is not taken for true."""

_Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
_Sums = tuple[_Positive, _Positive, _Positive, Annotated[float, msgspec.Meta(ge=0, le=1e12)]]


class FeedRhythms(msgspec.Struct):
    """The rhythms of one feed: its own, and those of its instruments."""

    name: str
    connector: str
    learned_at: float
    """Seconds since the epoch."""
    feed: _Sums | None
    instruments: dict[str, _Sums]


class Learned:
    """
    The file.

    Args:
        folder: where it is; `None`: nothing is kept.
        now: the wall clock, in seconds since the epoch.

    """

    def __init__(self, folder: Path | None, now: Callable[[], float] = time.time) -> None:
        self._path = None if folder is None else folder / FILE
        self._now = now
        self._read: dict[str, FeedRhythms] = {}
        self._failed = False
        if self._path is not None:
            self._load(self._path)

    def _load(self, path: Path) -> None:
        try:
            lines = path.read_bytes().splitlines()
            feeds = [msgspec.json.decode(line, type=FeedRhythms) for line in lines]
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as e:
            log.warning("what was learned of rhythms can't be read, from %s: %s", path, e)
            return
        now = self._now()
        fresh = [each for each in feeds if abs(now - each.learned_at) <= OLDEST_S]
        self._read = {each.name: each for each in fresh}
        if fresh:
            count = sum(len(each.instruments) for each in fresh)
            log.info("rhythms of %d feeds and %d instruments are known", len(fresh), count)

    def recall(self, connector: str, status: FeedStatus, instruments: Instruments) -> None:
        """Let a feed that begins know what was learned of it; of another connector nothing was."""
        known = self._read.pop(status.name, None)
        if known is None or known.connector != connector:
            return
        if known.feed is not None:
            status.rhythm.recall(known.feed)
        instruments.recalled = known.instruments

    async def keep(self, tell: Callable[[], Iterator[FeedRhythms]]) -> None:
        """Write what `tell` yields, every ten minutes and when this is cancelled."""
        if self._path is None:
            return
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                lines = []
                for each in tell():
                    lines.append(msgspec.json.encode(each))
                    await asyncio.sleep(0)
                await asyncio.to_thread(self._write, self._path, lines, ".part")
        finally:
            # With a name of its own: the thread may not be done.
            self._write(self._path, [msgspec.json.encode(each) for each in tell()], ".last")

    def _write(self, path: Path, lines: list[bytes], suffix: str) -> None:
        part = path.with_suffix(suffix)
        try:
            part.write_bytes(b"".join(line + b"\n" for line in lines))
            part.replace(path)
        except OSError as e:
            if not self._failed:
                reason = e.strerror or e
                log.warning("what is learned of rhythms can't be kept, in %s: %s", path, reason)
            self._failed = True
        else:
            self._failed = False


def rhythms_of(
    connector: str, status: FeedStatus, instruments: Instruments, now: float
) -> FeedRhythms:
    """Return what is known of a feed at a time, in seconds since the epoch."""
    found = {name: each.sums for name, each in instruments.watched.items() if each.known}
    # Of what has not spoken since the start, and was never looked at.
    found |= instruments.recalled
    own = status.rhythm.sums if status.rhythm.known else None
    return FeedRhythms(status.name, connector, now, own, found)
