"""The HTTP side: handshakes, limits, `POST /ws/test`, and what operators ask."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket

import pytest
import websockets
from gateway.wsclient import KEY, TEXT, Client, Gone, Raw, eventually, frame, handshake

from aggregator.gateway import operators as operators_module
from aggregator.gateway import server as server_module
from aggregator.gateway.origin import is_loopback, origin_allowed


async def refused(port: int, request: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Send a request that is refused, and return the answer, which is JSON."""
    async with await Raw.open(port) as raw:
        await raw.write(request)
        status, headers, body = await raw.response()
    assert headers["content-type"] == "application/json"
    answer = json.loads(body)
    assert answer["type"] == "error"
    assert answer["code"]
    assert answer["message"]
    return status, headers, answer


def post(body: bytes, path: str = "/ws/test", **headers: str) -> bytes:
    fields = {
        "Host": "127.0.0.1",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
    } | {k.replace("_", "-"): v for k, v in headers.items()}
    lines = [f"{k}: {v}" for k, v in fields.items()]
    head = "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""])
    return head.encode("utf-8", "surrogateescape") + body


async def test_honest_client(daemon):
    """A common client library gets acknowledgement, snapshot, later messages, and a clean end."""
    daemon.publish("42150.50")
    async with websockets.connect(f"ws://127.0.0.1:{daemon.port}/ws") as client:
        await client.send('{"type":"subscribe","channels":["prices"],"id":1}')
        ack = json.loads(await client.recv())
        assert ack["type"] == "subscribed"
        assert ack["id"] == 1
        assert ack["positions"] == {"prices": {"epoch": daemon.hub.epoch, "seq": 1}}
        assert '"price":42150.50,' in await client.recv()
        daemon.publish("42150.60")
        assert json.loads(await client.recv())["seq"] == 2
        pong = await client.ping()
        await pong
    assert client.close_code == 1000
    await eventually(lambda: not len(daemon.sessions))


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Sec-WebSocket-Version": "12"}, 426),
        ({"Sec-WebSocket-Version": None}, 426),
        ({"Sec-WebSocket-Key": None}, 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, 400),
        ({"Sec-WebSocket-Key": "not base64 at all!!!!!!!"}, 400),
        ({"Sec-WebSocket-Key": "\xff" * 24}, 400),
        ({"Upgrade": None}, 426),
        ({"Upgrade": "h2c"}, 426),
        ({"Connection": "keep-alive"}, 400),
        ({"Connection": None}, 400),
    ],
    ids=str,
)
async def test_malformed_handshake_is_refused(daemon, changes, status):
    """A handshake that is none gets an HTTP error as JSON, is counted, and makes no session."""
    request = handshake(**{k.replace("-", "_"): v for k, v in changes.items()})
    answered, headers, _ = await refused(daemon.port, request)
    assert answered == status
    if "Sec-WebSocket-Version" in changes:
        assert headers["sec-websocket-version"] == "13"
    if "Upgrade" in changes:
        assert headers["upgrade"] == "websocket"
    assert daemon.counters.rejected["handshake"] == 1
    assert daemon.counters.accepted == 0
    async with await daemon.connect() as client:
        await client.pinged()


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS"])
async def test_handshake_is_a_get(daemon, method):
    """RFC 6455, 4.1: the method of a handshake is GET; every other gets 405 and no session."""
    async with await Raw.open(daemon.port) as raw:
        await raw.write(handshake().replace(b"GET", method.encode(), 1))
        status, headers = await raw.head()
    assert status == 405
    assert headers["allow"] == "GET"
    assert daemon.counters.accepted == 0


async def test_handshake_with_two_keys(daemon):
    """RFC 6455, 11.3.1: there must not be more than one key, also where both are the same."""
    line = next(x for x in handshake().split(b"\r\n") if x.startswith(b"Sec-WebSocket-Key"))
    request = handshake().replace(line, line + b"\r\n" + line)
    assert (await refused(daemon.port, request))[0] == 400


async def test_handshake_of_http_1_0(daemon):
    """RFC 6455, 4.1: a handshake is HTTP/1.1 at least."""
    request = handshake().replace(b"HTTP/1.1", b"HTTP/1.0")
    assert (await refused(daemon.port, request))[0] == 400


async def test_handshake_with_a_body(daemon):
    """A handshake that announces a body is refused: its bytes are no frames."""
    request = handshake(Content_Length="5")
    assert (await refused(daemon.port, request))[0] == 400
    assert daemon.counters.accepted == 0


