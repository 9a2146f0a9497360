"""Holes in the numbers: which of them are losses."""

import pytest

from aggregator.client.clock import now
from aggregator.client.sequence import GRACE_S, Sequence
from aggregator.messages import Gap, Position


@pytest.fixture
def sequence():
    """Return a whole channel that stands at 10."""
    sequence = Sequence("btc", None)
    sequence.attach(Position("e", 10), recovered=None)
    sequence.be_strict(Position("e", 10))
    return sequence


def take(sequence, seq, conflated=0, time_s=0.0):
    if seq != sequence.seq + 1:
        sequence.skipped(seq, time_s)
    sequence.seq = seq
    if conflated:
        sequence.stands_for(conflated, time_s)


def test_what_messages_stand_for_is_no_loss(sequence):
    """Also where the message that says so comes after another one."""
    # 11 and 13 became 15, 12 became 14; 14 comes first.
    take(sequence, 14, conflated=1)
    assert sequence.missing == 2
    take(sequence, 15, conflated=2)
    assert sequence.settled(99.0) == (True, None)


def test_a_loss_is_told_some_time_after_the_last_that_stands_for_others(sequence):
    """Until then something might still come."""
    take(sequence, 14)
    take(sequence, 15, conflated=1, time_s=1.0)
    assert sequence.settled(0.5 + GRACE_S) == (False, None)
    settled, gap = sequence.settled(1.0 + GRACE_S)
    assert settled
    assert (gap.reason, gap.from_seq, gap.to_seq) == ("client", 11, 13)
    assert "2 of these" in gap.data["cause"]
    assert sequence.settled(99.0) == (True, None), "it is told once"


@pytest.mark.parametrize(
    ("told", "missing"), [((11, 13), 0), ((11, 12), 1), ((13, 20), 2), ((1, 5), 3), (None, 3)]
)
def test_what_a_gap_tells_of_is_not_told_again(sequence, told, missing):
    """The rest of a hole is."""
    seqs = told or (None, None)
    gap = {"channel": "btc", "reason": "slow_consumer", "timestamp": now()}
    sequence.told(Gap(**gap, from_seq=seqs[0], to_seq=seqs[1]))
    take(sequence, 14)
    assert sequence.missing == missing


def test_with_the_connection_the_rest_is_lost(sequence):
    """What would stand for it does not come any more."""
    take(sequence, 14)
    gap = sequence.detach()
    assert (gap.from_seq, gap.to_seq) == (11, 13)
    assert sequence.detach() is None
    assert sequence.position == Position("e", 14)


@pytest.mark.parametrize(
    ("seq", "ponged", "whole"), [(11, False, True), (10, True, True), (10, False, False)]
)
def test_a_snapshot_is_whole(seq, ponged, whole):
    """As soon as anything has come that is behind it, a message or an answer; else it is cut."""
    sequence = Sequence("btc", None)
    sequence.attach(Position("e", 10), recovered=None)
    assert not sequence.whole
    sequence.seq = seq
    if ponged:
        sequence.completed()
    sequence.detach()
    assert sequence.whole is whole


def test_a_filter_before_does_not_count(sequence):
    """When the whole channel is subscribed to later, it begins there."""
    other = Sequence("btc", None)
    other.attach(Position("e", 10), recovered=None)
    other.seq = 12
    other.be_strict(Position("e", 20))
    assert other.seq == 20


@pytest.mark.parametrize(
    ("position", "recovered", "gap"),
    [
        (Position("e", 15), True, None),
        (Position("e", 15), False, None),
        (Position("e", 15), None, (11, 15)),
        (Position("e", 10), None, None),
        (Position("f", 3), None, (1, 3)),
        (Position("f", 0), None, (None, None)),
        (Position("f", 3), False, None),
    ],
)
def test_what_an_acknowledgement_means(sequence, position, recovered, gap):
    """The client tells of a loss where the daemon does not."""
    sequence.last["BTC/USDT"] = 9
    sequence.detach()
    found = sequence.attach(position, recovered=recovered)
    assert (None if found is None else (found.from_seq, found.to_seq)) == gap
    assert sequence.position == (Position("e", 10) if recovered else position)
    assert sequence.last == ({"BTC/USDT": 9} if position.epoch == "e" else {})
