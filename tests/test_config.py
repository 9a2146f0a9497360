"""The configuration: what holds, what is refused and in which words, what stays secret."""

import json
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from aggregator import config, configdoc, registry, sources
from aggregator.connector import Budget, PollConnector
from aggregator.errors import ConfigError
from aggregator.options import PollOptions

SECRET = "hunter2-0x5ec7e7-0x5ec7e7"
ONE_FEED = '[feeds.btc]\nconnector = "okx.ticker"\ninstruments = ["BTC/USDT"]\n'


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No file applies but the one that a test names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "PLACES", (tmp_path / "a.toml", tmp_path / "b.toml"))


@pytest.fixture
def load(tmp_path):
    """Return a function that writes a file and loads it."""

    def load(text="", environ=None, overrides=None):
        path = tmp_path / "given.toml"
        path.write_text(text, "utf-8")
        return config.load(path, overrides, environ or {})

    return load


@pytest.fixture
def refused(load):
    """Return a function that gives the lines that refuse a configuration."""

    def refused(*args, **kwargs):
        with pytest.raises(ConfigError) as caught:
            load(*args, **kwargs)
        return str(caught.value).splitlines()

    return refused


def feed(loaded, name):
    return next(f for f in loaded.feeds if f.name == name)


def credentials_directory(tmp_path, **files):
    folder = tmp_path / "credentials"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


# What holds.


def test_the_defaults_are_the_eight_standard_feeds():
    """With no file and no variable the daemon listens on loopback and has the eight channels."""
    loaded = config.load(environ={})
    assert (loaded.server.host, loaded.server.port) == ("127.0.0.1", 8000)
    assert [f.name for f in loaded.feeds] == list(config.STANDARD_FEEDS)
    assert not any(f.problem for f in loaded.feeds)
    assert loaded.source == "built-in defaults"
    assert loaded.warnings == ()


def test_flags_before_variables_before_credentials_before_file_before_defaults(load, tmp_path):
    """Each way of saying a thing is outdone by the next stronger one, and by that alone."""
    directory = credentials_directory(tmp_path, ops_token="by credential")
    file = (
        "[server]\n"
        + "".join(f'{key} = "by file"\n' for key in ("host", "ops_token"))
        + "port = 1\nslow_after_s = 1\nheartbeat_s = 1\n"
    )
    environ = {"AGGREGATOR_SERVER__PORT": "2", "AGGREGATOR_SERVER__SLOW_AFTER_S": "2", **directory}
    loaded = load(file, environ, {"server": {"port": 3}})
    server = loaded.server
    assert (server.port, server.slow_after_s, server.heartbeat_s) == (3, 2.0, 1.0)
    assert server.host == "by file"
    assert server.ops_token.get_secret_value() == "by credential"
    assert server.pong_timeout_s == 10.0
    stronger = load(file, environ | {"AGGREGATOR_SERVER__OPS_TOKEN": "by variable"})
    assert stronger.server.ops_token.get_secret_value() == "by variable"
    flagged = load(file, environ, {"server": {"ops_token": "by flag"}})
    assert flagged.server.ops_token.get_secret_value() == "by flag"


def test_only_the_given_environment_counts(load, monkeypatch):
    """Where the caller names an environment, the process's own is not looked at."""
    monkeypatch.setenv("AGGREGATOR_SERVER__PORT", "4444")
    assert load().server.port == 8000
    assert config.load().server.port == 4444


def test_the_first_file_that_exists_is_taken(tmp_path):
    """Without a path the places are looked at in order."""
    (tmp_path / "b.toml").write_text("[server]\nport = 2\n")
    assert config.load(environ={}).server.port == 2
    (tmp_path / "a.toml").write_text("[server]\nport = 1\n")
    loaded = config.load(environ={})
    assert (loaded.server.port, loaded.source) == (1, str(tmp_path / "a.toml"))


