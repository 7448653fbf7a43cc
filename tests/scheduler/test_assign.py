"""Which task goes where, and how much is sent ahead."""

from __future__ import annotations

import gc
import weakref

import pytest

from aioparallel._scheduler.ledger import (
    AHEAD_SECONDS,
    BIG_BYTES,
    FILL_SECONDS,
    MAX_DEPTH,
    MAX_FUNCTIONS,
    MAX_PATIENCE_SECONDS,
    SILENCE_SECONDS,
    UNKNOWN_SECONDS,
    Ledger,
)
from aioparallel._scheduler.stimuli import Launch, Recall, Retire, Spawn, Submitted, Wanted
from aioparallel.status import IDLE, QUEUED, RUNNING
from aioparallel.testing import ScriptedSlot, Simulation


def up(sim: Simulation) -> list[ScriptedSlot]:
    for slot in sim.slots():
        if not slot.pid:
            slot.up()
    return sim.slots()


def teach(sim: Simulation, function: str, seconds: float) -> None:
    """Have a function measured; every slot is idle afterwards."""
    task = sim.submit(function)
    slot = next(slot for slot in up(sim) if slot.outstanding)
    slot.answer(seconds=seconds)
    assert task.done()


# --- slots are begun


def test_slots_are_begun_as_work_arrives_and_never_more_than_there_is_work_for() -> None:
    sim = Simulation(slots=4)
    assert sim.slots() == []
    sim.submit()
    assert len(sim.slots()) == 1
    sim.submit_many(2)
    assert len(sim.slots()) == 3
    sim.submit_many(20)
    assert len(sim.slots()) == 4


def test_an_idle_slot_is_used_before_another_is_begun() -> None:
    sim = Simulation(slots=2)
    teach(sim, "f", 0.001)
    task = sim.submit()
    (slot,) = sim.slots()
    assert slot.waiting[0].task is task


def test_a_task_goes_to_the_slot_that_is_up() -> None:
    sim = Simulation(slots=2)
    sim.submit_many(2)
    first, second = sim.slots()
    second.up()
    second.answer()
    sim.submit_many(1)
    assert [len(slot.waiting) for slot in (first, second)] == [1, 1]


# --- how much is sent ahead


def test_a_function_never_seen_goes_out_alone() -> None:
    sim = Simulation(slots=1)
    sim.submit_many(5)
    (slot,) = up(sim)
    assert len(slot.waiting) == 1
    assert len(sim.state.queue) == 4


@pytest.mark.parametrize(
    ("seconds", "depth"),
    [
        (0.0001, round(FILL_SECONDS / 0.0001)),
        (0.001, round(FILL_SECONDS / 0.001)),
        (0.006, 2),
        (0.04, 2),
        (AHEAD_SECONDS * 1.2, 1),
        (1.0, 1),
    ],
)
def test_a_slot_is_sent_a_little_work_ahead(seconds: float, depth: int) -> None:
    """Up to FILL_SECONDS of it; always one task more than runs, but not behind (nor of) long ones."""
    sim = Simulation(slots=1)
    teach(sim, "f", seconds)
    sim.submit_many(200)
    (slot,) = sim.slots()
    assert depth - 1 <= len(slot.waiting) <= depth + 1
    assert len(slot.waiting) > 1 or depth == 1


def test_depth_is_bounded_however_short_the_tasks_are() -> None:
    sim = Simulation(slots=1)
    teach(sim, "f", 0.0)
    sim.submit_many(2000)
    (slot,) = sim.slots()
    assert len(slot.waiting) == MAX_DEPTH


def test_no_slot_gets_more_than_an_even_share_of_what_waits() -> None:
    sim = Simulation(slots=4)
    sim.submit_many(4, "g")
    for slot in up(sim):
        slot.answer(seconds=0.0001)
    sim.submit_many(8, "g")
    assert {len(slot.waiting) for slot in sim.slots()} <= {1, 2}


def test_a_large_payload_travels_to_an_empty_slot_only_and_nothing_waits_behind_it() -> None:
    sim = Simulation(slots=1)
    teach(sim, "f", 0.0001)
    small, large, after = sim.task("f"), sim.task("f", payload=bytes(BIG_BYTES + 1)), sim.task("f")
    sim.feed(Submitted([small, large, after]))
    (slot,) = sim.slots()
    assert [attempt.task for attempt in slot.waiting] == [small]
    slot.answer(seconds=0.0001)
    assert [attempt.task for attempt in slot.waiting] == [large]
    slot.answer(seconds=0.0001)
    assert [attempt.task for attempt in slot.waiting] == [after]


def test_nothing_is_sent_ahead_to_a_slot_that_starts() -> None:
    sim = Simulation(slots=2)
    teach(sim, "f", 0.0001)
    sim.submit_many(20)
    assert [len(slot.waiting) for slot in sim.slots() if not slot.pid] == [1]


# --- silence


