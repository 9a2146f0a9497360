"""
From the start to READY, to eight live feeds, and the memory it takes.

    .venv-bench/bin/python benchmarks/startup.py

The venues are the simulator, in a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

import report
from daemon import daemon

from aggregator import registry
from aggregator.config import STANDARD_FEEDS

ROUNDS = 5
SETTLE_S = 12.0
"""Long enough for every polled feed to have been polled twice."""


def main() -> None:
    """Measure, and print."""
    command = [sys.executable, "-m", "aggregator", "simulator", "--port", "0", "--for-parent"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as simulator:
        assert simulator.stdout is not None
        venues = json.loads(simulator.stdout.readline())
        config = ""
        for name, section in STANDARD_FEEDS.items():
            known = registry.load(section["connector"]).options_type.model_fields
            venue = venues[section["connector"].partition(".")[0]]
            options = section | {key: value for key, value in venue.items() if key in known}
            lines = (f"{key} = {json.dumps(value)}" for key, value in options.items())
            config += f"[feeds.{name}]\n" + "\n".join(lines) + "\n"
        ready, live, memory = [], [], []
        for _ in range(ROUNDS):
            start = time.monotonic()
            with daemon(config) as running:
                ready.append(running.ready_s)
                url = f"http://127.0.0.1:{running.port}/readyz"
                while not all_live(url):
                    time.sleep(0.02)
                live.append(time.monotonic() - start)
                time.sleep(SETTLE_S)
                memory.append(running.rss_mb())
        simulator.terminate()
    rows = [
        ["start to READY", f"{report.median(ready):.2f} s", "1 s"],
        ["start to eight live feeds", f"{report.median(live):.2f} s", "5 s"],
        [f"resident after {SETTLE_S:.0f} s", f"{report.median(memory):.1f} MB", "80 MB"],
    ]
    report.show("startup", ["what", "median", "to reach"], rows, rounds=ROUNDS)


def all_live(url: str) -> bool:
    """Whether every feed is live."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError:
        return False


if __name__ == "__main__":
    main()
