"""`benchmarks/soak.py`, small: whole processes, real sockets, every kind of disturbance."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_books_are_the_venues_after_reconnects_and_losses(tmp_path):
    """
    Through four cut connections and four lost updates: both feeds tell of gaps, no message is
    missing without a word, and in the end who read from the start and who has just come both hold
    the venues' books.
    """
    path = tmp_path / "soak.json"
    command = [sys.executable, ROOT / "benchmarks" / "soak.py", "--json", path]
    command += ["--instruments", "10", "--updates", "2000", "--reconnects", "4"]
    # So slow that a feed is back before it loses an update, about which nobody could tell else.
    command += ["--ticks-per-s", "50"]
    # Its exit code is also about memory, of which so short a run says nothing.
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert path.exists(), run.stdout + run.stderr
    result = json.loads(path.read_text())
    assert result["unequal"] == []
    assert result["reconnects"] == 4
    assert result["gaps_by_feed"].keys() == {"okx_0", "binance_0"}
    assert result["updates"] >= 2000
    assert not [line for line in result["logged"] if "level=error" in line]
