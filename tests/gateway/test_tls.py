"""TLS of the daemon's own: sessions as ever, bounds from the first byte, other certificates."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import aiohttp
import pytest
from aiohttp import web
from gateway.authority import Authority, SecureClient
from gateway.leftovers import earlier, living  # noqa: F401 - a fixture
from gateway.wsclient import CLOSE, Gone, Raw, eventually, frame

from aggregator.errors import ConfigError
from aggregator.gateway import http_connections
from aggregator.gateway.session import Session

BOTH_WAYS = pytest.mark.parametrize("way", ["handoff", "fallback"], indirect=True)
PAD = b'"%b"' % (b"x" * 30_000)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def secure(authority, serve, monkeypatch):
    """Return a function that starts a daemon with TLS, whose clients trust the authority."""
    monkeypatch.setattr(SecureClient, "context", authority.trust(), raising=False)

    async def start(**config):
        certificate, key = authority.issue()
        return await serve(tls_certificate=certificate, tls_key=key, **config)

    return start


async def connect(daemon, path="/ws", **options):
    return await SecureClient.connect(daemon.port, path, **options)


@BOTH_WAYS
async def test_conversation(secure):
    """Commands, messages, pings and a close, as without TLS; HTTP/1.1 and TLS 1.2 or newer."""
    daemon = await secure()
    SecureClient.context.set_alpn_protocols(["h2", "http/1.1"])
    async with await connect(daemon) as client:
        assert client.alpn == "http/1.1"
        assert client.version == "TLSv1.3"
        await client.subscribe("prices")
        daemon.publish("101.25")
        assert (await client.receive())["price"] == 101.25
        await client.pinged()
        (session,) = daemon.sessions
        session.close(4008, "slow consumer")
        assert await client.closed() == (4008, "slow consumer")
    await eventually(lambda: not len(daemon.sessions))
    assert not daemon.server.http_connections


@pytest.mark.parametrize(("version", "good"), [("TLSv1_1", False), ("TLSv1_2", True)])
async def test_versions(secure, version, good):
    """What is older than TLS 1.2 is refused, and counted."""
    daemon = await secure()
    context = SecureClient.context
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    old = pytest.warns(DeprecationWarning, match="TLSv1_1")
    with contextlib.nullcontext() if good else old:
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    if good:
        async with await connect(daemon) as client:
            await client.pinged()
    else:
        with pytest.raises(ssl.SSLError):
            await connect(daemon)
        await eventually(lambda: daemon.counters.rejected == {"tls": 1})
    await eventually(lambda: not daemon.server.http_connections)


async def test_compression(secure, authority):
    """It is agreed on by TLS as well, and the messages are the same."""
    daemon = await secure()
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(
            f"wss://localhost:{daemon.port}/ws", ssl=authority.trust(), compress=15
        ) as client,
    ):
        assert client.compress
        await client.send_json({"type": "subscribe", "channels": ["prices"]})
        assert (await client.receive_json())["type"] == "subscribed"
        for price in range(50):
            daemon.publish(price, data=PAD)
        seqs = [(await client.receive_json())["seq"] for _ in range(50)]
    assert seqs == list(range(1, 51))


@BOTH_WAYS
async def test_slow_reader(secure):
    """What it does not read becomes the newest values; when it reads, all is accounted for."""
    daemon = await secure()
    async with await connect(daemon, receive_buffer=4096) as slow, await connect(daemon) as quick:
        await slow.subscribe("prices")
        await quick.subscribe("others")
        count = 0
        while not daemon.sessions.lagging:
            daemon.publish(count, data=PAD)
            count += 1
            daemon.hub.flush()
            await asyncio.sleep(0)
        (session,) = daemon.sessions.lagging
        held = session.held
        for number in range(5000):
            daemon.publish(number)
        count += 5000
        # But for what had yet to be flushed then, and the newest value in place of another.
        assert session.held <= held + 2 * len(PAD)
        daemon.publish(7, channel=daemon.other)
        assert (await quick.receive())["price"] == 7
        messages = await slow.until(seq=count)
        assert len(messages) + sum(m.get("conflated", 0) for m in messages) == count
        assert messages[-1]["conflated"] > 4000
        await eventually(lambda: not daemon.sessions.lagging)
        daemon.publish("8.5")
        message = await slow.receive()
        assert (message["price"], message["seq"], "conflated" in message) == (8.5, count + 1, False)


async def test_reader_that_keeps_up_is_never_behind(secure):
    """Each write is taken at once: nothing is paused, and no message waits for another."""
    daemon = await secure()
    async with await connect(daemon) as client:
        await client.subscribe("prices")
        (session,) = daemon.sessions
        for number in range(1, 201):
            daemon.publish(number)
            assert (await client.receive())["seq"] == number
            assert not session.lagging
            assert not session._paused
    assert not daemon.counters.folded


async def test_large_snapshot_to_a_slow_but_steady_reader(secure):
    """Far larger than all buffers, it comes whole."""
    daemon = await secure(max_buffered_bytes=1_000_000)
    channel = daemon.hub.add_channel("big", "venue", [])
    for number in range(200):
        daemon.publish(number, f"I{number}/X", channel, PAD)
    async with await connect(daemon, receive_buffer=65_536) as client:
        await client.send({"type": "subscribe", "channels": ["big"]})
        messages = [await client.receive() for _ in range(201)]
    assert [m["seq"] for m in messages[1:]] == list(range(1, 201))


async def test_commands_right_behind_the_handshake(secure):
    """What comes in the record of the handshake, or the next one, is understood as frames."""
    daemon = await secure()
    async with await connect(daemon, early=frame(b'{"type":"ping","id":1}')) as client:
        assert (await client.receive())["id"] == 1
        for _ in range(3):
            await client.write(frame(b'{"type":"ping","id":2}') * 40)
        answers = [await client.receive() for _ in range(3)]
        assert all(answer["type"] in {"pong", "error"} for answer in answers)


@BOTH_WAYS
@pytest.mark.parametrize("end", ["close", "goodbye", "cut", "reset", "fault"])
async def test_ends(secure, end, monkeypatch, caplog):
    """However a client ends, nothing of it stays, and nobody is alarmed."""
    monkeypatch.setattr("aggregator.gateway.session.CLOSE_TIMEOUT_S", 0.2)
    monkeypatch.setattr("aggregator.gateway.delivery.CLOSE_TIMEOUT_S", 0.2)
    daemon = await secure()
    async with await connect(daemon) as client:
        await client.subscribe("prices")
        if end == "close":
            await client.write(frame(b"\x03\xe8", CLOSE))
            assert (await client.receive_frame())[0] == CLOSE
            await client.ended()
        elif end == "goodbye":
            await client.say_goodbye()
            await eventually(lambda: not len(daemon.sessions))
        elif end == "reset":
            client.reset()
        elif end == "fault":
            await client.write(frame(b"x", mask=None) if daemon.server.takes_over else b"\xff\xff")
            with pytest.raises(Gone, match="1002"):
                await client.receive()
            await client.ended()
    await eventually(lambda: not len(daemon.sessions))
    daemon.publish(1)
    await eventually(lambda: not daemon.server._runner.server.connections)
    assert not daemon.server.http_connections
    assert not [record for record in caplog.records if record.levelname != "INFO"]


async def test_aiohttp_keeps_nothing(secure):
    """Its handler and request are gone after the hand-over, and so is what stood before it."""
    daemon = await secure()
    clients = [await connect(daemon) for _ in range(5)]
    try:
        await eventually(lambda: not daemon.server._runner.server.connections)
        await eventually(lambda: living(web.RequestHandler) == 0)
        assert living(web.Request) == 0
        assert living(Session) == 5
        assert not daemon.server.http_connections
        for client in clients:
            await client.pinged()
    finally:
        for client in clients:
            client.sock.close()
    await eventually(lambda: not len(daemon.sessions))


async def test_who_does_no_handshake(secure, monkeypatch):
    """Who says nothing, who stops in the middle and who speaks plain HTTP are closed, and count."""
    monkeypatch.setattr(http_connections, "TLS_HANDSHAKE_S", 0.3)
    daemon = await secure()
    async with (
        await Raw.open(daemon.port) as silent,
        await Raw.open(daemon.port) as half,
        await Raw.open(daemon.port) as plain,
        await connect(daemon) as client,
    ):
        await half.write(b"\x16\x03\x01\x00\xf5\x01\x00")
        await plain.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: daemon.server.http_connections >= 2)
        for raw in (plain, silent, half):
            await raw.ended()
        await eventually(lambda: not daemon.server.http_connections)
        assert daemon.counters.rejected == {"tls": 3}
        await client.pinged()
    assert not daemon.server._connections._handshakes


async def test_bounds_hold_before_the_handshake(secure):
    """Who has not even begun TLS takes a place."""
    daemon = await secure(max_http_connections=2)
    async with await Raw.open(daemon.port), await Raw.open(daemon.port):
        await eventually(lambda: daemon.server.http_connections == 2)
        async with await Raw.open(daemon.port) as third:
            await third.ended()
        assert daemon.counters.rejected == {"max_http_connections": 1}


async def test_stop_in_the_middle_of_handshakes(secure):
    """They are cut off, and the port is free."""
    daemon = await secure()
    async with await Raw.open(daemon.port) as one, await Raw.open(daemon.port) as two:
        await eventually(lambda: daemon.server.http_connections == 2)
        await daemon.server.stop()
        await one.ended()
        await two.ended()
        assert not daemon.server.http_connections
        with pytest.raises(ConnectionError):
            await Raw.open(daemon.port)


async def test_another_certificate(secure, authority):
    """New connections get it, old ones go on; one that can't be used changes nothing."""
    daemon = await secure()
    async with await connect(daemon) as old:
        certificate, key = authority.issue()
        daemon.server.renew(daemon.config)
        async with await connect(daemon) as new:
            assert new.serial != old.serial
            await old.pinged()
            key.write_text("no key")
            with pytest.raises(ConfigError, match="no private key"):
                daemon.server.renew(daemon.config)
            certificate.unlink()
            with pytest.raises(ConfigError, match="can't be read"):
                daemon.server.renew(daemon.config)
            async with await connect(daemon) as third:
                assert third.serial == new.serial
            await old.pinged()
