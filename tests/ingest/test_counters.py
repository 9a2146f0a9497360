from __future__ import annotations

from aggregator.ingest.counters import MAX_NAMES, OTHER, FeedCounters


def test_counts_by_name():
    """Failures and skipped polls are counted by their kind."""
    counters = FeedCounters()
    counters.error("timeout")
    counters.error("timeout")
    counters.skip("budget")

    assert counters.errors == {"timeout": 2}
    assert counters.skipped == {"budget": 1}


def test_names_from_venues_are_bounded():
    """A venue that invents names does not fill the memory."""
    counters = FeedCounters()
    for n in range(1000):
        counters.ignore(f"n{n}")
    counters.ignore("n0")

    assert len(counters.unhandled) == MAX_NAMES + 1
    assert counters.unhandled[OTHER] == 1000 - MAX_NAMES
    assert counters.unhandled["n0"] == 2


def test_what_is_left_out_is_counted_apart():
    """What a connector knows is not among what it does not know, and as bounded."""
    counters = FeedCounters()
    for n in range(1000):
        counters.leave_out(f"n{n}")
    assert counters.unhandled == {}
    assert counters.drift.counts == {}
    assert len(counters.ignored) == MAX_NAMES + 1
    assert counters.backfilled == 0
