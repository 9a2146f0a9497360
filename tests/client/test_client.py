"""`Client`: what is subscribed to is handed out, typed and in order."""

import asyncio

import pytest
from client.daemons import price

from aggregator.client import Client, ClosedError, Options, RefusedError, SubscriptionError
from aggregator.messages import Error, Gap, OfUser, PriceUpdate, SystemStatus, TestMessage


def seqs(messages):
    return [message.seq for message in messages]


def status(seq, state="live", feed="btc", instrument=None):
    data = {"feed": feed, "instrument": instrument, "state": state, "since_us": 1, "reason": "why"}
    message = {"type": "system_status", "channel": "system", "seq": seq, "data": data}
    return message | {"timestamp": "2026-11-20T07:48:07.636Z"}


async def test_it_yields_typed_messages_in_order(daemon, open_client, take):
    """The snapshot first, then what is published."""
    await daemon.publish()
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    [first] = await take(messages, 1)
    assert isinstance(first, PriceUpdate)
    assert (first.seq, first.age_us, first.stale) == (1, 5, False)
    for _ in range(3):
        await daemon.publish()
    found = []
    while len(found) < 3:
        found.append(await anext(messages))
    assert seqs(found) == [2, 3, 4]
    assert daemon.commands == [{"type": "subscribe", "channels": ["btc"], "id": 1}]
    assert client.counters.gaps == 0


async def test_the_terms_are_passed_on(daemon, open_client):
    """`max_hz` and `raw`, one command for all that have the same."""
    client = await open_client()
    client.subscribe("btc:BTC/USDT", "eth", max_hz=2)
    client.subscribe("system", raw=False)

    def said():
        commands = [c for c in daemon.commands if c["type"] == "subscribe"]
        return [{k: v for k, v in c.items() if k != "id"} for c in commands]

    await daemon.until(lambda: len(said()) == 2)
    assert said() == [
        {"type": "subscribe", "max_hz": 2, "channels": ["btc:BTC/USDT", "eth"]},
        {"type": "subscribe", "raw": False, "channels": ["system"]},
    ]
    await daemon.cut()
    await daemon.until(lambda: len(said()) == 4)
    assert {tuple(c["channels"]) for c in said()[2:]} == {
        ("btc:BTC/USDT", "eth"),
        ("system",),
    }


async def test_two_tasks_iterate_over_their_own(daemon, open_client, take):
    """Each gets its channels, and nothing of the other's."""
    client = await open_client()

    async def follow(*channels):
        return [m.channel for m in await take(client.subscribe(*channels), 3)]

    both = asyncio.gather(follow("btc"), follow("eth"))
    await daemon.until(lambda: sum(map(len, daemon.wants.values())) == 2)
    for _ in range(3):
        await daemon.publish("btc")
        await daemon.publish("eth")
    assert await both == [["btc"] * 3, ["eth"] * 3]


async def test_what_two_want_both_get(daemon, open_client, take):
    """Also by a wildcard; but only one of them calls the callback."""
    client = await open_client()
    called = []
    client.on_price = called.append
    one, other = client.subscribe("btc"), client.subscribe("*:BTC/USDT")
    both = asyncio.gather(take(one, 2), take(other, 3))
    await daemon.until(lambda: len(daemon.commands) == 2)
    await daemon.publish("btc")
    await daemon.publish("eth")
    await daemon.publish("eth", "ETH/USDT")
    await daemon.publish("btc")
    one_got, other_got = await both
    assert [m.channel for m in one_got] == ["btc", "btc"]
    assert [m.channel for m in other_got] == ["btc", "eth", "btc"]
    assert len(called) == 3


async def test_a_wait_that_is_given_up_ends_nothing(daemon, open_client):
    """What comes afterwards is there for the same iteration."""
    client = await open_client()
    messages = aiter(client.subscribe("btc"))
    await daemon.until(lambda: daemon.commands)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await anext(messages)
    await daemon.publish("btc")
    assert (await anext(messages)).channel == "btc"
    await client.close()
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(messages)


