"""
A user's own events, from the venue's socket to the owner's, beside everybody's prices.

    .venv-bench/bin/python benchmarks/private_push.py [--users 1000] [--accounts 50]
        [--instruments 500] [--public 10000] [--private 100] [--seconds 15] [--json FILE]

Three processes: a small OKX (private_venue.py), the real daemon, and the users. Each user has a
token and a connection, and is subscribed to its own four streams and to five instruments of its
own choice. The venue sends so many public prices a second, evenly over all instruments, and so many
fills a second to accounts at random: each becomes a `trade` and an `order.update` of one user.
Every fill has in it when it was written to the venue's socket; the user's end compares that with
when its bytes came out of its own, by the machine's monotonic clock. So the figures are what the
daemon takes, the two sockets, and what the measuring processes are late themselves.

The daemon is alone on core 0; venue and users share core 1. Users without an account are read
every few tens of milliseconds, so that the measuring has time for those whose events count. As many
accounts as `--accounts` belong to the first users: a daemon connects to OKX three times a second at
most, so each takes a third of a second before it begins. A round that others disturb,
who take more than 10 % of a core meanwhile, is measured again.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import select
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import report
from daemon import Running, daemon
from processes import LOAD_CORE, SERVER_CORE, Child, Others, child

from aggregator import tokens

GOAL_MS = 10.0
DISTURBED_PERCENT = 10.0
PER_USER = 5
PER_FEED = 100
OWN = ["orders", "fills", "balances", "portfolio"]
STAMP = re.compile(rb'"client_order_id":"(\d+)"')
LONGEST = 64
"""Bytes of a stamp and what is around it: so many are kept, where a read may have cut one."""
CONNECT_S = 120.0
POLL_S = 0.001
AT_ONCE = 12
"""Of the others' sockets that are read between two looks at the owners'."""


class User:
    """One user's connection."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        lines = ["GET /ws HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        self.socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.rest = b""
        self.until(b"\r\n\r\n")

    def send(self, **command: object) -> None:
        """Send a command."""
        payload = json.dumps(command).encode()
        size = len(payload)
        head = bytes([0x81, 0x80 | min(size, 126)])
        head += struct.pack("!H", size) if size > 125 else b""
        # A mask of nought leaves it as it is.
        self.socket.sendall(head + bytes(4) + payload)

    def until(self, word: bytes) -> None:
        """Read until something is said."""
        while word not in self.rest:
            got = self.socket.recv(65536)
            assert got, "the daemon hung up"
            self.rest += got
        self.rest = b""


