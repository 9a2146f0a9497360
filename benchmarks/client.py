"""
The Python SDK: how many messages it hands out, and how fast thousands of clients come back.

    .venv-bench/bin/python benchmarks/client.py [speed] [resume] [--rounds 3] [--json] ...

speed: one message stream from a server on core 0, prices of 300 bytes with rising numbers, sent as
fast as they are taken; each client by itself on core 1. Counted is what the client's process takes
of the CPU from the first message to the last, kernel included. The SDK decodes to types, checks
times and numbers, and looks for holes; its peers decode with orjson and do nothing else.

resume: the daemon as a process, and clients of the SDK in a few others, each with a price every two
seconds. The daemon gets SIGTERM
and is started anew on the same port. Counted is the time until the last client has its
acknowledgement, and that each of them is told what was lost and sees no message twice.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import report
from daemon import free_port
from processes import LOAD_CORE, SERVER_CORE, Others, child

from aggregator.client import Client, Options
from aggregator.messages import Gap, PriceUpdate

MESSAGE_BYTES = 300
FIRST_SEQ = 1_000_000
BLOCK = 100
PATIENCE_S = 120.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ACK = b'{"type":"subscribed","channels":["btc"],"positions":{"btc":{"epoch":"e","seq":%d}},"id":1}'
CONFIG = """
[server]
port = {port}
max_connections = 100000
max_connections_per_address = 100000
[feeds.btc]
connector = "binance.prices"
instruments = ["BTC/USDT"]
interval_s = 2
"""
SDK, AIOHTTP, WEBSOCKETS = "SDK", "aiohttp + orjson.loads", "websockets + orjson.loads"
LOOPS = ("asyncio", "uvloop")
DISTURBED_PERCENT = 5.0
BUSY = 0.5


def payload(seq: int) -> bytes:
    """Return a price update of exactly `MESSAGE_BYTES`."""
    head = (
        b'{"type":"price_update","connector_id":"btc","exchange":"okx","instrument":"BTC/USDT",'
        b'"price":66990.12,"timestamp":"2026-11-20T07:48:07.636Z","data":{"x":"'
    )
    tail = (
        b'"},"channel":"btc","seq":%d,"exchange_us":1795160887636000,'
        b'"received_us":1795160887637077,"published_us":1795160887637153,"bid":66990}' % seq
    )
    return head + b"x" * (MESSAGE_BYTES - len(head) - len(tail)) + tail


def frame(text: bytes) -> bytes:
    """Return a text frame."""
    head = bytes([0x81, len(text)]) if len(text) < 126 else b"\x81\x7e" + len(text).to_bytes(2)
    return head + text


def serve(number: int) -> None:
    """Send so many messages to each who comes, one after another; say where that is."""
    frames = [frame(payload(FIRST_SEQ + n)) for n in range(1, number + 1)]
    blocks = [b"".join(frames[n : n + BLOCK]) for n in range(0, number, BLOCK)]
    del frames
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(json.dumps({"port": server.getsockname()[1]}), flush=True)
        while True:
            with server.accept()[0] as peer, contextlib.suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += peer.recv(4096)
                key = head.lower().partition(b"sec-websocket-key:")[2].partition(b"\r\n")[0]
                start = head.lower().index(b"sec-websocket-key:") + len("sec-websocket-key:")
                key = head[start : start + len(key)].strip()
                accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
                peer.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept
                )
                peer.recv(4096)
                peer.sendall(frame(ACK % FIRST_SEQ))
                for block in blocks:
                    peer.sendall(block)
                peer.recv(4096)


async def by_sdk(url: str, number: int) -> float:
    """Take them with the SDK; return the CPU time."""
    async with Client(url) as client:
        messages = aiter(client.subscribe("btc"))
        last = await anext(messages)
        start = time.process_time()
        async for message in messages:
            assert message.seq == last.seq + 1
            last = message
            if message.seq == FIRST_SEQ + number:
                break
        took_s = time.process_time() - start
        assert client.counters.invalid == client.counters.gaps == 0
    return took_s


async def by_aiohttp(url: str, number: int) -> float:
    """Take them with aiohttp's own client; return the CPU time."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url, max_msg_size=0) as ws:
        await ws.send_str("{}")
        for _ in range(2):
            last = orjson.loads((await ws.receive()).data)
        start = time.process_time()
        async for received in ws:
            message = orjson.loads(received.data)
            assert message["seq"] == last["seq"] + 1
            last = message
            if message["seq"] == FIRST_SEQ + number:
                break
        return time.process_time() - start


