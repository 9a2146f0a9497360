from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest.backoff import FLOOR_S, Backoff


def longest(low, high):
    return high


def shortest(low, high):
    return low


def test_doubles_up_to_the_cap():
    """The longest possible wait doubles with each attempt, and stays at the cap without end."""
    backoff = Backoff(10, uniform=longest)

    assert [backoff.next() for _ in range(7)] == [1, 2, 4, 8, 10, 10, 10]


def test_full_jitter_down_to_a_floor():
    """Any wait may be short, but never so short that it is a busy loop."""
    backoff = Backoff(10, uniform=shortest)

    assert [backoff.next() for _ in range(3)] == [FLOOR_S] * 3


def test_reset():
    """After real data it begins anew."""
    backoff = Backoff(10, uniform=longest)
    backoff.next()
    backoff.next()
    backoff.reset()

    assert backoff.next() == 1


def test_longest():
    """Where an early attempt is pointless, the wait is near the cap at once, and stays there."""
    assert Backoff(60, uniform=longest).longest() == 60
    assert Backoff(60, uniform=shortest).longest() == 45
    backoff = Backoff(60, uniform=longest)
    backoff.longest()
    assert backoff.next() == 60


@given(st.floats(0.01, 1e5), st.floats(0.01, 1e5), st.integers(1, 200))
def test_always_within_the_cap(cap_s, base_s, attempts):
    """Whatever is configured, no wait is negative or longer than the cap."""
    backoff = Backoff(cap_s, base_s)

    assert all(0 <= backoff.next() <= cap_s for _ in range(attempts))