def test_a_place_that_may_not_be_looked_at_is_a_fault(monkeypatch):
    """A directory that may not be entered is said by name; it is no crash."""

    class Forbidden(type(Path())):
        def is_file(self):
            raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(sources, "PLACES", (Forbidden("/etc/aggregator/aggregator.toml"),))
    with pytest.raises(ConfigError, match=r"^/etc/aggregator/aggregator.toml: can't be read: Perm"):
        config.load(environ={})


def test_a_file_without_feeds_has_the_standard_ones_and_with_feeds_only_those(load):
    """A `[feeds]` table says all feeds there are."""
    assert len(load("[server]\nport = 1\n").feeds) == 8
    assert [f.name for f in load(ONE_FEED).feeds] == ["btc"]
    assert load("[feeds]\n").feeds == ()


def test_one_option_of_one_feed_can_be_overridden(load):
    """The rest of the file's section, and the other feeds, stay."""
    text = ONE_FEED + "ping_after_s = 7\n" + ONE_FEED.replace("btc", "other")
    loaded = load(text, {"AGGREGATOR_FEEDS__BTC__STALE_AFTER_S": "5"})
    options = feed(loaded, "btc").options
    assert (options.stale_after_s, options.ping_after_s) == (5.0, 7.0)
    assert options.instruments == ["BTC/USDT"]
    assert feed(loaded, "other").options.stale_after_s == 30.0


def test_variables_take_lists_and_tables_as_json(load):
    """And a feed may come from variables alone."""
    environ = {
        "AGGREGATOR_FEEDS__NEW__CONNECTOR": "okx.ticker",
        "AGGREGATOR_FEEDS__NEW__INSTRUMENTS": '["SOL/USDT", "ETH/USDT"]',
        "AGGREGATOR_SERVER": '{"port": 1, "heartbeat_s": 3}',
        "AGGREGATOR_SERVER__PORT": "2",
        "AGGREGATOR_SERVER__ALLOWED_ORIGINS": '["https://dashboard.example"]',
        "aggregator_server__host": "::1",
    }
    loaded = load(ONE_FEED, environ)
    assert [f.name for f in loaded.feeds] == ["btc", "new"]
    assert feed(loaded, "new").options.instruments == ["SOL/USDT", "ETH/USDT"]
    server = loaded.server
    assert (server.port, server.heartbeat_s, server.host) == (2, 3.0, "::1")
    assert server.allowed_origins == ["https://dashboard.example"]


def test_the_standard_feeds_can_be_changed_by_variables(load):
    """Without a file, a variable changes one of the eight and leaves seven."""
    changed = load("", {"AGGREGATOR_FEEDS__ETHPRICE__INSTRUMENTS": '["ETH/USDC"]'})
    assert feed(changed, "ethprice").options.instruments == ["ETH/USDC"]
    assert len(changed.feeds) == 8
    assert feed(load(), "ethprice").options.instruments == ["ETH/USDT"]


def test_a_budget_replaces_what_the_connector_says(load):
    """And only what is given of it; one of no feed's venue is warned about."""
    text = "[budgets.coingecko]\nper_month = 10000\n[budgets.coingeko]\nper_minute = 1\n"
    loaded = load(text, {"AGGREGATOR_BUDGETS__BINANCE__PER_MINUTE": "0"})
    assert loaded.budget(feed(loaded, "coingecko_global")) == Budget(30, 10000, "")
    unchanged = feed(loaded, "bitcoinprice")
    assert loaded.budget(unchanged) == unchanged.cls.budget_for(unchanged.options)
    assert loaded.budget(config.Feed("broken", "x", None, None, "why")) == Budget()
    assert loaded.budgets["binance"].per_minute == 0
    assert loaded.warnings == ("budgets.coingeko is used by no feed",)


