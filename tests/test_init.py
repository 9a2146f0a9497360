"""`aggregator init`: a configuration and units that work where they are written."""

import difflib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner

from aggregator import cli, config, configdoc, installation, shipped

ROOT = Path(__file__).parents[1]
PROGRAM = Path(sysconfig.get_path("scripts"), "aggregator")
FILES = ["aggregator.toml", *installation.UNITS]


@pytest.fixture
def init(tmp_path, monkeypatch):
    """Return a function that calls the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *args: CliRunner().invoke(cli.main, ["init", *map(str, args)])


@pytest.fixture
def closed_umask():
    """Let new files be for their owner alone, as on many servers root's are."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def files(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def project_units():
    """Return the text of the units as they are in the repository."""
    return {path.name: path.read_text() for path in (ROOT / "systemd").iterdir()}


def test_it_writes_configuration_and_units(init, tmp_path, closed_umask):
    """All may read them, whatever the umask; what is for secrets, root alone may enter."""
    folder = tmp_path / "etc" / "aggregator"
    result = init(folder)
    assert result.exit_code == 0, result.output
    assert sorted(files(folder)) == sorted(FILES)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in [folder, *folder.iterdir()]}
    expected = dict.fromkeys(FILES, "0o644")
    assert modes == {"aggregator": "0o755", "credentials": "0o700", **expected}
    for name in FILES:
        assert f"wrote {folder / name}\n" in result.stdout


def test_without_a_folder_it_is_the_current_one(init, tmp_path):
    """The units name it in full."""
    assert init().exit_code == 0
    assert f"--config {tmp_path}/aggregator.toml\n" in files(tmp_path)["aggregator.service"]


def test_the_configuration_is_the_defaults(init, tmp_path, monkeypatch):
    """All of them, written out; what holds for this shell need not hold for the daemon."""
    monkeypatch.setenv("AGGREGATOR_SERVER__PORT", "1234")
    (tmp_path / "config").mkdir()
    (tmp_path / "config/aggregator.toml").write_text("[server]\nport = 4321\n")
    assert init("here").exit_code == 0
    text = (tmp_path / "here/aggregator.toml").read_text()
    assert text == configdoc.render(config.load(Path(os.devnull), environ={}))
    loaded = config.load(tmp_path / "here/aggregator.toml", environ={})
    assert (loaded.server.port, configdoc.render(loaded)) == (8000, text)


def test_in_the_standard_places_the_units_are_those_of_the_repository():
    """But for where the pages are."""
    standard = Path("/etc/aggregator"), Path("/opt/aggregator/.venv/bin/aggregator")
    for name, text in installation.units(*standard).items():
        assert text.replace(f"{ROOT}/docs", "/opt/aggregator/docs") == project_units()[name]


def test_elsewhere_only_paths_differ(tmp_path):
    """They are those of this installation; systemd does not make a folder that nothing is in."""
    folder = tmp_path / "here"
    changed = []
    for name, text in installation.units(folder, PROGRAM).items():
        assert not re.search(r"/opt/aggregator|/etc/aggregator", text)
        lines = difflib.ndiff(project_units()[name].splitlines(), text.splitlines())
        changed += [line for line in lines if line[0] in "+-"]
    assert "- ConfigurationDirectory=aggregator" in changed
    assert f"+ ExecStart={PROGRAM} run --config {folder}/aggregator.toml" in changed
    assert f"+ LoadCredential=ops_token:{folder}/credentials/ops_token" in changed
    kept = ("ConfigurationDirectory=", "Documentation=", "Exec", "LoadCredential=")
    assert not [line for line in changed if not line[2:].startswith(kept)]


