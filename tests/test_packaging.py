"""The wheel: built, installed into an empty environment and run there; and the container's file."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from aggregator import __version__, cli, config

ROOT = Path(__file__).parents[1]
PATIENCE_S = 60
IN_THE_WHEEL = {
    "aggregator": "aggregator",
    "connectors": "connectors",
    "docs": "aggregator/data/docs",
    "systemd": "aggregator/data/systemd",
}
"""Folders of the project, and where they are in the wheel."""
NOWHERE = "127.0.0.1:9"
"""Nobody listens there, and nothing goes out."""


def run(*command, cwd=ROOT, **environ):
    """Run a program to its end, and return what it says."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**environment(), **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment():
    """Return the environment without what makes a Python see other packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel as from a release: from the archive of the sources, offline."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder)
    [archive] = folder.glob("*.tar.gz")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "-w", folder, archive)
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """
    Install the wheel into an environment of its own; return the folder of its programs.

    What it depends on is linked from the environment of the tests, not downloaded again: those
    distributions that the wheel names, what they depend on in turn, and no others. That they are
    enough is for pip to say, which may ask no index.
    """
    folder = tmp_path_factory.mktemp("machine") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    scheme = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    wanted = [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]
    for distribution in needed(wanted):
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", wheel)
    return folder / "bin"


def needed(requirements):
    """Return the installed distributions of these requirements, and of theirs."""
    found, seen, left = {}, set(), [(Requirement(text), "") for text in requirements]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name.lower(), wanted) not in seen:
                seen.add((requirement.name.lower(), wanted))
                distribution = importlib.metadata.distribution(requirement.name)
                found[requirement.name.lower()] = distribution
                left += [(Requirement(text), wanted) for text in distribution.requires or ()]
    return found.values()


@pytest.fixture
def start(installed, tmp_path):
    """Return a function that starts the installed program in an empty folder, until it listens."""
    started = []

    def start(*args, **environ):
        process = subprocess.Popen(
            [installed / "aggregator", *args],
            cwd=tmp_path,
            env={**environment(), **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, int(logged(process, r"listening on ws://[\d.]+:(\d+)")[1])

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stderr.close()


def logged(process, pattern):
    """Wait for a line in the log of a process."""
    found = (re.search(pattern, line) for line in process.stderr)
    match = next(filter(None, found), None)
    assert match, f"it ended without {pattern}"
    return match


def stopped(process):
    """Stop a process as systemd does; return its exit code."""
    process.send_signal(signal.SIGTERM)
    process.stderr.read()
    return process.wait(PATIENCE_S)


def get(port, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S) as answer:
        return answer.read()


# The wheel.


def test_the_wheel_has_all_that_is_needed_and_nothing_else(wheel):
    """Code, connectors, static files, pages and units, byte for byte; no test, no benchmark."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *IN_THE_WHEEL]
    names = [name for name in run(*command).split("\0") if name and (ROOT / name).is_file()]
    expected = {}
    for name in names:
        top, _, rest = name.partition("/")
        expected[f"{IN_THE_WHEEL[top]}/{rest}"] = (ROOT / name).read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        packed = {n: archive.read(n) for n in archive.namelist() if ".dist-info/" not in n}
    assert packed.keys() == expected.keys()
    assert packed == expected
    assert {"aggregator/static/client.js", "aggregator/py.typed"} <= packed.keys()


def test_the_version_is_the_packages(wheel, installed, tmp_path):
    """In the name of the wheel, and as the program says it."""
    assert wheel.name == f"exchange_aggregator-{__version__}-py3-none-any.whl"
    said = run(installed / "aggregator", "--version", cwd=tmp_path)
    assert said == f"aggregator, version {__version__}\n"


def test_the_changelog_begins_with_this_version():
    """Whose section has a date, and says what is there and what is not."""
    text = (ROOT / "CHANGELOG.md").read_text()
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert re.fullmatch(
        rf"{re.escape(__version__)} - \d{{4}}-\d\d-\d\d", sections[0].split("\n")[0]
    )
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Missing"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds
    named = set(re.findall(r"`aggregator ([a-z-]+)`", text))
    assert named <= cli.main.commands.keys()


def test_nothing_of_it_comes_from_the_repository(installed, tmp_path):
    """Neither the code nor the pages nor the units."""
    code = (
        "import aggregator, connectors; from aggregator.shipped import shipped;"
        "print(aggregator.__file__, connectors.__file__, shipped('docs'), shipped('systemd'))"
    )
    for path in run(installed / "python", "-c", code, cwd=tmp_path).split():
        assert Path(path).exists()
        assert Path(path).is_relative_to(installed.parent)


def test_every_connector_is_found(installed, tmp_path):
    """None is broken, though the extra is not installed: that is imported when it is used."""
    listed = run(installed / "aggregator", "connectors", cwd=tmp_path).splitlines()[1:]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["aggregator.connectors"]
    assert [line.split()[0] for line in listed] == sorted(named)
    assert not [line for line in listed if line.split()[2] == "broken"]
    code = "import importlib.util as u; print(u.find_spec('ccxt'))"
    assert run(installed / "python", "-c", code, cwd=tmp_path) == "None\n"


def test_it_runs_with_the_configuration_inside(start):
    """In an empty folder, with the standard feeds; and serves the client for JavaScript."""
    environ = {}
    for name, feed in config.STANDARD_FEEDS.items():
        if feed["connector"].startswith("okx."):
            environ[f"AGGREGATOR_FEEDS__{name.upper()}__URLS"] = f'["ws://{NOWHERE}"]'
        else:
            environ[f"AGGREGATOR_FEEDS__{name.upper()}__BASE_URL"] = f"http://{NOWHERE}"
    process, port = start("run", "--port", "0", **environ)
    listed = json.loads(get(port, "/channels"))["channels"]
    assert {each["channel"] for each in listed} == {
        *config.STANDARD_FEEDS,
        *("system", "heartbeat"),
    }
    assert get(port, "/client.js") == (ROOT / "aggregator/static/client.js").read_bytes()
    assert stopped(process) == 0


