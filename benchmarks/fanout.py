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
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from contestants import (
    ALL_THE_SAME,
    CONTESTANTS,
    EACH_HIS_OWN,
    HERE,
    LIMIT1,
    LIMIT16,
    MESSAGE_BYTES,
    PARTS,
    SLOW,
    Contestant,
)
from processes import LOAD_CORE, SERVER_CORE, Child, Failed, Others, child
from works import WORKS, Goal, Medians, Work, matching, subscribe, wishes

SETTLE_S = 0.3
SLOW_WARM_S = 2.0
DISTURBED_PERCENT = 5.0
"""Of a core, used by others during a measurement."""

Figures = dict[str, Any]
"""What one measurement of one contestant has shown."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share: where the compiled programs are, and how long to measure."""

    folder: Path
    seconds: float
    warm_s: float

    def measure(self, work: Work, contestant: Contestant) -> Figures:
        """Measure one contestant at one work, once."""
        slow = contestant.name == SLOW
        clients = work.clients + slow
        orders: dict[str, Any] = {"burst": contestant.burst, "rate": work.rate, "parts": PARTS}
        is_ours = contestant.name.startswith("ours")
        if contestant.raw:
            orders["clients"] = clients
        if is_ours:
            orders |= {"window_s": contestant.window_s, "instruments": work.instruments}
        command = contestant.command(self.folder, orders)
        with child(contestant.name, command, SERVER_CORE, contestant.environ) as server:
            told = server.answer()
            port, server.pid = told["port"], told.get("pid", server.pid)
            time.sleep(SETTLE_S)
            before = server.memory()
            load = self._load(work, contestant, clients, port, server.pid)
            with child(f"load of {contestant.name}", load, LOAD_CORE) as load_process:
                figures: Figures = {"connect_s": load_process.answer()["connect_s"]}
                # The commands of clients and the go of ours come by different ways.
                time.sleep(SETTLE_S)
                others = Others(server, load_process)
                if work.idle:
                    time.sleep(1.0)
                    figures["bytes_per_client"] = (server.memory() - before) / clients
                elif is_ours:
                    figures |= self._ours(server, load_process, wishes(contestant.name, clients))
                else:
                    server.tell("go")
                    figures |= derived(load_process.answer())
                figures["others_percent"] = others.percent()
                # Neither is to complain about the end of the other.
                load_process.freeze()
                server.kill()
        return figures

    def _ours(self, server: Child, load: Child, wanted: list[Sequence[int] | None]) -> Figures:
        """Measure ours, and have the counters of both ends agree."""
        before = server.ask("report")
        memory = server.memory()
        server.tell("go")
        figures = derived(load.answer())
        figures["grown_mb"] = (server.memory() - memory) / 1e6
        behind = server.ask("report")
        server.tell("stop")
        got = load.ask("drain")
        after = server.ask("report")
        published = after["published"]
        folded = after["folded"] - before["folded"]
        delivered = after["deliveries"] - before["deliveries"]
        figures |= {"published": published, "folded": folded, "held": behind["held"]}
        figures["per_flush"] = published / max(1, after["flushes"] - before["flushes"])
        if got["slow_messages"]:
            figures["slow_missing"] = published - got["slow_messages"] - got["slow_conflated"]
            if figures["slow_missing"]:
                raise Failed(f"of {published} messages the slow client was told of {got}")
        due = sum(matching(published, numbers) for numbers in wanted)
        if due != delivered + folded:
            raise Failed(f"{due} were due, but {delivered} delivered and {folded} folded")
        arrived = got["messages"] + got["slow_messages"]
        if (arrived, got["slow_conflated"]) != (delivered, folded):
            raise Failed(f"delivered are {delivered} and folded {folded}, but clients got {got}")
        if folded and not got["slow_messages"]:
            raise Failed(f"{folded} messages were folded: clients or machine are too slow for this")
        return figures

    def _load(
        self, work: Work, contestant: Contestant, clients: int, port: int, pid: int
    ) -> list[str]:
        """Return how to start the clients."""
        command = [str(self.folder / "load"), f"--port={port}", f"--clients={clients}"]
        command += [f"--pid={pid}", f"--sample={work.sample}"]
        if not work.idle:
            # By then the slow reader's kernel buffers are full, so that it is behind.
            warm_s = max(self.warm_s, SLOW_WARM_S) if work.slow_bytes_per_s else self.warm_s
            command += [f"--seconds={self.seconds}", f"--warm={warm_s}"]
        if contestant.raw:
            return [*command, "--raw"]
        command.append("--path=/ws")
        if contestant.speak:
            return [*command, f"--speak={contestant.speak}"]
        wants = self.folder / "wants"
        lines = (subscribe(numbers) for numbers in wishes(contestant.name, clients))
        wants.write_text("".join(f"{line}\n" for line in lines))
        command.append(f"--subscribe={wants}")
        if contestant.name in {EACH_HIS_OWN, ALL_THE_SAME}:
            command += [f"--stride={work.instruments}"]
        if contestant.name == SLOW:
            command += [f"--slow={work.slow_bytes_per_s}"]
        return command


def derived(told: dict[str, Any]) -> Figures:
    """Return the figures of what the clients have told."""
    if told["message_bytes"] != MESSAGE_BYTES:
        raise Failed(f"messages of {told['message_bytes']} bytes, not {MESSAGE_BYTES}")
    figures: Figures = {
        "rate_cpu": told["messages"] / max(told["cpu_s"], 0.01),
        "rate": told["messages"] / told["wall_s"],
        "cpu_percent": 100 * told["cpu_s"] / told["wall_s"],
    }
    for stamp in ("received", "published"):
        for quantile, value in zip(("p50", "p99", "p999"), told[f"{stamp}_ms"], strict=True):
            figures[f"{stamp}_{quantile}"] = value
    return figures


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
    titles = ["contestant", "k/CPU-s", "k/s", "CPU %", "ms from due p50/p99/p99.9"]
    titles += ["ms from published", "of limit1", "of limit16"]
    rows = []
    for name, m in medians.items():
        row = [name, f"{m['rate_cpu'] / 1e3:,.0f}", f"{m['rate'] / 1e3:,.0f}"]
        row += [f"{m['cpu_percent']:.0f}", times(m, "received"), times(m, "published")]
        for other in (LIMIT1, LIMIT16):
            known = other in medians
            row.append(f"{m['rate_cpu'] / medians[other]['rate_cpu']:.2f}" if known else "-")
        rows.append(row)
    report.print_table(work.title, titles, rows)


def times(medians: dict[str, float], stamp: str) -> str:
    """Return three quantiles as a cell."""
    return " / ".join(f"{medians[f'{stamp}_{q}']:.2f}" for q in ("p50", "p99", "p999"))


def compiled(folder: Path) -> None:
    """Compile the programs in C."""
    if not shutil.which("gcc"):
        raise SystemExit("gcc is needed: on Debian, apt install gcc libc6-dev")
    for name in ("load", "limit"):
        source = str(HERE / f"{name}.c")
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(folder / name), source]
        subprocess.run(command, check=True)


def arguments() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--only", default=",".join(WORKS), help="works, separated by commas")
    parser.add_argument("--against", default="", help="contestants with one of these in the name")
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each")
    parser.add_argument("--warm", type=float, default=1.0, help="seconds before that")
    parser.add_argument("--rounds", type=int, default=3)
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
                    try:
                        figures = bench.measure(WORKS[name], contestants[contestant])
                    except Failed as e:
                        raise SystemExit(f"{name}, {contestant}: {e}") from None
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
