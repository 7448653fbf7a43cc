"""What is kept of what ended, without a pool: bounded, by host and function, and whatever comes."""

from __future__ import annotations

import pytest

from aioparallel._observe.history import BATCH, MAX_FAILURES, MAX_NAMES, OTHERS, SLOWEST
from aioparallel.testing import Simulation


def test_functions_beyond_the_bound_count_together():
    sim = Simulation()
    history = sim.state.endings.history
    for number in range(MAX_NAMES + 500):
        history.seen.extend((f"f{number}", "local", 1.0, 0.5))
    history.digest()
    assert len(history.functions) == MAX_NAMES + 1
    assert history.functions[OTHERS].count == 500
    assert history.run.count == history.wait.count == history.hosts["local"].count == MAX_NAMES + 500


def test_hosts_and_functions_are_told_apart():
    sim = Simulation()
    history = sim.state.endings.history
    for number in range(30):
        history.seen.extend(("f" if number % 3 else "g", "a" if number % 2 else "b", 1.0 + number % 2, 0.0))
    history.digest()
    assert {name: sketch.count for name, sketch in history.functions.items()} == {"f": 20, "g": 10}
    assert history.hosts["a"].quantiles(0.5)[0] == pytest.approx(2.0, rel=0.033)
    assert history.hosts["b"].quantiles(0.5)[0] == pytest.approx(1.0, rel=0.033)
    assert history.seen == []


def test_only_the_slowest_are_kept():
    sim = Simulation()
    history = sim.state.endings.history
    task = sim.submit(name="mine")
    for number in range(3 * SLOWEST):
        if number > history.slow:
            history.look(task, "local", float(number))
    assert [slow[0] for slow in history.slowest] == [float(number) for number in range(3 * SLOWEST - 1, 2 * SLOWEST - 1, -1)]
    assert history.slowest[0][3] == "mine" and history.slow == 2.0 * SLOWEST


def test_a_full_batch_is_sorted():
    sim = Simulation()
    history = sim.state.endings.history
    history.seen.extend(("f", "local", 1.0, 0.0) * (BATCH // 4))
    history.slow = 2.0
    history.look(sim.submit(), "local", 1.0)
    assert history.run.count == BATCH // 4 and history.seen == []


def test_failures_are_bounded_and_counted():
    sim = Simulation()
    history = sim.state.endings.history
    task = sim.submit()
    for number in range(MAX_FAILURES + 10):
        history.fail(task, None, "failed", "HostError", float(number))
    assert len(history.failures) == MAX_FAILURES and history.failed.total() == MAX_FAILURES + 10
    assert history.failures[-1].record(0.0).ended_at == MAX_FAILURES + 9
