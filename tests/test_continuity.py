"""The rules of continuity."""

from __future__ import annotations

import pytest

from aggregator.continuity import Break, Retries, chained, spanned


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


def test_pauses_double_while_it_is_of_no_use():
    """At once, then after pauses that double up to the longest, however often it is asked for."""
    retries, now, waits = Retries(100, 1.0, first_s=1.0, longest_s=20.0), 50.0, []
    for _ in range(8):
        wait_s = retries.again("A", now)
        waits.append(round(wait_s, 6))
        # It is lost again a tenth of a second after it came.
        now += wait_s + 0.1
    assert waits == [0, 0.9, 1.9, 3.9, 7.9, 15.9, 19.9, 19.9]
    # Of another name nothing is known.
    assert retries.again("B", now) == 0


def test_what_held_begins_anew():
    """After twice the last pause it is asked for at once again, and the pauses are short again."""
    retries = Retries(100, 1.0, first_s=1.0, longest_s=300.0)
    assert [retries.again("A", at) for at in (0.0, 0.5, 1.5)] == [0, 0.5, 1.5]
    # The last pause, of 4 s, began at 3 s.
    assert retries.again("A", 10.9) == 0
    assert retries.again("A", 11.0) == pytest.approx(7.9)
    assert retries.again("A", 60.0) == 0
    assert retries.again("A", 60.5) == 0.5


def test_all_together_keep_to_a_share():
    """However many are lost, so many go at once, and the rest evenly behind them."""
    retries = Retries(3, 0.5, first_s=1.0, longest_s=300.0)
    assert [retries.again(name, 10.0) for name in "ABCDE"] == [0, 0, 0, 2, 4]
    assert retries.turn(10.0) == 6
    # What was not used meanwhile is there again, and no more.
    assert [retries.turn(100.0) for _ in range(5)] == [0, 0, 0, 2, 4]
