import asyncio

import aiohttp
import pytest

from aggregator.simulator import Simulator


async def pong(socket):
    """Everything before the pong that is asked for now."""
    await socket.send_str("ping")
    before = []
    while (message := await socket.receive()).data != "pong":
        assert message.type is aiohttp.WSMsgType.TEXT
        before.append(message.data)
    return before


async def test_mute(simulator, okx, subscribe):
    """Muted: no data of that instrument, all else goes on; cleared: data again."""
    await subscribe("trades")
    await subscribe("trades", "ETH-USDT")
    simulator.faults.add(venue="okx", kind="mute", instrument="BTC-USDT")
    simulator.tick(10)
    seen = await pong(okx)
    assert seen
    assert all("ETH-USDT" in text for text in seen)
    simulator.faults.clear()
    simulator.tick(10)
    assert any("BTC-USDT" in text for text in await pong(okx))


async def test_mute_one_channel_a_number_of_times(simulator, okx, subscribe):
    """`channel` and `count` confine a fault; used up, it is gone from the list."""
    await subscribe("trades")
    await subscribe("bbo-tbt")
    await pong(okx)
    simulator.faults.add(venue="okx", kind="mute", channel="trades", count=3)
    moves = 0
    for _ in range(30):
        simulator.tick()
        moves += simulator.market.by_symbol["BTCUSDT"].moved
    seen = await pong(okx)
    assert sum('"trades"' in text for text in seen) == moves - 3
    assert sum("bbo-tbt" in text for text in seen) == moves
    assert len(simulator.faults) == 0


async def test_drop_and_duplicate(simulator, okx, subscribe):
    """Dropped messages leave a gap, duplicated ones come twice."""
    await subscribe("trades")
    simulator.faults.add(venue="okx", kind="drop", fraction=0.5)
    simulator.tick(100)
    lossy = await pong(okx)
    assert 10 < len(lossy) < 80
    simulator.faults.clear()
    simulator.faults.add(venue="okx", kind="duplicate")
    simulator.tick(10)
    twice = await pong(okx)
    assert twice[::2] == twice[1::2]


async def test_delay_keeps_the_order(simulator, okx, subscribe):
    """Delayed data comes later than a pong, complete and in order, even once the fault is over."""
    await subscribe("trades")
    fault = simulator.faults.add(venue="okx", kind="delay", seconds=0.3)
    simulator.tick(10)
    simulator.faults.remove(fault.id)
    simulator.tick(10)
    assert await pong(okx) == []
    wanted = [trade.trade_id for trade in simulator.market.by_symbol["BTCUSDT"].recent]
    rows = []
    while not rows or int(rows[-1]["tradeId"]) < wanted[-1]:
        rows += (await okx.receive_json())["data"]
    assert [int(row["tradeId"]) for row in rows] == wanted[-len(rows) :]
    assert len(rows) > 10


@pytest.mark.parametrize(
    ("kind", "start"), [("garbage", "<garbage>"), ("bom", "\ufeff{"), ("garbage", "!")]
)
async def test_unreadable_data(simulator, okx, subscribe, kind, start):
    """Garbage and byte order marks replace or precede data messages, not answers."""
    await subscribe("trades")
    parameters = {"text": "!"} if start == "!" else {}
    simulator.faults.add(venue="okx", kind=kind, **parameters)
    simulator.tick(5)
    seen = await pong(okx)
    assert seen
    assert all(text.startswith(start) for text in seen)


