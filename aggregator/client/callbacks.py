"""Functions that are called with each message of a type."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeVar

from aggregator.messages import (
    BalanceUpdate,
    Candle,
    Error,
    Gap,
    Heartbeat,
    Message,
    OrderbookUpdate,
    OrderUpdate,
    OwnTrade,
    PortfolioUpdate,
    PriceUpdate,
    SystemStatus,
    TestMessage,
    TradeExecuted,
)

from .buffer import Text

M = TypeVar("M")
Callback = Callable[[M], Awaitable[None] | None] | None


class Invalid(NamedTuple):
    """What came and was not handed out: `message` is there if it could be decoded."""

    reason: str
    text: bytes
    message: Message | None


class State(NamedTuple):
    """
    How the connection is doing.

    `name` is `connecting`, `connected`, `waiting` (for the next attempt), `open` (the circuit
    breaker, after many failures), `half_open` (one attempt, to see) or `closed`.
    """

    name: str
    reason: str = ""
    wait_s: float = 0.0


class Callbacks:
    """
    Set any of these to a function of one argument.

    Those of messages are called when a message is taken: by `wait()`, or by iterating. `on_message`
    gets all of them. `on_state` and `on_invalid` are about the connection: plain functions, called
    as it happens; by a `SyncClient` when you take messages or wait.
    """

    def __init__(self) -> None:
        self.on_message: Callback[Message] = None
        self.on_price: Callback[PriceUpdate] = None
        self.on_book: Callback[OrderbookUpdate] = None
        self.on_trade: Callback[TradeExecuted] = None
        self.on_candle: Callback[Candle] = None
        self.on_status: Callback[SystemStatus] = None
        self.on_order: Callback[OrderUpdate] = None
        self.on_fill: Callback[OwnTrade] = None
        self.on_balance: Callback[BalanceUpdate] = None
        self.on_portfolio: Callback[PortfolioUpdate] = None
        self.on_heartbeat: Callback[Heartbeat] = None
        self.on_gap: Callback[Gap] = None
        self.on_test_message: Callback[TestMessage] = None
        self.on_error: Callback[Error] = None
        self.on_state: Callable[[State], None] | None = None
        self.on_invalid: Callable[[Invalid], None] | None = None

    def called(self, item: Message) -> list[Awaitable[None]]:
        """Call what is set for a message; return what is to be awaited."""
        message = item.message if isinstance(item, Text) else item
        by_type = getattr(self, NAMES.get(type(message), ""), None) if message is not None else None
        results = [by_type(message)] if by_type is not None else []
        if self.on_message is not None:
            results.append(self.on_message(item))
        return [result for result in results if result is not None]

    @property
    def any_set(self) -> bool:
        """Whether there is anything to call for a message."""
        return any(getattr(self, name) is not None for name in (*NAMES.values(), "on_message"))


NAMES: dict[type[Message], str] = {
    PriceUpdate: "on_price",
    OrderbookUpdate: "on_book",
    TradeExecuted: "on_trade",
    Candle: "on_candle",
    SystemStatus: "on_status",
    OrderUpdate: "on_order",
    OwnTrade: "on_fill",
    BalanceUpdate: "on_balance",
    PortfolioUpdate: "on_portfolio",
    Heartbeat: "on_heartbeat",
    Gap: "on_gap",
    TestMessage: "on_test_message",
    Error: "on_error",
}
