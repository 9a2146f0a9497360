"""Whose request it is: what proxies say of it, and what anybody else does."""

from __future__ import annotations

import json

import pytest
from aiohttp import web
from gateway.leftovers import earlier, living  # noqa: F401 - a fixture
from gateway.wsclient import Client, Raw, eventually, handshake
from pydantic import ValidationError

from aggregator.gateway.proxies import SIGNS, client_address
from aggregator.settings import Server
from aggregator.tokens import Keyring

PROXIES = ["10.0.0.0/8", "127.0.0.1", "fd00::/8"]
BOTH_WAYS = pytest.mark.parametrize("way", ["handoff", "fallback"], indirect=True)


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        # What the client has made up stands to the left.
        ("127.0.0.1", ["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["<script>, , 203.0.113.7"], "203.0.113.7"),
        ("127.0.0.1", ["198.51.100.1", "203.0.113.7"], "203.0.113.7"),
        # Proxies behind proxies.
        ("127.0.0.1", ["198.51.100.1, 203.0.113.7,10.1.2.3 , 10.0.0.1"], "203.0.113.7"),
        ("127.0.0.1", ["10.1.2.3, 10.0.0.1"], "10.1.2.3"),
        # With a port, in brackets, of version 6.
        ("127.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("127.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("127.0.0.1", ["[2001:DB8:0::7]"], "2001:db8::7"),
        ("127.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("127.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("fd00::1", ["203.0.113.7"], "203.0.113.7"),
        ("::ffff:127.0.0.1", ["::ffff:203.0.113.7"], "203.0.113.7"),
        # What is no address.
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7,"], "127.0.0.1"),
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7, unknown, 10.0.0.1"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7:"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.7:x"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.777"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:db8::7"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:db8::7]x"], "127.0.0.1"),
        ("127.0.0.1", ["[]"], "127.0.0.1"),
        ("127.0.0.1", ["2130706433"], "127.0.0.1"),
        # From others.
        ("198.51.100.1", ["203.0.113.7"], "198.51.100.1"),
        ("127.0.0.2", ["203.0.113.7"], "127.0.0.2"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_address(peer, forwarded, address):
    """The rightmost that is no proxy's, if a proxy says so, and every word up to it is good."""
    assert client_address(peer, forwarded, PROXIES) == address
    assert client_address(peer, forwarded, []) == peer


@pytest.mark.parametrize("text", ["10.0.0.1/8", "localhost", "", "10.0.0.0/33"])
def test_networks(text):
    """What is no address and no network is a fault."""
    with pytest.raises(ValidationError, match="an address or a network is expected"):
        Server(trusted_proxies=[text])


async def ask(daemon, request):
    """Return status and JSON of an answer; without an answer to read of a WebSocket."""
    async with await Raw.open(daemon.port) as raw:
        await raw.write(request)
        status, _, body = await raw.response()
        return status, json.loads(body) if body else {}


async def come(daemon, forwarded):
    """Connect as somebody whom a proxy passes on; return the client, or `None` for 429."""
    client = await Client.open(daemon.port)
    await client.write(handshake(X_Forwarded_For=forwarded))
    status, _ = await client.head()
    if status == 101:
        return client
    client.sock.close()
    assert status == 429
    return None


@BOTH_WAYS
async def test_connections_of_an_address(serve):
    """Each client has its own count; what it says of itself does not make it another."""
    daemon = await serve(trusted_proxies=["127.0.0.1"], max_connections_per_address=1)
    first, other = await come(daemon, "203.0.113.7"), await come(daemon, "203.0.113.8")
    for client in (first, other):
        await client.pinged()
    assert await come(daemon, "203.0.113.7") is None
    assert await come(daemon, "198.51.100.1, 203.0.113.7") is None
    assert sorted(s.address for s in daemon.sessions) == ["203.0.113.7", "203.0.113.8"]
    first.sock.close()
    await eventually(lambda: len(daemon.sessions) == 1)
    again = await come(daemon, "203.0.113.7")
    again.sock.close()
    other.sock.close()
    await eventually(lambda: not len(daemon.sessions))
    assert not daemon.sessions._per_address


@BOTH_WAYS
async def test_header_of_somebody_else(serve):
    """From a peer that is no proxy the header changes nothing."""
    daemon = await serve(trusted_proxies=["10.0.0.0/8"], max_connections_per_address=1)
    first = await come(daemon, "203.0.113.7")
    assert [s.address for s in daemon.sessions] == ["127.0.0.1"]
    assert await come(daemon, "203.0.113.8") is None
    first.sock.close()


async def test_wrong_tokens(serve):
    """They are counted for the client: not for the proxy, and not for whom it pretends to be."""
    daemon = await serve(trusted_proxies=["127.0.0.1"], keyring=Keyring({}, {}, None))

    async def show(forwarded):
        head = f"X-Forwarded-For: {forwarded}\r\nAuthorization: Bearer wrong\r\n\r\n"
        request = f"POST /publish HTTP/1.1\r\nHost: localhost\r\n{head}"
        return (await ask(daemon, request.encode()))[0]

    daemon.sessions.config = daemon.sessions.config.model_copy(
        update={"ops_token": Server(ops_token="right").ops_token}
    )
    assert [await show(f"10.0.0.{n}, 203.0.113.7") for n in range(6)] == [401] * 5 + [429]
    assert await show("203.0.113.8") == 401
    assert daemon.sessions.access.failures("127.0.0.1") == 0
    assert daemon.sessions.access.failures("203.0.113.7") == 6


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]])
async def test_operators_are_never_forwarded(serve, trusted):
    """With any sign of a proxy, loopback is the proxy's and lets nobody in."""
    daemon = await serve(trusted_proxies=trusted)

    def order(sign=""):
        body = '{"message": "x"}'
        return (
            "POST /ws/test HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n{sign}\r\n{body}"
        ).encode()

    assert (await ask(daemon, order()))[0] == 200
    for name in SIGNS:
        for value in ("127.0.0.1", "::1", ""):
            status, _ = await ask(daemon, order(f"{name}: {value}\r\n"))
            assert status == 403, (name, value)
    assert daemon.counters.broadcasts == 1


async def test_nothing_is_kept_of_who_was_passed_on(serve):
    """Nor of the request as it came."""
    daemon = await serve(trusted_proxies=["127.0.0.1"])
    client = await come(daemon, "203.0.113.7")
    await eventually(lambda: living(web.RequestHandler) == 0)
    assert living(web.Request) == 0
    client.sock.close()


async def test_reload(serve):
    """Another list holds for the next request."""
    daemon = await serve(max_connections_per_address=1)
    first = await come(daemon, "203.0.113.7")
    assert await come(daemon, "203.0.113.8") is None
    daemon.sessions.reconfigure(daemon.config.model_copy(update={"trusted_proxies": ["127.0.0.1"]}))
    second = await come(daemon, "203.0.113.8")
    assert {s.address for s in daemon.sessions} == {"127.0.0.1", "203.0.113.8"}
    for client in (first, second):
        client.sock.close()
