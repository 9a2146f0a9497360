"""What is agreed on about compression, and what is declined."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aggregator.gateway.extensions import MAX_LENGTH, Agreement, negotiate

NAME = "permessage-deflate"
HEADER = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
PLAIN = Agreement(12, HEADER)


def window(bits: int) -> Agreement:
    """Return the agreement where this was asked for: of two windows the one that is not larger."""
    used = 12 if bits >= 12 else 9
    return Agreement(used, f"{HEADER}; server_max_window_bits={bits}")


ACCEPTED = {
    "Firefox": (NAME, PLAIN),
    "Chrome": (f"{NAME}; client_max_window_bits", PLAIN),
    "no context takeover by the server": (f"{NAME}; server_no_context_takeover", PLAIN),
    "no context takeover by the client": (f"{NAME}; client_no_context_takeover", PLAIN),
    "the smallest window": (f"{NAME}; server_max_window_bits=9", window(9)),
    "the largest window": (f"{NAME}; server_max_window_bits=15", window(15)),
    "a window of the client's": (f"{NAME}; client_max_window_bits=8", PLAIN),
    "everything": (
        f"{HEADER}; client_max_window_bits=9; server_max_window_bits=10",
        window(10),
    ),
    "no blanks": (f"{NAME};client_max_window_bits;server_max_window_bits=12", window(12)),
    "many blanks": (f" \t{NAME} \t;\tserver_max_window_bits =\t12 ", window(12)),
    "quoted": (f'{NAME}; server_max_window_bits="12"; client_max_window_bits="8"', window(12)),
    "quoted with backslashes": (f'{NAME}; server_max_window_bits="\\1\\2"', window(12)),
    "empty elements": (f",, ,{NAME} , ,", PLAIN),
    "another extension": (f"x-webkit-deflate-frame, {NAME}, bbf-usp-protocol", PLAIN),
    "another with parameters": (f'foo; a; a; b="c;\\",{NAME};d", {NAME}', PLAIN),
    "in order of preference": (
        f"{NAME}; server_max_window_bits=10, {NAME}; server_max_window_bits=11, {NAME}",
        window(10),
    ),
}

UNUSABLE = {
    "256 bytes": "server_max_window_bits=8",
    "too small": "server_max_window_bits=7",
    "too large": "server_max_window_bits=16",
    "no number": "server_max_window_bits=ten",
    "a sign": "server_max_window_bits=+12",
    "a zero before": "server_max_window_bits=09",
    "a fraction": "server_max_window_bits=9.0",
    "other digits": 'server_max_window_bits="١٢"',
    "no value": "server_max_window_bits",
    "an empty value": 'server_max_window_bits=""',
    "two values in one": 'server_max_window_bits="12, 13"',
    "an offer in a value": f'server_max_window_bits="12, {NAME}"',
    "client: too small": "client_max_window_bits=7",
    "client: too large": "client_max_window_bits=16",
    "client: a zero before": "client_max_window_bits=010",
    "client: an empty value": 'client_max_window_bits=""',
    "a value where none is allowed": "server_no_context_takeover=1",
    "client: a value where none is allowed": "client_no_context_takeover=true",
    "unknown": "server_max_window_bit=12",
    "unknown without a value": "no_context_takeover",
    "upper case": "Server_No_Context_Takeover",
    "twice": "server_no_context_takeover; server_no_context_takeover",
    "twice, the same value": "server_max_window_bits=12; server_max_window_bits=12",
    "twice, with and without": "client_max_window_bits; client_max_window_bits=12",
    "one bad among good": "client_max_window_bits; server_no_context_takeover; x",
}

NONE = {
    "nothing": "",
    "blanks": "  ",
    "commas": ",,,",
    "another one": "x-webkit-deflate-frame",
    "a similar one": "permessage-deflate2",
    "upper case": "Permessage-Deflate",
    "no name": ";server_no_context_takeover",
    "two names": f"{NAME} {NAME}",
    "an empty parameter": f"{NAME};",
    "an empty parameter between": f"{NAME};; client_max_window_bits",
    "a value of nothing": f"{NAME}; client_max_window_bits=",
    "two values": f"{NAME}; client_max_window_bits=9=9",
    "an open quote": f'{NAME}; client_max_window_bits="9',
    "a quote that does not end": f'{NAME}; client_max_window_bits="9\\"',
    "a quote in the middle": f'{NAME}; client_max_window_bits=9"9"',
    "no token": f"{NAME}; (comment)",
    "beyond ASCII": f"{NAME}; é",
    "half a character": f"{NAME}; \udcff",
    "a line": f"{NAME}\n",
    "garbage behind a good one": f"{NAME}, /",
    "garbage before a good one": f"/, {NAME}",
}


@pytest.mark.parametrize(("offer", "agreement"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(offer, agreement):
    """RFC 7692, 7.1: the answer has what was asked for, and that no context is taken over."""
    assert negotiate([offer]) == agreement


@pytest.mark.parametrize("parameters", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable(parameters):
    """RFC 7692, 7: such an offer is declined, and the next one is tried."""
    offer = f"{NAME}; {parameters}"
    assert negotiate([offer]) is None
    assert negotiate([f"{offer}, {NAME}; server_max_window_bits=11"]) == window(11)
    assert negotiate([offer, offer, NAME]) == PLAIN
    assert negotiate([f"{NAME}; server_max_window_bits=11, {offer}"]) == window(11)


@pytest.mark.parametrize("offer", NONE.values(), ids=NONE)
def test_none(offer):
    """RFC 6455, 9.1: what has not the form of the header, or offers nothing we know, gives none."""
    assert negotiate([offer]) is None


def test_no_header():
    """Who offers nothing gets no compression."""
    assert negotiate([]) is None


def test_several_headers():
    """RFC 6455, 9.1: the header may be split into several, which are one list in this order."""
    assert negotiate(["foo", f"{NAME}; server_max_window_bits=9", NAME]) == window(9)
    assert negotiate([f"{NAME}; server_max_window_bits=8", "", NAME]) == PLAIN
    assert negotiate([f'{NAME}; client_max_window_bits="9', '"']) is None
    assert negotiate([NAME, "/"]) is None


def test_too_long():
    """More than any client sends is not looked at, in one header or in many."""
    filler = "x" * (MAX_LENGTH - len(NAME) - 1)
    assert negotiate([f"{filler},{NAME}"]) == PLAIN
    assert negotiate([f"{filler}x,{NAME}"]) is None
    assert negotiate([NAME, *["x"] * MAX_LENGTH]) is None


@pytest.mark.parametrize(
    "part",
    [
        " ",
        "\t",
        ",",
        ";",
        "=",
        '"',
        "\\",
        '"\\',
        "a",
        "a;",
        "a; ",
        "a=",
        ";a",
        "; a = a",
        'a;a="\\',
    ],
)
def test_time(part):
    """What is made to be parsed slowly costs no more than an honest offer of that length."""
    start = time.process_time()
    for _ in range(20):
        negotiate([NAME + ";" + part * (MAX_LENGTH // len(part) - 10)])
        negotiate([part * (MAX_LENGTH // len(part)) + "("])
    assert time.process_time() - start < 0.5


PARAMETERS: list[list[str | None]] = [
    [None, "client_no_context_takeover"],
    [None, "server_no_context_takeover"],
    [None, "client_max_window_bits", *(f"client_max_window_bits={n}" for n in range(8, 16))],
    [None, *(f"server_max_window_bits={n}" for n in range(8, 16))],
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_every_combination(order):
    """RFC 7692, 7.1: the parameters do not depend on one another, nor on their order."""
    for chosen in itertools.product(*PARAMETERS):
        bits = int(chosen[3].partition("=")[2]) if chosen[3] else None
        offer = "; ".join([NAME, *(chosen[i] for i in order if chosen[i])])
        expected = PLAIN if bits is None else window(bits)
        assert negotiate([offer]) == (None if bits == 8 else expected)


words = st.sampled_from(
    [NAME, "server_max_window_bits", "client_max_window_bits", "9", "15", "8", *',;=" \t\\']
)
near = st.lists(words | st.text(max_size=3), max_size=25).map("".join)


@given(st.lists(near | st.text(max_size=100), max_size=4))
@example(["\ud800"])
def test_anything_at_all(offers):
    """There is never an exception; and what is agreed on is always one of the eight answers."""
    assert negotiate(offers) in {None, PLAIN, *map(window, range(9, 16))}
