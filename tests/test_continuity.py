"""The rules of continuity."""

from __future__ import annotations

import pytest

from aggregator.continuity import Break, chained, spanned


def test_a_chain_may_repeat_and_fall():
    """OKX' own example: only whether the number before is the one that was taken counts."""
    last = 10
    for previous, sequence in ((10, 15), (15, 15), (15, 3), (3, 5)):
        assert chained(last, previous, sequence) is None
        last = sequence


@pytest.mark.parametrize(
    ("last", "previous", "sequence"), [(10, 11, 12), (10, 9, 10), (10, -1, 10), (None, 10, 11)]
)
def test_a_broken_chain(last, previous, sequence):
    """What is missing lies between the number that was taken and the one that came."""
    lost = chained(last, previous, sequence)
    assert lost == Break(f"the update follows {previous}, not {last}", last, sequence)
    assert lost.data() == {"cause": lost.cause, "after": last, "before": sequence}


@pytest.mark.parametrize(
    ("first", "final", "expected"),
    [
        (80, 99, False),
        (80, 100, False),
        (101, 105, True),
        (101, 101, True),
        # The first behind the snapshot mostly has it in its middle.
        (90, 105, True),
        (100, 101, True),
        (102, 105, Break("the update begins with 102, not 101", 100, 102)),
    ],
)
def test_spans(first, final, expected):
    """After 100: what ends before is old, what begins at 101 or before is news, else a break."""
    assert spanned(100, first, final) == expected
