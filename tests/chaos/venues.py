"""The simulated venues, and the configuration of a daemon that has feeds of all kinds there."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
from chaos.ledger import Sides

from aggregator.simulator import Simulator

TICKS_PER_S = 40.0
DEPTH = 20
TWO = ["BTC/USDT", "ETH/USDT"]
SERVER = {
    # So that histories run out, slow clients get gaps, and pings are seen.
    "history_messages": 300,
    "max_buffered_bytes": 131_072,
    "heartbeat_s": 1,
    "pong_timeout_s": 5,
    "stalled_after_s": 12,
}
STREAMED = {"stale_after_s": 3, "max_backoff_s": 0.5, "ping_after_s": 1, "pong_timeout_s": 1}
STREAMED |= {"ack_timeout_s": 1}
POLLED = {"stale_after_s": 3, "max_backoff_s": 0.5, "timeout_s": 1}

PATIENT_S = 60
"""More than a process that shares its cores with other tests ever has to wait for an answer."""

Sections = dict[str, dict[str, Any]]


def sections(simulator: Simulator) -> Sections:
    """Return feeds of all kinds at the simulated venues."""
    okx = {"urls": [simulator.okx_url], **STREAMED}
    local = simulator.binance_ws_url.replace("127.0.0.1", "localhost")
    rest = {"base_url": simulator.binance_url.replace("127.0.0.1", "localhost")}
    binance = {"urls": [f"{local}/ws"], **rest, **STREAMED, "timeout_s": 1}
    return {
        "ticker": {"connector": "okx.ticker", "instruments": TWO, **okx},
        "okx_trades": {
            "connector": "okx.trades",
            "instruments": TWO,
            "base_url": simulator.okx_rest_url,
            **okx,
        },
        "okx_books": {"connector": "okx.books", "instruments": TWO, "depth": DEPTH, **okx},
        "depth": {
            "connector": "binance.depth",
            "instruments": TWO,
            "depth": DEPTH,
            "limit": 100,
            **binance,
        },
        "trades": {"connector": "binance.trades", "instruments": TWO, **binance},
        "prices": {
            "connector": "binance.prices",
            "instruments": TWO,
            "interval_s": 0.5,
            **rest,
            **POLLED,
        },
        "top": {
            "connector": "coingecko.top",
            "base_url": simulator.coingecko_url,
            "interval_s": 0.5,
            "limit": 10,
            **POLLED,
        },
        "comes_and_goes": {"connector": "okx.ticker", "instruments": ["SOL/USDT"], **okx},
    }


def patient(feeds: Sections) -> Sections:
    """Return the same feeds, which find no fault with a machine that has much to do."""
    waits = ("stale_after_s", "pong_timeout_s", "ack_timeout_s", "timeout_s")
    return {
        name: {key: PATIENT_S if key in waits else value for key, value in section.items()}
        for name, section in feeds.items()
    }


BOOKS = {"okx_books": "okx", "depth": "binance"}
STREAMS = {"okx": 4, "binance": 2}
"""How many of them have a connection of their own, by venue."""


def toml(port: int, feeds: Sections, server: dict[str, Any] = SERVER) -> str:
    """Return a configuration; JSON's values are TOML's as well."""
    unlimited = {"per_minute": 0, "per_second": 0, "per_month": 0}
    tables = {"server": {"port": port, **server}}
    tables |= {f"budgets.{venue}": unlimited for venue in ("binance", "okx", "coingecko")}
    tables |= {f"feeds.{name}": section for name, section in feeds.items()}
    text = ""
    for name, table in tables.items():
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        text += f"[{name}]\n{lines}"
    return text


class Venues:
    """The simulator, and what makes its time go on."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator = simulator
        self._session = session
        self._walking: asyncio.Task[None] | None = None

    def walk(self) -> None:
        """Let time go on."""
        self._walking = asyncio.create_task(self._walk(), name="walk")

    async def _walk(self) -> None:
        while True:
            self.simulator.tick()
            await asyncio.sleep(1 / TICKS_PER_S)

    async def stand_still(self) -> None:
        """Let nothing change any more."""
        if self._walking is not None:
            self._walking.cancel()
            await asyncio.wait([self._walking])
            self._walking = None

    async def book(self, venue: str, instrument: str, depth: int) -> tuple[int, Sides]:
        """Return the venue's own book, over REST: its number, and the best levels."""
        base, name = f"http://127.0.0.1:{self.simulator.port}", instrument.replace("/", "-")
        if venue == "okx":
            path = f"/okx/api/v5/market/books?instId={name}&sz={depth}"
        else:
            path = f"/binance/api/v3/depth?symbol={name.replace('-', '')}&limit={depth}"
        async with self._session.get(base + path) as answer:
            assert answer.status == 200, await answer.text()
            row = await answer.json()
        row = row["data"][0] if venue == "okx" else row
        bids, asks = ([level[:2] for level in row[side]] for side in ("bids", "asks"))
        return row["seqId" if venue == "okx" else "lastUpdateId"], (bids, asks)
