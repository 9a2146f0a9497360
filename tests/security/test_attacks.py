"""Attacks on the daemon as a process, with an honest client beside them: docs/security.md."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from gateway.wsclient import BINARY, PING, TEXT, frame, handshake

from aggregator.simulator import Simulator

ATTACKER = "127.0.0.2"
"""Its own address, so that what it uses up is not the honest client's."""
GROWTH_BYTES = 40_000_000
PATIENCE_S = 40
TOKEN = "correct-horse-battery-staple"
CONFIG = """
[server]
port = 0
max_connections_per_address = 50
[feeds.prices]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["{url}"]
"""

Open = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
ATTACKS: dict[str, Callable[[Open], Awaitable[None]]] = {}


def attack(function):
    """Have it tried."""
    ATTACKS[function.__name__] = function
    return function


async def say(open_: Open, data: bytes, enough: int = 2**30) -> bytes:
    """Send something on a connection of its own; return what is answered, until it is over."""
    reader, writer = await open_()
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    answer = bytearray()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while len(answer) < enough and (some := await reader.read(65_536)):
                answer += some
    return bytes(answer)


def get(path: str, *headers: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def status(answer: bytes) -> int:
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


@attack
async def a_flood_of_handshakes(open_: Open) -> None:
    """Beyond the limit of an address they are refused, and the others hold on to nothing."""
    held = []
    for _ in range(300):
        reader, writer = await open_()
        writer.write(handshake())
        held.append(reader.read(12))
    answers = await asyncio.gather(*held, return_exceptions=True)
    # Who is cut off before has no answer.
    found = [status(answer) for answer in answers if isinstance(answer, bytes)]
    assert 0 < found.count(101) <= 50
    assert set(found) <= {101, 429, 0}


@attack
async def a_flood_of_requests(open_: Open) -> None:
    """Thousands on one connection, none of whose answers is read."""
    _, writer = await open_()
    for _ in range(50):
        writer.write(get("/channels").replace(b"close", b"keep-alive") * 100)
        with contextlib.suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(0.1):
                await writer.drain()


@attack
async def a_flood_of_subscriptions(open_: Open) -> None:
    """They are a thousand times a thousand channels that there are not; the rate is bounded."""
    _, writer = await open_()
    writer.write(handshake())
    names = [f"prices:X{number}/Y" for number in range(1000)]
    command = json.dumps({"type": "subscribe", "channels": names}).encode()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(5):
            for _ in range(1000):
                writer.write(frame(command))
                await writer.drain()


@attack
async def bombs(open_: Open) -> None:
    """Of 60 KB that inflate to 60 MB, no more than the limit is inflated: 1009."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(64))
    bomb += packer.flush(zlib.Z_SYNC_FLUSH)
    asked = handshake(Sec_WebSocket_Extensions="permessage-deflate")
    for _ in range(20):
        answer = await say(open_, asked + frame(bomb[:60_000], rsv=4))
        assert b"\x03\xf1" in answer


@attack
async def frames_that_lie(open_: Open) -> None:
    """Of 2**62 bytes, of none, without a mask, with reserved bits, of unknown kinds."""
    for lie in (
        frame(b"x", size=2**62),
        frame(b"x" * 70_000),
        frame(b"x", mask=None),
        frame(b"x", rsv=7),
        frame(b"x", opcode=0xF),
        frame(b"x" * 126, PING),
        frame(b"\xff\xfe", TEXT),
        frame(b"\x00" * 10, BINARY),
    ):
        answer = await say(open_, handshake() + lie)
        assert status(answer) == 101
        assert b"\x88" in answer


@attack
async def deep_json(open_: Open) -> None:
    """Is refused like any other nonsense, on the socket and over HTTP."""
    deep = b"[" * 30_000
    reader, writer = await open_()
    writer.write(handshake() + frame(deep) + frame(b'{"a":' * 10_000))
    for _ in range(2):
        async with asyncio.timeout(PATIENCE_S):
            await reader.readuntil(b"bad_json")
    body = b'{"message":' * 5_000
    size = f"Content-Length: {len(body)}"
    post = get("/ws/test", size, f"Authorization: Bearer {TOKEN}", "Content-Type: application/json")
    assert status(await say(open_, post.replace(b"GET", b"POST", 1) + body)) == 400


@attack
async def tricks_with_paths(open_: Open) -> None:
    """Nothing of the machine is served, whatever is written."""
    for path in (
        "/../../../../etc/passwd",
        "/client.js/../../../etc/passwd",
        "/..%2f..%2f..%2fetc%2fpasswd",
        "/dashboard/..%2f..%2fapp.py",
        "/dashboard/../../app.py",
        "/dashboard/%2e%2e/%2e%2e/app.py",
        "/latest/..%2f..%2fetc%2fpasswd",
        "/why/%00",
        "//ws",
        "/ws/../metrics",
        "/client.js%00.html",
        "http://elsewhere.example/etc/passwd",
    ):
        answer = await say(open_, get(path))
        assert status(answer) in {400, 403, 404}, path
        assert b"root:" not in answer
        assert b"import " not in answer


@attack
async def tricks_with_headers(open_: Open) -> None:
    """Too many, too long, twice, or of two lengths: refused, and not taken for two requests."""
    many = [f"X-{number}: {'x' * 100}" for number in range(10_000)]
    smuggled = get("/healthz", "Content-Length: 5", "Transfer-Encoding: chunked")
    for request in (
        get("/healthz", *many),
        get("/healthz", "X: " + "x" * 1_000_000),
        get("/healthz", "Content-Length: 5", "Content-Length: 6"),
        get("/healthz", "Content-Length: -1"),
        get("/healthz", "Host: other"),
        get("/healthz", "X\x00: y"),
        get("/healthz", "X : y"),
        smuggled + b"0\r\n\r\n" + get("/metrics"),
    ):
        answer = await say(open_, request)
        assert answer.count(b"HTTP/1.1 200") == 0, request[:200]


@attack
async def guesses_of_tokens(open_: Open) -> None:
    """Slowed, counted, and in the end refused without a look: 429, and 4001 on a socket."""
    found = set()
    for number in range(40):
        guess = get("/ws/test", f"Authorization: Bearer guess{number}", "Content-Length: 0")
        found.add(status(await say(open_, guess.replace(b"GET", b"POST", 1))))
    assert found <= {401, 429}
    assert 429 in found
    reader, writer = await open_()
    writer.write(handshake())
    async with asyncio.timeout(PATIENCE_S):
        await reader.readuntil(b"\r\n\r\n")
        for number in range(10):
            auth = {"type": "auth", "token": f"agg_x_{number:040}"}
            writer.write(frame(json.dumps(auth).encode()))
        assert b"\x0f\xa1" in await reader.read()


@attack
async def pages_of_others(open_: Open) -> None:
    """They get no socket, and may post nothing, by whatever name they come."""
    for origin in ("https://evil.example", "null", "http://127.0.0.1.evil.example", "file://"):
        assert status(await say(open_, handshake(Origin=origin), enough=12)) == 403
    body = b'{"message":"x"}'
    for extra in ("Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded"):
        headers = (extra, f"Content-Length: {len(body)}", f"Authorization: Bearer {TOKEN}")
        post = get("/ws/test", *headers).replace(b"GET", b"POST", 1) + body
        assert status(await say(open_, post)) == 415


@attack
async def words_for_the_log(open_: Open) -> None:
    """Line ends, escapes and whole lines of a log, in every place that takes words."""
    planted = 'x\ntime=2000-01-01T00:00:00Z level=error msg="planted"\x1b[31m\r\n'
    escaped = json.dumps(planted)
    for command in (
        f'{{"type":"subscribe","channels":[{escaped}]}}',
        f'{{"type":"auth","token":{escaped}}}',
        f'{{"type":{escaped}}}',
    ):
        answer = await say(open_, handshake() + frame(command.encode()) + frame(opcode=8))
        assert status(answer) == 101
    for path in ("/why/x%0atime=2000%20msg=planted", "/latest/%1b%5b31m", "/x%0d%0aplanted"):
        await say(open_, get(path, "User-Agent: \x1b[31mplanted"))


@attack
async def what_is_no_http(open_: Open) -> None:
    """TLS, SSH, noise and nothing at all."""
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(200)
    noise = (hello, b"SSH-2.0-OpenSSH\r\n", os.urandom(5000), b"\r\n" * 5000, b"\x00" * 5000)
    said = (say(open_, data + b"\r\n\r\n") for data in noise)
    assert {status(answer) for answer in await asyncio.gather(*said)} <= {0, 400}


@pytest.fixture
async def daemon(start, tmp_path):
    """Yield a daemon that has prices all the time."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "ops_token").write_text(TOKEN)
    async with Simulator(ticks_per_s=100) as simulator:
        (tmp_path / "a.toml").write_text(CONFIG.format(url=simulator.okx_url))
        environ = {"CREDENTIALS_DIRECTORY": str(credentials)}
        process = await start("run", "--config", "a.toml", "--log-level", "debug", environ=environ)
        await process.logged("feed prices live")
        yield process
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("name", ATTACKS)
async def test_attack(daemon, connect, name):
    """It is refused; an honest client misses nothing; no memory, no false line of a log is left."""
    url = await daemon.url()
    port = int(url.rpartition(":")[2].partition("/")[0])
    witness = await connect(url)
    await witness.send(type="subscribe", channels=["prices"])
    seqs: list[int] = []

    async def watch() -> None:
        while True:
            message = await witness.receive()
            if message["type"] == "price_update":
                seqs.append(message["seq"])

    async def open_() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(ATTACKER, 0))
        opened.append(writer)
        return reader, writer

    opened: list[asyncio.StreamWriter] = []
    watching = asyncio.create_task(watch())
    before = resident_bytes(daemon.pid)
    await ATTACKS[name](open_)
    seen = len(seqs)
    while len(seqs) < seen + 10:  # noqa: ASYNC110 - the witness wakes nobody
        await asyncio.sleep(0.01)
    watching.cancel()
    for writer in opened:
        writer.transport.abort()
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert resident_bytes(daemon.pid) - before < GROWTH_BYTES
    assert all(re.match(r"time=20[2-9]\d-\S+ level=\w+ logger=", line) for line in daemon.lines)
    assert not daemon.lines_with("Traceback|level=(error|critical)|\x1b")
    # It goes on taking others in.
    assert (await connect(url)).socket is not None
