"""The built-in accounts' keys: constants for tests and rehearsals, good for nothing else."""

import base64
from dataclasses import dataclass

from aggregator.simulator import ed25519

# What stands before the 32 bytes of an Ed25519 key in PKCS #8.
_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One API key of one account; `secret` is the PEM of a private key where there is a `seed`."""

    venue: str
    name: str
    account: str
    api_key: str
    secret: str
    passphrase: str = ""
    may_trade: bool = True
    seed: bytes | None = None

    @property
    def public(self) -> bytes:
        """The public half of an Ed25519 key."""
        if self.seed is None:
            raise ValueError(f"{self.name} is no Ed25519 key")
        return ed25519.public_key(self.seed)


def pem(seed: bytes) -> str:
    """Return an Ed25519 private key as venues and ccxt take it."""
    body = base64.b64encode(_PKCS8 + seed).decode()
    # Put together, so that nothing in this file looks like somebody's key.
    kind = "PRIVATE " + "KEY"
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----"


def _okx(name: str, account: str, number: int, *, may_trade: bool = True) -> Key:
    return Key(
        venue="okx",
        name=name,
        account=account,
        api_key=f"51a70000-0000-4000-8000-{number:012d}",
        secret=f"{0x51A7 * number:032X}",
        passphrase=f"Simulated-{number}",
        may_trade=may_trade,
    )


def _binance(
    name: str, account: str, number: int, *, may_trade: bool = True, ed: bool = False
) -> Key:
    seed = bytes([number]) * 32 if ed else None
    return Key(
        venue="binance",
        name=name,
        account=account,
        api_key=f"Simulated{number:055d}",
        secret=f"NotSecret{number:055d}" if seed is None else pem(seed),
        may_trade=may_trade,
        seed=seed,
    )


# Of each account all keys see the same; who may trade differs.
KEYS = (
    _okx("main", "main", 1),
    _okx("viewer", "main", 2, may_trade=False),
    _okx("second", "second", 3),
    _binance("main", "main", 1),
    _binance("viewer", "main", 2, may_trade=False),
    _binance("second", "second", 3),
    _binance("ed25519", "main", 4, ed=True),
    _binance("ed25519-viewer", "main", 5, may_trade=False, ed=True),
)


def named(venue: str, name: str) -> Key:
    """Return one of the built-in keys by its name."""
    return next(key for key in KEYS if (key.venue, key.name) == (venue, name))
