"""The JavaScript client against a daemon that goes away, falls silent or does not let it in."""

import asyncio
import time

import pytest

QUICK = {"minBackoffMs": 1, "maxBackoffMs": 50}
NEVER = {"minBackoffMs": 10**8, "maxBackoffMs": 10**8}


async def subscribed(far, fake, *channels, options=None, seq=0, **more):
    """Return the daemon's side of a connection on which these are subscribed to."""
    await far.connect(fake.url, **(options or QUICK))
    connection = await fake.connected()
    await far.subscribe("all", *channels, **more)
    await connection.acknowledge(seq)
    # Behind the acknowledgement: when this has come, that was taken.
    await connection.send(type="test_message", message="Hello", timestamp="x")
    assert (await far.until("test_message"))["message"] == "Hello"
    return connection


async def test_it_connects_and_subscribes(far, fake):
    """What is subscribed to in one turn goes out as one command, and its messages come back."""
    connection = await subscribed(far, fake, "prices", "prices:ETH/USDT")
    assert connection.commands.empty()
    await connection.price(1)
    assert (await far.message(of="all"))["price"] == 1.5


async def test_terms_are_sent(in_node, fake):
    """`maxHz` and `raw` are sent as `max_hz` and `raw`, each kind of terms in its own command."""
    await in_node.connect(fake.url)
    connection = await fake.connected()
    await in_node.subscribe("a", "prices", maxHz=2, raw=False)
    command = await connection.acknowledge()
    assert (command["max_hz"], command["raw"]) == (2, False)
    await in_node.subscribe("b", "other")
    command = await connection.acknowledge()
    assert command.keys() == {"type", "channels", "id"}


async def test_it_comes_back_and_goes_on(far, fake):
    """After a cut it subscribes again from where it was; what it missed comes, and no gap."""
    connection = await subscribed(far, fake, "prices:BTC/USDT", "*:ETH/USDT", seq=7)
    await connection.price(9)
    await far.message(seq=9)
    connection.cut()
    assert (await far.state("waiting"))["until"] is not None
    connection = await fake.connected()
    await far.state("resuming")
    command = await connection.acknowledge(seq=11, recovered={"prices": True, "*": True})
    assert command["since"]["prices"] == {"epoch": "303a6b3b", "seq": 9}
    await far.state("open")
    for seq in (10, 11, 12):
        await connection.price(seq)
    assert [(await far.until("message"))["message"]["seq"] for _ in range(3)] == [10, 11, 12]


async def test_what_was_lost_is_said_by_the_daemon(in_node, fake):
    """Where the daemon can't go on, its gap comes before the snapshot, and no second one."""
    connection = await subscribed(in_node, fake, "prices", seq=7)
    await connection.price(8)
    await in_node.message(seq=8)
    await connection.close(1001)
    assert (await in_node.state("waiting"))["code"] == 1001
    connection = await fake.connected()
    await connection.acknowledge(3, epoch="other", recovered={"prices": False})
    gap = {"type": "gap", "channel": "prices", "instrument": None, "from_seq": 1, "to_seq": 3}
    await connection.send(**gap, reason="history", timestamp="2026-11-20T07:56:05.562Z")
    await connection.price(3, age_us=5, stale=False)
    await connection.price(4)
    seen = [(await in_node.until("message"))["message"] for _ in range(3)]
    assert [m.get("seq", m["type"]) for m in seen] == ["gap", 3, 4]


