"""The units of systemd/: valid, hardened, and in agreement with the daemon."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator import cli, config, sources

UNITS = Path(__file__).parents[1] / "systemd"
NAMES = ("aggregator", "aggregator-gateway")
CREDENTIALS = {
    "aggregator": {"coingecko_api_key", "ops_token"},
    "aggregator-gateway": {"ops_token"},
}
NETWORK = {"PrivateNetwork", "RestrictAddressFamilies", "IPAddressDeny"}


def values(path):
    """Return the values of each key of a unit."""
    found = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def unit(name):
    """Read a service: the values of each key."""
    return values(UNITS / f"{name}.service")


@pytest.fixture
def copied(tmp_path):
    """Copy the units, with programs that exist: the tests' own, in place of the installed ones."""
    installed = str(Path(sys.executable).with_name("aggregator"))
    for path in UNITS.iterdir():
        text = path.read_text().replace("/opt/aggregator/.venv/bin/aggregator", installed)
        (tmp_path / path.name).write_text(text)
    return tmp_path


def analyze(program, *args):
    result = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_the_units_are_valid(needs, copied, name):
    """No key is unknown to systemd, no program is missing, and nothing is said about them."""
    paths = [str(copied / f"{name}.{kind}") for kind in ("service", "socket")]
    code, text = analyze(needs("systemd-analyze"), "verify", "--man=no", *paths)
    complaints = [line for line in text.splitlines() if "aggregator" in line]
    assert (code, complaints) == (0, [])


def test_a_socket_unit_listens_on_loopback():
    """The daemon's where it would by default; the gateway's beside it."""
    server = config.Server()
    addresses = [values(UNITS / f"{name}.socket")["ListenStream"] for name in NAMES]
    assert addresses[0] == [f"{server.host}:{server.port}"]
    assert addresses[1][0].startswith(f"{server.host}:")
    assert addresses[0] != addresses[1]


@pytest.mark.parametrize(
    ("name", "tenths", "carries"),
    [("aggregator", 11, "CapabilityBoundingSet"), ("aggregator-gateway", 2, "IPAddressDeny")],
)
def test_a_unit_is_exposed_no_more_than_it_must_be(needs, copied, name, tenths, carries):
    """By systemd's own count, of 10: at most 1.1, and 0.2 without a network."""
    program, path = needs("systemd-analyze"), copied / f"{name}.service"
    args = ["security", "--offline=true", "--no-pager", f"--threshold={tenths}", str(path)]
    code, text = analyze(program, *args)
    assert code == 0, text
    path.write_text(re.sub(rf"^{carries}=.*\n", "", path.read_text(), flags=re.MULTILINE))
    assert analyze(program, *args)[0] != 0


def test_the_gateway_is_locked_in_as_the_other_is():
    """Line for line; but for the network, of which it has none."""
    ours, gateway = (
        (UNITS / f"{name}.service").read_text().partition("\n# What follows")[2].splitlines()
        for name in NAMES
    )
    of_both = [
        [line for line in lines if line[:1] != "#" and line.partition("=")[0] not in NETWORK]
        for lines in (ours, gateway)
    ]
    assert of_both[0] == of_both[1]
    assert {"PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "IPAddressDeny=any"} <= {
        *gateway
    }


def test_the_gateway_is_reached_by_its_socket_alone():
    """So it never runs without: where it listens by itself nobody can come."""
    unit = values(UNITS / "aggregator-gateway.service")
    assert unit["Requires"] == ["aggregator-gateway.socket"]


def test_an_empty_table_of_feeds_is_one(tmp_path):
    """As the gateway's: no feed runs that could not reach its venue."""
    path = tmp_path / "gateway.toml"
    path.write_text("[feeds]\n")
    assert config.load(path, environ={}).feeds == ()


def test_its_command_is_the_daemons(unit, name):
    """With options that it has, and a configuration of its own where it is read by default."""
    [start] = unit["ExecStart"]
    program, command, *args = shlex.split(start)
    assert (Path(program).name, command) == ("aggregator", "run")
    path = cli.main.commands[command].make_context(command, args).params["path"]
    assert path.parent in {place.parent for place in sources.PLACES}
    assert path.stem == name.rpartition("-")[2]


def test_it_is_not_started_again_for_a_bad_configuration(unit):
    """The exit code is the command line's; a check before the start would be tried again."""
    assert unit["RestartPreventExitStatus"] == [str(cli.EXIT_CONFIG)]
    assert unit["Restart"] == ["on-failure"]
    assert "ExecStartPre" not in unit


def test_its_credentials_are_those_that_the_daemon_uses(unit, name, tmp_path, monkeypatch):
    """None of them is unknown; each has an empty stand-in, which means none."""
    monkeypatch.setattr(sources, "PLACES", ())
    loaded = dict(line.split(":", 1) for line in unit["LoadCredential"])
    stand_ins = dict(line.split(":", 1) for line in unit["SetCredential"])
    assert set(loaded) == set(stand_ins) == CREDENTIALS[name]
    for credential, path in loaded.items():
        assert Path(path).name.removeprefix("gateway_") == credential
        (tmp_path / credential).write_text("s3cret-of-22-characters\n")
    full = config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert full.warnings == ()
    assert full.server.ops_token.get_secret_value() == "s3cret-of-22-characters"
    for credential, text in stand_ins.items():
        (tmp_path / credential).write_text(text.encode().decode("unicode_escape"))
    empty = config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (empty.server.ops_token, empty.credentials) == (None, {})


def test_no_secret_is_shared():
    """Who may give orders to one daemon may not by that give them to the other."""
    paths = [set(values(UNITS / f"{name}.service")["LoadCredential"]) for name in NAMES]
    files = [{line.partition(":")[2] for line in lines} for lines in paths]
    assert not files[0] & files[1]


def test_it_waits_for_what_the_daemon_says(unit):
    """Ready, alive and stopping come from the main process; the stop is longer than ours."""
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert int(unit["WatchdogSec"][0]) >= 10
    assert int(unit["TimeoutStopSec"][0]) > 5
    assert "AF_UNIX" in unit["RestrictAddressFamilies"][0]


def test_it_may_hold_as_many_connections_as_are_configured(unit):
    """With room for what else the daemon has open."""
    assert int(unit["LimitNOFILE"][0]) > 2 * config.Server().max_connections
