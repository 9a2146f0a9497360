"""`aggregator watch` against a small server that speaks docs/protocol.md."""

import asyncio
import contextlib
import fcntl
import io
import itertools
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import aiohttp
import pytest
from aiohttp import web

from aggregator import watch
from aggregator.client import Position, attempts
from aggregator.watch import WatchError

PATIENCE_S = 30
PRICE = (
    '{"type":"price_update","connector_id":"btc","exchange":"okx","instrument":"BTC/USDT",'
    '"price":42150.50,"timestamp":"2025-12-08T16:30:45.123Z","data":{"a": "x\\ny"},'
    '"channel":"btc","seq":7,"exchange_us":null,"received_us":1765211445161377,'
    '"published_us":1765211445161502,"bid":42150.490,"ask":42150.51,"change_24h_pct":-0.10}'
)
REFUSED = {"type": "error", "code": "unknown_channel", "message": "there is no such channel"}


class Daemon:
    """Acknowledges what is asked for, then does on each connection what the test says."""

    def __init__(self):
        self.commands = []
        self.connections = 0
        self.scripts = []
        self.closed = asyncio.Event()
        self.again = asyncio.Event()

    async def handle(self, request):
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        command = await socket.receive_json()
        self.commands.append(command)
        if self.connections > 1:
            self.again.set()
        await script(socket, command)
        with contextlib.suppress(ConnectionError):
            await socket.close()
        self.closed.set()
        return socket


@pytest.fixture
async def daemon():
    daemon = Daemon()
    application = web.Application()
    application.router.add_get("/ws", daemon.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    daemon.url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
    yield daemon
    await runner.cleanup()


def sends(*texts, stay=True):
    """Return a script: acknowledge, send these texts, then wait for the client to go."""

    async def script(socket, command):
        ack = {"type": "subscribed", "channels": command["channels"], "id": command["id"]}
        await socket.send_json(ack)
        for text in texts:
            await socket.send_str(text)
        if stay:
            await socket.receive()

    return script


def refuses(*refusals):
    async def script(socket, command):
        del command
        for refusal in refusals:
            await socket.send_json(refusal)
        await socket.receive()

    return script


@pytest.fixture
async def run(tmp_path):
    """Return a function that starts `aggregator watch`; it is killed after the test."""
    started = []

    async def run(*args, **kwargs):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "aggregator", "watch", *args),
            **{"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def end(process):
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, (out or b"").decode(), (err or b"").decode()


async def collect(url, channels, number, since=None):
    """Return so many messages as the command's own generator gives them."""
    found = []
    frames = watch.frames(url, channels, since)
    async with asyncio.timeout(PATIENCE_S), contextlib.aclosing(frames):
        async for frame in frames:
            found.append(frame)
            if len(found) == number:
                return found
    raise AssertionError(found)


def drawn(*messages, height=24, width=140):
    """Return the table of these messages as text."""
    rows = {}
    for message in messages:
        watch.take(rows, message)
    out = io.StringIO()
    watch.Console(file=out, width=width, height=height).print(watch.table(rows, width, height))
    return out.getvalue()


# JSON, one message a line.


@pytest.mark.parametrize("args", [[], ["--json"]])
async def test_piped_it_prints_each_message_as_it_came(daemon, run, args):
    """Byte for byte, one per line, also where the daemon breaks lines between the tokens."""
    broken = PRICE.replace(',"bid"', ',\r\n\t"bid"').replace('"seq":7', '"seq":8')
    daemon.scripts = [sends(PRICE, broken, '{"type":"heartbeat","text":"\u20ac \\u2028"}')]
    process = await run("btc", "system", "--url", daemon.url, *args)
    async with asyncio.timeout(PATIENCE_S):
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
    flat = broken.replace("\r", " ").replace("\n", " ")
    assert lines == [f"{PRICE}\n", f"{flat}\n", '{"type":"heartbeat","text":"\u20ac \\u2028"}\n']
    assert json.loads(lines[1]) == json.loads(PRICE) | {"seq": 8}
    expected = {"type": "subscribe", "channels": ["btc", "system"], "id": 1}
    assert daemon.commands == [expected]


async def test_it_connects_again(daemon, run, monkeypatch):
    """A daemon that goes away and comes back is subscribed to again, and that is said."""
    daemon.scripts = [sends(PRICE, stay=False), sends(PRICE)]
    process = await run("btc", "--url", daemon.url)
    async with asyncio.timeout(PATIENCE_S):
        lines = [await process.stdout.readline() for _ in range(2)]
        said = await process.stderr.readline()
    assert lines == [PRICE.encode() + b"\n"] * 2
    assert said.decode() == f"connection lost ({daemon.url}); trying again\n"
    assert daemon.commands[0] == daemon.commands[1]


async def test_it_goes_on_where_it_is_told_to(daemon):
    """From the message that `--since` names."""
    daemon.scripts = [sends(PRICE)]
    since = watch.positions(["btc=303a6b3b:6", "a=b=c:0"])
    assert since == {"btc": Position("303a6b3b", 6), "a=b": Position("c", 0)}
    await collect(daemon.url, ["btc"], 1, since)
    assert daemon.commands[0]["since"] == {"btc": {"epoch": "303a6b3b", "seq": 6}}


@pytest.mark.parametrize("text", ["btc", "=e:1", "btc=e:", "btc=e:x", "btc=:1", "btc=e:²"])
def test_a_place_that_is_none(text):
    """It is said how one looks."""
    with pytest.raises(ValueError, match="bitcoinprice=303a6b3b:1042"):
        watch.positions([text])


async def test_it_keeps_trying_while_the_daemon_is_down(daemon, monkeypatch):
    """Only at the start an unreachable daemon is the end."""
    monkeypatch.setattr(attempts.random, "uniform", lambda low, high: 0)
    daemon.scripts = [sends(PRICE, stay=False), sends(PRICE)]
    real, failures = aiohttp.ClientSession.ws_connect, []

    def ws_connect(session, *args, **kwargs):
        if daemon.connections == 1 and len(failures) < 3:
            failures.append(1)
            raise aiohttp.ClientConnectionError
        return real(session, *args, **kwargs)

    monkeypatch.setattr(aiohttp.ClientSession, "ws_connect", ws_connect)
    assert len(await collect(daemon.url, ["btc"], 2)) == 2
    assert len(failures) == 3


async def test_waits_grow_to_a_limit_and_fall_back_after_data(daemon, monkeypatch):
    """A daemon that is restarting is not stormed."""
    waits = []
    monkeypatch.setattr(attempts.random, "uniform", lambda low, high: waits.append(high) or 0)
    quiet = sends(stay=False)
    daemon.scripts = [*[quiet] * 6, sends(PRICE, stay=False), sends(PRICE)]
    await collect(daemon.url, ["btc"], 2)
    assert waits == [1, 2, 4, 8, 15, 15, 1]


async def test_a_frame_that_is_no_text_is_a_lost_connection(daemon, monkeypatch):
    """The daemon sends none."""
    monkeypatch.setattr(attempts.random, "uniform", lambda low, high: 0)

    async def binary(socket, command):
        del command
        await socket.send_bytes(b"\0")
        await socket.receive()

    daemon.scripts = [binary, sends(PRICE)]
    assert len(await collect(daemon.url, ["btc"], 1)) == 1
    assert daemon.connections == 2


# Refusals and other ends.


async def test_all_channels_refused_is_exit_code_2(daemon, run):
    """Each refusal is said with its channel."""
    daemon.scripts = [refuses(REFUSED | {"channel": "a"}, REFUSED | {"channel": "b"})]
    code, out, err = await end(await run("a", "b", "--url", daemon.url))
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "a: there is no such channel",
        "b: there is no such channel",
        "nothing left to watch",
    ]