async def test_connection_header_in_several_lines(daemon):
    """RFC 9110, 5.3: a list may come in several header lines."""
    request = handshake().replace(
        b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: Upgrade"
    )
    async with await Client.open(daemon.port) as client:
        await client.write(request)
        assert (await client.head())[0] == 101
        await client.pinged()


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "http://evil.example@127.0.0.1",
        "http://127.0.0.1:9999",
        "file://",
        "http://[::1",
        "http://127.0.0.1:99999",
        "ftp://127.0.0.1",
        "\udcff",
    ],
)
async def test_origin_is_checked_before_the_upgrade(serve, origin):
    """A page from elsewhere gets 403, as JSON, and is counted; nothing of it is upgraded."""
    daemon = await serve(allowed_origins=["https://dashboard.example"])
    host = f"127.0.0.1:{daemon.port}"
    status, _, answer = await refused(daemon.port, handshake(Host=host, Origin=origin))
    assert (status, answer["code"]) == (403, "forbidden")
    assert daemon.counters.rejected["origin"] == 1
    status, _, _ = await refused(daemon.port, post(b'{"message":"x"}', Origin=origin))
    assert status == 403
    assert daemon.counters.broadcasts == 0


@pytest.mark.parametrize(
    ("origin", "host", "allowed", "good"),
    [
        (None, "h", [], True),
        ("http://h", "h", [], True),
        ("https://h", "h", [], True),
        ("https://h:443", "h", [], True),
        ("http://H:8000", "h:8000", [], True),
        ("http://[::1]:8000", "[::1]:8000", [], True),
        ("http://h", "h:8000", [], False),
        ("http://h:8000", "h", [], False),
        ("http://h.evil", "h", [], False),
        ("http://evilh", "h", [], False),
        ("http://u@h", "h", [], False),
        ("null", "h", [], False),
        ("null", "h", ["null"], True),
        ("https://good.example", "h", ["https://GOOD.example/"], True),
        ("https://good.example.evil", "h", ["https://good.example"], False),
        ("https://good.example:1", "h", ["https://good.example"], False),
        ("https://anything", "h", ["*"], True),
        ("http://", "", [], False),
    ],
)
def test_origin_allowed(origin, host, allowed, good):
    """The same host and port, or a configured origin, and nothing that merely looks like it."""
    assert origin_allowed(origin, host, allowed) is good


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("", False)],
)
def test_is_loopback(host, loopback):
    """Only this machine's own addresses are."""
    assert is_loopback(host) is loopback


async def test_no_name_is_resolved_for_a_request_without_host(daemon, monkeypatch):
    """A request without Host must not make the loop wait for a name server."""

    def forbidden(name: str = "") -> str:
        raise AssertionError(f"a name was resolved: {name!r}")

    monkeypatch.setattr(socket, "getfqdn", forbidden)
    body = b'{"message":"x"}'
    request = post(body, Origin="http://127.0.0.1").replace(b"Host: 127.0.0.1\r\n", b"")
    assert (await refused(daemon.port, request.replace(b"HTTP/1.1", b"HTTP/1.0")))[0] == 403
    old = handshake(Host=None).replace(b"HTTP/1.1", b"HTTP/1.0")
    assert (await refused(daemon.port, old))[0] == 400


async def test_limit_of_connections(serve):
    """One connection too many is 503, counted; one that ends makes room."""
    daemon = await serve(max_connections=2)
    async with await daemon.connect() as first, await daemon.connect() as second:
        status, _, answer = await refused(daemon.port, handshake())
        assert (status, answer["code"]) == (503, "too_many_connections")
        assert daemon.counters.rejected["max_connections"] == 1
        first.reset()
        await eventually(lambda: len(daemon.sessions) == 1)
        async with await daemon.connect() as third:
            await third.pinged()
        await second.pinged()


async def test_limit_per_address(serve):
    """One connection too many from an address is 429, counted."""
    daemon = await serve(max_connections_per_address=1)
    async with await daemon.connect() as client:
        status, _, answer = await refused(daemon.port, handshake())
        assert (status, answer["code"]) == (429, "too_many_connections")
        assert daemon.counters.rejected["max_connections_per_address"] == 1
        await client.pinged()


