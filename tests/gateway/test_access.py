"""Who may do what: tokens on the socket, at the handshake and over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pyotp
import pytest
from gateway.conftest import Daemon
from gateway.test_queries import get
from gateway.wsclient import Client, Raw, eventually, frame, handshake
from pydantic import SecretStr

from aggregator import tokens
from aggregator.gateway import access
from aggregator.settings import Token, User
from aggregator.tokens import Keyring

READER, READERS_HASH = tokens.create("reader")
OPS, OPS_HASH = tokens.create("ops")
OTHER, OTHERS_HASH = tokens.create("other")
WRONG, _ = tokens.create("reader")
TOTP = pyotp.random_base32()
TOKENS = {
    "reader": Token(user=1001, hash=READERS_HASH),
    "ops": Token(user=1, role="ops", hash=OPS_HASH),
    "other": Token(user=1002, hash=OTHERS_HASH),
}


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(TOKENS, {1002: User(totp_secret=SecretStr(TOTP))}, None)


@pytest.fixture
async def guarded(serve, keyring) -> Daemon:
    """Return a daemon that has users."""
    return await serve(keyring=keyring)


@pytest.fixture
async def closed(serve, keyring) -> Daemon:
    """Return a daemon without anonymous clients."""
    return await serve(keyring=keyring, anonymous=False)


def auth(token: str, **more: object) -> dict[str, object]:
    return {"type": "auth", "token": token, **more}


def of(daemon: Daemon) -> list[int | None]:
    return sorted(s.identity.user_id if s.identity else 0 for s in daemon.sessions)


async def test_auth(guarded):
    """A good token is answered with the user; what was subscribed goes on; so does who is none."""
    async with await guarded.connect() as client, await guarded.connect() as anonymous:
        await client.subscribe("prices")
        await anonymous.subscribe("prices")
        answer = await client.ask(auth(READER, id=5))
        assert answer == {"type": "auth.success", "user_id": 1001, "id": 5}
        guarded.publish(1)
        for each in (client, anonymous):
            assert (await each.receive())["seq"] == 1
        assert of(guarded) == [0, 1001]
        assert guarded.sessions.access.accepted == 1


async def test_auth_again(guarded):
    """As the same user it is fine; as another it is not, and the connection stays the first's."""
    async with await guarded.connect() as client:
        for _ in range(2):
            assert (await client.ask(auth(READER)))["type"] == "auth.success"
        answer = await client.ask(auth(OPS, id="x"))
        assert (answer["code"], answer["id"]) == ("forbidden", "x")
        assert of(guarded) == [1001]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (auth(WRONG), "unauthorized"),
        (auth("x" * 5000), "unauthorized"),
        (auth("x" * 9000), "bad_command"),
        (auth(""), "bad_command"),
        (auth(5), "bad_command"),
        ({"type": "auth"}, "bad_command"),
        (auth(READER, user_id=1), "bad_command"),
        (auth(READER, otp=123456), "bad_command"),
        (auth(OTHER), "unauthorized"),
        (auth(OTHER, otp="000000"), "unauthorized"),
    ],
    ids=range(10),
)
async def test_what_is_refused(guarded, command, code, caplog):
    """With no word of why; nothing of the token is in the answer or the log."""
    caplog.set_level(logging.DEBUG)
    async with await guarded.connect() as client:
        await client.send(command)
        text = await client.receive_text()
        assert json.loads(text)["code"] == code
        token = str(command.get("token", ""))
        assert not token or token not in text + caplog.text
        assert of(guarded) == [0]


async def test_one_time_code(guarded):
    """Who requires one is asked for it, and gets in with it; the same code does not do again."""
    async with await guarded.connect() as client, await guarded.connect() as thief:
        answer = await client.ask(auth(OTHER))
        assert "one-time code" in answer["message"]
        # The next one, since those of before the start are taken for used.
        code = pyotp.TOTP(TOTP).at(time.time() + 30)
        assert (await client.ask(auth(OTHER, otp=code)))["user_id"] == 1002
        assert (await thief.ask(auth(OTHER, otp=code)))["code"] == "unauthorized"


