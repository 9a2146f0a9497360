"""The types of messages against docs/protocol.md, and against what is not in it."""

import json
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from client.daemons import price

from aggregator import messages
from aggregator.messages import AnyMessage, OfUser, OrderbookUpdate, PriceUpdate

ROOT = Path(__file__).parents[2]
PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")
ANSWERS = re.compile(r'^(?:< )?(\{"type":"[a-z_.]+".*\})$', re.MULTILINE)
COMMANDS = {"subscribe", "unsubscribe", "ping", "auth"}
TYPES = {kind.__struct_config__.tag: kind for kind in AnyMessage.__args__}
decode = msgspec.json.Decoder(AnyMessage).decode


def documented():
    """Return what the daemon sends, as the page shows it; what `POST` answers is no message."""
    found = ANSWERS.findall(PROTOCOL)
    return [text for text in found if "_response" not in json.loads(text)["type"]]


def type_of(text):
    return re.match(r'\{"type":"([a-z_.]+)"', text)[1]


@pytest.mark.parametrize("text", documented(), ids=type_of)
def test_each_documented_message_has_its_type(text):
    """With every field of it: none is left over, and none is read as something else."""
    if type_of(text) in COMMANDS:
        return
    message = decode(text.encode())
    assert isinstance(message, TYPES[type_of(text)])
    again = json.loads(msgspec.json.encode(message))
    for name, value in json.loads(text).items():
        assert name in again
        if isinstance(value, str | bool | None) and name != "timestamp":
            assert again[name] == value, name


def test_every_type_of_the_page_is_there():
    """And no other, but for those of users: what the page does not know, nobody sends."""
    shown = set(map(type_of, documented())) - COMMANDS
    assert shown <= set(TYPES)
    of_users = {kind.__struct_config__.tag for kind in OfUser.__args__}
    assert set(TYPES) - shown <= of_users | {"auth.success"}


@pytest.mark.parametrize("digits", ["42150.50", "1E-8", "0.00000001", "0", "-3", "9" * 40 + ".10"])
def test_numbers_are_exact(digits):
    """Every digit that the venue sent is in the Decimal, trailing zeros included."""
    text = json.dumps(price(1)).replace("42150.5,", f"{digits},")
    message = decode(text)
    assert isinstance(message, PriceUpdate)
    assert message.price == Decimal(digits)
    assert message.price.as_tuple() == Decimal(digits).as_tuple()


def test_levels_are_exact():
    """Of a book, prices and sizes."""
    [text] = [t for t in documented() if '"action":"snapshot"' in t]
    book = decode(text)
    assert isinstance(book, OrderbookUpdate)
    assert [str(part) for part in msgspec.structs.astuple(book.data.bids[0])] == [
        "66990.1",
        "0.5127",
    ]


def test_the_payload_of_the_venue_is_decoded_on_demand():
    """Its fractions are exact; without it there is none."""
    data = {"last": "42150.50", "volume": 1.10}
    message = decode(json.dumps(price(1, data=data)).replace("1.1}", "1.10}"))
    assert message.data == {"last": "42150.50", "volume": Decimal("1.10")}
    assert str(message.data["volume"]) == "1.10"
    without = price(1)
    del without["data"]
    assert decode(json.dumps(without)).data is None


@pytest.mark.parametrize("field", ["price", "seq", "channel", "instrument", "timestamp", "type"])
def test_a_required_field_is_required(field):
    """Without it there is no message."""
    message = price(1)
    del message[field]
    with pytest.raises(msgspec.ValidationError):
        decode(json.dumps(message))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("price", v) for v in ("x", "", None, True, [])],
        *[("timestamp", v) for v in ("x", "", 5, "2026-11-20", "2026-11-20T07:48:07")],
        *[("seq", v) for v in (-1, 1.5, "1", None)],
        *[("channel", v) for v in ("", None)],
        ("instrument", ""),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(field, value):
    """A price that is no number, a time without a zone, a number below zero."""
    with pytest.raises(msgspec.ValidationError):
        decode(json.dumps(price(1) | {field: value}))


def test_unknown_fields_are_passed_over():
    """There may be more in a later version."""
    assert decode(json.dumps(price(1) | {"colour": {"red": [1]}})).seq == 1


def test_messages_never_change():
    """They can be shared."""
    with pytest.raises(AttributeError):
        decode(json.dumps(price(1))).seq = 2


def test_the_schema_says_what_each_field_is():
    """What is made of the types for other languages has a description everywhere."""
    definitions = msgspec.json.schema(AnyMessage)["$defs"]
    assert {TYPES[tag].__name__ for tag in TYPES} <= set(definitions)
    for name, definition in definitions.items():
        assert definition["description"], name
        for field, schema in definition.get("properties", {}).items():
            assert field == "type" or schema.get("description"), f"{name}.{field}"


@pytest.mark.parametrize("module", ["aggregator.messages", "aggregator.client"])
def test_it_needs_nothing_of_the_daemon(module):
    """In a fresh process: importing it imports no other module of the project."""
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    modules = set(result.stdout.split())
    ours = {m for m in modules if m.partition(".")[0] in {"aggregator", "connectors"}}
    assert module in ours
    strangers = {m for m in ours if not m.startswith(("aggregator.client", "aggregator.messages"))}
    assert strangers == {"aggregator"}
    heavy = {"pandas", "polars", "pydantic", "uvloop", "orjson", "rich", "click", "apscheduler"}
    assert not heavy & modules
    assert messages.__name__ in ours
