"""A snapshot that has to wait, since the client does not read, and what is published meanwhile."""

from __future__ import annotations

from gateway.test_kills import Top, messages
from gateway.test_model import Transport
from gateway.wsclient import frame

from aggregator.gateway.sessions import Sessions
from aggregator.hub import Hub
from aggregator.model import BookUpdate, Level
from aggregator.settings import Server


async def test_a_change_that_takes_the_place_of_a_snapshot_is_one():
    """A book that was never sent can't be changed: the client gets all of it, as it is by then."""
    hub = Hub(history=10)
    books = hub.add_channel("books", "venue", ["A/B"])

    def publish(*, whole: bool) -> None:
        update = BookUpdate(
            instrument="A/B", bids=[Level("1", "2")], asks=[], whole=whole, book=Top()
        )
        hub.publish(books, update, 1)

    publish(whole=True)
    publish(whole=False)
    sessions = Sessions(hub, Server(), lambda: 0.0)
    session, transport = sessions.create("x", short=False), Transport()
    transport.session = session
    sessions.add(session, transport, b"")
    transport.stalled = transport.paused = True
    session.pause_writing()
    session._receive(frame(b'{"type":"subscribe","channels":["books"]}'))
    publish(whole=False)
    transport.flow()
    publish(whole=False)
    hub.flush()
    said = [(m["seq"], m["action"]) for m in messages(transport.data) if "action" in m]
    assert said == [(3, "snapshot"), (4, "delta")]
