"""The JavaScript client and what it is sent: numbers, nonsense, books and a slow reader."""

import json

from client.nonsense import BAD
from javascript.fake import book, price

OPTIONS = {"minBackoffMs": 1, "maxBackoffMs": 50}


async def subscribed(far, fake, *channels, options=None, seq=0, **more):
    """Return the daemon's side of a connection on which these are subscribed to."""
    await far.connect(fake.url, **{**OPTIONS, **(options or {})})
    connection = await fake.connected()
    await far.subscribe("all", *channels, **more)
    await connection.acknowledge(seq)
    # Behind the acknowledgement: when this has come, that was taken.
    await connection.send(type="test_message", message="Hello", timestamp="x")
    assert (await far.until("test_message"))["message"] == "Hello"
    return connection


async def seen(far, count):
    """Return of the next messages the number, or else the type."""
    messages = [(await far.until("message"))["message"] for _ in range(count)]
    return [message.get("seq", message["type"]) for message in messages]


async def stats(far):
    await far.do("stats")
    return await far.until("stats")


async def test_every_digit(far, fake):
    """A number has all the digits that came, wherever else the same name stands."""
    connection = await subscribed(far, fake, "prices")
    text = json.dumps(price(1) | {"data": {"price": "x", "a": [1, {"price": 2}]}})
    await connection.text(text.replace('"price": 1.5', '"price": 12345678901234567890.10', 1))
    assert (await far.until("message"))["digits"] == "12345678901234567890.10"


async def test_repeated_messages_are_dropped(far, fake):
    """The same number again is counted and not handed out; a snapshot is no repetition."""
    connection = await subscribed(far, fake, "prices", seq=3)
    await connection.price(2, "A/B", age_us=1, stale=False)
    await connection.price(3, age_us=1, stale=False)
    for seq in (4, 4, 5, 4, 3):
        await connection.price(seq)
    await connection.price(6, "A/B")
    assert await seen(far, 5) == [2, 3, 4, 5, 6]
    assert (await stats(far))["duplicates"] == 3


async def test_a_snapshot_may_be_in_any_order(in_node, fake):
    """States have no age: what has a number up to the position is a state, in whatever order."""
    connection = await subscribed(in_node, fake, "system", seq=9)
    for seq in (7, 3, 9, 10):
        data = {"feed": f"feed{seq}", "instrument": None, "state": "live"}
        status = {"type": "system_status", "channel": "system", "seq": seq, "data": data}
        await connection.send(**status, timestamp="2026-11-20T07:56:05.562Z")
    assert await seen(in_node, 4) == [7, 3, 9, 10]


async def test_a_hole_is_said(far, fake):
    """Missing numbers for which nothing stands are a gap, and the state is asked for again."""
    connection = await subscribed(far, fake, "prices")
    await connection.price(1)
    await connection.price(4)
    gap = await far.message(type="gap")
    assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (2, 3, "client")
    assert (await connection.acknowledge(4))["channels"] == ["prices"]


async def test_numbers_that_are_accounted_for_are_no_hole(in_node, fake):
    """What later messages stand for, or a gap of the daemon's tells of, is not said again."""
    connection = await subscribed(in_node, fake, "prices")
    await connection.price(3, "C/D")
    await connection.price(4, "A/B", conflated=1)
    await connection.price(5, conflated=1)
    gap = {"type": "gap", "channel": "prices", "instrument": None, "from_seq": 6, "to_seq": 8}
    await connection.send(**gap, reason="slow_consumer", timestamp="2026-11-20T07:56:05.562Z")
    await connection.price(9)
    assert await seen(in_node, 5) == [3, 4, 5, "gap", 9]
    # Were there a hole, its gap would come before the one of this message.
    await connection.price(11)
    gap = await in_node.message(type="gap")
    assert (gap["from_seq"], gap["to_seq"]) == (10, 10)


async def test_with_a_filter_holes_are_by_design(in_node, fake):
    """With one instrument, or a rate, missing numbers mean nothing."""
    connection = await subscribed(in_node, fake, "prices:BTC/USDT")
    await in_node.subscribe("slow", "other", maxHz=1)
    await connection.acknowledge()
    await connection.price(5)
    await connection.price(5, channel="other")
    await in_node.subscribe("whole", "whole")
    await connection.acknowledge()
    await connection.price(2, channel="whole")
    assert (await in_node.message(type="gap"))["channel"] == "whole"


async def test_nonsense_is_not_handed_out(far, fake):
    """What can't be understood is told as `invalid`, and the rest goes on."""
    connection = await subscribed(far, fake, "prices:BTC/USDT")
    lacking = {k: v for k, v in price(1).items() if k != "exchange"}
    texts = ["hello", "5", "null", "[]", "{}", json.dumps(lacking)]
    wrong = {"price": "1.5", "timestamp": "yesterday", "seq": "1", "channel": 5}
    texts += [json.dumps(price(1) | {key: value}) for key, value in wrong.items()]
    texts += [json.dumps(book(1, "change", [], [])), json.dumps(book(1, "delta", [["x", "1"]], []))]
    texts += ['{"type":"subscribed"}', '{"type":"subscribed","channels":5,"id":2}']
    for text in texts:
        await connection.text(text)
        assert (await far.until("invalid"))["text"] == text
    await connection.socket.send_bytes(b"{}")
    assert "JSON" in (await far.until("invalid"))["reason"]
    await connection.price(9)
    await far.message(seq=9)
    assert (await stats(far))["invalid"] == len(texts) + 1


