"""
From an update of OKX' order books to its delta, and on to a finished frame for the clients.

    .venv-bench/bin/python benchmarks/books.py

Every contestant gets the same recorded updates, after the snapshots that they belong to, as its
WebSocket library hands them out, and does what it does in production up to the point where the
user's code is called. The recordings are older than the numbers `prevSeqId` and `seqId`, without
which our connector takes no update: those are put in. `order-book` (C) and cryptofeed are skipped,
with a line that says so, where they are not installed.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import report

from aggregator.book import Book
from aggregator.hub import Hub
from aggregator.model import Level
from connectors.okx.books import Books, decode_book

ROUNDS = 7
REPLAYS = 10
GOAL_US = 8.0
CAPTURES = {
    "books": "cf-2022-05-13-btcusdt-uniswap-fut",
    "books-l2-tbt": "cf-2021-07-22-public-books-l2-tbt",
}
PEER = "cryptofeed 2.4.1 message_handler"

Frames = list[Any]
Start = Callable[[Frames], Callable[[Any], None]]
"""Takes the snapshots, and returns what takes an update."""


def recorded(channel: str) -> tuple[list[str], list[str]]:
    """Return the snapshots and the updates of one capture."""
    snapshots, updates = [], []
    path = report.RECORDINGS / "okx" / f"{CAPTURES[channel]}.ndjson"
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        if entry["dir"] == "in" and f'"channel":"{channel}"' in entry["raw"]:
            if '"action":"snapshot"' in entry["raw"]:
                snapshots.append(entry["raw"])
            elif '"action":"update"' in entry["raw"]:
                updates.append(entry["raw"])
    return snapshots, updates


def numbered(channel: str, frames: Iterable[str]) -> Iterator[bytes]:
    """Put in the numbers that the venue sends today, and the name of the one channel we take."""
    last: dict[str, int] = {}
    numbers = count(1)
    for frame in frames:
        instrument = json.loads(frame)["arg"]["instId"]
        number = next(numbers)
        chain = f'"prevSeqId":{last.get(instrument, -1)},"seqId":{number},"checksum":'
        last[instrument] = number
        text = frame.replace(f'"{channel}"', '"books"', 1).replace('"checksum":', chain)
        yield text.encode()


def instruments(frames: Iterable[str]) -> list[str]:
    """Return what the frames are about, in the venue's words."""
    return sorted({json.loads(frame)["arg"]["instId"] for frame in frames})


def connector(ids: list[str], depth: int) -> Books:
    """Return our connector."""
    names = [name.replace("-", "/", 1) for name in ids]
    return Books(Books.options_type(instruments=names, depth=depth))


def ours_events(ids: list[str], depth: int) -> Start:
    """Frame to events."""

    def start(snapshots: Frames) -> Callable[[Any], None]:
        on_frame = connector(ids, depth).on_frame
        for frame in snapshots:
            on_frame(frame)
        return on_frame

    return start


def ours_frames(ids: list[str], depth: int) -> Start:
    """Frame to events to finished WebSocket frames in the batch of an audience."""

    def start(snapshots: Frames) -> Callable[[Any], None]:
        hub = Hub()
        channel = hub.add_channel("books", "okx", [name.replace("-", "/", 1) for name in ids])

        class Nobody:
            @property
            def transport(self) -> Nobody:
                return self

            def write(self, data: bytes) -> None:
                pass

        hub.join(Nobody(), frozenset({"books"}))
        on_frame, publish = connector(ids, depth).on_frame, hub.publish
        waiting = 0

        def take(frame: bytes) -> None:
            nonlocal waiting
            received_us = time.time_ns() // 1000
            for event in on_frame(frame):
                publish(channel, event, received_us)
            waiting += 1
            if waiting == 16:
                hub.flush()
                waiting = 0

        for frame in snapshots:
            take(frame)
        return take

    return start


def decode_only(_snapshots: Frames) -> Callable[[Any], None]:
    """Frame to levels as text."""
    return decode_book


def ours_book(snapshots: Frames) -> Callable[[Any], None]:
    """Levels to a book, and the state of its best prices."""
    books = {m.arg.instId: Book(m.data[0].bids, m.data[0].asks) for m in snapshots}

    def take(message: Any) -> None:
        book, row = books[message.arg.instId], message.data[0]
        book.apply(row.bids, row.asks)
        _ = book.flag

    return take