async def test_a_frame_cut_in_the_middle(simulator, client):
    """Half a frame arrives, then the TCP connection ends: no message, no close frame."""
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    connected = asyncio.create_task(simulator.wait_for_connection("binance"))
    writer.write(
        b"GET /binance/ws/btcusdt@trade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    await connected
    simulator.faults.add(venue="binance", kind="truncate", count=1)
    simulator.tick(3)
    data = await reader.read()
    assert data[0] == 0x81
    announced = int.from_bytes(data[2:4], "big") if data[1] == 126 else data[1]
    assert 0 < len(data) < announced
    writer.close()
    await writer.wait_closed()


async def test_halfopen(simulator, okx, subscribe):
    """Nothing comes, no pong either, and nothing closes; when it ends, the socket is cut off."""
    await subscribe("trades")
    fault = simulator.faults.add(venue="okx", kind="halfopen", count=1)
    simulator.tick(10)
    await okx.send_str("ping")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await okx.receive()
    assert simulator.connections("okx") == 1
    assert [one.id for one in simulator.faults] == [fault.id]
    simulator.faults.remove(fault.id)
    # What came meanwhile is not skipped: no TCP connection does that.
    assert (await okx.receive()).type is aiohttp.WSMsgType.CLOSED


@pytest.mark.parametrize("data", [False, True])
async def test_noack_okx(simulator, okx, data):
    """Never acknowledged; with `data` the channel works all the same."""
    simulator.faults.add(venue="okx", kind="noack", channel="tickers", data=data, count=1)
    arg = {"channel": "tickers", "instId": "BTC-USDT"}
    await okx.send_json({"op": "subscribe", "args": [arg]})
    seen = await pong(okx)
    assert len(seen) == int(data)
    assert not any("event" in text for text in seen)


async def test_noack_binance(simulator, client):
    """The answer to SUBSCRIBE stays out, the next command is answered."""
    simulator.faults.add(venue="binance", kind="noack", count=1)
    async with client.ws_connect(f"{simulator.binance_ws_url}/ws") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@depth5"], "id": 1})
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert await socket.receive_json() == {"result": [], "id": 2}


async def test_nopong(simulator, okx, subscribe):
    """Neither text pings nor protocol pings are answered, while data goes on."""
    await subscribe("trades")
    simulator.faults.add(venue="okx", kind="nopong", count=1)
    seen = asyncio.create_task(simulator.wait_for_command("okx", "ping"))
    await okx.send_str("ping")
    await seen
    simulator.tick(4)
    assert (await okx.receive_json())["arg"]["channel"] == "trades"
    assert "pong" not in await pong(okx)


async def test_notice_then_close(simulator, okx, recorded):
    """64008 with the recorded words, then the close."""
    wanted = recorded("errors/okx-ws-events.ndjson")[4]
    simulator.faults.add(venue="okx", kind="notice", after_s=0.01, code=1012)
    notice = await okx.receive_json()
    assert f'"msg":"{notice["msg"]}","code":"64008"' in wanted
    assert (await okx.receive()).type is aiohttp.WSMsgType.CLOSE
    assert okx.close_code == 1012
    assert len(simulator.faults) == 0


@pytest.mark.parametrize("path", ["ws/btcusdt@trade", "stream?streams=btcusdt@trade"])
async def test_shutdown_then_close(simulator, client, path):
    """The event serverShutdown comes raw or under its stream name, then the close."""
    async with client.ws_connect(f"{simulator.binance_ws_url}/{path}") as socket:
        simulator.faults.add(venue="binance", kind="shutdown", after_s=0.01)
        message = await socket.receive_json()
        if path.startswith("stream"):
            assert message["stream"] == "!serverShutdown"
            message = message["data"]
        assert message["e"] == "serverShutdown"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_close_now_and_at_the_next_connection(simulator, client, okx):
    """Open ones close at once; with a count left the next connection is closed as well."""
    simulator.faults.add(venue="okx", kind="close", code=4006, reason="why", count=2)
    message = await okx.receive()
    assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 4006, "why")
    async with client.ws_connect(simulator.okx_url) as socket:
        assert (await socket.receive()).data == 4006
    assert len(simulator.faults) == 0


async def test_a_slow_consumer_is_dropped(client):
    """Who does not read is closed with 4005 instead of filling memory."""
    async with Simulator(ticks_per_s=0, max_buffered_bytes=10_000) as simulator:
        accepted = asyncio.create_task(simulator.wait_for_connection("okx"))
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port, limit=1024)
        writer.write(
            b"GET /okx/ws/v5/public HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        connection = await accepted
        rounds = 0
        while not connection.closing:
            connection.push(b"", b"x" * 100_000, "tickers", "BTCUSDT")
            connection.flush()
            rounds += 1
            assert rounds < 1000
        data = await reader.read()
        assert data.endswith(b"\x0f\xa5buffer full")
        writer.close()
        await writer.wait_closed()