async def test_wrong_ones_are_slowed(guarded, monkeypatch):
    """Each longer than the one before; five in a row end the connection with 4001."""
    pauses = []
    guarded.sessions.now = lambda: 100.0 + sum(pauses)
    monkeypatch.setattr(guarded.sessions, "pause_reading", lambda _, s: pauses.append(s))
    async with await guarded.connect() as client:
        for _ in range(4):
            assert (await client.ask(auth(WRONG)))["code"] == "unauthorized"
        await client.send(auth(WRONG))
        assert await client.closed() == (4001, "too many wrong tokens")
    assert pauses == [0.5, 1.0, 2.0, 4.0]
    assert guarded.sessions.access.rejected == {"unknown": 5}
    assert guarded.counters.closed[4001] == 1


async def test_failures_are_counted_by_address(guarded, monkeypatch):
    """A new connection does not begin anew; a good token does; and time."""
    monkeypatch.setattr(guarded.sessions, "pause_reading", lambda *_: None)
    for _ in range(4):
        async with await guarded.connect() as client:
            assert (await client.ask(auth(WRONG)))["code"] == "unauthorized"
    async with await guarded.connect() as client:
        assert (await client.ask(auth(READER)))["type"] == "auth.success"
        assert (await client.ask(auth(WRONG)))["code"] == "unauthorized"
    found = guarded.sessions.access
    assert found.failures("127.0.0.1") == 1
    monkeypatch.setattr(access, "FORGIVEN_AFTER_S", 0.0)
    assert found.failures("127.0.0.1") == 0


def test_addresses_are_bounded(keyring, monkeypatch):
    """Of more addresses than that, those are forgotten whose last failure is the oldest."""
    monkeypatch.setattr(access, "MAX_ADDRESSES", 2)
    found = access.Access(keyring, lambda: 0.0)
    for address in "abac":
        with pytest.raises(tokens.RejectedError):
            found.show(address, WRONG)
    assert [found.failures(address) for address in "abc"] == [2, 0, 1]


async def test_token_at_the_handshake(guarded):
    """In the header, or, since a browser can't set that, as a subprotocol that is not echoed."""
    for lines in (
        {"Authorization": f"Bearer {READER}"},
        {"Sec_WebSocket_Protocol": f"aggregator, bearer.{READER}"},
    ):
        async with await Client.open(guarded.port) as client:
            await client.write(handshake(**lines))
            status, headers = await client.head()
            assert status == 101
            offered = "Sec_WebSocket_Protocol" in lines
            assert headers.get("sec-websocket-protocol") == ("aggregator" if offered else None)
            assert READER not in str(headers)
            await client.pinged()
            assert of(guarded) == [1001]
        await eventually(lambda: not len(guarded.sessions))


async def test_sent_ahead(guarded):
    """Wrong ones that are in one packet are not all looked at."""
    async with await guarded.connect() as client:
        await client.write(frame(json.dumps(auth(WRONG)).encode()) * 50)
        answers = [await client.receive() for _ in range(5)]
        kinds = [answer["code"] for answer in answers]
        assert kinds[0] == "unauthorized"
        assert kinds[-1] == "rate_limited"
    assert guarded.sessions.access.rejected["unknown"] < 5


async def test_missing_code_is_no_wrong_token(guarded):
    """Who has a good key and no code is told so, and is not counted among those who guess."""
    for expected in (401, 401):
        status, _, body = await get(
            guarded, "/feeds/prices/rotate", "POST", Authorization=f"Bearer {OTHER}"
        )
        assert (status, "one-time code" in body) == (expected, True)
    assert guarded.sessions.access.failures("127.0.0.1") == 0


async def test_wrong_token_at_the_handshake(guarded):
    """401, and after five 429: there is no session. A good one is served all the same."""
    request = handshake(Authorization=f"Bearer {WRONG}")
    for expected in [401] * 5 + [429]:
        async with await Raw.open(guarded.port) as raw:
            await raw.write(request)
            status, headers, body = await raw.response()
            assert status == expected
            assert WRONG not in body.decode()
    assert headers["retry-after"] == "600"
    assert guarded.counters.accepted == 0
    async with await Client.open(guarded.port) as client:
        await client.write(handshake(Authorization=f"Bearer {READER}"))
        assert (await client.head())[0] == 101
        await client.pinged()


async def test_not_in_the_query(guarded):
    """A token in the address is none: addresses are logged everywhere."""
    async with await guarded.connect(f"/ws?token={READER}") as client:
        await client.pinged()
        assert of(guarded) == [0]