def test_systemd_finds_nothing_to_say(init, tmp_path, needs):
    """No unknown key, no missing program, no path that has to be quoted."""
    folder = tmp_path / "with-every+plain@sign~,_é.d"
    assert init(folder).exit_code == 0
    units = [folder / "aggregator.service", folder / "aggregator.socket"]
    command = [needs("systemd-analyze"), "verify", "--man=no", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "aggregat" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.parametrize(
    "name", ["with space", "100%", "$HOME", 'a"b', "a'b", "a\\b", "a;b", "a:b"]
)
def test_what_would_have_to_be_quoted_is_refused(init, tmp_path, name):
    """As a usage error that names the path; nothing is written."""
    result = init(tmp_path / name)
    assert result.exit_code == 2
    assert "in a unit a path has" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_a_path_may_have_is_said():
    """Each mark that is named is taken, and no other one."""
    with pytest.raises(installation.PathError) as refused:
        installation.units(Path("/a b"), PROGRAM)
    named = str(refused.value).partition("has letters, digits and ")[2].split()
    marks = [chr(code) for code in range(33, 127) if not chr(code).isalnum()]
    assert sorted(named) == [m for m in marks if installation.PLAIN.fullmatch(f"/a{m}b")]


def test_nothing_is_overwritten(init, tmp_path):
    """One file that is there is enough: none is written. With --force all are."""
    (tmp_path / "aggregator.socket").write_text("mine")
    result = init(tmp_path)
    assert result.exit_code == 2
    assert f"Error: {tmp_path} already has aggregator.socket; --force" in result.stderr
    assert files(tmp_path) == {"aggregator.socket": "mine"}
    assert init("--force", tmp_path).exit_code == 0
    assert sorted(files(tmp_path)) == sorted(FILES)
    assert "mine" not in files(tmp_path).values()


def test_the_units_alone(init, tmp_path):
    """After an upgrade: the configuration that is there is not touched, not even by force."""
    (tmp_path / "aggregator.toml").write_text("# mine")
    assert init("--units", tmp_path).exit_code == 0
    assert init("--units", tmp_path).exit_code == 2
    assert init("--units", "--force", tmp_path).exit_code == 0
    assert sorted(files(tmp_path)) == sorted(FILES)
    assert files(tmp_path)["aggregator.toml"] == "# mine"


def test_what_can_not_be_written_is_said(init, tmp_path):
    """In one line, with exit code 1."""
    (tmp_path / "file").touch()
    result = init(tmp_path / "file" / "below")
    assert (result.exit_code, result.stdout) == (1, "")
    place = tmp_path / "file" / "below"
    assert result.stderr == f"Error: {place}: can't be written: Not a directory\n"
    result = init(tmp_path / "file")
    assert result.exit_code == 2


def test_a_python_without_the_program_is_told_so(init, tmp_path, monkeypatch):
    """As where the package is only on a path: there is nothing that the unit could run."""
    monkeypatch.setattr(installation.sysconfig, "get_path", lambda name: str(tmp_path))
    result = init("here")
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"{tmp_path}/aggregator: there is no such program" in result.stderr


def test_the_next_steps_can_be_pasted(init, tmp_path, monkeypatch):
    """Each is a command that there is; the one that checks the configuration finds it good."""
    monkeypatch.setattr(installation, "obstacles", lambda paths: iter(()))
    result = init(tmp_path)
    assert result.stderr == ""
    steps = [shlex.split(line) for line in result.stdout.splitlines() if line.startswith("    ")]
    for step in steps:
        assert step[0] in {str(PROGRAM), "systemctl"}
        for part in step:
            assert not part.startswith(str(tmp_path)) or Path(part).exists(), part
    [check] = [step for step in steps if "check-config" in step]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.stdout == f"{tmp_path}/aggregator.toml: good, 8 feeds\n"
    [run] = [step[1:] for step in steps if "run" in step]
    assert cli.main.commands["run"].make_context("run", run[1:]).params["path"].exists()


# Whether the daemon could read what it needs.


def test_what_everybody_may_read_is_no_obstacle():
    """Nor is a link to it."""
    assert list(installation.obstacles([Path("/etc/passwd"), Path("/proc/self/mounts")])) == []


@pytest.mark.parametrize("place", installation.HIDDEN)
def test_what_the_unit_hides_is_an_obstacle(place):
    """Whoever may read it outside."""
    path = Path(place) / "x"
    assert list(installation.obstacles([path, Path("/tmpfile"), Path("/homeless")])) == [
        f"{path}: the unit hides {place} from the daemon",
        "/tmpfile: /tmpfile can't be read by all",
        "/homeless: /homeless can't be read by all",
    ]


def test_they_are_hidden_by_the_unit():
    """The list is that of two keys, as systemd.exec(5) has it."""
    unit = (shipped.shipped("systemd") / "aggregator.service").read_text().splitlines()
    assert {"ProtectHome=yes", "PrivateTmp=yes", "DynamicUser=yes"} <= set(unit)
    assert set(installation.HIDDEN) == {"/home", "/root", "/run/user", "/tmp", "/var/tmp"}


def test_what_is_not_for_everybody_is_an_obstacle(tmp_path, monkeypatch):
    """A folder that others may not enter, a file that they may not read; also behind a link."""
    monkeypatch.setattr(installation, "HIDDEN", ())
    closed = next((p for p in reversed(tmp_path.parents) if not p.stat().st_mode & 1), tmp_path)
    tmp_path.chmod(0o700)
    path = tmp_path / "file"
    path.touch()
    assert list(installation.obstacles([path])) == [f"{path}: {closed} can't be read by all"]
    link = tmp_path / "link"
    link.symlink_to("/etc/shadow")
    assert list(installation.obstacles([link])) == [
        f"{link} (/etc/shadow): /etc/shadow can't be read by all"
    ]


def test_the_interpreter_is_looked_at_as_well(init, tmp_path, monkeypatch):
    """A virtual environment may be readable where its Python is not."""
    seen = []
    monkeypatch.setattr(installation, "obstacles", lambda paths: iter(seen.extend(paths) or ["x"]))
    result = init(tmp_path)
    assert result.exit_code == 0
    assert result.stderr == "warning: the unit will not start: x\n"
    package = Path(installation.__file__)
    assert seen == [PROGRAM, Path(sys.executable), package, tmp_path / "aggregator.toml"]
