"""SIGHUP: another configuration, with the daemon as a process and clients that stay."""

from __future__ import annotations

import asyncio
import signal

import pytest

from aggregator.simulator import Simulator

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SERVER = "[server]\nport = {port}\n{more}\n"
OKX = """
[feeds.{name}]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["{url}"]
"""


@pytest.fixture
async def simulator():
    async with Simulator(ticks_per_s=50) as simulator:
        yield simulator


@pytest.fixture
async def daemon(simulator, start, tmp_path):
    """Yield a daemon, and a function that writes its configuration and sends SIGHUP."""
    path = tmp_path / "a.toml"

    def write(*names: str, port: int = 0, more: str = "") -> None:
        feeds = [OKX.format(name=name, url=simulator.okx_url) for name in names]
        path.write_text(SERVER.format(port=port, more=more) + "".join(feeds))

    write("first", "second")
    process = await start("run", "--config", path)
    await process.logged("feed second live")
    await process.logged("feed first live")
    reloads = 0

    async def reload(*names: str, **more) -> None:
        nonlocal reloads
        reloads += 1
        write(*names, **more)
        process.signal(signal.SIGHUP)
        await process.logged("configuration read again", times=reloads)

    yield process, reload
    if process.process.returncode is None:
        process.signal(signal.SIGTERM)
    assert await process.ended() == 0


async def test_feeds_come_and_go(daemon, connect):
    """Who is subscribed to one that goes is told; of the others no message is missing."""
    process, reload = daemon
    client = await connect(await process.url())
    await client.send(type="subscribe", channels=["first", "first:BTC/USDT", "second", "third"])
    await client.until(lambda m: m["type"] == "error" and m["channel"] == "third")
    await client.until(lambda m: m.get("channel") == "first" and m["seq"] > 3)
    await reload("second", "third")
    await process.logged("feed third live")
    told = [await client.until(lambda m: m["type"] == "error") for _ in range(2)]
    assert {each["code"] for each in told} == {"unknown_channel"}
    assert sorted(each["channel"] for each in told) == ["first", "first:BTC/USDT"]
    await client.send(type="subscribe", channels=["first", "third"])
    answers = [await client.until(lambda m: m.get("channel") != "second") for _ in range(2)]
    assert (answers[0]["type"], answers[0]["channels"]) == ("subscribed", ["third"])
    assert (answers[1]["type"], answers[1]["channel"]) == ("error", "first")
    await client.until(lambda m: m.get("channel") == "third")
    assert not process.lines_with("second (down|connecting|stale)")


async def test_messages_of_the_others_are_all_there(daemon, connect):
    """A hundred reloads, and a client that counts; the process stays the same."""
    process, reload = daemon
    client = await connect(await process.url())
    await client.send(type="subscribe", channels=["second"])
    seqs: list[int] = []

    async def count() -> None:
        while True:
            message = await client.receive()
            if message["type"] == "price_update":
                seqs.append(message["seq"])

    counting = asyncio.create_task(count())
    for number in range(100):
        await reload("second", *(["first"] if number % 2 else ["third"]))
    before = len(seqs)
    while len(seqs) < before + 3:  # noqa: ASYNC110 - the client tells nobody
        await asyncio.sleep(0.01)
    counting.cancel()
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert not process.lines_with("level=(error|critical)")


async def test_limits(daemon, connect):
    """They hold at once, also for who is connected; what can't change is named and stays."""
    process, reload = daemon
    client = await connect(await process.url())
    await reload("first", "second", more="max_subscriptions = 1\nmax_connections_per_address = 1")
    await client.send(type="subscribe", channels=["first", "second"])
    assert (await client.receive())["code"] == "too_many_subscriptions"
    with pytest.raises(Exception, match="429"):
        await connect(await process.url())
    await reload("first", "second", port=1, more="max_frame_bytes = 8192")
    await process.logged("need a restart: server.port, server.max_frame_bytes")
    await client.send(type="subscribe", channels=["first", "second"])
    assert (await client.receive())["type"] == "subscribed"


async def test_a_bad_configuration_changes_nothing(daemon, connect, tmp_path):
    """It is said, and the feeds go on."""
    process, _ = daemon
    client = await connect(await process.url())
    await client.send(type="subscribe", channels=["first"])
    (tmp_path / "a.toml").write_text("[server]\nmax_connections = -1\n[feeds.x]\nconnector = 5\n")
    process.signal(signal.SIGHUP)
    [line] = await process.logged("configuration is not taken over")
    assert "max_connections" in line
    await client.until(lambda m: m["type"] == "price_update" and m["seq"] > 20)
    (tmp_path / "a.toml").unlink()
    process.signal(signal.SIGHUP)
    await process.logged("configuration is not taken over", times=2)
    await client.until(lambda m: m["type"] == "price_update")


async def test_a_reload_while_it_stops(daemon, tmp_path):
    """Starts nothing any more, and takes nobody's goodbye away."""
    process, _ = daemon
    url = await process.url()
    host, _, port = url.removeprefix("ws://").removesuffix("/ws").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    process.signal(signal.SIGTERM)
    await process.logged("stopping")
    with (tmp_path / "a.toml").open("a") as file:
        file.write(OKX.format(name="more", url="ws://127.0.0.1:9/"))
    process.signal(signal.SIGHUP)
    assert await process.ended() == 0
    assert not process.lines_with("Traceback|level=(error|critical)")
    assert await reader.read() == b"\x88\x12\x03\xe9the daemon stops"
    writer.close()


async def test_a_channel_for_publishing_is_no_feed(daemon, connect):
    """Until the next start, since its messages and subscribers would be gone without a word."""
    process, reload = daemon
    await reload("first", more='publish_channels = ["own"]')
    await process.logged("need a restart: server.publish_channels")
    # It was none at the start, so a feed may have the name.
    await reload("first", "own")
    await process.logged("feed own live")
