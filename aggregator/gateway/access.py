"""Who may do what: tokens shown on a socket or over HTTP, and how often they may be wrong."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable

from aiohttp import hdrs, web

from aggregator.tokens import Identity, Keyring, RejectedError, Role

from .addresses import counted_as

MAX_FAILURES = 5
"""In a row, of one address; the next one ends the connection."""
FORGIVEN_AFTER_S = 600.0
"""Failures of an address are forgotten when it has had none for so long."""
MAX_ADDRESSES = 10_000
"""Addresses with failures that are remembered; of IPv6, networks."""
SLOWEST_S = 5.0
"""For so long, at most, nothing is read from who has shown a wrong token."""
SUBPROTOCOL = "aggregator"
TOKEN_PREFIX = "bearer."  # noqa: S105 - that is where it begins, not what it is


class Access:
    """
    Checks tokens, and counts those that were wrong.

    Args:
        keyring: the tokens that are good.
        now: a monotonic clock, in seconds.

    """

    def __init__(self, keyring: Keyring, now: Callable[[], float]) -> None:
        self.keyring = keyring
        self._now = now
        # By what an address counts as: how many, and when the last; the oldest first.
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self.accepted = 0
        self.rejected: Counter[str] = Counter()

    def show(self, address: str, token: str, otp: str | None = None) -> Identity:
        """
        Return who shows this token.

        Raises:
            RejectedError: it is not good; that is counted.

        """
        try:
            identity = self.keyring.check(token, otp)
        except RejectedError as e:
            self.rejected[e.reason] += 1
            # Who lacks the code alone has shown a good token.
            if e.reason != "otp_missing":
                self.failed(address)
            raise
        self.accepted += 1
        self._failures.pop(counted_as(address), None)
        return identity

    def failed(self, address: str) -> None:
        """Count a wrong token of an address."""
        key = counted_as(address)
        self._failures[key] = (self.failures(address) + 1, self._now())
        self._failures.move_to_end(key)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)

    def failures(self, address: str) -> int:
        """Return how many tokens in a row were wrong that came from an address."""
        count, last = self._failures.get(counted_as(address), (0, 0.0))
        return count if self._now() - last < FORGIVEN_AFTER_S else 0

    def pause_s(self, address: str) -> float:
        """Return for how long nothing is to be read from who was wrong so often."""
        return min(SLOWEST_S, 0.25 * 2.0 ** self.failures(address))

    def of(self, request: web.Request) -> Identity | None:
        """
        Return who asks, by the `Authorization` header or a subprotocol; `None` without a token.

        Raises:
            web.HTTPUnauthorized: the token is not good.
            web.HTTPTooManyRequests: neither were those before it.

        """
        token = bearer(request)
        if token is None:
            return None
        # A good one is good, however many wrong ones come from the same address.
        address = request.remote or ""
        try:
            return self.show(address, token)
        except RejectedError as e:
            missing = e.reason == "otp_missing"
            said = "a one-time code is needed, with auth" if missing else "the token is not good"
            raise self.refusal(address, said) from None

    def refusal(self, address: str, text: str) -> web.HTTPException:
        """Return what a wrong token over HTTP is answered with: 429 if there were many."""
        if self.failures(address) <= MAX_FAILURES:
            return unauthorized(text)
        headers = {hdrs.RETRY_AFTER: str(int(FORGIVEN_AFTER_S))}
        return web.HTTPTooManyRequests(text="too many wrong tokens", headers=headers)

    def require(self, request: web.Request, role: Role) -> Identity:
        """
        Return who asks, if they may what a role may.

        Raises:
            web.HTTPUnauthorized: there is no token, or it is not good.
            web.HTTPForbidden: it is, but not for this.

        """
        identity = self.of(request)
        if identity is None:
            raise unauthorized("Authorization: Bearer with a token is needed")
        if not identity.role.may(role):
            raise web.HTTPForbidden(text=f"this needs the role {role}")
        return identity


def unauthorized(text: str) -> web.HTTPUnauthorized:
    """Return what says that a token is needed: RFC 6750, section 3."""
    return web.HTTPUnauthorized(text=text, headers={hdrs.WWW_AUTHENTICATE: "Bearer"})


def bearer(request: web.Request) -> str | None:
    """Return the token of a request; a browser can only put one among the subprotocols."""
    scheme, _, given = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    for offer in subprotocols(request):
        if offer.startswith(TOKEN_PREFIX):
            return offer.removeprefix(TOKEN_PREFIX)
    return None


def subprotocols(request: web.BaseRequest) -> list[str]:
    """Return the subprotocols that a client offers."""
    offers = ",".join(request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, ()))
    return [offer.strip() for offer in offers.split(",") if offer.strip()]
