"""
aiohttp as it is used everywhere: `send_str` to one client after the other.

Compressed, it has one compressor for each client, with aiohttp's own settings.
"""

from __future__ import annotations

import pace
import uvloop
from aiohttp import web


async def main() -> None:
    """Serve."""
    given = pace.orders()
    clients: list[web.WebSocketResponse] = []

    async def connect(request: web.Request) -> web.WebSocketResponse:
        client = web.WebSocketResponse(compress=given.deflate)
        await client.prepare(request)
        async for _ in client:
            await client.send_str(pace.ANSWER)
            clients.append(client)
        return client

    async def send(message: str) -> None:
        for client in clients:
            await client.send_str(message)

    app = web.Application()
    app.router.add_get("/ws", connect)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
    # No look at backpressure: send_str itself waits for a client that is behind.
    await pace.serve(runner.addresses[0][1], given, send, lambda: False)


if __name__ == "__main__":
    uvloop.run(main())
