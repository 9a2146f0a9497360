"""
The text of `GET /metrics`, a slice at a time.

With a thousand feeds it is some 50,000 lines, which take the loop a quarter of a second. So what is
read is read when its lines are written, and others have their turn in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from prometheus_client import Metric, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from aggregator.histogram import Histogram

LINES = 300
"""Of one slice, about: a millisecond."""
SLICE_S = 0.001
"""A slice ends after so long as well, however few lines it has: to read some takes longer."""

Row = tuple[tuple[str, ...], float | Histogram]
"""The values of the labels, and that of the metric."""
Rows = Iterable[Row]
Written = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
KINDS: dict[str, type[Written]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class Family(NamedTuple):
    """A metric: all that is said of it."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    """Without `aggregator_`, and a counter's without `_total`."""
    text: str
    labels: tuple[str, ...]
    rows: Rows
    """Made as they are written; what they are made of may change in between."""


def counter(name: str, text: str, rows: Rows, *labels: str) -> Family:
    """Return one that only grows."""
    return Family("counter", name, text, labels, rows)


def gauge(name: str, text: str, rows: Rows, *labels: str) -> Family:
    """Return one that goes up and down."""
    return Family("gauge", name, text, labels, rows)


def histogram(name: str, text: str, rows: Rows, *labels: str) -> Family:
    """Return one of durations."""
    return Family("histogram", name, text, labels, rows)


def by_owner(owners: Iterable[tuple[str, Any]], read: Callable[[Any], float]) -> Rows:
    """Return a row for each of those who count, by name: what is read of it."""
    return (((name,), read(counters)) for name, counters in owners)


def by_key(owners: Iterable[tuple[str, Any]], read: Callable[[Any], Mapping[Any, int]]) -> Rows:
    """Yield a row for each entry of what each of those has counted by some keys."""
    for name, counters in owners:
        # A copy: others have their turn while it is written.
        for key, count in list(read(counters).items()):
            yield (name, *(key if isinstance(key, tuple) else (key,))), count


class _One(Collector):
    """What the library takes for all that there is."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self._metric,)


def slices(families: Iterable[Family]) -> Iterator[bytes]:
    """Yield the text in Prometheus' format 0.0.4; between two parts others may have their turn."""
    parts: list[bytes] = []
    room, until = LINES, time.perf_counter() + SLICE_S
    for family in families:
        rows = iter(family.rows)
        more, first = True, True
        while more:
            metric = KINDS[family.kind](
                f"aggregator_{family.name}", family.text, labels=family.labels
            )
            more = _fill(metric, rows, room, until)
            text = generate_latest(_One(metric))
            # What it is, the first part has said, in two lines.
            parts.append(text if first else text.split(b"\n", 2)[2])
            first = False
            room -= len(metric.samples)
            if room <= 0 or time.perf_counter() >= until:
                yield b"".join(parts)
                parts.clear()
                room, until = LINES, time.perf_counter() + SLICE_S
    yield b"".join(parts)


def _fill(metric: Written, rows: Iterator[Row], room: int, until: float) -> bool:
    """Add rows until there is no room or no time; return whether there may be more of them."""
    for labels, value in rows:
        if isinstance(value, Histogram):
            assert isinstance(metric, HistogramMetricFamily)  # noqa: S101 - as its kind says
            metric.add_metric(labels, _buckets(value), value.seconds)
        else:
            assert not isinstance(metric, HistogramMetricFamily)  # noqa: S101 - likewise
            metric.add_metric(labels, value)
        if len(metric.samples) >= room or time.perf_counter() >= until:
            return True
    return False


def _buckets(histogram: Histogram) -> Sequence[tuple[str, float]]:
    bounds = (*map(floatToGoString, histogram.bounds), "+Inf")
    return list(zip(bounds, histogram.upto(), strict=True))