async def test_nobody_without_a_name(closed):
    """Without a token nothing is subscribed to; with one it is. HTTP is the same."""
    closed.publish(1)
    async with await closed.connect() as client, await closed.connect("/ws/ticker") as short:
        # Not even what is said to everybody.
        assert closed.sessions.broadcast("hello") == 0
        command = {"type": "unsubscribe", "channels": ["prices"]}
        assert (await client.ask(command))["code"] == "unauthorized"
        answer = await client.ask({"type": "subscribe", "channels": ["prices"], "id": 1})
        assert (answer["code"], answer["id"]) == ("unauthorized", 1)
        answer = await short.ask({"action": "subscribe", "symbol": "BTC/USDT"})
        assert answer["code"] == "unauthorized"
        await client.ask(auth(READER))
        await client.subscribe("prices")
        assert (await client.receive())["seq"] == 1
        assert closed.sessions.broadcast("hello") == 1
        assert (await client.receive())["message"] == "hello"
    for path in ("/channels", "/latest/prices", "/history/prices", "/why/prices"):
        assert (await get(closed, path))[0] == 401
        assert (await get(closed, path, Authorization=f"Bearer {READER}"))[0] == 200
    assert (await get(closed, "/healthz"))[0] == 200


async def test_anonymous_is_switched_off(guarded):
    """Who is there already has the time to say who it is; and on again, nobody has to."""
    now = [100.0]
    guarded.sessions.now = lambda: now[0]
    async with await guarded.connect() as stays, await guarded.connect() as named:
        await named.ask(auth(READER))
        off = guarded.config.model_copy(update={"anonymous": False})
        for config in (off, guarded.config):
            guarded.sessions.reconfigure(config)
        now[0] += 11
        guarded.sessions.close_unknown()
        await stays.pinged()
        guarded.sessions.reconfigure(off)
        now[0] += 11
        guarded.sessions.close_unknown()
        assert (await stays.closed())[0] == 4001
        await named.pinged()


async def test_who_does_not_say_who_it_is(closed, monkeypatch):
    """Is not kept; who has said so is."""
    monkeypatch.setattr("aggregator.gateway.sessions.ANONYMOUS_S", 0.0)
    async with await closed.connect() as client:
        assert (await client.closed())[0] == 4001
        assert closed.sessions.broadcast("x") == 0
    monkeypatch.setattr("aggregator.gateway.sessions.ANONYMOUS_S", 10.0)
    async with await closed.connect() as client:
        await client.ask(auth(READER))
        closed.sessions.close_unknown()
        await client.pinged()


async def test_replaced(guarded, keyring):
    """Another key under the same id is another key: the sessions of the old one end."""
    async with await guarded.connect() as client:
        await client.ask(auth(READER))
        token = Token(user=1001, hash=tokens.create("reader")[1])
        keyring.replace({"reader": token}, {}, None)
        guarded.sessions.close_unknown()
        assert (await client.closed())[0] == 4001


async def test_revoked(guarded, keyring):
    """The sessions of a token end when the configuration has it no more; the others stay."""
    async with await guarded.connect() as client, await guarded.connect() as other:
        await client.ask(auth(READER))
        await other.ask(auth(OPS))
        keyring.replace({"ops": TOKENS["ops"]}, {}, None)
        async with asyncio.timeout(5):
            assert await client.closed() == (4001, "the token is no longer good")
        await other.pinged()
        assert (await other.ask(auth(READER)))["code"] == "unauthorized"


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), (WRONG, 401), (READER, 403), (OPS, 200)],
    ids=["no", "wrong", "reader", "ops"],
)
@pytest.mark.parametrize("path", ["/ws/test", "/feeds/prices/rotate"])
async def test_roles_of_operators(guarded, path, token, status):
    """Where there are tokens, orders need one with the role ops, on loopback as well."""
    body = b'{"message":"x"}'
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    async with await Raw.open(guarded.port) as raw:
        await raw.write("\r\n".join([*lines, "", ""]).encode() + body)
        answered, _, text = await raw.response()
    assert answered == (202 if status == 200 and "rotate" in path else status), text


async def test_ops_token_stays_good(serve, keyring):
    """The one of the configuration does as well as a key with the role."""
    daemon = await serve(keyring=keyring, ops_token="planted")
    for token, expected in (("planted", 202), (OPS, 202), (READER, 403), ("x", 401)):
        status, _, _ = await get(
            daemon, "/feeds/prices/rotate", "POST", Authorization=f"Bearer {token}"
        )
        assert status == expected
