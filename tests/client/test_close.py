"""Closing never hangs, and leaves nothing behind."""

import asyncio
import contextlib
import time

import pytest
from client.daemons import PATIENCE_S, price, reached

from aggregator.client import Client, ClosedError, Options

QUICK_S = 2.0
"""Far more than closing may take, with `close_timeout_s` as here."""
OPTIONS = Options(close_timeout_s=0.1, first_wait_s=0.01, max_wait_s=0.02)


@contextlib.contextmanager
def quickly():
    """Hold the block to its time, and let no task be left."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < QUICK_S
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("client")]


async def test_it_says_farewell(daemon):
    """With 1000; iterations come to their ends, behind what is left."""
    async with Client(daemon.url, OPTIONS) as client:
        subscription = client.subscribe("btc")
        messages = aiter(subscription)
        waiting = asyncio.create_task(anext(messages, None))
        await daemon.until(lambda: any(daemon.wants.values()))
        [socket] = daemon.sockets
        with quickly():
            await client.close()
        assert await waiting is None
        assert [m async for m in subscription] == []
    await daemon.until(lambda: not daemon.sockets)
    assert socket.close_code == 1000
    await client.close()


async def test_what_was_there_can_still_be_taken(daemon, take):
    """Closing throws nothing away."""
    async with Client(daemon.url, OPTIONS) as client:
        subscription = client.subscribe("btc")
        await daemon.until(lambda: any(daemon.wants.values()))
        await daemon.publish()
        await daemon.publish()
        await reached(lambda: client.counters.messages >= 2)
    assert [m.seq for m in await take(subscription, 3)] == [1, 2]


async def test_a_dead_peer(daemon):
    """It neither reads nor answers the farewell."""
    stuck = asyncio.Event()

    async def script(socket):
        socket._req.transport.pause_reading()
        await stuck.wait()

    daemon.script = script
    client = Client(daemon.url, OPTIONS)
    await client.connect()
    client.subscribe("btc")
    with quickly():
        await client.close()
    stuck.set()


async def test_while_it_waits_to_connect_again(daemon):
    """The wait is not waited for."""
    client = Client(daemon.url, Options(first_wait_s=600, max_wait_s=600, close_timeout_s=0.1))
    await client.connect()
    await daemon.stop()
    await reached(lambda: client.state.name == "waiting")
    with quickly():
        await client.close()
    await daemon.start()


async def test_in_the_middle_of_a_handshake(hanging_url):
    """Opened and closed by two tasks: who opens is told."""
    client = Client(hanging_url, OPTIONS)
    opening = asyncio.create_task(client.connect())
    await asyncio.sleep(0.02)
    with quickly():
        await client.close()
        with pytest.raises(ClosedError):
            await opening


async def test_a_start_that_is_cancelled(daemon):
    """Leaves no task."""
    daemon.status = 503
    opening = asyncio.create_task(Client(daemon.url, OPTIONS).connect())
    await asyncio.sleep(0.02)
    with quickly():
        opening.cancel()
        await asyncio.wait([opening])
    assert opening.cancelled()


async def test_from_a_callback(daemon):
    """`wait` comes to its end; so it does from `on_state`, by a task."""
    client = Client(daemon.url, OPTIONS)
    await client.connect()
    called = []

    async def enough(message):
        called.append(message.seq)
        await client.close()

    client.on_price = enough
    client.subscribe("btc")
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    await daemon.publish()
    await reached(lambda: client.counters.messages == 2)
    async with asyncio.timeout(PATIENCE_S):
        await client.wait()
    assert called == [1]
    with quickly():
        await client.close()


async def test_from_the_state_callback(daemon):
    """In the client's own task, by another one."""
    client = Client(daemon.url, OPTIONS)
    closing = []

    def enough(state):
        if state.name == "waiting":
            closing.append(asyncio.create_task(client.close()))

    client.on_state = enough
    await client.connect()
    await daemon.cut()
    async with asyncio.timeout(PATIENCE_S):
        await client.wait()
    with quickly():
        await asyncio.gather(*closing)
    assert client.state.name == "closed"


async def test_with_a_full_buffer(daemon):
    """A reader that waits for room is not waited for."""
    client = Client(daemon.url, Options(buffer=1, close_timeout_s=0.1))
    await client.connect()
    client.subscribe("btc")
    await daemon.until(lambda: any(daemon.wants.values()))
    for seq in range(1, 100):
        await daemon.say(price(seq))
    await reached(lambda: client.readers.inbox.full)
    with quickly():
        await client.close()


async def test_a_session_of_yours_stays_yours(daemon):
    """It is not closed; many clients may share it."""
    import aiohttp  # noqa: PLC0415 - for this test alone

    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with Client(daemon.url, OPTIONS, session=session):
                pass
        assert not session.closed


async def test_an_exception_in_the_block(daemon):
    """Goes on its way, and the client is closed."""
    with pytest.raises(ZeroDivisionError):
        async with Client(daemon.url, OPTIONS) as client:
            raise ZeroDivisionError
    assert client.state.name == "closed"
