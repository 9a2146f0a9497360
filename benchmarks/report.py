"""What all benchmarks print: the machine, a table, and JSON for who wants to compare."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "recordings"


def machine() -> str:
    """Return what it was measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}"


def interleaved(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run each work once per round, so that what disturbs one round disturbs all alike."""
    figures: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            figures[name].append(work())
    return figures


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def show(
    name: str, titles: Sequence[str], rows: Sequence[Sequence[object]], **more: object
) -> None:
    """Print a table and write it to `results/<name>.json`."""
    print_table(name, titles, rows)
    save(name, titles=titles, rows=rows, **more)


def print_table(name: str, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table."""
    cells = [[str(cell) for cell in row] for row in [titles, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{name}  ({machine()})")
    for first, *others in cells:
        aligned = [c.rjust(w) for c, w in zip(others, widths[1:], strict=True)]
        print("  ".join(["", first.ljust(widths[0]), *aligned]))


def save(name: str, **content: object) -> None:
    """Write `results/<name>.json`."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **content}, indent=1, default=str)
    (RESULTS / f"{name}.json").write_text(text + "\n")
