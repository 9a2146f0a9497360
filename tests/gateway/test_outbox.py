"""The queue of one slow client."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from aggregator import wire
from aggregator.channel import Channel, Slot
from aggregator.gateway.outbox import Outbox

CHANNEL = Channel("c", "v", "e", None)
SLOTS = [Slot(CHANNEL, name, set()) for name in "ABC"]


def frame(seq: int) -> bytes:
    return wire.frame(b'{"seq":%d}' % seq)


def messages(data: bytes) -> list[dict[str, int]]:
    found = []
    while data:
        size = data[1]
        assert size < 126
        found.append(json.loads(data[2 : 2 + size]))
        data = data[2 + size :]
    return found


def test_keeps_the_order_of_what_is_not_replaced():
    """Frames without a slot come out as they went in, and count as held bytes."""
    box = Outbox()
    assert not box
    assert box.size == 1
    for seq in (1, 2, 3):
        box.offer(frame(seq), None)
    assert len(box) == 3
    assert box.held == 3 * len(frame(1))
    assert messages(box.take(10_000)) == [{"seq": 1}, {"seq": 2}, {"seq": 3}]
    assert (box.held, len(box), box.take(1)) == (0, 0, b"")


def test_newest_replaces_and_counts():
    """One place per slot, at the end, saying how many older ones it stands for; held is nothing."""
    box = Outbox()
    a, b, _ = SLOTS
    for seq, slot in enumerate((a, b, a, a), 1):
        box.offer(frame(seq), slot)
    assert (len(box), box.held, box.folded) == (2, 0, 2)
    assert messages(box.take(10_000)) == [{"seq": 2}, {"seq": 4, "conflated": 2}]


def test_same_frame_again_is_no_loss():
    """A snapshot asked for twice goes to the end, and nothing was folded by it."""
    box = Outbox()
    one, two = frame(1), frame(2)
    box.offer(one, SLOTS[0])
    box.offer(two, SLOTS[0])
    box.offer(b"ack", None)
    box.offer(two, SLOTS[0])
    assert box.folded == 1
    assert box.take(1) == b"ack"
    assert messages(box.take(1)) == [{"seq": 2, "conflated": 1}]


def test_takes_at_least_the_limit_and_no_more_frames_than_that():
    """A piece ends with the frame that reaches the limit."""
    box = Outbox()
    for seq in range(4):
        box.offer(frame(seq), None)
    size = len(frame(0))
    assert len(box.take(size)) == size
    assert len(box.take(size + 1)) == 2 * size
    assert len(box.take(1)) == size
    assert not box


def test_forget():
    """What is not wanted any more goes, but for the answers and what is to be kept."""
    box = Outbox()
    a, b, _ = SLOTS
    box.offer(frame(1), a)
    box.offer(frame(2), b)
    box.offer(frame(3), None)
    box.forget({b})
    assert messages(box.take(1000)) == [{"seq": 2}, {"seq": 3}]


@given(st.lists(st.one_of(st.integers(0, 3), st.just("take")), max_size=60))
def test_nothing_is_lost_or_turned_round(steps):
    """Delivered and folded make up what was offered; a slot's numbers, and the answers', rise."""
    box = Outbox()
    out: list[dict[str, int]] = []
    offered = {}
    seq = 0
    for step in steps:
        if step == "take":
            out += messages(box.take(30))
            continue
        seq += 1
        slot = SLOTS[step] if step < 3 else None
        offered[seq] = slot
        box.offer(frame(seq), slot)
    out += messages(box.take(1_000_000))
    assert len(out) + sum(m.get("conflated", 0) for m in out) == len(offered)
    assert sum(m.get("conflated", 0) for m in out) == box.folded
    assert [m["seq"] for m in out] == sorted(m["seq"] for m in out)
    for slot in SLOTS:
        seqs = [s for s, of in offered.items() if of is slot]
        last = [m["seq"] for m in out if offered[m["seq"]] is slot]
        assert last[-1:] == seqs[-1:]
    assert box.held == 0
