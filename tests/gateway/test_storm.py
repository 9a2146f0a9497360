"""Everybody comes back at once: what a snapshot costs then."""

from __future__ import annotations

import json
import time

from gateway.test_model import Transport
from gateway.wsclient import frame

from aggregator import shape
from aggregator.config import Server
from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.model import PriceUpdate

CLIENTS, INSTRUMENTS = 200, 100
DATA = b'{"lastUpdateId":65634206,"bids":[["67010.03000000","0.01044000"]],"asks":[]}'


def test_a_storm_of_reconnects_compresses_once(monkeypatch):
    """Clients that subscribe within 50 ms share each message of the snapshot, compressed once."""
    compressed = []

    def deflated(framed: bytes, bits: int) -> bytes:
        compressed.append(framed)
        return real(framed, bits)

    real = shape.deflated
    monkeypatch.setattr(shape, "deflated", deflated)
    now_ns = time.time_ns()
    hub = Hub(clock_ns=lambda: now_ns)
    channel = hub.add_channel("a", "venue")
    for n in range(INSTRUMENTS):
        hub.publish(channel, PriceUpdate(f"A{n}/B", "1.50", DATA), now_ns // 1000)
    sessions = Sessions(hub, Server(), lambda: 0.0)
    command = frame(json.dumps({"type": "subscribe", "channels": ["a"]}).encode())
    received = set()
    for _ in range(CLIENTS):
        session, transport = sessions.create("x", short=False, deflate_bits=12), Transport()
        transport.session = session
        sessions.add(session, transport, b"")
        session._receive(command)
        received.add(transport.data)
    assert len(received) == 1
    # Besides each one's acknowledgement.
    prices = [each for each in compressed if b'"age_us"' in each]
    assert len(prices) == INSTRUMENTS
    assert len(compressed) == INSTRUMENTS + CLIENTS