def order_book(key_of: Callable[[str], Any]) -> Start:
    """Do the same with `order-book`, whatever its keys."""
    from order_book import OrderBook

    def change(side: Any, levels: list[Level]) -> None:
        for level in levels:
            key = key_of(level.price)
            if float(level.size):
                side[key] = level
            elif key in side:
                del side[key]

    def start(snapshots: Frames) -> Callable[[Any], None]:
        books = {}
        for message in snapshots:
            books[message.arg.instId] = book = OrderBook()
            change(book.bids, message.data[0].bids)
            change(book.asks, message.data[0].asks)

        def take(message: Any) -> None:
            book, row = books[message.arg.instId], message.data[0]
            change(book.bids, row.bids)
            change(book.asks, row.asks)
            if len(book.bids) and len(book.asks):
                _ = book.bids.index(0)[0] >= book.asks.index(0)[0]

        return take

    return start


def cryptofeed_handler(ids: list[str]) -> Start:
    """Return cryptofeed's `message_handler`, without checksums, with a callback of nothing."""
    from cryptofeed.defines import L2_BOOK
    from cryptofeed.exchanges import OKX
    from cryptofeed.symbols import Symbols

    async def callback(_book: object, _receipt: float) -> None:
        pass

    def start(snapshots: Frames) -> Callable[[Any], None]:
        Symbols.set("OKX", {i: i for i in ids}, {"instrument_type": dict.fromkeys(ids, "spot")})
        feed = OKX(
            symbols=ids,
            channels=[L2_BOOK],
            callbacks={L2_BOOK: callback},
            checksum_validation=False,
        )

        def take(frame: str) -> None:
            # What asyncio would do with it, without a loop's turn for each frame.
            step = feed.message_handler(frame, None, time.time())
            try:
                step.send(None)
            except StopIteration:
                return
            raise AssertionError

        for frame in snapshots:
            take(frame)
        return take

    return start


def timed(start: Start, snapshots: Frames, updates: Frames) -> Callable[[], float]:
    """Return a measurement: microseconds of CPU time for an update."""

    def once() -> float:
        total = 0.0
        for _ in range(REPLAYS):
            take = start(snapshots)
            began = time.process_time()
            for update in updates:
                take(update)
            total += time.process_time() - began
        return 1e6 * total / REPLAYS / len(updates)

    return once


def works(channel: str) -> tuple[dict[str, Callable[[], float]], str]:
    """Return what is measured on one capture, and what is in it."""
    snapshots, updates = recorded(channel)
    ids = instruments(snapshots)
    frames = list(numbered(channel, [*snapshots, *updates]))
    ours = frames[: len(snapshots)], frames[len(snapshots) :]
    decoded: Any = [decode_book(f) for f in ours[0]], [decode_book(f) for f in ours[1]]
    levels = sum(len(m.data[0].bids) + len(m.data[0].asks) for m in decoded[1]) / len(updates)
    found = {
        "ours, frame to finished frame": timed(ours_frames(ids, 400), *ours),
        "ours, frame to finished frame, depth 50": timed(ours_frames(ids, 50), *ours),
        "ours, frame to events": timed(ours_events(ids, 400), *ours),
        "ours, frame to levels (msgspec)": timed(decode_only, *ours),
        "ours, levels to book": timed(ours_book, *decoded),
    }
    for name, build, data in (
        ("order-book (C), float keys: levels to book", lambda: order_book(float), decoded),
        ("order-book (C), Decimal keys: levels to book", lambda: order_book(Decimal), decoded),
        (PEER, lambda: cryptofeed_handler(ids), (snapshots, updates)),
    ):
        try:
            found[name] = timed(build(), *data)
        except ImportError as e:
            print(f"left out: {name}: {e}")
    return found, f"{len(updates):,} updates of {levels:.1f} levels"


def main() -> None:
    """Measure, and print."""
    if not report.RECORDINGS.is_dir():
        raise SystemExit(f"no recordings at {report.RECORDINGS}")
    measured = {channel: works(channel) for channel in CAPTURES}
    # What cryptofeed has loaded is nobody's to collect, as in a process of one's own.
    gc.collect()
    gc.freeze()
    every = {(c, name): work for c, (found, _) in measured.items() for name, work in found.items()}
    figures = report.interleaved(every, ROUNDS)
    counts = {channel: len(recorded(channel)[1]) for channel in CAPTURES}
    rows = []
    for name in measured["books"][0]:
        us = {channel: report.median(figures[channel, name]) for channel in CAPTURES}
        mean = sum(us[c] * counts[c] for c in CAPTURES) / sum(counts.values())
        rows.append([name, *(f"{us[channel]:.2f}" for channel in CAPTURES), f"{mean:.2f}"])
    titles = [f"{channel}: {about}" for channel, (_, about) in measured.items()]
    report.show("books", ["us per update", *titles, "all"], rows, rounds=ROUNDS, goal_us=GOAL_US)


if __name__ == "__main__":
    main()
