"""docs/protocol.md and the README: what they say is sent is what is sent."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from decimal import Decimal
from typing import get_args

import pytest
import websockets.sync.client
from docs.pages import all_blocks, blocks, code, loads, names, same_shape, section, table, text_of

from aggregator.ingest.freshness import Cause

PATIENCE_S = 30
LIVE = {"price_update", "system_status", "heartbeat", "test_message"}
CONVERSATIONS = [b for b in blocks("protocol") if b.language == "text"]
MESSAGES = [
    (block, line) for block in all_blocks("json") for line in block.text.splitlines() if line
]


PAIR = """
[server]
port = 0
[feeds.majors]
connector = "okx.ticker"
instruments = ["BTC/USDT", "ETH/USDT"]
urls = ["ws://127.0.0.1:{port}/okx/ws/v5/public"]
stale_after_s = 1
"""
MARKET = """
[server]
port = 0
[feeds.okx_books]
connector = "okx.books"
instruments = ["BTC/USDT"]
depth = 5
urls = ["ws://127.0.0.1:{port}/okx/ws/v5/public"]
[feeds.okx_trades]
connector = "okx.trades"
instruments = ["BTC/USDT"]
max_backoff_s = 0.2
urls = ["ws://127.0.0.1:{port}/okx/ws/v5/public"]
base_url = "http://127.0.0.1:{port}/okx"
"""
CANDLES = """
[server]
port = 0
[feeds.candles]
connector = "ccxt.ohlcv"
exchange = "binance"
instruments = ["BTC/USDT"]
timeframe = "1s"
[feeds.candles.urls.api]
public = "http://127.0.0.1:{port}/binance/api/v3"
ws.spot = "ws://127.0.0.1:{port}/binance/stream/ws"
"""
HASTY = """
[server]
port = 0
[feeds.x]
connector = "coingecko.global"
base_url = "http://127.0.0.1:{port}/coingecko/api/v3"
interval_s = 0.1
"""


def connect(url):
    """Connect a client that takes whatever comes: a full queue would hold up its own close."""
    return websockets.sync.client.connect(url, max_size=None, max_queue=None)


def examples(**wanted):
    """Return the documented messages with these fields, `data` of a status included."""
    found = []
    for _, line in MESSAGES:
        message = loads(line)
        data = message.get("data")
        fields = message | (data if isinstance(data, dict) else {})
        if wanted.items() <= fields.items():
            found.append(message)
    return found


def receive(ws):
    return loads(ws.recv(timeout=PATIENCE_S))


def until(ws, condition):
    """Return the first message of which this holds."""
    while not condition(message := receive(ws)):
        pass
    return message


def who(message):
    """Return what tells one message of a conversation from another."""
    return [message.get(k) for k in ("type", "status", "code", "channel", "instrument", "symbol")]


def client_frame(payload, opcode=1, *, masked=True):
    """Return a frame that a well-behaved library would not send."""
    size = struct.pack("!B", len(payload) | 0x80 * masked)
    return bytes([0x80 | opcode]) + size + b"\0\0\0\0" * masked + payload


def stalled(port):
    """Connect with a small buffer; nothing is read from it but by the test itself."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE_S)
    sock.connect(("127.0.0.1", port))
    key = base64.b64encode(bytes(16)).decode()
    lines = ["GET /ws HTTP/1.1", "Host: x", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
    sock.sendall("\r\n".join(lines).encode())
    return sock


def received_to(sock, mark):
    """Return what is received until it contains this, or until the end."""
    data = b""
    while mark not in data and (part := sock.recv(65536)):
        data += part
    return data


def post(daemon, body, **headers):
    """Return status and answer of `POST /ws/test`."""
    url = f"http://127.0.0.1:{daemon.port}/ws/test"
    headers = {"Content-Type": "application/json"} | headers
    request = urllib.request.Request(url, body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, loads(answer.read())
    except urllib.error.HTTPError as e:
        with e:
            return e.code, loads(e.read())


def program(arguments, pattern):
    """Run a program until it prints a line like that."""
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        found = any(re.search(pattern, line) for line in process.stdout)
        process.kill()
        errors = process.stderr.read()
    assert found, errors


POSITION = '{"epoch":"303a6b3b","seq":1041}'
"""How far a client of the examples had come, who missed one message."""


def present(demo):
    """Return the same for a daemon that runs."""
    channels = json.loads(demo.get("/channels"))["channels"]
    [channel] = [c for c in channels if c["channel"] == "bitcoinprice"]
    return json.dumps({"epoch": channel["epoch"], "seq": channel["seq"] - 1})


@pytest.mark.parametrize("block", CONVERSATIONS, ids=str)
def test_conversations(demo, block):
    """The daemon answers each documented command as documented; refusals to the letter."""
    with connect(demo.ws(block.info.split()[1])) as ws:
        passed = []
        for line in block.text.splitlines():
            if line.startswith("> "):
                ws.send(line[2:].replace(POSITION, present(demo)))
                passed.clear()
                continue
            documented = loads(line.removeprefix("< "))
            # Between channels there is no order.
            message = next((m for m in passed if who(m) == who(documented)), None)
            while message is None:
                message = receive(ws)
                if who(message) != who(documented):
                    assert message.get("type") in LIVE, message
                    passed.append(message)
                    message = None
            same_shape(documented, message)
            if documented.get("type") == "error":
                assert message == documented
            for key in ("id", "channels"):
                assert message.get(key) == documented.get(key)


def test_there_are_conversations():
    """Every command of both endpoints is shown with its answer."""
    sent = " ".join(b.text for b in CONVERSATIONS)
    for word in ('"subscribe"', '"unsubscribe"', '"ping"', '"action"'):
        assert word in sent
    assert len(CONVERSATIONS) >= 6


@pytest.mark.parametrize(("block", "line"), MESSAGES, ids=lambda value: str(value)[:40])
def test_examples_are_json(block, line):
    """Every line of a JSON block is one JSON object."""
    assert isinstance(loads(line), dict), block


def test_commands_of_the_table(demo):
    """Each command in the table of commands gets the answer that stands beside it."""
    with connect(demo.ws()) as ws:
        for row in table(section("protocol", "## Commands"), "command"):
            command = loads(code(row["command"])[0])
            ws.send(code(row["command"])[0])
            answer = until(ws, lambda m: m["type"] not in LIVE)
            assert answer["type"] == code(row["answer"])[0]
            assert answer["id"] == command["id"]


def test_price_update(demo):
    """The documented message of `bitcoinprice` is what comes, and every field is explained."""
    documented = examples(type="price_update", channel="bitcoinprice")
    assert len(documented) == 2
    with connect(demo.ws()) as ws:
        ws.send('{"type":"subscribe","channels":["bitcoinprice"]}')
        first = until(ws, lambda m: m["type"] == "price_update")
        message = until(ws, lambda m: m["type"] == "price_update")
    explained = names(table(section("protocol", "### price_update"), "field"))
    for example in documented:
        same_shape(example, message)
    assert first.keys() - {"type", "data"} <= set(explained)
    assert first.keys() - message.keys() == {"age_us", "stale"}


def test_every_channel_has_what_the_table_says(demo):
    """Which fields a channel gives, and which are null, is as in the table."""
    rows = table(section("protocol", "### What the fields mean, by channel"), "channel")
    with connect(demo.ws()) as ws:
        for row in rows:
            for channel in code(row["channel"]):
                ws.send(json.dumps({"type": "subscribe", "channels": [channel]}))
                first = until(ws, lambda m, c=channel: m.get("channel") == c)
                assert (first["exchange_us"] is None) == (row["`exchange_us`"] == "null")
                assert ("bid" in first and "ask" in first) == (row["`bid`, `ask`"] != "no")
                for key in ("volume_24h", "change_24h_pct"):
                    assert (key in first) == (row[f"`{key}`"] != "no"), channel
                if named := code(row["`data`"]):
                    assert first["data"].keys() >= set(named) - {"/global", "[price, size]", "data"}


def test_order(demo):
    """Snapshot up to the position, then every number after it, each once, also if wanted twice."""
    wants = ["bitcoinprice", "bitcoinprice:BTC/USDT", "*:BTC/USDT"]
    with connect(demo.ws()) as ws:
        ws.send(json.dumps({"type": "subscribe", "channels": wants}))
        position = receive(ws)["positions"]["bitcoinprice"]
        seqs = []
        while len(seqs) < 6:
            seqs.append(until(ws, lambda m: m["channel"] == "bitcoinprice")["seq"])
        ws.send(json.dumps({"type": "unsubscribe", "channels": wants[:2]}))
        until(ws, lambda m: m["type"] == "unsubscribed")
        until(ws, lambda m: m.get("channel") == "bitcoinprice")
        ws.send(json.dumps({"type": "unsubscribe", "channels": wants[2:]}))
        until(ws, lambda m: m["type"] == "unsubscribed")
        ws.send('{"type":"ping"}')
        assert receive(ws)["type"] == "pong"
    first = position["seq"]
    assert seqs == list(range(first, first + 6))
    assert re.fullmatch("[0-9a-f]{8}", position["epoch"])


def test_states(rehearsal, venues):
    """A stream that goes silent, a venue that refuses, an unknown name: as documented."""
    found = [e for e in examples(type="system_status") if e["data"]["feed"] != "majors"]
    documented = {e["data"]["state"]: e for e in found}
    assert documented.keys() == {"stale", "limited", "unknown_instrument"}
    with connect(rehearsal.ws()) as ws:
        ws.send('{"type":"subscribe","channels":["bitcoinprice"]}')
        for _ in range(20):  # so that it is known what is usual
            until(ws, lambda m: m.get("channel") == "bitcoinprice")
        ws.send('{"type":"subscribe","channels":["system"]}')
        venues.fault(venue="okx", kind="mute", for_s=2)
        venues.fault(
            venue="binance",
            kind="status",
            status=429,
            retry_after=5,
            count=1,
            path="/api/v3/ticker",
        )
        while documented:
            message = until(
                ws,
                lambda m: (
                    m["type"] == "system_status"
                    and m["data"]["state"] in documented
                    and (m["data"]["state"] != "limited" or "429" in m["data"]["reason"])
                ),
            )
            same_shape(documented.pop(message["data"]["state"]), message)


def test_orderbook_update(start_daemon, venues):
    """Snapshot, delta and gap are as documented, and each of their fields is explained."""
    documented = examples(type="orderbook_update")
    assert [m["action"] for m in documented] == ["snapshot", "delta"]
    [gap] = examples(reason="upstream")
    explained = names(table(section("protocol", "### orderbook_update"), "field"))
    with connect(start_daemon(MARKET).ws()) as ws:
        ws.send('{"type":"subscribe","channels":["okx_books"]}')
        for example in documented:
            message = until(ws, lambda m, e=example: m.get("action") == e["action"])
            with_age = {"age_us", "stale"} if message["action"] == "snapshot" else set()
            same_shape(example, {k: v for k, v in message.items() if k not in with_age})
            fields = {"action"} | {f"data.{key}" for key in message["data"]}
            assert fields <= set(explained)
        venues.fault(venue="okx", kind="drop", channel="books", for_s=0.3)
        same_shape(gap, until(ws, lambda m: m["type"] == "gap"))
        assert until(ws, lambda m: m["type"] == "orderbook_update")["action"] == "snapshot"


def test_an_order_book_in_python(start_daemon):
    """The documented way to keep a book, as written but for the port, has best bid and ask."""
    [block] = [b for b in blocks("protocol", "python") if "orderbook_update" in b.text]
    daemon = start_daemon(MARKET)
    text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{daemon.port}")
    program([sys.executable, "-u", "-c", text], r"BTC/USDT \d+\.?\d* \d+")


def test_trade_executed(start_daemon, venues):
    """A trade, live or fetched afterwards, is as documented, and each field is explained."""
    live, fetched = examples(type="trade_executed")
    explained = names(table(section("protocol", "### trade_executed"), "field"))
    with connect(start_daemon(MARKET).ws()) as ws:
        ws.send('{"type":"subscribe","channels":["okx_trades"]}')
        until(ws, lambda m: m["type"] == "trade_executed")
        message = until(ws, lambda m: m["type"] == "trade_executed" and "age_us" not in m)
        same_shape(live, message)
        assert {f"data.{key}" for key in message["data"]} <= set(explained)
        venues.fault(venue="okx", kind="drop", channel="trades", for_s=0.3)
        same_shape(fetched, until(ws, lambda m: m.get("backfilled")))


def test_candle(start_daemon):
    """A candle, from any exchange, is as documented, and each of its fields is explained."""
    [documented] = examples(type="candle")
    with connect(start_daemon(CANDLES).ws()) as ws:
        ws.send('{"type":"subscribe","channels":["candles"]}')
        message = until(ws, lambda m: m["type"] == "candle" and m["data"]["closed"])
        same_shape(documented, message)
        following = until(ws, lambda m: m["type"] == "candle")
    explained = names(table(section("protocol", "### candle"), "field of `data`"))
    assert message["data"].keys() <= set(explained)
    assert message["exchange_us"] == message["data"]["start_us"]
    assert following["data"]["start_us"] > message["data"]["start_us"]
    assert not following["data"]["closed"]


def test_a_silent_instrument(start_daemon, venues):
    """It is stale, once, to clients, in snapshots and on HTTP, and live again; the other is not."""
    documented = {e["data"]["state"]: e for e in examples(instrument="ETH/USDT", feed="majors")}
    assert list(documented) == ["stale", "live"]
    [row] = [m for _, line in MESSAGES if (m := loads(line)).get("instrument") and len(m) == 4]
    daemon = start_daemon(PAIR)
    with connect(daemon.ws()) as ws:
        ws.send('{"type":"subscribe","channels":["system","majors"]}')
        for _ in range(60):
            until(ws, lambda m: m.get("instrument") == "ETH/USDT")
        venues.fault(venue="okx", kind="mute", instrument="ETH/USDT", for_s=5)
        stale = until(ws, lambda m: m.get("data", {}).get("state") == "stale")
        same_shape(documented["stale"], stale)
        with connect(daemon.ws()) as late:
            late.send('{"type":"subscribe","channels":["majors"]}')
            assert until(late, lambda m: m.get("instrument") == "ETH/USDT")["stale"] is True
            assert until(late, lambda m: m.get("instrument") == "BTC/USDT").get("stale") is not True
        [channel] = [c for c in loads(daemon.get("/channels"))["channels"] if c["not_live"]]
        same_shape([row], channel["not_live"])
        assert 'aggregator_feed_instruments{feed="majors",state="stale"} 1.0' in daemon.get(
            "/metrics"
        )
        live = until(ws, lambda m: m["type"] == "system_status")
        same_shape(documented["live"], live)
        assert [m["data"]["instrument"] for m in (stale, live)] == ["ETH/USDT"] * 2


def test_detail_of_limited(start_daemon):
    """What limits a feed, and how often data come then, is said whenever the state is."""
    text = section("protocol", "### system_status").partition("`cause` is ")[2]
    documented = code(text.partition("\n\n")[0])
    assert sorted(documented) == sorted([*get_args(Cause), "until_us"])
    with connect(start_daemon(HASTY).ws()) as ws:
        ws.send('{"type":"subscribe","channels":["system"]}')
        message = until(ws, lambda m: m.get("data", {}).get("state") == "limited")
    detail = message["data"]["detail"]
    assert list(detail) == ["effective_interval_s", "cause", "until_us"]
    assert (detail["cause"], detail["until_us"]) == ("cached", None)
    assert detail["effective_interval_s"] > Decimal("0.1")


def test_heartbeat(strict):
    """The documented heartbeat comes on its channel."""
    [documented] = examples(type="heartbeat")
    with connect(strict.ws()) as ws:
        ws.send('{"type":"subscribe","channels":["heartbeat"]}')
        assert receive(ws)["type"] == "subscribed"
        message = receive(ws)
    same_shape(documented, message)
    assert message["status"] == documented["status"]


def test_slow_client(rehearsal):
    """Who does not read gets the newest, and in `conflated` how many it stands for."""
    [documented] = [e for e in examples(type="price_update") if "conflated" in e]
    command = b'{"type":"subscribe","channels":["binance_orderbook"]}'
    with stalled(rehearsal.port) as slow:
        slow.sendall(client_frame(command))
        with connect(rehearsal.ws()) as quick:
            quick.send(command.decode())
            # More than all buffers on the way to the slow one hold.
            size = 0
            while size < 4_000_000:
                size += len(quick.recv(timeout=PATIENCE_S))
        data = b""
        while not (match := re.search(rb',"conflated":[0-9]+}', data)):
            data += slow.recv(65536)
    start = data.rindex(b'{"type":"price_update"', 0, match.start())
    message = loads(data[start : match.end()])
    same_shape(documented, message)
    seqs = [int(n) for n in re.findall(rb'"seq":(\d+),"exchange_us"', data)]
    assert seqs == sorted(seqs)
    last = seqs.index(message["seq"])
    assert seqs[last] - seqs[last - 1] == 1 + message["conflated"]


def test_too_many_subscriptions(demo):
    """Beyond the limit a command is refused to the letter, as a whole."""
    [documented] = examples(code="too_many_subscriptions")
    channels = [f"*:X{n}/Y" for n in range(1001)]
    with connect(demo.ws()) as ws:
        ws.send(json.dumps({"type": "subscribe", "channels": channels, "id": 6}))
        assert receive(ws) == documented


def test_rate_limited(demo):
    """Commands faster than allowed are refused to the letter, and the connection stays."""
    [documented] = examples(code="rate_limited")
    with connect(demo.ws()) as ws:
        for _ in range(200):
            ws.send(json.dumps({"type": "ping", "id": documented["id"]}))
        answers, told = [], 0
        while told < 200:
            answers.append(receive(ws))
            told += answers[-1].get("dropped", 1)
        assert told == 200
        assert next(a for a in answers if a["type"] == "error") == documented
        assert {a["type"] for a in answers} == {"pong", "error"}
        assert {a["id"] for a in answers if "dropped" not in a} == {documented["id"]}
        refused = answer = documented | {"id": "again"}
        while answer == refused:
            ws.send('{"type":"ping","id":"again"}')
            answer = receive(ws)
        assert (answer["type"], answer["id"]) == ("pong", "again")


CLOSES = {
    1002: client_frame(b"{}", masked=False),
    1003: client_frame(b"\0", opcode=2),
    1007: client_frame(b"\xff"),
    1009: b"\x81\xff" + (65_537).to_bytes(8) + b"\0\0\0\0",
}


@pytest.mark.parametrize("close_code", CLOSES)
def test_closes_for_bad_frames(demo, close_code):
    """A frame that can't be taken closes the connection with the documented code."""
    with stalled(demo.port) as sock:
        sock.sendall(CLOSES[close_code])
        frame = received_to(sock, close_code.to_bytes(2)).partition(b"\r\n\r\n")[2]
    assert frame[0] == 0x88
    assert int.from_bytes(frame[2:4]) == close_code


def test_close_without_a_pong(strict):
    """A client that answers no ping is closed with 4010."""
    close = (4010).to_bytes(2) + b"no pong in time"
    with stalled(strict.port) as sock:
        assert close in received_to(sock, close)


def test_close_of_a_slow_consumer(strict):
    """A client for whom too much waits that nothing replaces is closed with 4008."""
    body = json.dumps({"message": "x" * 60_000}).encode()
    with stalled(strict.port):
        for _ in range(40):
            assert post(strict, body, Authorization="Bearer secret")[0] == 200
        strict.logged("closed a slow client")
    assert 'aggregator_connections_closed_total{code="4008"} 1.0' in strict.get("/metrics")


def test_close_at_the_end(start_daemon):
    """A daemon that is told to stop closes its sessions with 1001, and exits with 0."""
    daemon = start_daemon('[server]\nport = 0\n[feeds.x]\nconnector = "coingecko.global"\n')
    with connect(daemon.ws()) as ws:
        ws.send('{"type":"ping"}')
        assert receive(ws)["type"] == "pong"
        daemon.process.send_signal(signal.SIGTERM)
        assert all(ws)
        assert ws.close_code == 1001
    assert daemon.ended() == 0


def test_refused_handshakes(strict, demo):
    """What refuses a handshake has the documented status and code."""
    rows = table(section("protocol", "## Connecting"), "status")
    pairs = [(int(row["status"]), *code(row["code"])) for row in rows]
    assert pairs[-2:] == [(503, "too_many_connections"), (503, "stopping")]
    documented = dict(pairs[:-2])

    def get(daemon, **headers):
        request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}/ws", headers=headers)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=PATIENCE_S)
        with refused.value as answer:
            return answer.code, loads(answer.read())["code"]

    assert get(demo) == (426, documented[426])
    assert get(demo, Origin="null") == (403, documented[403])
    assert get(demo, Upgrade="websocket") == (400, documented[400])
    with contextlib.ExitStack() as connections:
        head = b"HTTP/1.1 101"
        while head == b"HTTP/1.1 101":
            sock = connections.enter_context(stalled(strict.port))
            head = sock.recv(12)
        assert head == b"HTTP/1.1 429"
        assert documented[429].encode() in received_to(sock, b"}")


def test_broadcast(demo, strict):
    """`POST /ws/test` reaches everybody, and refuses what the page says it does."""
    [documented] = examples(type="test_message")
    with connect(demo.ws()) as ws:
        ws.send('{"type":"ping"}')
        assert receive(ws)["type"] == "pong"
        status, answer = post(demo, b'{"message": "Hello, WebSocket!"}')
        message = receive(ws)
    same_shape(documented, message)
    assert (status, message["message"]) == (200, documented["message"])
    assert answer["clients"] >= 1
    assert post(strict, b'{"message": "x"}')[0] == 401
    assert post(strict, b'{"message": "x"}', Authorization="Bearer secret")[0] == 200
    assert post(demo, b'{"message": "x"}', Origin="https://evil.example")[0] == 403
    assert post(demo, b'{"message": "x"}', Host="dashboard.example")[0] == 403
    assert post(demo, b"{")[1]["code"] == "bad_json"
    assert post(demo, b"x" * 65_537)[0] == 413
    assert post(demo, b"{}", **{"Content-Encoding": "gzip"})[0] == 415


@pytest.mark.parametrize(
    "block",
    [*blocks("README", "python"), *(b for b in blocks("protocol", "python") if "price_" in b.text)],
    ids=str,
)
def test_python_examples(demo, block):
    """A client in Python, as written but for the port, prints prices."""
    text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{demo.port}")
    assert text != block.text
    program([sys.executable, "-u", "-c", text], r"BTC/USDT|bitcoinprice \d")


@pytest.mark.parametrize("block", all_blocks("js"), ids=str)
def test_javascript_examples(demo, needs, block, tmp_path):
    """A client in JavaScript, as written but for the port, prints prices."""
    text = block.text.replace("127.0.0.1:8000", f"127.0.0.1:{demo.port}")
    assert text != block.text
    script = tmp_path / "example.cjs"
    script.write_text(text)
    program([needs("node"), "--experimental-websocket", script], r"price_update|BTC/USDT \d")


def test_names_of_coingecko(demo):
    """An instrument of CoinGecko's is named by the coin's symbol or by its id."""
    assert "`<id>/USD`" in text_of("protocol")
    with connect(demo.ws()) as ws:
        ws.send('{"type":"subscribe","channels":["coingecko_top"]}')
        for _ in range(100):
            message = until(ws, lambda m: m["type"] == "price_update")
            coin = message["data"]
            names_ = {f"{coin['symbol'].upper()}/USD", f"{coin['id']}/USD"}
            assert message["instrument"] in names_
