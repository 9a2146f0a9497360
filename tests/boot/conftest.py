"""What the tests with a real systemd share: one machine, as new for each test."""

from __future__ import annotations

import pytest
from boot.machine import booted, lacking


@pytest.fixture(scope="module")
def booted_machine(tmp_path_factory):
    if reason := lacking():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("boot")
    root = folder / "root"
    root.mkdir(mode=0o755)
    with booted(root, folder / "ready") as machine:
        yield machine


@pytest.fixture
def machine(booted_machine):
    """Return the machine, with nothing of ours running and an empty table of feeds."""
    booted_machine.reset()
    booted_machine.write("/etc/aggregator/aggregator.toml", "[feeds]\n")
    return booted_machine
