"""Keys of accounts: checked, and in nothing that the daemon says, whatever venues say of them."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from ingest.account_benches import VENUES, options_of, running

from aggregator import config as configuration
from aggregator.ingest.accounts import cleaner
from aggregator.simulator import Simulator
from aggregator.simulator.keys import named, pem

PLANTED = {
    "one_api_key": "planted-okx-key-8d1f",
    "one_api_secret": "planted-okx-secret-77ab",
    "one_passphrase": "planted-okx-passphrase-19c0",
    "two_api_key": "planted-binance-key-5e2d",
    "two_api_secret": "planted-binance-secret-0f4b",
    "three_api_key": "planted-ccxt-key-a6c3",
    "three_api_secret": "planted-ccxt-secret-d9e8",
    "three_passphrase": "planted-ccxt-passphrase-b2f7",
    "four_api_key": "planted-pem-key-c4d5",
    "four_api_secret": pem(bytes([9]) * 32),
}
MARKET = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}


def secret_texts():
    """Yield what may not be said: each secret, and of one with lines its middle."""
    for text in PLANTED.values():
        yield text.split("\n")[1] if "\n" in text else text


class Echo:
    """A venue that repeats in its errors all that it was sent."""

    def __init__(self):
        self.asked = set()

    async def __aenter__(self):
        app = web.Application()
        app.add_routes([web.get("/{tail:.*}", self._serve)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    async def _serve(self, request):
        self.asked.add(request.path)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        if request.path.endswith("/exchangeInfo") and "two" in request.path:
            return web.json_response({"symbols": [MARKET]})
        said = f"{request.path_qs} {dict(request.headers)}"
        body = {"code": "50111", "msg": said} if "okx" in request.path else {"code": -2015}
        status = 500 if len(self.asked) % 2 else 401
        return web.json_response(body | {"msg": said}, status=status)

    async def _stream(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if "okx" in request.path:
                await socket.send_json({"event": "error", "code": "60005", "msg": message.data})
            else:
                error = {"code": -2015, "msg": message.data}
                await socket.send_json({"id": "subscribe", "status": 401, "error": error})
            await socket.close(code=4001, message=message.data.encode()[:100])
        return socket


def toml(port):
    http, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    return f"""
[server]
port = 0
[feeds]
[accounts.one]
connector = "okx.account"
user = 1
urls = ["{ws}/okx/private"]
base_url = "{http}/okx"
max_backoff_s = 0.2
[accounts.two]
connector = "binance.account"
user = 1
urls = ["{ws}/binance"]
base_url = "{http}/two"
max_backoff_s = 0.2
[accounts.three]
connector = "ccxt.account"
exchange = "okx"
user = 1
max_backoff_s = 0.2
urls = {{ api = {{ rest = "{http}/okx", ws = "{ws}/okx" }} }}
[accounts.four]
connector = "binance.account"
user = 1
urls = ["{ws}/binance"]
base_url = "{http}/two"
max_backoff_s = 0.2
"""


def listed(pid):
    """Return what `ps` shows of a process."""
    return Path(f"/proc/{pid}/cmdline").read_text()


@pytest.fixture
def planted(tmp_path):
    """Return the environment with a directory of credentials that has all the secrets."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, text in PLANTED.items():
        (folder / name).write_text(text)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


async def test_no_secret_is_said(start, run_cli, connect, tmp_path, planted):
    """Not in the log, on a page, to clients, by other commands, nor where processes are listed."""
    async with Echo() as venue:
        path = tmp_path / "aggregator.toml"
        path.write_text(toml(venue.port))
        daemon = await start("run", "--config", path, "--log-level", "debug", environ=planted)
        url = await daemon.url()
        base = url.replace("ws://", "http://").removesuffix("/ws")
        client = await connect(url)
        await client.send(type="subscribe", channels=["system"])
        for name in ("one", "two", "four"):
            await daemon.logged(f"account {name} is refused")
        await daemon.logged("account three is (down|refused)")
        said = [json.dumps(await client.receive())]
        async with aiohttp.ClientSession() as http:
            for page in ("/metrics", "/channels", "/readyz", "/healthz", "/why/system"):
                async with http.get(base + page) as answer:
                    said.append(await answer.text())
        assert 'aggregator_account_state{account="one",state="refused"} 1.0' in said[1]
        said.append(listed(daemon.pid))
        said += daemon.lines
        for command in ("check-config", "print-config"):
            result = await asyncio.to_thread(run_cli, command, "--config", path, environ=planted)
            assert result.returncode == 0, result.stderr
            said += [result.stdout, result.stderr]
        loaded = configuration.load(path, environ=planted)
        said.append(repr(loaded))
        daemon.process.terminate()
        await daemon.ended()
    text = "\n".join(said)
    assert "********" in text
    assert [secret for secret in secret_texts() if secret in text] == []
    assert loaded.secrets() >= set(secret_texts())


def test_a_secret_that_is_cut_off():
    """What venues say is cut to a length; half a secret at its end is taken out as well."""
    clean = cleaner(["planted-secret", "other"])
    assert clean("of planted-secret and planted-secr") == "of ******** and ********"
    assert clean("nothing of it: pla") == "nothing of it: pla"


@pytest.mark.parametrize("kind", VENUES)
async def test_a_wrong_key(kind, caplog):
    """It is refused, said once, and tried rarely."""
    async with running(kind, api_key="unknown-key") as bench:
        await bench.reached("refused")
        assert bench.status.counters.errors == {"login": 1}
    assert "unknown-key" not in caplog.text
    assert bench.client.messages == []


@pytest.mark.parametrize("kind", VENUES)
async def test_a_key_that_is_revoked(kind):
    """The account is refused as soon as the venue says so."""
    async with running(kind, max_backoff_s=0.05) as bench:
        await bench.live()
        key = named(kind, "main")
        async with aiohttp.ClientSession() as http:
            revoke = f"{bench.simulator.accounts_url}/{kind}/keys/{key.name}/revoke"
            await http.post(revoke)
        await bench.reached("refused")


@pytest.mark.parametrize(
    ("kind", "key", "warned"),
    [
        ("okx", "main", True),
        ("okx", "viewer", False),
        ("binance", "main", True),
        ("binance", "viewer", False),
        ("binance", "ed25519", True),
        ("binance", "ed25519-viewer", False),
    ],
)
async def test_a_key_that_may_trade(kind, key, warned, caplog):
    """It works, with a warning at the start; one that can only read works without."""
    async with running(kind, key=key) as bench:
        await bench.live()
        await bench.settled()
    warnings = [r.message for r in caplog.records if "its key may" in r.message]
    assert len(warnings) == warned


@pytest.mark.parametrize(("key", "warned"), [("main", True), ("viewer", False)])
async def test_check_config_asks_what_a_key_may_do(run_cli, tmp_path, key, warned):
    """A key that may trade is warned about; it is no error."""
    async with Simulator(ticks_per_s=0) as simulator:
        section = options_of(simulator, "okx", key)
        lines = [f"{name} = {json.dumps(value)}" for name, value in section.items()]
        path = tmp_path / "aggregator.toml"
        path.write_text('[feeds]\n[accounts.main]\nconnector = "okx.account"\n' + "\n".join(lines))
        result = await asyncio.to_thread(run_cli, "check-config", "--config", path)
    assert result.returncode == 0
    assert bool(re.search(r"warning: accounts.main: its key may trade", result.stderr)) == warned
