"""How figures become verdicts; nothing here takes a time."""

from __future__ import annotations

import pytest

from .makespan import overtaken
from .measure import Measure, Row, judge, number
from .run import FAMILIES, MEASURES
from .tools import quantile

RATE = Row(label="rate", figure="rate", unit="/s", more_is_better=True, peer="peer", ratio=2)
TIME = Row(label="time", figure="ms", unit="ms", peer="peer", ratio=0.5)
BOUND = Row(label="bound", figure="ms", unit="ms", bound=10)


@pytest.mark.parametrize(
    ("row", "ours", "peer", "text"),
    [
        (RATE, [1, 20], [10, 9], "reached"),
        (RATE, [1, 19], [10, 9], "MISSED"),
        (TIME, [7, 5], [12, 10], "reached"),
        (TIME, [7, 6], [12, 10], "MISSED"),
        (TIME, [7, 6], [], "no peer"),
        (TIME, [], [10], "FAILED"),
        (BOUND, [11, 10], [], "reached"),
        (BOUND, [11, 12], [1], "MISSED"),
        (Row(label="shown", figure="ms", unit="ms", peer="peer"), [1], [2], "-"),
    ],
)
def test_verdict(row: Row, ours: list[float], peer: list[float], text: str) -> None:
    verdict = judge(row, {"ours": [{row.figure: x} for x in ours], "peer": [{row.figure: x} for x in peer]})
    assert verdict.text == text
    assert verdict.cells()[-1] == text


@pytest.mark.parametrize(
    ("pick", "more_is_better", "figure"),
    [("best", True, 9), ("best", False, 1), ("worst", True, 1), ("worst", False, 9), ("median", True, 2), ("median", False, 2)],
)
def test_reduce(pick: str, more_is_better: bool, figure: float) -> None:
    row = Row(label="", figure="", unit="", more_is_better=more_is_better, pick=pick)
    assert row.reduce([2, 9, 1]) == figure


def test_reach_is_readable() -> None:
    assert [RATE.reach, TIME.reach, BOUND.reach] == [">= 2x", "<= 0.5x", "<= 10 ms"]


def test_numbers_keep_three_digits() -> None:
    assert [number(x) for x in (0.01234, 9.876, 45.67, 12345.6)] == ["0.0123", "9.88", "45.7", "12,346"]


def test_quantile_is_the_nearest_rank() -> None:
    assert [quantile(range(1, 101), share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert quantile([3.0], 0.99) == 3.0


@pytest.mark.parametrize(("ends", "most"), [([1, 2, 3], 0), ([3, 1, 2], 2), ([1, 5, 9, 4, 6], 5), ([], 0)])
def test_overtaken_is_the_longest_wait_while_later_ones_went_by(ends: list[float], most: float) -> None:
    assert overtaken(ends) == most


def test_scaled_work_stays_work() -> None:
    measure = Measure(name="", size=1000, contenders={}, rows=(), least=20)
    assert [measure.scaled(scale) for scale in (1.0, 0.1, 0.001)] == [1000, 100, 20]


def test_rows_name_contenders_that_exist() -> None:
    assert len(MEASURES) == sum(len(family.MEASURES) for family in FAMILIES)
    for measure in MEASURES.values():
        for row in measure.rows:
            assert row.ours in measure.contenders
            assert row.peer is None or row.peer in measure.contenders
