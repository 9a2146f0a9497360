"""The command line: real processes for what a shell sees, in-process calls for the rest."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from aiohttp import web
from click.testing import CliRunner

from aggregator import __version__, app, ask, cli, configdoc, sources

COMMANDS = sorted(cli.main.commands)
ONE_FEED = '[feeds.btc]\nconnector = "okx.ticker"\ninstruments = ["BTC/USDT"]\n'


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Return a function that calls a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "PLACES", ())
    return lambda *args: CliRunner().invoke(cli.main, [str(arg) for arg in args])


@pytest.fixture
async def answers(unused_port):
    """Return a function that serves `/channels` with this text, and gives the URL of it."""
    runners = []

    async def answers(text, status=200):
        async def handler(request):
            del request
            return web.Response(text=text, status=status)

        application = web.Application()
        application.router.add_get("/channels", handler)
        application.router.add_get("/why/{channel:.+}", handler)
        runners.append(web.AppRunner(application))
        await runners[-1].setup()
        site = web.TCPSite(runners[-1], "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runners[-1].addresses[0][1]}"

    yield answers
    for runner in runners:
        await runner.cleanup()


@pytest.fixture
def unused_port():
    """Return a port of loopback on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def one_line(text):
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


# What a shell sees.


def test_version(run_cli):
    """Name and version, nothing else."""
    result = run_cli("--version")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"aggregator, version {__version__}\n"


def test_help_lists_every_command(run_cli):
    """With a line on each; without a command the same is shown, as a usage error."""
    result = run_cli("--help")
    assert result.returncode == 0
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout
    assert run_cli().returncode == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(invoke, name):
    """And every option of it that is not hidden."""
    result = invoke(name, "--help")
    assert result.exit_code == 0
    for option in cli.main.commands[name].params:
        assert option.human_readable_name.upper() in result.output or option.hidden or option.help
    assert cli.main.commands[name].help.partition("\n")[0] in " ".join(result.output.split())


@pytest.mark.parametrize(
    "args",
    [
        ["no-such-command"],
        ["--no-such-option"],
        ["run", "--port", "70000"],
        ["run", "--log-level", "loud"],
        ["check-config", "extra"],
        ["watch"],
        ["channels", "--url", "ftp://127.0.0.1"],
        ["rotate"],
        ["rotate", "btc", "--url", "ftp://127.0.0.1"],
        ["simulator", "--cache-s", "-1"],
        ["simulator", "--port", "x"],
    ],
)
def test_misuse_is_exit_code_2(invoke, args):
    """With the usage, and what is wrong."""
    result = invoke(*args)
    assert result.exit_code == 2
    assert "Error: " in result.output


@pytest.mark.parametrize("command", [["watch", "btc"], ["orders"]])
@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://127.0.0.1:8000", "ws://127.0.0.1:8000/ws"),
        ("HTTPS://prices.example/", "wss://prices.example/ws"),
        ("http://127.0.0.1:8000/w?x=1", "ws://127.0.0.1:8000/w?x=1"),
        ("localhost:8000", "ws://localhost:8000/ws"),
        ("http://[", "ws://["),
    ],
)
def test_an_address_of_http_for_the_websocket(invoke, command, url, meant):
    """What is wanted is said, with the address that is meant."""
    result = invoke(*command, "--url", url)
    assert result.exit_code == 2
    assert f"--url begins with ws:// or wss://, like {meant}\n" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["--version"],
        ["--help"],
        ["connectors"],
        ["print-config"],
        ["help", "limits"],
        ["token", "create", "--user", "1"],
        ["completion", "bash"],
        ["init", "here"],
        ["simulator", "--port", "0"],
    ],
    ids=" ".join,
)
def test_standard_output_without_room_is_exit_code_74(command, tmp_path):
    """One line says so, whichever command it is; what else goes to standard error is there."""
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [sys.executable, "-m", "aggregator", *command],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            cwd=tmp_path,
        )
    text = "standard output can't be written: No space left on device\n"
    lines = result.stderr.splitlines(keepends=True)
    assert (lines[-1], result.returncode) == (text, 74)
    assert "Traceback" not in result.stderr
    assert len(lines) == 1 + (command[0] == "token")


@pytest.mark.parametrize("command", ["run", "demo", "check-config", "print-config"])
def test_a_bad_configuration_is_exit_code_78(run_cli, tmp_path, command):
    """With one line per fault on standard error, and nothing else."""
    path = tmp_path / "bad.toml"
    path.write_text('[server]\nport = "x"\nprot = 1\n')
    result = run_cli(command, "--config", path)
    assert (result.returncode, result.stdout) == (78, "")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"{path}: server.port = 'x': ")
    assert second.startswith(f"{path}: server.prot: unknown key")


