"""Slots that die, fail to start, are replaced; hosts that are lost, come back, or fail for good."""

from __future__ import annotations

from typing import Any

import pytest

from aioparallel._hosts.base import Death
from aioparallel._scheduler.endings import MAX_LOSSES
from aioparallel._scheduler.hosts import START_FAILURES
from aioparallel._scheduler.stimuli import Recall, Spawn, Wanted
from aioparallel._wire.messages import BY_ITSELF, BY_MEMORY
from aioparallel.errors import HostError, HostLost, MemoryLimitExceeded, PoolClosed, WorkerDied
from aioparallel.events import HostDown, HostUp, SlotEnded, SlotStarted
from aioparallel.options import Retry
from aioparallel.status import QUEUED, RUNNING
from aioparallel.testing import ScriptedSlot, Simulation


def up(sim: Simulation) -> list[ScriptedSlot]:
    for slot in sim.slots():
        if not slot.pid:
            slot.up()
    return sim.slots()


def deep(sim: Simulation, count: int) -> ScriptedSlot:
    """Send so many short tasks to the one slot of a simulation."""
    sim.submit()
    (slot,) = up(sim)
    slot.answer(seconds=0.0001)
    sim.submit_many(count)
    assert len(slot.waiting) == count
    return slot


def unconfirmed(slot: ScriptedSlot, why: int) -> Death:
    """Return what an agent tells of a slot that should be dead by now, or has something below it that should."""
    return Death(slot.index, slot.incarnation, None, 9, slot.running.ident, why, 0, 0, leftovers=False, asked=False, confirmed=False)


# --- deaths


def test_a_crash_costs_one_task() -> None:
    sim = Simulation(slots=1)
    slot = deep(sim, 3)
    first, second, third = (attempt.task for attempt in slot.outstanding)
    slot.begin()
    slot.die(signal=11)
    error = first.exception()
    assert isinstance(error, WorkerDied) and error.signal == 11
    (slot,) = up(sim)
    slot.answer()
    slot.answer()
    assert second.result() == third.result() == b""
    assert [len(task.attempts) for task in (first, second, third)] == [1, 1, 1]
    assert sim.settled[-2:] == [second, third], "in their order"


def test_answers_that_were_written_count_though_their_slot_is_dead() -> None:
    sim = Simulation(slots=1)
    slot = deep(sim, 2)
    slot.begin()
    done = slot.running.task
    slot.finish()
    victim = slot.begin().task
    slot.die(exit_code=3)
    assert done.result() == b"" and isinstance(victim.exception(), WorkerDied)


@pytest.mark.parametrize("why", [BY_ITSELF, BY_MEMORY])
def test_an_unconfirmed_death_settles_its_task_and_the_slot_serves_nobody_until_it_is_confirmed(why: int) -> None:
    sim = Simulation(slots=1)
    slot = deep(sim, 2)
    victim, other = slot.begin().task, slot.waiting[0].task
    ends = [unconfirmed(slot, why), unconfirmed(slot, why)._replace(confirmed=True)]
    sim.slot_died(slot.host.name, ends[0])
    assert isinstance(victim.exception(), MemoryLimitExceeded if why else WorkerDied) and not victim.attempts[0].confirmed_dead
    slot.up()
    third = sim.submit()
    assert [other.state, third.state] == [QUEUED, QUEUED] and not sim.recorder.of(SlotEnded)
    assert [status.state for status in sim.state.slots.values()] == ["unconfirmed"]
    del slot.host.live[slot.index]
    sim.slot_died(slot.host.name, ends[1])
    (slot,) = up(sim)
    slot.answer()
    assert other.result() == b"" and len(victim.attempts) == 1


def test_an_isolated_task_does_not_wait_for_an_unconfirmed_slot() -> None:
    sim = Simulation(slots=2)
    sim.submit()
    sim.submit()
    first, second = up(sim)
    first.begin()
    sim.slot_died(first.host.name, unconfirmed(first, BY_ITSELF))
    second.answer()
    sim.submit(isolate=True)
    assert second.retiring


def test_a_page_that_names_an_answered_attempt_blames_nobody() -> None:
    sim = Simulation(slots=1)
    slot = deep(sim, 2)
    attempt = slot.begin()
    other = slot.waiting[0].task
    slot.finish()
    slot.die(signal=9, named=attempt.ident)
    assert attempt.task.result() == b""
    assert other.state in (QUEUED, RUNNING) and not other.done()


