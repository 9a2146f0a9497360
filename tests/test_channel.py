"""What a channel has, and the order of its snapshot."""

from __future__ import annotations

import pytest

from aggregator.channel import Channel, Message, Slot


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


def test_snapshot():
    """All last values, oldest first; nothing for slots that have none yet."""
    channel = Channel("c", "v", "e", ())
    late, early = filled(channel, "L/X", 9), filled(channel, "E/X", 2)
    filled(channel, "N/X", 0, None)
    assert channel.snapshot() == [early.last, late.last]


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
    assert channel.snapshot() == []
    assert channel.has("K/N") is (instruments is not None)
