"""What holds where a session's subscriptions differ in what they ask for."""

from __future__ import annotations

import pytest

from aggregator.channel import Channel
from aggregator.gateway.subscriptions import ALL, Plan, Terms

CHANNELS = {
    name: Channel(name, exchange, "e", ())
    for name, exchange in [("a", "v"), ("b", "v"), ("system", ""), ("heartbeat", "")]
}
SLOW, FAST, REDUCED = Terms(1.0), Terms(10.0), Terms(raw=False)
BOTH = Terms(1.0, raw=False)


@pytest.mark.parametrize(
    ("terms", "parts"),
    [
        ({"a": SLOW, "b": ALL}, {SLOW: {"a"}, ALL: {"b"}}),
        ({"a": SLOW, "a:X": FAST}, {FAST: {"a", "a:X"}}),
        ({"a": SLOW, "a:X": ALL}, {ALL: {"a", "a:X"}}),
        ({"a:X": BOTH, "a:Y": SLOW}, {SLOW: {"a:X", "a:Y"}}),
        ({"a": REDUCED, "b": BOTH}, {REDUCED: {"a"}, BOTH: {"b"}}),
        ({"a": SLOW, "*:X": FAST, "system": SLOW}, {FAST: {"a", "*:X"}, SLOW: {"system"}}),
        ({"*:X": SLOW}, {SLOW: {"*:X"}}),
        ({"*:X": SLOW, "heartbeat": ALL}, {SLOW: {"*:X"}, ALL: {"heartbeat"}}),
    ],
)
def test_one_rate_for_a_channel(terms, parts):
    """The highest rate holds for all of a channel, and the payload is sent if one wants it."""
    plan = Plan(terms, CHANNELS.get)
    assert plan.parts == parts
    assert plan.part(Terms(3.0)) == frozenset()
    for each, wants in parts.items():
        for want in wants:
            name = want.partition(":")[0]
            assert plan.of(CHANNELS["a" if name == "*" else name]) == each


def test_channel_without_subscription():
    """A message that is still on its way, of a channel that is not wanted any more, is whole."""
    assert Plan({"a": BOTH}, CHANNELS.get).of(CHANNELS["b"]) == ALL
