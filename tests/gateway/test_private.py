"""A user's own channels: everything to the owner's sessions, nothing to anybody else."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from typing import Any

import pytest
from gateway.conftest import Daemon
from gateway.test_access import OPS, READER, TOKENS, auth
from gateway.test_kills import messages
from gateway.test_model import Transport
from gateway.test_queries import get
from gateway.wsclient import Client, frame

from aggregator import tokens
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.model import (
    BalanceUpdate,
    Event,
    Fill,
    Heartbeat,
    Holding,
    OrderUpdate,
    PortfolioUpdate,
    PriceUpdate,
)
from aggregator.settings import Server, Token
from aggregator.tokens import Keyring

NOW_US = 1_795_161_360_598_000
NAMES = ["orders", "fills", "balances", "portfolio"]


def order(order_id: str = "o1", status: Any = "NEW", filled: str = "0") -> OrderUpdate:
    return OrderUpdate(
        account="main",
        exchange="okx",
        order_id=order_id,
        client_order_id="mine",
        symbol="BTC/USDT",
        side="BUY",
        type="LIMIT",
        status=status,
        quantity="0.50",
        filled_quantity=filled,
        price="42000.10",
        updated_us=NOW_US,
    )


def fill(trade_id: str = "t1") -> Fill:
    return Fill(
        account="main",
        exchange="okx",
        trade_id=trade_id,
        order_id="o1",
        symbol="BTC/USDT",
        side="BUY",
        price="42000.10",
        quantity="0.10",
        fee="0.00010",
        fee_asset="BTC",
        role="TAKER",
        traded_us=NOW_US,
    )


def balance(asset: str = "BTC", available: str = "1.50") -> BalanceUpdate:
    return BalanceUpdate(
        account="main",
        exchange="okx",
        asset=asset,
        available=available,
        frozen="0",
        updated_us=NOW_US,
    )


PORTFOLIO = PortfolioUpdate(
    account="main",
    exchange="okx",
    total_asset="100000.50",
    cash_balance="5.00",
    currency="USD",
    positions=[Holding(symbol="BTC/USDT", quantity="1.50")],
    updated_us=NOW_US,
)


@pytest.fixture
async def guarded(serve) -> Daemon:
    """Return a daemon with users."""
    return await serve(keyring=Keyring(TOKENS, {}, None))


async def known(daemon: Daemon, token: str) -> Client:
    client = await daemon.connect()
    assert (await client.ask(auth(token)))["type"] == "auth.success"
    return client


def publish(daemon: Daemon, event: Event, user: int = 1001) -> None:
    daemon.hub.publish_private(user, event, daemon.hub.now_us())


async def test_all_kinds(guarded):
    """To each session of the owner, in the same envelope, digits and all; to others nothing."""
    async with (
        await known(guarded, READER) as one,
        await known(guarded, READER) as two,
        await known(guarded, OPS) as other,
    ):
        for client in (one, two, other):
            answer = await client.subscribe(*NAMES)
            assert answer["channels"] == NAMES
            assert answer["positions"].keys() == set(NAMES)
        for event in (order(), fill(), balance(), PORTFOLIO):
            publish(guarded, event)
        found = [await one.receive() for _ in range(4)]
        assert [await two.receive() for _ in range(4)] == found
        kinds = [(m["type"], m["channel"], m["seq"], m["account"]) for m in found]
        assert kinds == [
            ("order.update", "orders", 1, "main"),
            ("trade", "fills", 1, "main"),
            ("balance.update", "balances", 1, "main"),
            ("portfolio.update", "portfolio", 1, "main"),
        ]
        assert found[0]["data"] == {
            "order_id": "o1",
            "client_order_id": "mine",
            "symbol": "BTC/USDT",
            "side": "BUY",
            "type": "LIMIT",
            "status": "NEW",
            "quantity": "0.50",
            "filled_quantity": "0",
            "price": "42000.10",
            "avg_price": None,
            "updated_at": "2026-11-20T07:56:00.598Z",
        }
        assert found[1]["data"]["fee"] == "0.00010"
        assert found[1]["data"]["traded_at"] == found[1]["timestamp"]
        assert found[3]["data"]["positions"][0]["quantity"] == "1.50"
        assert found[0]["exchange_us"] == NOW_US
        await other.pinged()


async def test_snapshot(guarded):
    """Open orders and balances as they are; orders that are over and fills are not in it."""
    for event in (order("o1"), order("o2"), order("o1", "PARTIALLY_FILLED", "0.1"), fill()):
        publish(guarded, event)
    publish(guarded, order("o2", "CANCELED"))
    publish(guarded, balance("BTC", "1"))
    publish(guarded, balance("USDT", "5"))
    publish(guarded, balance("BTC", "2"))
    async with await known(guarded, READER) as client:
        await client.subscribe("orders", "fills", "balances")
        found = [await client.receive() for _ in range(3)]
        assert sorted((m["type"], m["seq"]) for m in found) == [
            ("balance.update", 2),
            ("balance.update", 3),
            ("order.update", 3),
        ]
        publish(guarded, order("o1", "FILLED", "0.5"))
        assert (await client.receive())["data"]["status"] == "FILLED"
    async with await known(guarded, READER) as client:
        await client.subscribe("orders")
        await client.pinged()


async def test_resume(guarded):
    """As of any channel: exactly what was missed, in its order."""
    for number in range(1, 6):
        publish(guarded, order("o1", "PARTIALLY_FILLED", f"0.{number}"))
    async with await known(guarded, READER) as client:
        since = {"orders": {"epoch": guarded.hub.epoch, "seq": 3}}
        answer = await client.ask({"type": "subscribe", "channels": ["orders"], "since": since})
        assert answer["recovered"] == {"orders": True}
        assert [(await client.receive())["seq"] for _ in range(2)] == [4, 5]


async def test_without_a_token(guarded):
    """Each is refused by name; the public ones of the same command are kept."""
    async with await guarded.connect() as client:
        await client.send({"type": "subscribe", "channels": [*NAMES, "prices"], "id": 1})
        answers = [await client.receive() for _ in range(5)]
        assert answers[0]["channels"] == ["prices"]
        refused = [(a["code"], a["channel"], a["id"]) for a in answers[1:]]
        assert refused == [("unauthorized", name, 1) for name in NAMES]
        publish(guarded, order())
        await client.pinged()


async def test_unsubscribe(guarded):
    """Nothing more follows."""
    async with await known(guarded, READER) as client:
        await client.subscribe("orders", "fills")
        await client.ask({"type": "unsubscribe", "channels": ["orders"]})
        publish(guarded, order())
        publish(guarded, fill())
        assert (await client.receive())["type"] == "trade"


async def test_every_one_comes_in_its_order(guarded):
    """Terms of prices do not hold for them: no rate, and nothing is folded for who is slow."""
    async with await known(guarded, READER) as client:
        await client.ask({"type": "subscribe", "channels": ["orders"], "max_hz": 0.001})
        for number in range(20):
            publish(guarded, order("o1", "PARTIALLY_FILLED", f"0.{number}"))
        found = [await client.receive() for _ in range(20)]
        assert [m["seq"] for m in found] == list(range(1, 21))


@pytest.mark.parametrize(
    "want",
    [
        "orders@1001",
        "orders@1002",
        "@1001",
        "orders:o1",
        "orders:main:o1",
        "*:main:o1",
        "*:main",
        "*@1001:main:o1",
        "orders@1001:main:o1",
        "ORDERS",
        "orders ",
        "orders@",
        "orders@01001",
    ],
)
async def test_tricks(guarded, want):
    """No way to write a subscription gets at what is another's, with or without a token."""
    publish(guarded, order())
    async with await guarded.connect() as nobody, await known(guarded, OPS) as other:
        for client in (nobody, other):
            answer = await client.ask({"type": "subscribe", "channels": [want]})
            # A star may find a public channel that has yet to learn what it has.
            assert answer.get("code") in {"unknown_channel", "unauthorized", None}
            assert want.startswith("*:") == (answer["type"] == "subscribed")
            assert str(NOW_US) not in json.dumps(answer)
            publish(guarded, order())
            await client.pinged()