async def test_one_channel_refused_leaves_the_others(daemon, run):
    """What is wrong is said, and what is right is shown."""

    async def script(socket, command):
        await socket.send_json(REFUSED | {"channel": "a"})
        await sends(PRICE)(socket, command)

    daemon.scripts = [script]
    process = await run("a", "btc", "--url", daemon.url)
    async with asyncio.timeout(PATIENCE_S):
        assert await process.stdout.readline() == PRICE.encode() + b"\n"
        assert await process.stderr.readline() == b"a: there is no such channel\n"


@pytest.mark.parametrize("refusal", [{"code": "rate_limited", "message": "\x1b[2J"}, {}])
async def test_a_refusal_of_the_whole_command_is_exit_code_2(daemon, capsys, refusal):
    """It names no channel; what it says does not reach the terminal's controls."""
    daemon.scripts = [refuses({"type": "error", **refusal})]
    with pytest.raises(WatchError, match="nothing left to watch") as caught:
        await collect(daemon.url, ["a"], 1)
    assert caught.value.exit_code == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["hello", "[]", "5", "[" * 100_000, '{"a": '])
async def test_something_that_is_no_daemon_is_exit_code_69(daemon, text):
    """Another WebSocket server: one line, no traceback."""
    daemon.scripts = [sends(text)]
    with pytest.raises(WatchError, match="no aggregator") as caught:
        await collect(daemon.url, ["a"], 1)
    assert caught.value.exit_code == 69


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/ws", "ws://[", "nonsense", "ftp://x/"])
async def test_an_address_that_is_none_is_exit_code_69(url):
    """As is one where nobody listens."""
    with pytest.raises(WatchError, match="can't reach") as caught:
        await collect(url, ["a"], 1)
    assert caught.value.exit_code == 69