async def test_broadcast(serve):
    """`POST /ws/test` reaches every client: with subscriptions, without, and one that lags."""
    daemon = await serve()
    async with (
        await daemon.connect() as plain,
        await daemon.connect() as subscribed,
        await daemon.connect("/ws/ticker") as short,
        await daemon.connect(receive_buffer=4096) as slow,
    ):
        await subscribed.subscribe("prices")
        await slow.subscribe("others")
        while not daemon.sessions.lagging:
            daemon.publish(1, channel=daemon.other, data=b'"%b"' % (b"x" * 30_000))
            await asyncio.sleep(0)
        async with await Raw.open(daemon.port) as http:
            body = json.dumps({"message": 'Hello, "WebSocket"! \u20ac \U0001f600'}).encode()
            await http.write(post(body))
            status, headers, content = await http.response()
        answer = json.loads(content)
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert answer.pop("timestamp").endswith("Z")
        assert answer == {
            "type": "test_response",
            "message": "Broadcast to all connected clients",
            "clients": 4,
        }
        for client in (plain, subscribed, short, slow):
            *_, message = await client.until(type="test_message")
            assert message["message"] == 'Hello, "WebSocket"! \u20ac \U0001f600'
            assert message["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("[::1]:8000", 200),
        ("127.0.0.1", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
    ],
)
async def test_broadcast_by_a_name_that_leads_here(daemon, host, status):
    """Without a token the Host must be this machine: a page elsewhere may have a name for it."""
    request = post(b'{"message":"x"}', Origin=f"http://{host}")
    request = request.replace(b"Host: 127.0.0.1\r\n", f"Host: {host}\r\n".encode())
    async with await Raw.open(daemon.port) as http:
        await http.write(request)
        assert (await http.response())[0] == status


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 400, "bad_json"),
        (b"not JSON", {}, 400, "bad_json"),
        (b'{"message":NaN}', {}, 400, "bad_command"),
        (b"[" * 10_000, {}, 400, "bad_json"),
        (b'{"message":"\\ud800"}', {}, 400, "bad_json"),
        (b'{"message":"\xff"}', {}, 400, "bad_json"),
        (b"[]", {}, 400, "bad_command"),
        (b'"text"', {}, 400, "bad_command"),
        (b"{}", {}, 400, "bad_command"),
        (b'{"message":""}', {}, 400, "bad_command"),
        (b'{"message":7}', {}, 400, "bad_command"),
        (b'{"message":null}', {}, 400, "bad_command"),
        (b'{"message":"x","more":1}', {}, 400, "bad_command"),
        (b'{"message":"x"}', {"Content_Type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"message":"%b"}' % (b"x" * 70_000), {}, 413, "too_large"),
        (
            gzip.compress(b"x" * 2_000_000),
            {"Content_Encoding": "gzip"},
            415,
            "unsupported_media_type",
        ),
        (b"no gzip", {"Content_Encoding": "x"}, 415, "unsupported_media_type"),
    ],
)
async def test_bad_broadcast(daemon, caplog, body, headers, status, code):  # noqa: PLR0917
    """Bad input is answered as JSON with its reason, is counted, and nothing is sent."""
    async with await daemon.connect() as client:
        answered, _, answer = await refused(daemon.port, post(body, **headers))
        assert (answered, answer["code"]) == (status, code)
        assert daemon.counters.broadcasts == 0
        assert daemon.counters.http_errors[status] == 1
        await client.pinged()
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_broadcast_without_content_type(daemon):
    """Content-Type is asked for: a plain form of a web page must not reach this."""
    request = post(b'{"message":"x"}').replace(b"Content-Type: application/json\r\n", b"")
    assert (await refused(daemon.port, request))[0] == 415


async def test_broadcast_in_broken_chunks(daemon, caplog):
    """A body that is not encoded as announced is 400, and no error of ours."""
    request = post(b"", Transfer_Encoding="chunked").replace(b"Content-Length: 0\r\n", b"")
    async with await Raw.open(daemon.port) as raw:
        await raw.write(request + b"5\r\n{'mes\r\nzz\r\n")
        assert (await raw.head())[0] == 400
        await raw.ended()
    assert daemon.counters.broadcasts == 0
    assert not caplog.records


async def test_broadcast_whose_body_stops(daemon, monkeypatch):
    """A body that does not arrive is given up on, with 408."""
    monkeypatch.setattr(operators_module, "BODY_TIMEOUT_S", 0.05)
    request = post(b'{"message":"x"}', Content_Length="500")
    status, _, answer = await refused(daemon.port, request)
    assert (status, answer["code"]) == (408, "timeout")
    assert daemon.counters.broadcasts == 0