@pytest.mark.parametrize("path", ["/latest/{}", "/history/{}", "/why/{}"])
@pytest.mark.parametrize("name", ["orders", "orders@1001", "orders%401001"])
async def test_tricks_over_http(guarded, path, name):
    """HTTP knows no channel of a user."""
    publish(guarded, order())
    assert (await get(guarded, path.format(name)))[0] == 404
    status, _, body = await get(guarded, "/channels")
    assert (status, "orders" in body) == (200, False)


async def test_token_of_another_user_on_the_same_connection(guarded):
    """It is refused, so what the first one subscribed to never changes hands."""
    async with await known(guarded, READER) as client:
        await client.subscribe("orders")
        assert (await client.ask(auth(OPS)))["code"] == "forbidden"
        publish(guarded, order(), user=1)
        publish(guarded, order("mine"))
        assert (await client.receive())["data"]["order_id"] == "mine"


def test_only_private_events():
    """What belongs to everybody can't be published to one."""
    with pytest.raises(TypeError):
        Hub().publish_private(1, Heartbeat(), 1)


KEYS = {user: tokens.create(f"u{user}") for user in (1, 2)}


class Someone:
    """A client without a socket, who may be anybody or nobody."""

    def __init__(self, sessions: Sessions, user: int | None) -> None:
        self.user = user
        self.session, self.transport = sessions.create("x", short=False), Transport()
        self.transport.session = self.session
        sessions.add(self.session, self.transport, b"")
        if user is not None:
            self.send(auth(KEYS[user][0]))

    def send(self, command: dict[str, object]) -> None:
        self.session._receive(frame(json.dumps(command).encode()))


