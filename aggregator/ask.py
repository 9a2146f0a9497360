"""Asks a running daemon over HTTP, for the commands that do."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

from .errors import CommandError

TIMEOUT_S = 10.0
MAX_SHOWN = 10
"""Instruments that are not live, of one channel, in a list for people."""
MAX_ERROR_BYTES = 65_536
EXIT_REFUSED = 2
EXIT_UNAVAILABLE = 69


class AskError(CommandError):
    """There is no good answer."""


def ask(url: str, path: str, method: str = "GET", token: str = "") -> str:
    """
    Return the body of an answer.

    Args:
        url: where the daemon is, as `http://127.0.0.1:8000`.
        path: what is asked for.
        method: `GET` or `POST`, which has no body here.
        token: the daemon's `ops_token`, where it wants one.

    Raises:
        AskError: with `EXIT_REFUSED` if the daemon refuses, `EXIT_UNAVAILABLE` if there is none.

    """
    # Straight to the daemon: a proxy of the environment is for the way to elsewhere.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    body = b"" if method == "POST" else None
    try:
        # The commands take http:// and https:// alone.
        request = urllib.request.Request(url.rstrip("/") + path, body, headers, method=method)  # noqa: S310
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as e:
        with e:
            if message := _refusal(e.read(MAX_ERROR_BYTES)):
                raise AskError(f"the daemon refuses: {message}", EXIT_REFUSED) from None
            reason = e.reason
    except (OSError, http.client.HTTPException, ValueError) as e:
        reason = getattr(e, "reason", None) or str(e) or type(e).__name__
    raise AskError(f"can't reach the daemon at {url}: {reason}", EXIT_UNAVAILABLE)


def _refusal(body: bytes) -> str:
    """Return what an error of the daemon's says; nothing if it is somebody else's."""
    try:
        error = json.loads(body)
        return str(error["message"]) if error["type"] == "error" else ""
    except (ValueError, LookupError, TypeError):
        return ""


def channel_rows(channel: dict[str, Any]) -> list[list[str]]:
    """Return what is shown of one channel, and of those of its instruments that are not live."""

    def row(name: str, of: dict[str, Any], instruments: object, subscribers: object) -> list[str]:
        age = "-" if of["age_s"] is None else f"{of['age_s']:.1f} s"
        cells = (of["state"] or "-", instruments, age, subscribers, of["reason"] or "")
        return [name, *map(printable, cells)]

    count, silent = len(channel["instruments"]), channel["not_live"]
    rows = [row(printable(channel["channel"]), channel, count, channel["subscribers"])]
    rows += [row(f"  {printable(of['instrument'])}", of, "", "") for of in silent[:MAX_SHOWN]]
    if len(silent) > MAX_SHOWN:
        rows.append([f"  {len(silent) - MAX_SHOWN:,} more: see --json", *[""] * 5])
    return rows


def printable(value: object) -> str:
    """Return a value as one line that does not move the cursor."""
    return "".join(c if c.isprintable() else " " for c in str(value)).strip()


def fact_lines(facts: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield an answer's facts as lines for people; what is unknown or empty is left out."""
    for name, value in facts.items():
        if isinstance(value, dict) and name != "book":
            yield from fact_lines(value, f"{prefix}{name}.")
        elif value not in (None, [], {}, "") and f"{prefix}{name}" != "verdict":
            shown = f"{value:.3f}" if isinstance(value, float) else json.dumps(value)
            quote = '"'
            yield f"{prefix}{name}: {shown.strip(quote)}"