async def by_websockets(url: str, number: int) -> float:
    """Take them with websockets; return the CPU time."""
    import websockets

    async with websockets.connect(url, max_size=None, compression=None) as ws:
        await ws.send("{}")
        for _ in range(2):
            last = orjson.loads(await ws.recv())
        start = time.process_time()
        async for text in ws:
            message = orjson.loads(text)
            assert message["seq"] == last["seq"] + 1
            last = message
            if message["seq"] == FIRST_SEQ + number:
                break
        return time.process_time() - start


PEERS: dict[str, Callable[[str, int], Awaitable[float]]] = {
    SDK: by_sdk,
    AIOHTTP: by_aiohttp,
    WEBSOCKETS: by_websockets,
}


def take(who: str, loop: str, port: int, number: int) -> None:
    """Be one of the peers, and say how long that took."""
    gc.collect()
    gc.freeze()

    async def main() -> float:
        return await PEERS[who](f"ws://127.0.0.1:{port}/ws", number)

    took_s = run(main, loop)
    print(json.dumps({"rate_cpu": (number - 1) / took_s}), flush=True)


def run(main: Callable[[], Any], loop: str) -> Any:
    """Run a coroutine on one of the event loops."""
    if loop == "uvloop":
        import uvloop

        return uvloop.run(main())
    return asyncio.run(main())


def own(*arguments: object) -> list[str]:
    """Return the command of another process of this program."""
    return [sys.executable, __file__, *map(str, arguments)]


def speed(given: argparse.Namespace) -> dict[str, Any]:
    """Measure all peers in turn, print the table, and return the figures."""
    values: dict[str, list[float]] = {f"{w}, {p}": [] for p in LOOPS for w in PEERS}
    others_percent: list[float] = []
    with child("server", own("serve", given.messages), SERVER_CORE) as server:
        port = server.answer()["port"]
        for _ in range(given.rounds):
            for loop in LOOPS:
                for who in PEERS:
                    arguments = own("take", who, loop, port, given.messages)
                    with child(who, arguments, LOAD_CORE) as client:
                        others = Others(server, client)
                        values[f"{who}, {loop}"].append(client.answer()["rate_cpu"])
                        others_percent.append(others.percent())
    medians = {name: report.median(each) for name, each in values.items()}
    rows = []
    for loop in LOOPS:
        for who in PEERS:
            rate, bare = medians[f"{who}, {loop}"], medians[f"{AIOHTTP}, {loop}"]
            rows.append(
                [who, loop, f"{rate / 1e3:,.0f}", f"{1e6 / rate:.2f}", f"{rate / bare:.2f}"]
            )
    titles = ["client", "loop", "k messages/CPU-s", "us each", "of aiohttp"]
    if not given.json:
        report.print_table(f"speed: {MESSAGE_BYTES} bytes, {given.rounds} rounds", titles, rows)
        if max(others_percent) > DISTURBED_PERCENT:
            print(f"  ! others took up to {max(others_percent):.0f} % of a core meanwhile")
    return {"medians": medians, "rounds": values, "others_percent": others_percent}


