"""
What every registered connector must keep, whatever the venue.

Nothing is written here for a new one: it is found by its entry point, and what is particular to it
are its samples (see conftest).
"""

import ast
import importlib
import inspect
import json
import os
import pkgutil
import re
import typing

import msgspec
import pytest
from pydantic import ValidationError

from aggregator.connector import (
    Budget,
    Connector,
    Fetch,
    KnownInstruments,
    Output,
    PollConnector,
    Request,
    Send,
    StreamConnector,
    slices,
)
from aggregator.errors import ConnectorError, ExchangeError
from aggregator.model import BookUpdate, Event, Gap, PriceUpdate, TradeExecuted

NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
INSTRUMENT = re.compile(r'[^\s,:*"\\/]+/[A-Z0-9-]+')
OBJECT = re.compile(rb'"(?:[^"\\]|\\.)*"|\{\s*\}|\{')
PURE = {
    *("__future__", "abc", "collections", "collections.abc", "dataclasses", "datetime", "decimal"),
    *("enum", "functools", "itertools", "math", "operator", "re", "string", "types", "typing"),
    *("urllib.parse", "aggregator.api", "msgspec"),
}
NO_ADDRESSES = ("", "venue.example", "/v1", "ftp://venue.example", "{}://", " {}://venue.example")
CLOCKS = {"now", "utcnow", "today", "fromtimestamp"}
OUTPUT = typing.get_args(Output)


@pytest.fixture
def connector_type(connector_name, load):
    return load(connector_name)


def check(outputs):
    """Hold what comes out against the types that may."""
    assert all(isinstance(o, (*OUTPUT, ConnectorError)) for o in outputs)
    return outputs


OF_ACCOUNTS = {"account", "account_shapes", "signing"}


def modules(connector_type):
    """
    Return the modules of a connector: its own, or all of its venue's package.

    But for those of the venue's accounts, which is another kind: it asks by its runner, and waits.
    """
    module = importlib.import_module(connector_type.__module__)
    package = importlib.import_module(module.__package__ or module.__name__)
    if package.__name__ == "connectors" or not hasattr(package, "__path__"):
        return [module]
    names = [m.name for m in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    markets = [n for n in names if n.rpartition(".")[2] not in OF_ACCOUNTS]
    return [importlib.import_module(name) for name in markets]


def extended(payload):
    """Return the payload with one more field in every object."""

    def more(match):
        text = match[0]
        if text.startswith(b'"'):
            return text
        field = b'{"added_later":{"x":[1,null]}'
        return field + (b"," if text == b"{" else b"}")

    return OBJECT.sub(more, payload)


def without_data(outputs):
    return [
        msgspec.structs.replace(o, data=b"") if isinstance(o, PriceUpdate) else o for o in outputs
    ]


def test_has_samples(connector_name, connector_type, samples_of):
    """A registered connector has samples, and among them messages and refusals or notices."""
    kinds = {type(o) for s in samples_of(connector_name) for _, part in s.replay() for o in part}
    assert any(issubclass(kind, Event) for kind in kinds)
    assert any(not issubclass(kind, Event) for kind in kinds)
    assert issubclass(connector_type, PollConnector | StreamConnector)


def test_declares_what_a_runner_needs(connector_type):
    """Venue, options and budget are declared, and every option is described."""
    assert re.fullmatch(r"[a-z0-9_]+", connector_type.exchange)
    assert not inspect.isabstract(connector_type)
    assert connector_type.budget.per_minute >= 0
    for name, field in connector_type.options_type.model_fields.items():
        assert field.description, f"{name} has no docstring"


def test_the_budget_is_a_function_of_the_options(sample):
    """Options may change the numbers, but not whether there is a limit, nor where it is said."""
    budget = sample.type.budget_for(sample.options)
    assert isinstance(budget, Budget)
    assert budget == sample.type.budget_for(sample.options)
    assert bool(budget.per_minute) == bool(sample.type.budget.per_minute)
    assert budget.used_header == sample.type.budget.used_header


def test_addresses_are_checked(connector_name, connector_type, samples_of):
    """Where a venue is, is an address of HTTP or of a WebSocket, with a host."""
    options = samples_of(connector_name)[0].options.model_dump()
    fields = connector_type.options_type.model_fields
    assert "base_url" in fields or "urls" in fields
    for key, schemes in (("base_url", ("http", "https")), ("urls", ("ws", "wss"))):
        if key not in fields:
            continue

        def configure(address, key=key):
            value = address if key == "base_url" else [address]
            return getattr(connector_type.options_type(**options | {key: value}), key)

        for scheme in schemes:
            good = f"{scheme}://127.0.0.1:9000/v1"
            assert configure(good) == (good if key == "base_url" else [good])
        others = {"http", "https", "ws", "wss"}.difference(schemes)
        bad = [f"{scheme}://venue.example" for scheme in others]
        for address in (*bad, *(text.format(schemes[1]) for text in NO_ADDRESSES)):
            with pytest.raises(ValidationError, match="an address begins with"):
                configure(address)


def test_imports_nothing_that_does_io(connector_type):
    """A connector imports pure modules and its venue's own, and says where the venue's page is."""
    found = modules(connector_type)
    pure = PURE | {module.__name__ for module in found}
    for module in found:
        assert "https://" in (module.__doc__ or ""), module.__name__
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Import):
                assert {a.name for a in node.names} <= pure
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = {f"{node.module}.{a.name}" for a in node.names}
                assert node.module in pure or names <= pure, f"{module.__name__} imports {names}"