def test_a_slot_that_dies_is_replaced_before_the_next_task_comes() -> None:
    sim = Simulation(slots=1)
    sim.submit()
    (slot,) = up(sim)
    slot.begin()
    slot.die(signal=9)
    (fresh,) = sim.slots()
    assert fresh.incarnation == 2 and not fresh.outstanding
    assert [(event.slot, event.signal) for event in sim.recorder.of(SlotEnded)] == [(0, 9)]


def test_answers_and_news_of_an_old_incarnation_mean_nothing() -> None:
    sim = Simulation(slots=1)
    sim.submit(retries=1)
    (old,) = up(sim)
    old.begin()
    old.die(signal=9)
    (fresh,) = up(sim)
    task = fresh.waiting[0].task
    old.running = fresh.begin()
    old.written.append((fresh.running, old.finish()))
    old.deliver()
    sim.missed("local", 0, 1, fresh.running.ident)
    sim.slot_up("local", 0, 1, 999)
    assert task.state == RUNNING and sim.state.slots["local", 0].pid == fresh.pid


def test_a_repeated_answer_to_an_idle_slot_means_nothing() -> None:
    sim = Simulation(slots=1)
    sim.submit()
    (slot,) = up(sim)
    slot.begin()
    outcome = slot.finish()
    slot.deliver()
    sim.answered("local", 0, 1, [outcome, outcome])
    assert len(sim.settled) == 1 and sim.state.slots["local", 0].done == 1


def test_slots_that_always_die_before_they_begin_a_task_are_not_tried_for_ever() -> None:
    sim = Simulation(slots=1)
    task = sim.submit()
    for _ in range(MAX_LOSSES):
        (slot,) = up(sim)
        slot.die(signal=9)
        assert not task.done()
    (slot,) = up(sim)
    slot.die(signal=9)
    assert isinstance(task.exception(), WorkerDied)


# --- slots that do not start


def test_start_failures_back_off_and_fail_the_host_in_the_end() -> None:
    sim = Simulation(slots=1)
    task = sim.submit()
    pauses = []
    for number in range(START_FAILURES):
        (slot,) = sim.slots()
        slot.die(exit_code=7)
        if number < START_FAILURES - 1:
            assert not sim.slots()
            pauses.append(sim.state.next_due - sim.clock.now)
            sim.advance(pauses[-1])
    assert pauses == pytest.approx([0.1 * 2**number for number in range(START_FAILURES - 1)])
    error = task.exception()
    assert isinstance(error, HostError) and "code 7" in error.reason
    assert isinstance(sim.submit().exception(), HostError), "and so does what comes later"


def test_a_slot_that_came_up_ends_the_row_of_failures() -> None:
    sim = Simulation(slots=1)
    sim.submit_many(2)
    for _ in range(START_FAILURES - 1):
        sim.slots()[0].die(exit_code=7)
        sim.advance(10.0)
    sim.slots()[0].up()
    sim.slots()[0].answer()
    assert sim.state.hosts["local"].start_failures == 0
    sim.slots()[0].die(exit_code=7)
    assert sim.state.hosts["local"].failed is None


def test_slots_that_are_waited_for_are_tried_again_though_there_is_no_work() -> None:
    sim = Simulation(slots=2)
    sim.feed(Wanted(2))
    first, _ = sim.slots()
    first.die(exit_code=7)
    assert len(sim.slots()) == 1
    sim.advance(1.0)
    assert len(sim.slots()) == 2
    sim.hosts["local"].lose()
    assert not sim.slots()
    sim.hosts["local"].come_up()
    assert len(sim.slots()) == 2


# --- hosts


def test_what_a_lost_host_had_runs_again_and_what_had_not_begun_does_not_count() -> None:
    sim = Simulation(slots=1)
    slot = deep(sim, 3)
    first, second, third = (attempt.task for attempt in slot.outstanding)
    slot.begin()
    sim.hosts["local"].lose("its agent ended")
    assert [task.state for task in (first, second, third)] == [QUEUED] * 3
    assert not [action for action in sim.advance(1.0) if isinstance(action, Spawn)], "it is down"
    sim.hosts["local"].come_up()
    (slot,) = up(sim)
    for _ in range(3):
        slot.answer()
    assert sim.settled[1:] == [first, second, third]
    assert [record.outcome for record in first.attempts] == ["lost", "succeeded"]
    assert [len(task.attempts) for task in (second, third)] == [1, 1]
    assert len(sim.recorder.of(HostDown)) == len(sim.recorder.of(HostUp)) == 1


