"""
What it costs to pass a message on to thousands of clients, against everybody else who does that.

    .venv-bench/bin/python benchmarks/fanout.py [--only saturate1000,idle] [--rounds 3] ...

Server on core 0, clients on core 1 (`load.c`). Ours is the daemon with all its parts
(`peers/ours.py`): its real server and sessions, price updates published through the real hub,
numbered. The others send the same bytes to as many clients. `limit1` and `limit16` (`limit.c`) are
what the kernel allows: a loop with one `send()` per client and message, and one per client and 16
messages. A contestant that is not installed is left out, with a line that says so.

A message that is lost, doubled or out of order ends the run: clients check every number. Times are
measured from the moment a message was due, so that those of a server that is late count in full;
and from the moment the server made it, `published_us`.

"load %" is how much of their core the clients had to work. Where it is nearly all, they may have
held the server up; that is marked.

With compression, "bytes/message" is what clients have received with all frames, "bytes/connection"
what the server's resident memory has grown by, divided by the number of clients: once all are
connected and answered, and at the end. Peers that keep a context for each client profit from
messages that are more alike than real ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import report
from contestants import CONTESTANTS, HERE, LIMIT1, LIMIT16, MESSAGE_BYTES, Contestant
from measure import Bench, Figures
from processes import Failed
from works import WORKS, Goal, Medians, Work

DISTURBED_PERCENT = 5.0
"""Of a core, used by others during a measurement."""
SATURATED_PERCENT = 95.0
"""Of the clients' core: with more of it in use, the server may have had to wait for its clients."""


def show(work: Work, medians: Medians) -> None:
    """Print the table of a work."""
    if work.idle:
        titles = ["contestant", "bytes per connection", "seconds to connect all"]
        rows = [
            [name, f"{m['bytes_per_client']:,.0f}", f"{m['connect_s']:.2f}"]
            for name, m in medians.items()
        ]
        report.print_table(work.title, titles, rows)
        return
    titles = ["contestant", "k/CPU-s", "k/s", "CPU %", "load %", "ms from due p50/p99/p99.9"]
    titles.append("ms from published")
    sizes = ["bytes/message", "bytes/connection before/after"]
    titles += sizes if work.deflate else ["of limit1", "of limit16"]
    rows = []
    for name, m in medians.items():
        row = [name, f"{m['rate_cpu'] / 1e3:,.0f}", f"{m['rate'] / 1e3:,.0f}"]
        row += [f"{m['cpu_percent']:.0f}", f"{m['load_percent']:.0f}{saturated(m) or '  '}"]
        row += [times(m, "received"), times(m, "published")]
        if work.deflate:
            grown = m["bytes_per_client"] + m["grown_mb"] * 1e6 / work.clients
            row += [f"{m['wire_bytes']:.0f}", f"{m['bytes_per_client']:,.0f} / {grown:,.0f}"]
        else:
            row += [of(medians, name, other) for other in (LIMIT1, LIMIT16)]
        rows.append(row)
    report.print_table(work.title, titles, rows)
    if any(map(saturated, medians.values())):
        print(
            f"  ! the clients' core was busy for more than {SATURATED_PERCENT:.0f} %: not the "
            "server but they may have set the pace, and times are those of a queue"
        )


def saturated(medians: dict[str, float]) -> str:
    """Return a mark where the clients had no time to spare."""
    return " !" if medians["load_percent"] > SATURATED_PERCENT else ""


def of(medians: Medians, name: str, other: str) -> str:
    """Return a ratio as a cell."""
    if other not in medians:
        return "-"
    return f"{medians[name]['rate_cpu'] / medians[other]['rate_cpu']:.2f}"


def times(medians: dict[str, float], stamp: str) -> str:
    """Return three quantiles as a cell."""
    return " / ".join(f"{medians[f'{stamp}_{q}']:.2f}" for q in ("p50", "p99", "p999"))


