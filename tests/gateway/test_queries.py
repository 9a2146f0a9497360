"""What is asked once over HTTP: the last values, and what was published lately."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from gateway.conftest import Daemon
from gateway.wsclient import Raw

from aggregator.model import Heartbeat


async def get(
    daemon: Daemon, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], str]:
    """Ask once; return status, headers and body."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{daemon.port}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    async with await Raw.open(daemon.port) as raw:
        await raw.write("\r\n".join([*lines, "", ""]).encode())
        status, found, body = await raw.response()
    return status, found, body.decode()


async def history(daemon: Daemon, query: str = "") -> dict[str, object]:
    status, _, body = await get(daemon, f"/history/prices{query}")
    assert status == 200
    return json.loads(body)


def numbers(answer: dict[str, object]) -> list[int]:
    return [message["seq"] for message in answer["messages"] if message["type"] != "gap"]


async def test_latest_is_what_a_subscriber_gets(daemon):
    """The same messages as on the socket, digits and all, with the position they belong to."""
    daemon.publish("1.50")
    daemon.publish("2.00", "ETH/USDT")
    async with await daemon.connect() as client:
        await client.subscribe("prices")
        snapshot = [await client.receive_text() for _ in range(2)]
    status, headers, body = await get(daemon, "/latest/prices")
    assert (status, headers["content-type"]) == (200, "application/json")
    head, _, messages = body.partition('"messages":')
    assert messages == f"[{','.join(snapshot)}]}}"
    assert json.loads(body)["seq"] == 2
    assert f'"epoch":"{daemon.hub.epoch}"' in head
    status, _, body = await get(daemon, "/latest/prices/BTC/USDT")
    assert (status, body) == (200, snapshot[0])
    assert '"price":1.50,' in body


@pytest.mark.parametrize("instrument", ["BTC/USDT", quote("BTC/USDT", safe="")])
async def test_instrument_in_the_path(daemon, instrument):
    """With its slash as it is, or encoded."""
    daemon.publish(1)
    status, _, body = await get(daemon, f"/latest/prices/{instrument}")
    assert (status, json.loads(body)["instrument"]) == (200, "BTC/USDT")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/latest/nowhere", "no such channel"),
        ("/latest/nowhere/BTC/USDT", "no such channel"),
        ("/latest/prices/NO/SUCH", "no such instrument"),
        ("/latest/prices/BTC/USDT", "no value yet"),
        ("/latest/system/prices", "no such instrument"),
        ("/history/nowhere", "no such channel"),
        ("/latest/", ""),
    ],
)
async def test_not_found(daemon, path, text):
    """What there is not is 404, with the reason."""
    status, _, body = await get(daemon, path)
    assert (status, json.loads(body)["code"]) == (404, "not_found")
    assert text in body


@pytest.mark.parametrize("path", ["/latest/prices", "/latest/prices/BTC/USDT", "/history/prices"])
async def test_etag(daemon, path):
    """It is the same until something is published; who has it is sent nothing."""
    daemon.publish(1)
    _, headers, _ = await get(daemon, path)
    tag = headers["etag"]
    assert tag.startswith('W/"')
    assert headers["cache-control"] == "no-cache"
    for sent in (tag, f'"x", {tag}', "*"):
        status, headers, body = await get(daemon, path, If_None_Match=sent)
        assert (status, headers["etag"], body) == (304, tag, "")
    daemon.publish(2)
    status, headers, _ = await get(daemon, path, If_None_Match=tag)
    assert status == 200
    assert headers["etag"] != tag


async def test_etag_of_a_channel_without_values(daemon):
    """Its number grows, and stands in the answer."""
    _, headers, _ = await get(daemon, "/latest/heartbeat")
    daemon.hub.publish(daemon.hub.heartbeat, Heartbeat(), daemon.hub.now_us())
    status, _, body = await get(daemon, "/latest/heartbeat", If_None_Match=headers["etag"])
    assert (status, json.loads(body)["seq"]) == (200, 1)


async def test_documents_for_an_odd_host(daemon):
    """What is no name is not repeated."""
    async with await Raw.open(daemon.port) as raw:
        await raw.write(b"GET /asyncapi.json HTTP/1.1\r\nHost: a\xffb\r\n\r\n")
        status, _, body = await raw.response()
    assert status == 200
    assert json.loads(body)["servers"]["daemon"]["host"] == "127.0.0.1:8000"


async def test_etag_of_what_became_stale(daemon):
    """Also when nothing is published any more: that is just what matters."""
    daemon.publish(1)
    _, headers, _ = await get(daemon, "/latest/prices")
    daemon.channel.stale = True
    status, _, body = await get(daemon, "/latest/prices", If_None_Match=headers["etag"])
    assert status == 200
    assert json.loads(body)["messages"][0]["stale"] is True


