"""`aggregator watch`: a client in the terminal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TextIO

import click
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text as Line

from .client import Client, ClientError, Options, Position, State, Text
from .errors import CommandError

EXIT_UNAVAILABLE = 69
EXIT_USAGE = 2
REDRAWS_PER_S = 4
WORDS = 40
TITLES = ("channel", "instrument", "price", "bid", "ask", "24 h %", "time", "seq")
NEEDED = ("price", "instrument", "channel", "bid", "ask", "time", "24 h %", "seq")
"""The same, the most needed first."""
OPTIONS = Options(text=True, start_timeout_s=0.0, first_wait_s=1.0, max_wait_s=15.0)


class WatchError(CommandError):
    """Watching can't go on."""


@dataclass(slots=True)
class Frame:
    """One message of the daemon: its text as it came, and decoded."""

    text: str
    message: dict[str, Any]


async def watch(
    url: str,
    channels: list[str],
    *,
    as_json: bool,
    out: TextIO,
    since: Mapping[str, Position] | None = None,
) -> None:
    """
    Print what is published on these channels, until cancelled.

    Args:
        url: of the daemon's WebSocket.
        channels: as in a `subscribe`.
        as_json: one message a line; else a table that is kept up to date.
        out: where to.
        since: by channel, where to go on.

    Raises:
        WatchError: the daemon can't be reached at the start, or refuses every channel.

    """
    if as_json:
        async for frame in frames(url, channels, since):
            # A JSON text has line ends only between its tokens, where a space does as well.
            out.write(frame.text.replace("\r", " ").replace("\n", " ") + "\n")
            out.flush()
        return
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    console = Console(file=out)

    def draw() -> Table:
        return table(rows, console.width, console.height)

    with Live(get_renderable=draw, console=console, refresh_per_second=REDRAWS_PER_S):
        async for frame in frames(url, channels, since):
            take(rows, frame.message)


async def frames(
    url: str, channels: list[str], since: Mapping[str, Position] | None = None
) -> AsyncIterator[Frame]:
    """Yield the messages of these channels; connect again, with growing waits, when cut off."""
    client = Client(url, OPTIONS)
    client.on_state = lambda state: _lost(url, state)
    try:
        async with client:
            refused: set[str] = set()
            async for received in client.subscribe(*channels, since=since):
                assert isinstance(received, Text)  # noqa: S101 - as the options say
                frame = _decoded(received.text)
                if frame.message.get("type") == "error":
                    click.echo(_refusal(frame.message), err=True)
                    refused.add(frame.message.get("channel", ""))
                    if "" in refused or refused >= set(channels):
                        raise WatchError("nothing left to watch", EXIT_USAGE)
                else:
                    yield frame
    except ClientError as e:
        raise WatchError(str(e), EXIT_UNAVAILABLE) from e


def _lost(url: str, state: State) -> None:
    if state.wait_s:
        click.echo(f"connection lost ({url}); trying again", err=True)


def positions(texts: Iterable[str]) -> dict[str, Position]:
    """
    Return where to go on, by channel, of texts as `bitcoinprice=303a6b3b:1042`.

    Raises:
        ValueError: one of them is not like that.

    """
    found = {}
    for text in texts:
        channel, _, place = text.rpartition("=")
        epoch, _, seq = place.rpartition(":")
        if not (channel and epoch and seq.isascii() and seq.isdigit()):
            raise ValueError(f"{text} is not like bitcoinprice=303a6b3b:1042")
        found[channel] = Position(epoch, int(seq))
    return found


def _refusal(message: dict[str, Any]) -> Line:
    about = message.get("channel") or message.get("code")
    return _cell(f"{about}: {message.get('message')}")


def _decoded(data: bytes) -> Frame:
    try:
        text = data.decode()
        # Numbers stay text: the table shows every digit that the venue sent.
        message = json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        text, message = "", None
    if not isinstance(message, dict):
        raise WatchError("what answers is no aggregator", EXIT_UNAVAILABLE)
    return Frame(text, message)


def take(rows: dict[tuple[str, str], dict[str, Any]], message: dict[str, Any]) -> None:
    """Keep a message in its row: the newest per channel and instrument."""
    data = message.get("data")
    if message.get("type") == "system_status" and isinstance(data, dict):
        key = (message["channel"], f"{data['feed']} {data['instrument'] or ''}".strip())
    else:
        key = (message.get("channel", ""), message.get("instrument") or message.get("type", ""))
    if message.get("type") == "orderbook_update":
        message |= _best(rows.get(key, {}), message)
    rows[key] = message


def _best(before: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """Return the book after an update, and its best prices as they stand there."""
    new = message["action"] == "snapshot" or "book" not in before
    book: dict[str, dict[Decimal, str]] = {"bids": {}, "asks": {}} if new else before["book"]
    for side, levels in book.items():
        for price, size in message["data"][side]:
            levels[Decimal(price)] = price
            if not Decimal(size):
                del levels[Decimal(price)]
    bids, asks = book["bids"], book["asks"]
    bid, ask = bids[max(bids)] if bids else None, asks[min(asks)] if asks else None
    return {"book": book, "bid": bid, "ask": ask}


def table(rows: dict[tuple[str, str], dict[str, Any]], width: int, height: int) -> Table:
    """Return the rows as a table that fits: nothing is cut, the least needed columns go first."""
    room = max(1, height - 6)
    lines = [_line(key, message) for key, message in list(rows.items())[:room]]
    columns = list(zip(map(_cell, TITLES), *lines, strict=True))
    shown: set[str] = set()
    for title in NEEDED:
        size = max(cell.cell_len for cell in columns[TITLES.index(title)])
        width -= size + 3  # a space on either side and a line
        if width < 1 and shown:
            break
        shown.add(title)
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for title in TITLES:
        if title in shown:
            left = title in {"channel", "instrument", "time"}
            grid.add_column(title, justify="left" if left else "right", no_wrap=True)
    for line in lines:
        grid.add_row(*(cell for title, cell in zip(TITLES, line, strict=True) if title in shown))
    if len(rows) > room:
        grid.caption = f"{len(rows) - room} more rows; --json prints everything"
    return grid


def _line(key: tuple[str, str], message: dict[str, Any]) -> list[Line]:
    data = message.get("data")
    status = data if isinstance(data, dict) and message["type"] == "system_status" else {}
    # A test message is somebody's words: it must not push the others' numbers out.
    words = message.get("message")
    text = status.get("state") or (str(words)[:WORDS] if words is not None else None)
    own = {"trade_executed": "price", "candle": "close"}.get(message.get("type", ""))
    price = message["data"][own] if own else message.get("price")
    if message.get("type") == "gap":
        text = f"gap: {message.get('reason')}"
    cells = [*key, text or price, message.get("bid"), message.get("ask")]
    cells += [message.get("change_24h_pct"), message.get("timestamp", "")[11:23]]
    return [_cell(cell) for cell in [*cells, message.get("seq")]]


def _cell(value: object) -> Line:
    """Return a value as text that is neither markup nor moves the cursor."""
    text = "" if value is None else str(value)
    shown = "".join(c if c.isprintable() else " " for c in text)
    return Line(shown, no_wrap=True, overflow="ellipsis")
