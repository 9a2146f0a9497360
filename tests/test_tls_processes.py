"""TLS of whole processes: faults of its files, other ones by SIGHUP, and all that connects."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import aiohttp
import pytest
from gateway.authority import Authority, SecureClient

from aggregator.client import Client, Options


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def config(tmp_path, certificate, key, more=""):
    path = tmp_path / "tls.toml"
    path.write_text(f'[server]\ntls_certificate = "{certificate}"\ntls_key = "{key}"\n{more}\n')
    return path


def test_faults_of_files(authority, run_cli, tmp_path):
    """
    Each is one line that names the file and the cause, with nothing of what is in it; nobody is
    asked for a password.
    """
    certificate, key = authority.issue()
    _, other = authority.issue("other")
    _, locked = authority.issue("locked", password=b"secret")
    empty = tmp_path / "empty"
    empty.touch()
    none, no_key = tmp_path / "none", "is no private key as PEM, without a password"
    of_it = f"the key of the file {certificate}"
    faults = [
        (certificate, "", "tls_key", "need one another"),
        ("", key, "tls_key", "need one another"),
        (none, key, "tls_certificate", f"the file {none} can't be read: No such file or directory"),
        (tmp_path, key, "tls_certificate", f"the file {tmp_path} can't be read: Is a directory"),
        (key, key, "tls_certificate", f"the file {key} is no certificate as PEM"),
        (empty, empty, "tls_certificate", f"the file {empty} is no certificate as PEM"),
        (certificate, none, "tls_key", f"the file {none} can't be read: No such file or directory"),
        (certificate, certificate, "tls_key", f"the file {certificate} {no_key}"),
        (certificate, locked, "tls_key", f"the file {locked} {no_key}"),
        (certificate, other, "tls_key", f"the file {other} is not {of_it}"),
    ]
    for one, two, option, text in faults:
        done = run_cli("check-config", "--config", config(tmp_path, one, two))
        assert done.returncode == 78, (option, text)
        [line] = done.stderr.splitlines()
        assert f"server.{option} = " in line
        assert line.endswith(f": {text}") or text == "need one another"
        assert "BEGIN" not in line
    # A key where its file's name should be.
    done = run_cli("check-config", "--config", config(tmp_path, certificate, r"-----BEGIN\nSECRET"))
    assert (done.returncode, "SECRET" in done.stderr) == (78, False)
    assert "in place of a file's name can't be read" in done.stderr
    done = run_cli("check-config", "--config", config(tmp_path, certificate, key))
    assert done.returncode == 0
    shown = run_cli("print-config", "--config", config(tmp_path, certificate, key)).stdout
    assert f'tls_key = "{key}"\n' in shown


async def port_of(process):
    [line] = await process.logged("listening on")
    return int(line.partition("/ws")[0].rpartition(":")[2].strip('"'))


async def test_certificate_by_sighup(authority, start, tmp_path, monkeypatch):
    """A renewed one is shown from the next connection on; a broken one is said to be so."""
    monkeypatch.setattr(SecureClient, "context", authority.trust(), raising=False)
    certificate, key = authority.issue()
    path = config(tmp_path, certificate, key, "port = 0")
    process = await start("demo", "--config", path)
    port = await port_of(process)
    async with await SecureClient.connect(port) as old:
        authority.issue()
        process.signal(signal.SIGHUP)
        await process.logged("certificate is read again")
        async with await SecureClient.connect(port) as new:
            assert new.serial != old.serial
            key.write_text("no key")
            process.signal(signal.SIGHUP)
            [line] = await process.logged("configuration is not taken over")
            assert "is no private key as PEM" in line
            async with await SecureClient.connect(port) as third:
                assert third.serial == new.serial
            await old.pinged()


async def test_commands_and_clients(authority, start, run_cli, tmp_path):
    """All commands work with https:// and wss://, if SSL_CERT_FILE names the authority."""
    certificate, key = authority.issue()
    path = config(tmp_path, certificate, key, 'port = 0\nops_token = "operator"')
    # The key as systemd gives it: as a file among the credentials, named by a variable.
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    key.rename(credentials / "tls_key")
    environ = {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "AGGREGATOR_SERVER__TLS_KEY": str(credentials / "tls_key"),
    }
    process = await start("demo", "--config", path, environ=environ)
    port = await port_of(process)
    await process.logged("bitcoinprice live")
    assert not process.lines_with("credential tls_key")
    [line] = await process.logged("try: ")
    assert f"--url wss://127.0.0.1:{port}/ws" in line
    http, ws = f"https://localhost:{port}", f"wss://localhost:{port}/ws"
    (tmp_path / "token").write_text("wrong")

    async def run(*args):
        trusting = {"SSL_CERT_FILE": str(authority.path)}
        return await asyncio.to_thread(run_cli, *args, environ=trusting)

    shown = await run("channels", "--url", http)
    assert (shown.returncode, "bitcoinprice" in shown.stdout) == (0, True), shown.stderr
    assert (await run("why", "bitcoinprice", "--url", http)).returncode == 0
    rotated = await run("rotate", "bitcoinprice", "--url", http, "--token", "operator")
    assert rotated.returncode == 0, rotated.stderr
    refused = await run("orders", "--url", ws, "--token-file", tmp_path / "token")
    assert "authentication failed" in refused.stderr
    distrusting = await asyncio.to_thread(run_cli, "channels", "--url", http)
    assert distrusting.returncode == 69
    assert "CERTIFICATE_VERIFY_FAILED" in distrusting.stderr

    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "aggregator", "watch", "bitcoinprice", "--json", "--url", ws),
        env={**os.environ, "SSL_CERT_FILE": str(authority.path)},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        assert json.loads(await watching.stdout.readline())["channel"] == "bitcoinprice"
    watching.kill()
    await watching.communicate()

    connector = aiohttp.TCPConnector(ssl=authority.trust())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        Client(ws, Options(), session=session) as client,
    ):
        async for message in client.subscribe("bitcoinprice"):
            assert message.channel == "bitcoinprice"
            break
