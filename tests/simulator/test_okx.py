import asyncio
import json

import aiohttp
import pytest

from aggregator.simulator import Simulator


async def take(socket, channel, count):
    """`count` data messages of `channel`, whatever comes between."""
    found = []
    while len(found) < count:
        message = await socket.receive_json()
        if message.get("arg", {}).get("channel") == channel and "data" in message:
            found.append(message)
    return found


async def test_each_argument_is_acknowledged(okx):
    """One acknowledgement per argument, with arg, connId and the id that was sent."""
    args = [{"channel": "trades", "instId": name} for name in ("BTC-USDT", "ETH-USDT", "BTC-USDT")]
    await okx.send_json({"id": "a1", "op": "subscribe", "args": args})
    acks = [await okx.receive_json() for _ in args]
    assert [ack["arg"] for ack in acks] == args
    assert {(ack["event"], ack["id"], ack["connId"]) for ack in acks} == {
        ("subscribe", "a1", acks[0]["connId"])
    }
    await okx.send_json({"op": "unsubscribe", "args": args[:1]})
    answer = await okx.receive_json()
    assert answer == {"event": "unsubscribe", "arg": args[0], "connId": acks[0]["connId"]}


async def test_an_unknown_channel_is_answered_as_recorded(okx, recorded):
    """60018 has the recorded wording and no `arg`, for channels and instruments alike."""
    real = json.loads(recorded("errors/okx-ws-events.ndjson")[0])
    for channel, name in (("nope", "BTC-USDT"), ("tickers", "NOPE-USDT"), ("candle1m", "BTC-USDT")):
        arg = {"channel": channel, "instId": name}
        await okx.send_json({"op": "subscribe", "args": [arg]})
        answer = await okx.receive_json()
        wanted = real["msg"].replace("tickers", channel).replace("BTC-USDT", name)
        assert answer == real | {"msg": wanted, "connId": answer["connId"]}


@pytest.mark.parametrize(
    "text",
    [
        "not JSON",
        "[]",
        '{"op":"dance","args":[{}]}',
        '{"op":"subscribe"}',
        '{"op":"subscribe","args":[]}',
        '{"op":"subscribe","args":[1]}',
        '{"id":"no-hyphens","op":"subscribe","args":[{}]}',
    ],
)
async def test_bad_requests(okx, text):
    """What is no request is answered with 60012, and the connection stays."""
    await okx.send_str(text)
    answer = await okx.receive_json()
    assert (answer["event"], answer["code"]) == ("error", "60012")
    await okx.send_str("ping")
    assert (await okx.receive()).data == "pong"


async def test_too_many_requests_an_hour(client):
    """The 481st request of an hour is answered with 60014; here the third."""
    async with (
        Simulator(ticks_per_s=0, okx_requests_per_hour=2) as simulator,
        client.ws_connect(simulator.okx_url) as socket,
    ):
        request = {"op": "unsubscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]}
        for _ in range(3):
            await socket.send_json(request)
        events = [await socket.receive_json() for _ in range(3)]
        assert [event.get("code") for event in events] == [None, None, "60014"]


async def test_silence_ends_the_connection(client):
    """Without any push or request the connection ends with 4004; pings prevent it."""
    async with (
        Simulator(ticks_per_s=0, okx_idle_s=0.3) as simulator,
        client.ws_connect(simulator.okx_url) as socket,
    ):
        await socket.send_str("ping")
        assert (await socket.receive()).data == "pong"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4004


async def test_ticker_fields(simulator, okx, subscribe, recorded):
    """A ticker comes at once and after each step, with the recorded fields, all text."""
    real = next(
        message
        for message in map(json.loads, recorded("okx/cf-2021-07-22-public-books-l2-tbt.ndjson"))
        if "data" in message and message["arg"]["channel"] == "tickers"
    )
    await subscribe("tickers")
    simulator.tick(5)
    for message in await take(okx, "tickers", 3):
        assert set(message) == {"arg", "data"}
        assert set(message["data"][0]) == set(real["data"][0])
        assert all(isinstance(value, str) for value in message["data"][0].values())


async def test_trades(simulator, okx, subscribe):
    """Trades carry growing ids and the side of the taker."""
    await subscribe("trades")
    simulator.tick(30)
    rows = [message["data"][0] for message in await take(okx, "trades", 20)]
    identities = [int(row["tradeId"]) for row in rows]
    assert identities == sorted(set(identities))
    assert {row["side"] for row in rows} == {"buy", "sell"}
    assert set(rows[0]) == {
        "instId",
        "tradeId",
        "px",
        "sz",
        "side",
        "ts",
        "count",
        "source",
        "seqId",
    }


@pytest.mark.parametrize(("channel", "levels"), [("bbo-tbt", 1), ("books5", 5)])
async def test_top_of_book_channels(simulator, okx, subscribe, channel, levels):
    """They give their number of levels each time, without action and prevSeqId."""
    await subscribe(channel)
    simulator.tick(5)
    for message in await take(okx, channel, 3):
        row = message["data"][0]
        assert set(message) == {"arg", "data"}
        assert set(row) - {"instId"} == {"asks", "bids", "ts", "seqId"}
        assert len(row["asks"]) == len(row["bids"]) == levels


async def test_books_chain_and_rebuild(simulator, client, okx, subscribe):
    """Snapshot of 400 levels, then updates that chain and rebuild the book REST gives."""
    await subscribe("books")
    simulator.tick(50)
    first = await okx.receive_json()
    row = first["data"][0]
    assert first["action"] == "snapshot"
    assert row["prevSeqId"] == -1
    assert len(row["asks"]) == len(row["bids"]) == 400
    url = f"{simulator.okx_rest_url}/api/v5/market/books?instId=BTC-USDT&sz=20"
    async with client.get(url) as response:
        wanted = (await response.json())["data"][0]
    book = {side: {level[0]: level for level in row[side]} for side in ("asks", "bids")}
    sequence = row["seqId"]
    while sequence != wanted["seqId"]:
        message = await okx.receive_json()
        row = message["data"][0]
        assert message["action"] == "update"
        assert row["prevSeqId"] == sequence
        assert "checksum" not in row
        sequence = row["seqId"]
        for side, levels in book.items():
            levels.update({level[0]: level for level in row[side]})
    for side, levels in book.items():
        left = [level for level in levels.values() if level[1] != "0"]
        left.sort(key=lambda level: float(level[0]), reverse=side == "bids")
        assert left[:20] == wanted[side]


async def test_a_second_reader_keeps_both_chains(simulator, client, okx, subscribe):
    """A later subscriber gets a snapshot; neither chain has a gap."""
    await subscribe("books")
    simulator.tick(3)
    async with client.ws_connect(simulator.okx_url, max_msg_size=0) as other:
        request = {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]}
        for _ in range(2):
            subscribed = asyncio.create_task(simulator.wait_for_command("okx", "subscribe"))
            await other.send_json(request)
            await subscribed
            simulator.tick(10)
        for socket, snapshots in ((okx, 1), (other, 2)):
            sequence, seen = None, 0
            for message in await take(socket, "books", 15):
                row = message["data"][0]
                seen += message["action"] == "snapshot"
                assert row["prevSeqId"] == (-1 if message["action"] == "snapshot" else sequence)
                sequence = row["seqId"]
            assert seen == snapshots


