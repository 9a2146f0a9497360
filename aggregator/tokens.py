"""
Who somebody is, by a token: keys from the configuration, and JSON Web Tokens.

A key is `agg_<id>_<secret>`. Of the secret, 256 random bits, only a salted SHA-256 is kept: there
is nothing to guess, so a slow hash would only slow the daemon down. Sources: RFC 7519 (JWT), RFC
6238 (one-time codes), RFC 6750 (bearer tokens).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from .settings import Jwt, Token, User

MAX_BYTES = 8192
"""Of a token; longer ones are not even looked at."""
STEP_S = 30
"""A one-time code is good for so long, and for as long before and after: RFC 6238, 5.2."""
MAX_WRONG_CODES = 5
"""In a row, of one user; then none is looked at for `LOCKED_S`."""
LOCKED_S = 600.0
_KEY = re.compile(r"agg_([a-z0-9]{1,32})_([A-Za-z0-9_-]{20,128})")
_NONE = "sha256$00$" + 64 * "0"


class Role(StrEnum):
    """What somebody may do; each what those before it may."""

    READER = "reader"
    OPS = "ops"
    ADMIN = "admin"

    def may(self, role: Role) -> bool:
        """Whether it includes another."""
        order = list(Role)
        return order.index(self) >= order.index(role)


class Identity(NamedTuple):
    """Somebody who has shown a token."""

    user_id: int
    role: Role
    token_id: str | None = None
    """Of a key: while the configuration has it, it is good."""
    expires: float | None = None
    """Seconds since the epoch, of a JSON Web Token."""
    proof: str = ""
    """What it was checked against: with another one it is no longer good."""


class RejectedError(Exception):
    """A token that is not good; the reason is one of a few words, for the metrics."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def create(token_id: str) -> tuple[str, str]:
    """Return a new key, to be shown once, and the hash that the configuration keeps of it."""
    secret = secrets.token_urlsafe(32)
    return f"agg_{token_id}_{secret}", hashed(secret, secrets.token_hex(16))


def hashed(secret: str, salt: str) -> str:
    """Return the salted hash of the secret part of a key."""
    digest = hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()
    return f"sha256${salt}${digest}"


class Keyring:
    """
    The tokens that are good.

    Args:
        tokens: the keys, by id.
        users: what is asked of a user besides, by id.
        jwt: how JSON Web Tokens are checked; `None` where there are none.
        now: the wall clock, in seconds since the epoch.

    """

    def __init__(
        self,
        tokens: Mapping[str, Token],
        users: Mapping[int, User],
        jwt: Jwt | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.replace(tokens, users, jwt)
        self._now = now
        # The last step of which a user's code was taken: no code twice, not even by a restart.
        self._steps: dict[int, int] = {}
        self._began = int(now()) // STEP_S
        # Of users: how many codes in a row were wrong, and when the last.
        self._wrong: dict[int, tuple[int, float]] = {}

    def replace(
        self, tokens: Mapping[str, Token], users: Mapping[int, User], jwt: Jwt | None
    ) -> None:
        """Go over to another configuration; codes that were used stay used."""
        self._tokens, self._users, self._jwt = tokens, users, jwt
        # Here, since it is asked for once a second by each session.
        self._jwt_proof = None if jwt is None else _fingerprint(jwt)

    def __bool__(self) -> bool:
        return bool(self._tokens or self._jwt)

    def check(self, token: str, otp: str | None = None) -> Identity:
        """
        Return who shows this token.

        Raises:
            RejectedError: it is not good, or a one-time code is missing or wrong.

        """
        if len(token) > MAX_BYTES:
            raise RejectedError("malformed")
        if match := _KEY.fullmatch(token):
            identity = self._by_key(*match.groups())
        elif token.count(".") == 2 and self._jwt is not None:
            identity = self._by_jwt(token, self._jwt)
        else:
            raise RejectedError("malformed")
        self._check_code(identity.user_id, otp)
        return identity

    def still_good(self, identity: Identity) -> bool:
        """Whether somebody may stay who has shown a token before."""
        if identity.token_id is not None:
            token = self._tokens.get(identity.token_id)
            said = (identity.user_id, identity.role, identity.proof)
            return token is not None and (token.user, token.role, token.hash) == said
        return self._jwt_proof == identity.proof and (identity.expires or 0) > self._now()

    def _by_key(self, token_id: str, secret: str) -> Identity:
        token = self._tokens.get(token_id)
        # Also where there is none, so that the time it takes does not tell.
        known = _NONE if token is None else token.hash
        salt = known.split("$")[1]
        same = hmac.compare_digest(hashed(secret, salt), known)
        if token is None or not same:
            raise RejectedError("unknown")
        return Identity(token.user, Role(token.role), token_id, proof=known)

    def _by_jwt(self, token: str, config: Jwt) -> Identity:
        # Only here: it takes 30 ms and some megabytes to import.
        import jwt  # noqa: PLC0415

        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                config.key(),
                algorithms=[config.algorithm],
                audience=config.audience,
                issuer=config.issuer,
                options={"require": ["exp", "nbf", "aud", "sub"]},
            )
            user_id, role = _user(claims["sub"]), Role(claims.get("role", Role.READER))
            expires = float(claims["exp"])
        except jwt.ExpiredSignatureError:
            raise RejectedError("expired") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise RejectedError("invalid") from None
        return Identity(user_id, role, expires=expires, proof=self._jwt_proof or "")

    def _check_code(self, user_id: int, otp: str | None) -> None:
        user = self._users.get(user_id)
        if user is None or user.totp_secret is None:
            return
        if otp is None:
            raise RejectedError("otp_missing")
        now = self._now()
        count, last = self._wrong.get(user_id, (0, 0.0))
        # Who has the key could else try all the codes there are: three of a million are good.
        if count >= MAX_WRONG_CODES and now - last < LOCKED_S:
            raise RejectedError("otp_locked")
        import pyotp  # noqa: PLC0415

        totp = pyotp.TOTP(user.totp_secret.get_secret_value())
        step = int(now) // STEP_S
        for each in (step - 1, step, step + 1):
            good = hmac.compare_digest(totp.generate_otp(each).encode(), otp.encode())
            if good and each > self._steps.get(user_id, self._began):
                self._steps[user_id] = each
                self._wrong.pop(user_id, None)
                return
        self._wrong[user_id] = (count + 1, now)
        raise RejectedError("otp_wrong")


def _user(subject: str) -> int:
    """
    Return the user that `sub` names.

    Raises:
        ValueError: it is no number of a user.

    """
    # Larger ones could not be told to a client in JavaScript.
    if not re.fullmatch(r"[1-9][0-9]{0,15}", subject) or int(subject) >= 2**53:
        raise ValueError(subject)
    return int(subject)


def _fingerprint(config: Jwt) -> str:
    """Return what changes when web tokens are checked otherwise; nothing can be told from it."""
    said = repr((config.algorithm, config.key(), config.audience, config.issuer))
    return hashlib.sha256(said.encode()).hexdigest()
