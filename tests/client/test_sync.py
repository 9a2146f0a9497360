"""`SyncClient`: the same, for programs without `asyncio`; the daemon runs in the test's loop."""

import asyncio
import signal
import subprocess
import sys
import threading
import time

import pytest
from client.daemons import PATIENCE_S, price

from aggregator.client import (
    Client,
    ClosedError,
    Options,
    Position,
    RefusedError,
    SubscriptionError,
    SyncClient,
    SyncSubscription,
    UnreachableError,
)
from aggregator.messages import Gap

OPTIONS = Options(first_wait_s=0.01, max_wait_s=0.05, start_timeout_s=0.0, close_timeout_s=0.5)


@pytest.fixture
def run(daemon):
    """Return a function that runs another with a client, in a thread beside the daemon."""

    async def run(function, options=OPTIONS):
        def with_client():
            with SyncClient(daemon.url, options) as client:
                return function(client)

        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.to_thread(with_client)

    return run


def public(cls):
    return {name for name in dir(cls) if not name.startswith("_")}


def test_it_has_the_same_names():
    """What one can do the other can."""
    inner = {"readers", "messages", "run"}
    one, other = Client("ws://x"), SyncClient("ws://x")
    assert public(one) - inner - {"options"} == public(other) - inner
    subscription = {"channels", "unsubscribe"}
    assert public(SyncSubscription) | {"channels"} == subscription


async def test_it_iterates(daemon, run):
    """Over what is subscribed to, in the caller's thread."""
    await daemon.publish()

    def use(client):
        found = []
        for message in client.subscribe("btc"):
            found.append((message.seq, client.state.name))
            if len(found) == 200:
                return found
        return found

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    for _ in range(199):
        await daemon.publish()
    assert await using == [(seq, "connected") for seq in range(1, 201)]


async def test_an_iteration_can_be_left_and_taken_up(daemon, run):
    """What was taken over with others is not lost."""

    def use(client):
        subscription, found = client.subscribe("btc"), []
        while len(found) < 5:
            for message in subscription:
                found.append(message.seq)
                break
        return found, client.positions()

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    for _ in range(8):
        await daemon.publish()
    found, positions = await using
    assert found == [1, 2, 3, 4, 5]
    assert positions["btc"].epoch == "first"
    assert positions["btc"].seq >= 5


async def test_callbacks_run_in_the_callers_thread(daemon, run):
    """So they need no locks; `wait` ends after its time."""
    threads = []

    def use(client):
        client.on_price = lambda message: threads.append(threading.current_thread())
        client.on_state = lambda state: threads.append(threading.current_thread())
        client.on_invalid = lambda invalid: threads.append(threading.current_thread())
        client.subscribe("btc")
        start = time.monotonic()
        while len(threads) < 4:
            client.wait(timeout=0.05)
        return threading.current_thread(), time.monotonic() - start

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    await daemon.say("nonsense")
    await daemon.cut()
    thread, took_s = await using
    assert set(threads) == {thread}
    assert took_s < PATIENCE_S


async def test_states_are_called_without_messages(daemon, run):
    """`wait` looks up when there is one, though nothing comes."""

    def use(client):
        seen = []

        def lost(state):
            seen.append(state.name)
            if state.name == "waiting":
                client.close()

        client.on_state = lost
        client.subscribe("btc")
        client.wait()
        return seen

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.cut()
    assert "waiting" in await using


async def test_close_in_a_callback_ends_wait(daemon, run):
    """At once, with messages left."""

    def use(client):
        seen = []

        def enough(message):
            seen.append(message.seq)
            client.close()

        client.on_price = enough
        client.subscribe("btc")
        client.wait()
        client.wait()
        return seen, client.state.name

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    for _ in range(5):
        await daemon.publish()
    assert await using == ([1], "closed")


async def test_close_in_another_thread_ends_everything(daemon, run):
    """Whoever waits or iterates comes to the end."""

    def use(client):
        client.subscribe("btc")
        closer = threading.Timer(0.05, client.close)
        closer.start()
        client.wait()
        closer.join()
        with pytest.raises(ClosedError):
            client.subscribe("btc")
        return client.state.name

    assert await run(use) == "closed"
    assert not [t for t in threading.enumerate() if t.name == "aggregator client"]


