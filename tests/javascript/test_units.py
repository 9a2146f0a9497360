"""What of the JavaScript client needs no connection: `unit/`, by Node's own test runner."""

import json
import re
import subprocess

import pytest
from javascript.far import HERE, NODE_OPTIONS, PATIENCE_S, ROOT

UNITS = sorted((HERE / "unit").glob("*.test.mjs"))


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_unit(needs, path):
    """Each test in the file passes, and there are some."""
    command = [needs("node"), *NODE_OPTIONS, "--test", "--test-reporter=tap", path]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert result.returncode == 0, result.stdout
    assert int(re.search(r"^# pass (\d+)", result.stdout, re.MULTILINE)[1]) > 3


def test_it_can_be_imported_as_a_package(needs, tmp_path):
    """Where a program has the folder among its modules, the package's name is enough."""
    folder = ROOT / "aggregator/static"
    package = json.loads((folder / "package.json").read_text())
    modules = tmp_path / "node_modules"
    modules.mkdir()
    (modules / package["name"]).symlink_to(folder)
    script = tmp_path / "script.mjs"
    names = "Book, Client, Refused, Subscription, digits"
    script.write_text(f'import {{ {names} }} from "{package["name"]}"; console.log(typeof Client);')
    result = subprocess.run(
        [needs("node"), script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (result.stdout, result.stderr) == ("function\n", "")


def test_its_version_is_that_of_the_daemon():
    """Both come from one release."""
    package = json.loads((ROOT / "aggregator/static/package.json").read_text())
    [version] = re.findall(r'__version__ = "(.*)"', (ROOT / "aggregator/__init__.py").read_text())
    assert package["version"] == version


def test_it_stands_alone():
    """It imports nothing, and does nothing that a strict Content-Security-Policy forbids."""
    text = (ROOT / "aggregator/static/client.js").read_text("utf-8")
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL)
    assert not re.search(r"\bimport\s*[({*\w]|\brequire\(|\beval\(|\bnew Function\b", code)
    assert max(map(len, text.splitlines())) <= 100
