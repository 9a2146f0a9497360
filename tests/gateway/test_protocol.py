"""Commands in, answers out: as docs/protocol.md has them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aggregator.channel import Channel
from aggregator.gateway import protocol
from aggregator.gateway.protocol import Ping, Refusal, ShortForm, Subscribe, Unsubscribe


def refusal(text: bytes | str, *, short: bool = False) -> dict[str, object]:
    text = text.encode() if isinstance(text, str) else text
    with pytest.raises(Refusal) as caught:
        (protocol.decode_short if short else protocol.decode)(text)
    answer = json.loads(caught.value.payload)
    assert answer["type"] == "error"
    assert answer["code"] == caught.value.code
    assert 0 < len(answer["message"]) < 200
    return answer


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"type":"ping"}', Ping(type="ping")),
        ('{"type":"ping","id":null}', Ping(type="ping")),
        ('{"type":"ping","id":""}', Ping(type="ping", id="")),
        ('{"type":"ping","id":0}', Ping(type="ping", id=0)),
        ('{"id":9007199254740991,"type":"ping"}', Ping(type="ping", id=2**53 - 1)),
        ('{"type":"ping","id":-9007199254740991}', Ping(type="ping", id=-(2**53) + 1)),
        (
            ' {"type":"subscribe","channels":["a","a:X/Y"],"id":"\u20ac"} ',
            Subscribe(type="subscribe", channels=["a", "a:X/Y"], id="\u20ac"),
        ),
        (
            '{"type":"unsubscribe","channels":["*:X/Y"]}',
            Unsubscribe(type="unsubscribe", channels=["*:X/Y"]),
        ),
    ],
)
def test_commands(text, command):
    """What docs/protocol.md allows is understood."""
    assert protocol.decode(text.encode()) == command


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "hello",
        "{",
        '{"type":"ping"',
        '{"type":"ping"}{"type":"ping"}',
        '{"type":"ping",}',
        "{'type':'ping'}",
        b'\xef\xbb\xbf{"type":"ping"}',
        '{"type":"ping","id":"\\ud800"}',
        '{"type":"ping","id":"\\udc00\\ud800"}',
        '{"type":"ping","id":"\\x"}',
        '{"type":"ping","id":01}',
        '{"type":"ping","id":' + "1" * 5000 + "}",
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 60_000 + "]" * 60_000,
    ],
    ids=lambda text: repr(text[:30]),
)
@pytest.mark.parametrize("short", [False, True])
def test_no_json(text, short):
    """`bad_json`, however deep or broken it is."""
    assert refusal(text, short=short)["code"] == "bad_json"


@pytest.mark.parametrize("text", ["null", "1", '"text"', "[]", "true", "[{}]", "NaN", "1e400"])
@pytest.mark.parametrize("short", [False, True])
def test_no_object(text, short):
    """`bad_command`, and it says what a command is."""
    answer = refusal(text, short=short)
    assert answer == {
        "type": "error",
        "code": "bad_command",
        "message": "a command is a JSON object",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "type is missing"),
        ('{"type":null}', "type must be"),
        ('{"type":1}', "type must be"),
        ('{"type":["ping"]}', "type must be"),
        ('{"type":"Ping"}', "type must be"),
        ('{"type":"<script>"}', "type must be"),
        ('{"type":"ping","channels":["a"]}', "channels"),
        ('{"type":"ping","<script>":1}', "unknown field"),
        ('{"type":"subscribe"}', "channels"),
        ('{"type":"subscribe","channels":null}', "channels"),
        ('{"type":"subscribe","channels":"a"}', "channels"),
        ('{"type":"subscribe","channels":{"a":1}}', "channels"),
        ('{"type":"subscribe","channels":[]}', "channels"),
        ('{"type":"subscribe","channels":[""]}', "channels.0"),
        ('{"type":"subscribe","channels":["a",1]}', "channels.1"),
        ('{"type":"subscribe","channels":["a",null]}', "channels.1"),
        ('{"type":"subscribe","channels":[["a"]]}', "channels.0"),
        ('{"type":"unsubscribe","channels":[NaN]}', "channels.0"),
        ('{"type":"subscribe","channels":["%s"]}' % ("x" * 129), "channels.0"),
        ('{"type":"ping","id":NaN}', "id"),
        ('{"type":"ping","id":true}', "id"),
        ('{"type":"ping","id":1.0}', "id"),
        ('{"type":"ping","id":1e3}', "id"),
        ('{"type":"ping","id":[]}', "id"),
        ('{"type":"ping","id":{}}', "id"),
        ('{"type":"ping","id":9007199254740992}', "id"),
        ('{"type":"ping","id":%s}' % ("1" * 400), "id"),
        ('{"type":"ping","id":-%s}' % ("1" * 400), "id"),
        ('{"type":"ping","id":"%s"}' % ("x" * 129), "id"),
    ],
    ids=lambda text: text[:40],
)
def test_no_command(text, message):
    """`bad_command`, with the place of the fault, and nothing of what the client sent."""
    answer = refusal(text)
    assert answer["code"] == "bad_command"
    assert message in answer["message"]
    assert "<script>" not in answer["message"]
    assert "id" not in answer


@pytest.mark.parametrize("id_", ["7", '"x"'])
def test_refusal_echoes_the_id(id_):
    """So that a client knows which command it was; an id that is none is not echoed."""
    assert refusal(f'{{"type":"nonsense","id":{id_}}}')["id"] == json.loads(id_)
    assert refusal(f'{{"type":"ping","more":1,"id":{id_}}}')["id"] == json.loads(id_)
    assert "id" not in refusal('{"type":"nonsense","id":null}')
    assert "id" not in refusal("[]")


def test_faults_are_not_collected():
    """30,000 mistyped channels are one fault: to collect all would hold up every other client."""
    text = b'{"type":"subscribe","channels":[%b0]}' % (b"0," * 30_000)
    with pytest.raises(ValidationError) as caught:
        protocol._COMMAND.validate_json(text)
    assert caught.value.error_count() == 1
    assert refusal(text)["message"].startswith("channels.0")


@pytest.mark.parametrize("action", ["subscribe", "unsubscribe"])
def test_short_form(action):
    """The commands of `/ws/ticker` and their answers."""
    command = protocol.decode_short(b'{"action":"%b","symbol":"BTC/USDT"}' % action.encode())
    assert command == ShortForm(action=action, symbol="BTC/USDT")
    answer = json.loads(protocol.short_answer(action, "BTC/USDT"))
    assert answer == {"status": f"{action}d", "symbol": "BTC/USDT"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "action"),
        ('{"action":"subscribe"}', "symbol"),
        ('{"action":"ping","symbol":"A"}', "action"),
        ('{"action":"subscribe","symbol":""}', "symbol"),
        ('{"action":"subscribe","symbol":7}', "symbol"),
        ('{"action":"subscribe","symbol":"A","x":1}', "unknown field"),
        ('{"type":"subscribe","channels":["a"]}', "action"),
    ],
)
def test_no_short_form(text, message):
    """`bad_command`, with the place of the fault."""
    answer = refusal(text, short=True)
    assert answer["code"] == "bad_command"
    assert message in answer["message"]


@given(st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_any_bytes(text):
    """Noise is refused by name, in both forms."""
    for short in (False, True):
        assert refusal(text, short=short)["code"] in {"bad_json", "bad_command"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["type", "channels", "id", "action", "symbol", "since"]),
        json_values | st.sampled_from(["subscribe", "unsubscribe", "ping"]),
    )
)
def test_any_object(value):
    """An object is a command or is refused by name; an answer is always JSON."""
    text = json.dumps(value).encode()
    for decode in (protocol.decode, protocol.decode_short):
        code = "none"
        try:
            decode(text)
        except Refusal as refused:
            code = json.loads(refused.payload)["code"]
        assert code in {"none", "bad_json", "bad_command"}


def subscribe(**fields: object) -> protocol.Subscribe:
    return protocol.Subscribe.model_validate({"type": "subscribe", "channels": ["a"], **fields})


def test_answers():
    """The shapes of docs/protocol.md; an id only where one was given, 0 and "" included."""
    channel = Channel("a", "v", "k3x9", ())
    channel.seq = 1042
    answer = json.loads(protocol.subscribed(["a", "a:X/Y"], {"a": channel}, subscribe(id=1), {}))
    assert answer == {
        "type": "subscribed",
        "channels": ["a", "a:X/Y"],
        "positions": {"a": {"epoch": "k3x9", "seq": 1042}},
        "id": 1,
    }
    assert "id" not in json.loads(protocol.subscribed([], {}, subscribe(), {}))
    answer = json.loads(protocol.subscribed([], {}, subscribe(max_hz=2.5, raw=False), {"a": True}))
    assert (answer["max_hz"], answer["raw"]) == (2.5, False)
    assert answer["recovered"] == {"a": True}
    assert json.loads(protocol.unsubscribed(["a"], 0)) == {
        "type": "unsubscribed",
        "channels": ["a"],
        "id": 0,
    }
    assert json.loads(protocol.pong("T", "")) == {"type": "pong", "timestamp": "T", "id": ""}
    answer = json.loads(protocol.unknown_channel('a"b', None))
    assert answer.pop("message")
    assert answer == {"type": "error", "code": "unknown_channel", "channel": 'a"b'}