def test_a_budget_that_holds_for_no_request_is_warned_about(load):
    """Of a feed that neither polls nor fetches: an exchange of ccxt, whose limits ccxt keeps."""
    feed = '[feeds.a]\nconnector = "ccxt.ticker"\nexchange = "kraken"\ninstruments = ["BTC/USD"]\n'
    loaded = load(f"{feed}[budgets.ccxt]\nper_minute = 1\n")
    assert "budgets.ccxt is used by no feed" in loaded.warnings


# What is refused, and in which words.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nport = 70000", ["server.port = 70000", "less than or equal to 65535"]),
        ('[server]\nport = "x"', ["server.port = 'x'", "valid integer"]),
        ("[server]\nhost = 1", ["server.host = 1", "valid string"]),
        ('[server]\nhost = ""', ["server.host = ''", "at least 1 character"]),
        ("[server]\nslow_after_s = 0", ["server.slow_after_s = 0", "greater than 0"]),
        ("[server]\nslow_after_s = inf", ["server.slow_after_s = inf", "finite"]),
        ("[server]\nslow_after_s = nan", ["server.slow_after_s = nan"]),
        ("[server]\nallowed_origins = [1]", ["server.allowed_origins.0 = 1", "valid string"]),
        ("server = 5", ["server = 5", "dictionary"]),
        ("feeds = []", ["feeds = []", "dictionary"]),
        ("[feeds]\nx = 5", ["feeds.x = 5", "dictionary"]),
        ("[budgets.binance]\nper_minute = -1", ["budgets.binance.per_minute = -1"]),
        ("[[server]]\nport = 1", ["server = (list)", "dictionary"]),
        ('[feeds.btc]\nconnector = "okx.ticker"', ["feeds.btc.instruments", "is missing"]),
        (ONE_FEED + "urls = []", ["feeds.btc.urls = []", "at least 1 item"]),
        (ONE_FEED + "ping_after_s = -1", ["feeds.btc.ping_after_s = -1", "greater than 0"]),
        (
            ONE_FEED.replace("BTC/USDT", "btcusdt"),
            ["feeds.btc.instruments.0 = 'btcusdt'", 'an instrument is written "BASE/QUOTE"'],
        ),
        (
            ONE_FEED.replace('["BTC/USDT"]', '["BTC/USDT", "BTC/USDT"]'),
            ["feeds.btc.instruments", "named twice"],
        ),
        ('[feeds.Btc]\nconnector = "okx.ticker"', ["feeds.Btc", "pattern"]),
        ('[feeds."a:b"]\nconnector = "okx.ticker"', ["feeds.a:b", "pattern"]),
        ('[feeds.""]\nconnector = "okx.ticker"', ["feeds.", "pattern"]),
        ('[feeds."a\\n"]\nconnector = "okx.ticker"', [r"feeds.'a\n'", "pattern"]),
        (f'[feeds.{"a" * 65}]\nconnector = "okx.ticker"', ["feeds.a", "pattern"]),
        ('[feeds.system]\nconnector = "okx.ticker"', ["feeds.system", "own channel"]),
        ('[feeds.heartbeat]\nconnector = "okx.ticker"', ["feeds.heartbeat", "own channel"]),
        ("[feeds.btc]", ["feeds.btc.connector is missing", "expected one of", "okx.ticker"]),
        ('[feeds.x]\nconnector = "okx.tiker"', ["feeds.x.connector = 'okx.tiker'", "okx.ticker"]),
        ("[feeds.x]\nconnector = 5", ["feeds.x.connector = 5", "binance.24hr, binance.depth"]),
    ],
)
def test_a_fault_says_file_key_value_and_what_was_expected(refused, tmp_path, text, words):
    """One line, with all that is needed to mend it."""
    [line] = refused(text)
    assert line.startswith(f"{tmp_path / 'given.toml'}: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        ("port = 1", "port", "server, budgets, tokens, users, jwt, credentials, feeds, accounts"),
        ("[sever]\nport = 1", "sever", "server, budgets"),
        ("[server]\nprot = 1", "server.prot", "host, port, allowed_origins"),
        ("[budgets.okx]\nper_hour = 1", "budgets.okx.per_hour", "per_minute, per_month"),
        (ONE_FEED + "interval_s = 1", "feeds.btc.interval_s", "stale_after_s, max_backoff_s"),
        (ONE_FEED + "[feeds.btc.more]\na = 1", "feeds.btc.more", "instruments"),
    ],
)
def test_an_unknown_key_is_refused_at_every_level(refused, text, key, known):
    """And the line says which keys there are."""
    [line] = refused(text)
    assert f": {key}: unknown key; expected one of " in line
    assert known in line