def test_a_configuration_that_is_missing_is_exit_code_78(run_cli, tmp_path):
    """The default places are no replacement for a file that is named."""
    result = run_cli("run", "--config", "missing.toml")
    assert result.returncode == 78
    assert one_line(result.stderr) == "missing.toml: can't be read: No such file or directory\n"


def test_a_variable_is_refused_by_name(run_cli):
    """By a real process, with a real environment."""
    result = run_cli("check-config", environ={"AGGREGATOR_SERVER__PORT": "x"})
    assert result.returncode == 78
    assert one_line(result.stderr).startswith("environment: AGGREGATOR_SERVER__PORT: server.port")


@pytest.mark.parametrize("command", [["channels"], ["rotate", "btc"], ["watch", "bitcoinprice"]])
def test_without_a_daemon_it_is_exit_code_69(run_cli, unused_port, command):
    """One line says so."""
    scheme = "ws" if command[0] == "watch" else "http"
    url = f"{scheme}://127.0.0.1:{unused_port}"
    result = run_cli(*command, "--url", url)
    assert (result.returncode, result.stdout) == (69, "")
    assert one_line(result.stderr).startswith("can't reach ")
    assert url in result.stderr


def test_a_port_that_is_taken_is_exit_code_69(run_cli, unused_port):
    """For the daemon and for the simulator."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = run_cli("run", "--port", port)
        simulator = run_cli("simulator", "--port", port)
    assert (daemon.returncode, simulator.returncode) == (69, 69)
    assert f"can't listen on 127.0.0.1:{port}: " in daemon.stderr
    assert f"can't listen on 127.0.0.1:{port}: " in one_line(simulator.stderr)


async def test_the_simulator_alone_says_where_it_is(tmp_path):
    """The options that point a feed at it can be copied from what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "aggregator", "simulator", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
    )
    lines = [(await process.stdout.readline()).decode() for _ in range(4)]
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    assert lines[0].startswith("simulated venues at http://127.0.0.1:")
    venues = {line.split(":")[0].strip(): line.partition(": ")[2] for line in lines[1:]}
    assert set(venues) == {"binance", "coingecko", "okx"}
    assert json.loads(venues["okx"])["urls"][0].startswith("ws://127.0.0.1:")


# check-config, print-config.


def test_check_config_of_a_good_file(invoke, tmp_path):
    """Says what was checked, with exit code 0."""
    path = tmp_path / "good.toml"
    path.write_text(ONE_FEED)
    result = invoke("check-config", "--config", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}: good, 1 feed\n")
    assert invoke("check-config").stdout == "built-in defaults: good, 8 feeds\n"


def test_check_config_warns(invoke, tmp_path, monkeypatch, add_distribution):
    """Of what lets the daemon run all the same: an unused credential, a broken connector."""
    site = add_distribution("broken-venue", {}, {"broken.ticker": "no_such_module:X"})
    monkeypatch.syspath_prepend(site)
    path = tmp_path / "odd.toml"
    path.write_text(ONE_FEED + '[feeds.x]\nconnector = "broken.ticker"\n[credentials]\na = "s3c"\n')
    result = invoke("check-config", "--config", path)
    assert (result.exit_code, result.stdout) == (0, f"{path}: good, 2 feeds\n")
    assert result.stderr.splitlines() == [
        "warning: credential a is used by no feed",
        "warning: feeds.x: broken.ticker: ModuleNotFoundError: No module named 'no_such_module'",
    ]


