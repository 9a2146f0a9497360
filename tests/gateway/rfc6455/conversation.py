"""
What the tests of this folder have in common: a client whose every segment the server reads apart.

The cases are those of a fuzzing client against a server that echoes. Ours does not, so a message
is a command here: a `ping` gives its `id` back, a `subscribe` to unknown channels gives all their
names back, and a binary message is answered with a close, 1003.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from gateway.wsclient import (
    CLOSE,
    CONTINUATION,
    PATIENCE_S,
    PING,
    PONG,
    TEXT,
    Client,
    Gone,
    frame,
)

from aggregator.gateway.session import Session

# What is said.


def command(id_: str = "id") -> bytes:
    """Return a command whose answer contains `id_`."""
    return json.dumps({"type": "ping", "id": id_}, ensure_ascii=False).encode()


def asking(id_: str = "id") -> bytes:
    """Return that command in one frame."""
    return frame(command(id_))


def sized(size: int, id_: str = "id") -> bytes:
    """Return that command with so many blanks before it that it has this size."""
    return command(id_).rjust(size)


def naming(size: int, letters: str = "abcdefghij") -> tuple[bytes, list[str]]:
    """Return a command of this size, and what its answers contain: almost all of its octets."""
    text, names = b'{"type":"subscribe","channels":', []
    while True:
        name = f"{len(names)}-{letters * 12}"
        item = (b"," if names else b"[") + json.dumps(name, ensure_ascii=False).encode()
        if len(text) + len(item) + 2 > size:
            return text.ljust(size - 2) + b"]}", names
        text += item
        names.append(name)


def fragments(payload: bytes, size: int, opcode: int = TEXT) -> list[bytes]:
    """Return the frames of one message in fragments of this size."""
    parts = pieces(payload, size)
    last = len(parts) - 1
    return [
        frame(part, CONTINUATION if i else opcode, fin=i == last) for i, part in enumerate(parts)
    ]


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)] or [b""]


# How it is cut.

Chop = Callable[[Sequence[bytes]], list[bytes]]
"""Makes segments of frames."""


def whole(frames: Sequence[bytes]) -> list[bytes]:
    return [b"".join(frames)]


def by_frame(frames: Sequence[bytes]) -> list[bytes]:
    return list(frames)


def by_octet(frames: Sequence[bytes]) -> list[bytes]:
    return pieces(b"".join(frames), 1)


def by(size: int) -> Chop:
    """Cut into segments of so many octets."""

    def chop(frames: Sequence[bytes]) -> list[bytes]:
        return pieces(b"".join(frames), size)

    chop.__name__ = f"by_{size}"
    return chop


CHOPS: list[Chop] = [whole, by_frame, by_octet]

# Who says it.


class Watched(Session):
    """A session that can be asked to have read something, or to have ended."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.received = 0
        self.ended = False
        self._news = asyncio.Event()

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self.received += nbytes
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.ended = True
        self._news.set()

    async def has(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds; or for the end, after which nothing comes to hold any more."""
        async with asyncio.timeout(PATIENCE_S):
            while not (condition() or self.ended):
                self._news.clear()
                await self._news.wait()


class Conversation:
    """
    One client after the other, and another one that must never notice anything.

    Args:
        daemon: whom they are connected to.
        sessions: every session that the daemon has made.

    """

    def __init__(self, daemon: Any, sessions: list[Watched]) -> None:
        self.daemon = daemon
        self._sessions = sessions
        self._faults = 0
        self._answered = 0
        self._sent = 0
        self._case: object = None
        self.session: Watched
        self.client: Client | None = None
        self._bystander: Client

    async def begin(self) -> None:
        """Let the other one connect, and the first client."""
        self._bystander = await self.daemon.connect()
        await self._bystander.subscribe("prices")
        await self.connect()

    async def connect(self, case: object = None, early: bytes = b"") -> None:
        """Go on with a new client; `case` is shown where it fails, `early` is sent at once."""
        assert self.client is None or self.session.ended, "the client before was not looked at"
        self._case, self._sent = case, 0
        self.client = await self.daemon.connect(early=early)
        self.session = self._sessions[-1]

    def end(self) -> None:
        for client in (self.client, self._bystander):
            if client is not None:
                client.sock.close()

    # To say.

    async def say(self, *frames: bytes, chop: Chop = whole) -> None:
        """Send; each segment when the server has read the one before it."""
        for segment in chop(frames):
            if self.session.ended:
                return
            self._sent += len(segment)
            await self.client.write(segment)
            await self.session.has(lambda: self.session.received >= self._sent)

    # To hear: each is exactly what comes next.

    async def answers(self, *ids: str) -> None:
        """Hear the answers to the commands with these ids."""
        for id_ in ids:
            answer = await self._message()
            assert (answer["type"], answer.get("id")) == ("pong", id_), self._case
            self._answered += 1

    async def names(self, names: list[str]) -> None:
        """Hear the refusal of each name."""
        for name in names:
            answer = await self._message()
            assert (answer["code"], answer["channel"]) == ("unknown_channel", name), self._case

    async def refuses(self, code: str) -> None:
        """Hear that a message is refused, in one answer."""
        assert (await self._message())["code"] == code, self._case

    async def pongs(self, *payloads: bytes) -> None:
        """Hear a pong with each payload."""
        for payload in payloads:
            assert await self.client.receive_frame() == (PONG, payload), self._case

    async def unordered(self, pong: bytes, id_: str) -> None:
        """Hear a pong and an answer, of which either may be first."""
        opcode, payload = await self.client.receive_frame()
        if opcode == PONG:
            assert payload == pong, self._case
            await self.answers(id_)
        else:
            assert json.loads(payload)["id"] == id_, self._case
            self._answered += 1
            await self.pongs(pong)

    async def _message(self) -> dict[str, Any]:
        opcode, payload = await self.client.receive_frame()
        assert opcode == TEXT, (self._case, opcode, payload)
        message = json.loads(payload)
        assert isinstance(message, dict)
        return message

    # To end. Nobody else ever notices.

    async def fails(self, code: int) -> None:
        """
        Hear a close with this code and nothing else, then the end of TCP; see that all is in order.

        RFC 6455, 7.1.7: the server does not wait for an answer before it ends its side, and does
        nothing any more of what it is sent.
        """
        opcode, payload = await self.client.receive_frame()
        got = (opcode, int.from_bytes(payload[:2]))
        assert got == (CLOSE, code), (self._case, payload)
        assert 0 < len(payload[2:].decode()) <= 123, self._case
        await self._silence()
        await self.client.write(frame(payload, CLOSE))
        self._faults += 1
        await self._gone()

    async def closes(self, payload: bytes) -> None:
        """Hear a close with this payload and nothing else; the server is first to end TCP."""
        assert await self.client.receive_frame() == (CLOSE, payload), self._case
        await self.is_over()

    async def is_over(self) -> None:
        """Hear nothing any more; the server is first to end TCP."""
        await self._silence()
        await self.session.has(lambda: False)
        await self._gone()

    async def ends_well(self) -> None:
        """Close; see that all has been in order."""
        await self.say(frame(b"\x03\xe8", CLOSE))
        await self.closes(b"\x03\xe8")

    async def _silence(self) -> None:
        assert not self.client.buffer, (self._case, self.client.buffer)
        with pytest.raises(Gone):
            await self.client.more()

    async def _gone(self) -> None:
        self.client.sock.close()
        await self.session.has(lambda: False)
        counters = self.daemon.counters
        assert len(self.daemon.sessions) == 1, self._case
        assert counters.protocol_errors == self._faults, self._case
        assert counters.commands["ping"] == self._answered, self._case
        await self._others_go_on()

    async def _others_go_on(self) -> None:
        self.daemon.publish(1)
        message = await self._bystander.receive()
        assert message["seq"] == self.daemon.channel.seq, self._case
        await self._bystander.write(frame(b"still there", PING))
        assert await self._bystander.receive_frame() == (PONG, b"still there"), self._case
