"""Durations, counted in buckets."""

import pytest

from aggregator.histogram import ARRIVAL_S, LAG_S, SENDING_S, Histogram


def test_a_bound_belongs_to_its_bucket():
    """As Prometheus has it: `le` is less than, or equal."""
    histogram = Histogram((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.10001, 1.0, 1.5):
        histogram.observe(seconds)
    assert histogram.counts == [2, 2, 1]
    assert list(histogram.upto()) == [2, 4, 5]
    assert histogram.seconds == pytest.approx(2.70001)
    assert histogram.negative == 0


def test_what_is_below_0_is_counted_apart():
    """It is in the lowest bucket as well, and takes nothing from the sum."""
    histogram = Histogram((0.1, 1.0))
    histogram.observe(1.0)
    histogram.observe(-30.0)
    assert (histogram.counts, histogram.negative, histogram.seconds) == ([1, 1, 0], 1, 1.0)


@pytest.mark.parametrize("bounds", [ARRIVAL_S, SENDING_S, LAG_S])
def test_bounds_are_a_dozen_and_ascend(bounds):
    """More would be more series for each feed; out of order they would count wrongly."""
    assert len(bounds) == 12
    assert list(bounds) == sorted(set(bounds))
