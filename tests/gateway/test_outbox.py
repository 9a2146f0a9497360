"""The queue of one slow client."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from aggregator import wire
from aggregator.channel import Channel, Message, Slot
from aggregator.gateway.outbox import Outbox
from aggregator.model import PriceUpdate
from aggregator.shape import SHAPES, WHOLE

CHANNEL = Channel("c", "v", "e", None)
SLOTS = [Slot(CHANNEL, name, set()) for name in "ABC"]


def outbox(limit: int = 10_000) -> Outbox:
    return Outbox(limit, lambda _: WHOLE, lambda: "now")


def message(seq: int, slot: Slot | None = None) -> Message:
    return Message(wire.frame(b'{"seq":%d}' % seq), slot and CHANNEL, slot, seq)


def trade(seq: int, channel: Channel = CHANNEL) -> Message:
    """Return a message that has a number and is to be kept in order."""
    return Message(wire.frame(b'{"seq":%d}' % seq), channel, None, seq)


def messages(data: bytes) -> list[dict[str, int]]:
    found = []
    while data:
        size = data[1]
        start = 2
        if size == 126:
            size, start = int.from_bytes(data[2:4]), 4
        found.append(json.loads(data[start : start + size]))
        data = data[start + size :]
    return found


def test_keeps_the_order_of_what_is_not_replaced():
    """Frames without a slot come out as they went in, and count as held bytes."""
    box = outbox()
    assert not box
    assert box.size == 1
    for seq in (1, 2, 3):
        box.offer(message(seq))
    assert len(box) == 3
    assert box.held == 3 * len(message(1).frame)
    assert messages(box.take(10_000)) == [{"seq": 1}, {"seq": 2}, {"seq": 3}]
    assert (box.held, len(box), box.take(1)) == (0, 0, b"")


def test_newest_replaces_and_counts():
    """One place per slot, at the end, saying how many older ones it stands for; held is nothing."""
    box = outbox()
    a, b, _ = SLOTS
    for seq, slot in enumerate((a, b, a, a), 1):
        box.offer(message(seq, slot))
    assert (len(box), box.held, box.folded) == (2, 0, 2)
    assert messages(box.take(10_000)) == [{"seq": 2}, {"seq": 4, "conflated": 2}]


def test_same_frame_again_is_no_loss():
    """A snapshot asked for twice goes to the end, and nothing was folded by it."""
    box = outbox()
    one, two = message(1, SLOTS[0]), message(2, SLOTS[0])
    box.offer(one)
    box.offer(two)
    box.offer(Message(b"ack"))
    box.offer(two)
    assert box.folded == 1
    assert box.take(1) == b"ack"
    assert messages(box.take(1)) == [{"seq": 2, "conflated": 1}]
    box.offer(two)
    again = Message(wire.frame(b'{"seq":2,"age_us":5}'), CHANNEL, SLOTS[0], 2)
    box.offer(again)
    assert box.folded == 1
    assert messages(box.take(1)) == [{"seq": 2, "age_us": 5}]


def test_takes_at_least_the_limit_and_no_more_frames_than_that():
    """A piece ends with the frame that reaches the limit."""
    box = outbox()
    for seq in range(4):
        box.offer(message(seq))
    size = len(message(0).frame)
    assert len(box.take(size)) == size
    assert len(box.take(size + 1)) == 2 * size
    assert len(box.take(1)) == size
    assert not box


def test_forget():
    """What is not wanted any more goes, but for the answers and what is to be kept."""
    box = outbox()
    a, b, _ = SLOTS
    box.offer(message(1, a))
    box.offer(message(2, b))
    box.offer(message(3))
    box.forget(lambda slot: slot is a)
    assert messages(box.take(1000)) == [{"seq": 2}, {"seq": 3}]


def gap(first: int, last: int, channel: str = "c") -> dict[str, object]:
    return {
        "type": "gap",
        "channel": channel,
        "instrument": None,
        "from_seq": first,
        "to_seq": last,
        "reason": "slow_consumer",
        "timestamp": "now",
    }


def test_too_much_becomes_one_gap():
    """Over the bound, all that waits of the channel, and what follows, is one `gap`."""
    size = len(trade(1).frame)
    box = outbox(3 * size)
    box.offer(message(9))
    for seq in (1, 2):
        box.offer(trade(seq))
    assert (box.lost, box.gaps, box.held) == (0, 0, 3 * size)
    for seq in (3, 4, 5):
        box.offer(trade(seq))
    assert (box.lost, box.gaps, box.held, len(box)) == (5, 1, size, 2)
    assert messages(box.take(1)) == [{"seq": 9}]
    assert messages(box.take(1)) == [gap(1, 5)]
    box.offer(trade(6))
    assert messages(box.take(1000)) == [{"seq": 6}]
    assert (box.taken, box.lost, box.gaps) == (2, 5, 1)


def test_gap_of_one_channel_spares_another():
    """Only the channel that went over the bound loses something; prices lose nothing."""
    size = len(trade(1).frame)
    other = Channel("d", "v", "e", None)
    box = outbox(2 * size)
    box.offer(trade(1))
    box.offer(trade(2))
    box.offer(message(7, SLOTS[0]))
    box.offer(trade(8, other))
    assert messages(box.take(1000)) == [{"seq": 1}, {"seq": 2}, {"seq": 7}, gap(8, 8, "d")]


def test_a_message_larger_than_the_bound_is_a_gap():
    """And the next one, which has room, is sent."""
    box = outbox(30)
    box.offer(Message(bytes(40), CHANNEL, None, 1))
    assert messages(box.take(1)) == [gap(1, 1)]
    box.offer(trade(2))
    assert messages(box.take(1)) == [{"seq": 2}]


def test_shape():
    """A message has the shape that the session gets its kind in, also when it was folded."""
    slot = SLOTS[0]
    box = Outbox(1000, lambda _: SHAPES[False, 0], lambda: "now")
    frames = [slot.encode(PriceUpdate("A", "1", b'{"x":"y"}'), seq, 1, 1) for seq in (1, 2)]
    for seq, frame in enumerate(frames, 1):
        box.offer(Message(frame, CHANNEL, slot, seq))
    (folded,) = messages(box.take(1000))
    assert "data" not in folded
    assert (folded["seq"], folded["conflated"]) == (2, 1)
    box.offer(Message(frames[0], CHANNEL, slot, 1))
    (whole,) = messages(box.take(1000))
    assert "data" not in whole


@given(st.lists(st.one_of(st.integers(0, 3), st.just("take")), max_size=60))
def test_nothing_is_lost_or_turned_round(steps):
    """Delivered and folded make up what was offered; a slot's numbers, and the answers', rise."""
    box = outbox()
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
        box.offer(message(seq, slot))
    out += messages(box.take(1_000_000))
    assert len(out) + sum(m.get("conflated", 0) for m in out) == len(offered)
    assert sum(m.get("conflated", 0) for m in out) == box.folded
    assert [m["seq"] for m in out] == sorted(m["seq"] for m in out)
    for slot in SLOTS:
        seqs = [s for s, of in offered.items() if of is slot]
        last = [m["seq"] for m in out if offered[m["seq"]] is slot]
        assert last[-1:] == seqs[-1:]
    assert box.held == 0