@pytest.mark.parametrize(
    "option",
    [
        {"first_wait_s": -1},
        {"ping_after_s": "20"},
        {"max_wait_s": float("nan")},
        {"max_age_s": {"btc": "5"}},
        {"max_age_s": -5},
        {"breaker_failures": 0},
        {"buffer": 0},
        {"policy": "all"},
    ],
    ids=str,
)
def test_an_option_that_can_not_be(option):
    """Is said at once."""
    with pytest.raises(ValueError, match="is"):
        Options(**option)


async def test_callbacks_by_type(daemon, open_client):
    """Each gets its own messages when `wait` hands them out; `on_message` gets all."""
    client = await open_client()
    got = {name: [] for name in ("price", "status", "test_message", "message", "gap")}
    for name, messages in got.items():
        setattr(client, f"on_{name}", messages.append)

    async def enough(message):
        if isinstance(message, TestMessage):
            await client.close()

    client.on_test_message = enough
    client.subscribe("btc", "system")
    await daemon.until(lambda: daemon.commands)
    await daemon.publish()
    await daemon.say(status(1))
    await daemon.say({"type": "test_message", "message": "x", "timestamp": "2026-11-20T07:48:07Z"})
    async with asyncio.timeout(20):
        await client.wait()
    assert [type(m) for m in got["message"]] == [PriceUpdate, SystemStatus, TestMessage]
    assert got["price"] == got["message"][:1]
    assert got["status"] == got["message"][1:2]
    assert not got["gap"]


async def test_wait_ends_after_its_time(daemon, open_client):
    """Without an error, and with messages still to come."""
    client = await open_client()
    client.subscribe("btc")
    async with asyncio.timeout(20):
        await client.wait(timeout=0.01)
    assert client.state.name == "connected"


async def test_what_a_callback_raises_is_raised_by_wait(daemon, open_client):
    """It is the caller's error, and the client goes on."""
    client = await open_client()
    called = []

    def fails(message):
        called.append(message)
        raise ZeroDivisionError

    client.on_price = fails
    client.subscribe("btc")
    await daemon.until(lambda: daemon.commands)
    await daemon.publish()
    await daemon.publish()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await client.wait(timeout=20)
    assert seqs(called) == [1, 2]


async def test_iterating_takes_over_what_waits(daemon, open_client, take):
    """What came between `subscribe` and the loop is not lost; others keep theirs."""
    client = await open_client()
    one = client.subscribe("btc")
    client.subscribe("eth")
    await daemon.until(lambda: len(daemon.commands) == 2)
    await daemon.publish("btc")
    await daemon.publish("eth")
    await daemon.publish("btc")
    [last] = await take(client, 1)
    assert (last.channel, last.seq) == ("btc", 1)
    assert seqs(await take(one, 1)) == [2]
    [other] = await take(client, 1)
    assert other.channel == "eth"


async def test_an_iteration_can_be_left_and_taken_up(daemon, open_client, take):
    """Nothing is lost in between."""
    client = await open_client()
    subscription = client.subscribe("btc")
    for number in range(1, 5):
        first = asyncio.create_task(take(subscription, 1))
        await daemon.until(lambda: daemon.commands)
        await daemon.publish()
        assert seqs(await first) == [number]


async def test_a_second_subscription_gets_the_values_too(daemon, open_client, take):
    """Also of a channel that another one has already; that one gets nothing twice."""
    await daemon.publish()
    client = await open_client()
    one, called = client.subscribe("btc"), []
    client.on_price = called.append
    assert seqs(await take(one, 1)) == [1]
    other = client.subscribe("btc")
    assert seqs(await take(other, 1)) == [1]
    await daemon.publish()
    assert seqs(await take(one, 1)) == [2]
    assert seqs(await take(other, 1)) == [2]
    assert seqs(called) == [1, 2]


async def test_unsubscribe_ends_the_iteration(daemon, open_client, take):
    """Behind what has come; the daemon is told what nobody wants any more."""
    client = await open_client()
    one, other = client.subscribe("btc", "eth"), client.subscribe("eth")
    await daemon.until(lambda: len(daemon.commands) == 2)
    await daemon.publish("btc")
    taking = asyncio.create_task(take(one, 10))
    await daemon.publish("eth")
    await anext(aiter(other))
    client.unsubscribe("btc")
    assert [m.channel for m in await taking] == ["btc", "eth"]
    await daemon.until(lambda: daemon.commands[-1]["type"] == "unsubscribe")
    assert daemon.commands[-1]["channels"] == ["btc"]


