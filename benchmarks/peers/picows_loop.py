"""picows, a WebSocket library in Cython: `send` to one client after the other."""

from __future__ import annotations

import pace
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server


async def main() -> None:
    """Serve."""
    given = pace.orders()
    clients: list[WSTransport] = []

    class Client(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                transport.send(WSMsgType.TEXT, pace.ANSWER.encode())
                clients.append(transport)

    def connect(_: WSUpgradeRequest) -> Client:
        return Client()

    def send(message: str) -> None:
        payload = message.encode()
        for client in clients:
            client.send(WSMsgType.TEXT, payload)

    def unsent(client: WSTransport) -> int:
        return client.underlying_transport.get_write_buffer_size()

    server = await ws_create_server(connect, "127.0.0.1", 0, backlog=4096)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await pace.serve(port, given, send, pace.Backpressure(clients, unsent).full)


if __name__ == "__main__":
    uvloop.run(main())
