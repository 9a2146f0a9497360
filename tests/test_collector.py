"""How garbage is collected."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from aggregator.collector import WHOLE_S, Collector


class Node:
    """Part of a cycle."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
async def collector():
    """Return one that is at work."""
    before = gc.get_threshold(), list(gc.callbacks)
    with Collector(asyncio.get_running_loop()) as collector:
        yield collector
    assert (gc.get_threshold(), list(gc.callbacks)) == before
    assert gc.get_freeze_count() == 0


async def test_what_has_survived_is_not_looked_at_again(collector):
    """After a full collection, what it has left is none of the next one's business."""
    node = Node()
    assert any(each is node for each in gc.get_objects())
    gc.collect()
    assert not any(each is node for each in gc.get_objects())


async def test_a_cycle_that_was_frozen_is_found_once_a_day(collector, monkeypatch):
    """What was frozen and is a cycle goes when everything is looked at, which comes by itself."""
    node = Node()
    gone = weakref.ref(node)
    gc.collect()
    del node
    gc.collect()
    assert gone() is not None
    collector.look_at_all()
    assert gone() is None
    assert collector._timer.when() - asyncio.get_running_loop().time() > WHOLE_S - 60


async def test_what_has_no_cycle_goes_at_once(collector):
    """Frozen or not, what nobody refers to any more is gone, without a collection."""
    node = Node()
    node.itself = None
    gone = weakref.ref(node)
    gc.collect()
    del node
    assert gone() is None
