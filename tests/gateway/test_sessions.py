"""Commands over a real socket: order of the answers, the short form, and the end."""

from __future__ import annotations

import asyncio

import pytest
from gateway.wsclient import CLOSE, Client, Gone, eventually, frame, handshake

from aggregator.gateway.protocol import Close


async def test_acknowledgement_snapshot_and_then_all_that_follows(daemon):
    """In this order, the position in the acknowledgement being that of the snapshot."""
    daemon.publish(1)
    daemon.publish(2, "ETH/USDT")
    daemon.publish(3)
    async with await daemon.connect() as client:
        await client.send({"type": "subscribe", "channels": ["prices", "system"], "id": "x"})
        answer = await client.receive()
        assert answer == {
            "type": "subscribed",
            "channels": ["prices", "system"],
            "positions": {
                "prices": {"epoch": daemon.hub.epoch, "seq": 3},
                "system": {"epoch": daemon.hub.epoch, "seq": 0},
            },
            "id": "x",
        }
        daemon.publish(4)
        assert [(await client.receive())["seq"] for _ in range(3)] == [2, 3, 4]


async def test_answer_without_an_id(daemon):
    """Where no id is given, none is answered."""
    async with await daemon.connect() as client:
        assert "id" not in await client.subscribe("prices")


async def test_good_and_bad_channels_in_one_command(daemon):
    """The good ones are kept, each bad one is refused by name, all with the id; then the values."""
    daemon.publish(1)
    async with await daemon.connect() as client:
        names = ["nothing", "prices", "prices:NO/NE", "prices", "nothing"]
        await client.send({"type": "subscribe", "channels": names, "id": 5})
        answers = [await client.receive() for _ in range(4)]
        assert answers[0]["channels"] == ["prices"]
        refused = [(a["code"], a["channel"], a["id"]) for a in answers[1:3]]
        expected = [("unknown_channel", "nothing", 5), ("unknown_channel", "prices:NO/NE", 5)]
        assert refused == expected
        assert answers[3]["seq"] == 1
        assert daemon.counters.refused["unknown_channel"] == 2
        await client.pinged()


async def test_only_bad_channels(daemon):
    """There is no acknowledgement of nothing."""
    async with await daemon.connect() as client:
        answer = await client.ask({"type": "subscribe", "channels": ["nothing"]})
        assert answer["code"] == "unknown_channel"
        await client.pinged()


async def test_subscribing_twice(daemon):
    """It is no error and sends the snapshot again; later messages come once."""
    daemon.publish(1)
    async with await daemon.connect() as client:
        for _ in range(2):
            await client.subscribe("prices", "prices:BTC/USDT", "*:BTC/USDT")
            assert (await client.receive())["seq"] == 1
        daemon.publish(2)
        assert (await client.receive())["seq"] == 2
        await client.pinged()


async def test_unsubscribe(daemon):
    """After the acknowledgement nothing more comes of it; what was not subscribed is no fault."""
    async with await daemon.connect() as client:
        await client.subscribe("prices", "others")
        daemon.publish(1)
        await client.send({"type": "unsubscribe", "channels": ["prices", "prices", "no"], "id": 3})
        *before, answer = await client.until(type="unsubscribed")
        assert [message["seq"] for message in before] == [1]
        assert answer == {"type": "unsubscribed", "channels": ["prices", "no"], "id": 3}
        daemon.publish(2)
        daemon.publish(3, channel=daemon.other)
        assert (await client.receive())["channel"] == "others"
        await client.pinged()


async def test_one_reason_of_two_is_left(daemon):
    """Who unsubscribes a channel but not an instrument of it goes on getting the instrument."""
    async with await daemon.connect() as client:
        await client.subscribe("prices", "prices:BTC/USDT")
        await client.send({"type": "unsubscribe", "channels": ["prices"]})
        await client.until(type="unsubscribed")
        daemon.publish(1, "ETH/USDT")
        daemon.publish(2)
        assert (await client.receive())["seq"] == 2


async def test_short_form(daemon):
    """`/ws/ticker`: a symbol on every channel of prices."""
    daemon.publish(1)
    async with await daemon.connect("/ws/ticker") as client:
        answer = await client.ask({"action": "subscribe", "symbol": "BTC/USDT"})
        assert answer == {"status": "subscribed", "symbol": "BTC/USDT"}
        assert (await client.receive())["channel"] == "prices"
        daemon.publish(2, channel=daemon.other)
        assert (await client.receive())["channel"] == "others"
        answer = await client.ask({"action": "unsubscribe", "symbol": "BTC/USDT"})
        assert answer == {"status": "unsubscribed", "symbol": "BTC/USDT"}
        daemon.publish(3)
        daemon.publish(4, "NEW/COIN", daemon.open_ended)
        answer = await client.ask({"action": "subscribe", "symbol": "NO/NE"})
        assert answer["code"] == "unknown_channel"
        assert (await client.ask({"type": "ping"}))["code"] == "bad_command"
        assert daemon.counters.refused == {"unknown_channel": 1, "bad_command": 1}


