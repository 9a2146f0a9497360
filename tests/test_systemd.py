"""systemd/aggregator.service: valid, hardened, and in agreement with the daemon."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator import cli, config, sources

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd" / "aggregator.service"


@pytest.fixture
def unit():
    """Read the unit: the values of each key."""
    values = {}
    for line in UNIT.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


@pytest.fixture
def copy(tmp_path):
    """Copy the unit, with programs that exist: the tests' own, in place of the installed ones."""
    installed = Path(sys.executable).with_name("aggregator")
    text = re.sub(r"/opt/aggregator/\.venv/bin/aggregator", str(installed), UNIT.read_text())
    path = tmp_path / UNIT.name
    path.write_text(text)
    return path


def analyze(program, *args):
    result = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr


def test_the_unit_is_valid(needs, copy):
    """No key is unknown to systemd, no program is missing, and nothing is said about it."""
    code, text = analyze(needs("systemd-analyze"), "verify", "--man=no", str(copy))
    complaints = [line for line in text.splitlines() if UNIT.name in line]
    assert (code, complaints) == (0, [])


def test_the_socket_unit_is_valid(needs, copy, tmp_path):
    """It leads to the service of its name, and listens where the daemon would by default."""
    path = tmp_path / "aggregator.socket"
    path.write_text(UNIT.with_name(path.name).read_text())
    code, text = analyze(needs("systemd-analyze"), "verify", "--man=no", str(path), str(copy))
    complaints = [line for line in text.splitlines() if "aggregator." in line]
    assert (code, complaints) == (0, [])
    server = config.Server()
    assert f"ListenStream={server.host}:{server.port}\n" in path.read_text()


def test_the_unit_is_exposed_no_more_than_it_must_be(needs, copy):
    """At most 1.1 of 10 by systemd's own count."""
    program = needs("systemd-analyze")
    args = ["security", "--offline=true", "--no-pager"]
    code, text = analyze(program, *args, "--threshold=11", str(copy))
    assert code == 0, text
    stripped = re.sub(r"^CapabilityBoundingSet=.*\n", "", copy.read_text(), flags=re.MULTILINE)
    copy.write_text(stripped)
    assert analyze(program, *args, "--threshold=11", str(copy))[0] != 0


def test_its_commands_are_the_daemons(unit):
    """Each is a command, with options that this command has."""
    [check], [start] = unit["ExecStartPre"], unit["ExecStart"]
    for line, expected in ((check, "check-config"), (start, "run")):
        program, name, *args = shlex.split(line)
        assert (Path(program).name, name) == ("aggregator", expected)
        context = cli.main.commands[name].make_context(name, args)
        assert context.params["path"] in sources.PLACES


def test_it_is_not_started_again_for_a_bad_configuration(unit):
    """The exit code is the command line's."""
    assert unit["RestartPreventExitStatus"] == [str(cli.EXIT_CONFIG)]
    assert unit["Restart"] == ["on-failure"]


def test_its_credentials_are_those_that_the_daemon_uses(unit, tmp_path, monkeypatch):
    """None of them is unknown; each has an empty stand-in, which means none."""
    monkeypatch.setattr(sources, "PLACES", ())
    loaded = dict(line.split(":", 1) for line in unit["LoadCredential"])
    stand_ins = dict(line.split(":", 1) for line in unit["SetCredential"])
    assert set(loaded) == set(stand_ins) == {"coingecko_api_key", "ops_token"}
    for name, path in loaded.items():
        assert Path(path).name == name
        (tmp_path / name).write_text("s3cret\n")
    full = config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert full.warnings == ()
    assert full.server.ops_token.get_secret_value() == "s3cret"
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(text.encode().decode("unicode_escape"))
    empty = config.load(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert (empty.server.ops_token, empty.credentials) == (None, {})


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
