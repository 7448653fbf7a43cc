"""Backups: one answer settles a task, every other copy is stopped, and nothing is lost or run that should not be."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from aioparallel import TaskTimeout, WorkerDied
from aioparallel._wire.messages import BY_TIMEOUT, RAISED
from aioparallel.events import AttemptEnded, BackupStarted
from aioparallel.policies.racing import FAILED, FINISHED, LOST, STOPPED, Bet, Scene, Stop
from aioparallel.status import CANCELLED, SUCCEEDED
from aioparallel.testing import ScriptedSlot, Simulation


class Wishes:
    """A rule that does what a test says, and notes what it is told."""

    def __init__(self, *wishes: int | Bet | Stop) -> None:
        self.wishes: list[int | Bet | Stop] = list(wishes)
        self.told: list[tuple[str, int]] = []
        self.looks: list[tuple[int, dict[str, int]]] = []
        self.due = float("inf")

    def look(self, scene: Scene) -> tuple[list[Bet | Stop], float]:
        self.looks.append((scene.queued, dict(scene.idle())))
        wishes, self.wishes = self.wishes, []
        return [Bet(wish) if isinstance(wish, int) else wish for wish in wishes], self.due

    def began(self, copy: Any, now: float) -> None:
        self.told.append(("began", copy.number))

    def ended(self, copy: Any, now: float, how: str, seconds: float | None = None) -> None:
        self.told.append((how, copy.number))


def nudge(sim: Simulation) -> None:
    """Have something happen, so that rules look."""
    sim.submit_many(0)


def wish(sim: Simulation, rule: Wishes, *bets: int | Bet | Stop) -> None:
    rule.wishes = list(bets)
    nudge(sim)


def race(rule: Wishes, slots: int = 2, **options: Any) -> tuple[Simulation, Any, ScriptedSlot, ScriptedSlot]:
    """Return a simulation in which a task runs twice, the task, and the slots of the original and of the backup."""
    sim = Simulation(slots)
    task = sim.submit(backup=rule, **options)
    (first,) = sim.slots()
    first.up()
    first.begin()
    wish(sim, rule, task.id)
    second = sim.slots()[1]
    second.up()
    second.begin()
    return sim, task, first, second


def outcomes(task: Any) -> list[str]:
    return [record.outcome for record in task.attempts]


def assert_over(sim: Simulation) -> None:
    races = sim.state.races
    assert races is not None and not races.live and not races.copies and not races.tasks and races.due == float("inf")


@pytest.mark.parametrize("backup_wins", [True, False])
def test_the_first_answer_wins_and_the_others_slot_serves_nobody_until_it_is_dead(backup_wins: bool) -> None:
    rule = Wishes()
    sim, task, first, second = race(rule)
    winner, loser = (second, first) if backup_wins else (first, second)
    winner.answer(payload=b"won")
    assert task.result() == b"won" and [record.number for record in task.attempts] == [1, 2]
    sim.submit("g")
    sim.submit("g")
    assert len(winner.outstanding) == 1 and len(loser.outstanding) == 1 and loser.look_at_kill() == "killed"
    assert sorted(outcomes(task)) == ["cancelled", "succeeded"]
    number = 2 if backup_wins else 1
    assert rule.told == [("began", 1), ("began", 2), (FINISHED, number), (STOPPED, 3 - number)]
    races = sim.state.races
    assert races is not None and (races.launched, races.won_count, races.lost_count) == (1, backup_wins, not backup_wins)
    (started,) = sim.recorder.of(BackupStarted)
    assert (started.task, started.attempt, started.host) == (task.id, 2, "local")
    assert [event.attempt for event in sim.recorder.of(AttemptEnded, outcome=CANCELLED)] == [3 - number]
    assert len(sim.slots()) == 2 and all(slot.outstanding for slot in sim.slots()), "what waited runs in the loser's place"
    assert_over(sim)


def test_a_late_answer_is_dropped() -> None:
    sim, task, first, second = race(Wishes())
    first.finish(payload=b"late")
    second.answer(payload=b"won")
    assert first.kills
    first.deliver()
    assert task.result() == b"won" and sorted(outcomes(task)) == ["cancelled", "succeeded"]
    assert first.look_at_kill() == "missed"
    sim.submit_many(2)
    assert [len(slot.outstanding) for slot in sim.slots()] == [1, 1], "its slot serves again"
    assert_over(sim)


def test_a_user_s_exception_wins_too() -> None:
    sim, task, first, second = race(Wishes())
    second.answer(RAISED, payload=b"mistake")
    assert "mistake" in str(task.exception()) and first.look_at_kill() == "killed"
    assert outcomes(task) == ["cancelled", "failed"]
    assert_over(sim)


def test_an_exception_with_retries_left_leaves_it_to_the_other_copy() -> None:
    sim, task, first, second = race(Wishes(), retries=1)
    first.answer(RAISED)
    assert not task.done() and sim.state.endings.retried == 0 and not first.outstanding
    second.answer(payload=b"won")
    assert task.result() == b"won" and outcomes(task) == ["failed", "succeeded"]
    assert_over(sim)


@pytest.mark.parametrize("why", [0, BY_TIMEOUT])
def test_a_copy_that_dies_costs_nothing_while_another_runs(why: int) -> None:
    sim, task, first, second = race(rule := Wishes(), timeout=5.0)
    first.die(signal=11, why=why)
    assert not task.done() and (FAILED, 1) in rule.told
    second.answer(payload=b"won")
    assert task.result() == b"won"
    assert_over(sim)


def test_the_last_copy_that_dies_ends_the_task() -> None:
    sim, task, first, second = race(Wishes(), timeout=5.0)
    first.die(signal=11)
    second.die(signal=9, why=BY_TIMEOUT)
    assert isinstance(task.exception(), TaskTimeout) and outcomes(task) == ["died", "timed out"]
    assert_over(sim)


def test_a_retry_follows_when_all_copies_are_dead() -> None:
    sim, task, first, second = race(Wishes(), retries=2)
    first.die(signal=11)
    second.die(signal=11)
    assert sim.state.endings.retried == 1
    again = next(slot for slot in sim.slots() if slot.outstanding)
    again.up()
    again.answer(payload=b"third")
    assert task.result() == b"third" and [record.number for record in task.attempts] == [1, 2, 3]
    assert_over(sim)


def test_a_cancelled_task_is_done_when_every_copy_is_dead() -> None:
    sim, task, first, second = race(Wishes())
    task.cancel()
    assert first.look_at_kill() == "killed" and not task.done()
    assert second.look_at_kill() == "killed" and task.cancelled()
    assert outcomes(task) == ["cancelled", "cancelled"] and all(record.confirmed_dead for record in task.attempts)
    assert_over(sim)


def test_a_cancelled_task_whose_copies_do_not_die_is_told_unconfirmed() -> None:
    sim, task, first, second = race(Wishes())
    task.cancel()
    assert second.look_at_kill() == "killed"
    sim.advance(6)
    assert task.cancelled() and [record.confirmed_dead for record in task.attempts] == [False, True]
    first.look_at_kill()
    assert_over(sim)


def test_a_backup_that_has_not_begun_is_called_back_for_nothing() -> None:
    sim = Simulation(2)
    rule = Wishes()
    task = sim.submit(backup=rule)
    first = sim.slots()[0]
    first.up()
    first.begin()
    wish(sim, rule, task.id)
    second = sim.slots()[1]
    first.answer(payload=b"won")
    assert task.result() == b"won" and not second.outstanding and not second.kills
    assert [record.number for record in task.attempts] == [1]
    sim.submit_many(2)
    assert [len(slot.outstanding) for slot in sim.slots()] == [1, 1]
    assert_over(sim)


def far(*names: str, local: int = 0) -> Simulation:
    sim = Simulation(local, far=dict.fromkeys(names, 1))
    for host in sim.far.values():
        host.come_up()
    return sim


def run_far(sim: Simulation, name: str) -> Any:
    """Have what was sent to a host begin there; return its slot."""
    host = sim.far[name]
    host.leave()
    host.arrive()
    slot = host.live.get(0) or host.begin_slot(0)
    if not slot.pid:
        slot.up()
    host.give(0)
    slot.begin()
    host.pass_on()
    host.deliver()
    return slot


def settle(sim: Simulation, name: str) -> None:
    host = sim.far[name]
    host.pass_on()
    host.deliver()


def test_a_backup_goes_to_another_host_and_a_lost_host_costs_nothing() -> None:
    sim, rule = far("a", "b"), Wishes()
    task = sim.submit(backup=rule)
    here = task._attempt.slot.host
    there = "b" if here == "a" else "a"
    run_far(sim, here)
    wish(sim, rule, Bet(task.id, here))
    assert sim.state.races is not None and not sim.state.races.launched, "it runs there already"
    wish(sim, rule, task.id)
    assert task._attempt.slot.host == there and task._attempt.is_backup
    run_far(sim, there)
    sim.far[here].lose(gone=False)
    assert not task.done() and (LOST, 1) in rule.told and task._losses == 1
    slot = sim.far[there].live[0]
    slot.finish(payload=b"won")
    settle(sim, there)
    assert task.result() == b"won" and outcomes(task) == ["lost", "succeeded"]
    assert_over(sim)


def test_a_host_that_says_nothing_is_shown_to_rules_and_gets_no_copy() -> None:
    sim, rule = far("a", "b", "c"), Wishes()
    task = sim.submit(backup=rule)
    here = task._attempt.slot.host
    run_far(sim, here)
    others = sorted({"a", "b", "c"} - {here})
    sim.far_silent(others[0], silent=True)
    assert rule.looks[-1][1] == {others[1]: 1}
    wish(sim, rule, Bet(task.id, others[0]), task.id)
    assert task._attempt.slot.host == others[1]
    sim.far_silent(others[0], silent=False)
    assert others[0] in rule.looks[-1][1]


def test_far_copies_are_stopped_with_a_word_to_their_hosts() -> None:
    sim, rule = far("a", "b"), Wishes()
    task = sim.submit(backup=rule)
    names = [task._attempt.slot.host]
    slots = [run_far(sim, names[0])]
    wish(sim, rule, task.id)
    names.append(task._attempt.slot.host)
    slots.append(run_far(sim, names[1]))
    slots[1].finish(payload=b"won")
    settle(sim, names[1])
    assert task.result() == b"won"
    sim.far[names[0]].leave()
    sim.far[names[0]].arrive()
    assert slots[0].look_at_kill() == "killed"
    settle(sim, names[0])
    assert sorted(outcomes(task)) == [CANCELLED, SUCCEEDED]
    assert_over(sim)


@pytest.mark.parametrize("what", ["dies", "answers", "other dies first"])
def test_a_copy_that_is_given_up_is_killed_and_its_task_runs_on(what: str) -> None:
    rule = Wishes()
    sim, task, first, second = race(rule, 3)
    wish(sim, rule, Stop(task.id, 2, "it costs too much"))
    assert second.kills and not first.kills
    wish(sim, rule, Stop(task.id, 1, "and so does the other"))
    assert not first.kills, "never the only one"
    if what == "other dies first":
        first.die(signal=11)
        assert not task.done()
    if what == "answers":
        second.answer(payload=b"won")
        assert task.result() == b"won" and first.look_at_kill() == "killed"
        return
    assert second.look_at_kill() == "killed" and not task.done()
    last = next(slot for slot in sim.slots() if slot.outstanding)
    if not last.pid:
        last.up()
    last.answer(payload=b"after all")
    assert task.result() == b"after all"
    assert outcomes(task) == (["died", "cancelled", "succeeded"] if what == "other dies first" else ["succeeded", "cancelled"])
    assert_over(sim)


def test_a_copy_that_is_given_up_as_it_begins_is_killed_when_it_has_begun() -> None:
    sim, rule = Simulation(3), Wishes()
    task = sim.submit(backup=rule)
    sim.slots()[0].up()
    sim.slots()[0].begin()
    wish(sim, rule, task.id)
    second = sim.slots()[1]
    second.up()
    second.take()
    wish(sim, rule, Stop(task.id, 2, "at once"))
    assert second.look_at_kill() == "missed"
    second.begin()
    sim.advance(1)
    assert second.look_at_kill() == "killed" and not task.done()
    assert sim.state.races is not None and sim.state.races.out(task) == sim.slots()[0].outstanding


def test_a_copy_that_is_given_up_before_it_began_is_called_back() -> None:
    sim, rule = Simulation(3), Wishes()
    task = sim.submit(backup=rule)
    sim.slots()[0].up()
    sim.slots()[0].begin()
    wish(sim, rule, task.id)
    wish(sim, rule, Stop(task.id, 2, "at once"))
    assert not sim.slots()[1].outstanding and not sim.slots()[1].kills and not task.done()
    assert [record.number for record in task.attempts] == [1]


def test_a_cancelled_task_waits_for_the_copy_that_was_lost_with_its_host() -> None:
    sim, rule = far("a", "b"), Wishes()
    task = sim.submit(backup=rule)
    here = task._attempt.slot.host
    there = "b" if here == "a" else "a"
    run_far(sim, here)
    wish(sim, rule, task.id)
    slot = run_far(sim, there)
    task.cancel()
    sim.far[here].lose(gone=False)
    sim.far[there].leave()
    sim.far[there].arrive()
    assert slot.look_at_kill() == "killed"
    settle(sim, there)
    assert not task.done(), "nobody knows whether the other is dead"
    sim.far[here].come_up()
    assert task.cancelled() and all(record.confirmed_dead for record in task.attempts)
    assert_over(sim)


def test_what_may_not_run_twice_is_not_raced() -> None:
    sim, rule = Simulation(2), Wishes()
    task = sim.submit(backup=rule, idempotent=False)
    plain = sim.submit()
    for slot in sim.slots():
        slot.up()
    assert not rule.looks and not rule.told
    sim.slots()[0].answer()
    assert task.done() and not plain.done()


def test_rules_look_only_while_a_slot_is_free() -> None:
    sim, rule = Simulation(1), Wishes()
    sim.submit(backup=rule)
    sim.submit(backup=rule)
    nudge(sim)
    assert not rule.looks
    sim = Simulation(2)
    sim.submit(backup=rule)
    nudge(sim)
    assert rule.looks[-1] == (0, {"local": 1})


def test_no_more_copies_than_are_allowed() -> None:
    sim, rule = Simulation(5), Wishes()
    task = sim.submit(backup=rule)
    for _ in range(5):
        wish(sim, rule, task.id)
    assert len(sim.slots()) == 3


def test_the_clock_rings_while_no_slot_is_free_too() -> None:
    sim, rule = Simulation(1), Wishes()
    sim.submit(backup=rule)
    (slot,) = sim.slots()
    slot.up()
    assert not rule.looks
    sim = Simulation(2)
    rule.due = sim.clock.now + 3.0
    sim.submit(backup=rule)
    sim.submit("g")
    looks = len(rule.looks)
    sim.advance(5)
    assert len(rule.looks) == looks + 1 and rule.looks[-1] == (0, {})


def test_the_clock_rings_when_the_rule_said() -> None:
    sim, rule = Simulation(2), Wishes()
    rule.due = sim.clock.now + 3.0
    sim.submit(backup=rule)
    assert sim.state.next_due == rule.due
    rule.due = float("inf")
    looks = len(rule.looks)
    sim.advance(10)
    assert len(rule.looks) == looks + 1


@pytest.mark.parametrize("wrong", [Bet(99), Bet(1, "nowhere"), "nonsense"])
def test_a_rule_that_answers_nonsense_is_named_once_and_asked_no_more(wrong: Any, caplog: pytest.LogCaptureFixture) -> None:
    sim, rule = Simulation(2), Wishes()
    task = sim.submit(backup=rule)
    with caplog.at_level(logging.ERROR, logger="aioparallel"):
        rule.wishes = [wrong]
        nudge(sim)
        nudge(sim)
    assert len([record for record in caplog.records if "Wishes" in record.getMessage()]) == 1
    slot = sim.slots()[0]
    slot.up()
    slot.answer()
    assert task.done()
    assert_over(sim)


@pytest.mark.parametrize("where", ["began", "ended", "look"])
def test_a_rule_that_raises_costs_no_task(where: str, caplog: pytest.LogCaptureFixture) -> None:
    sim, rule = Simulation(2), Wishes()

    def fail(*_: Any) -> None:
        raise LookupError("on purpose")

    setattr(rule, where, fail)
    with caplog.at_level(logging.ERROR, logger="aioparallel"):
        tasks = [sim.submit(backup=rule) for _ in range(2)]
        for slot in sim.slots():
            slot.up()
            slot.answer()
            nudge(sim)
    assert all(task.done() for task in tasks)
    assert [str(record.exc_info and record.exc_info[1]) for record in caplog.records if "Wishes" in record.getMessage()] == ["on purpose"]
    assert_over(sim)


def test_a_raced_task_that_dies_with_its_last_host_says_so() -> None:
    sim, rule = Simulation(2), Wishes()
    task = sim.submit(backup=rule)
    slot = sim.slots()[0]
    slot.up()
    slot.begin()
    wish(sim, rule, task.id)
    sim.close()
    sim.hosts["local"].lose()
    assert task.exception() is not None
    assert not isinstance(task.exception(), WorkerDied)
