"""Clients of the daemon that check every number, and do what clients do to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from random import Random
from typing import Any

from chaos.ledger import Ledger, Wrong
from gateway.wsclient import PATIENCE_S, Client, Gone, handshake

AGAIN_S = 0.2
SLOW_S = 0.8
"""How long a slow client pauses at most, after one message in fifty."""


def cut(sock: socket.socket | None) -> None:
    """End a connection; the descriptor stays open until its reader has noticed."""
    if sock is not None:
        # It may have ended by itself.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Actor:
    """A client that can be killed, stalled, and let go on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.calm = False
        """No more nonsense: it reads as fast as it can."""

    def kill(self) -> None:
        """Cut its connection."""

    def behind(self, targets: dict[str, tuple[str, int]]) -> dict[str, object]:
        """Return where it has not come up to these numbers, by channel."""
        raise NotImplementedError

    def book(self, channel: str, instrument: str) -> tuple[int | None, object]:
        """Return number and levels of a book."""
        raise NotImplementedError


class Raw(Actor):
    """
    Speaks the protocol by hand.

    Args:
        name: for people.
        port: of the daemon.
        channels: what it subscribes to.
        chance: how long it waits for what.
        slow: whether its buffers are small and it reads with pauses.
        whole: whether it has whole channels.

    """

    def __init__(
        self,
        name: str,
        port: int,
        channels: list[str],
        chance: Random,
        *,
        slow: bool = False,
        whole: bool = True,
    ) -> None:
        super().__init__(name)
        self._port = port
        self._channels = channels
        self._chance = chance
        self._slow = slow
        self.ledger = Ledger(whole=whole)
        self._client: Client | None = None
        self.connections = 0
        self.deaf = False
        """Its line is cut: that nothing comes is no fault of the daemon."""

    async def run(self) -> None:
        """Connect and read, again and again, until cancelled."""
        while True:
            try:
                await self._once()
            except TimeoutError:
                if not self.deaf:
                    raise Wrong(f"{self.name}: nothing at all for {PATIENCE_S:g} s") from None
            except (Gone, OSError):
                pass
            await asyncio.sleep(self._chance.uniform(0, AGAIN_S))

    @property
    def connected(self) -> bool:
        """Whether it is connected, and has had a message."""
        return self._client is not None and self.ledger.messages > 0

    @property
    def socket(self) -> socket.socket:
        """Of its connection, while it is connected."""
        assert self._client is not None
        return self._client.sock

    def kill(self) -> None:
        if self._client is not None:
            cut(self._client.sock)

    async def _once(self) -> None:
        small = 4096 if self._slow else None
        async with await Client.open(self._port, small) as client:
            await client.write(handshake())
            status, _ = await client.head()
            if status == 503:
                return
            assert status == 101
            self.connections += 1
            self._client = client
            try:
                await self._subscribe(client, self._channels)
                await self._read(client)
            finally:
                self._client = None

    async def _subscribe(self, client: Client, channels: list[str]) -> None:
        names = [each.partition(":")[0] for each in channels]
        names = list(self.ledger.accounts) if names == ["*"] else names
        command = {"type": "subscribe", "channels": channels, "since": self.ledger.since(names)}
        await client.send(command)

    async def _read(self, client: Client) -> None:
        while True:
            await self.flowing.wait()
            message = await client.receive()
            if message["type"] == "error":
                await self._refused(client, message)
                continue
            self.ledger.take(message)
            if self._slow and not self.calm and self._chance.random() < 0.02:
                await asyncio.sleep(self._chance.uniform(0, SLOW_S))

    async def _refused(self, client: Client, message: dict[str, Any]) -> None:
        """Want a feed again soon that is not configured just now."""
        if message["code"] != "unknown_channel":
            raise Wrong(f"{self.name}: refused: {message}")
        await asyncio.sleep(AGAIN_S)
        await self._subscribe(client, [message["channel"]])

    def __str__(self) -> str:
        ledger = self.ledger
        counts = f"{ledger.messages} messages, {ledger.folded} folded, {ledger.recovered} recovered"
        return f"{self.name}: {self.connections} connections, {counts}, {dict(ledger.reasons)}"

    def behind(self, targets: dict[str, tuple[str, int]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, (epoch, seq) in targets.items():
            account = self.ledger.accounts.get(name)
            if self.ledger.whole and account is None:
                found[name] = "no answer"
            elif self.ledger.whole and (account.epoch != epoch or account.last < seq):
                found[name] = account, seq
        return found

    def book(self, channel: str, instrument: str) -> tuple[int | None, object]:
        book = self.ledger.books.get((channel, instrument))
        return (None, None) if book is None else (book.number, book.sides())
