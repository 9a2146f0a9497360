"""Who asks Binance: the API key, the time and the signature of a request."""

import math
import time
from collections.abc import Mapping

from aggregator.simulator import signatures
from aggregator.simulator.accounts import Accounts
from aggregator.simulator.binance_query import Refusal
from aggregator.simulator.keys import Key

_FORMAT_LENGTH = 64
_WINDOW_MS = 5_000.0
_MOST_MS = 60_000.0
_AHEAD_MS = 1_000.0


class Denied(Refusal):
    """HTTP 401 with Binance's code and message."""


def find(accounts: Accounts, api_key: str | None) -> Key:
    """Return the key that is named; that it is the client's own, only the signature says."""
    if not api_key or len(api_key) != _FORMAT_LENGTH or not api_key.isalnum():
        raise Denied(-2014, "API-key format invalid.")
    key = accounts.key("binance", api_key)
    if key is None:
        raise not_permitted()
    return key


def not_permitted() -> Denied:
    """Return the refusal of what this key may not do."""
    return Denied(-2015, "Invalid API-key, IP, or permissions for action.")


def mandatory(parameters: Mapping[str, str], name: str) -> str:
    """Return a parameter that there has to be."""
    value = parameters.get(name)
    if not value:
        raise Refusal(
            -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
        )
    return value


def check_time(parameters: Mapping[str, str]) -> None:
    """Refuse what was sent too long ago, or in the future."""
    text = mandatory(parameters, "timestamp")
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise Refusal(
            -1100,
            "Illegal characters found in parameter 'timestamp'; legal range is '^[0-9]{1,20}$'.",
        )
    # Milliseconds or microseconds: there is no doubt which.
    sent = int(text) / (1000 if len(text) > 14 else 1)
    window = _number(parameters.get("recvWindow", ""))
    if window > _MOST_MS:
        raise Refusal(-1131, "recvWindow must be less than 60000.")
    now = time.time_ns() / 1_000_000
    if sent >= now + _AHEAD_MS:
        message = "Timestamp for this request was 1000ms ahead of the server's time."
        raise Refusal(-1021, message)
    if now - sent > window:
        raise Refusal(-1021, "Timestamp for this request is outside of the recvWindow.")


def check_signature(key: Key, payload: str, signature: str) -> None:
    """Refuse what is not signed by the owner of the key."""
    if not signatures.binance_holds(key, payload, signature):
        raise Refusal(-1022, "Signature for this request is not valid.")


def prove(accounts: Accounts, given: Mapping[str, str]) -> Key:
    """Return the key that a request over the WebSocket API is signed with."""
    key = find(accounts, mandatory(given, "apiKey"))
    check_time(given)
    check_signature(key, _payload(given), mandatory(given, "signature"))
    return key


def _payload(parameters: Mapping[str, str]) -> str:
    return "&".join(f"{n}={v}" for n, v in sorted(parameters.items()) if n != "signature")


def _number(text: str) -> float:
    if not text:
        return _WINDOW_MS
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        raise Refusal(
            -1100, "Illegal characters found in parameter 'recvWindow'; legal range is '^[0-9.]*$'."
        )
    return number
