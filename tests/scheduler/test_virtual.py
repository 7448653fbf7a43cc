"""The shipped scheduler on virtual machines."""

from __future__ import annotations

import runpy
from math import inf
from pathlib import Path
from typing import Any

import pytest

from aioparallel.events import BackupStarted
from aioparallel.policies.racing import Bet, Scene
from aioparallel.testing import VirtualCluster, VirtualHost, VirtualTask


class Late:
    """Backs up what has run for longer than so many seconds."""

    max_copies = 2

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def look(self, scene: Scene) -> tuple[list[Bet], float]:
        alone = [copies[0] for copies in scene.running() if len(copies) == 1]
        silent = scene.silent()
        bets = [Bet(copy.task) for copy in alone if copy.began + self.seconds <= scene.now or copy.host in silent]
        return bets, min((copy.began + self.seconds for copy in alone if copy.began + self.seconds > scene.now), default=inf)


def two(**changes: Any) -> list[VirtualHost]:
    return [VirtualHost(name=name, slots=2, launch_delay=0.0, cancel_delay=0.0, **changes) for name in "ab"]


def test_work_takes_as_long_as_it_should() -> None:
    report = VirtualCluster([VirtualHost(name="a", slots=2, launch_delay=0.5)]).run([VirtualTask(durations=[2.0])] * 4)
    assert report.makespan == pytest.approx(5.0) and report.busy == pytest.approx(10.0) and report.wasted == 0
    assert [task.outcome for task in report.tasks] == ["succeeded"] * 4


def test_speeds_slowdowns_and_arrivals() -> None:
    host = VirtualHost(name="a", slots=1, speed=2.0, launch_delay=0.0, slowdowns=[(10.0, 20.0, 4.0)])
    report = VirtualCluster([host]).run([VirtualTask(arrival=9.0, durations=[4.0]), VirtualTask(arrival=100.0, durations=[4.0])])
    assert [task.finished for task in report.tasks] == pytest.approx([14.0, 102.0])  # 1 s at 2, then 4 s at 0.5


def test_a_straggler_is_raced_and_the_loser_is_wasted() -> None:
    tasks = [VirtualTask(durations=[1.0])] * 3 + [VirtualTask(durations=[50.0, 1.0])]
    assert VirtualCluster(two()).run(tasks).makespan == pytest.approx(50.0)
    report = VirtualCluster(two(), backup=Late(2.0)).run(tasks)
    assert report.makespan == pytest.approx(3.0) and (report.backups, report.backups_won) == (1, 1)
    assert report.wasted == 0 and report.useful == pytest.approx(4.0) and report.busy == pytest.approx(7.0)
    lost = VirtualCluster(two(), backup=Late(2.0)).run([VirtualTask(durations=[3.0, 9.0])])
    assert (lost.backups, lost.backups_won) == (1, 0) and lost.wasted == pytest.approx(1.0) and lost.useful == pytest.approx(3.0)
    (started,) = [event for event in report.events if isinstance(event, BackupStarted)]
    assert started.age == pytest.approx(2.0) and len({record.host for record in report.tasks[-1].attempts}) == 2


def test_an_outage_that_is_not_noticed_delays_and_one_that_is_costs_the_attempt() -> None:
    hosts = [VirtualHost(name="a", slots=1, launch_delay=0.0, outages=[(1.0, 30.0)]), VirtualHost(name="b", slots=1, launch_delay=0.0)]
    tasks = [VirtualTask(durations=[5.0])] * 2
    assert VirtualCluster(hosts).run(tasks).makespan == pytest.approx(34.0)
    report = VirtualCluster(hosts, heartbeat=6.0).run(tasks)
    assert report.makespan == pytest.approx(12.0)
    assert sorted(len(task.attempts) for task in report.tasks) == [1, 2]
    silent = VirtualCluster(hosts, heartbeat=6.0, backup=Late(100.0)).run(tasks)
    assert silent.makespan == pytest.approx(10.0), "its copy is raced as soon as a slot is free, before it is given up"


def test_a_timeout_and_a_failure_end_an_attempt() -> None:
    report = VirtualCluster(two(), attempt_timeout=3.0).run([VirtualTask(durations=[9.0]), VirtualTask(fails=[0.5]), VirtualTask()])
    assert [task.outcome for task in report.tasks] == ["failed", "failed", "succeeded"]
    assert report.tasks[0].finished == pytest.approx(3.0) and report.tasks[1].finished == pytest.approx(0.5)


def test_what_may_not_run_twice_is_not_raced() -> None:
    report = VirtualCluster(two(), backup=Late(1.0)).run([VirtualTask(durations=[9.0], idempotent=False)])
    assert report.backups == 0 and report.makespan == pytest.approx(9.0)


def test_the_same_seed_gives_the_same_report() -> None:
    tasks = [VirtualTask(arrival=0.1 * number, durations=[1.0 + number % 7, 1.0]) for number in range(200)]
    hosts = [VirtualHost(name=name, slots=3, weight=weight) for name, weight in (("a", 1.0), ("b", 2.0), ("c", 0.5))]
    first, second = (VirtualCluster(hosts, backup=Late(4.0), selection="weighted-random", seed=7).run(tasks) for _ in range(2))
    assert repr(first) == repr(second) and first.backups > 0


def test_progress_is_told_to_rules() -> None:
    seen: list[float] = []

    class Looks(Late):
        def look(self, scene: Scene) -> tuple[list[Bet], float]:
            seen.extend(copy.progress for copies in scene.running() for copy in copies if copy.progress is not None)
            return super().look(scene)

    VirtualCluster(two(), backup=Looks(6.0)).run([VirtualTask(durations=[8.0], progress=True)])
    assert any(share == pytest.approx(0.75) for share in seen)


@pytest.mark.parametrize("hosts", [[], [VirtualHost(name="a"), VirtualHost(name="a")]])
def test_wrong_hosts_are_refused(hosts: list[VirtualHost]) -> None:
    with pytest.raises(ValueError, match="one or more, each with a name of its own"):
        VirtualCluster(hosts)
    with pytest.raises(ValueError, match="not overlap"):
        VirtualCluster([VirtualHost(name="a", outages=[(1.0, 5.0), (4.0, 6.0)])]).run([VirtualTask()])


def test_the_example_prints_its_table_and_draws(tmp_path: Path) -> None:
    """With fewer seeds, so that it takes a second or two."""
    space = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "racing.py"))
    report = space["run"]("silent machine", space["RULES"]["Backup()"], 0)
    assert space["figure"]("silent machine", report) < space["figure"]("silent machine", space["run"]("silent machine", None, 0))
    assert space["picture"]().count("<rect") > 800
