"""Nothing twice, nothing lost in silence: across lost connections and restarts of the daemon."""

import pytest
from client.daemons import price, reached

from aggregator.client import Position
from aggregator.messages import Gap, OrderbookUpdate, PriceUpdate


def seqs(messages):
    return [message.seq for message in messages]


async def test_after_a_cut_exactly_what_was_missed_comes(daemon, open_client):
    """From the last message on, in order; no snapshot, nothing twice."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    for _ in range(3):
        await daemon.publish()
    assert [(await anext(messages)).seq for _ in range(3)] == [1, 2, 3]
    await daemon.cut()
    for _ in range(3):
        await daemon.publish()
    assert [(await anext(messages)).seq for _ in range(3)] == [4, 5, 6]
    assert daemon.commands[1]["since"] == {"btc": {"epoch": "first", "seq": 3}}
    counters = client.counters
    assert (counters.gaps, counters.duplicates, counters.connections) == (0, 0, 2)


async def test_the_position_of_a_quiet_channel_is_kept(daemon, open_client):
    """It is that of the acknowledgement, also where the filter let nothing through."""
    for _ in range(4):
        await daemon.publish("btc", "ETH/USDT")
    client = await open_client()
    client.subscribe("btc:BTC/USDT")
    await daemon.until(lambda: daemon.wants and any(daemon.wants.values()))
    await daemon.say(price(1, channel="eth"))
    await reached(lambda: client.positions() != {})
    assert client.positions() == {"btc": Position("first", 4)}


async def test_what_is_not_kept_any_more_is_a_gap(daemon, open_client):
    """Then the snapshot: of it only what is new."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    await daemon.publish("btc", "ETH/USDT")
    await daemon.publish("btc", "BTC/USDT")
    assert [(await anext(messages)).seq for _ in range(2)] == [1, 2]
    await daemon.cut()
    daemon.first_kept = 4
    for _ in range(3):
        await daemon.publish("btc", "BTC/USDT")
    gap = await anext(messages)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.from_seq, gap.to_seq) == ("history", 3, 5)
    newest = await anext(messages)
    assert (newest.seq, newest.age_us) == (5, 5)
    await daemon.publish("btc", "ETH/USDT")
    assert (await anext(messages)).seq == 6
    # ETH/USDT of the snapshot was there already.
    assert client.counters.duplicates == 1
    assert client.counters.gaps == 1


async def test_after_a_restart_numbers_begin_anew(daemon, open_client):
    """A gap, then what the new run has; equal numbers are other messages."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    for _ in range(2):
        await daemon.publish()
    assert [(await anext(messages)).seq for _ in range(2)] == [1, 2]
    await daemon.restart("second")
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    gap = await anext(messages)
    assert (gap.reason, gap.from_seq) == ("history", None)
    assert (await anext(messages)).seq == 1
    assert client.positions() == {"btc": Position("second", 1)}


async def test_a_daemon_that_does_not_resume_makes_a_gap(daemon, open_client):
    """An older one may pass `since` over: the client says itself what is lost."""
    daemon.resumes = False
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    await daemon.publish()
    assert (await anext(messages)).seq == 1
    await daemon.cut()
    for _ in range(3):
        await daemon.publish()
    gap = await anext(messages)
    assert (gap.reason, gap.from_seq, gap.to_seq) == ("client", 2, 4)
    assert (await anext(messages)).seq == 4


async def test_going_on_in_another_process(daemon, open_client, take):
    """From the positions that the last one has left behind."""
    first = await open_client()
    messages = aiter(first.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    for _ in range(5):
        await daemon.publish()
    assert [(await anext(messages)).seq for _ in range(2)] == [1, 2]
    await reached(lambda: len(first.readers.subscriptions[0].own) >= 3)
    positions = first.positions()
    assert positions == {"btc": Position("first", 2)}, "what waits was not taken"
    await first.close()
    second = await open_client()
    found = await take(second.subscribe("btc", since=positions), 3)
    assert seqs(found) == [3, 4, 5]
    assert [m.age_us for m in found] == [None] * 3


async def test_positions_before_a_restart_belong_to_the_run_before(daemon, open_client):
    """Messages that wait may be older than the gap that a restart makes."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    await daemon.publish()
    await daemon.publish()
    assert (await anext(messages)).seq == 1
    await daemon.restart("second")
    await daemon.until(lambda: any(daemon.wants.values()))
    await reached(lambda: client.counters.gaps > 0)
    assert client.positions() == {"btc": Position("first", 1)}
    assert [type(await anext(messages)) for _ in range(2)] == [PriceUpdate, Gap]
    assert client.positions() == {"btc": Position("second", 0)}


async def test_two_commands_for_one_channel_bring_nothing_twice(daemon, open_client, take):
    """Each of them resumes the channel, since their terms differ."""
    client = await open_client()
    one, other = client.subscribe("btc"), client.subscribe("btc:BTC/USDT", raw=False)
    both = aiter(one), aiter(other)
    await daemon.until(lambda: len(daemon.commands) == 2)
    await daemon.publish()
    assert [(await anext(each)).seq for each in both] == [1, 1]
    await daemon.cut()
    await daemon.publish("btc", "ETH/USDT")
    await daemon.publish()
    assert [(await anext(both[0])).seq for _ in range(2)] == [2, 3]
    assert (await anext(both[1])).seq == 3
    await daemon.publish()
    assert [(await anext(each)).seq for each in both] == [4, 4]
    assert client.counters.gaps == 0


