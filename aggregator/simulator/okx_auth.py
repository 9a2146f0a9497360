"""Who asks: OKX's login over the WebSocket, and its headers over REST."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aggregator.simulator import signatures
from aggregator.simulator.accounts import Accounts
from aggregator.simulator.keys import Key

_VALID_S = 30
_HEADERS = {
    "OK-ACCESS-KEY": "50103",
    "OK-ACCESS-PASSPHRASE": "50104",
    "OK-ACCESS-SIGN": "50106",
    "OK-ACCESS-TIMESTAMP": "50107",
}


class Denied(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """A code and a message of OKX's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def login(accounts: Accounts, arg: dict[str, Any]) -> Key:
    """Return the key that the argument of an operation `login` proves to have."""
    names = ("apiKey", "passphrase", "timestamp", "sign")
    given = [arg.get(name) for name in names]
    if not all(isinstance(text, str) for text in given):
        raise Denied("60009", "Login failed.")
    api_key, passphrase, timestamp, sign = map(str, given)
    try:
        at = float(timestamp)
    except ValueError:
        raise Denied("60004", "Invalid timestamp") from None
    if not abs(time.time() - at) <= _VALID_S:
        raise Denied("60006", "Timestamp request expired")
    key = accounts.key("okx", api_key)
    if key is None:
        raise Denied("60005", "Invalid apiKey")
    if passphrase != key.passphrase:
        raise Denied("60024", "Wrong passphrase")
    if not signatures.okx_holds(key, sign, timestamp, "GET", "/users/self/verify"):
        raise Denied("60007", "Invalid sign")
    return key


def rest(accounts: Accounts, headers: Mapping[str, str], method: str, path: str, body: str) -> Key:
    """Return the key that a request's headers prove to have; `path` includes the query."""
    for name, code in _HEADERS.items():
        if not headers.get(name):
            raise Denied(code, f'Request header "{name}" cannot be empty.')
    timestamp = headers["OK-ACCESS-TIMESTAMP"]
    key = accounts.key("okx", headers["OK-ACCESS-KEY"])
    if key is None:
        raise Denied("50111", "Invalid OK-ACCESS-KEY")
    try:
        at = datetime.fromisoformat(timestamp)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise Denied("50112", "Invalid OK-ACCESS-TIMESTAMP")
    if abs(time.time() - at.timestamp()) > _VALID_S:
        raise Denied("50102", "Timestamp request expired")
    if headers["OK-ACCESS-PASSPHRASE"] != key.passphrase:
        raise Denied("50105", 'Request header "OK-ACCESS-PASSPHRASE" incorrect.')
    if not signatures.okx_holds(key, headers["OK-ACCESS-SIGN"], timestamp, method, path, body):
        raise Denied("50113", "Invalid Sign")
    return key