class Users:
    """All of them, read as one."""

    def __init__(self, port: int, keys: list[str], owners: int, instruments: int) -> None:
        rng = random.Random(7)
        self.users: dict[int, User] = {}
        self.latencies_ms: dict[str, list[float]] = {"trade": [], "order.update": []}
        self.prices = 0
        self._poll = select.epoll()
        # Who has no account is read as well, but nobody looks at when: some each millisecond.
        self._others: deque[User] = deque()
        for number, key in enumerate(keys):
            user = User(port)
            user.send(type="auth", token=key)
            user.until(b"auth.success")
            wanted = rng.sample(range(instruments), PER_USER)
            prices = [f"feed{n // PER_FEED}:I{n:03}/USDT" for n in wanted]
            user.send(type="subscribe", channels=[*OWN, *prices])
            user.until(b"subscribed")
            if number < owners:
                self.users[user.socket.fileno()] = user
                self._poll.register(user.socket, select.EPOLLIN)
            else:
                user.socket.settimeout(0)
                self._others.append(user)

    def read(self, seconds: float) -> None:
        """Read what comes for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for number, _ in self._poll.poll(POLL_S):
                user = self.users[number]
                data = user.socket.recv(1 << 20)
                assert data, "the daemon hung up"
                self._take(user, data)
            for _ in range(min(AT_ONCE, len(self._others))):
                self._drain(self._others[0])
                self._others.rotate(-1)

    def _drain(self, user: User) -> None:
        try:
            data = user.socket.recv(1 << 20)
        except BlockingIOError:
            return
        assert data, "the daemon hung up"
        # What is cut in two is counted by its other half, or not at all.
        self.prices += data.count(b'"price_update"')

    def _take(self, user: User, data: bytes) -> None:
        now = time.monotonic_ns()
        data = user.rest + data
        self.prices += data.count(b'"price_update"')
        rest = max(0, len(data) - LONGEST)
        if b"client_order_id" in data:
            for found in STAMP.finditer(data):
                # A fill comes before the state that it led to.
                before = data[max(0, found.start() - 700) : found.start()]
                kind = "trade" if before.rfind(b'"trade_id"') > before.rfind(b'"status"') else ""
                ms = (now - int(found[1])) / 1e6
                self.latencies_ms[kind or "order.update"].append(ms)
                rest = max(rest, found.end())
        # Not so much that a whole message could be counted twice.
        user.rest = data[rest:].replace(b'"price_update"', b"")

    def forget(self) -> None:
        """Begin to measure."""
        self.prices = 0
        for found in self.latencies_ms.values():
            found.clear()


def config(given: argparse.Namespace, port: int, keys: list[str]) -> str:
    """Return the daemon's configuration; `keys` gets the users' tokens."""
    # The users answer no pings.
    lines = ["heartbeat_s = 86400"]
    for start in range(0, given.instruments, PER_FEED):
        group = range(start, min(start + PER_FEED, given.instruments))
        names = json.dumps([f"I{n:03}/USDT" for n in group])
        lines += [f"[feeds.feed{start // PER_FEED}]", 'connector = "okx.ticker"']
        lines += [f'urls = ["ws://127.0.0.1:{port}/public"]', f"instruments = {names}"]
    for number in range(given.users):
        key, hashed = tokens.create(f"u{number}")
        keys.append(key)
        lines += [f"[tokens.u{number}]", f"user = {number + 1}", f'hash = "{hashed}"']
    for number in range(given.accounts):
        lines += [f"[accounts.a{number}]", 'connector = "okx.account"', f"user = {number + 1}"]
        lines += [f'urls = ["ws://127.0.0.1:{port}/private"]', f'api_key = "key{number}"']
        lines += [f'base_url = "http://127.0.0.1:{port}"', 'api_secret = "x"', 'passphrase = "x"']
    return "\n".join(lines)


def connected(venue: Child, given: argparse.Namespace) -> None:
    """Wait until the daemon has subscribed to everything."""
    end = time.monotonic() + CONNECT_S + given.accounts
    while time.monotonic() < end:
        counts = venue.ask("count")
        if (counts["readers"], counts["accounts"]) == (given.instruments, given.accounts):
            # The state of the last account is still to be asked for.
            time.sleep(1.0)
            return
        time.sleep(0.2)
    raise SystemExit(f"only {counts} are connected")


def measure(given: argparse.Namespace, venue: Child, running: Running, users: Users) -> Any:
    """Return the figures of one run."""
    users.forget()
    others = Others(venue, running)
    before, cpu_s, start = venue.ask("count"), running.cpu_s(), time.monotonic()
    users.read(given.seconds)
    after, wall_s = venue.ask("count"), time.monotonic() - start
    result: dict[str, Any] = {
        "public_per_s": (after["sent"] - before["sent"]) / wall_s,
        "private_per_s": (after["events"] - before["events"]) / wall_s,
        "prices_delivered_per_s": users.prices / wall_s,
        "daemon_cpu_percent": 100 * (running.cpu_s() - cpu_s) / wall_s,
        "daemon_rss_mb": running.rss_mb(),
        "others_percent": others.percent(),
        "latency_ms": {},
    }
    for kind, found in users.latencies_ms.items():
        cuts = statistics.quantiles(found, n=1000, method="inclusive")
        figures = {"p50": cuts[499], "p99": cuts[989], "p999": cuts[998], "max": max(found)}
        result["latency_ms"][kind] = {"events": len(found)} | figures
    return result


def in_peace(given: argparse.Namespace, venue: Child, running: Running, users: Users) -> Any:
    """Measure, and again while others disturb it: by that alone, whatever came out."""
    result = measure(given, venue, running, users)
    for _ in range(given.tries - 1):
        if result["others_percent"] <= DISTURBED_PERCENT:
            break
        result = measure(given, venue, running, users)
    return result


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--accounts", type=int, default=50)
    parser.add_argument("--instruments", type=int, default=500)
    parser.add_argument("--public", type=int, default=10_000, help="prices a second")
    parser.add_argument("--private", type=float, default=100.0, help="fills a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tries", type=int, default=3, help="of what others disturb")
    parser.add_argument("--warm", type=float, default=3.0, help="seconds before that")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    source = str(Path(__file__).with_name("private_venue.py"))
    with (
        tempfile.TemporaryFile() as log,
        child("venue", [sys.executable, source], LOAD_CORE) as venue,
    ):
        keys: list[str] = []
        text = config(given, venue.answer()["port"], keys)
        with daemon(text, core=SERVER_CORE, log=log) as running:
            connected(venue, given)
            users = Users(running.port, keys, given.accounts, given.instruments)
            venue.ask(f"feed {given.public} {given.private}")
            users.read(given.warm)
            results = [in_peace(given, venue, running, users) for _ in range(given.rounds)]
    show(given, results)


def show(given: argparse.Namespace, results: list[dict[str, Any]]) -> None:
    """Print the figures of all rounds, and write them down."""
    rows: list[list[object]] = []
    for result in results:
        for kind, found in result["latency_ms"].items():
            figures = [f"{found[name]:.2f}" for name in ("p50", "p99", "p999", "max")]
            rows.append([kind, found["events"], *figures, f"{result['others_percent']:.0f}"])
    titles = ["from socket to socket", "events", "p50 ms", "p99 ms", "p99.9 ms", "max ms"]
    titles += ["others, % of a core"]
    result = results[-1]
    report.print_table("private_push", titles, rows)
    print(
        f"  {given.users} users, {given.accounts} accounts; a second: "
        f"{result['public_per_s']:,.0f} prices in, {result['prices_delivered_per_s']:,.0f} out, "
        f"{result['private_per_s']:.0f} fills; daemon {result['daemon_cpu_percent']:.0f} % of a "
        f"core, {result['daemon_rss_mb']:.0f} MB"
    )
    p99s = [max(f["p99"] for f in each["latency_ms"].values()) for each in results]
    p99 = statistics.median(p99s)
    print(
        f"  p99 under {GOAL_MS:g} ms: {'yes' if p99 < GOAL_MS else 'NO'}, {p99:.2f} in the median"
    )
    content = {"machine": report.machine(), "given": vars(given), "rounds": results}
    if given.json:
        given.json.write_text(json.dumps(content, indent=1, default=str) + "\n")
    else:
        report.save("private_push", **content)


if __name__ == "__main__":
    main()
