"""Sections of accounts: their faults, their credentials, and what is said of them elsewhere."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from aggregator import config, configdoc, private, registry
from aggregator.account import AccountOptions, NativeOptions
from aggregator.errors import ConfigError
from aggregator.hub import Hub
from aggregator.ingest.account_status import AccountState, AccountStatus
from aggregator.ingest.accounts import Accounts
from aggregator.model import BalanceUpdate, Fill, OrderUpdate, PortfolioUpdate
from aggregator.telemetry import account_metrics
from aggregator.telemetry.page import slices

PAGE = Path(__file__).parents[2] / "docs/accounts.md"
KEYS = 'api_key = "k"\napi_secret = "s"\n'
OKX = f'[feeds]\n[accounts.main]\nconnector = "okx.account"\nuser = 7\npassphrase = "p"\n{KEYS}'


@pytest.fixture
def load(tmp_path):
    """Return a function that loads a configuration."""

    def load(text, environ=(), credentials=()):
        path = tmp_path / "given.toml"
        path.write_text(text)
        folder = tmp_path / "credentials"
        folder.mkdir(exist_ok=True)
        for name, secret in dict(credentials).items():
            (folder / name).write_text(secret)
        return config.load(path, environ={"CREDENTIALS_DIRECTORY": str(folder), **dict(environ)})

    return load


def test_a_section(load):
    """It has its connector's options, with the venue's addresses by default."""
    [account] = load(OKX).accounts
    assert (account.name, account.connector, account.options.user) == ("main", "okx.account", 7)
    assert account.options.base_url == "https://openapi.okx.com"
    assert account.trouble == ""


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("user = 7", "", "accounts.main.user: is missing"),
        ("user = 7", "user = 0", "accounts.main.user = 0: input should be greater than"),
        ('api_key = "k"', "", "accounts.main.api_key: is missing"),
        ('api_key = "k"', 'api_key = ""', "accounts.main.api_key = (secret): value should have"),
        ("okx.account", "okx.ticker", "expected one of binance.account, ccxt.account, okx.account"),
        ('connector = "okx.account"', "", "accounts.main.connector is missing"),
        ("user = 7", "user = 7\nuzer = 8", "accounts.main.uzer: unknown key"),
        ("accounts.main", "accounts.Main", "accounts.Main"),
        ("user = 7", 'user = 7\nurls = ["http://x"]', "an address begins with wss:// or ws://"),
    ],
)
def test_faults(load, before, after, fault):
    """Each is one line with its place, and no secret."""
    with pytest.raises(ConfigError) as caught:
        load(OKX.replace(before, after))
    assert fault in str(caught.value)
    assert "given.toml" in str(caught.value)


def test_a_name_whose_credentials_are_taken(load):
    """The key of an exchange's feeds is not the key of an account, nor told to its venue."""
    with pytest.raises(ConfigError) as caught:
        load(OKX.replace("accounts.main", "accounts.coingecko"))
    assert "accounts.coingecko: feeds of the exchange so named take the credential" in str(
        caught.value
    )
    assert "coingecko_api_key; choose another name" in str(caught.value)
    [account] = load(OKX.replace("accounts.main", "accounts.okx")).accounts
    assert account.name == "okx"


def test_a_feed_is_no_account(load):
    """Connectors of accounts are none of feeds."""
    with pytest.raises(ConfigError, match=r"feeds.x.connector = 'okx.account'"):
        load('[feeds.x]\nconnector = "okx.account"')


def test_credentials(load):
    """They begin with the account's name; one that nobody uses is warned about."""
    text = OKX.replace(KEYS, "").replace('passphrase = "p"\n', "")
    text += text.replace("[feeds]\n", "").replace("main", "other")
    names = ("api_key", "api_secret", "passphrase")
    credentials = {
        f"{account}_{n}": f"{account}-{n}" for account in ("main", "other") for n in names
    }
    loaded = load(text, credentials=credentials | {"okx_api_key": "stray"})
    for account in loaded.accounts:
        found = [getattr(account.options, name).get_secret_value() for name in names]
        assert found == [f"{account.name}-{name}" for name in names]
    assert loaded.warnings == ("credential okx_api_key is used by no feed",)
    assert loaded.secrets() >= set(credentials.values())


def test_variables(load):
    """A credential may be one; a key of digits stays what it is."""
    text = OKX.replace('api_key = "k"', "")
    environ = {"AGGREGATOR_CREDENTIALS__MAIN_API_KEY": "00123"}
    [account] = load(text, environ).accounts
    assert account.options.api_key.get_secret_value() == "00123"


def test_a_secret_with_lines(load):
    """The lines of a PEM are secrets as well: a log has one at a time."""
    body = "MC4CAQAwBQYDK2VwBCIEIAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----"
    secrets = load(OKX, credentials={"main_api_secret": pem}).secrets()
    assert {pem, body} <= secrets
    assert "-----BEGIN" not in secrets