def test_print_config_is_a_configuration_with_secrets_masked(run_cli, tmp_path):
    """What it prints can be kept as a file; a secret is in it from nowhere."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "coingecko_api_key").write_text("s3cret-of-a-file\n")
    path = tmp_path / "in.toml"
    text = '[server]\nops_token = "s3cret-of-toml"\nport = 1\n[credentials]\nx = "s3cret-too"\n'
    path.write_text(text + "[feeds.btc]\nconnector = 'coingecko.top'\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(folder),
        "AGGREGATOR_CREDENTIALS__Y": "s3cret-of-a-variable",
        "AGGREGATOR_SERVER__HEARTBEAT_S": "7",
    }
    result = run_cli("print-config", "--config", path, environ=environ)
    assert (result.returncode, result.stderr) == (0, "")
    assert "s3cret" not in result.stdout
    assert result.stdout.count(configdoc.MASK) == 5
    printed = tmp_path / "out.toml"
    printed.write_text(result.stdout)
    server = tomllib.loads(result.stdout)["server"]
    assert (server["port"], server["heartbeat_s"]) == (1, 7.0)
    again = run_cli("print-config", "--config", printed)
    assert again.returncode == 0
    assert configdoc.MASK not in again.stdout


# connectors, channels.


def test_connectors_lists_all_with_what_is_wrong(run_cli, add_distribution):
    """A broken one of a stranger's stands among ours."""
    modules = {"crashing_venue": "raise RuntimeError('no such library\\nat all')"}
    site = add_distribution("broken-venue", modules, {"crashing.ticker": "crashing_venue:X"})
    result = run_cli("connectors", environ={"PYTHONPATH": str(site)})
    assert (result.returncode, result.stderr) == (0, "")
    title, *rows = [line.split(None, 3) for line in result.stdout.splitlines()]
    assert title[:3] == ["connector", "exchange", "kind"]
    assert [row[:3] for row in rows] == [
        ["binance.24hr", "binance", "polled"],
        ["binance.depth", "binance", "streamed"],
        ["binance.orderbook", "binance", "polled"],
        ["binance.prices", "binance", "polled"],
        ["binance.ticker", "binance", "streamed"],
        ["binance.trades", "binance", "streamed"],
        ["ccxt.book", "ccxt", "either"],
        ["ccxt.ohlcv", "ccxt", "either"],
        ["ccxt.ticker", "ccxt", "either"],
        ["ccxt.trades", "ccxt", "either"],
        ["coingecko.global", "coingecko", "polled"],
        ["coingecko.top", "coingecko", "polled"],
        ["coingecko.trending", "coingecko", "polled"],
        ["crashing.ticker", "-", "broken"],
        ["okx.bbo", "okx", "streamed"],
        ["okx.books", "okx", "streamed"],
        ["okx.ticker", "okx", "streamed"],
        ["okx.trades", "okx", "streamed"],
    ]
    assert rows[13][3] == "broken-venue 1.2           RuntimeError: no such library at all"


CHANNELS = {
    "channels": [
        {"channel": "prices", "state": "live", "instruments": ["BTC/USDT"], "age_s": 0.25}
        | {"subscribers": 3, "reason": "data are coming", "not_live": []},
        {"channel": "system", "state": None, "instruments": [], "age_s": None}
        | {"subscribers": 0, "reason": None, "not_live": []},
    ]
}


