"""Lost connections: noticed, made again with waits at random, and what is not worth a retry."""

import asyncio

import pytest
from client.daemons import PATIENCE_S, reached

from aggregator.client import Client, ClientError, Options, RefusedError, UnreachableError
from aggregator.client.attempts import Attempts


async def test_every_end_of_a_connection_is_the_begin_of_another(daemon, open_client):
    """A farewell with any code that is no reproach, and a cut."""
    client = await open_client()
    states = []
    client.on_state = lambda state: states.append(state.name)
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    for code in (1001, 1012, 4008, 4010, 1011):
        [socket] = daemon.sockets
        connections = daemon.connections
        await socket.close(code=code)
        await daemon.until(
            lambda before=connections: daemon.connections > before and any(daemon.wants.values())
        )
        await daemon.publish()
        await anext(messages)
    assert states == ["waiting", "connecting", "connected"] * 5
    assert client.counters.failures == 5


async def test_a_binary_frame_is_a_lost_connection(daemon, open_client):
    """The daemon sends none: this is another program, or another version of it."""
    client = await open_client()
    client.subscribe("btc")
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.sockets[0].send_bytes(b"\0")
    await daemon.until(lambda: daemon.connections == 2)


async def test_a_failed_login_is_the_end(daemon, open_client):
    """4001: trying again would not help."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.sockets[0].close(code=4001)
    with pytest.raises(RefusedError, match="authentication") as caught:
        await anext(messages)
    assert caught.value.status == 4001
    assert client.state.name == "closed"
    with pytest.raises(RefusedError):
        await client.wait(timeout=20)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refused_handshake_is_an_error_at_once(daemon, status):
    """With the status; nothing is tried again."""
    daemon.status = status
    with pytest.raises(RefusedError, match=str(status)) as caught:
        await Client(daemon.url).connect()
    assert caught.value.status == status


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_daemon_that_is_busy_is_tried_again(daemon, status):
    """As long as the start may take."""
    daemon.status = status
    client = Client(daemon.url, Options(first_wait_s=0.01, max_wait_s=0.01))

    def better(state):
        if state.name == "waiting":
            daemon.status = None

    client.on_state = better
    async with asyncio.timeout(PATIENCE_S), client:
        assert client.counters.failures == 1


async def test_nobody_there_is_an_error_after_a_while(daemon):
    """At the start only; by then it was tried several times."""
    await daemon.stop()
    # The breaker does not make it longer.
    times = {"start_timeout_s": 0.2, "first_wait_s": 0.01, "max_wait_s": 0.02}
    options = Options(**times, breaker_failures=5, breaker_s=600)
    client = Client(daemon.url, options)
    with pytest.raises(UnreachableError, match="can't reach"):
        await client.connect()
    assert client.counters.failures > 3
    assert client.state.name == "closed"
    await daemon.start()


@pytest.mark.parametrize("url", ["nonsense", "ws://[", "ftp://127.0.0.1/", "ws://"])
async def test_an_address_that_is_none_is_an_error_at_once(url):
    """Whatever may be tried again."""
    with pytest.raises(ClientError):
        async with asyncio.timeout(5):
            await Client(url, Options(start_timeout_s=600)).connect()


def test_waits_are_anything_up_to_a_bound_that_doubles():
    """Full jitter: many clients do not come back together."""
    options = Options(first_wait_s=0.5, max_wait_s=30, breaker_failures=100)
    for failures, bound in enumerate([0.5, 1, 2, 4, 8, 16, 30, 30, 30]):
        waits = []
        for _ in range(400):
            attempts = Attempts(options)
            attempts.failures = failures
            waits.append(attempts.failed().seconds)
        assert 0 <= min(waits) < 0.05 * bound
        assert 0.95 * bound < max(waits) <= bound
    attempts.failures = 5000
    assert attempts.failed().is_open


def test_the_breaker_opens_after_failures_in_a_row():
    """For its time at least; each single attempt that fails opens it again."""
    attempts = Attempts(Options(breaker_failures=3, breaker_s=60))
    assert [attempts.failed().is_open for _ in range(2)] == [False, False]
    assert not attempts.is_open
    for _ in range(3):
        wait = attempts.failed()
        assert wait.is_open
        assert 60 <= wait.seconds <= 90
    attempts.succeeded()
    assert not attempts.is_open
    assert not attempts.failed().is_open


async def test_the_breaker_can_be_seen(daemon, open_client):
    """Open, then one attempt, then open again; data close it."""
    client = await open_client(breaker_failures=3, breaker_s=0.02)
    states = []
    client.on_state = lambda state: states.append(state.name)
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    await anext(messages)
    await daemon.stop()
    await reached(lambda: states.count("open") >= 2)
    failed = ["connecting", "waiting"]
    assert states[:7] == ["waiting", *failed, "connecting", "open", "half_open", "open"]
    await daemon.start()
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    assert (await anext(messages)).seq == 2
    await daemon.cut()
    await daemon.until(lambda: any(daemon.wants.values()))
    assert "waiting" in states[7:], "it is closed: a failure is the first one again"


async def test_only_data_make_a_connection_a_good_one(daemon, open_client):
    """A daemon that lets everybody in and throws them out again is not stormed."""
    client = await open_client(breaker_failures=4, breaker_s=600)
    client.subscribe("btc")
    await daemon.until(lambda: any(daemon.wants.values()))

    async def thrown_out(socket):
        await socket.receive()
        ack = {"type": "subscribed", "channels": ["btc"], "positions": {}, "id": 1}
        await socket.send_json(ack)
        await socket.close()

    daemon.script = thrown_out
    await daemon.cut()
    await reached(lambda: client.state.name == "open")
    assert daemon.connections == 4


async def test_a_silent_daemon_is_asked(daemon, open_client):
    """It answers, and all is well: a quiet channel is no lost connection."""
    await open_client(ping_after_s=0.05, pong_timeout_s=0.2)
    async with asyncio.timeout(PATIENCE_S):
        await daemon.until(lambda: [c["type"] for c in daemon.commands].count("ping") == 3)
    assert daemon.connections == 1


async def test_a_dead_daemon_is_left(daemon, open_client):
    """No answer to the question is the end of the connection, not of the client."""
    daemon.silent = True
    client = await open_client(ping_after_s=0.02, pong_timeout_s=0.05)
    client.subscribe("btc")
    await daemon.until(lambda: daemon.connections == 2)
    daemon.silent = False
    await daemon.until(lambda: any(daemon.wants.values()))
    assert [c["type"] for c in daemon.commands][:2] == ["subscribe", "ping"]


async def test_who_reads_nothing_does_not_ask(daemon, open_client):
    """While the buffer is full, silence says nothing about the daemon."""
    client = await open_client(buffer=1, ping_after_s=0.02, pong_timeout_s=0.02)
    client.subscribe("btc")
    await daemon.until(lambda: any(daemon.wants.values()))
    for _ in range(2):
        await daemon.publish()
    await reached(lambda: client.readers.inbox.full)
    before = len(daemon.commands)
    await asyncio.sleep(0.2)
    assert (len(daemon.commands), daemon.connections) == (before, 1)


async def test_a_handshake_that_hangs_is_given_up(hanging_url):
    """The daemon takes the connection, and says nothing."""
    options = Options(start_timeout_s=0, connect_timeout_s=0.05)
    with pytest.raises(UnreachableError, match="TimeoutError"):
        await Client(hanging_url, options).connect()
