"""Messages as tables, with and without the libraries for that."""

import json
import sys
import types
from decimal import Decimal

import msgspec
import pytest
from client.daemons import price

from aggregator.client import Text, to_dataframe
from aggregator.messages import AnyMessage

TRADE = {"id": "7", "side": "buy", "price": "1.50", "quantity": "2", "cost": "3.00"}


class Frame(dict):
    """Keeps what it is made of."""


@pytest.fixture
def messages():
    """Return a price and a trade."""
    trade = price(2) | {"type": "trade_executed", "data": TRADE}
    del trade["price"]
    decode = msgspec.json.Decoder(AnyMessage).decode
    return [decode(json.dumps(message)) for message in (price(1, bid=42150.4), trade)]


@pytest.fixture
def installed(monkeypatch):
    """Return a function that says which libraries there are."""

    def installed(*names):
        for name in ("pandas", "polars"):
            module = types.SimpleNamespace(DataFrame=Frame, name=name) if name in names else None
            monkeypatch.setitem(sys.modules, name, module)

    return installed


def test_a_row_for_each_message(installed, messages):
    """With a column for each field; what a message lacks is null."""
    installed("pandas")
    frame = to_dataframe(messages)
    assert frame["type"] == ["price_update", "trade_executed"]
    assert frame["price"] == [42150.5, 1.5]
    assert frame["seq"] == [1, 2]
    assert frame["bid"] == [42150.4, None]
    assert frame["quantity"] == [None, 2.0]
    assert frame["timestamp"][0] == messages[0].timestamp
    assert "data" not in frame
    assert "raw" not in frame
    assert {len(column) for column in frame.values()} == {2}


def test_every_digit_if_wanted(installed, messages):
    """As Decimal."""
    installed("polars")
    frame = to_dataframe(messages, exact=True)
    assert frame["price"] == [Decimal("42150.5"), Decimal("1.50")]
    assert str(frame["cost"][1]) == "3.00"


def test_texts_are_messages_too(installed, messages):
    """What is not known makes an empty row."""
    installed("pandas")
    frame = to_dataframe([Text(b"{}", messages[0]), Text(b"?", None)])
    assert frame["seq"] == [1, None]


def test_nothing_makes_an_empty_table(installed):
    """Not an error."""
    installed("pandas")
    assert to_dataframe([]) == {}


def test_the_library_can_be_chosen(installed, messages):
    """Only that one is asked for."""
    installed("polars")
    assert to_dataframe(messages, "polars")
    with pytest.raises(ModuleNotFoundError, match="pandas"):
        to_dataframe(messages, "pandas")


def test_without_any_it_says_what_is_needed(installed, messages):
    """By name."""
    installed()
    with pytest.raises(ModuleNotFoundError, match="pandas or polars"):
        to_dataframe(messages)
