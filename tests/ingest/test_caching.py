from __future__ import annotations

import pytest

from aggregator.ingest.caching import reuse


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (0, 0)),
        ({"Cache-Control": "public, max-age=60"}, (60, 60)),
        ({"Cache-Control": "Max-Age=60", "Age": "45"}, (60, 15)),
        ({"Cache-Control": "max-age=60", "Age": "99"}, (60, 0)),
        ({"Cache-Control": 'max-age="60"', "Age": "x"}, (60, 60)),
        ({"Cache-Control": "max-age=60, no-cache"}, (0, 0)),
        ({"Cache-Control": "no-store"}, (0, 0)),
        ({"Cache-Control": "max-age=-5"}, (0, 0)),
        ({"Cache-Control": "max-age=999999999999"}, (3600, 3600)),
        ({"Cache-Control": "s-maxage=5, stale-while-revalidate=60"}, (0, 0)),
    ],
)
def test_reuse(headers, expected):
    """What the headers of an answer say about its age is believed, up to an hour."""
    assert reuse(headers) == expected