async def test_one_refusal_is_a_message(daemon, open_client, take):
    """What is right of the subscription goes on."""
    client = await open_client()
    messages = aiter(client.subscribe("nowhere", "btc"))
    error = await anext(messages)
    assert isinstance(error, Error)
    assert (error.code, error.channel) == ("unknown_channel", "nowhere")
    await daemon.publish()
    assert (await anext(messages)).seq == 1


async def test_nothing_left_is_an_exception(daemon, open_client, take):
    """Behind the refusals, and with their words."""
    client = await open_client()
    messages = aiter(client.subscribe("nowhere", "elsewhere"))
    assert [(await anext(messages)).channel for _ in range(2)] == ["nowhere", "elsewhere"]
    with pytest.raises(SubscriptionError, match="nowhere: there is none; elsewhere") as caught:
        await anext(messages)
    assert len(caught.value.errors) == 2
    client.subscribe("nowhere")
    with pytest.raises(SubscriptionError, match="nowhere"):
        await client.wait(timeout=20)


async def test_a_command_that_was_too_fast_is_sent_again(daemon, open_client, take, monkeypatch):
    """`rate_limited` is no refusal for good."""
    monkeypatch.setattr("aggregator.client.commands.RETRY_S", 0.01)
    answer, refused = daemon._answer, []

    async def once(socket, command):
        if not refused:
            refused.append(command)
            error = {"type": "error", "code": "rate_limited", "message": "slow down"}
            await socket.send_json(error | {"id": command["id"]})
        else:
            await answer(socket, command)

    daemon._answer = once
    client = await open_client()
    messages = asyncio.create_task(take(client.subscribe("btc"), 1))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.publish()
    assert seqs(await messages) == [1]
    assert client.counters.gaps == 0


async def test_what_nobody_asked_for_is_passed_over(daemon, open_client, take):
    """Another channel, another type, another answer."""
    client = await open_client()
    messages = asyncio.create_task(take(client.subscribe("btc"), 1))
    await daemon.until(lambda: any(daemon.wants.values()))
    await daemon.say(price(1, channel="eth"))
    await daemon.say({"type": "newer.update", "channel": "btc", "seq": 1, "data": {}})
    await daemon.say({"type": "new", "text": "x"})
    await daemon.say({"type": "pong", "timestamp": "2026-11-20T07:48:07Z", "id": 99})
    await daemon.say(price(2))
    assert seqs(await messages) == [2]
    assert (client.counters.unknown, client.counters.invalid) == (3, 0)


async def test_a_token_is_shown_first(daemon, open_client):
    """On each connection, with a new code; what is repeated anywhere has no secret in it."""
    codes = iter(["111111", "222222"])
    options = {"token": "hunter2", "otp": lambda: next(codes)}
    client = await open_client(**options)
    client.subscribe("btc")
    await daemon.until(lambda: len(daemon.commands) == 2)
    await daemon.cut()
    await daemon.until(lambda: len(daemon.commands) == 4)
    auth = {"type": "auth", "token": "hunter2", "id": 1}
    assert daemon.commands[::2] == [auth | {"otp": "111111"}, auth | {"otp": "222222"}]
    assert daemon.commands[1] == {"type": "subscribe", "channels": ["btc"], "id": 2}
    assert "hunter2" not in repr(client.options)


async def test_a_wrong_token_is_the_end(daemon, open_client):
    """As soon as the daemon says so."""
    daemon.tokens = {"right"}
    client = await open_client(token="wrong")
    with pytest.raises(RefusedError, match="not a good token"):
        await anext(aiter(client.subscribe("btc")))
    client = await open_client(token="right")
    client.subscribe("btc")
    await daemon.until(lambda: any(daemon.wants.values()))


