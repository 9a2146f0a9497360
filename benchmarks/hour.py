"""
An hour of the daemon: does anything grow, slow down or get lost?

    .venv-bench/bin/python benchmarks/hour.py [--minutes 60] [--clients 2000] [--rate 1000]

1,000 messages a second over 100 instruments go through the daemon's hub and gateway, wired as
`aggregator.app` does it and with its default configuration (`peers/ours.py`), on core 0. On core 1
are 2,000 clients that want ten instruments each: most of them in C (`load.c`), which stay and check
every number, the rest in Python, of which ten a second go and others come: half of those come back
and say how far they had come. They check every number as well, and time what they get from
`published_us` on; their own turn of the loop counts in.

Printed is a line a minute, and at the end: by how much the resident memory grows (least squares,
after the first sixth), descriptors and tasks at the beginning and at the end, quantiles for each
ten minutes, the longest time that the daemon's loop was blocked (a timer within it that is due
every 5 ms), and how many messages were lost without a word. The exit code is 1 if any was.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import report
from fanout import compiled
from hour_roles import BIN_MS, CHURN_PER_S, EACH, INSTRUMENTS, STAY_S, subscribe
from processes import LOAD_CORE, SERVER_CORE, Child, Failed, child

HERE = Path(__file__).parent
PERIOD_MINUTES = 10
WARM = 1 / 6


def quantile(bins: dict[int, int], of: float) -> float:
    """Return a quantile of times in milliseconds, from their bins."""
    left = of * sum(bins.values())
    for key in sorted(bins):
        left -= bins[key]
        if left <= 0:
            return (key + 1) * BIN_MS
    return 0.0


def merged(several: list[dict[int, int]]) -> dict[int, int]:
    """Return the sum of several periods."""
    found: dict[int, int] = {}
    for bins in several:
        for key, count in bins.items():
            found[key] = found.get(key, 0) + count
    return found


def fds(process: Child) -> int:
    """Return how many files a process has open."""
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


class Run:
    """Looks at the processes once a minute."""

    def __init__(self, server: Child, visitors: Child) -> None:
        self._server = server
        self._visitors = visitors
        self.minutes: list[dict[str, Any]] = []
        self.bins: list[dict[int, int]] = []
        self.rss: list[tuple[float, float]] = []
        """Hours and megabytes."""

    def follow(self, minutes: float) -> None:
        """Look and print, for so long."""
        start = time.monotonic()
        self._server.ask("report")
        self._visitors.ask("report")
        seconds = minutes * 60
        while (now := time.monotonic() - start) < seconds:
            due = min(60.0 * (len(self.minutes) + 1), seconds)
            time.sleep(max(0.0, min(10.0, due - now)))
            now = time.monotonic() - start
            self.rss.append((now / 3600, self._server.memory() / 1e6))
            if now >= due:
                self._minute()

    def _minute(self) -> None:
        ours, theirs = self._server.ask("report"), self._visitors.ask("report")
        bins = {int(key): count for key, count in theirs.pop("bins").items()}
        self.bins.append(bins)
        row = ours | theirs | {"fds": fds(self._server), "rss_mb": self.rss[-1][1]}
        row |= {"p50_ms": quantile(bins, 0.5), "p99_ms": quantile(bins, 0.99)}
        self.minutes.append(row)
        print(
            f"{len(self.minutes):3d} min  {row['rss_mb']:.1f} MB  {row['fds']} fds  "
            f"{row['tasks']} tasks  {row['sessions']} clients  {row['connections']} visits  "
            f"p50 {row['p50_ms']:.1f} p99 {row['p99_ms']:.1f} ms  "
            f"blocked {row['blocked_ms']:.0f} ms  lost {row['lost']}",
            flush=True,
        )

    def slope(self) -> float:
        """Return by how many megabytes an hour the memory grows, after the first part."""
        later = self.rss[int(len(self.rss) * WARM) :]
        if len(later) < 2:
            return 0.0
        return statistics.linear_regression(*zip(*later, strict=True)).slope


def expected(published: int, wishes: list[list[int]]) -> int:
    """Return how many of the messages 1 to `published` the clients in C must have had."""
    rounds, rest = divmod(published, INSTRUMENTS)
    return sum(rounds + (1 <= n <= rest) for wanted in wishes for n in wanted)


@contextlib.contextmanager
def processes(folder: Path, given: argparse.Namespace) -> Iterator[tuple[Child, Child, Child]]:
    """Run the daemon, those who stay and those who come and go."""
    dice = random.Random(given.clients)
    given.wishes = [dice.sample(range(INSTRUMENTS), EACH) for _ in range(given.staying)]
    wants = folder / "wants"
    wants.write_text("".join(json.dumps(subscribe(each)) + "\n" for each in given.wishes))
    orders = {"burst": 1, "rate": given.rate, "parts": [""] * 4, "instruments": INSTRUMENTS}
    orders["window_s"] = 0.001
    ours = [sys.executable, str(HERE / "hour_roles.py")]
    with child("daemon", [*ours, "serve", json.dumps(orders)], SERVER_CORE) as server:
        port = server.answer()["port"]
        load = [str(folder / "load"), f"--port={port}", f"--clients={given.staying}", "--path=/ws"]
        load += [f"--subscribe={wants}", f"--stride={INSTRUMENTS}"]
        with (
            child("load", load, LOAD_CORE) as staying,
            child("visitors", [*ours, "visit", str(port)], LOAD_CORE) as visitors,
        ):
            staying.answer()
            yield server, staying, visitors


def measure(given: argparse.Namespace) -> tuple[Run, dict[str, Any]]:
    """Run all of it; return what was seen, and what the clients in C have missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compiled(folder)
        with processes(folder, given) as (server, staying, visitors):
            server.tell("go")
            run = Run(server, visitors)
            run.follow(given.minutes)
            server.tell("stop")
            published = server.ask("report")["published"]
            got = staying.ask("drain")["messages"]
            due = expected(published, given.wishes)
            for each in (staying, visitors):
                each.freeze()
            return run, {"published": published, "due": due, "missing": due - got}


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second")
    given = parser.parse_args()
    given.staying = given.clients - int(CHURN_PER_S * STAY_S)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    try:
        run, staying = measure(given)
    except Failed as e:
        raise SystemExit(str(e)) from None
    sys.exit(not show(given, run, staying))


