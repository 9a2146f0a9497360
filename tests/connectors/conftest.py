"""
The samples that the contract suite runs on.

`samples/<connector>/<case>.jsonl` has a line `{"options": {...}}` and then, in order, what arrives:
`{"frame": ...}`, or `{"request": {"path", "key"}, "body": ...}`, with a `"status"` if not 200. A
stream that goes on after another has `"seen": {...}` in its first line: by instrument the id of the
last trade, or that and its time.
A frame or body that is a JSON string is that text; any other value is the bytes as they stand.
`<case>.expected` has what comes out; `WRITE_EXPECTED=1` writes it anew, for review.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.connector import (
    Connector,
    PollConnector,
    Request,
    Seen,
    StreamConnector,
    translate,
)
from aggregator.driver import DriverConnector
from aggregator.errors import ConnectorError, ExchangeError
from aggregator.model import Event, PriceUpdate

SAMPLES = Path(__file__).with_name("samples")
FOUND: dict[str, EntryPoint] = {e.name: e for e in entry_points(group="aggregator.connectors")}


class Line(msgspec.Struct):
    """One thing that arrives."""

    frame: msgspec.Raw = msgspec.Raw(b"")
    request: dict[str, str] = {}
    status: int = 200
    body: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def streamed(self) -> bool:
        return len(bytes(self.frame)) > 0

    @property
    def payload(self) -> bytes:
        raw = bytes(self.frame if self.streamed else self.body)
        return msgspec.json.decode(raw, type=str).encode() if raw.startswith(b'"') else raw


@dataclasses.dataclass
class Sample:
    """One file of samples, and the connector that it is for."""

    name: str
    path: Path

    def __post_init__(self) -> None:
        self.type: type[Connector] = FOUND[self.name].load()
        header, *lines = self.path.read_bytes().splitlines()
        given = json.loads(header)
        self.options = self.type.options_type.model_validate(given["options"])
        seen = {k: [v] if isinstance(v, str) else v for k, v in given.get("seen", {}).items()}
        self.seen = {instrument: Seen(*last) for instrument, last in seen.items()}
        self.lines = [msgspec.json.decode(line, type=Line) for line in lines]

    @property
    def expected(self) -> Path:
        return self.path.with_suffix(".expected")

    def connect(self) -> tuple[Any, list[Any]]:
        """Return a new connector, and what it asks for first, as a runner calls it."""
        connector: Any = self.type(self.options)
        if isinstance(connector, PollConnector):
            return connector, list(connector.requests())
        connector.resume(self.seen)
        return connector, list(connector.on_open())

    def feed(self, connector: Any, line: Line, payload: bytes | None = None) -> list[Any]:
        """Give a connector one line, or another payload in its place."""
        payload = line.payload if payload is None else payload
        if line.streamed:
            return translate(lambda: connector.on_frame(payload))
        request = Request(**line.request)
        if line.status != 200:
            if isinstance(connector, StreamConnector):
                return translate(lambda: connector.on_no_response(request, f"HTTP {line.status}"))
            return translate(lambda: connector.on_refusal(request, line.status, payload))
        return translate(lambda: connector.on_response(request, payload))

    def ready(self, number: int) -> Any:
        """Return a connector in the state in which it receives that line."""
        connector, _ = self.connect()
        for line in self.lines[:number]:
            self.outputs(connector, line)
        return connector

    def outputs(self, connector: Any, line: Line, payload: bytes | None = None) -> list[Any]:
        """Return what comes out; an error of a connector counts as that."""
        try:
            return self.feed(connector, line, payload)
        except ConnectorError as e:
            return [e]

    def replay(self) -> list[tuple[Line, list[Any]]]:
        """Return the outputs of each line; after a refusal a stream is a new connection."""
        connector, _ = self.connect()
        result = []
        for line in self.lines:
            result.append((line, self.outputs(connector, line)))
            failed = any(isinstance(output, ExchangeError) for output in result[-1][1])
            if failed and isinstance(connector, StreamConnector):
                connector, _ = self.connect()
        return result

    def events(self) -> list[tuple[Line, Any]]:
        """Return the messages among the outputs, each with the line that it is from."""
        return [(line, o) for line, outputs in self.replay() for o in outputs if is_event(o)]

    def plain(self, outputs: list[Any]) -> list[dict[str, Any]]:
        """Return outputs in a form that compares by value."""
        return [as_plain(output) for output in outputs]

    def text(self) -> str:
        """Return what stands in the file of expected outputs."""
        _, first = self.connect()
        outputs = [(0, first)] + [(n, o) for n, (_, o) in enumerate(self.replay(), 1)]
        rows = [{"line": n} | as_plain(output) for n, part in outputs for output in part]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def is_event(output: object) -> bool:
    return isinstance(output, Event)


def as_plain(output: Any) -> dict[str, Any]:
    """Return an output as JSON values, without the fields that are not set."""
    row: dict[str, Any] = {"type": type(output).__name__}
    if isinstance(output, ConnectorError):
        return row | {"text": str(output)}
    fields: Iterable[Any] = (
        msgspec.structs.asdict(output) if is_event(output) else dataclasses.asdict(output)
    ).items()
    for key, value in fields:
        if key == "data" and isinstance(output, PriceUpdate):
            row[key] = bytes(value).decode()
        elif key == "book":
            # The state that the update leads to; what is sent of it stands beside.
            continue
        elif key == "delay_s" and not value:
            continue
        elif value not in (None, "", {}):
            row[key] = msgspec.to_builtins(sorted(value) if key == "instruments" else value)
    return row


def all_samples() -> list[Sample]:
    return [Sample(n, p) for n in sorted(FOUND) for p in sorted((SAMPLES / n).glob("*.jsonl"))]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with `connector_name` for every connector, one with `sample` for every file."""
    if "connector_name" in metafunc.fixturenames:
        # A driver is no translator: what it must keep is in test_any_exchange.
        pure = (n for n in FOUND if not issubclass(FOUND[n].load(), DriverConnector))
        metafunc.parametrize("connector_name", sorted(pure))
    for name in {"sample", "polled_sample"} & set(metafunc.fixturenames):
        polled = name == "polled_sample"
        samples = [s for s in all_samples() if not polled or issubclass(s.type, PollConnector)]
        metafunc.parametrize(name, samples, ids=[f"{s.name}-{s.path.stem}" for s in samples])


@pytest.fixture
def load():
    """Return a function that gives the class of a registered connector."""
    return lambda name: FOUND[name].load()


@pytest.fixture
def samples_of():
    """Return a function that gives the samples of a connector."""
    return lambda name: [sample for sample in all_samples() if sample.name == name]


@pytest.fixture
def build():
    """Return a function that builds a connector from its name and the options of its section."""

    def build(name: str, **options: object) -> Any:
        connector = FOUND[name].load()
        return connector(connector.options_type.model_validate(options))

    return build
