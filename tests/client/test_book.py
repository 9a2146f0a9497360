"""A book kept from messages, as docs/protocol.md says."""

import json

import msgspec
from client.daemons import price

from aggregator.client import Book
from aggregator.client.clock import now
from aggregator.messages import AnyMessage, Gap

decode = msgspec.json.Decoder(AnyMessage).decode


def update(seq, action, bids, asks, *, instrument="BTC/USDT", channel="okx_books"):
    message = price(seq, instrument, channel) | {"type": "orderbook_update", "action": action}
    del message["price"]
    levels = {"bids": bids, "asks": asks, "sequence": seq}
    return decode(json.dumps(message | {"data": levels}))


def gap(**fields):
    return Gap(**{"channel": "okx_books", "reason": "upstream", "timestamp": now(), **fields})


def shown(levels):
    return [f"{level.price} {level.size}" for level in levels]


def test_snapshot_and_changes():
    """Prices are numbers: 9.0 is 9; zero removes, however it is written."""
    book = Book("okx_books", "BTC/USDT")
    assert book.best == (None, None)
    assert book.update(update(1, "snapshot", [["9", "1"], ["8", "2"]], [["10", "1"]]))
    assert book.update(update(2, "delta", [["9.0", "0.00"], ["8.5", "3"]], [["11", "2"]]))
    assert shown(book.bids) == ["8.5 3", "8 2"]
    assert shown(book.asks) == ["10 1", "11 2"]
    assert shown(book.best) == ["8.5 3", "10 1"]
    book.update(update(3, "snapshot", [["7", "1"]], []))
    assert shown(book.bids) == ["7 1"]
    assert book.best[1] is None


def test_after_a_gap_it_is_not_known():
    """Until the next snapshot; changes before it mean nothing."""
    for lost in (gap(), gap(instrument="BTC/USDT"), gap(reason="client")):
        book = Book("okx_books", "BTC/USDT")
        book.update(update(1, "snapshot", [["9", "1"]], []))
        assert book.update(lost)
        assert not book.known
        book.update(update(2, "delta", [["8", "1"]], []))
        assert book.best == (None, None)
        book.update(update(3, "snapshot", [["7", "1"]], []))
        assert book.known
        assert shown(book.bids) == ["7 1"]


def test_what_is_about_others():
    """Changes nothing."""
    book = Book("okx_books", "BTC/USDT")
    book.update(update(1, "snapshot", [["9", "1"]], []))
    assert not book.update(update(2, "snapshot", [], [], instrument="ETH/USDT"))
    assert not book.update(update(2, "snapshot", [], [], channel="other"))
    assert not book.update(gap(channel="other"))
    assert not book.update(gap(instrument="ETH/USDT"))
    assert not book.update(decode(json.dumps(price(1))))
    assert book.known
    assert shown(book.bids) == ["9 1"]
