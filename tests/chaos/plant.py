"""The daemon under test, over all of its runs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from chaos.venues import Sections, toml
from chaos.waiting import until

LINE = re.compile(r'time=\S+ level=(\w+) logger=\S+ msg=".*"')
LISTENS = "0A"
"""Of a socket, as /proc/net/tcp has it."""


class Plant:
    """
    The daemon, always at the same port.

    Args:
        start: the fixture.
        folder: for its files.
        port: where it listens.
        session: to ask it.

    """

    def __init__(
        self,
        start: Callable[..., Awaitable[Any]],
        folder: Path,
        port: int,
        session: aiohttp.ClientSession,
    ) -> None:
        self._start = start
        self._session = session
        self._tasks = folder / "tasks"
        self.config = folder / "chaos.toml"
        self.port = port
        self.process: Any = None
        self.runs: list[Any] = []
        self.environ: dict[str, str] = {}
        self.refused = 0
        """How many configurations it was given that can't be used."""

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def start(self) -> None:
        """Start it, until it listens."""
        await self.begin()
        await self.process.url()

    async def begin(self) -> None:
        """Start it."""
        inside = [str(Path(__file__).with_name("inside")), os.environ.get("PYTHONPATH", "")]
        path = os.pathsep.join(filter(None, inside))
        environ = {"PYTHONPATH": path, "CHAOS_TASKS": str(self._tasks), **self.environ}
        self.process = await self._start("run", "--config", str(self.config), environ=environ)
        self.runs.append(self.process)

    async def restart(self, number: signal.Signals) -> None:
        """End it with this signal, and start it again."""
        code = await self.stop(number)
        assert code == (0 if number == signal.SIGTERM else -number), code
        await self.start()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        self.process.signal(number)
        code: int = await self.process.ended()
        return code

    async def reload(self, feeds: Sections) -> None:
        """Go over to these feeds."""
        self.config.write_text(toml(self.port, feeds))
        done = "configuration read again"
        times = sum(done in line for line in self.process.lines)
        self.process.signal(signal.SIGHUP)
        await self.process.logged(done, times + 1)

    async def refuse(self) -> None:
        """Give it a configuration that can't be used."""
        good = self.config.read_text()
        self.config.write_text(good.replace("depth = ", "depth = -"))
        done = "not taken over"
        times = sum(done in line for line in self.process.lines)
        self.process.signal(signal.SIGHUP)
        await self.process.logged(done, times + 1)
        self.config.write_text(good)
        self.refused += 1

    async def rotate(self, feed: str) -> None:
        """Have a connection replaced, if there is one."""
        url = f"http://127.0.0.1:{self.port}/feeds/{feed}/rotate"
        async with self._session.post(url) as answer:
            assert answer.status in {202, 404, 409}, await answer.text()

    # What it says of itself, and the kernel of it.

    async def get(self, path: str) -> tuple[int, Any]:
        """Return status and body."""
        async with self._session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            if answer.content_type == "application/json":
                return answer.status, await answer.json()
            return answer.status, await answer.text()

    async def channels(self) -> dict[str, dict[str, Any]]:
        """Return what it says of its channels, by name."""
        return {row["channel"]: row for row in (await self.get("/channels"))[1]["channels"]}

    async def not_live(self) -> object:
        """Return what is not as it should be of its feeds; nothing, if all is well."""
        status, body = await self.get("/readyz")
        if status != 200:
            return body
        rows = [row for row in (await self.channels()).values() if row["connector"]]
        return [row for row in rows if row["state"] not in {"live", "limited"} or row["not_live"]]

    async def metric(self, name: str) -> float:
        """Return a number of its metrics."""
        status, text = await self.get("/metrics")
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE) if status == 200 else None
        assert found is not None, (status, text)
        return float(found[1])

    async def tasks(self) -> list[str]:
        """Return the names of its tasks."""
        self._tasks.unlink(missing_ok=True)
        self.process.signal(signal.SIGUSR2)
        await until(self._tasks.exists, "it tells its tasks")
        return self._tasks.read_text().split("\n")[:-1]

    def _sockets(self) -> list[tuple[int, str]]:
        """Return local port and state of each of its TCP sockets."""
        known = {}
        proc = Path(f"/proc/{self.process.pid}")
        for line in (proc / "net" / "tcp").read_text().splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rpartition(":")[2], 16)
            known[f"socket:[{fields[9]}]"] = port, fields[3]
        return [known[link] for link in self._links() if link in known]

    def _links(self) -> list[str]:
        found = []
        for fd in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(str(fd.readlink()))
        return found

    def clients(self) -> int:
        """Return how many connections of clients are open, by the kernel's own account."""
        return sum(port == self.port and state != LISTENS for port, state in self._sockets())

    def files(self) -> int:
        """Return how many files it has open that are no TCP socket; pools of those breathe."""
        return len(self._links()) - len(self._sockets())

    def rss_mb(self) -> float:
        """Return its resident memory."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def complaints(self) -> list[str]:
        """Return what no run should have said: errors, and whatever is no line of the log."""
        found = []
        for run in self.runs:
            for line in run.lines:
                known = LINE.fullmatch(line)
                if known is None or known[1] in {"error", "critical"} or "Traceback" in line:
                    found.append(line)
        return found