def test_what_a_lost_host_had_runs_on_another_at_once() -> None:
    sim = Simulation({"a": 1, "b": 1})
    sim.feed(Wanted(2))
    a, b = up(sim)
    task = sim.submit()
    lost, kept = (a, b) if a.waiting else (b, a)
    lost.begin()
    lost.host.lose()
    assert [attempt.task for attempt in kept.waiting] == [task]


def test_a_task_that_may_not_run_twice_is_lost_with_its_host() -> None:
    sim = Simulation(slots=2)
    sim.submit_many(2, idempotent=False)
    begun, waits = up(sim)
    lost, safe = begun.waiting[0].task, waits.waiting[0].task
    begun.begin()
    sim.hosts["local"].lose()
    assert isinstance(lost.exception(), HostLost) and "idempotent=False" in str(lost.exception())
    assert safe.state == QUEUED, "it never began"


@pytest.mark.parametrize(("options", "attempts"), [({}, 4), ({"retries": 5}, 4), ({"retry": Retry(infrastructure=1)}, 2)])
def test_losses_are_bounded(options: dict[str, Any], attempts: int) -> None:
    sim = Simulation(slots=1)
    task = sim.submit(**options)
    for _ in range(attempts):
        assert not task.done()
        (slot,) = up(sim)
        slot.begin()
        sim.hosts["local"].lose()
        sim.hosts["local"].come_up()
    assert isinstance(task.exception(), HostLost) and len(task.attempts) == attempts
    assert f"Retry(infrastructure={attempts - 1}) allows no other" in str(task.exception())


def test_when_a_host_fails_what_waits_is_told_and_what_runs_may_end() -> None:
    sim = Simulation(slots=1)
    running, waiting = sim.submit_many(2)
    (slot,) = up(sim)
    slot.begin()
    sim.hosts["local"].fail("no interpreter")
    assert not running.done()
    slot.finish()
    slot.deliver()
    assert running.result() == b""
    slot.answer()
    assert waiting.result() == b"", "the slot lives; it goes on as long as it does"
    slot.die(signal=9)
    assert isinstance(sim.submit().exception(), HostError)


def test_a_slot_that_never_comes_up_holds_nothing_when_its_host_fails() -> None:
    """Its attempt is called back first: a slot that comes up late must not begin what was given up."""
    sim = Simulation(slots=1)
    task = sim.submit()
    (slot,) = sim.slots()
    actions = sim.feed(Wanted(1))
    sim.hosts["local"].fail("preload= raised")
    assert isinstance(task.exception(), HostError) and not slot.waiting
    slot.up()
    assert not slot.waiting and not [action for action in actions if isinstance(action, Recall)]
    assert len(sim.recorder.of(SlotStarted)) == 1


def test_an_isolated_task_does_not_cost_a_failed_host_its_last_slot() -> None:
    sim = Simulation(slots=1)
    first, second = sim.submit_many(2)
    (slot,) = up(sim)
    slot.begin()
    sim.hosts["local"].fail()
    alone = sim.submit(isolate=True)
    slot.answer()
    assert isinstance(alone.exception(), HostError)
    assert first.done() and not slot.retiring
    slot.answer()
    assert second.result() == b""


# --- the end


def test_closing_settles_what_waits_at_once_and_what_runs_when_all_is_dead() -> None:
    sim = Simulation(slots=1)
    running, waiting = sim.submit_many(2)
    (slot,) = up(sim)
    slot.begin()
    sim.close("the pool was closed by aclose()")
    assert isinstance(waiting.exception(), PoolClosed) and not running.done()
    assert sim.hosts["local"].closing
    sim.hosts["local"].lose()
    assert isinstance(running.exception(), PoolClosed)
    assert sim.state.unfinished() == 0


def test_a_task_that_comes_after_the_end_is_told_so() -> None:
    """The engine may close by itself, when its loop ends, before the pool knows."""
    sim = Simulation(slots=1)
    sim.close()
    assert isinstance(sim.submit().exception(), PoolClosed)
    assert isinstance(sim.submit(isolate=True).exception(), PoolClosed)
    assert not sim.slots()


def test_an_answer_under_way_while_the_pool_closes_still_counts() -> None:
    sim = Simulation(slots=1)
    task = sim.submit()
    (slot,) = up(sim)
    slot.begin()
    slot.finish()
    sim.close()
    sim.hosts["local"].lose()
    assert task.result() == b""
