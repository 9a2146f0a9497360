"""Clients that connect to a daemon again and again, until a line comes; it prints what they saw."""

import asyncio
import base64
import collections
import json
import sys
from urllib.parse import urlsplit

import aiohttp


async def connecting(session, url, seen):
    """Connect, have a command answered, leave, and so on."""
    while True:
        try:
            async with session.ws_connect(url) as ws:
                await ws.send_json({"type": "ping"})
                message = await ws.receive()
                seen["answered" if message.type is aiohttp.WSMsgType.TEXT else "closed"] += 1
        except aiohttp.ClientConnectorError as e:
            seen[f"refused: {e.strerror}"] += 1
        except aiohttp.WSServerHandshakeError as e:
            seen[f"status {e.status}"] += 1
        except (aiohttp.ClientError, OSError) as e:
            seen[type(e).__name__] += 1


async def mute(host, port):
    """Connect, and answer nothing, not even the end: the daemon takes its time to stop."""
    key = base64.b64encode(bytes(16)).decode()
    request = f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    request += f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request.encode())
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()


async def main(url, clients):
    seen = collections.Counter()
    # Each time a connection of its own: not the one on which a refusal came.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        tasks = [asyncio.create_task(connecting(session, url, seen)) for _ in range(clients)]
        tasks.append(asyncio.create_task(mute(urlsplit(url).hostname, urlsplit(url).port)))
        sys.stdout.write("connecting\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    sys.stdout.write(json.dumps(seen))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