def test_two_users_and_a_hundred_thousand_events():
    """Whatever they ask for, slow or fast: each gets its own and nobody another's."""
    chance = random.Random(3)
    hub = Hub(history=50)
    prices = hub.add_channel("prices", "venue", ["BTC/USDT"])
    ring = Keyring({f"u{u}": Token(user=u, hash=h) for u, (_, h) in KEYS.items()}, {}, None)
    config = Server(command_burst=10**6, max_buffered_bytes=10**6)
    sessions = Sessions(hub, config, lambda: 0.0, ring)
    tricks = [*NAMES, "orders@1", "orders@2", "*:BTC/USDT", "prices", "orders:1", "*:main"]
    people = [Someone(sessions, user) for user in (1, 2, 1, 2, None)]
    got: dict[int | None, int] = defaultdict(int)
    for _ in range(1000):
        for _ in range(100):
            user = chance.choice((1, 2))
            event = chance.choice(
                [order(f"{user}-{chance.randrange(9)}"), fill(f"{user}-1"), balance(f"{user}-A")]
            )
            hub.publish_private(user, event, 1)
        hub.publish(prices, PriceUpdate("BTC/USDT", "1", b"{}"), 1)
        someone = chance.choice(people)
        match chance.randrange(5):
            case 0 | 1:
                since = {n: {"epoch": hub.epoch, "seq": chance.randrange(9)} for n in NAMES}
                channels = chance.sample(tricks, 4)
                someone.send({"type": "subscribe", "channels": channels, "since": since})
            case 2:
                someone.send({"type": "unsubscribe", "channels": [chance.choice(tricks)]})
            case 3:
                someone.transport.stalled = True
            case _:
                someone.transport.flow()
        hub.flush()
        for each in people:
            for message in messages(each.transport.data):
                if message.get("account"):
                    content = message["data"]
                    name = content.get("trade_id") or content.get("order_id") or content["asset"]
                    assert name.startswith(f"{each.user}-")
                    got[each.user] += 1
            each.transport.data = b""
    assert min(got[1], got[2]) > 1000
    assert got.keys() == {1, 2}
    assert hub.private_messages == 100_000
