"""What the daemon says to systemd, received as systemd would."""

import os
import socket
from pathlib import Path

import pytest

from aggregator.telemetry.systemd import Notifier, Watchdog, state_directory


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """Listen as the service manager does; returns its socket and what is in the environment."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(0)
        yield listening, {"NOTIFY_SOCKET": name}


def received(listening):
    messages = []
    try:
        while True:
            messages.append(listening.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_each_call_is_one_datagram(manager):
    """With a line per variable."""
    listening, environ = manager
    notifier = Notifier(environ)
    notifier.send(READY="1", STATUS="8 of 8 feeds live")
    notifier.send(STOPPING="1")
    assert received(listening) == ["READY=1\nSTATUS=8 of 8 feeds live", "STOPPING=1"]


def test_without_systemd_nothing_happens():
    """As on a developer's machine."""
    notifier = Notifier({})
    notifier.send(READY="1")
    assert notifier.watchdog_s == 0.0


@pytest.mark.parametrize("address", ["/nowhere/notify", "/" + "x" * 300, "vsock:2:1", "@gone"])
def test_a_manager_that_cannot_be_reached_is_no_fault(address):
    """The daemon has something better to do than to fail for that."""
    Notifier({"NOTIFY_SOCKET": address}).send(READY="1")


def test_a_manager_that_does_not_read_is_not_waited_for(manager):
    """The loop must not stand still for it."""
    listening, environ = manager
    notifier = Notifier(environ)
    for _ in range(2000):
        notifier.send(WATCHDOG="1")
    assert 0 < len(received(listening)) < 2000


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": ""}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({}, 0.0),
    ],
)
def test_the_watchdog_is_what_the_environment_says(environ, seconds):
    """For this process, and only if there is somebody to tell."""
    assert Notifier({"NOTIFY_SOCKET": "@x", **environ}).watchdog_s == seconds
    assert Notifier(environ).watchdog_s == 0.0


def test_the_watchdog_is_fed_each_third_of_its_time(manager):
    """However often messages move."""
    listening, environ = manager
    now = 100.0
    watchdog = Watchdog(Notifier(environ | {"WATCHDOG_USEC": "30000000"}), lambda: now)
    assert watchdog.interval_s == 10.0
    fed = []
    for tenths in range(350):
        now = 100.0 + tenths / 10
        watchdog.moved()
        fed += [now for _ in received(listening)]
    assert fed == [100.0, 110.0, 120.0, 130.0]


def test_the_watchdog_is_not_fed_while_nothing_moves(manager):
    """It has no timer of its own: a daemon that hangs is killed."""
    listening, environ = manager
    now = 0.0
    watchdog = Watchdog(Notifier(environ | {"WATCHDOG_USEC": "3000000"}), lambda: now)
    now = 1000.0
    assert received(listening) == []
    watchdog.moved()
    watchdog.moved()
    assert received(listening) == ["WATCHDOG=1"]


def test_without_a_watchdog_nothing_is_fed(manager):
    """Moves are only counted where somebody counts on them."""
    listening, environ = manager
    watchdog = Watchdog(Notifier(environ), lambda: 0.0)
    watchdog.moved()
    assert (watchdog.interval_s, received(listening)) == (0.0, [])


@pytest.mark.parametrize(
    ("environ", "folder"),
    [
        ({}, None),
        ({"STATE_DIRECTORY": ""}, None),
        ({"STATE_DIRECTORY": "/var/lib/one"}, Path("/var/lib/one")),
        ({"STATE_DIRECTORY": "/var/lib/one:/var/lib/two"}, Path("/var/lib/one")),
    ],
)
def test_the_directory_for_state(environ, folder):
    """Is the first that systemd names; without systemd there is none."""
    assert state_directory(environ) == folder