def test_silence_calls_back_what_waits_and_it_runs_elsewhere() -> None:
    sim = Simulation(slots=2)
    teach(sim, "f", 0.001)
    long, behind, third = sim.submit_many(3)
    first, second = up(sim)
    assert [attempt.task for attempt in first.outstanding] == [long, behind]
    first.begin()
    second.answer(seconds=0.001)
    assert third.done() and behind.state == RUNNING and len(first.waiting) == 1
    assert not [action for action in sim.advance(SILENCE_SECONDS / 2) if isinstance(action, Recall)]
    sim.advance(SILENCE_SECONDS)
    assert [attempt.task for attempt in second.waiting] == [behind]
    assert first.outstanding[0].task is long and not first.waiting
    assert len(behind.attempts) == 1, "an attempt that never began is none"
    assert second.answer().task is behind


def test_a_silent_slot_gets_nothing_more_until_it_answers() -> None:
    sim = Simulation(slots=1)
    teach(sim, "f", 0.001)
    sim.submit_many(2)
    (slot,) = sim.slots()
    slot.begin()
    sim.advance(1.0)
    sim.submit_many(3)
    assert not slot.waiting
    slot.finish(seconds=0.001)
    slot.deliver()
    assert len(slot.waiting) == 4


def test_silence_is_measured_by_what_is_expected() -> None:
    sim = Simulation(slots=1)
    teach(sim, "f", 0.04)
    sim.submit_many(2)
    (slot,) = sim.slots()
    slot.begin()
    assert len(slot.waiting) == 1
    assert not [action for action in sim.advance(0.04 * 1.4) if isinstance(action, Recall)]
    assert [action for action in sim.advance(0.04) if isinstance(action, Recall)]


def test_what_waits_behind_a_task_goes_to_a_slot_that_has_nothing_left() -> None:
    sim = Simulation(slots=2)
    teach(sim, "f", 0.03)
    tasks = sim.submit_many(4)
    first, second = up(sim)
    assert [len(slot.outstanding) for slot in (first, second)] == [2, 2]
    first.begin()
    second.answer(seconds=0.03)
    second.answer(seconds=0.03)
    assert [attempt.task for attempt in first.outstanding] == [tasks[0]]
    assert [attempt.task for attempt in second.outstanding] == [tasks[1]]


def test_little_work_behind_a_task_stays_where_it_is() -> None:
    sim = Simulation(slots=2)
    teach(sim, "f", 0.0005)
    sim.submit_many(4)
    first, second = up(sim)
    first.begin()
    second.answer(seconds=0.0005)
    second.answer(seconds=0.0005)
    assert len(first.outstanding) == 2 and not second.outstanding


def test_answers_are_in_no_hurry_only_where_more_waits_than_slots_can_take() -> None:
    sim = Simulation(slots=1)
    sim.submit_many(100)
    (slot,) = sim.slots()
    assert slot.patience == 0.0, "that a slot is up is news"
    slot.up()
    slot.answer(seconds=0.001)
    assert len(slot.outstanding) > 1 and 0 < slot.patience <= MAX_PATIENCE_SECONDS
    while sim.state.queue:
        assert slot.patience
        slot.answer(seconds=0.001)
    assert slot.patience == 0.0


def test_a_slot_that_begins_nothing_is_not_sent_the_same_again_and_again() -> None:
    """All of it came back: it gets one, to wait for as long as it takes."""
    sim = Simulation(slots=1)
    teach(sim, "f", 0.0001)
    sim.submit_many(10)
    (slot,) = sim.slots()
    launches = [action for action in sim.advance(60.0) if isinstance(action, Launch)]
    assert len(launches) == 1 and len(slot.waiting) == 1
    slot.answer(seconds=0.0001)
    assert len(slot.waiting) == 9


def test_recalled_tasks_keep_their_order() -> None:
    sim = Simulation(slots=1)
    teach(sim, "f", 0.0001)
    tasks = sim.submit_many(10)
    (slot,) = sim.slots()
    slot.begin()
    sim.advance(1.0)
    while slot.outstanding:
        slot.answer(seconds=0.0001)
    assert sim.settled[1:] == tasks


def test_what_is_called_back_is_known_before_more_is_sent() -> None:
    """Two deadlines at once: what the first frees must not go to the second's slot before that has said what it gave back."""
    sim = Simulation(slots=2)
    sim.submit_many(2, "g")
    for slot in up(sim):
        slot.answer(seconds=0.0001)
    late = sim.submit_many(4, "g", deadline=1.0)
    patient = sim.submit_many(4, "g")
    for slot in sim.slots():
        slot.begin()
    sim.clock.now += 1.0
    sim.ring()
    for slot in sim.slots():
        assert list(sim.state.slots[slot.host.name, slot.index].outstanding) == slot.outstanding
    assert sum(task.done() for task in late) == 2
    for _ in range(8):
        for slot in sim.slots():
            if slot.outstanding:
                slot.answer()
    assert all(task.result() == b"" for task in patient)


