"""Quantiles by buckets: as near to those of the sorted values as they say, and nothing is dropped."""

from __future__ import annotations

from array import array
from math import ceil

import pytest
from hypothesis import given, strategies

from aioparallel._observe.sketch import MAX_ROWS, Sketch, Span, buckets_of, edge

SECONDS = strategies.floats(min_value=0.0, max_value=1e8, allow_subnormal=False)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for bucket in buckets_of(array("d", values)):
        sketch.add({bucket: 1})
    return sketch


@given(strategies.lists(SECONDS, min_size=2), strategies.floats(min_value=0.0, max_value=1.0))
def test_quantiles_are_near_those_of_the_sorted_values(values: list[float], share: float):
    (found,) = sketch_of(values).quantiles(share)
    exact = sorted(values)[max(1, ceil(share * len(values))) - 1]
    assert found == pytest.approx(exact, rel=0.033, abs=1e-300)


@given(strategies.lists(SECONDS, min_size=1))
def test_every_value_is_in_its_bucket_and_in_one_row(values: list[float]):
    for value, bucket in zip(values, buckets_of(array("d", values)), strict=True):
        assert edge(bucket) <= value < edge(bucket + 1)
    rows = sketch_of(values).rows()
    assert sum(count for _, _, count in rows) == len(values) and 1 <= len(rows) <= MAX_ROWS
    for low, high, count in rows:
        assert sum(low <= value < high for value in values) == count
    assert rows[0][2] and rows[-1][0] <= max(values)


def test_what_is_below_nothing_counts_as_nothing():
    assert buckets_of(array("d", [-1.0, 0.0, 2.0])) == [0, 0, *buckets_of(array("d", [2.0]))]
    span = Span()
    span.take(array("d", [-1.0, 3.0]))
    span.take(array("d", [2.0]))
    assert (span.least, span.most, span.total) == (0.0, 3.0, 4.0)


def test_one_value_has_no_quantile():
    assert sketch_of([1.0]).quantiles(0.5) == [None] and sketch_of([1.0]).p95 == float("inf")
    sketch = sketch_of([1.0, 1.0])
    assert sketch.p95 == pytest.approx(1.0, rel=0.033)
    for bucket in buckets_of(array("d", [50.0] * 8)):
        sketch.add({bucket: 1})
    assert sketch.p95 == pytest.approx(50.0, rel=0.033), "it follows what is added"
