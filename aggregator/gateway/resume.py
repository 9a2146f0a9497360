"""Clients that come back: what they have missed, or that it is not kept any more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aggregator import wire
from aggregator.audience import Wants
from aggregator.channel import Channel, Message
from aggregator.directory import Directory

from .protocol import Position

FORGOTTEN = "older than what is kept"
RESTARTED = "another run of the daemon"
AHEAD = "no message has that number yet"


class Resumed(NamedTuple):
    """What a client gets that says how far it has come."""

    recovered: dict[str, bool]
    """Of each channel that it told about: whether it gets everything that it has missed."""
    missed: dict[str, list[Message]]
    """Those messages, of the recovered channels."""
    gaps: list[bytes]
    """The payload of a `gap` for each of the others."""


def resume(
    directory: Directory,
    channels: Mapping[str, Channel],
    since: Mapping[str, Position],
    wants: Wants,
) -> Resumed:
    """
    Find what a client has missed.

    Args:
        directory: has the histories.
        channels: those that the client subscribes to, by name.
        since: what it has had last of each; of other channels it means nothing.
        wants: the subscriptions.

    """
    resumed = Resumed({}, {}, [])
    for name, position in since.items():
        channel = channels.get(name)
        if channel is None:
            continue
        same = position.epoch == channel.epoch
        missed = directory.missed(channel, position.seq, wants) if same else None
        resumed.recovered[name] = missed is not None
        if missed is not None:
            resumed.missed[name] = missed
        else:
            resumed.gaps.append(gap(directory, channel, position, channel.seq))
    return resumed


def gap(directory: Directory, channel: Channel, since: Position, upto: int) -> bytes:
    """
    Return the payload of what says that messages are lost to a client, and why.

    Args:
        directory: knows the time.
        channel: of which.
        since: the last that the client has.
        upto: the last that is lost.

    """
    first, cause = since.seq + 1, FORGOTTEN
    if since.epoch != channel.epoch:
        first, cause = 1, RESTARTED
    elif since.seq > channel.seq:
        cause = AHEAD
    seqs = (first, upto) if first <= upto else (None, None)
    now = wire.iso(directory.now_us())
    return wire.gap(channel.name, seqs, "history", now, {"cause": cause})
