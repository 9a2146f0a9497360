"""
How long a source's answer stays the same.

Source: RFC 9111, sections 4.2 (freshness) and 5.2.2 (response directives).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LONGEST_S = 3600.0
"""No source is left alone for longer than this."""


class Reuse(NamedTuple):
    """`lifetime_s`: how often the source refreshes; `rest_s`: how long this answer still holds."""

    lifetime_s: float
    rest_s: float


def reuse(headers: Mapping[str, str]) -> Reuse:
    """Return what `Cache-Control` and `Age` say, in seconds; zeros where they say nothing."""
    lifetime_s = 0.0
    for directive in headers.get("Cache-Control", "").split(","):
        name, _, value = directive.strip().lower().partition("=")
        if name in {"no-cache", "no-store"}:
            return Reuse(0.0, 0.0)
        if name == "max-age":
            lifetime_s = min(_seconds(value.strip('" ')), LONGEST_S)
    return Reuse(lifetime_s, max(0.0, lifetime_s - _seconds(headers.get("Age", ""))))


def _seconds(text: str) -> float:
    text = text.strip()
    return float(text[:9]) if text.isascii() and text.isdecimal() else 0.0
