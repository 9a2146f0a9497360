"""
Binance: signatures, of the kind that the secret is for.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable

from aggregator import api

PEM = "-----BEGIN "

Sign = Callable[[str], str]


def signer(secret: str) -> Sign:
    """
    Return what signs a text: by Ed25519 where the secret is a PEM, else by HMAC-SHA256.

    Raises:
        LoginError: it is a PEM of something else.

    """
    if secret.lstrip().startswith(PEM):
        return _ed25519(secret)
    key = secret.encode()
    return lambda text: hmac.digest(key, text.encode(), hashlib.sha256).hex()


def _ed25519(secret: str) -> Sign:
    # Where it is needed: nothing else here does.
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(secret.strip().encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise api.LoginError("the secret is a PEM, but no Ed25519 key without a password")
    return lambda text: base64.b64encode(key.sign(text.encode())).decode()
