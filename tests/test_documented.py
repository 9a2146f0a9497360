"""How it is written down what a venue sends, and what differs from it."""

from __future__ import annotations

import pytest

from aggregator.documented import Row, is_zero

ROW = Row(
    "id:text last:number vol:number0 count:int time:int0? ratio:float up:bool tags:list meta:object"
    " more:any?"
)
GOOD = {
    "id": "x",
    "last": "1.50",
    "vol": "",
    "count": 3,
    "ratio": 2,
    "up": True,
    "tags": [],
    "meta": {},
}


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        ({}, []),
        ({"time": None}, []),
        ({"time": 0, "more": object}, []),
        ({"new": 1}, [("unknown", "new")]),
        ({"last": 1.5}, [("retyped", "last")]),
        ({"last": "none"}, [("retyped", "last")]),
        ({"last": None}, [("retyped", "last")]),
        ({"last": ""}, []),
        ({"last": "1e-8"}, []),
        ({"count": "3"}, [("retyped", "count")]),
        ({"count": True}, [("retyped", "count")]),
        ({"ratio": 1.5}, []),
        ({"ratio": "1.5"}, [("retyped", "ratio")]),
        ({"up": 1}, [("retyped", "up")]),
        ({"tags": {}}, [("retyped", "tags")]),
        ({"meta": []}, [("retyped", "meta")]),
    ],
)
def test_faults(change, faults):
    """Unknown, retyped and null fields are told; what may be absent or null is no fault."""
    assert list(ROW.faults(GOOD | change)) == faults


def test_missing():
    """Each field that has to be there and is not."""
    assert list(ROW.faults({"id": "x"})) == [("missing", name) for name in GOOD if name != "id"]


def test_suspects():
    """Numbers are, unless they may be zero; other fields are not."""
    assert ROW.suspects() == {"last", "count", "ratio"}


@pytest.mark.parametrize("value", ["0", "", "0.000", "-0.0", 0, 0.0, None])
def test_zero(value):
    """In whatever spelling."""
    assert is_zero(value)


@pytest.mark.parametrize("value", ["0.001", "1", "abc", 1, -1, 1e-9])
def test_not_zero(value):
    """Anything else says something."""
    assert not is_zero(value)
