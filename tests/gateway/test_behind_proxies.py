"""The daemon behind nginx and Caddy, by the configurations that docs/proxies has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import aiohttp
import pytest
from gateway.authority import Authority
from gateway.wsclient import eventually
from yarl import URL

EXAMPLES = Path(__file__).parents[2] / "docs" / "proxies"
AS_A_PROCESS = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""
HOMES = ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
WITHOUT_AN_ADMINISTRATOR = """\
{
	admin off
	auto_https disable_redirects
}
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def example(name, changes):
    """Return an example, with other addresses, files and times; each stands there once."""
    text = (EXAMPLES / name).read_text("utf-8")
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Proxy:
    """A running proxy: connects clients from addresses of this machine's network 127.0.0.0/8."""

    def __init__(self, port: int, authority: Authority, stack: contextlib.AsyncExitStack) -> None:
        self._port = port
        self._authority = authority
        self._stack = stack

    async def _session(self, address):
        connector = aiohttp.TCPConnector(local_addr=(address, 0), ssl=self._authority.trust())
        return await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))

    async def connect(self, address="127.0.0.2", path="/ws", **options):
        """Return a WebSocket, from this address."""
        session = await self._session(address)
        url = f"https://localhost:{self._port}{path}"
        return await session.ws_connect(url, **options)

    async def ask(self, method, path, **options):
        """Return status and text of an answer."""
        session = await self._session("127.0.0.2")
        url = URL(f"https://localhost:{self._port}{path}", encoded=True)
        async with session.request(method, url, **options) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def run(needs, tmp_path):
    """Return a function that runs nginx or Caddy in front of a daemon; both end with the test."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue()
    async with contextlib.AsyncExitStack() as stack:

        async def run(name, daemon, **changes):
            program, port = needs(name), free_port()
            upstream = f"127.0.0.1:{daemon.port}"
            if name == "nginx":
                site = example(
                    "nginx.conf",
                    {
                        "127.0.0.1:8000": upstream,
                        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                        "/etc/ssl/prices.example.pem": str(certificate),
                        "/etc/ssl/private/prices.example.key": str(key),
                        **changes,
                    },
                )
                (tmp_path / "site.conf").write_text(site)
                (tmp_path / "nginx.conf").write_text(AS_A_PROCESS.format(folder=tmp_path))
                command = ["-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", "stderr"]
            else:
                site = example(
                    "Caddyfile",
                    {
                        "127.0.0.1:8000": upstream,
                        "prices.example {": f"https://localhost:{port} {{\n\tbind 127.0.0.1",
                        "/etc/ssl/prices.example.pem": str(certificate),
                        "/etc/ssl/private/prices.example.key": str(key),
                        **changes,
                    },
                )
                (tmp_path / "Caddyfile").write_text(WITHOUT_AN_ADMINISTRATOR + site)
                command = ["run", "--config", str(tmp_path / "Caddyfile")]
            # With the log in a file: nobody has to read a pipe.
            with (tmp_path / "log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    program,
                    *command,
                    cwd=tmp_path,
                    env={**os.environ, **dict.fromkeys(HOMES, str(tmp_path))},
                    stdout=log,
                    stderr=log,
                )
            stack.push_async_callback(ended, process)
            await listening(process, port, tmp_path / "log")
            return await stack.enter_async_context(proxy(port, authority))

        yield run


@contextlib.asynccontextmanager
async def proxy(port, authority):
    async with contextlib.AsyncExitStack() as stack:
        yield Proxy(port, authority, stack)


async def ended(process):
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
    await process.wait()


async def listening(process, port, log):
    async with asyncio.timeout(20):
        while True:
            assert process.returncode is None, log.read_text()
            with contextlib.suppress(ConnectionError), socket.socket() as sock:
                sock.settimeout(0)
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                return
            await asyncio.sleep(0.02)


IMPATIENT = {"proxy_read_timeout 120s": "proxy_read_timeout 1s"}
both = pytest.mark.parametrize("name", ["nginx", "caddy"])


@both
async def test_conversation(serve, run, name):
    """Commands, messages and compression, by TLS at the proxy; plain HTTP and pages of it too."""
    daemon = await serve(trusted_proxies=["127.0.0.1"])
    proxy = await run(name, daemon)
    client = await proxy.connect(compress=15)
    await client.send_json({"type": "subscribe", "channels": ["prices"]})
    assert (await client.receive_json())["type"] == "subscribed"
    for number in range(1, 51):
        daemon.publish(number, data=b'"%b"' % (b"x" * 5000))
        message = await client.receive_json()
        assert (message["seq"], message["price"]) == (number, number)
    assert client.compress
    for _ in range(3):
        assert await proxy.ask("GET", "/healthz") == (200, '{"status":"ok"}')
    status, _ = await proxy.ask("GET", "/latest/prices")
    assert status == 200


@both
async def test_addresses(serve, run, name):
    """Clients are counted each by its own address, whatever they say that it is."""
    daemon = await serve(trusted_proxies=["127.0.0.1"], max_connections_per_address=1)
    proxy = await run(name, daemon)
    first = await proxy.connect("127.0.0.2", headers={"X-Forwarded-For": "203.0.113.7"})
    second = await proxy.connect("127.0.0.3")
    assert sorted(s.address for s in daemon.sessions) == ["127.0.0.2", "127.0.0.3"]
    for spoofed in ("203.0.113.8", "203.0.113.8, 127.0.0.1", "unknown"):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="429"):
            await proxy.connect("127.0.0.2", headers={"X-Forwarded-For": spoofed})
    await first.close()
    await eventually(lambda: len(daemon.sessions) == 1)
    third = await proxy.connect("127.0.0.2")
    for client in (second, third):
        await client.ping()
        await client.close()
    await eventually(lambda: not len(daemon.sessions))


ORDER = {"json": {"message": "x"}, "headers": {"Host": "localhost"}}


@both
async def test_orders_of_operators(serve, run, name):
    """The proxy refuses them, however they are spelled."""
    daemon = await serve(trusted_proxies=["127.0.0.1"])
    proxy = await run(name, daemon)
    for method, path in (
        ("POST", "/ws/test"),
        ("POST", "/ws/./test"),
        ("POST", "/ws/%74est"),
        ("POST", "//ws/test"),
        ("POST", "/publish"),
        ("POST", "/feeds/prices/rotate"),
        ("GET", "/metrics"),
    ):
        status, text = await proxy.ask(method, path, **ORDER)
        assert (status, "off loopback" in text) == (403, False), path
    assert not daemon.counters.broadcasts


RULES = {"nginx": "location = /ws/test { return 403; }", "caddy": "respond @operators 403"}


@pytest.mark.parametrize(
    ("name", "trusted"), [("nginx", []), ("nginx", ["127.0.0.1"]), ("caddy", [])]
)
async def test_orders_where_the_proxy_has_no_rule(serve, run, name, trusted):
    """The daemon refuses them by itself, though the proxy is on loopback, known to it or not."""
    daemon = await serve(trusted_proxies=trusted)
    proxy = await run(name, daemon, **{RULES[name]: ""})
    status, text = await proxy.ask("POST", "/ws/test", **ORDER)
    assert (status, "off loopback" in text) == (403, True)
    assert not daemon.counters.broadcasts


@both
async def test_quiet_connection(serve, run, name):
    """It lives as long as pings come more often than the proxy's time-out ends."""
    daemon = await serve(trusted_proxies=["127.0.0.1"], heartbeat_s=0.25, pong_timeout_s=5)
    proxy = await run(name, daemon, **(IMPATIENT if name == "nginx" else {}))
    client = await proxy.connect(autoping=False)
    for _ in range(8):
        message = await client.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.PING
        await client.pong(message.data)
    await client.send_json({"type": "ping", "id": 1})
    assert (await client.receive_json())["id"] == 1


async def test_connection_that_is_too_quiet(serve, run):
    """With a time-out that is shorter than `heartbeat_s`, nginx cuts it: that is what it is for."""
    daemon = await serve(trusted_proxies=["127.0.0.1"])
    proxy = await run("nginx", daemon, **IMPATIENT)
    client = await proxy.connect()
    message = await client.receive(timeout=20)
    assert message.type is aiohttp.WSMsgType.CLOSED
    await eventually(lambda: not len(daemon.sessions))


@both
async def test_close_codes(serve, run, name):
    """The daemon's reach the client, and the client's the daemon."""
    daemon = await serve(trusted_proxies=["127.0.0.1"])
    proxy = await run(name, daemon)
    for code in (1001, 4001, 4008, 4010):
        client = await proxy.connect()
        (session,) = daemon.sessions
        session.close(code, "why")
        message = await client.receive(timeout=20)
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert (message.data, message.extra) == (code, "why")
        await eventually(lambda: not len(daemon.sessions))
    client = await proxy.connect()
    await client.close(code=4999)
    assert client.close_code == 4999
    await eventually(lambda: not len(daemon.sessions))
    await eventually(lambda: daemon.server.http_connections <= 1)
