"""
uWebSockets, a server in C++, through socketify: a topic that all clients subscribe to.

On its own libuv loop without asyncio, which would turn all the time. What is published in one turn
goes out to each client with one system call, at the end of the turn. Compressed, it uses one
compressor for all clients, but compresses for each of them.
"""

from __future__ import annotations

import os
import select
import sys

import pace
from socketify import App, AppListenOptions, CompressOptions, OpCode, WebSocket

TICK_MS = 1


class Server:
    """The state between the ticks."""

    def __init__(self) -> None:
        self._given = pace.orders()
        self._messages = pace.Messages(self._given)
        self._schedule: pace.Schedule | None = None
        self._going = False
        self._clients: list[WebSocket] = []
        self._pressure = pace.Backpressure(self._clients, WebSocket.get_buffered_amount)
        # Of its compressors the fastest at this: those of each client's own deliver a sixth less.
        deflate = self._given.deflate
        compression = CompressOptions.SHARED_COMPRESSOR if deflate else CompressOptions.DISABLED
        self._app = App()
        self._app.ws(
            "/ws",
            {
                "compression": compression,
                "idle_timeout": 0,
                # What is beyond it would be dropped.
                "max_backpressure": 64 * 1024 * 1024,
                "message": self._on_message,
            },
        )

    def _on_message(self, client: WebSocket, _message: object, _opcode: OpCode) -> None:
        client.subscribe("prices")
        client.send(pace.ANSWER, OpCode.TEXT)
        # A few for the backpressure; uWebSockets itself needs nothing in Python for a client.
        if len(self._clients) < 4 * pace.LOOK_AT:
            self._clients.append(client)

    def run(self) -> None:
        """Serve until standard input ends."""
        listening = AppListenOptions(port=0, host="127.0.0.1")
        self._app.listen(listening, lambda where: pace.say(port=where.port))
        loop = self._app.loop.uv_loop
        self._timer = loop.create_timer(TICK_MS, TICK_MS, lambda _: self._tick(), None)
        loop.run()

    def _tick(self) -> None:
        if not self._going:
            self._wait()
        elif not self._pressure.full():
            at_once = [pace.wall_us()] * self._given.burst
            times = self._schedule.due() if self._schedule else at_once
            for due_us in times:
                message = self._messages.next(due_us)
                self._app.publish("prices", message, OpCode.TEXT, self._given.deflate)

    def _wait(self) -> None:
        if select.select([sys.stdin], [], [], 0)[0]:
            if not os.read(0, 64):
                os._exit(0)
            self._going = True
            self._schedule = pace.Schedule(self._given.rate) if self._given.rate else None


if __name__ == "__main__":
    Server().run()
