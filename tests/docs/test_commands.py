"""Every command on the pages: run, or listed here with the reason why not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import pytest
from docs.pages import PAGES, ROOT, all_blocks, blocks, loads, same_shape, section

PATIENCE_S = 30
BIN = Path(sys.executable).parent
NOT_RUN = {
    "apt ": "installs on the machine",
    "systemctl ": "needs systemd, and root",
    "journalctl ": "needs systemd's journal",
    "cp -rT . ": "copies the project",
    "python3 -m venv ": "needs time; the Makefile's own targets do the same",
    "PIP_CONSTRAINT=": "needs a package index",
    ".venv/bin/pip ": "needs a package index; the distribution is run in test_connectors_page",
    ".venv/bin/aggregator run": "talks to the real venues",
    "WRITE_EXPECTED=1 ": "writes into the tree",
    "make ": "makes a virtual environment; that the target exists is checked below",
}
ENDLESS = {
    "aggregator simulator": "simulated venues at",
    "aggregator run": "listening on",
    "aggregator watch": '"type":"(price_update|system_status)"',
    ".venv/bin/aggregator watch": '"type":"price_update"',
}
COMMANDS = [(block, line) for block in all_blocks("sh") for line in block.text.splitlines()]


def first(command, table):
    return next((value for start, value in table.items() if command.startswith(start)), None)


@pytest.fixture(scope="module")
def machine(tmp_path_factory, demo, venues):
    """Return a function that puts a command's paths and ports where they do no harm."""
    root = tmp_path_factory.mktemp("machine")
    for folder in ("etc/aggregator", "here"):
        (root / folder).mkdir(parents=True)
    (root / "here/rehearsal.toml").write_text(rehearsal(venues.port))

    def machine(command):
        swaps = {
            "/etc/aggregator": str(root / "etc/aggregator"),
            "127.0.0.1:8000": f"127.0.0.1:{demo.port}",
            "127.0.0.1:9000": f"127.0.0.1:{venues.port}",
            "--port 9000": "--port 0",
        }
        command = re.sub(r"(/opt/aggregator/)?\.venv/bin/aggregator", f"{BIN}/aggregator", command)
        for old, new in swaps.items():
            command = command.replace(old, new)
        return command, root / "here"

    return machine


def rehearsal(port):
    [block] = [b for b in blocks("operations", "toml") if "127.0.0.1:9000" in b.text]
    return "[server]\nport = 0\n" + block.text.replace(":9000", f":{port}")


def environment(demo):
    return {"PATH": f"{BIN}:/usr/bin:/bin", "WATCH_URL": demo.ws(), "LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize(
    ("block", "command"), COMMANDS, ids=[f"{b.page}: {c[:50]}" for b, c in COMMANDS]
)
def test_commands(machine, demo, needs, block, command):
    """
    What can be run here ends well, or runs until it says what it should.

    The answer to `curl` is held against the JSON that stands behind it on the page.
    """
    if first(command, NOT_RUN):
        return
    needs("curl")
    text, folder = machine(command)
    env = environment(demo)
    if pattern := first(command, ENDLESS):
        with subprocess.Popen(
            ["bash", "-c", f"exec {text} 2>&1"], cwd=folder, env=env, stdout=-1, text=True
        ) as process:
            lines = []
            found = any(lines.append(o) or re.search(pattern, o) for o in process.stdout)
            process.terminate()
        assert found, lines
        return
    result = subprocess.run(
        ["bash", "-ec", text],
        cwd=folder,
        env=env,
        input="secret",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    if command.startswith("curl ") and "/faults" not in command:
        answer_is_as_documented(block, result.stdout)


def answer_is_as_documented(block, answer):
    fenced = blocks(block.page)
    following = [b for b in fenced if b.line > block.line][:1]
    one = block.text.count("\n") == 1
    if block.page != "protocol" or not one or not following or following[0].language != "json":
        return
    documented, actual = loads(following[0].text), loads(answer)
    if "channels" in documented:
        wanted = documented["channels"][0]["channel"]
        actual["channels"] = [c for c in actual["channels"] if c["channel"] == wanted]
    same_shape(documented, actual)
    if documented.get("type") == "error":
        assert documented == actual


def test_the_demo_can_be_broken(demo):
    """The demo says where its venues are, and there faults can be posted."""
    [shown] = re.findall(r"`(configured by .*?)`", section("operations", "## Rehearsals"))
    pattern = re.escape(shown).replace(r"\.\.\.", ".*").replace("PORT", r"\d+")
    [line] = [found for line in demo.seen if (found := re.search(pattern, line))]
    url = line[0].rpartition(" ")[2] + "faults"
    fault = {"venue": "okx", "kind": "mute", "instrument": "NOPE/USDT"}
    for method, body in (("POST", json.dumps(fault).encode()), ("DELETE", None)):
        request = urllib.request.Request(url, body, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert answer.status in {200, 201, 204}


def test_readyz_names_what_is_not(start_daemon):
    """A daemon with a feed that does not work answers 503, as documented."""
    daemon = start_daemon(
        '[server]\nport = 0\n[feeds.x]\nconnector = "coingecko.global"\n'
        'base_url = "http://127.0.0.1:{port}/nowhere"\n'
    )
    daemon.logged("feed x down")
    with pytest.raises(urllib.request.HTTPError) as refused:
        daemon.get("/readyz")
    with refused.value as answer:
        actual = json.loads(answer.read())
    [text] = [b.text for b in blocks("protocol", "json") if '"not ready"' in b.text]
    assert refused.value.code == 503
    same_shape(loads(text), actual)


def test_reasons_are_of_use():
    """Nothing stands in the lists above that is on no page."""
    for start in (*NOT_RUN, *ENDLESS):
        assert any(command.startswith(start) for _, command in COMMANDS), start


def test_make_targets_exist():
    """Each `make` target on a page is in the Makefile, in code as in text."""
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    flags = re.MULTILINE
    for path in PAGES.values():
        for target in re.findall(r"`make ([a-z]+)`|^    make ([a-z]+)$", path.read_text(), flags):
            assert "".join(target) in targets


def test_files_of_the_installation_exist():
    """What is copied or run from the project's folder is in the project; the unit agrees."""
    text = "".join(command + "\n" for _, command in COMMANDS)
    for path in re.findall(r"/opt/aggregator/([\w./-]+)", text):
        assert path.startswith(".venv/") or (ROOT / path).exists(), path
    unit = (ROOT / "systemd/aggregator.service").read_text()
    for path in re.findall(r"=(/opt/\S+|\S+:/etc/\S+)", unit):
        assert path.partition(":")[2] in text or path in text or "docs" in path, path
    assert "--config /etc/aggregator/aggregator.toml" in unit


@pytest.mark.parametrize(
    "block", [b for b in all_blocks("toml") if "[project]" not in b.text], ids=str
)
def test_configurations(block, run_cli, tmp_path):
    """Each configuration on a page is a good one (those of the example: see the other tests)."""
    if "tinyex" in block.text:
        assert tomllib.loads(block.text)["feeds"].keys() == {"tinyex_prices", "tinyex_btc"}
        return
    (tmp_path / "aggregator.toml").write_text(block.text)
    result = run_cli("check-config", "--config", "aggregator.toml")
    assert (result.returncode, result.stderr) == (0, "")


def test_languages_are_tested():
    """There is no block in a language that no test looks at."""
    tested = {"json", "js", "python", "sh", "toml", "text /ws", "text /ws/ticker"}
    not_run = {"nginx": "needs nginx"}
    assert {b.info for page in PAGES for b in blocks(page)} <= tested | not_run.keys()
