"""The time, for messages that the client makes itself."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time of this machine, in UTC."""
    return datetime.now(UTC)