async def test_audiences_are_shared(daemon):
    """The same set of subscriptions, in whatever order they came, is one audience."""
    async with await daemon.connect() as one, await daemon.connect() as two:
        await one.subscribe("prices", "others")
        await two.subscribe("others")
        await two.subscribe("prices")
        assert [a.key.wants for a in daemon.hub.audiences] == [frozenset({"prices", "others"})]
        assert daemon.hub.subscribers(daemon.channel) == 2


@pytest.mark.parametrize("answering", [True, False])
async def test_stop(serve, answering):
    """Everybody gets 1001, also who lags; all have ended within the time given."""
    daemon = await serve()
    clients = [await daemon.connect(receive_buffer=4096) for _ in range(5)]
    stalled = clients[0]
    await stalled.subscribe("others")
    while not daemon.sessions.lagging:
        daemon.publish(1, channel=daemon.other, data=b'"%b"' % (b"x" * 30_000))
        await asyncio.sleep(0)
    try:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            stop = group.create_task(daemon.sessions.stop(0.3))
            if answering:
                for client in clients[1:]:
                    code, reason = await client.closed()
                    assert (code, reason) == (1001, "the daemon stops")
                with pytest.raises(Gone, match="1001"):
                    await stalled.until(type="never")
            await stop
        await eventually(lambda: not len(daemon.sessions))
        assert daemon.counters.closed == {1001: 5}
        assert not daemon.sessions._timers
        await daemon.sessions.stop(0.3)
    finally:
        for client in clients:
            client.sock.close()


async def test_stop_waits_for_who_answers(daemon):
    """The stop ends as soon as the last client has answered."""
    async with await daemon.connect() as client, asyncio.timeout(10):
        stop = asyncio.create_task(daemon.sessions.stop(1000))
        assert (await client.closed())[0] == Close.GOING_AWAY
        await stop


async def test_stop_in_the_middle_of_a_close(daemon):
    """A session that is being closed for another reason keeps its code."""
    async with await daemon.connect() as client:
        (session,) = daemon.sessions._everybody
        session.close(Close.SLOW_CONSUMER, "slow consumer")
        stop = asyncio.create_task(daemon.sessions.stop(10))
        assert (await client.closed())[0] == Close.SLOW_CONSUMER
        await stop
        assert daemon.counters.closed == {4008: 1}


async def test_commands_after_a_close(daemon):
    """Of a client that has been told to go nothing but its own close is looked at."""
    async with await daemon.connect() as client:
        (session,) = daemon.sessions._everybody
        session.close(Close.SLOW_CONSUMER, "slow consumer")
        await client.send({"type": "subscribe", "channels": ["prices"]})
        assert (await client.closed())[0] == Close.SLOW_CONSUMER
        assert not daemon.counters.commands
        assert not len(daemon.hub.audiences)


async def test_forgotten_once(daemon):
    """A session that is forgotten twice is counted out once."""
    async with await daemon.connect() as one, await daemon.connect():
        (first, _) = sorted(daemon.sessions._everybody, key=id)
        daemon.sessions.forget(first)
        daemon.sessions.forget(first)
        assert len(daemon.sessions) == 1
        assert sum(daemon.sessions._per_address.values()) == 1
        del one
        first.abort()


async def test_write_to_a_transport_that_is_gone(daemon):
    """It is no error for the one who publishes, and the others get theirs."""
    async with await daemon.connect() as gone, await daemon.connect() as client:
        await gone.subscribe("prices")
        await client.subscribe("prices")
        for session in daemon.sessions._everybody:
            if session.transport.get_extra_info("peername") == gone.sock.getsockname():
                session.transport.write_eof()
        for i in range(3):
            daemon.publish(i)
            assert (await client.receive())["seq"] == i + 1
        assert daemon.hub.failed_writes == 3


async def test_pause_of_reading_ends_with_the_connection(daemon):
    """Nothing is read on from a transport that has closed meanwhile."""
    async with await daemon.connect():
        (session,) = daemon.sessions._everybody
        transport = session.transport
        daemon.sessions.pause_reading(transport, 0.01)
        daemon.sessions.pause_reading(transport, 0.01)
        assert daemon.counters.read_pauses == 1
        transport.abort()
        daemon.sessions.pause_reading(transport, 0.01)
        await eventually(lambda: not daemon.sessions._timers)
        assert daemon.counters.read_pauses == 1


async def test_handshake_of_two_at_once(daemon):
    """Two clients whose bytes come interleaved do not see each other's."""
    async with await Client.open(daemon.port) as one, await Client.open(daemon.port) as two:
        request = handshake()
        for i in range(0, len(request), 16):
            await one.write(request[i : i + 16])
            await two.write(request[i : i + 16])
        for client in (one, two):
            assert (await client.head())[0] == 101
            await client.pinged()


async def test_abort_of_what_has_ended(daemon):
    """A connection that ended by itself is not cut any more: asyncio's transport can't bear it."""
    loop = asyncio.get_running_loop()
    faults: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: faults.append(context))
    async with await daemon.connect(receive_buffer=4096) as client:
        (session,) = daemon.sessions
        session.write(bytes(8_000_000))
        await client.write(frame(b"\x03\xe8", CLOSE))
        await eventually(session.transport.is_closing)
        await client.ended()
    await eventually(lambda: not len(daemon.sessions))
    daemon.sessions.abort_later(session, 0.0)
    done = asyncio.Event()
    loop.call_later(0.001, done.set)
    await done.wait()
    assert not faults