def test_every_fault_is_said_at_once(refused):
    """Nobody mends a file fault by fault; those of all feeds are listed together."""
    assert len(refused('[server]\nport = "x"\nprot = 1\n')) == 2
    lines = refused(ONE_FEED + 'x = 1\ny = 2\n[feeds.system]\n[feeds.other]\nconnector = "?"\n')
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"AGGREGATOR_SERVER__PORT": "x"}, ["AGGREGATOR_SERVER__PORT: server.port = 'x'"]),
        ({"AGGREGATOR_SERVER__PORT": ""}, ["AGGREGATOR_SERVER__PORT: server.port = ''"]),
        ({"AGGREGATOR_SERVER__PROT": "1"}, ["AGGREGATOR_SERVER__PROT: server.prot: unknown key"]),
        ({"AGGREGATOR_SERVER": "x"}, ["AGGREGATOR_SERVER: server = 'x'"]),
        ({"AGGREGATOR_SERVER": "{"}, ["AGGREGATOR_SERVER: server = '{'"]),
        ({"AGGREGATOR_SERVER": '{"port": "x"}'}, ["AGGREGATOR_SERVER: server.port = 'x'"]),
        (
            {"AGGREGATOR_SERVER": '{"host": "::1"}', "AGGREGATOR_SERVER__PORT": "x"},
            ["AGGREGATOR_SERVER__PORT: server.port = 'x'"],
        ),
        ({"AGGREGATOR_SERVER__PORT__X": "1"}, ["AGGREGATOR_SERVER__PORT__X: server.port"]),
        (
            {"AGGREGATOR_SERVER__PORT": "1", "AGGREGATOR_SERVER__PORT__X": "1"},
            ["AGGREGATOR_SERVER__PORT: server.port"],
        ),
        ({"AGGREGATOR_FEEDS": "[]"}, ["AGGREGATOR_FEEDS: feeds = []"]),
        (
            {"AGGREGATOR_FEEDS__BTC__INSTRUMENTS": '["BTC"]'},
            ["AGGREGATOR_FEEDS__BTC__INSTRUMENTS: feeds.btc.instruments.0 = 'BTC'"],
        ),
        (
            {"AGGREGATOR_FEEDS__NEW__INSTRUMENTS": '["BTC/USDT"]'},
            ["feeds.new.connector is missing"],
        ),
        ({"AGGREGATOR_FEEDS__SYSTEM__X": "1"}, ["AGGREGATOR_FEEDS__SYSTEM__X: feeds.system"]),
        ({"AGGREGATOR_PORT": "1"}, ["AGGREGATOR_PORT: unknown variable", "AGGREGATOR_SERVER__"]),
        ({"AGGREGATOR_SERVER_PORT": "1"}, ["AGGREGATOR_SERVER_PORT: unknown variable"]),
        ({"aggregator_": "1"}, ["aggregator_: unknown variable"]),
    ],
)
def test_a_fault_of_a_variable_names_the_variable(refused, environ, words):
    """Nobody looks for it in the file."""
    [line] = refused(ONE_FEED, environ)
    assert line.startswith("environment: ")
    for word in words:
        assert word in line


