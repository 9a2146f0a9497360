"""
Lines of the log, written by a thread: who logs never waits for who reads.

Standard error may be a pipe that nobody reads, or a journal that is stuck. What does not fit into
the queue then is dropped, counted, and told of as soon as there is room.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TextIO

ROOM = 10_000
"""Lines that may wait."""
FINISH_S = 1.0
"""For what waits at the end; who does not read it then will not."""


class Background(logging.Handler):
    """
    Formats at once, so that what is said is as it was then; a thread writes.

    Args:
        stream: where to.
        room: lines that may wait.

    """

    def __init__(self, stream: TextIO, room: int = ROOM) -> None:
        super().__init__()
        self._room = room
        self._write = _writer(stream)
        # Not `Queue`: the collector may run what logs while a line is put, and would wait for ever.
        # A number stands for as many lines that had no room.
        self._queue: SimpleQueue[str | int | None] = SimpleQueue()
        self._dropped = 0
        self._untold = 0
        self._failed = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that had no room, or could not be written."""
        return self._dropped + self._failed

    def emit(self, record: logging.LogRecord) -> None:
        """Have a line written, if there is room for it."""
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - as every handler of logging does
            self.handleError(record)
            return
        if self._queue.qsize() >= self._room:
            self._dropped += 1
            self._untold += 1
            return
        self._tell()
        self._queue.put(line)

    def finish(self, seconds: float = FINISH_S) -> bool:
        """Write what waits; return whether that was done within so many seconds."""
        self._tell()
        self._queue.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _tell(self) -> None:
        if self._untold:
            untold, self._untold = self._untold, 0
            self._queue.put(untold)

    # The thread.

    def _run(self) -> None:
        untold = 0
        while (item := self._queue.get()) is not None:
            if isinstance(item, int):
                untold += item
                continue
            if untold and self._written(self._notice(untold)):
                untold = 0
            if untold or not self._written(item):
                self._failed += 1
                untold += 1
        if untold:
            self._written(self._notice(untold))

    def _written(self, line: str) -> bool:
        try:
            self._write(line + "\n")
        except (OSError, ValueError):  # no room on the disk, or closed
            return False
        return True

    def _notice(self, count: int) -> str:
        text = "lines of the log that are lost, as they could not be written: %d"
        level = logging.WARNING
        return self.format(logging.LogRecord(__name__, level, "", 0, text, (count,), None))


def _writer(stream: TextIO) -> Callable[[str], None]:
    """Return what writes a text to a stream, at once and past its buffer."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError):
        return lambda text: print(text, end="", file=stream, flush=True)
    encoding = stream.encoding

    def write(text: str) -> None:
        # Not by the stream: its lock is held while it writes, and Python needs it to end.
        data = text.encode(encoding, "backslashreplace")
        while data:
            data = data[os.write(fd, data) :]

    return write