async def test_closing_throws_nothing_away(daemon, run):
    """What was there can still be taken; `wait` hands nothing out any more."""
    called = []

    def use(client):
        subscription = client.subscribe("btc")
        while client.counters.messages < 100 or not client.positions():
            client.state  # noqa: B018 - time goes by
        client.on_price = called.append
        first = next(iter(subscription))
        client.close()
        client.wait()
        return [first.seq, *(m.seq for m in subscription)], client.positions()

    for _ in range(100):
        daemon.history["btc"].append(price(daemon.next("btc"), f"X{daemon.next('btc')}/Y"))
    assert await run(use) == (list(range(1, 101)), {"btc": Position("first", 100)})
    assert len(called) == 100


async def test_what_goes_wrong_is_raised(daemon, run):
    """By `connect`, `wait` and iterations, as by the other client."""

    def refused(client):
        messages = iter(client.subscribe("nowhere"))
        assert next(messages).channel == "nowhere"
        with pytest.raises(SubscriptionError, match="nowhere"):
            next(messages)
        client.subscribe("nowhere")
        with pytest.raises(SubscriptionError, match="nowhere"):
            client.wait(timeout=PATIENCE_S)
        client.on_price = lambda message: 1 // 0
        client.subscribe("btc")
        with pytest.raises(ZeroDivisionError):
            client.wait(timeout=PATIENCE_S)

        async def no_function(message):
            pass

        client.on_price = no_function
        with pytest.raises(TypeError, match="plain functions"):
            client.wait(timeout=PATIENCE_S)

    await daemon.publish("btc", "A/B")
    await daemon.publish("btc", "C/D")
    with pytest.warns(RuntimeWarning, match="never awaited"):
        await run(refused)
    daemon.status = 403
    with pytest.raises(RefusedError):
        await run(lambda client: None)
    daemon.status = 503
    with pytest.raises(UnreachableError):
        await run(lambda client: None)


async def test_it_resumes(daemon, run):
    """As the other client; from given positions, too."""

    def use(client):
        found = []
        for message in client.subscribe("btc", since={"btc": Position("first", 1)}):
            found.append((type(message), message.seq))
            if len(found) == 4:
                return found
        return found

    for _ in range(2):
        await daemon.publish()
    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    await daemon.cut()
    for _ in range(2):
        await daemon.publish()
    assert [seq for _, seq in await using] == [2, 3, 4, 5]


async def test_unsubscribe(daemon, run):
    """The iteration ends."""

    def use(client):
        subscription = client.subscribe("btc")
        found = []
        for message in subscription:
            found.append(message.seq)
            client.unsubscribe("btc")
        subscription.unsubscribe()
        return found

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    assert await using == [1]


async def test_a_slow_reader_gets_gaps(daemon, run):
    """Policies hold, but for what was taken over already."""
    go_on, first = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def use(client):
        found = []
        for message in client.subscribe("btc", policy="drop_oldest", buffer=2):
            found.append(message)
            loop.call_soon_threadsafe(first.set)
            go_on.wait(PATIENCE_S)
            if isinstance(message, Gap):
                return found
        return found

    using = asyncio.create_task(run(use))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    await first.wait()
    for _ in range(300):
        await daemon.publish()
    go_on.set()
    found = await using
    assert found[0].seq == 1
    assert found[-1].reason == "buffer"


def test_before_it_is_open_and_twice():
    """It says so."""
    client = SyncClient("ws://127.0.0.1:1/ws", OPTIONS)
    with pytest.raises(ClosedError):
        client.subscribe("btc")
    with pytest.raises(UnreachableError):
        client.connect()
    with pytest.raises(ClosedError):
        client.connect()
    client.close()


PROGRAM = """
import signal, sys
from aggregator.client import SyncClient
with SyncClient(sys.argv[1]) as client:
    signal.signal(signal.SIGTERM, lambda *_: client.close())
    client.on_price = lambda message: print(message.seq, flush=True)
    client.subscribe("btc")
    {wait}
print("the end", client.state.name)
"""


@pytest.mark.parametrize(
    "wait", ["client.wait()", "[m for m in client.subscribe('eth')]", "signal.pause()"]
)
async def test_close_in_a_signal_handler(daemon, wait):
    """In the middle of whatever the main thread does."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PROGRAM.format(wait=wait), daemon.url),
        stdout=subprocess.PIPE,
    )
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.say(price(1))
    await asyncio.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert out.decode().splitlines()[-1] == "the end closed"


async def test_ctrl_c(daemon):
    """Interrupts `wait`, and the client is closed on the way out."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", PROGRAM.format(wait="client.wait()"), daemon.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.say(price(1))
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(PATIENCE_S):
        _, err = await process.communicate()
    assert err.decode().splitlines()[-1] == "KeyboardInterrupt"
    assert process.returncode == -signal.SIGINT
    await daemon.until(lambda: not daemon.sockets)