def test_a_fault_of_the_file_is_not_put_down_to_a_variable(refused, tmp_path):
    """Another variable of the same table has nothing to do with it."""
    environ = {"AGGREGATOR_SERVER__HOST": "::1", "AGGREGATOR_FEEDS__BTC__STALE_AFTER_S": "5"}
    lines = refused(ONE_FEED + "max_backoff_s = 0", environ)
    lines += refused("[server]\nport = -1", environ | {"AGGREGATOR_FEEDS": '{"btc": {}}'})
    assert [line.startswith(f"{tmp_path / 'given.toml'}: ") for line in lines] == [True, True]


def test_a_fault_of_a_flag_names_the_command_line(refused):
    """Not the file, which may say something else."""
    [line] = refused("[server]\nport = 1", overrides={"server": {"host": ""}})
    assert line.startswith("command line: server.host = ''")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[server", "is no TOML"),
        (b"[server]\nport = 1\nport = 2", "is no TOML"),
        (b'host = "\xff"', "is no TOML"),
        (b"\xff\xfe[\x00", "is no TOML"),
        (b"a = " + b"[" * 100_000, "nested too deeply"),
        (b"a = " + b"[" * 300 + b"]" * 300, "unknown key"),
    ],
)
def test_a_file_that_is_no_toml_is_refused(tmp_path, content, words):
    """With its name, whatever is in it."""
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path}: .*{words}"):
        config.load(path, environ={})


def test_a_byte_order_mark_is_no_fault(tmp_path):
    """Some editors write one."""
    path = tmp_path / "bom.toml"
    path.write_bytes(b"\xef\xbb\xbf[server]\nport = 5\n")
    assert config.load(path, environ={}).server.port == 5