async def test_what_can_not_be_read_is_a_gap(in_node, fake):
    """A message of a channel that is not handed out is said to be missing."""
    connection = await subscribed(in_node, fake, "prices")
    await connection.price(1)
    await connection.price(2, price=None)
    await connection.price(3)
    await connection.price(5)
    assert await seen(in_node, 4) == [1, "gap", 3, 5]
    gap = await in_node.message(type="gap")
    assert (gap["from_seq"], gap["to_seq"]) == (4, 4)


async def test_it_is_not_handed_out_but_said(in_node, fake):
    """What the client for Python does not take either, with a gap in its place."""
    connection = await subscribed(in_node, fake, "prices")
    for seq, (fields, reason) in enumerate(BAD.values(), 1):
        await connection.price(seq, **fields)
        assert reason in (await in_node.until("invalid"))["reason"]
        gap = await in_node.message(type="gap")
        assert (gap["from_seq"], gap["to_seq"], gap["reason"]) == (seq, seq, "client")


async def test_how_far_ahead_is_an_option(in_node, fake):
    """By the daemon's clock, which is what the fake one says."""
    connection = await subscribed(in_node, fake, "prices", options={"maxAheadMs": 5000})
    await connection.price(1, timestamp="2026-11-20T07:56:20.000Z")
    assert "timestamp" in (await in_node.until("invalid"))["reason"]
    await connection.price(2, timestamp="2026-11-20T07:56:06.000Z")
    await in_node.message(seq=2)


async def test_unknown_types_are_handed_out(in_node, fake):
    """A type that the client does not know yet comes as it is, on its channel."""
    connection = await subscribed(in_node, fake, "prices")
    await connection.price(1, type="funding_rate")
    assert (await in_node.message(seq=1))["type"] == "funding_rate"


async def test_too_old(in_node, fake):
    """With an age limit for a channel, by the daemon's clock, what is older is left out."""
    connection = await subscribed(
        in_node, fake, "prices", options={"maxAgeMs": {"prices": 60_000, "other": 1}}
    )
    await connection.price(1, timestamp="2026-11-20T07:55:00.000Z")
    assert "ms old" in (await in_node.until("invalid"))["reason"]
    await connection.price(2, timestamp="2026-11-20T07:56:05.000Z")
    await in_node.message(seq=2)
    # A book is the sum of its changes: none of them is left out.
    change = book(3, "delta", [], []) | {"timestamp": "2026-11-20T07:55:00.000Z"}
    await connection.send(**change)
    await in_node.message(seq=3)
    assert (await stats(in_node))["tooOld"] == 1


async def test_a_book(far, fake):
    """It is the daemon's book after each message, and unknown after a gap until the snapshot."""
    connection = await subscribed(far, fake, "prices", book=["prices", "BTC/USDT"])
    await connection.send(**book(1, "snapshot", [["1.50", "2"], ["1.4", "1"]], [["1.6", "1"]]))
    await connection.send(**book(2, "delta", [["1.5", "0.00"], ["1.45", "7"]], [["1.60", "3"]]))
    kept = (await far.until("message", seq=2))["book"]
    assert kept == {"known": True, "bids": [["1.45", "7"], ["1.4", "1"]], "asks": [["1.60", "3"]]}
    await connection.send(**book(4, "delta", [["1.3", "1"]], []))
    assert (await far.until("message", type="gap"))["book"]["known"] is False
    await connection.acknowledge(4)
    again = book(4, "snapshot", [["1.4", "1"]], [["1.6", "3"]])
    await connection.send(**again, age_us=5, stale=False)
    kept = (await far.until("message", seq=4))["book"]
    assert kept == {"known": True, "bids": [["1.4", "1"]], "asks": [["1.6", "3"]]}


async def test_a_change_that_can_not_be_read(in_node, fake):
    """The book is not known any more, and is asked for again."""
    book_of = ["prices", "BTC/USDT"]
    connection = await subscribed(in_node, fake, "prices:BTC/USDT", book=book_of)
    await connection.send(**book(1, "snapshot", [["1.5", "2"]], []))
    await connection.send(**book(2, "delta", [["x", "2"]], []))
    assert (await in_node.until("message", type="gap"))["book"]["known"] is False
    assert (await connection.acknowledge(2))["type"] == "subscribe"
    await connection.send(**book(1, "snapshot", [["1.5", "2"]], []), age_us=1, stale=False)
    assert (await in_node.until("message", seq=1))["book"]["known"] is True


async def test_a_message_goes_to_each_once(in_node, fake):
    """To every subscription that it matches, however many of its channels do, and to listeners."""
    connection = await subscribed(in_node, fake, "prices", "prices:BTC/USDT", "*:BTC/USDT")
    await in_node.subscribe("other", "prices:BTC/USDT", "prices:A/B")
    await connection.acknowledge()
    await in_node.do("listen", type="price_update")
    await connection.price(1)
    await connection.price(2, "A/B")
    await connection.price(3, "C/D")
    await connection.price(4)
    found = []
    while len(found) < 11:
        report = await in_node.reports.get()
        found.append((report.get("of", "listener"), report["message"]["seq"]))
    assert sorted(found) == [
        *(("all", n) for n in (1, 2, 3, 4)),
        *(("listener", n) for n in (1, 2, 3, 4)),
        *(("other", n) for n in (1, 2, 4)),
    ]
