"""The `websockets` package as a client that compresses, which has its own idea of RFC 7692."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets
from gateway.rfc7692.deflating import far_apart
from gateway.wsclient import PATIENCE_S
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

ROUNDS = 20


async def converse(daemon, **options: object) -> None:
    """Give commands of many sizes, and be sent messages of many sizes."""
    url = f"ws://127.0.0.1:{daemon.port}/ws"
    async with (
        asyncio.timeout(PATIENCE_S),
        websockets.connect(url, max_size=None, **options) as client,
    ):
        [extension] = client.protocol.extensions
        assert extension.remote_no_context_takeover
        assert extension.local_no_context_takeover
        await client.send(json.dumps({"type": "subscribe", "channels": ["prices"]}))
        assert json.loads(await client.recv())["type"] == "subscribed"
        for i in range(ROUNDS):
            size = 20 * 3 ** (i % 8)
            await client.send(json.dumps({"type": "ping", "id": i}).rjust(size % 60_000))
            await until(client, id=i)
            data = far_apart(size)
            daemon.publish(i, data=data)
            assert (await until(client, price=i))["data"] == json.loads(data)
        pong = await client.ping(b"x" * 125)
        await pong


async def until(client: websockets.ClientConnection, **fields: object) -> dict[str, object]:
    """Return the next message with these fields; before there may be one that is kept."""
    while True:
        message = json.loads(await client.recv())
        if all(message.get(key) == value for key, value in fields.items()):
            return message


async def test_default(daemon):
    """As it comes, it offers compression, and everything arrives."""
    await converse(daemon, compression="deflate")
    assert daemon.counters.protocol_errors == 0


@pytest.mark.parametrize("server_bits", [None, *range(9, 16)])
async def test_windows(serve, server_bits):
    """With every window of the server's and of the client's, whatever takeover it asks for."""
    daemon = await serve()
    for client_bits in (None, True, *range(9, 16)):
        for takeover in (False, True):
            factory = ClientPerMessageDeflateFactory(
                server_no_context_takeover=takeover,
                client_no_context_takeover=takeover,
                server_max_window_bits=server_bits,
                client_max_window_bits=client_bits,
            )
            await converse(daemon, extensions=[factory], compression=None)
    assert daemon.counters.protocol_errors == 0


async def test_window_of_256_bytes(daemon):
    """Where it insists on what can't be had it goes on without compression."""
    factory = ClientPerMessageDeflateFactory(server_max_window_bits=8)
    url = f"ws://127.0.0.1:{daemon.port}/ws"
    async with websockets.connect(url, extensions=[factory], compression=None) as client:
        assert client.protocol.extensions == []
        await client.send('{"type":"ping","id":1}')
        assert json.loads(await client.recv())["id"] == 1


async def test_fragments(daemon):
    """A message that it sends in fragments is compressed as one."""
    async with websockets.connect(f"ws://127.0.0.1:{daemon.port}/ws") as client:
        for id_ in ("a", "ß" * 100):
            text = json.dumps({"type": "ping", "id": id_}, ensure_ascii=False)
            await client.send(iter([text[:9], text[9:30], "", text[30:]]))
            assert json.loads(await client.recv())["id"] == id_
    assert daemon.counters.protocol_errors == 0
