"""Rules of docs/architecture.md that a program can check."""

import ast
import functools
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRODUCT = sorted(p for top in ("aggregator", "connectors") for p in (ROOT / top).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TOP_LEVEL = {
    *("pyproject.toml", "constraints.txt", "README.md", "CHANGELOG.md", "LICENSE", "Makefile"),
    "Containerfile",
    *("aggregator", "connectors", "config", "tests", "benchmarks", "systemd", "docs"),
}
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base"}
MAX_FILE, MAX_FUNCTION = 300, 40


@functools.cache
def tree(path):
    return ast.parse(path.read_text("utf-8"))


def name(path):
    return str(path.relative_to(ROOT))


def tracked():
    """Return the files of the project, those that are not yet committed included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / p for p in listed.split("\0") if p and (ROOT / p).is_file()]


def comments(path):
    """Return the comments of a file by line."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    return {t.start[0]: t.string for t in tokens if t.type == tokenize.COMMENT}


def test_the_layers_hold():
    """Every contract of import-linter in pyproject.toml is kept."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    assert re.search(r"[5-9] kept, 0 broken", result.stdout)


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_a_name_says_what_is_in_it(path):
    """No module or package has a name under which anything could be."""
    assert not FORBIDDEN_NAMES & set(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_files_and_functions_are_short(path):
    """
    A file has at most 300 lines, a function at most 40 beside its docstring; or it says why.

    The reason of a file is a comment before its first statement (after the docstring at most),
    that of a function a comment from the line above its `def` to the end of its signature; it
    contains the word "lines".
    """
    notes = {line: text for line, text in comments(path).items() if "lines" in text}
    module = tree(path)
    statements = [s for s in module.body if not isinstance(s, ast.Expr)]
    first = statements[0].lineno if statements else 1
    length = len(path.read_text("utf-8").splitlines())
    assert length <= MAX_FILE or any(line < first for line in notes), f"{length} lines"
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = ast.get_docstring(node) is not None
            docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
            length = node.end_lineno - node.lineno + 1 - docstring
            signature = range(node.lineno - 1, node.body[0].lineno)
            excused = any(line in signature for line in notes)
            assert length <= MAX_FUNCTION or excused, f"{node.name}: {length} lines"


@pytest.mark.parametrize("path", PRODUCT + TESTS, ids=name)
def test_nothing_waits_with_wait_for(path):
    """`asyncio.wait_for` swallows cancellation on Python 3.11."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) != ("asyncio", "wait_for"), node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
            assert "wait_for" not in [alias.name for alias in node.names], node.lineno


@pytest.mark.parametrize("path", PRODUCT, ids=name)
def test_no_state_outside_of_objects(path):
    """Nothing is done at the interpreter's end or when an object happens to be collected."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.name != "__del__", node.lineno
        if isinstance(node, ast.Import):
            assert "atexit" not in [alias.name for alias in node.names], node.lineno
        assert not isinstance(node, ast.Global), node.lineno


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_every_test_says_what_must_hold(path):
    """In its docstring."""
    for node in ast.walk(tree(path)):
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and node.name.startswith("test"):
            assert ast.get_docstring(node), f"{node.name}, line {node.lineno}"


def test_the_daemon_starts_without_what_it_does_not_need():
    """The connector library for any venue is imported only where a feed uses it."""
    code = "import sys, aggregator.app; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    modules = set(result.stdout.split())
    assert "aggregator" in modules
    assert not {"ccxt", "cryptofeed", "rich", "click", "connectors", "pytest"} & modules


def test_version_and_help_import_next_to_nothing():
    """They answer at once."""
    code = "import sys, aggregator.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"aiohttp", "asyncio", "pydantic", "rich", "uvloop"} & set(result.stdout.split())


def test_only_the_prescribed_things_lie_at_the_top():
    """Everything else has its place below."""
    entries = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {e for e in entries if not e.startswith(".")} <= TOP_LEVEL


def test_no_file_names_a_machine_or_a_registry():
    """The project can be cloned to anywhere and installed from any index."""
    # Put together here, so that this file does not name them itself.
    places = "|".join(f"/{top}/" for top in ("work", "root", "home", "Users"))
    registries = "|".join(("pypi" + r"\.org", "python" + "hosted", "index" + "-url", "npm" + "js"))
    forbidden = re.compile(rf"(?<![\w.$}}/-])(?:{places})\w|{registries}")
    for path in tracked():
        if path.suffix in {".png", ".ico", ".woff2"} or path.is_symlink():
            continue
        text = path.read_text("utf-8", "replace")
        found = forbidden.search(text)
        assert not found, f"{name(path)}: {found[0]}"
