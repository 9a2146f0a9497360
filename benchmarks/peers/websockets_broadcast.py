"""
The websockets library, with its own `broadcast`.

Compressed, it has one compressor for each client, with the library's own settings.
"""

from __future__ import annotations

import pace
import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main() -> None:
    """Serve."""
    given = pace.orders()
    clients: list[ServerConnection] = []

    async def connect(client: ServerConnection) -> None:
        async for _ in client:
            await client.send(pace.ANSWER)
            clients.append(client)

    def unsent(client: ServerConnection) -> int:
        return client.transport.get_write_buffer_size()

    pressure = pace.Backpressure(clients, unsent)
    compression = "deflate" if given.deflate else None
    async with serve(
        connect, "127.0.0.1", 0, compression=compression, backlog=4096, ping_interval=None
    ) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        await pace.serve(port, given, lambda message: broadcast(clients, message), pressure.full)


if __name__ == "__main__":
    uvloop.run(main())
