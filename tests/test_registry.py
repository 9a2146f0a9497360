"""Connectors are found by entry point; one that is broken says so and harms nobody."""

import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from aggregator import registry
from aggregator.driver import AnyConnector

ROOT = Path(__file__).parents[1]
VENUE = """
from aggregator.api import Options, PollConnector, StreamConnector

class Good(PollConnector):
    exchange = "good"
    def requests(self): return []
    def on_response(self, request, body): return []

class NotFinished(PollConnector):
    exchange = "x"

class NoExchange(Good):
    exchange = ""

class OddExchange(Good):
    exchange = 5

class WrongOptions(Good):
    options_type = Options

class NoOptions(Good):
    options_type = None

class Stranger:
    exchange = "x"

good = Good
"""


@pytest.fixture
def install(monkeypatch, add_distribution):
    """Return a function that makes a distribution visible, and forgets its modules afterwards."""
    before = set(sys.modules)

    def install(*args, **kwargs):
        monkeypatch.syspath_prepend(add_distribution(*args, **kwargs))

    yield install
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_installed_entry_points_are_those_of_pyproject():
    """A new entry point is invisible until the project is installed again."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [distribution] = metadata.distributions(name=project["name"])
    installed = {(e.group, e.name): e.value for e in distribution.entry_points}
    groups = project["entry-points"]
    expected = {(g, n): value for g, entries in groups.items() for n, value in entries.items()}
    expected |= {("console_scripts", n): value for n, value in project["scripts"].items()}
    assert installed == expected


def test_ours_all_work():
    """Each is loaded, and is what its name says."""
    found = registry.everything()
    assert [f.name for f in found] == registry.names()
    for each in found:
        assert each.problem == ""
        assert issubclass(each.cls, AnyConnector)
        assert each.name.startswith(f"{each.cls.exchange}.")
        assert each.distribution.startswith("exchange-aggregator ")


def test_names_are_told_without_importing(install):
    """A broken module is no reason not to list the others."""
    install("noisy-venue", {"noisy_venue": "raise RuntimeError"}, {"noisy.x": "noisy_venue:X"})
    assert "noisy.x" in registry.names()
    assert "noisy_venue" not in sys.modules


def test_an_unknown_name_is_a_lookup_error():
    """It is not installed, which is another thing than broken."""
    with pytest.raises(LookupError):
        registry.load("no.such")


def test_a_stranger_is_found(install):
    """Whoever brings an entry point is as good as ours."""
    install("good-venue", {"good_venue": VENUE}, {"good.ticker": "good_venue:Good"})
    assert registry.load("good.ticker").exchange == "good"
    found = {f.name: f for f in registry.everything()}["good.ticker"]
    assert (found.distribution, found.problem) == ("good-venue 1.2", "")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("bad_venue:NotFinished", "NotFinished does not define on_response, requests"),
        ("bad_venue:NoExchange", "NoExchange.exchange is not set"),
        ("bad_venue:OddExchange", "OddExchange.exchange is not set"),
        ("bad_venue:WrongOptions", "WrongOptions.options_type is no PollOptions"),
        ("bad_venue:NoOptions", "NoOptions.options_type is no PollOptions"),
        ("bad_venue:Stranger", "is neither a PollConnector, StreamConnector nor DriverConnector"),
        ("bad_venue:VENUE", "AttributeError: module 'bad_venue' has no attribute 'VENUE'"),
        ("bad_venue", "is neither a PollConnector, StreamConnector nor DriverConnector"),
        ("no_venue:X", "ModuleNotFoundError: No module named 'no_venue'"),
        ("crashing_venue:X", "RuntimeError: two lines"),
        ("leaving_venue:X", "SystemExit: 3"),
        ("mistyped_venue:X", "SyntaxError: "),
        ("not even a value", ""),
    ],
)
def test_a_broken_connector_says_what_is_wrong(install, value, problem):
    """On one line, and all the others are still there."""
    modules = {
        "bad_venue": VENUE,
        "crashing_venue": "raise RuntimeError('two\\nlines')",
        "leaving_venue": "raise SystemExit(3)",
        "mistyped_venue": "class",
    }
    install("bad-venue", modules, {"bad.ticker": value})
    with pytest.raises(registry.BrokenConnectorError):
        registry.load("bad.ticker")
    found = {f.name: f for f in registry.everything()}
    assert found["bad.ticker"].cls is None
    assert problem in found["bad.ticker"].problem
    assert found["bad.ticker"].problem.isprintable()
    assert found["okx.ticker"].problem == ""


def test_two_connectors_of_one_name_are_broken(install):
    """Which of them runs must not depend on the order on the disk."""
    install("one-venue", {"one": VENUE}, {"same.ticker": "one:Good"}, folder="one")
    install("two-venue", {"two": VENUE}, {"same.ticker": "two:Good"}, folder="two")
    with pytest.raises(registry.BrokenConnectorError, match=r"from one-venue 1\.2 and two-"):
        registry.load("same.ticker")
    assert [f.name for f in registry.everything()].count("same.ticker") == 1
