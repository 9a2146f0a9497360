"""One connection of a streamed feed, and what is left of it."""

import gc
import weakref

import pytest
from ingest.benches import StreamBench as Bench
from ingest.doubles import Stream, script


@pytest.fixture
def no_collector():
    """Have nothing freed but what nobody refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("last", ['{"!refuse":"no"}', None])
async def test_what_has_ended_is_freed_at_once(session, venue, no_collector, last):
    """
    Whatever ended a connection, its connector, with all books, does not wait for the collector:
    else many reconnects would take the memory of as many books.
    """
    made = []

    class Remembered(Stream):
        def __init__(self, options):
            super().__init__(options)
            made.append(weakref.ref(self))

    frames = ['{"BTC/USDT":"1.5"}', *([last] if last else [])]
    venue.answer = script(*frames, then=lambda ws: ws.close())
    bench = Bench(session, venue.ws_url, cls=Remembered, patient=True)
    async with bench.running():
        await venue.asked(4)
        # The newest is in use, and the one before it may be until its place is taken.
        assert not [ref for ref in made[:-2] if ref() is not None]
