"""Clients that come back: they get what they have missed, or are told of it."""

from __future__ import annotations

import pytest
from gateway.wsclient import Client

from aggregator.model import BookUpdate, Gap, Heartbeat, Level, TradeExecuted


async def resume(client: Client, *channels: str, epoch: str, seq: int, **terms: object):
    name = channels[0].partition(":")[0].replace("*", "prices")
    since = {name: {"epoch": epoch, "seq": seq}}
    return await client.ask({"type": "subscribe", "channels": channels, "since": since, **terms})


async def get(client: Client, count: int) -> list[dict[str, object]]:
    return [await client.receive() for _ in range(count)]


def numbers(messages: list[dict[str, object]]) -> list[object]:
    assert not any("age_us" in message or "conflated" in message for message in messages)
    return [message["seq"] for message in messages]


async def test_what_was_missed_then_what_comes(daemon):
    """Exactly the missing messages, as they were, in order; no snapshot; then the live ones."""
    async with await daemon.connect() as witness:
        await witness.subscribe("prices")
        for price in range(1, 7):
            daemon.publish(price, ["BTC/USDT", "ETH/USDT"][price % 2])
        witnessed = await get(witness, 6)
        async with await daemon.connect() as client:
            answer = await resume(client, "prices", epoch=daemon.hub.epoch, seq=2)
            assert answer["recovered"] == {"prices": True}
            assert answer["positions"] == {"prices": {"epoch": daemon.hub.epoch, "seq": 6}}
            daemon.publish(7)
            messages = await get(client, 5)
            assert numbers(messages) == [3, 4, 5, 6, 7]
            assert messages[:4] == witnessed[2:]
    assert daemon.counters.resumed == {True: 1}


async def test_nothing_was_missed(daemon):
    """Then there is nothing before the live messages, not even a snapshot."""
    daemon.publish(1)
    async with await daemon.connect() as client:
        answer = await resume(client, "prices", epoch=daemon.hub.epoch, seq=1)
        assert answer["recovered"] == {"prices": True}
        daemon.publish(2)
        assert numbers(await get(client, 1)) == [2]


@pytest.mark.parametrize(
    ("epoch", "seq", "lost", "cause"),
    [
        (None, 1, (2, 9), "older than what is kept"),
        (None, 5, (6, 9), "older than what is kept"),
        (None, 10, (None, None), "no message has that number yet"),
        ("another", 4, (1, 9), "another run of the daemon"),
        ("", 9, (1, 9), "another run of the daemon"),
    ],
)
async def test_what_is_not_kept(serve, epoch, seq, lost, cause):
    """It says so, then which are lost and why, then the snapshot, then the live messages."""
    daemon = await serve(history_messages=3)
    for price in range(1, 10):
        daemon.publish(price)
    epoch = daemon.hub.epoch if epoch is None else epoch
    async with await daemon.connect() as client:
        answer = await resume(client, "prices", epoch=epoch, seq=seq)
        assert answer["recovered"] == {"prices": False}
        gap, last = await get(client, 2)
        assert (gap["type"], gap["reason"]) == ("gap", "history")
        assert (gap["channel"], gap["instrument"]) == ("prices", None)
        assert (gap["from_seq"], gap["to_seq"]) == lost
        assert gap["data"] == {"cause": cause}
        assert "seq" not in gap
        assert (last["seq"], last["stale"]) == (9, False)
        daemon.publish(10)
        assert numbers(await get(client, 1)) == [10]
    assert daemon.counters.resumed == {False: 1}


async def test_another_run_that_has_sent_nothing_yet(daemon):
    """What was lost has no numbers then; it is a gap all the same."""
    async with await daemon.connect() as client:
        answer = await resume(client, "prices", epoch="another", seq=7)
        assert answer["recovered"] == {"prices": False}
        gap = await client.receive()
        assert (gap["type"], gap["from_seq"], gap["to_seq"]) == ("gap", None, None)
        await client.pinged()


async def test_forgotten_by_age(daemon):
    """What is older than `history_s` is not kept, however few they are."""
    for price in range(1, 4):
        daemon.publish(price)
    list(daemon.hub.forget_old(-1, 10**9))
    daemon.publish(4)
    async with await daemon.connect() as client:
        answer = await resume(client, "prices", epoch=daemon.hub.epoch, seq=2)
        assert answer["recovered"] == {"prices": False}
        assert (await client.receive())["to_seq"] == 4
        assert (await client.receive())["seq"] == 4
        answer = await resume(client, "prices", epoch=daemon.hub.epoch, seq=3)
        assert answer["recovered"] == {"prices": True}
        assert numbers(await get(client, 1)) == [4]


async def test_some_channels_of_several(daemon):
    """Each by itself: one recovers, one does not, one never was there; the fourth is new."""
    daemon.publish(1)
    daemon.publish(2)
    daemon.publish(3, channel=daemon.other)
    daemon.publish(4, channel=daemon.open_ended)
    position = {"epoch": daemon.hub.epoch, "seq": 1}
    async with await daemon.connect() as client:
        since = {"prices": position, "others": position | {"epoch": "x"}, "nowhere": position}
        command = {"type": "subscribe", "channels": ["others", "prices", "all", "nowhere"]}
        answer = await client.ask(command | {"since": since})
        assert answer["recovered"] == {"prices": True, "others": False}
        messages = await get(client, 5)
        kinds = [(m["type"], m.get("channel"), m.get("seq"), "age_us" in m) for m in messages]
        assert kinds == [
            ("error", "nowhere", None, False),
            ("gap", "others", None, False),
            ("price_update", "prices", 2, False),
            ("price_update", "others", 1, True),
            ("price_update", "all", 1, True),
        ]
        await client.pinged()