async def test_a_path_that_is_no_websocket_is_exit_code_69(daemon):
    """The daemon's other pages."""
    with pytest.raises(WatchError, match="404"):
        await collect(daemon.url.replace("/ws", "/other"), ["a"], 1)


async def test_a_reader_that_has_seen_enough_is_the_end(daemon, run):
    """As `| head -1` has: quietly, whatever is still coming."""

    async def script(socket, command):
        del command
        with contextlib.suppress(ConnectionError):
            for seq in itertools.count(7):
                await socket.send_str(PRICE.replace('"seq":7', f'"seq":{seq}'))
                await asyncio.sleep(0)

    daemon.scripts = [script]
    read, write = os.pipe()
    process = await run("btc", "--url", daemon.url, stdout=write)
    os.close(write)
    line = await asyncio.to_thread(os.read, read, len(PRICE) + 1)
    os.close(read)
    code, _, err = await end(process)
    assert line == PRICE.encode() + b"\n"
    assert (code, err) == (0, "")


async def test_a_full_disk_is_exit_code_74(daemon, run):
    """As where it is written to a file: one line says so."""
    daemon.scripts = [sends(PRICE, PRICE)]
    with open("/dev/full", "w") as full:  # noqa: ASYNC230, PTH123 - it waits for nothing
        process = await run("btc", "--url", daemon.url, stdout=full)
    text = "standard output can't be written: No space left on device\n"
    assert await end(process) == (74, "", text)


async def test_ctrl_c_is_exit_code_130(daemon, run):
    """Without a traceback, and with a proper close."""
    daemon.scripts = [sends(PRICE)]
    process = await run("btc", "--url", daemon.url)
    async with asyncio.timeout(PATIENCE_S):
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        await daemon.closed.wait()
    code, out, err = await end(process)
    assert (code, out, err) == (130, "", "")


# The table.


async def test_on_a_terminal_it_draws_a_table(daemon, run):
    """With every digit that the venue sent; Ctrl-C gives the terminal back."""
    daemon.scripts = [sends(PRICE)]
    terminal, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = await run("btc", "--url", daemon.url, stdin=side, stdout=side, env=environ)
    os.close(side)
    seen = ""

    def read_until(text):
        nonlocal seen
        while text not in seen:
            seen += os.read(terminal, 65536).decode()

    try:
        await asyncio.to_thread(read_until, "42150.490")
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(read_until, "\x1b[?25h")
        assert (await end(process))[0] == 130
    finally:
        os.close(terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    for text in ("channel", "instrument", "BTC/USDT", "42150.50", "-0.10", "16:30:45.123"):
        assert text in plain


async def test_each_row_is_the_newest_message(daemon):
    """Per channel and instrument; a feed's state has a row per feed and instrument."""
    newer = PRICE.replace("42150.50", "42150.60").replace('"seq":7', '"seq":8')
    status = {"type": "system_status", "channel": "system", "timestamp": "2025-12-08T16:30:45Z"}
    about = {"feed": "btc", "since_us": 1, "reason": "why"}
    found = ((None, "stale"), ("X/Y", "unknown_instrument"), (None, "live"))
    states = [
        json.dumps(
            status | {"seq": seq, "data": about | {"instrument": instrument, "state": state}}
        )
        for seq, (instrument, state) in enumerate(found, 1)
    ]
    test = '{"type":"test_message","message":"Hello","timestamp":"2025-12-08T16:30:45.123Z"}'
    daemon.scripts = [sends(PRICE, newer, *states, test)]
    frames = await collect(daemon.url, ["btc", "system"], 6)
    text = drawn(*(frame.message for frame in frames))
    assert "42150.60" in text
    assert "42150.50" not in text
    assert "stale" not in text
    rows = [line for line in text.splitlines() if "system" in line]
    assert ["btc X/Y" in row and "unknown_instrument" in row for row in rows] == [False, True]
    assert "live" in rows[0]
    assert "Hello" in text


@pytest.mark.parametrize("digits", ["0.00000001", "1E-8", "100", "42150.500000000000000001", "0.0"])
async def test_every_digit_is_shown(daemon, digits):
    """As the venue wrote them."""
    daemon.scripts = [sends(PRICE.replace("42150.50", digits))]
    [frame] = await collect(daemon.url, ["btc"], 1)
    assert f" {digits} " in drawn(frame.message)


@pytest.mark.parametrize("text", ["[/b]", "[red]A[/]", "[link=x]", "\x1b[2Jx", "a\nb", "\\["])
def test_what_is_said_is_no_markup(text):
    """A message of anybody's neither ends the program nor moves the cursor."""
    shown = drawn({"type": "test_message", "message": text}, {"channel": text, "type": text})
    assert "".join(c if c.isprintable() else " " for c in text) in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("width", "last"),
    [(20, "price"), (40, "instrument"), (80, "ask"), (92, "time"), (100, "24 h %"), (140, "seq")],
)
def test_a_narrow_terminal_costs_no_digit(width, last):
    """Whole columns go, the least needed first: half a price is another price."""
    message = json.loads(PRICE, parse_float=str) | {"channel": "a_channel_of_some_length"}
    text = drawn(message, width=width)
    whole = {
        "price": "42150.50",
        "instrument": "BTC/USDT",
        "channel": "a_channel_of_some_length",
        "bid": "42150.490",
        "ask": "42150.51",
        "time": "16:30:45.123",
        "24 h %": "-0.10",
        "seq": str(message["seq"]),
    }
    shown = watch.NEEDED[: watch.NEEDED.index(last) + 1]
    titles, _, line = (row for row in text.splitlines() if row.strip())
    for title, value in whole.items():
        assert (f" {value} " in line) is (title in shown)
        assert (f" {title} " in titles) is (title in shown)


