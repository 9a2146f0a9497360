"""
What can go wrong for good.

* `ClientError`
  - `UnreachableError`      no connection at the start
  - `RefusedError`          it does not want this client: `status` is HTTP's, or the close code
  - `SubscriptionError`     every channel of a subscription is refused: `errors` says why
  - `ClosedError`           the client has been closed, or was never opened

What a client gets over by itself is no exception: it connects again, and says what is lost.
"""

from __future__ import annotations

from aggregator.messages import Error


class ClientError(Exception):
    """Base of every exception defined here."""


class UnreachableError(ClientError):
    """No connection could be made at the start."""


class RefusedError(ClientError):
    """The daemon does not want this client, and trying again would not help."""

    def __init__(self, reason: str, status: int) -> None:
        super().__init__(reason)
        self.status = status


class SubscriptionError(ClientError):
    """Every channel of a subscription is refused."""

    def __init__(self, errors: list[Error]) -> None:
        super().__init__("; ".join(f"{e.channel or e.code}: {e.message}" for e in errors))
        self.errors = errors


class ClosedError(ClientError):
    """The client is not open."""
