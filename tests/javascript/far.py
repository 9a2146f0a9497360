"""A client in JavaScript, in Node or in a page, that a test orders about and listens to."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "aggregator/static/client.js"
PATIENCE_S = 30
NODE_OPTIONS = ("--experimental-websocket", "--no-warnings")
"""Node 20 has a WebSocket behind an option; later ones have it anyway."""


class Far:
    """What both have in common."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def do(self, what: str, **order: object) -> None:
        """Order something."""
        raise NotImplementedError

    async def connect(self, url: str, **options: object) -> None:
        await self.do("connect", url=url, options=options)

    async def subscribe(self, name: str, *channels: str, book: object = None, **options) -> None:
        await self.do("subscribe", name=name, channels=channels, options=options, book=book)

    async def until(self, event: str, **wanted: object) -> dict[str, Any]:
        """Return the next report of this kind with these fields, of its own or of its message."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                report = await self.reports.get()
                if report["event"] != event:
                    continue
                fields = {**report, **report["message"]} if event == "message" else report
                if all(fields.get(key) == value for key, value in wanted.items()):
                    return report

    async def state(self, name: str) -> dict[str, Any]:
        return await self.until("state", name=name)

    async def message(self, **wanted: object) -> dict[str, Any]:
        return (await self.until("message", **wanted))["message"]


class FarNode(Far):
    """A process of Node."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self.process = process
        self._reader = asyncio.create_task(self._read(), name="reports")

    @classmethod
    async def start(cls, node: str) -> FarNode:
        process = await asyncio.create_subprocess_exec(
            node,
            *NODE_OPTIONS,
            HERE / "remote_node.mjs",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        return cls(process)

    async def _read(self) -> None:
        async for line in self.process.stdout:
            self.reports.put_nowait(json.loads(line))
        self.reports.put_nowait({"event": "ended"})

    async def do(self, what: str, **order: object) -> None:
        self.process.stdin.write(json.dumps({"do": what, **order}).encode() + b"\n")
        await self.process.stdin.drain()

    async def ended(self) -> int:
        """Give no more orders, and wait until nothing is left to do there."""
        self.process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
            await self._reader
        return code

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.ended()


class FarPage(Far):
    """A page in a browser."""

    def __init__(self, page: Any) -> None:
        super().__init__()
        self.page = page
        self.errors: list[str] = []

    @classmethod
    async def open(cls, page: Any, url: str) -> FarPage:
        far = cls(page)
        page.on("pageerror", lambda error: far.errors.append(str(error)))
        page.on("console", far._console)
        await page.expose_binding("report", lambda _, report: far.reports.put_nowait(report))
        await page.goto(url)
        await page.wait_for_function("() => globalThis.order")
        return far

    def _console(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.errors.append(message.text)

    async def do(self, what: str, **order: object) -> None:
        await self.page.evaluate("(order) => globalThis.order(order)", {"do": what, **order})