@pytest.mark.parametrize("want", ["prices:BTC/USDT", "*:BTC/USDT"])
async def test_one_instrument(daemon, want):
    """Of what was missed, that of the instrument, and what is said of all of them."""
    daemon.publish(1)
    daemon.publish(2)
    daemon.publish(3, "ETH/USDT")
    trade = {"id": "7", "side": "buy", "price": "1", "quantity": "2"}
    for instrument in ("ETH/USDT", "BTC/USDT"):
        daemon.hub.publish(daemon.channel, TradeExecuted(instrument=instrument, **trade), 1)
    for instrument in ("ETH/USDT", "BTC/USDT", None):
        daemon.hub.publish(daemon.channel, Gap(instrument=instrument, data={"cause": "x"}), 1)
    async with await daemon.connect() as client:
        answer = await resume(client, want, epoch=daemon.hub.epoch, seq=1)
        assert answer["recovered"] == {"prices": True}
        assert numbers(await get(client, 4)) == [2, 5, 7, 8]
        await client.pinged()


async def test_without_payload_and_at_a_rate(daemon):
    """The terms hold for what was missed: without `data`; at a rate the latest of each."""
    for price in range(1, 6):
        daemon.publish(price, ["BTC/USDT", "ETH/USDT"][price % 2])
    async with await daemon.connect() as client:
        await resume(client, "prices", epoch=daemon.hub.epoch, seq=1, raw=False)
        messages = await get(client, 4)
        assert numbers(messages) == [2, 3, 4, 5]
        assert not any("data" in message for message in messages)
        await resume(client, "prices", epoch=daemon.hub.epoch, seq=1, max_hz=100)
        assert numbers(await get(client, 2)) == [4, 5]
        daemon.publish(6)
        assert numbers(await get(client, 1)) == [6]


async def test_order_book(daemon):
    """The changes that were missed, on top of the book that the client has; at a rate the state."""

    class Book:
        def top(self):
            return [Level("1", "9")], []

    for whole in (True, False, False, False):
        event = BookUpdate(
            instrument="BTC/USDT", bids=[Level("1", "2")], asks=[], whole=whole, book=Book()
        )
        daemon.hub.publish(daemon.channel, event, 1)
    async with await daemon.connect() as client:
        await resume(client, "prices", epoch=daemon.hub.epoch, seq=2)
        messages = await get(client, 2)
        assert [(m["seq"], m["action"]) for m in messages] == [(3, "delta"), (4, "delta")]
        await resume(client, "prices", epoch=daemon.hub.epoch, seq=2, max_hz=10)
        [message] = await get(client, 1)
        assert (message["seq"], message["action"]) == (4, "snapshot")
        assert message["data"]["bids"] == [["1", "9"]]


async def test_channels_of_the_daemon(daemon):
    """`heartbeat` and `system` are resumed as all others."""
    for _ in range(3):
        daemon.hub.publish(daemon.hub.heartbeat, Heartbeat(), daemon.hub.now_us())
    async with await daemon.connect() as client:
        answer = await resume(client, "heartbeat", epoch=daemon.hub.epoch, seq=1)
        assert answer["recovered"] == {"heartbeat": True}
        assert numbers(await get(client, 2)) == [2, 3]


async def test_reader_of_much_is_not_cut_off(serve):
    """All that was missed comes, however much: it does not count among what waits for a client."""
    daemon = await serve(max_buffered_bytes=100_000)
    now = [100.0]
    daemon.sessions.now = lambda: now[0]
    payload = b'"%b"' % (b"x" * 10_000)
    for price in range(400):
        daemon.publish(price, data=payload)
    async with await daemon.connect(receive_buffer=4096) as client:
        await resume(client, "prices", epoch=daemon.hub.epoch, seq=0)
        daemon.publish(400)
        for now[0] in (100.0, 200.0):
            daemon.sessions.close_slow()
        messages = await get(client, 400)
        assert numbers(messages) == list(range(1, 401))
        last = await client.receive()
        assert (last["seq"], last.get("conflated")) == (401, None)


async def test_it_costs_what_it_costs(serve):
    """What is sent after counts against the rate: it could be asked for again and again."""
    daemon = await serve(max_commands_per_s=0.001, command_burst=8)
    for price in range(500):
        daemon.publish(price)
    async with await daemon.connect() as client:
        # 1, and 5 for the messages.
        await resume(client, "prices", epoch=daemon.hub.epoch, seq=0)
        await get(client, 500)
        kinds = [(await client.ask({"type": "ping"})).get("code", "done") for _ in range(3)]
        assert kinds == ["done", "done", "rate_limited"]


@pytest.mark.parametrize(
    "since",
    [
        [],
        {"prices": 5},
        {"prices": {"seq": 5}},
        {"prices": {"epoch": "x"}},
        {"prices": {"epoch": 5, "seq": 5}},
        {"prices": {"epoch": "x", "seq": -1}},
        {"prices": {"epoch": "x", "seq": 1.5}},
        {"prices": {"epoch": "x", "seq": "5"}},
        {"prices": {"epoch": "x", "seq": 2**60}},
        {"prices": {"epoch": "x" * 65, "seq": 5}},
        {"prices": {"epoch": "x", "seq": 5, "more": 1}},
        {"": {"epoch": "x", "seq": 5}},
    ],
    ids=str,
)
async def test_malformed(daemon, since):
    """It is refused as a whole, and what the client wrote is not echoed."""
    async with await daemon.connect() as client:
        answer = await client.ask({"type": "subscribe", "channels": ["prices"], "since": since})
        assert (answer["type"], answer["code"]) == ("error", "bad_command")
        assert answer["message"].startswith("since")
        assert "prices" not in answer["message"]
        await client.pinged()