def compiled(folder: Path) -> None:
    """Compile the programs in C."""
    if not shutil.which("gcc"):
        raise SystemExit("gcc is needed: on Debian, apt install gcc libc6-dev")
    for name, libraries in (("load", ["-lz"]), ("limit", [])):
        source = str(HERE / f"{name}.c")
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(folder / name), source, *libraries]
        if subprocess.run(command, check=False).returncode:
            raise SystemExit("can't be compiled; on Debian, apt install libc6-dev zlib1g-dev")


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--only", default=",".join(WORKS), help="works, separated by commas")
    parser.add_argument("--against", default="", help="contestants with one of these in the name")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before that")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tries", type=int, default=3, help="of what others disturb")
    given = parser.parse_args()
    given.works = given.only.split(",")
    if unknown := set(given.works) - set(WORKS):
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(WORKS)}")
    return given


def present(works: Sequence[str], against: str) -> tuple[dict[str, Contestant], dict[str, str]]:
    """Return the contestants that can take part, and why others can't."""
    asked = {name for work in works for name in WORKS[work].contestants}
    if against:
        words = against.split(",")
        asked = {n for n in asked if n.startswith("ours") or any(word in n for word in words)}
    missing = {name: CONTESTANTS[name].needs() for name in CONTESTANTS if name in asked}
    left_out = {name: why for name, why in missing.items() if why}
    return {n: c for n, c in CONTESTANTS.items() if n in asked and n not in left_out}, left_out


def in_peace(bench: Bench, work: Work, contestant: Contestant, tries: int) -> Figures:
    """Measure, and measure again while others disturb it: by that alone, whatever came out."""
    try:
        figures = bench.measure(work, contestant)
        while tries > 1 and figures["others_percent"] > DISTURBED_PERCENT:
            tries -= 1
            figures = bench.measure(work, contestant)
    except Failed as e:
        raise SystemExit(f"{work.title}, {contestant.name}: {e}") from None
    return figures


def main() -> None:
    """Measure, and print."""
    given = arguments()
    contestants, left_out = present(given.works, given.against)
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    # By work, contestant and figure: one value for each round.
    values: dict[str, dict[str, dict[str, list[float]]]] = {name: {} for name in given.works}
    with tempfile.TemporaryDirectory() as folder:
        compiled(Path(folder))
        bench = Bench(Path(folder), given.seconds, given.warm)
        for _ in range(given.rounds):
            for name in given.works:
                for contestant in (c for c in WORKS[name].contestants if c in contestants):
                    figures = in_peace(bench, WORKS[name], contestants[contestant], given.tries)
                    kept = values[name].setdefault(contestant, {})
                    for figure, value in figures.items():
                        kept.setdefault(figure, []).append(value)
    goals: list[tuple[str, Goal]] = []
    disturbed = 0
    for name in given.works:
        disturbed += sum(
            percent > DISTURBED_PERCENT
            for figures in values[name].values()
            for percent in figures["others_percent"]
        )
        medians = {
            contestant: {figure: report.median(each) for figure, each in figures.items()}
            for contestant, figures in values[name].items()
        }
        show(WORKS[name], medians)
        goals += [(name, goal) for goal in WORKS[name].goals(medians)]
    report.print_table(
        f"goals; messages of {MESSAGE_BYTES} bytes, median of {given.rounds} rounds",
        ["work", "what", "to reach", "reached", ""],
        [[name, *goal.row()] for name, goal in goals],
    )
    if disturbed:
        measurements = given.rounds * sum(map(len, values.values()))
        print(
            f"\nDISTURBED: during {disturbed} of {measurements} measurements other processes took "
            f"more than {DISTURBED_PERCENT:.0f} % of a core. These figures are not to be quoted."
        )
    report.save(
        "fanout",
        disturbed=disturbed,
        message_bytes=MESSAGE_BYTES,
        rounds=given.rounds,
        seconds=given.seconds,
        left_out=left_out,
        works={name: {"title": WORKS[name].title, "figures": values[name]} for name in given.works},
        goals=[{"work": name, **dataclasses.asdict(goal)} for name, goal in goals],
    )


if __name__ == "__main__":
    main()