class Followers:
    """
    So many clients in one process.

    Args:
        number: of them.

    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._here = 0
        self._live = 0
        self.here = asyncio.Event()
        self.live = asyncio.Event()
        self.returns: list[float] = []
        """When each had its acknowledgement: the gap comes with it."""
        self.wrong: list[str] = []

    async def follow(self, client: Client) -> None:
        """Take all messages of a client; none may come twice."""
        newest_us = gaps = 0
        async for message in client.subscribe("btc"):
            if isinstance(message, Gap):
                gaps += 1
                self.returns.append(time.monotonic())
                continue
            assert isinstance(message, PriceUpdate)
            if message.published_us <= newest_us or gaps > 1:
                self.wrong.append(f"{newest_us}, {message.published_us}, {gaps} gaps")
            if not newest_us:
                self._here += 1
                if self._here == self._number:
                    self.here.set()
            newest_us = message.published_us
            if gaps == 1:
                gaps = -1000
                self._live += 1
                if self._live == self._number:
                    self.live.set()


async def follow(url: str, number: int) -> None:
    """Be so many clients; say when all are connected, and when all have come back."""
    followers = Followers(number)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as tasks:
        gate = asyncio.Semaphore(100)
        options = Options(start_timeout_s=PATIENCE_S)
        clients = [Client(url, options, session=session) for _ in range(number)]

        async def start(client: Client) -> None:
            async with gate:
                await client.connect()
            tasks.create_task(followers.follow(client))

        for client in clients:
            tasks.create_task(start(client))
        await followers.here.wait()
        # As any program with thousands of them would: else each collection looks at all.
        gc.collect()
        gc.freeze()
        print(json.dumps({"connected": number}), flush=True)
        await followers.live.wait()
        told = {"last": max(followers.returns), "back": len(followers.returns)}
        told |= {"wrong": followers.wrong[:3], "cpu_s": cpu_s(os.getpid())}
        # The first failure of each was to lose the connection.
        told |= {"attempts": sum(client.counters.failures - 1 for client in clients)}
        print(json.dumps(told), flush=True)
        os._exit(0)  # without a farewell of thousands


@contextlib.contextmanager
def running(folder: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the daemon until the block ends, from when it listens."""
    path = Path(folder, "aggregator.toml")
    path.write_text(CONFIG.format(port=port))
    command = [sys.executable, "-m", "aggregator", "demo", "--config", str(path)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        place = f"{folder}/notify-{time.monotonic_ns()}"
        notify.bind(place)
        notify.settimeout(PATIENCE_S)
        environ = os.environ | {"NOTIFY_SOCKET": place}
        log = [*command, "--log-level", "warning"]
        with subprocess.Popen(log, env=environ) as process:
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
                yield process
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(PATIENCE_S)


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has used, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def resume(given: argparse.Namespace) -> dict[str, Any]:
    """Let the clients come, restart the daemon, and let them come back."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    share = given.clients // given.processes
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory() as folder,
        free_port() as port,
        contextlib.ExitStack() as stack,
    ):
        url = f"ws://127.0.0.1:{port}/ws"
        with running(folder, port):
            clients = [
                stack.enter_context(child(f"{n}", own("follow", url, share), n % 2))
                for n in range(given.processes)
            ]
            for each in clients:
                each.answer()
            time.sleep(1.0)
            stopped_s = time.monotonic()
            clients_s = -sum(each.cpu_s() for each in clients)
        gone_s = time.monotonic()
        with running(folder, port) as process:
            ready_s = time.monotonic()
            told = [each.answer() for each in clients]
            clients_s += sum(each["cpu_s"] for each in told)
            daemon_s = cpu_s(process.pid)
    last_s = max(each["last"] for each in told)
    figures: dict[str, Any] = {
        "load_before": load,
        "clients": share * given.processes,
        "came back": sum(each["back"] for each in told),
        "wrong": [fault for each in told for fault in each["wrong"]],
        "attempts": sum(each["attempts"] for each in told),
        "stopped_s": gone_s - stopped_s,
        "started_s": ready_s - gone_s,
        "since_sigterm_s": last_s - stopped_s,
        "since_ready_s": last_s - ready_s,
        "cpu_clients_s": clients_s,
        "cpu_daemon_s": daemon_s,
    }
    if not given.json:
        titles = ["clients", "came back", "twice", "s to stop", "s to start", "s since SIGTERM"]
        row = [figures["clients"], figures["came back"], len(figures["wrong"])]
        seconds = ("stopped_s", "started_s", "since_sigterm_s", "since_ready_s")
        seconds += ("cpu_clients_s", "cpu_daemon_s")
        row += [f"{figures[name]:.1f}" for name in seconds]
        row.append(figures["attempts"])
        titles += ["s since ready", "CPU-s of clients", "of the daemon", "attempts that failed"]
        report.print_table("resume after a restart of the daemon", titles, [row])
        if load > BUSY:
            print(f"  ! the machine was busy before it began: a load of {load:.1f}")
    return figures


def main() -> None:
    """Measure what is asked for, and print it."""
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    elif sys.argv[1:2] == ["take"]:
        take(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["follow"]:
        run(lambda: follow(sys.argv[2], int(sys.argv[3])), "uvloop")
    else:
        parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
        parser.add_argument("parts", nargs="*", default=["speed", "resume"])
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--messages", type=int, default=300_000)
        parser.add_argument("--clients", type=int, default=10_000)
        parser.add_argument("--processes", type=int, default=2)
        parser.add_argument("--json", action="store_true", help="figures in place of tables")
        given = parser.parse_args()
        parts = {"speed": speed, "resume": resume}
        if unknown := set(given.parts) - set(parts):
            parser.error(f"unknown: {', '.join(unknown)}; there are speed and resume")
        figures = {name: parts[name](given) for name in given.parts}
        if given.json:
            print(json.dumps({"machine": report.machine(), **figures}, indent=1))
        report.save("client", **figures)


if __name__ == "__main__":
    main()
