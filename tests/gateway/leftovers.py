"""What is left of clients that have gone."""

from __future__ import annotations

import gc

import pytest
from aiohttp import web

from aggregator.gateway import fallback
from aggregator.gateway.session import Session

_EARLIER: set[int] = set()


@pytest.fixture(autouse=True)
def earlier():
    """Note what other tests have left: a hub let go in the middle of things keeps its sessions."""
    gc.collect()
    kinds = (web.RequestHandler, web.Request, Session, fallback.Link)
    _EARLIER.clear()
    _EARLIER.update(id(thing) for thing in gc.get_objects() if type(thing) in kinds)


def living(kind: type) -> int:
    """Return how many there are that this test has made."""
    gc.collect()
    found = (thing for thing in gc.get_objects() if type(thing) is kind)
    return sum(id(thing) not in _EARLIER for thing in found)