def test_a_table_is_no_higher_than_the_terminal():
    """What has no room is counted."""
    messages = [{"channel": "c", "instrument": f"A{n}/B", "type": "x"} for n in range(50)]
    text = drawn(*messages, height=20)
    assert len(text.splitlines()) <= 20
    assert "36 more rows; --json prints everything" in text


async def test_the_table_is_drawn_in_this_process(daemon):
    """Until it is cancelled."""
    daemon.scripts = [sends(PRICE, stay=False), sends()]
    out = io.StringIO()
    task = asyncio.create_task(watch.watch(daemon.url, ["btc"], as_json=False, out=out))
    async with asyncio.timeout(PATIENCE_S):
        await daemon.again.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "42150.50" in out.getvalue()


def test_a_long_message_hides_no_number():
    """What somebody broadcasts takes a bounded place in the table."""
    words = {"type": "test_message", "message": "x" * 5000, "timestamp": "2025-12-08T16:30:45.123Z"}
    shown = drawn(words, json.loads(PRICE, parse_float=str), width=120)
    assert "x" * 40 in shown
    assert "x" * 41 not in shown
    assert "42150.50 " in shown


def market(kind, seq, instrument="BTC/USDT", **fields):
    """Return a message of a channel of books, trades or candles."""
    message = {"type": kind, "channel": "c", "instrument": instrument, "seq": str(seq)}
    return message | {"timestamp": "2025-12-08T16:30:45.123Z"} | fields


def book(seq, action, bids, asks):
    return market("orderbook_update", seq, action=action, data={"bids": bids, "asks": asks})


def cells(rows):
    """Return what the table shows: price, bid, ask and number of each row."""
    lines = [watch._line(key, message) for key, message in rows.items()]
    return [[str(cell) for cell in (line[2], line[3], line[4], line[7])] for line in lines]


def test_of_a_book_the_best_prices_are_shown():
    """They follow from the snapshot and all changes since; after a gap they are not known."""
    rows = {}
    for message, best in (
        (
            book(1, "snapshot", [["9.50", "1"], ["9", "1"]], [["10.5", "1"], ["11", "2"]]),
            "9.50 10.5",
        ),
        (book(2, "delta", [["9.5", "0.000"]], [["10.10", "3"]]), "9 10.10"),
        (book(3, "delta", [["9.00", "2"]], [["10.1", "0"], ["10.5", "0"], ["11", "0"]]), "9.00 "),
        (book(4, "snapshot", [], [["12", "2"]]), " 12"),
    ):
        watch.take(rows, message)
        [[price, bid, ask, seq]] = cells(rows)
        assert (price, f"{bid} {ask}", seq) == ("", best, message["seq"])
    watch.take(rows, market("gap", 5, reason="upstream", data={}))
    assert cells(rows) == [["gap: upstream", "", "", "5"]]
    watch.take(rows, book(6, "snapshot", [["9", "1"]], []))
    assert cells(rows) == [["", "9", "", "6"]]


def test_trades_and_candles_have_a_price():
    """That of the trade, and that at the end of the candle."""
    rows = {}
    watch.take(rows, market("trade_executed", 1, data={"price": "9.50", "quantity": "2"}))
    watch.take(rows, market("candle", 2, "ETH/USDT", data={"open": "1", "close": "3.10"}))
    assert cells(rows) == [["9.50", "", "", "1"], ["3.10", "", "", "2"]]
