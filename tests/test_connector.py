"""The plugin API: options and their limits, and how a runner calls a connector."""

import dataclasses

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from aggregator import api
from aggregator.connector import (
    UNREADABLE,
    Budget,
    Fetch,
    PollConnector,
    Request,
    Send,
    StreamConnector,
    Unhandled,
    excerpt,
    slices,
    translate,
    unreadable,
)
from aggregator.errors import ConnectorError, ExchangeError, PayloadError
from aggregator.options import Instruments, Options, PollOptions, StreamOptions


class Poll(PollConnector):
    exchange = "test"

    def requests(self):
        return [Request("/x")]

    def on_response(self, request, body):
        for n in msgspec.json.decode(body, type=list[int]):
            yield Unhandled(str(n))


class Stream(StreamConnector):
    exchange = "test"

    def on_open(self):
        return [Send("hello")]

    def on_frame(self, frame):
        return [Unhandled(frame.decode())]


class Listed(BaseModel):
    instruments: Instruments


class All(Options):
    instruments: Instruments | str


def failing(error):
    """Return a call whose outputs end with an error after the first."""

    def outputs():
        yield Unhandled("first")
        raise error

    return outputs


@pytest.mark.parametrize(
    "text", ["BTC/USDT", "1INCH/BTC", "BTC/USD-SWAP", "币/USDT", "BTC-USD/X.Y", "$WIF/USDT"]
)
def test_an_instrument_is_base_slash_quote(text):
    """Any printable names in upper case make an instrument."""
    assert Listed(instruments=[text]).instruments == [text]


@pytest.mark.parametrize(
    "text",
    [
        *("", "/", "BTC", "BTC/", "/USDT", "BTC/USD/T", "btc/usdt", "BTC/usdt", "BTC-USDT"),
        *("B C/USDT", "B,C/USDT", "B:C/USDT", "*/USDT", 'B"C/USDT', "B\\C/USDT"),
        *("BTC/USDT\n", "BTC\t/USDT", "BTC\u200b/USDT", "BTC/USDT\x00"),
    ],
)
def test_another_text_is_no_instrument(text):
    """What could not stand in the name of a channel is refused, with the form that is wanted."""
    with pytest.raises(ValidationError, match="BASE/QUOTE"):
        Listed(instruments=[text])


def test_instruments_are_some_and_distinct():
    """A feed has at least one instrument, and none twice."""
    with pytest.raises(ValidationError):
        Listed(instruments=[])
    with pytest.raises(ValidationError, match="named twice"):
        Listed(instruments=["BTC/USDT", "ETH/USDT", "BTC/USDT"])


@pytest.mark.parametrize("value", [0, -1, 86_401, float("inf"), float("nan"), "soon", None])
def test_durations_are_positive_and_at_most_a_day(value):
    """A duration that cannot be meant is refused."""
    with pytest.raises(ValidationError):
        Options(stale_after_s=value)


def test_an_unknown_option_is_refused():
    """A misspelt key is an error, and options never change."""
    with pytest.raises(ValidationError, match="stale_afer_s"):
        Options(stale_afer_s=5)
    with pytest.raises(ValidationError, match="frozen"):
        Options().stale_after_s = 5.0


def test_every_option_is_described():
    """The docstring of each option is its line in the documentation of the configuration."""
    for model in (Options, PollOptions, StreamOptions):
        assert all(field.description for field in model.model_fields.values())


def test_the_instruments_of_a_feed_are_those_listed():
    """Without a list, the venue will tell."""
    listed = StreamOptions(instruments=["BTC/USDT"], urls=["ws://x"])
    assert Stream.instruments_of(listed) == {"BTC/USDT"}
    assert Poll.instruments_of(PollOptions(base_url="http://x")) is None
    assert Poll.instruments_of(All(instruments="all")) is None


def test_connectors_keep_their_options():
    """A connector is made of its options alone."""
    options = PollOptions(base_url="http://x")
    assert Poll(options).options is options
    stream = StreamOptions(instruments=["BTC/USDT"], urls=["ws://x"])
    assert Stream(stream).options is stream
    assert (Stream.ping, Stream.pong) == (None, None)
    assert Poll.budget == Budget(per_minute=0, per_month=0, used_header="")


@pytest.mark.parametrize("base", [PollConnector, StreamConnector])
def test_a_connector_must_say_what_to_ask_and_what_answers_mean(base):
    """The base classes are no connectors."""
    with pytest.raises(TypeError):
        base(Options())


