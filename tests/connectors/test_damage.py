"""
What every registered connector must keep when payloads are damaged: nothing but an error with a
name, a notice, or outputs of the documented kinds. It applies to every sample of the contract.
"""

import functools
import json
import re
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.connector import Acknowledged, Output, Request, StreamConnector, translate
from aggregator.errors import ConnectorError
from aggregator.model import Event, PriceUpdate

OUTPUTS = (*typing.get_args(Output), ConnectorError)
SCALAR = re.compile(
    rb'(?<=[:,\[])\s*("(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|null|true|false)(?!\s*:)'
)
HTML = b"<!DOCTYPE html><html><head><title>503</title></head><body>Sorry</body></html>"
DEEP = 100_000
WHOLES = {
    "empty": b"",
    "blank": b" \n",
    "null": b"null",
    "text": b'"x"',
    "number": b"1",
    "huge number": b"9" * 5000,
    "list": b"[]",
    "object": b"{}",
    "list of null": b"[null]",
    "list of lists": b"[[[]]]",
    "html": HTML,
    "deep list": b"[" * DEEP,
    "deep list, closed": b"[" * DEEP + b"]" * DEEP,
    "deep object": b'{"data":' * DEEP,
    "not UTF-8": b'{"data":["\xff"],"event":"\xc3"}',
    "zero bytes": b"\0\0\0\0",
}
VALUES = (b"null", b"[]", b"{}", b'""', b'"x"', b"1", b"-1.5e-7", b"1e400", b"9" * 400, b"true")
ODD_VALUES = (
    b'"\\ud800"',
    b'"\xff"',
    b'"' + b"9" * 5000 + b'"',
    b'"1e999999999"',
    b'"\\u0000\\"\\\\"',
    b"[" * DEEP + b"]" * DEEP,
)


def check(outputs):
    """Hold what comes out against the types that may."""
    for output in outputs:
        assert isinstance(output, OUTPUTS)
        if isinstance(output, PriceUpdate):
            json.loads(bytes(output.data).decode("utf-8", "replace"))
    return outputs


def caught(call):
    """Return what a call gives; an error of a connector counts as that."""
    try:
        return call()
    except ConnectorError as e:
        return [e]


def substitutes(payload, values):
    """Return the payload with each of its values in turn replaced by each of those given."""
    for match in SCALAR.finditer(payload):
        for value in values:
            yield payload[: match.start(1)] + value + payload[match.end(1) :]


@pytest.mark.parametrize("whole", WHOLES.values(), ids=WHOLES)
def test_another_payload_is_an_error_or_nothing(sample, whole):
    """A payload of another kind gives an error with a name or a notice, and no message."""
    for number, line in enumerate(sample.lines):
        outputs = check(sample.outputs(sample.ready(number), line, whole))
        # That there is no answer may well mean something; what is in it does not count.
        unanswered = line.status != 200 and issubclass(sample.type, StreamConnector)
        assert unanswered or not any(isinstance(o, Event) for o in outputs)


def test_a_cut_payload_is_an_error_and_leaves_no_trace(sample):
    """Cut anywhere, a payload is an error, and the whole one gives the same as ever after it."""
    for number, line in enumerate(sample.lines):
        payload = line.payload
        expected = sample.outputs(sample.ready(number), line)
        if line.status != 200 or not payload.startswith((b"{", b"[")):
            continue
        for cut in range(0, len(payload) - 1, max(1, len(payload) // 25)):
            connector = sample.ready(number)
            [error] = sample.outputs(connector, line, payload[:cut])
            assert isinstance(error, ConnectorError)
            assert sample.plain(sample.outputs(connector, line)) == sample.plain(expected)


def test_a_byte_order_mark_is_an_error_or_ignored(sample):
    """A mark before the payload never makes another message of it."""
    for number, line in enumerate(sample.lines):
        plain = sample.outputs(sample.ready(number), line)
        marked = check(sample.outputs(sample.ready(number), line, b"\xef\xbb\xbf" + line.payload))
        is_error = any(isinstance(o, ConnectorError) for o in marked)
        assert is_error or sample.plain(marked) == sample.plain(plain)


def test_a_replaced_value_is_survived(sample):
    """Whatever stands in the place of any value, what comes out is of the documented kinds."""
    for number, line in enumerate(sample.lines):
        connector = sample.ready(number)
        for payload in substitutes(line.payload, VALUES):
            check(sample.outputs(connector, line, payload))


def test_an_odd_value_is_survived(sample):
    """So it is with lone surrogates, bad UTF-8, control characters, depth and length."""
    for number, line in enumerate(sample.lines):
        connector = sample.ready(number)
        for payload in list(substitutes(line.payload[:4000], ODD_VALUES))[:120]:
            check(sample.outputs(connector, line, payload))


@pytest.mark.parametrize("status", [204, 301, 400, 401, 404, 408, 410])
def test_a_refusal_is_an_error_or_a_notice(polled_sample, status):
    """An answer with another status than 200 never gives a message, whatever is in it."""
    connector, _ = polled_sample.connect()
    for line in polled_sample.lines:
        request = Request(**line.request)
        for body in (line.payload, HTML, b"", b"{}", b"\xff", b'{"code":-1121}', b"[" * DEEP):
            call = functools.partial(connector.on_refusal, request, status, body)
            for output in check(caught(lambda call=call: translate(call))):
                assert not isinstance(output, Event)
                assert len(str(output)) < 300 or not isinstance(output, Exception)


def test_reasons_are_short_and_printable(sample):
    """What a venue says gets into reasons and names bounded, on one line."""
    values = (b'"' + b"x" * 5000 + b'"', b'"\\u0007\\n\\u202e<b>"')
    for number, line in enumerate(sample.lines):
        for payload in substitutes(line.payload, values):
            for output in sample.outputs(sample.ready(number), line, payload):
                if not isinstance(output, Event | Acknowledged):
                    texts = (getattr(output, "reason", ""), getattr(output, "name", ""))
                    for text in (*texts, str(output) if isinstance(output, Exception) else ""):
                        assert len(text) <= 300
                        assert text.isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(value=JSON, junk=st.binary())
def test_any_payload_is_survived(sample, value, junk):
    """Any JSON and any bytes give outputs of the documented kinds."""
    for number in {0, len(sample.lines) - 1}:
        for payload in (json.dumps(value).encode(), junk):
            check(sample.outputs(sample.ready(number), sample.lines[number], payload))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_mutation_is_survived(sample, data):
    """A sample with values exchanged for any JSON, or bytes for any bytes, is survived."""
    number = data.draw(st.integers(0, len(sample.lines) - 1))
    payload = sample.lines[number].payload
    values = list(SCALAR.finditer(payload))
    if values and data.draw(st.booleans()):
        match = data.draw(st.sampled_from(values))
        new = json.dumps(data.draw(JSON)).encode()
        payload = payload[: match.start(1)] + new + payload[match.end(1) :]
    else:
        at = data.draw(st.integers(0, len(payload)))
        payload = payload[:at] + data.draw(st.binary(max_size=4)) + payload[at + 1 :]
    check(sample.outputs(sample.ready(number), sample.lines[number], payload))
