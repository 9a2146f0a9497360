"""The ways in which a message is sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator import wire
from aggregator.channel import Message
from aggregator.model import PriceUpdate
from aggregator.shape import SHAPES, WHOLE

NASTY = ['"', '","data":', '"data":{', '},"channel":"', "\\", '\\","channel":"x', "é", "BTC/USDT"]
TEXT = st.one_of(st.text(max_size=20), st.sampled_from(NASTY))
DATA = st.recursive(
    st.one_of(st.integers(), TEXT),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXT, inner)),
    max_leaves=6,
)


@given(
    TEXT.filter(lambda text: text.isprintable()),
    DATA,
    st.sampled_from([None, "1.5"]),
    st.integers(0, 9),
)
def test_without_data(instrument, data, bid, conflated):
    """All other fields stay as they are, whatever instruments are called and venues send."""
    event = PriceUpdate(instrument, "1.50", json.dumps(data).encode(), None, bid)
    frame = wire.PriceEncoder("chan", "venue", instrument).encode(event, 7, 1000, 2000)
    assert frame is not None
    if conflated:
        frame = wire.with_conflated(frame, conflated)
    whole = json.loads(wire.payload_of(frame))
    reduced = wire.without_data(frame)
    del whole["data"]
    assert json.loads(wire.payload_of(reduced)) == whole
    assert list(json.loads(wire.payload_of(reduced))) == list(whole)
    assert b'"price":1.50,' in reduced


@pytest.mark.parametrize("payload", [b'{"type":"system_status","data":{},"channel":"x"}', b"{}"])
def test_other_messages_keep_their_data(payload):
    """`data` of what is no price update is the message's own content."""
    assert wire.without_data(wire.frame(payload)) == wire.frame(payload)


def test_made_once():
    """However many want a message in one shape, it is made for the first."""
    frame = wire.PriceEncoder("c", "v", "X").encode(PriceUpdate("X", "1", b"{}"), 1, 2, 3)
    assert frame is not None
    message = Message(frame)
    assert message.shaped(WHOLE) is frame
    for shape in SHAPES.values():
        assert message.shaped(shape) is message.shaped(shape)
        assert (shape.raw, shape.bits) in SHAPES
    assert message.shaped(SHAPES[False, 0]) == wire.without_data(frame)
