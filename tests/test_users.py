"""Tokens from the command line to the socket, with the daemon as a process; and no secret told."""

from __future__ import annotations

import signal
import tomllib
from pathlib import Path

import aiohttp
import pyotp
import pytest

CONFIG = """
[server]
port = 0
[feeds.bitcoinprice]
connector = "okx.ticker"
instruments = ["BTC/USDT"]
urls = ["ws://127.0.0.1:9/"]
"""


def made(run_cli, *options: str) -> tuple[str, str]:
    """Make a key; return it and its section."""
    done = run_cli("token", "create", *options)
    assert done.returncode == 0
    key = done.stdout.strip()
    section = done.stderr[done.stderr.index("[tokens.") :]
    assert key not in done.stderr
    return key, section


def test_token_create(run_cli):
    """The key alone on stdout; on stderr the section, which has a hash and no key."""
    key, section = made(run_cli, "--user", "7", "--role", "ops", "--id", "abc")
    token = tomllib.loads(section)["tokens"]["abc"]
    assert key.startswith("agg_abc_")
    assert (token["user"], token["role"]) == (7, "ops")
    assert key.removeprefix("agg_abc_") not in section
    assert made(run_cli, "--user", "7")[0] != made(run_cli, "--user", "7")[0]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--user", "0"],
        ["--user", "x"],
        ["--user", "1", "--role", "root"],
        ["--user", "1", "--id", "A b"],
    ],
)
def test_token_create_of_nonsense(run_cli, options):
    """Is a usage error, and makes no key."""
    done = run_cli("token", "create", *options)
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ('[tokens.A]\nuser = 1\nhash = "x"', "tokens.A"),
        ('[tokens.a]\nuser = 1\nhash = "planted-hash"', "tokens.a.hash"),
        ('[tokens.a]\nuser = 0\nhash = "x"', "tokens.a.user"),
        ("[tokens.a]\nuser = 1", "tokens.a.hash: is missing"),
        ('[users.0]\ntotp_secret = "planted"', "users.0"),
        ('[jwt]\naudience = "x"', "jwt = (table): a secret"),
        ('[jwt]\naudience = "x"\nsecret = "planted"', "jwt"),
    ],
)
def test_bad_configuration(run_cli, tmp_path, section, fault):
    """Each fault is named with its place; a secret is not shown."""
    path = tmp_path / "a.toml"
    path.write_text(CONFIG + section)
    done = run_cli("check-config", "--config", path)
    assert done.returncode == 78
    assert fault in done.stderr
    assert "planted" not in done.stderr


async def test_revoked_by_a_reload(start, connect, run_cli, tmp_path):
    """SIGHUP takes new keys in and ends the sessions of those that are gone, and no others."""
    (one, first), (two, second) = made(run_cli, "--user", "1"), made(run_cli, "--user", "2")
    path = tmp_path / "a.toml"
    path.write_text(CONFIG + first)
    process = await start("run", "--config", path)
    url = await process.url()
    client, early = await connect(url), await connect(url)
    await client.send(type="auth", token=one)
    assert (await client.receive())["user_id"] == 1
    await early.send(type="auth", token=two)
    assert (await early.receive())["code"] == "unauthorized"

    path.write_text(CONFIG + "[nonsense]")
    process.signal(signal.SIGHUP)
    await process.logged("not taken over.*nonsense")
    await client.send(type="ping")
    assert (await client.receive())["type"] == "pong"

    path.write_text(CONFIG + second)
    process.signal(signal.SIGHUP)
    await process.logged("tokens read again: 1 keys")
    assert await client.close_code() == 4001
    await early.send(type="auth", token=two)
    assert (await early.receive())["user_id"] == 2
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


def told_elsewhere(pid: int, run_cli, path: Path, environ: dict[str, str]) -> list[str]:
    """Return the line of the process table, and the printed configuration."""
    printed = run_cli("print-config", "--config", path, environ=environ)
    assert "[jwt]" in printed.stdout
    return [Path(f"/proc/{pid}/cmdline").read_text(), printed.stdout, printed.stderr]


async def test_first_token_comes_with_a_reload(start, connect, run_cli, tmp_path):
    """A daemon that was started without any takes them in."""
    key, section = made(run_cli, "--user", "1")
    path = tmp_path / "a.toml"
    path.write_text(CONFIG)
    process = await start("run", "--config", path)
    client = await connect(await process.url())
    path.write_text(CONFIG + section)
    process.signal(signal.SIGHUP)
    await process.logged("tokens read again: 1 keys")
    await client.send(type="auth", token=key)
    assert (await client.receive())["user_id"] == 1
    process.signal(signal.SIGTERM)
    assert await process.ended() == 0


async def test_no_secret_is_told(start, connect, run_cli, tmp_path):
    """Planted ones are in no log line at debug, metric, answer, `ps` line or printed config."""
    key, section = made(run_cli, "--user", "1", "--role", "ops")
    secret, totp = "planted-jwt-secret-planted-jwt-secret", pyotp.random_base32()
    path = tmp_path / "a.toml"
    users = '[users.5]\n[jwt]\naudience = "x"\n'
    path.write_text(CONFIG + section + users)
    environ = {"AGGREGATOR_JWT__SECRET": secret, "AGGREGATOR_USERS__5__TOTP_SECRET": totp}
    process = await start("run", "--config", path, "--log-level", "debug", environ=environ)
    url = await process.url()
    wrong = key[:-4] + "AAAA"
    planted = {key, key.rpartition("_")[2], wrong, secret, totp, "123987"}
    said = []
    client = await connect(url)
    for token in (wrong, key):
        await client.send(type="auth", token=token, otp="123987")
        said.append(str(await client.receive()))
    http = "http" + url.removeprefix("ws").removesuffix("/ws")
    async with aiohttp.ClientSession() as session:
        for path_ in ("/metrics", "/channels", "/healthz", "/openapi.json"):
            for token in (wrong, key):
                headers = {"Authorization": f"Bearer {token}"}
                async with session.get(http + path_, headers=headers) as answer:
                    said.append(await answer.text())
    said += told_elsewhere(process.pid, run_cli, path, environ)
    process.signal(signal.SIGTERM)
    await process.ended()
    said += process.lines
    for text in said:
        assert not [each for each in planted if each in text]
