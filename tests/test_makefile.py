"""The Makefile: what it offers, and that each target can be understood."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = [
    *("run", "demo", "test", "coverage", "lint", "format", "bench", "scoreboard", "chaos"),
    *("vendor", "clean", "help"),
]


def make(program, *args):
    command = [program, "-C", str(ROOT), "--no-print-directory", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("target", TARGETS)
def test_each_target_can_be_planned(needs, target):
    """With nothing done: `make -n`."""
    result = make(needs("make"), "-n", target)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_help_lists_the_targets(needs):
    """And is what `make` alone does."""
    program = needs("make")
    result = make(program, "help")
    assert result.returncode == 0
    listed = re.findall(r"^make (\w+) ", result.stdout, re.MULTILINE)
    assert set(listed) == set(TARGETS) - {"help", "format"}
    assert make(program).stdout == result.stdout


def test_every_installation_is_of_the_pinned_versions():
    """By the environment, so that it holds for each pip that is run."""
    text = (ROOT / "Makefile").read_text()
    assert "export PIP_CONSTRAINT := constraints.txt" in text
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"#.*|[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.]*|", line), line
