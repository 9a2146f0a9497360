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
    found = filled(count).after(seq)
    assert expected == (None if found is None else [message.seq for message in found])


@given(st.integers(0, 30), st.integers(0, 10), st.integers(-1, 31), st.integers(0, 31_000))
def test_never_a_hole(count, limit, seq, before_us):
    """However much is forgotten: what is returned is whole, or nothing is."""
    history = filled(count, limit)
    history.forget_before(before_us)
    kept = [message.seq for message in history]
    assert kept == [n for n in range(max(1, count - limit + 1), count + 1) if 1000 * n >= before_us]
    found = history.after(seq)
    if found is None:
        assert seq > count or not set(range(seq + 1, count + 1)) <= set(kept) or not kept
    else:
        assert [message.seq for message in found] == list(range(seq + 1, count + 1))
    assert history.first_seq == (kept[0] if kept else None)


def test_nothing_is_kept():
    """With a limit of 0."""
    history = filled(3, limit=0)
    assert (len(history), history.after(2), history.first_seq) == (0, None, None)


def test_clear():
    """What is forgotten is forgotten at once."""
    history = filled(3)
    history.clear()
    assert history.after(2) is None