async def test_broadcast_reset_in_the_body(daemon, caplog):
    """A client that goes in the middle of the body is no error of ours."""
    async with await Raw.open(daemon.port) as raw:
        await raw.write(post(b'{"message', Content_Length="500"))
        runner = daemon.server._runner
        await eventually(lambda: any(h._current_request for h in runner.server.connections))
        raw.reset()
        await eventually(lambda: not runner.server.connections)
    async with await daemon.connect() as client:
        await client.pinged()
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR]


@pytest.mark.parametrize("token", ["secret", "gehe\u00efm-\u20ac"])
async def test_broadcast_token(serve, token):
    """With an ops token it must be given, compared as bytes; otherwise 401, counted."""
    daemon = await serve(ops_token=token)
    body = b'{"message":"x"}'
    bad = [
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {token}",
        token,
        "Bearer \udcff",
        f"Bearer {token}x",
    ]
    for given in bad:
        status, headers, answer = await refused(daemon.port, post(body, Authorization=given))
        assert (status, answer["code"]) == (401, "unauthorized")
        assert headers["www-authenticate"] == "Bearer"
    assert (await refused(daemon.port, post(body)))[0] == 401
    assert daemon.counters.rejected["ops_token"] == len(bad) + 1
    assert daemon.counters.broadcasts == 0
    async with await Raw.open(daemon.port) as raw:
        await raw.write(post(body, Authorization=f"bearer {token}"))
        assert (await raw.response())[0] == 200


async def test_broadcast_off_loopback(serve):
    """Without a token, a daemon that others can reach refuses it: 403."""
    daemon = await serve(host="0.0.0.0")
    status, _, answer = await refused(daemon.port, post(b'{"message":"x"}'))
    assert (status, answer["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("feed", "status", "code"),
    [("prices", 202, None), ("others", 409, "conflict"), ("nowhere", 404, "not_found")],
)
async def test_rotate(daemon, feed, status, code):
    """The order is passed on; what can't be done is refused with the reason."""
    async with await Raw.open(daemon.port) as raw:
        await raw.write(post(b"", f"/feeds/{feed}/rotate"))
        answered, _, body = await raw.response()
    answer = json.loads(body)
    assert (answered, answer.get("code")) == (status, code)
    assert daemon.rotated == [feed]
    if status == 202:
        assert (answer["type"], answer["feed"]) == ("rotate_response", "prices")
    if status == 409:
        assert answer["message"] == "others is not connected"


@pytest.mark.parametrize(("want", "status"), [("prices:BTC/USDT", 200), ("nowhere", 404)])
async def test_why(daemon, want, status):
    """What is asked for is passed on as it stands in the path, a slash included."""
    async with await Raw.open(daemon.port) as raw:
        await raw.write(f"GET /why/{want} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answered, _, body = await raw.response()
    assert answered == status
    answer = json.loads(body)
    assert answer.get("verdict") == (f"{want} is live" if status == 200 else None)
    assert answer.get("code") == (None if status == 200 else "not_found")


async def test_rotate_is_for_operators(serve):
    """With a token it must be given; without one it works on loopback alone, and for no page."""
    daemon = await serve(ops_token="secret")
    path = "/feeds/prices/rotate"
    status, _, answer = await refused(daemon.port, post(b"", path))
    assert (status, answer["code"]) == (401, "unauthorized")
    status, _, _ = await refused(daemon.port, post(b"", path, Origin="https://evil.example"))
    assert status == 403
    assert daemon.rotated == []
    async with await Raw.open(daemon.port) as raw:
        await raw.write(post(b"", path, Authorization="Bearer secret"))
        assert (await raw.response())[0] == 202
    assert daemon.rotated == ["prices"]
    anywhere = await serve(host="0.0.0.0")
    assert (await refused(anywhere.port, post(b"", path)))[0] == 403
    assert anywhere.rotated == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/ws/test", 405),
        ("GET", "/feeds/prices/rotate", 405),
        ("POST", "/feeds//rotate", 404),
        ("PUT", "/ws/test", 405),
        ("POST", "/healthz", 405),
        ("GET", "/ws/", 404),
        ("GET", "/ws/../etc/passwd", 404),
        ("GET", "/%00", 404),
    ],
)
async def test_wrong_paths_and_methods(daemon, method, path, status):
    """They are answered as JSON, and counted."""
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
    assert (await refused(daemon.port, request))[0] == status
    assert daemon.counters.http_errors[status] == 1


