"""Short ways to a user's own channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import Generic, TypeVar

S = TypeVar("S")


class OwnChannels(Generic[S]):
    """What both clients have for who shows a token."""

    @abstractmethod
    def subscribe(self, *channels: str) -> S:
        """Subscribe, now and after each reconnect."""

    def subscribe_orders(self) -> S:
        """Subscribe to your orders: first those that are open."""
        return self.subscribe("orders")

    def subscribe_fills(self) -> S:
        """Subscribe to the trades of your orders."""
        return self.subscribe("fills")

    def subscribe_balances(self) -> S:
        """Subscribe to your balances: first the last of each asset."""
        return self.subscribe("balances")

    def subscribe_portfolio(self) -> S:
        """Subscribe to what your accounts are worth: first the last of each."""
        return self.subscribe("portfolio")
