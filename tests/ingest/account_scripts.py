"""What a test says instead of a venue, for connectors of accounts."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

from aggregator.account import Response

NOW_US = 1_795_161_360_598_000


class Script:
    """An `Io`: answers by path, and the frames of one connection; notes what is asked and sent."""

    def __init__(self, answers=(), frames=()):
        self.answers = {path: list(bodies) for path, bodies in dict(answers).items()}
        self.frames = list(frames)
        self.asked = []
        self.sent = []
        self.pings = None

    def now_us(self):
        return NOW_US

    async def get(self, path, headers):
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append((parts.path, query, dict(headers), path))
        bodies = self.answers[parts.path]
        answer = bodies.pop(0) if len(bodies) > 1 else bodies[0]
        status, body = answer if isinstance(answer, tuple) else (200, answer)
        return Response(status, body if isinstance(body, bytes) else json.dumps(body).encode())

    @asynccontextmanager
    async def connect(self, *, ping=None, pong=None):
        self.pings = (ping, pong)
        yield self

    async def send(self, frame):
        self.sent.append(json.loads(frame))

    async def receive(self):
        if not self.frames:
            await asyncio.Event().wait()
        frame = self.frames.pop(0)
        return frame if isinstance(frame, bytes) else json.dumps(frame).encode()


async def streamed(connector, count=1000):
    """Return what a connector tells of all its frames, until it waits for another."""
    told = []
    task = asyncio.create_task(connector.stream(told.extend))
    for _ in range(count):
        await asyncio.sleep(0)
        if task.done():
            break
    task.cancel()
    [result] = await asyncio.gather(task, return_exceptions=True)
    if isinstance(result, Exception):
        raise result
    return told