def show(given: argparse.Namespace, run: Run, staying: dict[str, Any]) -> bool:
    """Print what came of it; return whether nothing was lost without a word."""
    first, last = run.minutes[0], run.minutes[-1]
    rows = [
        ["resident memory, MB/h", f"{run.slope():.2f}"],
        ["descriptors, first and last minute", f"{first['fds']}, {last['fds']}"],
        ["clients then", f"{first['sessions']}, {last['sessions']}"],
        ["tasks then", f"{first['tasks']}, {last['tasks']}"],
        ["longest time blocked, ms", f"{max(m['blocked_ms'] for m in run.minutes):.1f}"],
        ["messages published", f"{staying['published']:,}"],
        ["visits; of these refused or closed", f"{last['connections']:,}; {last['refused']}"],
        ["of these resumed with all", f"{last['recovered']:,}"],
        ["replaced by newer ones", f"{last['folded']}"],
        ["lost without a word: staying, visiting", f"{staying['missing']}, {last['lost']}"],
        ["twice, or out of order", f"{last['twice']}"],
    ]
    for begin in range(0, len(run.bins), PERIOD_MINUTES):
        bins = merged(run.bins[begin : begin + PERIOD_MINUTES])
        upto = min(begin + PERIOD_MINUTES, len(run.bins))
        times = f"{quantile(bins, 0.5):.1f}, {quantile(bins, 0.99):.1f}"
        rows.append([f"p50, p99 of minutes {begin + 1} to {upto}, ms", times])
    title = f"hour: {given.clients} clients, {given.rate:g} messages/s, {given.minutes:g} min"
    report.print_table(title, ["what", "is"], rows)
    report.save("hour", rows=rows, minutes=run.minutes, rss=run.rss, staying=staying)
    if not last["messages"]:
        raise SystemExit("no visitor had anything")
    return not (staying["missing"] or last["lost"] or last["twice"])


if __name__ == "__main__":
    main()
