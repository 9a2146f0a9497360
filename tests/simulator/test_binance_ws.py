import json

import aiohttp
import pytest

from aggregator.simulator import Simulator


@pytest.fixture
def stream(simulator, client):
    def connect(path):
        return client.ws_connect(f"{simulator.binance_ws_url}/{path}", max_msg_size=0)

    return connect


def kinds(value):
    if isinstance(value, dict):
        return {key: type(inner) for key, inner in value.items()}
    return type(value)


async def test_diffs_follow_the_rest_book(simulator, client, stream):
    """Diffs applied by the documented rule to a REST snapshot give the later REST snapshot."""
    url = f"{simulator.binance_url}/api/v3/depth?symbol=BTCUSDT&limit=5000"
    async with stream("ws/btcusdt@depth@100ms") as socket:
        simulator.tick(5)
        async with client.get(url) as response:
            snapshot = await response.json()
        simulator.tick(60)
        async with client.get(url) as response:
            final = await response.json()
        book = {side: dict(snapshot[side]) for side in ("bids", "asks")}
        local = snapshot["lastUpdateId"]
        previous = None
        while local < final["lastUpdateId"]:
            diff = await socket.receive_json()
            assert previous is None or diff["U"] == previous + 1
            previous = diff["u"]
            if diff["u"] <= local:
                continue
            assert diff["U"] <= local + 1
            for side, key in (("bids", "b"), ("asks", "a")):
                book[side].update(diff[key])
            local = diff["u"]
        for side, levels in book.items():
            rest = {price: size for price, size in levels.items() if float(size)}
            assert rest == dict(final[side])


async def test_slow_diffs_bracket_the_snapshot(client):
    """A 1000 ms diff that began before the snapshot ends after it: U <= last + 1 <= u."""
    async with Simulator(ticks_per_s=0.0) as simulator:
        url = f"{simulator.binance_ws_url}/ws/ethusdt@depth"
        async with client.ws_connect(url) as socket:
            for _ in range(3):
                simulator.tick()
            rest = f"{simulator.binance_url}/api/v3/depth?symbol=ETHUSDT"
            async with client.get(rest) as response:
                last = (await response.json())["lastUpdateId"]
            simulator.tick(3)
            diffs = [await socket.receive_json() for _ in range(3)]
            diffs = [diff for diff in diffs if diff["u"] > last] or [await socket.receive_json()]
            assert diffs[0]["U"] <= last + 1 <= diffs[0]["u"]


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("btcusdt@trade", "trade"),
        ("btcusdt@aggTrade", "aggTrade"),
        ("btcusdt@ticker", "24hrTicker"),
        ("btcusdt@miniTicker", "24hrMiniTicker"),
        ("btcusdt@depth", "depthUpdate"),
        ("btcusdt@depth@100ms", "depthUpdate"),
    ],
)
async def test_events_have_the_documented_fields(simulator, stream, recorded, name, event):
    """Every event has exactly the fields and types of the official examples."""
    examples = [
        message
        for message in map(json.loads, recorded("binance/doc-official-web-socket-streams.ndjson"))
        if isinstance(message, dict) and message.get("e") == event
    ]
    async with stream(f"ws/{name}") as socket:
        simulator.tick(5)
        assert kinds(await socket.receive_json()) == kinds(examples[0])


@pytest.mark.parametrize("levels", [5, 10, 20])
async def test_partial_depth(simulator, stream, levels):
    """Partial depth has as many levels as asked for, an id and no time."""
    async with stream(f"stream?streams=btcusdt@depth{levels}@100ms") as socket:
        simulator.tick()
        message = await socket.receive_json()
        assert message["stream"] == f"btcusdt@depth{levels}@100ms"
        assert set(message["data"]) == {"lastUpdateId", "bids", "asks"}
        assert len(message["data"]["bids"]) == len(message["data"]["asks"]) == levels


