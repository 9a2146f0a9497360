"""Binance's pings: the server asks, and ends a connection whose pong does not come."""

from aggregator.simulator.binance_shapes import now_ms
from aggregator.simulator.connection import PING, Connection


class Pings:
    """
    What both kinds of Binance's connections have; their state has `ping` and `pinged_at`.

    Args:
        ping_s: from one ping to the next.
        pong_timeout_s: for the pong.

    """

    def __init__(self, ping_s: float, pong_timeout_s: float) -> None:
        self._ping_s = ping_s
        self._pong_timeout_s = pong_timeout_s

    def ponged(self, connection: Connection, payload: bytes) -> None:
        """Note a pong; only one with the payload of our ping counts."""
        if payload == connection.state.ping:
            connection.state.ping = None

    def watch(self, connection: Connection, now: float) -> None:
        """Send the ping that is due, end the connection whose pong is overdue."""
        peer = connection.state
        if peer.ping is not None and now - peer.pinged_at > self._pong_timeout_s:
            connection.close(1008, "Pong timeout")
        elif peer.ping is None and now - peer.pinged_at >= self._ping_s:
            peer.ping, peer.pinged_at = str(now_ms()).encode(), now
            connection.send(peer.ping, PING)
