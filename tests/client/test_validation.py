"""What is not as it should be is no price; and it is said."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

import pytest
from client.daemons import price
from client.nonsense import BAD

from aggregator.client import Text
from aggregator.messages import Gap, PriceUpdate


def iso(age_s):
    return (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()


@pytest.fixture
async def follow(daemon, open_client):
    """Return a function that opens a client, and returns it, its messages, and what was bad."""

    async def follow(**options):
        client = await open_client(**options)
        found = []
        client.on_invalid = found.append
        messages = aiter(client.subscribe("btc"))
        await daemon.until(lambda: any(daemon.wants.values()))
        return client, messages, found

    return follow


@pytest.mark.parametrize(
    ("fields", "reason"),
    [*BAD.values(), ({"price": "NaN"}, "no number")],
    ids=[*BAD, "a price that is no number"],
)
async def test_it_is_not_handed_out_but_said(daemon, follow, fields, reason):
    """With a reason and the text that came; in its place there is a gap."""
    client, messages, found = await follow()
    await daemon.say(price(1))
    await daemon.say(price(2, **fields))
    await daemon.say(price(3))
    first, gap, last = [await anext(messages) for _ in range(3)]
    assert (first.seq, last.seq) == (1, 3)
    assert (type(gap), gap.from_seq, gap.to_seq, gap.reason) == (Gap, 2, 2, "client")
    [invalid] = found
    assert reason in invalid.reason
    assert b'"seq": 2' in invalid.text
    assert client.counters.invalid == 1
    [sequence] = client.readers.sequences.values()
    assert sequence.missing == 0


@pytest.mark.parametrize(
    "text", ["hello", "[]", "5", '{"a": ', '{"type":5}', '{"x":' * 100_000, '{"a":1}']
)
async def test_what_is_no_message_is_said_too(daemon, follow, text):
    """And the client goes on."""
    client, messages, found = await follow()
    await daemon.say(text)
    await daemon.say(price(1))
    assert (await anext(messages)).seq == 1
    assert len(found) == 1
    assert found[0].text == text.encode()
    assert client.counters.connections == 1


@pytest.mark.parametrize("limit", [5.0, {"btc": 5.0, "eth": 0.1}])
async def test_what_is_too_old_is_no_price(daemon, follow, limit):
    """By a limit for all, or one for each channel; the message is there to look at."""
    _, messages, found = await follow(max_age_s=limit)
    await daemon.say(price(1, timestamp=iso(1)))
    await daemon.say(price(2, timestamp=iso(60)))
    await daemon.say(price(3, timestamp=iso(1)))
    assert [(await anext(messages)).seq for _ in range(2)] == [1, 3]
    assert "60.0 s old, more than 5 s" in found[0].reason
    assert isinstance(found[0].message, PriceUpdate)


async def test_another_channel_has_no_limit(daemon, follow):
    """If it has none of its own."""
    _, messages, found = await follow(max_age_s={"eth": 0.001})
    await daemon.say(price(1, timestamp=iso(60)))
    assert (await anext(messages)).seq == 1
    assert not found


async def test_how_far_ahead_is_an_option(daemon, follow):
    """Clocks differ."""
    _, messages, found = await follow(max_ahead_s=5.0)
    await daemon.say(price(1, timestamp=iso(-2)))
    await daemon.say(price(2, timestamp=iso(-60)))
    await daemon.say(price(3))
    received = [await anext(messages) for _ in range(3)]
    assert [type(message) for message in received] == [PriceUpdate, Gap, PriceUpdate]
    assert "absurd" in found[0].reason


async def test_a_book_without_a_change_is_lost(daemon, follow):
    """So there is a gap in its place."""
    _, messages, _ = await follow()
    levels = {"bids": [["9", "1"]], "asks": [], "sequence": 1}
    message = price(1, timestamp="1970-01-01T00:00:00Z") | {"type": "orderbook_update"}
    await daemon.say(message | {"action": "delta", "data": levels})
    gap = await anext(messages)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.instrument, gap.from_seq, gap.to_seq) == ("client", "BTC/USDT", 1, 1)


async def test_without_a_callback_the_log_says_so(daemon, open_client, caplog):
    """Less and less often."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: any(daemon.wants.values()))
    with caplog.at_level(logging.WARNING, "aggregator.client"):
        for seq in range(1, 10):
            await daemon.say(price(seq, price="x"))
        await daemon.say(price(10))
        assert [(await anext(messages)).from_seq for _ in range(9)] == list(range(1, 10))
        assert (await anext(messages)).seq == 10
    assert [r.args[0] for r in caplog.records] == [1, 2, 4, 8]
    assert "price" in caplog.text


async def test_as_text_everything_is_handed_out(daemon, follow):
    """Byte for byte, known or not, valid or not; but nothing twice."""
    client, messages, _ = await follow(text=True)
    texts = ['{"type":"new",  "x":1}', "hello", '{"type":"heartbeat"}']
    await daemon.say(price(1))
    await daemon.say(price(1))
    for text in texts:
        await daemon.say(text)
    found = [await anext(messages) for _ in range(4)]
    assert all(isinstance(each, Text) for each in found)
    assert found[0].message.seq == 1
    assert b'"price": 42150.5' in found[0].text
    assert [each.text.decode() for each in found[1:]] == texts
    assert [each.message for each in found[1:]] == [None] * 3
    assert client.counters.duplicates == 1


async def test_as_text_what_is_not_valid_is_itself(daemon, follow):
    """In its place, and no gap besides."""
    _, messages, found = await follow(text=True)
    await daemon.say(price(1, price="x"))
    await daemon.say(price(2, timestamp="2200-01-01T00:00:00Z"))
    await daemon.say(price(3))
    received = [await anext(messages) for _ in range(3)]
    assert [text.message is None for text in received] == [True, True, False]
    assert [f'"seq": {seq}'.encode() in text.text for seq, text in enumerate(received, 1)]
    assert len(found) == 2


async def test_an_error_in_on_invalid_ends_the_client(daemon, follow):
    """It is the caller's own error: whoever reads gets it."""
    client, messages, _ = await follow()

    def fails(invalid):
        raise ZeroDivisionError

    client.on_invalid = fails
    await daemon.say("hello")
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(20):
            await anext(messages)
    assert client.state.name == "closed"
