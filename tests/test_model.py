"""The messages: what a message may be told and what it keeps."""

import msgspec
import pytest

from aggregator.model import Event, Heartbeat, PriceUpdate, State, SystemStatus


def test_a_price_needs_instrument_price_and_payload():
    """What the venue does not give is absent, not zero."""
    event = PriceUpdate("BTC/USDT", "42150.50", b'{"a":1}')
    assert (event.instrument, event.price, event.data) == ("BTC/USDT", "42150.50", b'{"a":1}')
    optional = ("exchange_us", "bid", "ask", "volume_24h", "change_24h_pct")
    assert {getattr(event, key) for key in optional} == {None}


def test_a_message_never_changes():
    """A message that one client gets is the message that all get."""
    event = PriceUpdate("BTC/USDT", "1", b"{}")
    with pytest.raises(AttributeError):
        event.price = "2"


def test_a_payload_may_be_a_view_of_its_frame():
    """The venue's bytes are taken as they are, in every form in which they come."""
    frame = b'[{"a": 1.50 }]'
    [raw] = msgspec.json.decode(frame, type=list[msgspec.Raw])
    for data in (raw, bytes(raw), bytearray(raw), memoryview(raw)):
        assert bytes(PriceUpdate("BTC/USDT", "1", data).data) == b'{"a": 1.50 }'


def test_a_status_says_feed_state_since_when_and_why():
    """Without an instrument it is about the whole feed."""
    status = SystemStatus(feed="prices", state=State.STALE, since_us=1, reason="no data for 31 s")
    assert (status.instrument, status.detail) == (None, None)
    assert f"{status.state}" == "stale"
    with pytest.raises(TypeError):
        SystemStatus("prices", State.STALE, 1, "by position")


def test_the_states_are_those_of_the_protocol():
    """Clients know the states by these names."""
    assert [str(state) for state in State] == [
        "connecting",
        "live",
        "late",
        "stale",
        "down",
        "limited",
        "unknown_instrument",
    ]


def test_a_heartbeat_is_about_no_instrument():
    """It can be published like any other message."""
    assert isinstance(Heartbeat(), Event)
    assert Heartbeat().instrument is None