@pytest.mark.parametrize("name", [".", "missing.toml", "given.toml/below"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    """A directory, a missing file, a path through a file."""
    (tmp_path / "given.toml").touch()
    with pytest.raises(ConfigError, match="can't be read: "):
        config.load(tmp_path / name, environ={})


# Secrets.


def revealed(loaded):
    key = feed(loaded, "coingecko_top").options.api_key
    token = loaded.server.ops_token
    return [None if s is None else s.get_secret_value() for s in (key, token)]


@pytest.mark.parametrize("way", ["file", "file section", "variable", "variable section", "file of"])
def test_secrets_arrive_by_every_way_and_show_nowhere(load, tmp_path, way):
    """The connector and the server have them; no text that anybody prints does."""
    text, environ = "", {}
    if way == "file":
        text = f'[credentials]\ncoingecko_api_key = "{SECRET}"\nops_token = "{SECRET}"\n'
    elif way == "file section":
        section = f'[feeds.coingecko_top]\nconnector = "coingecko.top"\napi_key = "{SECRET}"\n'
        text = f'[server]\nops_token = "{SECRET}"\n{section}'
    elif way == "variable":
        environ = {
            "AGGREGATOR_CREDENTIALS__COINGECKO_API_KEY": SECRET,
            "AGGREGATOR_CREDENTIALS__OPS_TOKEN": SECRET,
        }
    elif way == "variable section":
        environ = {
            "AGGREGATOR_FEEDS__COINGECKO_TOP__API_KEY": SECRET,
            "AGGREGATOR_SERVER__OPS_TOKEN": SECRET,
        }
    else:
        files = {"coingecko_api_key": f" {SECRET}\n", "ops_token": f"{SECRET}\n"}
        environ = credentials_directory(tmp_path, **files)
    loaded = load(text, environ)
    assert revealed(loaded) == [SECRET, SECRET]
    assert loaded.warnings == ()
    for shown in (repr(loaded), str(loaded), configdoc.render(loaded), f"{loaded.feeds}"):
        assert SECRET not in shown
    assert configdoc.MASK in configdoc.render(loaded)


WRONG = [
    f'[server]\nops_token = ["{SECRET}"]',
    f'[server]\nops_tokn = "{SECRET}"',
    f'[server.ops_token]\nx = "{SECRET}"',
    f'[credentials]\nx = ["{SECRET}"]',
    f'credentials = "{SECRET}"',
    f'credentials = ["{SECRET}"]',
    f'[[server]]\nops_token = "{SECRET}"',
    f'[[feeds]]\napi_key = "{SECRET}"',
    f'[[feeds.x]]\napi_key = "{SECRET}"',
    f'[feeds.x]\nconnector = "coingecko.top"\napi_key = ["{SECRET}"]',
    f'[feeds.x]\nconnector = "coingecko.top"\napi_kee = "{SECRET}"',
    f'[feeds.X]\nconnector = "coingecko.top"\napi_key = "{SECRET}"',
    f'[feeds.x]\nconnector = "none"\napi_key = "{SECRET}"',
    f'[feeds.system]\nconnector = "coingecko.top"\napi_key = "{SECRET}"',
    f'[server]\nops_token = "{SECRET}"\nport = 0\nport = 1',
    f'[server]\nops_token = "{SECRET}',
]


@pytest.mark.parametrize("text", WRONG)
def test_no_fault_shows_a_secret(load, text):
    """Not in the message, not in the traceback, not in what it was raised from."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(
    "environ",
    [
        {"AGGREGATOR_SERVER__OPS_TOKEN": f'["{SECRET}"]'},
        {"AGGREGATOR_CREDENTIALS": f'["{SECRET}"]'},
        {"AGGREGATOR_CREDENTIALS": SECRET},
        {"AGGREGATOR_CREDENTIALS__A__B": SECRET},
        {"AGGREGATOR_OPS_TOKEN": SECRET},
        {"AGGREGATOR_FEEDS__COINGECKO_TOP__API_KEY": f'["{SECRET}"]'},
    ],
)
def test_no_fault_of_a_variable_shows_a_secret(load, environ):
    """However it is mistyped."""
    with pytest.raises(ConfigError) as caught:
        load("", environ)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("secret", ["12345678", "1e5", "true", "null", '{"a": 1}', '"quoted"'])
def test_a_secret_is_its_text(load, secret):
    """A key made of digits, or one that looks like JSON, is not decoded."""
    environ = {"AGGREGATOR_CREDENTIALS__COINGECKO_API_KEY": secret}
    assert revealed(load("", environ)) == [secret, None]
    if not secret.startswith("{"):
        environ = {"AGGREGATOR_FEEDS__COINGECKO_TOP__API_KEY": secret}
        environ["AGGREGATOR_SERVER__OPS_TOKEN"] = secret
        assert revealed(load("", environ)) == [secret, secret]


def test_an_empty_secret_is_none(load, tmp_path):
    """What systemd puts for a missing file is empty; an empty token would let everybody in."""
    directory = credentials_directory(tmp_path, coingecko_api_key="\n", ops_token=" \n")
    none = [None, None]
    assert revealed(load("", directory)) == none
    assert revealed(load('[credentials]\nops_token = ""\ncoingecko_api_key = ""')) == none
    assert load('[server]\nops_token = ""').server.ops_token is None
    assert load("", {"AGGREGATOR_SERVER__OPS_TOKEN": ""}).server.ops_token is None
    assert load("", {"AGGREGATOR_CREDENTIALS__OPS_TOKEN": ""}).server.ops_token is None
    # An empty file does not take away what the configuration says.
    assert revealed(load(f'[credentials]\nops_token = "{SECRET}"', directory)) == [None, SECRET]


def test_a_credential_goes_before_the_file_and_a_variable_before_both(load, tmp_path):
    """A credential that was changed must not be outdone by an old key in a file."""
    text = '[feeds.coingecko_top]\nconnector = "coingecko.top"\napi_key = "file"\n'
    both = text + '[credentials]\ncoingecko_api_key = "same file"\n'
    assert revealed(load(both))[0] == "file"
    directory = credentials_directory(tmp_path, coingecko_api_key="directory")
    assert revealed(load(both, directory))[0] == "directory"
    variable = directory | {"AGGREGATOR_CREDENTIALS__COINGECKO_API_KEY": "variable"}
    assert revealed(load(both, variable))[0] == "variable"
    own = variable | {"AGGREGATOR_FEEDS__COINGECKO_TOP__API_KEY": "own variable"}
    assert revealed(load(both, own))[0] == "own variable"


def test_a_credential_that_no_feed_uses_is_warned_about(load, tmp_path):
    """It may be misspelt."""
    directory = credentials_directory(tmp_path, coingeko_api_key=SECRET)
    assert load("", directory).warnings == ("credential coingeko_api_key is used by no feed",)


@pytest.mark.parametrize("content", [b"\xff", None])
def test_a_credential_that_cannot_be_read_is_named(load, tmp_path, content):
    """One that is no text, or no file."""
    directory = credentials_directory(tmp_path)
    path = Path(directory["CREDENTIALS_DIRECTORY"], "ops_token")
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"credentials: {path}: can't be read: "):
        load("", directory)
    with pytest.raises(ConfigError, match="credentials: /nowhere: can't be read: No such file"):
        load("", {"CREDENTIALS_DIRECTORY": "/nowhere"})


# Connectors that do not work.


class TouchyOptions(PollOptions):
    """Options with a check of their own."""

    base_url: str = "http://127.0.0.1:1"
    passphrase: SecretStr | None = None
    mode: str = "good"

    def model_post_init(self, context):
        del context
        if self.mode == "crash":
            raise KeyError(self.passphrase.get_secret_value())
        if self.mode == "refuse":
            raise ValueError("mode must be good")


class Touchy(PollConnector):
    exchange = "Touchy"
    options_type = TouchyOptions

    def requests(self):
        return []

    def on_response(self, request, body):
        return []


@pytest.fixture
def touchy(monkeypatch):
    monkeypatch.setattr(registry, "load", lambda name: Touchy)


@pytest.mark.usefixtures("touchy")
def test_a_check_of_a_stranger_that_crashes_is_a_problem_of_its_feed(load):
    """The others run; the secret in the exception is not shown."""
    text = f'[feeds.a]\nconnector = "t"\nmode = "crash"\npassphrase = "{SECRET}"\n'
    loaded = load(text + '[feeds.b]\nconnector = "t"\n')
    broken, good = loaded.feeds
    assert broken.problem == "KeyError while its options were checked"
    assert (broken.cls, broken.options) == (None, None)
    assert good.cls is Touchy


@pytest.mark.usefixtures("touchy")
def test_a_check_of_a_whole_section_shows_no_secret(refused):
    """The value that such a fault is about is the whole section."""
    text = f'[feeds.a]\nconnector = "t"\nmode = "refuse"\npassphrase = "{SECRET}"\n'
    [line] = refused(text)
    assert line.endswith("feeds.a = (table): mode must be good")


@pytest.mark.usefixtures("touchy")
def test_every_secret_option_can_come_as_a_credential(load):
    """Its name is the exchange and the option, in lower case."""
    environ = {"AGGREGATOR_CREDENTIALS__TOUCHY_PASSPHRASE": SECRET}
    [only] = load('[feeds.a]\nconnector = "t"\n', environ).feeds
    assert only.options.passphrase.get_secret_value() == SECRET


def test_a_broken_connector_is_a_feed_with_a_problem(load, monkeypatch, add_distribution):
    """The daemon starts without it, and can say what is wrong."""
    modules = {"crashing_venue": "raise RuntimeError('no such library')"}
    points = {"crashing.ticker": "crashing_venue:Ticker", "gone.ticker": "gone_venue:Ticker"}
    monkeypatch.syspath_prepend(add_distribution("broken-venue", modules, points))
    text = "".join(f'[feeds.{n}]\nconnector = "{n}.ticker"\nx = 1\n' for n in ("crashing", "gone"))
    crashing, gone, fine = load(text + ONE_FEED).feeds
    assert crashing.problem == "RuntimeError: no such library"
    assert gone.problem == "ModuleNotFoundError: No module named 'gone_venue'"
    assert (crashing.cls, crashing.options, fine.problem) == (None, None, "")


# Anything at all.

OPTIONS = {**config.Settings.model_fields, **config.Server.model_fields}
KEYS = st.sampled_from([*OPTIONS, "binance", "btc", "connector", "instruments", "system", "urls"])
KEYS |= st.text(max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
SECTION = st.dictionaries(KEYS, JSON, max_size=4)
FEED = st.builds(
    dict,
    SECTION,
    connector=st.sampled_from(["okx.ticker", "binance.prices", "coingecko.top"]) | JSON,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "server": SECTION | JSON,
            "feeds": st.dictionaries(KEYS, FEED | JSON, max_size=3) | JSON,
            "budgets": st.dictionaries(KEYS, SECTION | JSON, max_size=3) | JSON,
            "credentials": SECTION | JSON,
            "other": JSON,
        },
    ),
    st.dictionaries(
        st.sampled_from(["SERVER", "SERVER__PORT", "FEEDS__BTC", "FEEDS__BTC__URLS", "BUDGETS"])
        | st.text(max_size=6),
        st.text(max_size=8) | JSON.map(json.dumps),
        max_size=3,
    ),
)
def test_any_document_is_a_configuration_or_a_config_error(document, variables):
    """Whatever stands in the file and in the variables, and whatever of it is wrong."""
    environ = {f"AGGREGATOR_{name}": value for name, value in variables.items()}
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "_read", lambda path: dict(document))
            loaded = config.load(Path("any.toml"), environ=environ)
    except ConfigError:
        return
    configdoc.render(loaded)


def test_deep_nesting_is_refused(load):
    """In a variable as in the file."""
    environ = {"AGGREGATOR_SERVER__ALLOWED_ORIGINS": "[" * 100_000}
    with pytest.raises(ConfigError):
        load("", environ)
    depth = sys.getrecursionlimit() // 4
    with pytest.raises(ConfigError):
        load("", {"AGGREGATOR_FEEDS__BTC__X": "[" * depth + "]" * depth})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[server]\nport = true", "server.port = True: a number is expected"),
        ("[budgets.okx]\nper_minute = true", "per_minute = True: a number is expected"),
        (f"[budgets.okx]\nper_month = 1{'0' * 400}", "less than or equal to"),
        ("[server]\nslow_after_s = false", "server.slow_after_s = False: a number is expected"),
        ('[server]\nallowed_origins = ["dashboard.example"]', "server.allowed_origins.0"),
        ('[server]\nallowed_origins = ["https://x.example/path"]', "server.allowed_origins.0"),
        (
            '[feeds.a]\nconnector = "binance.prices"\nbase_url = "http://u:pw@host"',
            "feeds.a.base_url",
        ),
        ('[feeds.a]\nconnector = "binance.prices"\nbase_url = "http://h/?a=b"', "no user, query"),
        ('[feeds.a]\nconnector = "binance.prices"\nbase_url = "ftp://h"', "http://"),
    ],
)
def test_what_looks_right_and_is_not(load, text, expected):
    """A boolean for a number, an origin no browser sends, an address with a secret in it."""
    with pytest.raises(ConfigError) as fault:
        load(text)
    assert expected in str(fault.value)
    assert "pw" not in str(fault.value)


@pytest.mark.parametrize(("token", "warned"), [("a" * 21, True), ("a" * 22, False), ("", False)])
def test_an_operators_token_that_can_be_guessed(load, token, warned):
    """Is taken, and warned of; it is not shown."""
    loaded = load(f'[server]\nops_token = "{token}"')
    assert any("can be guessed" in warning for warning in loaded.warnings) is warned
    assert not token or token not in "".join(loaded.warnings)
