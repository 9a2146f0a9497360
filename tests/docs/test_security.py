"""docs/security.md: each attack has a test that there is, and each limit an attack."""

import re
from pathlib import Path

from aggregator.settings import Server

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/security.md").read_text("utf-8")
ROWS = [row for row in PAGE.splitlines() if row.startswith("| ") and not row.startswith("| attack")]
NO_LIMITS = {
    "anonymous",
    "compression",
    "flush_window_s",
    "heartbeat_s",
    "history_bytes",
    "history_messages",
    "history_s",
    "host",
    "ops_token",
    "port",
    "publish_channels",
}
"""Options of the server that bound nobody's use of it."""


def test_each_attack_has_a_test():
    """It is named with its file, and is there."""
    assert ROWS
    for row in ROWS:
        named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, function in named:
            text = (TESTS / path).read_text("utf-8")
            assert not function or f"def {function}(" in text, (path, function)


def test_each_limit_is_there_for_an_attack():
    """An option of the server either bounds something, and stands in a row, or bounds nothing."""
    named = set(re.findall(r"`server\.(\w+)`", "".join(ROWS)))
    assert named == Server.model_fields.keys() - NO_LIMITS
