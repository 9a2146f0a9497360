"""
What the daemon promises to survive, measured line by line: `make scoreboard`.

    .venv-bench/bin/python benchmarks/scoreboard.py [--only idle,reload] [--minutes 60]

Each line runs the real thing, prints its figure as it comes, and the table goes into
docs/reliability.md. The exit code is 1 if a line does not reach what it should. Tests are run in
the environment that they need (`.venv`), benchmarks in this one.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import endurance
import report

HERE = Path(__file__).parent
ROOT = HERE.parent
PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- begin: make scoreboard -->\n", "<!-- end -->\n"
TESTS_PYTHON = ROOT / ".venv/bin/python"


@dataclass(frozen=True, slots=True)
class Line:
    """One promise: what it is, how it is measured, and what is to be reached."""

    title: str
    target: str
    measure: Callable[[argparse.Namespace], tuple[str, bool]]
    how: str


def run(*command: str, **environ: str) -> str:
    """Run something; return what it prints, also where it did not reach what it should."""
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


def benchmark(name: str, *options: str) -> Any:
    """Run a benchmark; return its results."""
    results = report.RESULTS / f"{name}.json"
    results.unlink(missing_ok=True)
    said = run(sys.executable, str(HERE / f"{name}.py"), *options)
    if not results.exists():
        raise RuntimeError(said[-2000:])
    return json.loads(results.read_text())


def tests(*paths: str, **environ: str) -> tuple[str, bool]:
    """Run tests; return how many passed, and whether all did."""
    said = run(str(TESTS_PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths, **environ)
    counts = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|error|skipped)", said)}
    passed = counts.get("passed", 0)
    bad = counts.get("failed", 0) + counts.get("error", 0) + counts.get("skipped", 0)
    return f"{passed} of {passed + bad}", passed > 0 and bad == 0


def figures(results: Any, work: str, contestant: str = "ours, 16 joined") -> dict[str, float]:
    """Return the medians of a contestant in a work of `fanout.py`."""
    found = results["works"][work]["figures"][contestant]
    return {name: report.median(values) for name, values in found.items()}


def load(_: argparse.Namespace) -> tuple[str, bool]:
    """Hold a million deliveries a second for a minute."""
    options = ("--only", "rate1000", "--against", "ours", "--rounds", "1", "--seconds", "60")
    got = figures(benchmark("fanout", *options), "rate1000")
    times = "/".join(f"{got[f'received_{name}']:.1f}" for name in ("p50", "p99", "p999"))
    text = f"{got['rate'] / 1e6:.2f} M/s, {times} ms, {got['cpu_percent']:.0f} % of a core"
    return text, got["rate"] > 0.999e6 and got["received_p99"] < 12


def idle(_: argparse.Namespace) -> tuple[str, bool]:
    """Weigh 10,000 clients that say nothing."""
    options = ("--only", "idle", "--against", "ours", "--rounds", "1")
    size = figures(benchmark("fanout", *options), "idle")["bytes_per_client"]
    return f"{size:,.0f} bytes", size <= 2048


def soak(given: argparse.Namespace) -> tuple[str, bool]:
    """Run it for an hour with clients that come and go."""
    got = dict(benchmark("hour", "--minutes", str(given.minutes))["rows"])
    slope = next(value for what, value in got.items() if "MB/h" in what)
    lost = got["lost without a word: staying, visiting"]
    blocked = got["longest time blocked, ms"]
    good = float(slope.split()[0]) < 1 and lost == "0, 0" and float(blocked) < 20
    text = f"{slope} MB/h, lost {lost}, longest time blocked {blocked} ms"
    return f"{text}, in {given.minutes:g} min", good


def slow(_: argparse.Namespace) -> tuple[str, bool]:
    """See what one slow reader does to the others."""
    results = benchmark("fanout", "--only", "slow", "--against", "ours", "--rounds", "3")
    without = figures(results, "slow", "ours, without")["received_p99"]
    beside = figures(results, "slow", "ours, with a slow reader")["received_p99"]
    return f"{beside / without - 1:+.0%} of the others' p99", beside <= 1.1 * without


def restart(_: argparse.Namespace) -> tuple[str, bool]:
    """Restart under load, with the socket held."""
    rounds = benchmark("restart")["rounds"]
    refused, worst = sum(r["refused"] for r in rounds), max(r["away_s"] for r in rounds)
    return f"{refused} refused, all back in {worst:.1f} s", not refused and worst <= 5


def startup(_: argparse.Namespace) -> tuple[str, bool]:
    """Start."""
    rows = benchmark("startup")["rows"]
    return rows[0][1], float(rows[0][1].split()[0]) <= 1.0


def exposure(_: argparse.Namespace) -> tuple[str, bool]:
    """Ask systemd how much the units leave open."""
    found = {}
    for unit in ("aggregator", "aggregator-gateway"):
        path = str(ROOT / f"systemd/{unit}.service")
        said = run("systemd-analyze", "security", "--offline=true", "--no-pager", path)
        found[unit] = float(re.findall(r"exposure level.*?: ([\d.]+)", said)[0])
    daemon, gateway = found.values()
    return f"{daemon} / {gateway}", daemon <= 1.1 and gateway <= 0.6


def dependencies(_: argparse.Namespace) -> tuple[str, bool]:
    """Count what is installed with the daemon, and what of it is not pinned."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        options = ("--dry-run", "--quiet", "--ignore-installed", "--report", str(path), str(ROOT))
        run(sys.executable, "-m", "pip", "install", *options)
        installed = json.loads(path.read_text())["install"]
    names = {each["metadata"]["name"].lower().replace("_", "-") for each in installed}
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    loose = names - {name.lower().replace("_", "-") for name in pinned} - {"exchange-aggregator"}
    return f"{len(names) - 1}, {len(loose)} not pinned", not loose


