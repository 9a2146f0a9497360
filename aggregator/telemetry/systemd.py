"""
Tells systemd how the daemon is doing, takes the sockets that it listens on, and knows the directory
for its state; does nothing where there is no systemd.

Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3), systemd.exec(5).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

FIRST_FD = 3
"""Where the sockets begin that systemd hands over."""


def listening(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """
    Return the sockets that systemd listens on for this process; none without a socket unit.

    Others than listening ones of TCP are left alone.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal():
        return []
    found = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            continue
        tcp = sock.family in {socket.AF_INET, socket.AF_INET6} and sock.type == socket.SOCK_STREAM
        if tcp and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            os.set_inheritable(fd, False)  # noqa: FBT003
            found.append(sock)
        else:
            sock.detach()
    return found


def state_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return where systemd has the daemon keep its state, the first of `StateDirectory=`."""
    first = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None


class Notifier:
    """
    Sends datagrams to the service manager.

    Args:
        environ: where `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` are looked up.

    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        usec = environ.get("WATCHDOG_USEC", "") if ours else ""
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and address else 0.0
        """Without a sign of life for this long the daemon is killed; 0: no watchdog."""

    def send(self, **state: str) -> None:
        """Send e.g. `READY="1", STATUS="..."`. A manager that can't be reached is no fault."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in state.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.settimeout(0)
            try:
                sock.sendto(text.encode(), self._address)
            except OSError:
                return


class Watchdog:
    """
    Feeds the watchdog, at most every third of its time, when told that messages move.

    It has no timer: who calls `moved` is the loop that moves the messages.
    """

    def __init__(self, notifier: Notifier, now: Callable[[], float]) -> None:
        self._notifier = notifier
        self._now = now
        self.interval_s = notifier.watchdog_s / 3
        self._next = now()

    def moved(self) -> None:
        """Note that messages move."""
        if self.interval_s and (now := self._now()) >= self._next:
            self._next = now + self.interval_s
            self._notifier.send(WATCHDOG="1")