async def test_what_concerns_one_user(daemon, open_client, take):
    """Typed, with every digit, and kept apart by order, asset and account."""
    envelope = {"account": "main", "exchange": "binance", "timestamp": "2026-11-20T07:48:07Z"}
    envelope |= {"received_us": 1, "published_us": 1, "exchange_us": None}
    at = {"updated_at": "2026-11-20T07:48:07Z"}
    order = {"order_id": "1", "symbol": "BTC/USDT", "side": "BUY", "type": "LIMIT"} | at
    order |= {"status": "NEW", "quantity": "1.50", "filled_quantity": "0"}
    fill = {"trade_id": "1", "order_id": "1", "symbol": "BTC/USDT", "side": "BUY", "price": "9"}
    fill |= {"quantity": "1.50", "traded_at": at["updated_at"]}
    balance = {"asset": "BTC", "available": "1.50", "frozen": "0"} | at
    portfolio = {"total_asset": "9", "cash_balance": "1", "positions": []} | at
    client = await open_client()
    channels = ["orders", "fills", "balances", "portfolio"]
    daemon.history |= {name: [] for name in channels}
    messages = aiter(client.subscribe(*channels))
    called = []
    client.on_order = client.on_fill = client.on_balance = client.on_portfolio = called.append
    await daemon.until(lambda: any(daemon.wants.values()))
    types = ("order.update", "trade", "balance.update", "portfolio.update")
    contents = (order, fill, balance, portfolio)
    for type_, channel, data in zip(types, channels, contents, strict=True):
        await daemon.say({"type": type_, "channel": channel, "seq": 2, "data": data} | envelope)
        await daemon.say({"type": type_, "channel": channel, "seq": 2, "data": data} | envelope)
    other = {"type": "order.update", "channel": "orders", "seq": 1, "data": order} | envelope
    await daemon.say(other | {"data": order | {"order_id": "2"}})
    found = [await anext(messages) for _ in range(5)]
    assert [type(m) for m in found] == [*OfUser.__args__, OfUser.__args__[0]]
    assert str(found[0].data.quantity) == "1.50"
    assert called == found
    assert client.counters.duplicates == 4


async def test_a_client_that_is_closed_says_so(daemon, open_client):
    """It takes no subscription, and is not opened twice."""
    client = await open_client()
    await client.close()
    with pytest.raises(ClosedError):
        client.subscribe("btc")
    with pytest.raises(ClosedError):
        await client.connect()


@pytest.mark.parametrize(
    "wrong", [{"policy": "other"}, {"buffer": 0}, {"text": True, "policy": "conflate"}]
)
def test_options_that_make_no_sense_are_refused(wrong):
    """At once, not when it is too late."""
    with pytest.raises(ValueError):
        Options(**wrong)


async def test_a_subscription_to_nothing_is_refused(daemon, open_client):
    """It would never end."""
    client = await open_client()
    with pytest.raises(ValueError):
        client.subscribe()


def test_gap_is_a_message():
    """It can be told by its type, as all."""
    assert Gap.__struct_config__.tag == "gap"
    assert Client("ws://x").state.name == "connecting"


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ([], {}),
        ([["bitcoinprice"]], {}),
        ([5], {}),
        ([""], {}),
        (["a"], {"policy": "foo"}),
        (["a"], {"buffer": 0}),
        (["a"], {"buffer": -3}),
        (["a"], {"since": {"a": 5}}),
        (["a"], {"since": {"a": ["x", "y", "z"]}}),
    ],
    ids=str,
)
async def test_wrong_arguments_do_no_harm(args, options):
    """They are refused where they are given, and the client goes on."""
    client = Client("ws://127.0.0.1:9/ws")
    with pytest.raises((TypeError, ValueError)):
        client.subscribe(*args, **options)
    assert client.subscribe("a", since={"a": ["x", 5]}).channels == ("a",)
    await client.close()


async def test_two_readers_of_one_subscription():
    """The second is told so: else it would wait for ever."""
    client = Client("ws://127.0.0.1:9/ws")
    subscription = client.subscribe("a")
    first = asyncio.create_task(anext(aiter(subscription)))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="another task"):
        await anext(aiter(subscription))
    await client.close()
    with pytest.raises(StopAsyncIteration):
        await first