async def test_pages_of_operators(daemon):
    """Health, readiness, channels and metrics answer, one after the other on one connection."""
    async with await Raw.open(daemon.port) as raw:

        async def get(path: str) -> tuple[int, bytes]:
            await raw.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            status, _, body = await raw.response()
            return status, body

        assert await get("/healthz") == (200, b'{"status":"ok"}')
        assert await get("/readyz") == (200, b'{"status":"ready","feeds":[]}')
        daemon.unready = [{"feed": "prices", "state": "stale"}]
        status, body = await get("/readyz")
        assert status == 503
        assert json.loads(body)["feeds"] == daemon.unready
        status, body = await get("/channels")
        assert {"name": "prices"} in json.loads(body)["channels"]
        assert await get("/metrics") == (200, b"up 1\n")


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /ws HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        handshake().removesuffix(b"\r\n") + b"X: y\r\n" * 500 + b"\r\n",
        b"POST /ws/test HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=lambda request: str(request[:30]),
)
async def test_no_http(daemon, caplog, request_):
    """What is no HTTP is refused and counted, and fills no log with tracebacks."""
    async with await daemon.connect() as client, await Raw.open(daemon.port) as raw:
        await raw.write(request_)
        assert (await raw.head())[0] == 400
        await raw.ended()
        assert daemon.counters.rejected["no_http"] == 1
        await client.pinged()
    assert not caplog.records


async def test_fault_of_our_own(daemon, caplog):
    """It is logged with its traceback, and the client is told no more than that there is one."""
    daemon.server._channels = lambda: 1 // 0
    async with await Raw.open(daemon.port) as raw:
        await raw.write(b"GET /channels HTTP/1.1\r\nHost: x\r\n\r\n")
        status, _, body = await raw.response()
    assert status == 500
    assert b"Zero" not in body
    assert "ZeroDivisionError" in caplog.text


async def test_half_a_handshake(daemon, monkeypatch, serve):
    """A client that stops in the middle of its request is cut off; others are not disturbed."""
    monkeypatch.setattr(server_module, "KEEP_ALIVE_S", 0.1)
    daemon = await serve()
    async with (
        await Raw.open(daemon.port) as silent,
        await Raw.open(daemon.port) as half,
        await daemon.connect() as client,
    ):
        await half.write(handshake()[:40])
        await silent.ended()
        await half.ended()
        await client.pinged()


async def test_reset_between_request_and_answer(daemon, monkeypatch, caplog):
    """A client that is gone when its handshake is looked at is no error of ours."""
    create = daemon.sessions.create

    def gone(*args, **options):
        for handler in daemon.server._runner.server.connections:
            handler.transport.abort()
        return create(*args, **options)

    monkeypatch.setattr(daemon.sessions, "create", gone)
    async with await Raw.open(daemon.port) as raw:
        await raw.write(handshake())
        await raw.ended()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert daemon.counters.accepted == 0
    assert not len(daemon.sessions)


async def test_port_that_is_taken(daemon, serve):
    """A start on a port that is taken raises OSError, and can be stopped all the same."""
    other = type(daemon)(port=daemon.port)
    with pytest.raises(OSError, match="address already in use"):
        await other.server.start()
    await other.server.stop()
    await type(daemon)().server.stop()


async def test_new_clients_while_stopping(daemon):
    """Who comes while the daemon stops is told so, with 503."""
    await daemon.sessions.stop(1)
    status, _, _ = await refused(daemon.port, handshake())
    assert status == 503
    assert daemon.counters.rejected["stopping"] == 1


async def test_pipelining_behind_the_upgrade(daemon):
    """What comes right behind the handshake is frames, never a second request."""
    async with await daemon.connect(early=b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        code, _ = await client.closed()
    assert code == 1002
    async with await Raw.open(daemon.port) as raw:
        request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        await raw.write(request * 3 + handshake() + frame(b'{"type":"ping"}', TEXT))
        for _ in range(3):
            assert (await raw.response())[0] == 200
        assert (await raw.head())[0] == 101
        client = Client(raw.sock)
        client.buffer = raw.buffer
        assert (await client.receive())["type"] == "pong"


async def test_key_of_the_standard(daemon):
    """RFC 6455, 1.3: the example of the standard."""
    assert KEY == "dGhlIHNhbXBsZSBub25jZQ=="
    async with await daemon.connect() as client:  # which compares Sec-WebSocket-Accept
        client.reset()
    with pytest.raises(Gone):
        raise Gone
