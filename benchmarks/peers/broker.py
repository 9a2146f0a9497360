"""
Brokers with a WebSocket side, where they are installed: NATS, mosquitto, and nginx with nchan.

    broker.py ORDERS nats|mosquitto|nchan

The broker is the server that is measured. This process, on the clients' core, publishes to it over
its own protocol, and goes no further than a few bursts ahead of what the broker has passed on: with
NATS and mosquitto it subscribes to its own messages, nchan answers each.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pace
import uvloop

AHEAD = 2
"""Bursts that a broker may still be busy with."""
LOAD_CORE = 1
NCHAN = "/usr/lib/nginx/modules/ngx_nchan_module.so"


def nats(folder: Path, port: int, ws_port: int) -> list[str]:
    """Return how to start NATS."""
    config = folder / "nats.conf"
    config.write_text(
        "log_file: /dev/null\n"
        f"listen: 127.0.0.1:{port}\nmax_connections: 100000\nwrite_deadline: '60s'\n"
        f"websocket {{ listen: '127.0.0.1:{ws_port}', no_tls: true }}\n"
    )
    beside = Path(sys.executable).with_name("nats-server")
    return [str(beside if beside.exists() else "nats-server"), "-c", str(config)]


def mosquitto(folder: Path, port: int, ws_port: int) -> list[str]:
    """Return how to start mosquitto."""
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nlistener {ws_port} 127.0.0.1\nprotocol websockets\n"
        "allow_anonymous true\nmax_queued_messages 0\nset_tcp_nodelay true\nlog_type error\n"
    )
    return [shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config)]


def nchan(folder: Path, port: int, ws_port: int) -> list[str]:
    """Return how to start nginx with nchan."""
    config = folder / "nginx.conf"
    config.write_text(f"""
load_module {NCHAN};
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
  fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port}; listen 127.0.0.1:{ws_port};
    location /pub {{ nchan_publisher http; nchan_channel_id prices;
      nchan_message_buffer_length 64; }}
    location /ws {{ nchan_subscriber websocket; nchan_channel_id prices;
      nchan_subscriber_first_message newest; }}
  }}
}}
""")
    command = [shutil.which("nginx") or "/usr/sbin/nginx"]
    return [*command, "-e", "stderr", "-p", str(folder), "-c", str(config)]


BROKERS: dict[str, Callable[[Path, int, int], list[str]]] = {
    "nats": nats,
    "mosquitto": mosquitto,
    "nchan": nchan,
}


class Publisher:
    """A connection to the broker; `encode` puts a message in the broker's own form."""

    def __init__(
        self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._kind = kind
        self._reader = reader
        self._writer = writer
        self.echoed = 0
        self.progress = asyncio.Event()

    async def start(self) -> None:
        """Subscribe to our own messages."""
        if self._kind == "nats":
            self._writer.write(b'CONNECT {"verbose":false}\r\nSUB prices 1\r\n')
        elif self._kind == "mosquitto":
            # CONNECT with a clean session, SUBSCRIBE with QoS 0: as in load.c.
            self._writer.write(b"\x10\x0c\0\4MQTT\4\2\0\0\0\0\x82\x0b\0\1\0\6prices\0")
        await asyncio.sleep(0.2)

    def write(self, messages: list[bytes]) -> None:
        """Publish."""
        self._writer.write(b"".join(map(self._encoded, messages)))

    def _encoded(self, message: bytes) -> bytes:
        size = len(message)
        if self._kind == "nats":
            return b"PUB prices %d\r\n%b\r\n" % (size, message)
        if self._kind == "nchan":
            head = b"POST /pub HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % size
            return head + message
        length = 8 + size  # a topic of six bytes with its length, no packet identifier
        packet = bytes((0x30, 0x80 | length & 0x7F, length >> 7)) + b"\0\6prices"
        return packet + message

    async def read(self) -> None:
        """Count what comes back, for ever: each message, or each answer, has one of these."""
        mark = b"HTTP/1.1 20" if self._kind == "nchan" else b'"published_us":'
        rest = b""
        while data := await self._reader.read(1 << 18):
            data = rest + data
            self.echoed += data.count(mark)
            rest = data[max(data.rfind(mark) + len(mark), len(data) - len(mark) + 1) :]
            self.progress.set()
        raise ConnectionError("the broker has closed the publisher")


async def publish(given: pace.Orders, publisher: Publisher) -> None:
    """Publish as ordered."""
    messages = pace.Messages(given)
    sent = 0

    async def send(due: list[int]) -> None:
        nonlocal sent
        publisher.write([messages.next(due_us).encode() for due_us in due])
        sent += len(due)
        while sent - publisher.echoed >= AHEAD * given.burst:
            publisher.progress.clear()
            await publisher.progress.wait()

    if given.rate:
        async for due_us in pace.due_times(given.rate):
            await send([due_us])
    while True:
        await send([pace.wall_us()] * given.burst)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def connected(
    broker: subprocess.Popen[bytes], port: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection to the broker, once it listens."""
    while broker.poll() is None:
        try:
            return await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)
    raise ChildProcessError("the broker does not start")


async def drive(kind: str, broker: subprocess.Popen[bytes], port: int, ws_port: int) -> None:
    """Publish to a broker until standard input ends."""
    commands = await pace.standard_input()
    publisher = Publisher(kind, *await connected(broker, port))
    await publisher.start()
    pace.say(port=ws_port, pid=broker.pid)
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(publisher.read())
        if await commands.readline():
            publishing = tasks.create_task(publish(pace.orders(), publisher))
            await commands.read()
            publishing.cancel()
        reading.cancel()


def main() -> None:
    """Run the broker and publish to it."""
    kind = sys.argv[2]
    with tempfile.TemporaryDirectory() as folder:
        port, ws_port = free_port(), free_port()
        command = BROKERS[kind](Path(folder), port, ws_port)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr) as broker:
            try:
                # Only now, so that the broker has the core that we were started on.
                os.sched_setaffinity(0, {LOAD_CORE})
                uvloop.run(drive(kind, broker, port, ws_port))
            finally:
                broker.kill()


if __name__ == "__main__":
    main()