@pytest.fixture
def quick_holes(monkeypatch):
    """Let a hole be a loss at once, when nothing stands for it."""
    monkeypatch.setattr("aggregator.client.sequence.GRACE_S", 0.0)
    monkeypatch.setattr("aggregator.client.asynchronous.GRACE_S", 0.0)


async def test_a_hole_is_told_as_a_gap(daemon, open_client, quick_holes):
    """Nobody else does, if nothing stands for it; what comes is handed out all the same."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    for seq in (1, 2, 5):
        await daemon.say(price(seq))
    assert [(await anext(messages)).seq for _ in range(3)] == [1, 2, 5]
    gap = await anext(messages)
    assert (gap.reason, gap.channel, gap.from_seq, gap.to_seq) == ("client", "btc", 3, 4)


async def test_with_the_connection_a_hole_is_a_loss(daemon, open_client):
    """What might have stood for it does not come any more; it is told before what follows."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    for seq in (1, 4):
        await daemon.say(price(seq))
    assert [(await anext(messages)).seq for _ in range(2)] == [1, 4]
    daemon.history["btc"] = [price(seq) for seq in range(1, 6)]
    await daemon.cut()
    gap, following = await anext(messages), await anext(messages)
    assert (gap.reason, gap.from_seq, gap.to_seq) == ("client", 2, 3)
    assert following.seq == 5


async def test_a_snapshot_that_was_cut_off_comes_again(daemon, open_client):
    """It is not resumed behind it, where what it had would be missing for ever."""

    async def cut(socket):
        received = await socket.receive_json()
        ack = {"type": "subscribed", "channels": ["btc"], "id": received["id"]}
        await socket.send_json(ack | {"positions": {"btc": {"epoch": daemon.epoch, "seq": 1}}})
        await socket.close()

    daemon.history["btc"].append(price(1))
    daemon.script = cut
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await reached(lambda: client.counters.connections > 1)
    daemon.script = None
    assert (await anext(messages)).seq == 1
    assert "since" not in daemon.commands[-1]


@pytest.mark.parametrize(
    ("subscription", "terms"),
    [("btc:BTC/USDT", {}), ("*:BTC/USDT", {}), ("btc", {"max_hz": 2.0})],
)
async def test_holes_by_design_are_none(daemon, open_client, quick_holes, subscription, terms):
    """With a filter or a rate."""
    client = await open_client()
    messages = aiter(client.subscribe(subscription, **terms))
    await daemon.until(lambda: any(daemon.wants.values()))
    for seq in (1, 5, 9):
        await daemon.say(price(seq))
    assert [(await anext(messages)).seq for _ in range(3)] == [1, 5, 9]
    await client.wait(timeout=0.01)
    assert client.counters.gaps == 0


async def test_what_comes_again_is_dropped(daemon, open_client):
    """And what comes too late, too: never the same twice, never back."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    for seq in (1, 2, 2, 1, 3):
        await daemon.say(price(seq))
    assert [(await anext(messages)).seq for _ in range(3)] == [1, 2, 3]
    assert client.counters.duplicates == 2


async def test_a_gap_of_the_daemon_is_no_hole(daemon, open_client, quick_holes):
    """It is told once: by the daemon."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.say(price(1))
    gap = {"type": "gap", "channel": "btc", "instrument": None, "from_seq": 2, "to_seq": 4}
    await daemon.say(gap | {"reason": "slow_consumer", "timestamp": "2026-11-20T07:48:07Z"})
    await daemon.say(price(5))
    found = [await anext(messages) for _ in range(3)]
    assert [type(m) for m in found] == [PriceUpdate, Gap, PriceUpdate]
    await client.wait(timeout=0.01)
    assert client.counters.gaps == 1


async def test_an_upstream_gap_has_a_number(daemon, open_client, quick_holes):
    """As a message of the channel: it is handed out once, and is no hole."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    gap = {"type": "gap", "channel": "btc", "instrument": None, "from_seq": None, "to_seq": None}
    gap |= {"reason": "upstream", "timestamp": "2026-11-20T07:48:07Z", "data": {"cause": "x"}}
    await daemon.say(price(1))
    await daemon.say(gap | {"seq": 2})
    await daemon.say(gap | {"seq": 2})
    await daemon.say(price(3))
    found = [await anext(messages) for _ in range(3)]
    assert [m.seq for m in found] == [1, 2, 3]
    await client.wait(timeout=0.01)
    assert (client.counters.gaps, client.counters.duplicates) == (1, 1)


async def test_a_book_goes_on_with_its_changes(daemon, open_client):
    """After a cut the changes that were missed follow, not a snapshot."""

    def book(seq, action):
        message = price(seq)
        del message["price"]
        levels = {"bids": [["9.50", "1"]], "asks": [], "sequence": seq}
        return message | {"type": "orderbook_update", "action": action, "data": levels}

    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    daemon.history["btc"].append(book(1, "snapshot"))
    await daemon.until(lambda: any(daemon.wants.values()))
    first = await anext(messages)
    # Then it is known to be whole.
    await daemon.until(lambda: daemon.commands[-1]["type"] == "ping")
    await reached(client.positions)
    await daemon.cut()
    daemon.history["btc"] += [book(2, "delta"), book(3, "delta")]
    rest = [await anext(messages) for _ in range(2)]
    assert isinstance(first, OrderbookUpdate)
    assert [(m.seq, m.action) for m in [first, *rest]] == [
        (1, "snapshot"),
        (2, "delta"),
        (3, "delta"),
    ]
