"""The default rule and what it learns: durations, speeds, the share of slow inputs, and the budget that it keeps."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf

import pytest

from aioparallel.policies.budget import Budget
from aioparallel.policies.durations import Durations
from aioparallel.policies.presets import Hedge, MapReduce, Reference, Spark
from aioparallel.policies.racing import FAILED, FINISHED, STOPPED, Bet, Copy, Rule, Stop
from aioparallel.policies.rule import Racing
from aioparallel.policies.shares import InputShare
from aioparallel.policies.speeds import Speeds


class Stage:
    """A scene that a test sets, and the copies on it."""

    def __init__(self, rule: Rule, hosts: Mapping[str, int], weights: Mapping[str, float] | None = None) -> None:
        self.rule, self.free, self.weights = rule, dict(hosts), dict(weights or {})
        self.slots = sum(hosts.values())
        self.now, self.queued = 0.0, 0
        self.quiet: set[str] = set()
        self.tasks: dict[int, list[Copy]] = {}

    def idle(self) -> Mapping[str, int]:
        return {host: free for host, free in self.free.items() if free and host not in self.quiet}

    def weight(self, host: str) -> float:
        return self.weights.get(host, 1.0)

    def silent(self) -> set[str]:
        return self.quiet

    def running(self) -> Sequence[Sequence[Copy]]:
        return list(self.tasks.values())

    def begin(self, task: int, host: str, function: str = "f", cost: float | None = None) -> Copy:
        copies = self.tasks.setdefault(task, [])
        copy = Copy(task, function, host, self.now, number=len(copies) + 1, cost=cost)
        copies.append(copy)
        self.free[host] -= 1
        self.rule.began(copy, self.now)
        return copy

    def end(self, copy: Copy, how: str = FINISHED) -> None:
        self.tasks[copy.task].remove(copy)
        self.free[copy.host] += 1
        self.rule.ended(copy, self.now, how, self.now - copy.began)
        others = list(self.tasks[copy.task]) if how == FINISHED else []
        for other in others:
            self.end(other, STOPPED)
        if not self.tasks.get(copy.task):
            self.tasks.pop(copy.task, None)

    def learn(self, durations: Sequence[float], host: str = "a", function: str = "f") -> None:
        """Let calls of those durations run one after the other."""
        for number, seconds in enumerate(durations):
            copy = self.begin(-1 - number, host, function)
            self.now += seconds
            self.end(copy)

    def look(self) -> tuple[Sequence[Bet | Stop], float]:
        return self.rule.look(self)

    def bets(self, seconds: float) -> tuple[list[Bet], float]:
        """Let time pass, as its timers say, until it bets or so many seconds are over."""
        end = self.now + seconds
        while True:
            found, due = self.look()
            bets = [bet for bet in found if isinstance(bet, Bet)]
            for stop in found:
                if isinstance(stop, Stop):
                    self.end(next(copy for copy in self.tasks[stop.task] if copy.number == stop.number), STOPPED)
            if bets or min(due, end) >= end:
                return bets, self.now
            self.now = max(due, self.now + 1e-6)


def noisy(count: int, median: float = 1.0, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [median * rng.lognormvariate(0.0, 0.2) for _ in range(count)]


def settled(values: Sequence[float], stopped: Sequence[float] = (), ages: Sequence[float] = ()) -> Durations:
    durations = Durations()
    for value in values:
        durations.add(value)
    for value in stopped:
        durations.add_stopped(value)
    durations.settle(ages)
    return durations


def test_durations_find_median_and_quantiles():
    durations = settled(noisy(900))
    assert durations.median == pytest.approx(1.0, rel=0.1)
    assert durations.quantile(0.95) == pytest.approx(1.39, rel=0.15)
    assert durations.below(1.0) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("how", ["stopped", "ages"])
def test_copies_without_an_end_count_as_longer_than_they_ran(how: str):
    plain = settled([1.0] * 30)
    censored = settled([1.0] * 30, **{how: [2.0] * 10})
    assert plain.below(2.0) > 0.9
    assert censored.below(2.0) < 0.85


def test_a_copy_that_was_stopped_early_says_nothing():
    assert settled([1.0] * 30, stopped=[0.01] * 30).median == pytest.approx(settled([1.0] * 30).median, rel=0.05)


def test_one_sample_makes_an_estimate_with_a_tail():
    durations = settled([3.0])
    assert durations.median == pytest.approx(3.0, rel=0.3)
    assert 0.01 < 1.0 - durations.below(9.0) < 0.3


def test_the_window_forgets():
    durations = settled(noisy(1500))
    for value in noisy(6000, median=10.0):
        durations.add(value)
    durations.settle(())
    assert durations.median == pytest.approx(10.0, rel=0.15)


def test_a_fresh_copy_wins_the_more_probably_the_later_it_is():
    durations = settled([*noisy(900), *[7.0] * 20])
    wins = [durations.win_at(place, 0) for place in (120.0, 123.0, 126.0, 129.0)]
    assert wins == sorted(wins)
    assert wins[-1] > 0.8
    assert durations.win(120, 12) <= durations.win(120, 0) <= durations.win(120, -12)


def test_what_a_faster_host_overtakes_with_the_same_work():
    durations = settled(noisy(300))
    assert durations.win_same(114.0, 0) == 0.0
    assert durations.win_same(100.0, -12) > 0.9
    assert durations.win_same(126.0, -3) < 0.1


def test_speeds_start_at_the_declared_weight():
    speeds = Speeds({"fast": 2.0, "slow": 1.0}.__getitem__)
    assert speeds.speed("fast") / speeds.speed("slow") == pytest.approx(2.0)


def test_speeds_correct_a_wrong_weight():
    rng = random.Random(3)
    speeds = Speeds({"a": 1.0, "b": 4.0}.__getitem__)
    for _ in range(60):
        speeds.finished("f", "a", rng.lognormvariate(0.0, 0.2))
        speeds.finished("f", "b", 2.0 * rng.lognormvariate(0.0, 0.2))
    assert speeds.speed("a") / speeds.speed("b") == pytest.approx(2.0, rel=0.3)


def test_one_straggler_makes_no_slow_host():
    rng = random.Random(3)
    speeds = Speeds()
    for _ in range(50):
        for host in "ab":
            speeds.finished("f", host, rng.lognormvariate(0.0, 0.2))
    before = speeds.speed("a")
    speeds.finished("f", "a", 100.0)
    assert speeds.speed("a") > 0.7 * before


def test_only_a_late_stop_says_something_about_speed():
    speeds = Speeds()
    for host in "ab" * 20:
        speeds.finished("f", host, 1.0)
    before = speeds.speed("a")
    speeds.stopped("f", "a", 0.1)
    assert speeds.speed("a") == before
    speeds.stopped("f", "a", 5.0)
    assert speeds.speed("a") < before


def test_hosts_are_alike_until_they_surely_are_not():
    speeds = Speeds()
    speeds.finished("f", "a", 1.0)
    speeds.finished("f", "b", 1.1)
    assert speeds.speed("a") > speeds.speed("b")
    assert speeds.sure("a") / speeds.sure("b") < speeds.speed("a") / speeds.speed("b")


def test_lost_and_won_races_move_the_share_of_slow_inputs():
    share = InputShare()
    start = share.at(2.0)
    for _ in range(20):
        share.count(2.0, 0.8, won=False)
    assert share.at(2.0) > 0.9 > start
    assert share.at(64.0) == start
    for _ in range(200):
        share.count(2.0, 0.8, won=True)
    assert share.at(2.0) < 0.1


def test_a_bet_that_could_hardly_win_says_hardly_anything():
    share = InputShare()
    share.count(2.0, 0.01, won=False)
    assert share.at(2.0) == pytest.approx(InputShare().at(2.0), abs=0.02)


def test_the_budget_grows_with_work_and_knows_when_it_is_enough():
    budget = Budget(0.1)
    budget.began(0.0)
    assert budget.allowance(0.0) == 0.0
    assert 0.0 < budget.allowance(100.0) <= 10.0
    wait = budget.until(20.0, 100.0)
    assert budget.allowance(100.0 + wait) == pytest.approx(20.0)
    budget.gone(0.0)
    assert budget.until(20.0, 100.0) == inf


def test_a_straggler_is_raced_elsewhere_and_normal_calls_are_not():
    stage = Stage(Racing(), {"a": 4, "b": 4})
    stage.learn(noisy(50))
    stage.begin(1, "a")
    bets, _ = stage.bets(0.5)
    assert not bets
    bets, when = stage.bets(10.0)
    assert [bet.host for bet in bets] == ["b"]
    assert bets[0].task == 1
    assert 0.0 < bets[0].probability <= 1.0
    assert "times what is typical" in bets[0].reason
    assert when < stage.now + 3.0


def test_no_timer_while_nothing_can_become_due():
    stage = Stage(Racing(), {"a": 2, "b": 1})
    assert stage.look() == ([], inf)
    stage.begin(1, "a")
    assert stage.look() == ([], inf), "nothing is known of the function"
    stage.end(stage.tasks[1][0])
    stage.learn(noisy(30))
    assert stage.look() == ([], inf)
    for task, host in enumerate("aab"):
        stage.begin(task, host)
    assert stage.look() == ([], inf), "no slot is idle"


def test_nothing_is_raced_while_much_waits():
    stage = Stage(Racing(), {"a": 2, "b": 1})
    stage.learn(noisy(50))
    stage.begin(1, "a")
    stage.queued = 10
    assert stage.bets(50.0)[0] == []
    stage.queued = 0
    assert stage.bets(50.0)[0]


def test_what_runs_on_a_silent_host_alone_is_copied_at_once_without_a_budget():
    stage = Stage(Racing(), {"a": 3, "b": 4})
    for task in range(3):
        stage.begin(task, "a")
    stage.quiet.add("a")
    bets, _ = stage.look()
    assert {bet.task for bet in bets} == {0, 1, 2}
    assert all(isinstance(bet, Bet) and bet.host == "b" and "does not answer" in bet.reason for bet in bets)
    for task in range(3):
        stage.begin(task, "b")
    assert not stage.look()[0], "once is enough"


def test_a_bet_goes_to_the_fastest_host_that_has_no_copy():
    stage = Stage(Racing(), {"a": 4, "b": 4, "c": 4}, {"a": 2.0, "b": 1.0, "c": 2.0})
    stage.learn(noisy(50))
    stage.begin(1, "a")
    assert [bet.host for bet in stage.bets(50.0)[0]] == ["c"]


def test_one_host_alone_races_against_itself():
    stage = Stage(Racing(), {"a": 4})
    stage.learn(noisy(50))
    stage.begin(1, "a")
    assert [bet.host for bet in stage.bets(50.0)[0]] == ["a"]


def test_a_call_that_is_said_to_be_long_is_given_its_time():
    stage = Stage(Racing(), {"a": 4, "b": 4})
    for number, seconds in enumerate(noisy(50)):
        copy = stage.begin(-1 - number, "a", cost=1.0)
        stage.now += seconds
        stage.end(copy)
    start = stage.now
    stage.begin(1, "a", cost=10.0)
    bets, when = stage.bets(100.0)
    assert bets
    assert when - start > 7.0


def test_progress_tells_when_a_call_will_end():
    def when(progress: float) -> float:
        stage = Stage(Racing(), {"a": 4, "b": 4})
        stage.learn(noisy(50))
        copy = stage.begin(1, "a")
        copy.progress = progress
        start = stage.now
        bets, at = stage.bets(20.0)
        return at - start if bets else inf

    assert when(0.1) < inf
    assert when(0.999) == inf


def test_max_copies_holds():
    stage = Stage(Racing(max_copies=2), {"a": 4, "b": 4, "c": 4})
    stage.learn(noisy(200))
    stage.begin(1, "a")
    assert stage.bets(50.0)[0]
    stage.begin(1, "b")
    stage.now += 3.0
    assert not any(isinstance(what, Bet) for what in stage.look()[0])


def test_an_original_that_fails_leaves_its_backup_to_run():
    stage = Stage(Racing(), {"a": 4, "b": 4})
    stage.learn(noisy(50))
    first = stage.begin(1, "a")
    assert stage.bets(50.0)[0]
    second = stage.begin(1, "b")
    stage.end(first, FAILED)
    stage.now += 0.5
    stage.end(second)
    assert stage.look() == ([], inf)


def test_backups_that_lose_are_given_up_before_they_lose_more_than_the_budget():
    rule = Racing()
    stage = Stage(rule, {"a": 20, "b": 20})
    stage.learn(noisy(100))
    for task in range(20):
        stage.begin(task, "a")
    lost, useful = 0.0, stage.now
    for _ in range(2000):
        found, due = stage.look()
        for what in found:
            if isinstance(what, Stop):
                copy = next(copy for copy in stage.tasks[what.task] if copy.number == what.number)
                assert copy.number > 1
                lost += stage.now - copy.began
                stage.end(copy, STOPPED)
            else:
                stage.begin(what.task, what.host or "b")
        running = sum(stage.now - copy.began for copies in stage.tasks.values() for copy in copies if copy.number > 1)
        ages = sum(stage.now - copies[0].began for copies in stage.tasks.values())
        assert lost + running <= 0.1 * (useful + ages) + 0.2
        stage.now = min(due, stage.now + 1.0) if not found else stage.now
    assert lost > 0.0


@pytest.mark.parametrize("rule", [Racing(), Hedge(), Spark(), MapReduce(), Reference()], ids=lambda rule: type(rule).__name__)
def test_rules_keep_nothing_of_what_ended(rule: Rule):
    stage = Stage(rule, {"a": 4, "b": 4})
    stage.learn(noisy(30))
    for task in range(200):
        first = stage.begin(task, "a")
        if task % 3 == 0:
            stage.begin(task, "b")
        stage.now += 1.0
        stage.look()
        stage.end(first)
    stage.look()
    kept = vars(rule.races) if isinstance(rule, Racing) else vars(rule)
    for name in ("live", "wagers", "placed", "fresh", "backups", "_copies"):
        assert not kept.get(name), name


def test_hedge_waits_for_samples_and_keeps_its_budget():
    stage = Stage(Hedge(), {"a": 8, "b": 8})
    stage.learn([1.0] * 19)
    stage.begin(1, "a")
    assert stage.bets(50.0)[0] == []
    stage.end(stage.tasks[1][0])
    for task in range(4):
        stage.begin(task, "a")
    bets, _ = stage.bets(60.0)
    assert bets
    stage.begin(bets[0].task, "b")
    stage.now += 1000.0
    assert stage.look()[0] == [], "what the one backup may lose is more than 5 % of what was useful"


def test_spark_and_mapreduce_wait_for_the_end_of_a_batch():
    for rule in (Spark(), MapReduce()):
        stage = Stage(rule, {"a": 40, "b": 40})
        copies = [stage.begin(task, "a") for task in range(40)]
        stage.now = 1.0
        for copy in copies[:20]:
            stage.end(copy)
        assert stage.bets(10.0)[0] == []
        for copy in copies[20:39]:
            stage.end(copy)
        assert [bet.task for bet in stage.bets(50.0)[0]] == [39]


def test_the_reference_backs_up_one_in_nine_seconds():
    stage = Stage(Reference(), {"a": 10, "b": 10})
    stage.learn([1.0, 1.0])
    for task in range(5):
        stage.begin(task, "a")
    started: list[float] = []
    while stage.now < 60.0:
        found, due = stage.look()
        started += [stage.now for _ in found]
        stage.now = min(due, 61.0)
    assert started
    assert all(later - earlier > 9.0 for earlier, later in pairwise(started))
