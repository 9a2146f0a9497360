"""
The log: lines for a person on a terminal, logfmt elsewhere.

Under systemd each line begins with its priority as sd-daemon(3) has it, so that `journalctl -p
warning` works; time and unit are the journal's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TextIO

from .background import Background

PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


class Human(logging.Formatter):
    """`12:00:00 feed bitcoinprice is live`; the level where it is not the usual one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or, with a traceback, lines."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{time} {level}{_text(record)}"


class Logfmt(logging.Formatter):
    """`time=... level=info logger=aggregator.app msg="..."`, always one line."""

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = _text(record).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        line = f'level={record.levelname.lower()} logger={record.name} msg="{text}"'
        if self._journal:
            return f"<{PRIORITIES.get(record.levelno, 6)}>{line}"
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        return f"time={time.replace('+00:00', 'Z')} {line}"


class Discreet(logging.Formatter):
    """
    Another formatter's line without the secrets that somebody let slip into it: a venue that
    repeats a key, or a traceback.
    """

    def __init__(self, inner: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._inner = inner
        self.secrets = frozenset(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = self._inner.format(record)
        for secret in self.secrets:
            line = line.replace(secret, "********")
        return line


def _text(record: logging.LogRecord) -> str:
    """Return the message; what venues and clients said can't forge lines or move the cursor."""
    text = _printable(record.getMessage())
    if record.exc_info:
        # Indented, so that no line of it looks like one of the log.
        lines = logging.Formatter().formatException(record.exc_info).split("\n")
        text += "".join(f"\n    {_printable(line)}" for line in lines)
    return text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether systemd reads this stream: a terminal started by one of its services inherits
    the variable, but its stream is another one.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def set_up(
    level: str = "info",
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    secrets: Iterable[str] = (),
) -> None:
    """Send the log, without these secrets, to `stream`, or else to standard error."""
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    journal = _is_journal(target, environ)
    formatter = Human() if target.isatty() else Logfmt(journal=journal)
    handler.setFormatter(Discreet(formatter, secrets))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It says what it does to each job at each run; what matters of it, the poller says.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


@contextlib.contextmanager
def in_background() -> Iterator[None]:
    """
    Have a thread write what `set_up` has set up, so that nobody waits for who reads it.

    At the end what waits is still written, within a second. What is logged later is written only
    if that was done: else whoever logs would never end.
    """
    root = logging.getLogger()
    (direct,) = root.handlers
    assert isinstance(direct, logging.StreamHandler)  # noqa: S101 - `set_up` has made it
    background = Background(direct.stream)
    background.setFormatter(direct.formatter)
    root.handlers[:] = [background]
    try:
        yield
    finally:
        if background.finish():
            root.handlers[:] = [direct]


def lost() -> int:
    """Return how many lines had no room, or could not be written."""
    handlers = logging.getLogger().handlers
    return sum(handler.lost for handler in handlers if isinstance(handler, Background))


def told(text: str, level: int, environ: Mapping[str, str] = os.environ) -> str:
    """Return what is said on standard error without a log; under systemd with its priority."""
    if not _is_journal(sys.stderr, environ):
        return text
    return "\n".join(f"<{PRIORITIES[level]}>{line}" for line in text.split("\n"))


def hide(secrets: Iterable[str]) -> None:
    """Leave these out of the log as well, from now on."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, Discreet):
            handler.formatter.secrets |= frozenset(secrets)
