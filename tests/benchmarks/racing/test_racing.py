"""The simulator and the default rule, on a few quick workloads: the whole table is `python -m tests.benchmarks.racing`."""

from __future__ import annotations

import pytest

from aioparallel import Backup

from .cluster import Cluster, VirtualHost, VirtualTask, oracle
from .table import main
from .workloads import build, figure


def run(name: str, seed: int, backup: Backup | None) -> Cluster:
    hosts, tasks, more = build(name, seed)
    return Cluster(hosts, rule=backup.rule() if backup else None, **more).run(tasks)


@pytest.mark.parametrize("name", ["b2", "c3", "d1", "e1", "e2", "f2", "k1"])
def test_the_default_rule_helps_and_keeps_its_budget(name: str):
    for seed in range(3):
        plain, raced = run(name, seed, None), run(name, seed, Backup())
        assert figure(name, raced) <= 1.02 * figure(name, plain)
        assert raced.wasted <= 0.1 * raced.useful
        assert all(task.finished < 1e9 for task in raced.tasks)


def test_the_same_seed_gives_the_same_run():
    first, second = run("b4", 1, Backup()), run("b4", 1, Backup())
    assert [task.finished for task in first.tasks] == [task.finished for task in second.tasks]
    assert (first.wasted, first.backups) == (second.wasted, second.backups)


def test_an_outage_stops_work_and_a_slowdown_slows_it():
    def end(**host: object) -> float:
        machine = VirtualHost(name="a", slots=1, launch_delay=0.0, **host)  # pyright: ignore[reportArgumentType]
        return Cluster([machine]).run([VirtualTask(durations=(10.0,))]).makespan

    assert end() == pytest.approx(10.0)
    assert end(outages=((4.0, 9.0),)) == pytest.approx(15.0)
    assert end(slowdowns=((4.0, 8.0, 2.0),)) == pytest.approx(12.0)


def test_the_oracle_takes_the_better_draw_and_the_longest_first():
    tasks = [VirtualTask(durations=(9.0, 1.0)), VirtualTask(durations=(1.0, 5.0)), VirtualTask(durations=(2.0, 3.0))]
    hosts = [VirtualHost(name=name, slots=1, launch_delay=0.0) for name in "ab"]
    assert oracle(hosts, tasks).makespan == pytest.approx(2.0)


def test_prints_a_table(capsys: pytest.CaptureFixture[str]):
    main(["--seeds", "1", "--rows", "g1,k1", "--progress"])
    printed = capsys.readouterr().out
    assert "geometric mean" in printed
    assert "mantri" in printed
