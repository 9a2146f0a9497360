"""What a channel has, and what a newcomer gets of it."""

from __future__ import annotations

import json

import pytest

from aggregator import wire
from aggregator.channel import SNAPSHOT_US, Channel, Message, Slot
from aggregator.model import Level
from aggregator.shape import SHAPES


def filled(channel: Channel, instrument: str, seq: int, frame: bytes | None = b"f") -> Slot:
    slot = channel.slots[instrument] = Slot(channel, instrument, set())
    slot.last = None if frame is None else Message(frame, channel, slot, seq)
    return slot


@pytest.mark.parametrize(
    ("instruments", "instrument", "there"),
    [
        (["A/B"], "A/B", True),
        (["A/B"], "B/A", False),
        (["A/B"], "", False),
        ([], "A/B", False),
        (None, "A/B", True),
        (None, "", False),
    ],
)
def test_before_the_first_message(instruments, instrument, there):
    """A known list decides; without one every name may be an instrument, but no empty one."""
    assert Channel("c", "v", "e", instruments).has(instrument) is there


@pytest.mark.parametrize("instruments", [None, ["K/N"]])
def test_after_the_first_message(instruments):
    """What has a last value is there; a slot that only somebody's wish made is not."""
    channel = Channel("c", "v", "e", instruments)
    channel.seq = 1
    filled(channel, "A/B", 1)
    filled(channel, "W/X", 0, None)
    assert channel.has("A/B")
    assert not channel.has("W/X")
    assert not channel.has("Y/Z")
    assert channel.has("K/N") is (instruments is not None)


def test_values():
    """All last messages, oldest first; nothing for slots that have none yet."""
    channel = Channel("c", "v", "e", ())
    late, early = filled(channel, "L/X", 9), filled(channel, "E/X", 2)
    filled(channel, "N/X", 0, None)
    assert channel.values() == [early.last, late.last]


@pytest.mark.parametrize("instruments", [None, ["A/B", "K/N"]])
def test_withdrawn(instruments):
    """An instrument that the venue no longer knows is gone, with the price it had."""
    channel = Channel("c", "v", "e", instruments)
    channel.seq = 1
    filled(channel, "A/B", 1)
    wanted = filled(channel, "W/X", 2)
    wanted.listeners.add(object())
    for instrument in ("A/B", "W/X", "Y/Z"):
        channel.withdraw(instrument)
    assert not channel.has("A/B")
    # Who waits for it gets it, should it come back.
    assert channel.slots == {"W/X": wanted}
    assert channel.values() == []
    assert channel.has("K/N") is (instruments is not None)


def priced(exchange: str = "v") -> Slot:
    """Return a place with a value that was received at 1,000 us."""
    channel = Channel("c", exchange, "e", ["A/B"])
    slot = filled(channel, "A/B", 1, wire.frame(b'{"seq":1}'))
    slot.last.us = 1000
    return slot


def said(slot: Slot, now_us: int) -> dict[str, object]:
    return json.loads(wire.payload_of(slot.snapshot(now_us).frame))


def test_age_in_a_snapshot():
    """A newcomer is told how old a value is by the wall clock; a clock set back makes it 0."""
    slot = priced()
    assert said(slot, 1500) == {"seq": 1, "age_us": 500, "stale": False}
    assert said(slot, 900) == {"seq": 1, "age_us": 0, "stale": False}
    assert wire.payload_of(slot.last.frame) == b'{"seq":1}'
    message = slot.snapshot(1500)
    assert (message.seq, message.slot, message.us) == (1, slot, 1000)


def test_snapshot_is_shared():
    """All who come within 50 ms get one message, compressed once; then it is made anew."""
    slot = priced()
    first = slot.snapshot(10_000)
    small = first.shaped(SHAPES[True, 12])
    assert slot.snapshot(10_000 + SNAPSHOT_US - 1) is first
    assert slot.snapshot(10_000).shaped(SHAPES[True, 12]) is small
    later = slot.snapshot(10_000 + SNAPSHOT_US)
    assert later is not first
    assert said(slot, 10_000 + SNAPSHOT_US)["age_us"] == 9_000 + SNAPSHOT_US
    # A clock that was set back does not keep an old one for ever.
    assert slot.snapshot(9_999) is not later


def test_snapshot_of_a_new_value():
    """A new value, and a change of its freshness, are told at once."""
    slot = priced()
    first = slot.snapshot(10_000)
    slot.stale = slot.last
    assert said(slot, 10_001)["stale"] is True
    slot.stale = None
    slot.channel.stale = True
    assert said(slot, 10_002)["stale"] is True
    slot.channel.stale = False
    slot.last = Message(wire.frame(b'{"seq":2}'), slot.channel, slot, 2, 10_003)
    assert said(slot, 10_003) == {"seq": 2, "age_us": 0, "stale": False}
    assert first.seq == 1


def test_stale_is_one_value():
    """A value that comes after the stale one is not stale, whoever has noticed it yet."""
    slot = priced()
    slot.stale = slot.last
    slot.last = Message(wire.frame(b'{"seq":2}'), slot.channel, slot, 2, 1000)
    assert said(slot, 1000)["stale"] is False
    slot.forget()
    assert slot.snapshot(1000) is None
    assert slot.stale is None


def test_daemons_own_have_no_age():
    """States are sent as they were: since when they hold is in them."""
    slot = priced("")
    assert slot.snapshot(5000) is slot.last


class Known:
    """An order book of one level each side."""

    def top(self):
        return [Level("1", "1")], [Level("2", "1")]


@pytest.mark.parametrize(
    ("place", "seq", "kept"),
    [("own", 5, True), (None, 5, True), ("other", 5, False), ("own", 1, False)],
)
def test_the_gap_that_ended_a_book(place, seq, kept):
    """It is kept with its instrument; one of another instrument, or an older one, is not it."""
    channel = Channel("c", "v", "e", ["A/B", "C/D"])
    slot, other = filled(channel, "A/B", 2, wire.frame(b'{"seq":2}')), filled(channel, "C/D", 3)
    slot.book = Known()
    place = {"own": slot, "other": other, None: None}[place]
    channel.last_gap = Message(b"gap", channel, None, seq, place=place)
    slot.forget()
    assert slot.lost is (channel.last_gap if kept else None)
    assert slot.last is slot.book is None