def test_catches_nothing_and_reads_no_clock(connector_type):
    """A connector has no `try`, no `global`, no `await`, no clock and no output of its own."""
    banned = ast.Try | ast.TryStar | ast.Global | ast.Nonlocal | ast.AsyncFunctionDef | ast.Await
    trees = [ast.parse(inspect.getsource(module)) for module in modules(connector_type)]
    for node in (node for tree in trees for node in ast.walk(tree)):
        assert not isinstance(node, banned), f"line {node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in CLOCKS, f"line {node.lineno}"
        if isinstance(node, ast.Name):
            assert node.id not in {"print", "open", "eval", "exec"}, f"line {node.lineno}"


def test_keeps_no_state_in_its_module(connector_type):
    """Nothing at the level of the module can change."""
    for module in modules(connector_type):
        for name, value in vars(module).items():
            if not name.startswith("__"):
                assert not isinstance(value, list | dict | set | bytearray | Connector), name


def test_asking_is_a_function_of_the_options(sample):
    """Two new connectors ask for the same, twice the same, and in a form a runner can use."""
    connector, first = sample.connect()
    assert first == sample.connect()[1]
    assert all(isinstance(a, Request | Send | Fetch) for a in first)
    first = [a.request if isinstance(a, Fetch) else a for a in first]
    for action in first:
        if isinstance(action, Request):
            assert action.path.startswith("/")
            assert action.weight >= 1
            texts = [*action.params.items(), *action.headers.items()]
            assert all(isinstance(t, str) for pair in texts for t in pair)
        else:
            json.loads(action.frame)
    for kind in (Request, Send):
        keys = [a.key for a in first if a.key and isinstance(a, kind)]
        assert len(keys) == len(set(keys))
    instruments = type(connector).instruments_of(sample.options)
    assert instruments is None or isinstance(instruments, frozenset)


def test_outputs_as_expected(sample):
    """What comes out is what was reviewed and stored."""
    if os.environ.get("WRITE_EXPECTED"):
        sample.expected.write_text(sample.text())
    assert sample.text() == sample.expected.read_text()


def test_translating_is_a_function_of_what_arrived(sample):
    """The same lines give the same outputs again, of the kinds that there are."""
    for (_, one), (_, other) in zip(sample.replay(), sample.replay(), strict=True):
        assert sample.plain(check(one)) == sample.plain(other)


def test_slices_are_the_same_outputs(sample):
    """Taken in slices an answer gives what it gives at once."""
    for number, line in enumerate(sample.lines):
        if not line.streamed and line.status == 200:
            request = Request(**line.request)
            at_once = sample.outputs(sample.ready(number), line)
            sliced = slices(sample.ready(number).on_response(request, line.payload), 2)
            if not any(isinstance(o, ConnectorError) for o in at_once):
                assert sample.plain([o for part in sliced for o in part]) == sample.plain(at_once)


def test_messages_are_what_the_model_says(sample):
    """Instruments, numbers, times and payloads of the messages are of the documented form."""
    for line, event in sample.events():
        assert INSTRUMENT.fullmatch(event.instrument)
        assert event.instrument.isprintable()
        if isinstance(event, Gap):
            assert all(isinstance(value, int | str | None) for value in event.data.values())
            continue
        assert event.exchange_us is None or 10**15 < event.exchange_us < 10**16
        if isinstance(event, TradeExecuted | BookUpdate):
            check_digits(sample, event)
            continue
        msgspec.json.decode(bytes(event.data))
        # A book's price is computed; every other number is the venue's own text.
        computed = event.exchange_us is None and event.bid and event.ask
        for key in ("price", "bid", "ask", "volume_24h", "change_24h_pct")[bool(computed) :]:
            text = getattr(event, key)
            if text and NUMBER.fullmatch(text):
                assert text.encode() in line.payload, f"{key}: {text} is not the venue's"
        assert not computed or NUMBER.fullmatch(event.price)


def check_digits(sample, event):
    """Hold the numbers of a trade or a book against what has arrived."""
    arrived = b"".join(line.payload for line in sample.lines)
    if isinstance(event, TradeExecuted):
        numbers = {event.price, event.quantity}
        assert event.id.encode() in arrived
    else:
        levels = (*event.bids, *event.asks)
        numbers = {level.price for level in levels} | {level.size for level in levels}
        assert event.whole or event.book is not None
    for text in numbers:
        assert NUMBER.fullmatch(text)
        assert text == "0" or text.encode() in arrived, f"{text} is not the venue's"


def test_messages_are_of_instruments_that_are_known(sample):
    """A connector that says which instruments there are sends messages of no others."""
    known = None
    for _, outputs in sample.replay():
        for output in outputs:
            if isinstance(output, KnownInstruments):
                known = output.instruments
            elif isinstance(output, Event) and known is not None:
                assert output.instrument in known


def test_unknown_fields_change_nothing(sample):
    """A field that the venue adds tomorrow, in whatever object, changes nothing but `data`."""
    for number, line in enumerate(sample.lines):
        if not any(isinstance(o, ExchangeError) for o in sample.replay()[number][1]):
            plain = sample.outputs(sample.ready(number), line)
            more = sample.outputs(sample.ready(number), line, extended(line.payload))
            assert sample.plain(without_data(plain)) == sample.plain(without_data(more))
