"""How each venue wants its requests signed."""

import base64
import binascii
import hashlib
import hmac

from aggregator.simulator import ed25519
from aggregator.simulator.keys import Key


def okx(secret: str, timestamp: str, method: str, path: str, body: str = "") -> str:
    """Return OKX's signature; a login signs `GET` and `/users/self/verify`."""
    message = f"{timestamp}{method}{path}{body}".encode()
    return base64.b64encode(hmac.digest(secret.encode(), message, "sha256")).decode()


def binance(key: Key, payload: str) -> str:
    """Return Binance's signature of `a=1&b=2`: hexadecimal HMAC, or Ed25519 in base64."""
    if key.seed is not None:
        return base64.b64encode(ed25519.sign(key.seed, payload.encode())).decode()
    return hmac.new(key.secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def binance_holds(key: Key, payload: str, signature: str) -> bool:
    """Whether `signature` is the one of `payload`; of HMAC upper and lower case are the same."""
    if key.seed is None:
        return hmac.compare_digest(binance(key, payload).encode(), signature.lower().encode())
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    return ed25519.verify(key.public, payload.encode(), raw)


def okx_holds(key: Key, given: str, *parts: str) -> bool:
    """Whether `given` is the signature of `parts`: timestamp, method, path and body."""
    return hmac.compare_digest(okx(key.secret, *parts).encode(), given.encode())
