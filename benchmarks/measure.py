"""One measurement of benchmarks/fanout.py: a server, its clients, and what both have counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contestants import ALL_THE_SAME, EACH_HIS_OWN, MESSAGE_BYTES, PARTS, SLOW, Contestant
from processes import LOAD_CORE, SERVER_CORE, Child, Failed, Others, child
from works import Work, matching, subscribe, wishes

SETTLE_S = 0.3
SLOW_WARM_S = 2.0
MOSTLY = 0.99
"""Of the messages to clients that agreed on compression; a server may leave one as it is."""

Figures = dict[str, Any]
"""What one measurement of one contestant has shown."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share: where the compiled programs are, and how long to measure."""

    folder: Path
    seconds: float
    warm_s: float

    def measure(self, work: Work, contestant: Contestant) -> Figures:
        """Measure one contestant at one work, once."""
        slow = contestant.name == SLOW
        clients = work.clients + slow
        orders: dict[str, Any] = {"burst": contestant.burst, "rate": work.rate, "parts": PARTS}
        orders["deflate"] = contestant.deflate
        is_ours = contestant.name.startswith("ours")
        if contestant.raw:
            orders["clients"] = clients
        if is_ours:
            orders |= {"window_s": contestant.window_s, "instruments": work.instruments}
        command = contestant.command(self.folder, orders)
        with child(contestant.name, command, SERVER_CORE, contestant.environ) as server:
            told = server.answer()
            port, server.pid = told["port"], told.get("pid", server.pid)
            time.sleep(SETTLE_S)
            before = server.memory()
            load = self._load(work, contestant, clients, port, server.pid)
            with child(f"load of {contestant.name}", load, LOAD_CORE) as load_process:
                figures: Figures = {"connect_s": load_process.answer()["connect_s"]}
                # The commands of clients and the go of ours come by different ways.
                time.sleep(SETTLE_S)
                others = Others(server, load_process)
                if work.idle:
                    time.sleep(1.0)
                figures["bytes_per_client"] = (server.memory() - before) / clients
                if is_ours and not work.idle:
                    figures |= self._ours(server, load_process, wishes(contestant.name, clients))
                elif not work.idle:
                    figures |= gone(server, load_process)
                if contestant.deflate and figures.get("packed", 1.0) < MOSTLY:
                    raise Failed(f"of its messages only {figures['packed']} were compressed")
                figures["others_percent"] = others.percent()
                # Neither is to complain about the end of the other.
                load_process.freeze()
                server.kill()
        return figures

    def _ours(self, server: Child, load: Child, wanted: list[Sequence[int] | None]) -> Figures:
        """Measure ours, and have the counters of both ends agree."""
        before = server.ask("report")
        figures = gone(server, load)
        behind = server.ask("report")
        server.tell("stop")
        got = load.ask("drain")
        after = server.ask("report")
        published = after["published"]
        folded = after["folded"] - before["folded"]
        delivered = after["deliveries"] - before["deliveries"]
        figures |= {"published": published, "folded": folded, "held": behind["held"]}
        figures["per_flush"] = published / max(1, after["flushes"] - before["flushes"])
        if got["slow_messages"]:
            figures["slow_missing"] = published - got["slow_messages"] - got["slow_conflated"]
            if figures["slow_missing"]:
                raise Failed(f"of {published} messages the slow client was told of {got}")
        due = sum(matching(published, numbers) for numbers in wanted)
        if due != delivered + folded:
            raise Failed(f"{due} were due, but {delivered} delivered and {folded} folded")
        arrived = got["messages"] + got["slow_messages"]
        if (arrived, got["slow_conflated"]) != (delivered, folded):
            raise Failed(f"delivered are {delivered} and folded {folded}, but clients got {got}")
        if folded and not got["slow_messages"]:
            raise Failed(f"{folded} messages were folded: clients or machine are too slow for this")
        return figures

    def _load(
        self, work: Work, contestant: Contestant, clients: int, port: int, pid: int
    ) -> list[str]:
        """Return how to start the clients."""
        command = [str(self.folder / "load"), f"--port={port}", f"--clients={clients}"]
        command += [f"--pid={pid}", f"--sample={work.sample}"]
        if not work.idle:
            # By then the slow reader's kernel buffers are full, so that it is behind.
            warm_s = max(self.warm_s, SLOW_WARM_S) if work.slow_bytes_per_s else self.warm_s
            command += [f"--seconds={self.seconds}", f"--warm={warm_s}"]
        if contestant.raw:
            return [*command, "--raw"]
        command.append("--path=/ws")
        if contestant.deflate:
            command.append("--deflate")
        if contestant.speak:
            return [*command, f"--speak={contestant.speak}"]
        wants = self.folder / "wants"
        lines = (subscribe(numbers) for numbers in wishes(contestant.name, clients))
        wants.write_text("".join(f"{line}\n" for line in lines))
        command.append(f"--subscribe={wants}")
        if contestant.name in {EACH_HIS_OWN, ALL_THE_SAME}:
            command += [f"--stride={work.instruments}"]
        if contestant.name == SLOW:
            command += [f"--slow={work.slow_bytes_per_s}"]
        return command


def gone(server: Child, load: Child) -> Figures:
    """Let a server publish, and return the figures of that."""
    memory = server.memory()
    server.tell("go")
    figures = derived(load.answer())
    figures["grown_mb"] = (server.memory() - memory) / 1e6
    return figures


def derived(told: dict[str, Any]) -> Figures:
    """Return the figures of what the clients have told."""
    if told["message_bytes"] != MESSAGE_BYTES:
        raise Failed(f"messages of {told['message_bytes']} bytes, not {MESSAGE_BYTES}")
    if not told["least"]:
        raise Failed("there is a client that got nothing")
    figures: Figures = {
        "rate_cpu": told["messages"] / max(told["cpu_s"], 0.01),
        "rate": told["messages"] / told["wall_s"],
        "cpu_percent": 100 * told["cpu_s"] / told["wall_s"],
        "load_percent": 100 * told["busy"],
        "wire_bytes": told["wire_bytes"],
        "packed": told["packed"],
        "apart": told["most"] - told["least"],
    }
    for stamp in ("received", "published"):
        for quantile, value in zip(("p50", "p99", "p999"), told[f"{stamp}_ms"], strict=True):
            figures[f"{stamp}_{quantile}"] = value
    return figures
