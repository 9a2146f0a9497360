"""Started by a socket unit: nobody is refused, however often the daemon is started anew."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys

import pytest

from aggregator.telemetry import systemd

CONFIG = """
[server]
port = 1
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:9/"]
"""
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
"""What systemd does: the socket is descriptor 3, and the process knows that it is meant."""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=100) as sock:
        yield sock


@pytest.fixture
async def activate(listener, tmp_path):
    """Return a function that starts the daemon as a socket unit does."""
    started = []
    path = tmp_path / "a.toml"
    path.write_text(CONFIG)

    async def activate():
        fd = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", AS_SYSTEMD, str(fd)),
            *("-m", "aggregator", "run", "--config", str(path)),
            pass_fds=(fd,),
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield activate
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_who_connects_meanwhile_waits(activate, listener, connect):
    """Also with no daemon there at all: the next one serves it, whatever port is configured."""
    url = f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
    for _ in range(2):
        connecting = asyncio.create_task(connect(url))
        await asyncio.sleep(0)
        process = await activate()
        client = await connecting
        await client.send(type="ping")
        assert (await client.receive())["type"] == "pong"
        process.send_signal(signal.SIGTERM)
        assert await client.close_code() == 1001
        assert await process.wait() == 0
        said = (await process.stderr.read()).decode()
        assert f"listening on {url}" in said


async def test_who_connects_while_it_stops_waits_for_the_next(activate, listener, connect):
    """Nobody is refused, however long somebody else takes to answer the close."""
    host, port = listener.getsockname()
    process = await activate()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    process.send_signal(signal.SIGTERM)
    async for line in process.stderr:
        if b"stopping" in line:
            break
    connecting = asyncio.create_task(connect(f"ws://{host}:{port}/ws"))
    assert await process.wait() == 0
    writer.close()
    await activate()
    client = await connecting
    await client.send(type="ping")
    assert (await client.receive())["type"] == "pong"


def test_only_what_is_meant_is_taken(listener):
    """Not the sockets of another process, and of ours only those that listen with TCP."""
    assert systemd.listening({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert systemd.listening({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}) == []
    assert systemd.listening({}) == []


def test_other_kinds_are_left_alone(listener, monkeypatch):
    """A datagram socket, a connected one, and what is no socket at all."""
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        pipe = os.pipe()
        fds = [ours.fileno(), datagrams.fileno(), pipe[0], listener.fileno()]
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        found = []
        for fd in fds:
            monkeypatch.setattr(systemd, "FIRST_FD", fd)
            found.append([sock.detach() for sock in systemd.listening(environ)])
        assert found == [[], [], [], [listener.fileno()]]
        for fd in fds:
            os.fstat(fd)
        for fd in pipe:
            os.close(fd)