# --- isolate, max_tasks_per_slot


def test_an_isolated_task_gets_a_fresh_slot_that_serves_nobody_else() -> None:
    sim = Simulation(slots=1)
    teach(sim, "f", 0.001)
    (used,) = sim.slots()
    alone = sim.submit(isolate=True)
    after = sim.submit()
    assert used.retiring and alone.state == QUEUED
    used.die(exit_code=0)
    (fresh,) = up(sim)
    assert [attempt.task for attempt in fresh.outstanding] == [alone]
    fresh.answer()
    assert alone.done() and fresh.retiring and after.state == QUEUED
    fresh.die(exit_code=0)
    assert [attempt.task for attempt in sim.slots()[0].outstanding] == [after]


def test_a_fresh_slot_whose_isolated_task_was_called_back_serves_others() -> None:
    sim = Simulation(slots=1)
    alone = sim.submit(isolate=True)
    alone.cancel()
    assert alone.cancelled()
    other = sim.submit()
    (slot,) = up(sim)
    assert slot.answer().task is other


def test_an_isolated_task_does_not_wait_for_a_used_slot_to_end_where_there_is_room_for_another() -> None:
    sim = Simulation(slots=2)
    teach(sim, "f", 0.001)
    (used,) = sim.slots()
    alone = sim.submit(isolate=True)
    assert not used.retiring
    fresh = up(sim)[1]
    assert fresh.answer().task is alone


def test_who_waits_longer_is_served_before_isolated_tasks() -> None:
    sim = Simulation(slots=1)
    sim.submit(isolate=True)
    (slot,) = up(sim)
    sim.clock.advance(1.0)
    first = sim.submit()
    sim.clock.advance(1.0)
    later = sim.submit(isolate=True)
    slot.answer()
    slot.die(exit_code=0)
    (slot,) = up(sim)
    assert slot.answer().task is first and slot.retiring
    slot.die(exit_code=0)
    (slot,) = up(sim)
    assert slot.answer().task is later


def test_slots_that_somebody_wished_to_see_up_are_begun_again_after_isolated_tasks() -> None:
    sim = Simulation(slots=2)
    sim.feed(Wanted(2))
    up(sim)
    sim.submit(isolate=True)
    slot = next(slot for slot in sim.slots() if slot.outstanding)
    slot.answer()
    slot.die(exit_code=0)
    assert len(sim.slots()) == 2


def test_a_slot_ends_after_its_number_of_tasks_and_is_replaced() -> None:
    sim = Simulation(slots=1, max_tasks_per_slot=2)
    tasks = sim.submit_many(5)
    seen = []
    while not tasks[-1].done():
        (slot,) = up(sim)
        seen.append([slot.answer(seconds=0.0001).task for _ in range(len(slot.outstanding)) if slot.outstanding])
        if slot.retiring:
            slot.die(exit_code=0)
    assert [task.attempts[0].pid for task in tasks] == [101, 101, 102, 102, 103]


def test_a_worn_slot_is_replaced_even_if_nothing_waits() -> None:
    sim = Simulation(slots=1, max_tasks_per_slot=1)
    sim.submit()
    (slot,) = up(sim)
    slot.begin()
    slot.finish()
    actions = sim.feed(Submitted([]))
    slot.deliver()
    assert not [action for action in actions if isinstance(action, Retire | Spawn)]
    assert slot.retiring
    slot.die(exit_code=0)
    assert len(sim.slots()) == 1 and sim.state.slots["local", 0].incarnation == 2


# --- what is known of durations


def test_estimates_follow_what_is_measured_but_no_outlier() -> None:
    sim = Simulation()
    ledger = Ledger()
    task = sim.task("f")
    assert ledger.estimate(task) == UNKNOWN_SECONDS
    ledger.learn(task, 0.001)
    assert ledger.estimate(task) == 0.001
    ledger.learn(task, 1000.0)
    assert ledger.estimate(task) < 0.0015
    for _ in range(60):
        ledger.learn(task, 0.004)
    assert ledger.estimate(task) == pytest.approx(0.004, rel=0.01)


def test_the_ledger_is_bounded() -> None:
    sim = Simulation()
    ledger = Ledger()
    for number in range(MAX_FUNCTIONS + 10):
        ledger.learn(sim.task(f"f{number}"), 0.001)
    assert len(ledger._seconds) == MAX_FUNCTIONS
    assert ledger.estimate(sim.task("f0")) == UNKNOWN_SECONDS


def test_a_settled_task_is_not_kept_until_its_deadline() -> None:
    sim = Simulation(watched=False)
    sim.submit(deadline=3600.0)
    (slot,) = up(sim)
    slot.answer()
    task = weakref.ref(sim.settled.pop())
    sim.hosts["local"].begun.clear()
    gc.collect()
    assert task() is None
    sim.advance(4000.0)
    assert sim.state.slots["local", 0].state == IDLE
