"""What is learned of how often something comes, and from when on a silence is unusual."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.ingest.rhythm import MIN_INTERVALS, Rhythm


def learned(intervals, floor_s=10.0):
    rhythm = Rhythm(floor_s, 1.0)
    for interval_s in intervals:
        rhythm.add(interval_s)
    return rhythm


def test_too_few_are_nothing():
    """With too few intervals nothing is usual, so nothing is unusual."""
    rhythm = learned([5.0] * (MIN_INTERVALS - 1))
    assert (rhythm.usual_s, rhythm.limit_s, rhythm.known) == (None, math.inf, False)
    rhythm.add(5.0)
    rhythm.add(5.0)
    assert rhythm.known
    assert rhythm.limit_s < math.inf


def test_usual_age():
    """Of a beat half the interval, of arrivals at random their mean, of bursts the pauses."""
    assert learned([20.0] * 500).usual_s == pytest.approx(10, rel=0.01)
    rng = random.Random(1)
    # Only some 64 are remembered.
    means = [learned([rng.expovariate(1 / 600) for _ in range(200)]).usual_s for _ in range(100)]
    assert sum(means) / len(means) == pytest.approx(600, rel=0.1)
    assert learned(([1.0] * 30 + [300.0]) * 20).usual_s > 100


def test_beats_are_intervals_of_one_look():
    """What is counted in one go is learned as when each were added."""
    one, other = learned([1.0] * 3000), Rhythm(10.0, 1.0)
    other.beats = 3000
    assert other.usual_s == pytest.approx(one.usual_s, rel=0.2)
    assert other.beats == 0
    # A run of days does not weigh more than what is remembered: the next hour changes it.
    other.beats = 1_000_000
    assert other.limit_s == 10.0
    for _ in range(60):
        other.add(60.0)
    assert other.limit_s > 200


def test_floor():
    """However often something comes, a silence up to the floor is usual."""
    rhythm = Rhythm(10.0, 1.0)
    rhythm.beats = 1000
    assert rhythm.limit_s == 10.0


def test_few_intervals_make_wide_limits():
    """What is known from ten intervals is less sure than what is known from hundreds."""
    few = learned([60.0] * (MIN_INTERVALS + 1))
    many = learned([60.0] * 1000)
    assert few.limit_s / few.usual_s > 1.5 * many.limit_s / many.usual_s


def test_an_alarm_doubles_the_limit_and_no_more():
    """An unusual silence is learned as the limit it broke, however long it was."""
    rhythm = learned([60.0] * 200)
    limit_s = rhythm.limit_s
    rhythm.add(1_000_000.0)
    assert rhythm.limit_s == pytest.approx(2 * limit_s, rel=0.01)


def test_the_longest_silence_is_forgotten():
    """It halves in a day, so that one bad hour does not make a feed deaf for ever."""
    rhythm = learned([60.0] * 200)
    calm_s = rhythm.limit_s
    rhythm.add(1_000_000.0)
    for _ in range(1440):
        rhythm.add(60.0)
    assert rhythm.limit_s == pytest.approx(calm_s, rel=0.1)


@pytest.mark.parametrize("mean_s", [0.7, 5, 60, 600])
def test_at_random_nothing_is_unusual(mean_s):
    """Of 200,000 intervals at random (Poisson), as looks see them, at most two are unusual."""
    unusual = 0
    for seed in range(20):
        rng = random.Random(seed)
        rhythm = Rhythm(10.0, 1.0)
        now = looked = 0.0
        for _ in range(10_000):
            now += rng.expovariate(1 / mean_s)
            look = float(math.ceil(now))
            if look > looked:
                # Twice as long is stale: that may not be at all.
                assert look - looked <= 2 * rhythm.limit_s, seed
                unusual += look - looked > rhythm.limit_s
                rhythm.add(look - looked)
                looked = look
    assert unusual <= 2


@given(st.lists(st.floats(0.01, 1e6), min_size=1, max_size=50), st.integers(0, 10**7))
def test_any_course(intervals, beats):
    """No course of things makes it fail, or say that less than the floor is unusual."""
    rhythm = Rhythm(10.0, 1.0)
    for interval_s in intervals:
        rhythm.add(interval_s)
        rhythm.beats += beats
        assert rhythm.limit_s >= 10.0
        assert rhythm.usual_s is None or 0 < rhythm.usual_s < math.inf