async def test_channels_shows_a_table_or_the_answer_itself(answers, invoke, monkeypatch):
    """Straight from the daemon: a proxy in the environment is not asked."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("WATCH_URL", "ws://127.0.0.1:1/ws")
    url = await answers(json.dumps(CHANNELS))
    result = await asyncio.to_thread(invoke, "channels", "--url", f"{url}/")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["channel", "state", "instruments", "age", "subscribers", "reason"],
        ["prices", "live", "1", "0.2", "s", "3", "data", "are", "coming"],
        ["system", "-", "0", "-", "0"],
    ]
    result = await asyncio.to_thread(invoke, "channels", "--url", url, "--json")
    assert json.loads(result.stdout) == CHANNELS


async def test_why(answers, invoke):
    """The verdict, then what is known, a line each; with `--json` the answer as it came."""
    facts = {
        "verdict": "prices is stale",
        "feed": {"state": "stale", "since_s": 31.0494, "last_error": None},
        "source": {"connected": True, "unacknowledged": []},
    }
    url = await answers(json.dumps(facts))
    result = await asyncio.to_thread(invoke, "why", "prices:BTC/USDT", "--url", url)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "prices is stale",
        "feed.state: stale",
        "feed.since_s: 31.049",
        "source.connected: true",
    ]
    result = await asyncio.to_thread(invoke, "why", "prices", "--url", url, "--json")
    assert json.loads(result.stdout) == facts
    url = await answers("[]")
    result = await asyncio.to_thread(invoke, "why", "prices", "--url", url)
    assert result.exit_code == 69
    assert "no aggregator" in result.stderr


def test_channels_shows_the_instruments_that_are_not_live():
    """Below their channel, indented, the first ten of them; each cell is one line of text."""
    silent = [
        {"instrument": f"A{n}/B\x1b", "state": "stale", "age_s": 31.04, "reason": "no data\n"}
        for n in range(12)
    ]
    silent[1] |= {"state": "unknown_instrument", "age_s": None}
    rows = ask.channel_rows(CHANNELS["channels"][0] | {"not_live": silent})
    assert len(rows) == 12
    assert rows[1] == ["  A0/B", "stale", "", "31.0 s", "", "no data"]
    assert rows[2] == ["  A1/B", "unknown_instrument", "", "-", "", "no data"]
    assert rows[11] == ["  2 more: see --json", "", "", "", "", ""]


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("<html>", 200, "no aggregator"),
        ("[]", 200, "no aggregator"),
        ("{}", 200, "no aggregator"),
        ('{"channels": [5]}', 200, "no aggregator"),
        ('{"channels": [{}]}', 200, "no aggregator"),
        ("{}", 404, "Not Found"),
        ("{}", 503, "Service Unavailable"),
    ],
)
async def test_something_else_that_answers_is_no_daemon(answers, invoke, text, status, words):
    """Exit code 69 and one line, whatever it says."""
    url = await answers(text, status)
    result = await asyncio.to_thread(invoke, "channels", "--url", url)
    assert (result.exit_code, result.stdout) == (69, "")
    assert words in one_line(result.stderr)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b""])
async def test_what_speaks_no_http_is_no_daemon(invoke, answer):
    """A port on which something else listens."""
    spoken = asyncio.Event()

    async def speak(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()
        spoken.set()

    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        result = await asyncio.to_thread(invoke, "channels", "--url", url)
        await spoken.wait()
    assert result.exit_code == 69
    assert one_line(result.stderr).startswith(f"can't reach the daemon at {url}: ")


@pytest.mark.parametrize("url", ["http://127.0.0.1:x", "http://[", "http://"])
def test_an_address_that_is_none_is_no_daemon(invoke, url):
    """One line, no traceback."""
    result = invoke("channels", "--url", url)
    assert result.exit_code == 69
    one_line(result.stderr)


# rotate.


@pytest.fixture
async def orders():
    """Return a function that serves one answer to each request, and what was asked for."""
    runners, asked = [], []

    async def orders(status, answer):
        async def handler(request):
            asked.append((request.method, request.path, request.headers.get("Authorization")))
            return web.json_response(answer, status=status)

        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", handler)
        runners.append(web.AppRunner(application))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runners[-1].addresses[0][1]}", asked

    yield orders
    for runner in runners:
        await runner.cleanup()


@pytest.mark.parametrize("token", [None, "s3cret"])
async def test_rotate(orders, invoke, monkeypatch, token):
    """Posts the order, with the token if there is one, which the environment may have."""
    url, asked = await orders(202, {"type": "rotate_response"})
    if token:
        monkeypatch.setenv("AGGREGATOR_CREDENTIALS__OPS_TOKEN", token)
    result = await asyncio.to_thread(invoke, "rotate", "btc", "--url", f"{url}/")
    assert (result.exit_code, result.stderr) == (0, "")
    assert one_line(result.stdout).startswith("btc: a second connection is being opened")
    assert asked == [("POST", "/feeds/btc/rotate", f"Bearer {token}" if token else None)]


@pytest.mark.parametrize(
    ("status", "answer", "exit_code", "words"),
    [
        (409, {"type": "error", "message": "btc is not connected"}, 2, "btc is not connected"),
        (404, {"type": "error", "message": "there is no such feed"}, 2, "there is no such feed"),
        (401, {"type": "error", "message": "a token\x1b[2J"}, 2, "the daemon refuses: a token"),
        (404, {}, 69, "Not Found"),
        (500, ["no"], 69, "Internal Server Error"),
    ],
)
async def test_a_rotation_that_is_refused(orders, invoke, status, answer, exit_code, words):  # noqa: PLR0917
    """The daemon's reason, and 2; 69 where what answers is no daemon."""
    url, _ = await orders(status, answer)
    result = await asyncio.to_thread(invoke, "rotate", "b/c?", "--url", url)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert words in one_line(result.stderr)
    assert "\x1b" not in result.stderr


# run, demo.


def test_flags_go_before_the_file(invoke, monkeypatch, tmp_path):
    """What is not given as a flag stays as configured."""
    seen = []
    monkeypatch.setattr(app, "run", lambda *args: seen.append(args))
    path = tmp_path / "some.toml"
    path.write_text('[server]\nhost = "127.0.0.2"\nport = 5\n')
    assert invoke("run", "--config", path).exit_code == 0
    args = ["--port", "0", "--host", "::1", "--log-level", "debug"]
    assert invoke("run", "--config", path, *args).exit_code == 0
    (plain, level, again), (flagged, debug, _) = seen
    path.write_text("[server]\nport = 6\n")
    # What SIGHUP reads.
    assert again().server.port == 6
    assert (plain.server.host, plain.server.port, level) == ("127.0.0.2", 5, "info")
    assert (flagged.server.host, flagged.server.port, debug) == ("::1", 0, "debug")