def test_the_demo_runs(start, installed, tmp_path):
    """With simulated venues of its own: data come to a client that is installed as well."""
    process, port = start("demo", "--port", "0")
    logged(process, "feed bitcoinprice live")
    table = run(installed / "aggregator", "channels", "--url", f"http://127.0.0.1:{port}")
    assert re.search(r"^bitcoinprice +live ", table, re.MULTILINE)
    url = f"ws://127.0.0.1:{port}/ws"
    with subprocess.Popen(
        [installed / "aggregator", "watch", "bitcoinprice", "--url", url],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
    ) as watching:
        prices = (json.loads(line) for line in watching.stdout)
        assert next(p for p in prices if p["type"] == "price_update")["exchange"] == "okx"
        watching.terminate()
    assert stopped(process) == 0


def test_the_manual_is_inside(installed, tmp_path):
    """`aggregator help` shows this version's page."""
    shown = run(installed / "aggregator", "help", "operations", cwd=tmp_path)
    assert shown == (ROOT / "docs/operations.md").read_text()


def test_the_units_run_what_is_installed(installed, tmp_path, needs):
    """Those that `aggregator init` writes there: systemd finds nothing to say about them."""
    folder = tmp_path / "etc"
    run(installed / "aggregator", "init", folder, cwd=tmp_path)
    unit = (folder / "aggregator.service").read_text()
    assert f"ExecStart={installed}/aggregator run --config {folder}/aggregator.toml\n" in unit
    page = re.search(r"^Documentation=file:(.+)$", unit, re.MULTILINE)[1]
    assert Path(page).is_relative_to(installed.parent)
    assert Path(page).read_text() == (ROOT / "docs/operations.md").read_text()
    units = [folder / "aggregator.service", folder / "aggregator.socket"]
    run(needs("systemd-analyze"), "verify", "--man=no", *units)


# The container. What hadolint does not know.


@pytest.fixture(scope="module")
def stages():
    """Read Containerfile: of each stage, the instructions in order."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    stages = []
    for keyword, _, rest in (line.partition(" ") for line in lines if line):
        stages += [[]] if keyword == "FROM" else []
        stages[-1].append((keyword, rest))
    return stages


def only(stage, keyword):
    [found] = [rest for each, rest in stage if each == keyword]
    return found


def test_the_container_breaks_no_rule_of_hadolint():
    """Not the least of them."""
    run(Path(sys.executable).with_name("hadolint"), "Containerfile")


def test_its_base_is_pinned_and_supported(stages):
    """Both stages have the same, by its tag; the package says that it runs there."""
    build, final = stages
    bases = {rest.partition(" AS ")[0] for stage in stages for k, rest in stage if k == "FROM"}
    assert bases == {"python:3.12-slim"}
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "Programming Language :: Python :: 3.12" in metadata["project"]["classifiers"]
    assert "--from=build " in " ".join(rest for k, rest in final if k == "COPY")
    assert "PIP_CONSTRAINT=/src/constraints.txt" in only(build, "ENV")
    assert "PIP_NO_CACHE_DIR=1" in only(build, "ENV")


def test_it_is_not_root_and_is_stopped_gently(stages):
    """Nothing is run by root once the image is made; signals come to the daemon itself."""
    final = stages[-1]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", only(final, "USER"))
    keywords = [keyword for keyword, _ in final]
    assert "RUN" not in keywords[keywords.index("USER") :]
    assert only(final, "STOPSIGNAL") == "SIGTERM"
    assert json.loads(only(final, "ENTRYPOINT")) == ["aggregator"]
    assert json.loads(only(final, "CMD")) == ["run"]


def test_it_listens_where_it_says(stages, monkeypatch):
    """On all addresses, at the port that is exposed, with the configuration of the repository."""
    final = stages[-1]
    for name, value in re.findall(r"(AGGREGATOR_\w+)=(\S+)", only(final, "ENV")):
        monkeypatch.setenv(name, value)
    assert ("COPY", "config/aggregator.toml /etc/aggregator/aggregator.toml") in final
    server = config.load(ROOT / "config/aggregator.toml").server
    assert (server.host, str(server.port)) == ("0.0.0.0", only(final, "EXPOSE"))


def test_all_that_it_is_made_of_is_let_in():
    """`.containerignore` names what the wheel is built from, and what is copied."""
    lines = (ROOT / ".containerignore").read_text().splitlines()
    let_in = {line[1:] for line in lines if line.startswith("!")}
    metadata = {"pyproject.toml", "constraints.txt", "README.md"}
    assert let_in == {*IN_THE_WHEEL, "config", *metadata}
    assert "*" in lines


def test_its_health_is_the_daemons(stages, start, installed):
    """The check is good while the daemon serves, and no longer."""
    healthcheck = only(stages[-1], "HEALTHCHECK")
    program, *args = json.loads(healthcheck.partition(" CMD ")[2])
    assert program == "python"
    process, port = start("demo", "--port", "0")
    # A proxy would not know the way.
    environ = {"AGGREGATOR_SERVER__PORT": str(port), "http_proxy": f"http://{NOWHERE}"}
    run(installed / "python", *args, **environ)
    assert stopped(process) == 0
    check = [installed / "python", *args]
    environ = {**environment(), **environ}
    assert subprocess.run(check, env=environ, capture_output=True, check=False).returncode != 0
