"""The configuration as text: whole, documented, and the same when it is read again."""

import tomllib
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from aggregator import config, configdoc, sources
from aggregator.config import BudgetLimits, Config, Feed, Server
from aggregator.options import PollOptions

SHIPPED = Path(__file__).parents[1] / "config" / "aggregator.toml"


@pytest.fixture
def defaults(monkeypatch):
    monkeypatch.setattr(sources, "PLACES", ())
    return config.load(environ={})


def test_the_shipped_file_is_what_print_config_prints(defaults):
    """It can't fall behind the schema; `aggregator print-config` writes it anew."""
    assert SHIPPED.read_text("utf-8") == configdoc.render(defaults)


def test_the_shipped_file_changes_nothing(defaults):
    """With it or without it, the daemon does the same."""
    loaded = config.load(SHIPPED, environ={})
    assert (loaded.server, loaded.feeds) == (defaults.server, defaults.feeds)
    assert (loaded.budgets, loaded.credentials, loaded.warnings) == ({}, {}, ())


def test_every_option_is_there_with_its_line_of_documentation(defaults):
    """Nobody has to read the source to know what can be configured."""
    text = configdoc.render(defaults)
    models = {Server, BudgetLimits} | {type(feed.options) for feed in defaults.feeds}
    for model in models:
        for name, option in model.model_fields.items():
            assert option.description, f"{model.__name__}.{name} has no docstring"
            words = option.description.split()
            assert f"{name} = " in text
            assert " ".join(words) in " ".join(text.replace("\n# ", " ").split())


def test_no_line_is_too_long_for_a_terminal(defaults):
    """Comments are wrapped."""
    assert max(map(len, configdoc.render(defaults).splitlines())) <= 100


def test_what_is_commented_out_is_not_set(defaults):
    """And nothing else is commented out."""
    parsed = tomllib.loads(configdoc.render(defaults))
    given = defaults.server.model_dump(mode="json", exclude_none=True)
    assert parsed["server"] == given
    for feed in defaults.feeds:
        options = feed.options.model_dump(mode="json", exclude_none=True)
        assert parsed["feeds"][feed.name] == {"connector": feed.connector, **options}


def test_a_masked_secret_is_no_secret(monkeypatch):
    """Who keeps the printed text as a file must not get a token that everybody knows."""
    monkeypatch.setattr(sources, "PLACES", ())
    environ = {
        "AGGREGATOR_SERVER__OPS_TOKEN": "s3cret",
        "AGGREGATOR_CREDENTIALS__COINGECKO_API_KEY": "s3cret",
    }
    text = configdoc.render(config.load(environ=environ))
    assert f'# ops_token = "{configdoc.MASK}"' in text
    assert f'# coingecko_api_key = "{configdoc.MASK}"' in text
    assert f'# api_key = "{configdoc.MASK}"' in text
    assert "s3cret" not in text
    parsed = tomllib.loads(text)
    assert "ops_token" not in parsed["server"]
    assert parsed["credentials"] == {}


class OddOptions(PollOptions):
    """What a stranger may think of."""

    base_url: str = "http://127.0.0.1"
    table: dict[str, object] = Field(default={})
    path: Path = Path("/somewhere")
    mixed: list[object] = Field(default=[])


def test_odd_values_are_toml_as_well():
    """Tables, paths, quotes, control characters, names with dots: all can be read again."""
    table = {"a b": 1, "c": {"d.e": [True, 1.5]}, "nothing": None}
    text = 'quote " backslash \\ newline \n escape \x1b delete \x7f smile \U0001f600'
    options = OddOptions(table=table, mixed=[{"x": text}, None], base_url=text)
    odd = Feed("odd", "odd.ticker", None, options)
    broken = Feed("broken", "x\ny", None, None, 'SyntaxError: "\n[server]\nport = 1')
    loaded = Config(
        "somewhere",
        Server(allowed_origins=["*"]),
        (odd, broken),
        {"odd.venue": BudgetLimits(per_minute=5)},
        {"odd.key": SecretStr("s3cret")},
    )
    parsed = tomllib.loads(configdoc.render(loaded))
    assert parsed["server"]["allowed_origins"] == ["*"]
    assert parsed["budgets"] == {"odd.venue": {"per_minute": 5}}
    feed = parsed["feeds"]["odd"]
    assert feed["table"] == {"a b": 1, "c": {"d.e": [True, 1.5]}}
    assert (feed["mixed"], feed["path"], feed["base_url"]) == ([{"x": text}], "/somewhere", text)
    assert parsed["feeds"]["broken"] == {"connector": "x\ny"}