def test_print_config(load):
    """It is a file again, without the secrets."""
    text = configdoc.render(load(OKX.replace('"k"', '"planted"').replace('"s"', '"secret-s"')))
    assert "planted" not in text
    assert "secret-s" not in text
    assert tomllib.loads(text)["accounts"]["main"]["user"] == 7
    assert "# Whose account it is" in text


def test_what_is_not_installed(load, monkeypatch):
    """It is warned about; the configuration is good."""
    cls = registry.load_account("ccxt.account")
    monkeypatch.setattr(cls, "library", "no_such_library.pro")
    text = (
        f'[feeds]\n[accounts.x]\nconnector = "ccxt.account"\nuser = 1\nexchange = "kraken"\n{KEYS}'
    )
    [warning] = load(text).warnings
    assert warning.startswith("accounts.x needs no_such_library, which is not installed")


def test_metrics():
    """One series for each state and kind, by the account's name alone."""
    status = AccountStatus("main")
    status.change(AccountState.LIVE, "")
    status.error(RuntimeError())
    status.counters.told["Fill"] = 3
    status.counters.ignore("novel")
    text = b"".join(slices(account_metrics.families({"main": status}))).decode()
    assert 'aggregator_account_state{account="main",state="live"} 1.0' in text
    assert 'aggregator_account_state{account="main",state="refused"} 0.0' in text
    assert 'aggregator_account_events_total{account="main",type="Fill"} 3.0' in text
    assert 'aggregator_account_errors_total{account="main",kind="unexpected"} 1.0' in text
    assert 'aggregator_account_unhandled_total{account="main",name="novel"} 1.0' in text
    labels = set(re.findall(r"(\w+)=", text))
    assert labels == {"account", "state", "type", "kind", "name"}


def test_what_the_venue_may_name_is_bounded():
    """Names that come from outside are counted apart up to a number."""
    status = AccountStatus("main")
    for number in range(100):
        status.counters.ignore(str(number))
    assert len(status.counters.unhandled) == 51


async def test_a_secret_that_can_not_be_used(load):
    """The account is refused from the start, others run."""
    text = OKX.replace("okx.account", "binance.account").replace('passphrase = "p"\n', "")
    loaded = load(text, credentials={"main_api_secret": "-----BEGIN NONSENSE-----"})
    accounts = Accounts(Hub(), loaded)
    await accounts.run()
    assert accounts.statuses["main"].state is AccountState.REFUSED


# The page.


def rows():
    lines = PAGE.read_text().partition("| key | for | default | meaning |")[2].splitlines()
    table = [line for line in lines[2:] if line.startswith("|")]
    for line in table[: lines[2:].index("")]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_every_option():
    """With the default that it has."""
    connectors = {name: registry.load_account(name) for name in registry.names(registry.ACCOUNTS)}
    fields = {k: f for c in connectors.values() for k, f in c.options_type.model_fields.items()}
    shown = {}
    for keys, _, default, _ in rows():
        shown |= dict.fromkeys(re.findall(r"`(\w+)`", keys), default)
    assert set(shown) == {"connector", *fields}
    for key in (*AccountOptions.model_fields, *NativeOptions.model_fields):
        if shown[key].startswith("`"):
            assert json.loads(shown[key].strip("`")) == fields[key].default


def test_the_messages_of_the_page():
    """They have the fields, and the order of them, that messages have."""
    blocks = re.findall(r"```json\n(\{\"type\":\"[a-z]+.*?)```", PAGE.read_text(), re.DOTALL)
    common = {"account": "main", "exchange": "okx"}
    sides = {"order_id": "1", "symbol": "BTC/USDT", "side": "BUY"}
    states = {"type": "LIMIT", "status": "NEW", "quantity": "1", "filled_quantity": "0"}
    balance = {"asset": "BTC", "available": "1", "frozen": "0"}
    worth = {"total_asset": "1", "cash_balance": "1", "positions": []}
    events = [
        OrderUpdate(**common, **sides, **states, updated_us=1),
        Fill(**common, **sides, trade_id="1", price="1", quantity="1", traded_us=1),
        BalanceUpdate(**common, **balance, updated_us=1),
        PortfolioUpdate(**common, **worth, updated_us=1),
    ]
    real = [json.loads(private.encode(event, 1, 1, 1)) for event in events]
    shown = [json.loads(block) for block in blocks if '"data"' in block]
    assert [m["type"] for m in shown] == [m["type"] for m in real]
    for one, other in zip(shown, real, strict=True):
        assert one.keys() == other.keys()
        assert one["data"].keys() == other["data"].keys()