def of(*paths: str, **environ: str) -> Callable[[argparse.Namespace], tuple[str, bool]]:
    """Return what runs these tests."""
    return lambda _: tests(*paths, **environ)


LINES = {
    "load": Line(
        "1,000 clients, 1,000 messages/s: rate, p50/p99/p99.9", "1 M/s", load, "fanout.py"
    ),
    "idle": Line("memory of an idle client", "2,048 bytes", idle, "fanout.py --only idle"),
    "soak": Line("soak: memory, descriptors, tasks, losses", "< 1 MB/h, 0 lost", soak, "hour.py"),
    "faults": Line(
        "nothing lost without a word, under random faults and kills: tests",
        "all",
        of("tests/chaos", CHAOS_SECONDS="120"),
        "make chaos",
    ),
    "resume": Line(
        "resumed after kills on both sides, thousands of rounds: tests",
        "all",
        of("tests/gateway/test_kills.py", "tests/client/test_resume.py"),
        "tests/gateway/test_kills.py",
    ),
    "detection": Line(
        "seen: venue half open / venue silent / client gone",
        "60 / 35 / 45 s",
        endurance.detection,
        "endurance.py",
    ),
    "slow": Line("one slow reader among 200", "+10 %", slow, "fanout.py --only slow"),
    "fuzz": Line("bad input tried, nothing unhandled", "100,000", endurance.fuzz, "endurance.py"),
    "attacks": Line(
        "attacks refused, nobody else disturbed: tests",
        "all",
        of("tests/security"),
        "tests/security",
    ),
    "restart": Line("restart under load, socket held", "0 refused, 5 s", restart, "restart.py"),
    "stop": Line("stop with 1,000 clients", "5 s, all 1001", endurance.stop, "endurance.py"),
    "watchdog": Line(
        "real systemd: watchdog, reload, restart: tests",
        "all",
        of("tests/boot"),
        "tests/boot",
    ),
    "reload": Line(
        "a hundred reloads, bad files among them, and no client dropped: tests",
        "all",
        of("tests/test_sighup.py"),
        "tests/test_sighup.py",
    ),
    "startup": Line("start to READY", "1 s", startup, "startup.py"),
    "clock": Line(
        "steps of the clock, -30 s and +1 day: tests",
        "all",
        of("tests/chaos/test_clock.py", "tests/ingest/test_schedule.py"),
        "tests/chaos/test_clock.py",
    ),
    "exposure": Line(
        "exposure of the unit / of the gateway", "1.1 / 0.6", exposure, "systemd-analyze security"
    ),
    "polls": Line(
        "polls missed with both cores busy", "1 a feed, on its way", endurance.polls, "endurance.py"
    ),
    "dependencies": Line("distributions installed with it", "all pinned", dependencies, "pip"),
}


def main() -> int:
    """Measure all, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.strip().partition("\n")[0])
    parser.add_argument("--only", default=",".join(LINES), help="lines, separated by commas")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the soak")
    given = parser.parse_args()
    rows, missed = [], 0
    for name in given.only.split(","):
        line = LINES[name]
        figure, reached = line.measure(given)
        missed += not reached
        rows.append(
            [line.title, figure, line.target, "yes" if reached else "**no**", f"`{line.how}`"]
        )
        print(
            f"{line.title}: {figure} (to reach: {line.target}){'' if reached else '  NOT REACHED'}"
        )
        sys.stdout.flush()
    titles = ["promise", "figure", "to reach", "reached", "by"]
    report.show("scoreboard", titles, rows)
    write(titles, rows)
    return 1 if missed else 0


def write(titles: list[str], rows: list[list[str]]) -> None:
    """Put the rows into the page's table; those of lines that were not measured now stay."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    kept = [line.strip("| ").split(" | ") for line in old.splitlines() if line.startswith("| ")]
    today = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    found = {row[0]: row for row in kept[2:]} | {row[0]: [*row, today] for row in rows}
    ordered = [found[line.title] for line in LINES.values() if line.title in found]
    table = [[*titles, "on"], ["---"] * (len(titles) + 1), *ordered]
    text = "".join(f"| {' | '.join(row)} |\n" for row in table)
    PAGE.write_text(f"{before}{BEGIN}{report.machine()}.\n\n{text}{END}{after}", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