async def test_books_are_the_best_400(simulator, client, okx, subscribe):
    """No more and no fewer: each update says what enters the best 400 levels, and what leaves."""
    await subscribe("books")
    held = {}

    def apply(message):
        row = message["data"][0]
        for side in ("bids", "asks"):
            levels = held.setdefault(side, {})
            for price, size, *_ in row[side]:
                if size == "0":
                    del levels[price]
                else:
                    levels[price] = size
            assert len(levels) == 400
        return row["seqId"]

    # Far enough for levels that nobody was told of at first.
    simulator.tick(600)
    url = f"{simulator.okx_rest_url}/api/v5/market/books?instId=BTC-USDT&sz=400"
    async with client.get(url) as response:
        wanted = (await response.json())["data"][0]
    sequence = None
    while sequence != wanted["seqId"]:
        sequence = apply(*await take(okx, "books", 1))
    for side, levels in held.items():
        assert levels == {price: size for price, size, *_ in wanted[side]}


async def test_unsubscribed_is_silent(simulator, okx, subscribe):
    """After the acknowledgement of unsubscribe nothing of that channel comes."""
    await subscribe("tickers")
    await take(okx, "tickers", 1)
    arg = {"channel": "tickers", "instId": "BTC-USDT"}
    await okx.send_json({"op": "unsubscribe", "args": [arg]})
    assert (await okx.receive_json())["event"] == "unsubscribe"
    simulator.tick(5)
    await okx.send_str("ping")
    assert (await okx.receive()).data == "pong"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("market/tickers?instType=SPOT", 200, "0"),
        ("market/tickers", 400, "50014"),
        ("market/tickers?instType=NOPE", 400, "51000"),
        ("market/ticker?instId=BTC-USDT", 200, "0"),
        ("market/ticker", 400, "50014"),
        ("market/books?instId=BTC-USDT&sz=400", 200, "0"),
        ("market/books?instId=BTC-USDT&sz=x", 400, "51000"),
        ("market/trades?instId=BTC-USDT", 200, "0"),
        ("public/instruments?instType=SPOT&instId=BTC-USDT", 200, "0"),
        ("public/instruments?instType=SPOT&instId=NOPE", 200, "51001"),
        ("public/time", 200, "0"),
    ],
)
async def test_rest(simulator, client, path, status, code):
    """Every endpoint answers with code, msg and data."""
    async with client.get(f"{simulator.okx_rest_url}/api/v5/{path}") as response:
        assert response.status == status
        body = await response.json()
        assert set(body) == {"code", "msg", "data"}
        assert body["code"] == code
        assert bool(body["data"]) == (code == "0")


async def test_rest_matches_recordings(simulator, client, recorded):
    """An unknown instrument and the fields of an instrument are as recorded."""
    base = f"{simulator.okx_rest_url}/api/v5"
    async with client.get(f"{base}/market/ticker?instId=NOPE-USDT") as response:
        assert await response.json() == recorded("errors/okx-200-51001-no-instrument.json")
    async with client.get(f"{base}/public/instruments?instType=SPOT") as response:
        rows = (await response.json())["data"]
    real = recorded("okx/http/instruments-SPOT-2021-07-22.json")["data"]
    assert set(real[0]) <= set(rows[0])


async def test_older_trades(simulator, client):
    """`history-trades` goes back from a number, or a time, newest first, a page at a time."""
    simulator.tick(200)
    kept = [trade.trade_id for trade in reversed(simulator.market.by_okx_id["BTC-USDT"].recent)]

    async def page(**query):
        query = {"instId": "BTC-USDT"} | query
        url = f"{simulator.okx_rest_url}/api/v5/market/history-trades"
        async with client.get(url, params=query) as response:
            body = await response.json()
            return [int(row["tradeId"]) for row in body["data"]], body["code"]

    first, _ = await page()
    assert first == kept[:100]
    assert await page(type="1", after=str(first[-1])) == (kept[100:200], "0")
    assert await page(after=str(kept[3]), before=str(kept[7]), limit="50") == (kept[4:7], "0")
    assert await page(type="2", after="1") == ([], "0")
    assert (await page(limit="101"))[1] == "51000"