async def test_book_ticker_equals_the_top_of_the_book(simulator, stream):
    """Book ticker and partial depth of one step agree; the book ticker has no time."""
    async with stream("stream?streams=btcusdt@bookTicker/btcusdt@depth5") as socket:
        for _ in range(20):
            simulator.tick()
        pairs = {}
        for _ in range(30):
            message = await socket.receive_json()
            data = message["data"]
            if "u" in data:
                assert set(data) == {"u", "s", "b", "B", "a", "A"}
                pairs[data["u"]] = [data["b"], data["B"]]
            elif data["lastUpdateId"] in pairs:
                assert pairs[data["lastUpdateId"]] == data["bids"][0]
        assert pairs


async def test_all_mini_tickers_is_an_array(simulator, stream):
    """`!miniTicker@arr` brings all that changed in one array."""
    async with stream("ws/!miniTicker@arr") as socket:
        simulator.tick()
        rows = await socket.receive_json()
        assert len(rows) > 10
        assert {row["e"] for row in rows} == {"24hrMiniTicker"}


async def test_subscribe_list_unsubscribe(simulator, stream):
    """The three commands are answered with result and id, and do what they say."""
    async with stream("ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1})
        assert await socket.receive_json() == {"result": None, "id": 1}
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": "a"})
        assert await socket.receive_json() == {"result": ["btcusdt@trade"], "id": "a"}
        simulator.tick(3)
        assert (await socket.receive_json())["e"] == "trade"
        await socket.send_json({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 2})
        message = await socket.receive_json()
        while "result" not in message:
            message = await socket.receive_json()
        await socket.send_json({"method": "SET_PROPERTY", "params": ["combined", True], "id": 3})
        assert (await socket.receive_json())["result"] is None
        await socket.send_json({"method": "GET_PROPERTY", "params": ["combined"], "id": 4})
        assert await socket.receive_json() == {"result": True, "id": 4}


async def test_a_misspelt_stream_is_acknowledged_and_silent(simulator, stream):
    """The venue acknowledges what does not exist; only the names in exchangeInfo help."""
    async with stream("ws") as socket:
        names = ["nopeusdt@trade", "BTCUSDT@trade", "btcusdt@nope"]
        await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
        assert (await socket.receive_json())["result"] is None
        simulator.tick(3)
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert (await socket.receive_json())["result"] == names


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 3),
        ("[]", 2),
        ('{"id":1}', 2),
        ('{"method":"NOPE","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":"x","id":1}', 2),
        ('{"method":"SUBSCRIBE","params":[1],"id":1}', 2),
        ('{"method":"LIST_SUBSCRIPTIONS","id":true}', 2),
        ('{"method":"GET_PROPERTY","params":["x"],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["x"],"id":1}', 0),
        ('{"method":"SET_PROPERTY","params":["combined",1],"id":1}', 1),
    ],
)
async def test_bad_commands(stream, text, code):
    """A bad command is answered with a code and a message; the connection stays."""
    async with stream("ws") as socket:
        await socket.send_str(text)
        answer = await socket.receive_json()
        assert answer["code"] == code
        assert isinstance(answer["msg"], str)


async def test_too_many_streams_are_refused(stream):
    """1,024 streams are the most for one connection."""
    async with stream("ws") as socket:
        names = [f"x{number}@trade" for number in range(1025)]
        await socket.send_json({"method": "SUBSCRIBE", "params": names, "id": 1})
        assert (await socket.receive_json())["code"] == 2


async def test_six_messages_a_second_disconnect(stream):
    """The sixth message within a second ends the connection."""
    async with stream("ws") as socket:
        for number in range(6):
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        answers = [await socket.receive() for _ in range(6)]
        assert [answer.type for answer in answers[:5]] == [aiohttp.WSMsgType.TEXT] * 5
        assert answers[5].type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1008


async def test_the_server_pings_and_wants_the_pong(client):
    """A ping comes by itself; without the pong to it the connection ends."""
    options = {"binance_ping_s": 0.05, "binance_pong_timeout_s": 0.5}
    async with Simulator(ticks_per_s=0, **options) as simulator:
        url = f"{simulator.binance_ws_url}/ws/btcusdt@trade"
        async with client.ws_connect(url, autoping=False) as socket:
            for _ in range(2):
                ping = await socket.receive()
                assert ping.type is aiohttp.WSMsgType.PING
                assert ping.data.isdigit()
                await socket.pong(ping.data)
            assert (await socket.receive()).type is aiohttp.WSMsgType.PING
            await socket.pong(b"unsolicited")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