async def test_page_by_page(daemon):
    """Each page goes on where the last one ended, until there is nothing more."""
    for price in range(1, 8):
        daemon.publish(price)
    seen, since = [], 0
    while True:
        answer = await history(daemon, f"?since_seq={since}&limit=3&epoch={daemon.hub.epoch}")
        assert (answer["seq"], answer["first_seq"]) == (7, 1)
        if answer["until_seq"] == since:
            break
        seen.append(numbers(answer))
        since = answer["until_seq"]
    assert seen == [[1, 2, 3], [4, 5, 6], [7]]


async def test_the_newest(daemon):
    """Without a number, the last ones; as on the socket, without an age."""
    for price in range(1, 8):
        daemon.publish(price)
    answer = await history(daemon, "?limit=2")
    assert (numbers(answer), answer["until_seq"]) == ([6, 7], 7)
    assert not any("age_us" in message for message in answer["messages"])
    assert numbers(await history(daemon)) == list(range(1, 8))


@pytest.mark.parametrize(
    ("query", "lost", "got", "cause"),
    [
        ("since_seq=2", (3, 6), [7, 8, 9], "older than what is kept"),
        ("since_seq=6", None, [7, 8, 9], None),
        ("since_seq=9", None, [], None),
        ("since_seq=12", (None, None), [7, 8, 9], "no message has that number yet"),
        ("since_seq=8&epoch=x", (1, 6), [7, 8, 9], "another run of the daemon"),
    ],
)
async def test_what_is_not_kept(serve, query, lost, got, cause):
    """It is said first, with the range and the cause; then comes all that is kept."""
    daemon = await serve(history_messages=3)
    for price in range(1, 10):
        daemon.publish(price)
    answer = await history(daemon, f"?{query}")
    gaps = [message for message in answer["messages"] if message["type"] == "gap"]
    assert numbers(answer) == got
    assert answer["until_seq"] == 9
    if lost is None:
        assert not gaps
    else:
        assert gaps == answer["messages"][:1]
        assert (gaps[0]["from_seq"], gaps[0]["to_seq"]) == lost
        assert gaps[0]["data"] == {"cause": cause}


@pytest.mark.parametrize("since", [0, 3])
async def test_nothing_is_kept(serve, since):
    """Then all is a gap, and the position is the present one."""
    daemon = await serve(history_messages=0)
    for price in range(1, 5):
        daemon.publish(price)
    answer = await history(daemon, f"?since_seq={since}")
    [gap] = answer["messages"]
    assert (gap["from_seq"], gap["to_seq"], answer["until_seq"]) == (since + 1, 4, 4)
    assert answer["first_seq"] is None
    assert (await history(daemon))["messages"] == []


async def test_answers_are_bounded(daemon, monkeypatch):
    """A page ends after so many bytes; the next goes on."""
    monkeypatch.setattr("aggregator.gateway.queries.MAX_BYTES", 2500)
    for price in range(1, 8):
        daemon.publish(price, data=b'"%b"' % (b"x" * 1000))
    answer = await history(daemon, "?since_seq=0")
    assert (numbers(answer), answer["until_seq"]) == ([1, 2], 2)


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("since_seq=-1", "since_seq"),
        ("since_seq=x", "since_seq"),
        ("since_seq=", "since_seq"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("epoch=" + 65 * "x", "epoch"),
        ("more=1", "Extra"),
    ],
)
async def test_bad_query(daemon, query, place):
    """It is refused, and said which part of it is wrong, without an echo."""
    status, _, body = await get(daemon, f"/history/prices?{query}")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    assert json.loads(body)["message"].startswith(place)


async def test_channels_of_the_daemon(daemon):
    """`heartbeat` has a history and no last value."""
    daemon.hub.publish(daemon.hub.heartbeat, Heartbeat(), daemon.hub.now_us())
    _, _, body = await get(daemon, "/latest/heartbeat")
    assert json.loads(body)["messages"] == []
    _, _, body = await get(daemon, "/history/heartbeat")
    assert numbers(json.loads(body)) == [1]


PAGE = "https://dashboard.example"


async def test_pages_from_elsewhere(serve):
    """Who may connect may read, tags included; a preflight is answered; others are told nothing."""
    daemon = await serve(allowed_origins=[PAGE])
    for path in ("/latest/prices", "/history/nowhere"):
        _, headers, _ = await get(daemon, path, Origin=PAGE)
        assert headers["access-control-allow-origin"] == PAGE
        assert headers["access-control-expose-headers"] == "ETag"
        assert headers["vary"] == "Origin"
        for others in ({"Origin": "https://elsewhere.example"}, {}):
            _, headers, _ = await get(daemon, path, **others)
            assert not [name for name in headers if name.startswith("access-control")]
            # So that no cache gives one page's answer to another.
            assert headers["vary"] == "Origin"
    asked = {"Access_Control_Request_Method": "GET"}
    status, headers, _ = await get(daemon, "/latest/prices", "OPTIONS", Origin=PAGE, **asked)
    assert (status, headers["access-control-allow-methods"]) == (204, "GET, POST")
    assert "If-None-Match" in headers["access-control-allow-headers"]
    status, headers, _ = await get(
        daemon, "/latest/prices", "OPTIONS", Origin="https://elsewhere.example", **asked
    )
    assert (status, "access-control-allow-origin" in headers) == (405, False)