def test_actions_and_notices_never_change():
    """What a connector hands out can be kept."""
    for value in (Request("/x"), Send("x"), Fetch(Request("/x")), Unhandled("x")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, dataclasses.fields(value)[0].name, "y")


def test_a_refusal_is_an_error_of_the_venue():
    """Unless the connector knows better, it carries the status and the beginning of the body."""
    connector = Poll(PollOptions(base_url="http://x"))
    with pytest.raises(ExchangeError, match="HTTP 404: no such page"):
        translate(lambda: connector.on_refusal(Request("/x"), 404, b" no such\npage "))


def test_translating_gives_all_outputs():
    """A connector may return a list or yield."""
    connector = Poll(PollOptions(base_url="http://x"))
    assert translate(lambda: connector.on_response(Request("/x"), b"[1,2]")) == [
        Unhandled("1"),
        Unhandled("2"),
    ]
    stream = Stream(StreamOptions(instruments=["BTC/USDT"], urls=["ws://x"]))
    assert translate(lambda: stream.on_frame(b"x")) == [Unhandled("x")]


@pytest.mark.parametrize(
    "error",
    [
        msgspec.DecodeError("x"),
        msgspec.ValidationError("x"),
        KeyError("x"),
        IndexError("x"),
        ValueError("x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"),
        OverflowError("x"),
        ZeroDivisionError("x"),
        RecursionError("x"),
    ],
)
def test_an_unreadable_payload_is_a_payload_error(error):
    """Whatever decoding raises is one error with a name, and the first cause stays visible."""
    with pytest.raises(PayloadError, match=type(error).__name__) as caught:
        translate(failing(error))
    assert caught.value.__cause__ is error
    with pytest.raises(PayloadError) as caught:
        list(slices(failing(error)(), 5))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ExchangeError("x"), PayloadError("x"), TypeError("x")])
def test_other_errors_pass(error):
    """An error of the venue stays one, and a mistake in a connector is not hidden."""
    with pytest.raises(type(error)) as caught:
        translate(failing(error))
    assert caught.value is error
    assert not isinstance(error, UNREADABLE)


def test_the_text_of_an_unreadable_payload_is_short():
    """An error does not carry a payload into the log."""
    assert len(str(unreadable(ValueError("x" * 5000)))) <= 220
    assert isinstance(unreadable(ValueError()), ConnectorError)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "empty body"),
        (b" \r\n\t ", "empty body"),
        (b"<html>\r\n<b>503</b>", "<html>  <b>503</b>"),
        (b"a\x00b\x1b[31m", "a b [31m"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("5 €".encode(), "5 €"),
        ("a\u202eb\u2028c".encode(), "a b c"),
    ],
)
def test_an_excerpt_is_one_printable_line(body, text):
    """A body in an error message cannot break the log."""
    assert excerpt(body) == text


@given(st.binary(max_size=1000))
def test_an_excerpt_of_anything_is_short_and_printable(body):
    """Whatever a venue sends, the excerpt of it is at most 160 characters, and not empty."""
    assert 1 <= len(excerpt(body)) <= 160
    assert excerpt(body).isprintable()


@given(st.lists(st.integers()), st.integers(1, 7))
def test_slices_are_all_outputs_in_order(numbers, size):
    """No output is lost or doubled, and no slice is longer than asked for, or empty."""
    outputs = [Unhandled(str(n)) for n in numbers]
    parts = list(slices(iter(outputs), size))
    assert [output for part in parts for output in part] == outputs
    assert all(1 <= len(part) <= size for part in parts)
    assert all(len(part) == size for part in parts[:-1])


def test_a_slice_is_made_when_it_is_asked_for():
    """The rest of a long answer is not translated before its turn."""
    done = []

    def outputs():
        for n in range(6):
            done.append(n)
            yield Unhandled(str(n))

    parts = slices(outputs(), 2)
    assert done == []
    assert len(next(parts)) == 2
    assert done == [0, 1]


def test_the_plugin_api_has_all_that_a_connector_needs():
    """`aggregator.api` exports what it says, and each of the outputs."""
    assert len(set(api.__all__)) == len(api.__all__)
    assert all(hasattr(api, name) for name in api.__all__)
    outputs = {t.__name__ for t in (Request, Send, Fetch, Unhandled)}
    assert outputs <= set(api.__all__)