async def test_a_daemon_that_does_not_resume(in_node, fake):
    """What it does not say is lost the client says itself."""
    connection = await subscribed(in_node, fake, "prices", seq=7)
    connection.cut()
    connection = await fake.connected()
    await connection.acknowledge(9)
    gap = await in_node.message(type="gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (8, 9, "client")


async def test_a_hole_at_the_end_of_a_connection(in_node, fake):
    """What is missing when the connection is lost is said at once: it is not asked for later."""
    connection = await subscribed(in_node, fake, "prices")
    await connection.price(3)
    await in_node.message(seq=3)
    connection.cut()
    gap = await in_node.message(type="gap")
    assert (gap["from_seq"], gap["to_seq"]) == (1, 2)


async def test_a_snapshot_that_was_cut_off(in_node, fake):
    """Is asked for anew; what was published meanwhile is a gap, since it was not had."""
    connection = await subscribed(in_node, fake, "prices", seq=7)
    await connection.price(3, "A/B", age_us=1, stale=False)
    await in_node.message(seq=3)
    connection.cut()
    connection = await fake.connected()
    command = await connection.acknowledge(seq=9)
    assert "since" not in command
    await connection.price(9, age_us=1, stale=False)
    gap = await in_node.message(type="gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (8, 9, "client")
    await in_node.message(seq=9)


async def test_who_comes_while_it_is_away_gets_the_snapshot(in_node, fake):
    """A second subscription to the same is no reason for the first to lose something."""
    connection = await subscribed(in_node, fake, "prices", seq=6)
    await connection.price(7)
    await in_node.message(seq=7)
    connection.cut()
    await in_node.state("waiting")
    await in_node.subscribe("late", "prices")
    connection = await fake.connected()
    command = await connection.acknowledge(seq=8, recovered={"prices": True})
    assert command["since"]["prices"]["seq"] == 7
    command = await connection.acknowledge(seq=8)
    assert "since" not in command


@pytest.mark.parametrize("code", [1012, 4008, 4010])
async def test_close_codes_are_shown(in_node, fake, code):
    """The code with which the daemon closed is in the state, and it comes back all the same."""
    connection = await subscribed(in_node, fake, "prices")
    await connection.close(code)
    assert (await in_node.state("waiting"))["code"] == code
    await fake.connected()
    await in_node.state("resuming")


async def test_silence_ends_a_connection(far, fake):
    """A daemon that does not even answer pings is given up, and tried again."""
    connection = await subscribed(far, fake, "prices", options={**QUICK, "pingMs": 200})
    connection.is_mute = True
    assert (await far.state("waiting"))["reason"] == "no sign of life"
    await fake.connected()
    await far.state("resuming")


async def test_messages_are_signs_of_life(in_node, fake):
    """While messages come, a missing pong is no reason to give up."""
    connection = await subscribed(in_node, fake, "prices", options={**QUICK, "pingMs": 300})
    connection.is_mute = True
    until = time.monotonic() + 1.5
    seq = 0
    while time.monotonic() < until:
        seq += 1
        await connection.price(seq)
        await in_node.message(seq=seq)
    assert fake.attempts == 1


async def test_a_command_without_an_answer(in_node, fake):
    """A connection on which a command is not answered is given up."""
    await in_node.connect(fake.url, **QUICK, answerTimeoutMs=50)
    await in_node.subscribe("all", "prices")
    assert (await in_node.state("waiting"))["reason"] == "no answer to a command"


async def test_a_handshake_without_an_answer(in_node, fake):
    """An attempt has its time; then comes the next."""
    fake.behaviour = "hang"
    await in_node.connect(fake.url, **QUICK, connectTimeoutMs=50)
    assert (await in_node.state("waiting"))["reason"] == "no answer to the handshake"
    fake.behaviour = "serve"
    await in_node.state("open")


async def test_the_circuit_breaks(far, fake):
    """After so many failures in a row it waits long, says until when, and can be told to try."""
    fake.behaviour = "refuse"
    options = {**QUICK, "breakAfter": 3, "breakMs": 10**8}
    await far.connect(fake.url, **options)
    broken = await far.state("broken")
    assert fake.attempts == 3
    assert broken["until"] > time.time() * 1000 + 10**7
    fake.behaviour = "serve"
    await far.do("retry")
    await far.state("open")


async def test_close_ends_it_all(far, fake):
    """Iterations end, and nothing is tried any more."""
    await subscribed(far, fake, "prices")
    await far.do("close")
    assert (await far.state("closed"))["until"] is None
    assert (await far.until("done"))["of"] == "all"
    await far.until("closed")


async def test_close_while_it_waits(in_node, fake):
    """It does not wait for the next attempt, and leaves nothing behind that keeps Node running."""
    fake.behaviour = "refuse"
    await in_node.connect(fake.url, **NEVER)
    await in_node.state("waiting")
    await in_node.do("close")
    assert (await in_node.until("closed"))["took"] < 500
    assert await in_node.ended() == 0


@pytest.mark.parametrize("behaviour", ["hang", "serve"])
async def test_close_never_hangs(in_node, fake, behaviour):
    """Whatever the other side does: here it does not answer the handshake, or the close."""
    fake.behaviour = behaviour
    await in_node.connect(fake.url)
    if behaviour == "serve":
        connection = await fake.connected()
        connection.transport.pause_reading()
    start = time.monotonic()
    await in_node.do("close")
    assert (await in_node.until("closed"))["took"] < 2_000
    assert time.monotonic() - start < 5


async def test_ended_subscriptions_are_given_back(in_node, fake):
    """What nobody wants any more is unsubscribed; what another one wants is kept."""
    connection = await subscribed(in_node, fake, "prices", "other")
    await in_node.subscribe("second", "other")
    await connection.acknowledge()
    await in_node.do("end", name="all")
    assert (await in_node.until("done"))["of"] == "all"
    command = await connection.acknowledge()
    assert (command["type"], command["channels"]) == ("unsubscribe", ["prices"])


async def test_too_many_commands_are_tried_again(in_node, fake):
    """A refusal for the rate is nobody's error: the command is sent once more, a little later."""
    await in_node.connect(fake.url)
    connection = await fake.connected()
    await in_node.subscribe("all", "prices")
    command = await connection.command()
    refusal = {"type": "error", "code": "rate_limited", "message": "slow down"}
    await connection.send(**refusal, id=command["id"])
    again = await connection.acknowledge()
    assert again["channels"] == ["prices"]
    await connection.price(1)
    await in_node.message(seq=1)


async def test_refusals(far, fake):
    """One bad channel of several is told; where all are bad the iteration throws."""
    await far.connect(fake.url)
    connection = await fake.connected()
    refusal = {"type": "error", "code": "unknown_channel", "message": "there is no such channel"}
    await far.subscribe("some", "prices", "nowhere")
    command = await connection.command()
    positions = {"prices": {"epoch": "e", "seq": 0}}
    answer = {"type": "subscribed", "channels": ["prices"], "positions": positions}
    await connection.send(**answer, id=command["id"])
    await connection.send(**refusal, channel="nowhere", id=command["id"])
    assert (await far.message(of="some"))["code"] == "unknown_channel"
    await far.subscribe("none", "nowhere", "neither")
    command = await connection.command()
    for channel in command["channels"]:
        await connection.send(**refusal, channel=channel, id=command["id"])
    thrown = await far.until("thrown")
    assert (thrown["of"], thrown["name"], thrown["code"]) == ("none", "Refused", "unknown_channel")
    await connection.price(1)
    await far.message(of="some", seq=1)


async def test_a_restart_does_not_bring_all_back_at_once(in_node, fake):
    """The first waits are spread over all of the time up to `minBackoffMs`."""
    waits = []
    options = {"minBackoffMs": 400, "maxBackoffMs": 400, "breakAfter": 100}
    fake.behaviour = "refuse"
    await in_node.connect(fake.url, **options)
    async with asyncio.timeout(30):
        for _ in range(12):
            state = await in_node.state("waiting")
            waits.append(state["until"] - state["since"])
            await in_node.do("retry")
    assert all(0 <= wait <= 401 for wait in waits)
    assert max(waits) - min(waits) > 50
