"""What is kept of a channel for those who come back."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.history import History


class Message(NamedTuple):
    seq: int
    us: int
    frame: bytes = bytes(200)


ENDLESS = 10**12


def filled(count: int, limit: int = 5) -> History[Message]:
    history = History(limit)
    for seq in range(1, count + 1):
        history.append(Message(seq, 1000 * seq))
    return history


@pytest.mark.parametrize(
    ("count", "seq", "expected"),
    [
        (0, 0, None),
        (3, 0, [1, 2, 3]),
        (3, 1, [2, 3]),
        (3, 3, []),
        (3, 4, None),
        (7, 2, [3, 4, 5, 6, 7]),
        (7, 1, None),
        (7, 6, [7]),
    ],
)
def test_what_is_behind_a_number(count, seq, expected):
    """All of it, or nothing where one of them is not kept or was never sent."""
    history = filled(count)
    assert history.reaches(seq) == (expected is not None)
    if expected is not None:
        assert [message.seq for message in history.after(seq, 10)] == expected
        assert [message.seq for message in history.after(seq, 2)] == expected[:2]


@given(st.integers(0, 30), st.integers(0, 10), st.integers(-1, 31), st.integers(0, 31_000))
def test_never_a_hole(count, limit, seq, before_us):
    """However much is forgotten: what is returned is whole, or nothing is."""
    history = filled(count, limit)
    history.forget(before_us, ENDLESS)
    kept = [message.seq for message in history]
    assert kept == [n for n in range(max(1, count - limit + 1), count + 1) if 1000 * n >= before_us]
    found = [message.seq for message in history.after(seq, 100)]
    if history.reaches(seq):
        assert found == list(range(seq + 1, count + 1))
    else:
        assert seq > count or not set(range(seq + 1, count + 1)) <= set(kept) or not kept
        assert found == [n for n in kept if n > seq]
    assert history.first_seq == (kept[0] if kept else None)


def test_nothing_is_kept():
    """With a limit of 0."""
    history = filled(3, limit=0)
    assert (len(history), history.reaches(2), history.first_seq) == (0, False, None)
    assert history.after(2, 10) == []


@pytest.mark.parametrize(
    ("size", "max_bytes", "kept"),
    [(200, ENDLESS, 1000), (200, 100_000, 500), (200, 199, 0), (200, 0, 0), (3000, 300_000, 100)],
)
def test_forgotten_by_size(size, max_bytes, kept):
    """The oldest, so that the others are within the bound."""
    history = History(1000)
    for seq in range(1, 1001):
        history.append(Message(seq, seq, bytes(size)))
    history.forget(0, max_bytes)
    assert len(history) == kept
    assert history.reaches(1000 - kept) or not kept


def test_sizes_differ():
    """They are estimated, and well enough."""
    history = History(10_000)
    for seq in range(1, 10_001):
        history.append(Message(seq, seq, bytes(200 + 37 * seq % 5000)))
    history.forget(0, 1_000_000)
    assert 800_000 < sum(len(message.frame) for message in history) < 1_200_000


def test_clear():
    """What is forgotten is forgotten at once."""
    history = filled(3)
    history.clear()
    assert not history.reaches(2)
