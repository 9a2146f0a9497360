"""Limits for each address: of IPv6 one holds for a whole network, which is one customer's."""

from __future__ import annotations

import pytest
from gateway.leftovers import earlier, living  # noqa: F401 - a fixture
from gateway.test_proxies import BOTH_WAYS, come
from gateway.wsclient import Raw, eventually, handshake

from aggregator.gateway import http_connections
from aggregator.gateway.addresses import counted_as
from aggregator.tokens import Keyring

NEIGHBOURS = "2001:db8:0:1::7", "2001:db8:0:1:ffff::1"
STRANGER = "2001:db8:0:2::7"


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::7", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        # Of a Unix socket there is none.
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_network_of_an_address(address, counted):
    """IPv4 counts as it is, also within IPv6; of IPv6 the first 64 bits count."""
    assert counted_as(address) == counted


@BOTH_WAYS
async def test_clients(serve):
    """Neighbours in a network share a count, which goes when they do; each keeps its address."""
    daemon = await serve(trusted_proxies=["127.0.0.1"], max_connections_per_address=1)
    one, other = NEIGHBOURS
    first = await come(daemon, one)
    assert await come(daemon, other) is None
    stranger = await come(daemon, STRANGER)
    assert sorted(s.address for s in daemon.sessions) == [one, STRANGER]
    first.sock.close()
    await eventually(lambda: len(daemon.sessions) == 1)
    again = await come(daemon, other)
    again.sock.close()
    stranger.sock.close()
    await eventually(lambda: not len(daemon.sessions))
    assert not daemon.sessions._per_address


class From:
    """A connection as if it came from another address."""

    def __init__(self, transport, address):
        self._transport = transport
        self._address = address

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def get_extra_info(self, name, default=None):
        if name == "peername":
            return self._address, 1, 0, 0
        return self._transport.get_extra_info(name, default)


async def test_connections_that_say_nothing(serve, monkeypatch):
    """As many as there may be of a network; all are counted out."""
    addresses = iter([*NEIGHBOURS, STRANGER])
    arrived = http_connections.HttpConnections.arrived

    def elsewhere(connections, transport):
        arrived(connections, From(transport, next(addresses)))

    monkeypatch.setattr(http_connections.HttpConnections, "arrived", elsewhere)
    daemon = await serve(max_connections_per_address=1)
    async with await Raw.open(daemon.port):
        await eventually(lambda: daemon.server.http_connections == 1)
        async with await Raw.open(daemon.port) as neighbour:
            await neighbour.ended()
        async with await Raw.open(daemon.port):
            await eventually(lambda: daemon.server.http_connections == 2)
    await eventually(lambda: not daemon.server.http_connections)
    assert not daemon.server._connections._per_address
    assert daemon.counters.rejected == {"max_http_connections_per_address": 1}


async def test_wrong_tokens(serve):
    """Whoever guesses from one address after the other of a network is slowed down as one."""
    daemon = await serve(trusted_proxies=["127.0.0.1"], keyring=Keyring({}, {}, None))

    async def guess(address: str) -> int:
        async with await Raw.open(daemon.port) as raw:
            more = {"Authorization": "Bearer wrong", "X-Forwarded-For": address}
            await raw.write(handshake(**more))
            return (await raw.response())[0]

    statuses = [await guess(f"2001:db8:0:1::{number}") for number in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    assert await guess(STRANGER) == 401
